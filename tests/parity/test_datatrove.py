"""The quality profiles decide as datatrove does: the same reason, and of C4 the same text."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove")
pytest.importorskip("spacy")
sys.path.insert(0, str(Path(__file__).parent))

from datatrove_filters import FILTERS, has_bad_words, judge, judge_pii
from triptych_prep import BINARY, CASES, case_texts, mixed_texts, run

TABLES = ("gopher", "gopher_repetition", "c4", "fineweb")


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
@pytest.mark.parametrize("profile", FILTERS)
def test_decision_reason_and_text_are_those_of_datatrove(profile, tmp_path):
    texts = [
        text
        for text in [*case_texts(*TABLES), *mixed_texts(400)]
        if len(text) < 100_000
    ]
    found = run(tmp_path, profile, texts)
    for text, (kept, reason) in zip(texts, found, strict=True):
        assert (kept, reason) == judge(profile, text), text[:200]


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
def test_personal_data_is_replaced_as_datatrove_does(tmp_path):
    rng = random.Random(0)
    pieces = [
        "a",
        "x-",
        ".",
        "..",
        "@",
        "[",
        "]",
        ":",
        "8",
        "25",
        "6",
        "199",
        ".1.",
        " ",
    ]
    pieces += ["é", "٨", "!", "_", "b.c", "8.8.8.8", "a@b.org", "10.0."]
    lengths = [rng.randrange(1, 40) for _ in range(4000)]
    texts = ["".join(rng.choices(pieces, k=length)) for length in lengths]
    texts += [*case_texts("datatrove_pii"), *mixed_texts(50)]
    found = run(tmp_path, "datatrove-pii", texts)
    for text, (kept, reason) in zip(texts, found, strict=True):
        assert (kept, reason) == judge_pii("datatrove-pii", text), text[:200]


def phrase_cases():
    """Lists and texts of the table; one with capitals matches nothing in datatrove."""
    for line in (CASES / "phrases.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        if case["phrases"] == [phrase.lower() for phrase in case["phrases"]]:
            yield case["phrases"], case["whole_words"], [case["text"]]
    mixed = ["cat", "e-mail", "u.s", "use cookies", "don't", "été", "日本語", "…"]
    yield mixed, True, [*mixed_texts(400)]
    yield mixed, False, [*mixed_texts(100)]


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
def test_a_list_of_phrases_rejects_what_the_filter_of_bad_words_does(tmp_path):
    for index, (phrases, whole_words, texts) in enumerate(phrase_cases()):
        folder = tmp_path / str(index)
        folder.mkdir()
        listed = folder / "list.txt"
        listed.write_text("\n".join(phrases) + "\n", encoding="utf-8")
        entry = f'name = "bad_words", file = "{listed}", whole_words = {json.dumps(whole_words)}'
        only_count = ("--set", 'pii={email = "count"}')
        found = run(
            folder, "clean", texts, *only_count, "--set", f"phrase_list=[{{{entry}}}]"
        )
        for text, (_, reason) in zip(texts, found, strict=True):
            assert (reason == "bad_words") == has_bad_words(
                text, listed, "en" if whole_words else "ja"
            ), (phrases, text[:200])
