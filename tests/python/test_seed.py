"""The `seed` profile equals its pure-Python twin: on tables, languages, random text."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import seed_twin as twin
from triptych import TextPreprocessor

CASES = Path(__file__).parents[1] / "cases"

needs_unicode_14 = pytest.mark.skipif(
    not twin.HAS_THAT_UNICODE, reason="the twin needs the Unicode 14 of Python 3.11"
)


def table(name: str) -> list[dict]:
    lines = (CASES / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def languages() -> list[dict]:
    with (CASES / "languages.jsonl.zst").open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file)
        return [json.loads(line) for line in io.BytesIO(stream.read())]


def by_name(case: dict) -> str:
    return case.get("name") or case["lang"]


@pytest.mark.parametrize("case", table("pii.jsonl"), ids=by_name)
def test_personal_data_is_replaced_as_the_table_says(case):
    assert twin.remove_pii(case["text"]) == case["expected"]
    assert TextPreprocessor().remove_pii(case["text"]) == case["expected"]


@pytest.mark.parametrize("case", table("quality.jsonl"), ids=by_name)
def test_quality_is_judged_as_the_table_says(case):
    bounds = case["min_length"], case["max_length"]
    assert twin.first_broken(case["text"], *bounds) == case["reason"]
    passes = case["reason"] is None
    assert TextPreprocessor(*bounds).check_quality(case["text"]) == passes


@pytest.mark.parametrize("case", table("ngram.jsonl"), ids=by_name)
def test_deduplication_keeps_what_the_table_says(case):
    kept = [case["texts"][index] for index in case["kept"]]
    texts, n = case["texts"], case["n"]
    assert twin.deduplicate_by_ngram(texts, n) == kept
    assert TextPreprocessor().deduplicate_by_ngram(texts, n) == kept


@pytest.mark.parametrize("case", languages(), ids=by_name)
def test_real_documents_of_every_language_get_the_decision_of_the_twin(case):
    engine = TextPreprocessor(16, 100_000)
    scrubbed = twin.remove_pii(case["text"])
    assert engine.remove_pii(case["text"]) == scrubbed
    decision = twin.check_quality(scrubbed, 16, 100_000)
    assert engine.check_quality(scrubbed) == decision


def test_a_corpus_of_every_language_is_processed_as_by_the_twin():
    paragraphs = [p for case in languages() for p in case["text"].split("\n\n")]
    engine = TextPreprocessor(20, 4096)
    kept = engine.process(paragraphs * 2)
    assert kept == twin.process(paragraphs * 2, 20, 4096)
    assert 500 < len(kept) < len(paragraphs)


# What patterns are made of, so that random strings come near to matching.
FRAGMENTS = [
    *"@@..--__%+||  \n\t[]",
    *(
        "a@b.co",
        "x.y@",
        ".org",
        ".C|d",
        "555",
        "123-",
        "4567",
        "12-3456",
        "1.2.",
        "3.4",
    ),
    *("٣٤٥", "९", "\U0001d7d9", "²", "Ⅷ", "é", "ß", "日本", "e\u0301", "\u200b"),
    *("\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "word ", "Word "),
]
NUM_RANDOM = 200_000


def random_text(rng: random.Random) -> str:
    """Fragments of patterns among code points of all planes."""
    parts = []
    for _ in range(rng.randrange(24)):
        if rng.random() < 0.7:
            parts.append(rng.choice(FRAGMENTS))
        else:
            plane = rng.choice((0, 0, 0, 1, 1, 2, rng.randrange(17)))
            code = plane << 16 | rng.randrange(1 << 16)
            parts.append(chr(code if not 0xD800 <= code < 0xE000 else code - 0x800))
    return "".join(parts)


@needs_unicode_14
def test_two_hundred_thousand_random_strings_of_all_planes_equal_the_twin():
    rng = random.Random(20260101)
    texts = [random_text(rng) for _ in range(NUM_RANDOM)]
    engine = TextPreprocessor(0, 12)
    changed = passed = 0
    for text in texts:
        scrubbed, decision = twin.remove_pii(text), twin.check_quality(text, 0, 12)
        assert engine.remove_pii(text) == scrubbed, ascii(text)
        assert engine.check_quality(text) == decision, ascii(text)
        changed += scrubbed != text
        passed += decision
    assert changed > NUM_RANDOM / 50
    assert NUM_RANDOM / 20 < passed < NUM_RANDOM * 0.95
    batches = [texts[i : i + 500] for i in range(0, NUM_RANDOM, 500)]
    for batch in batches:
        assert engine.process(batch) == twin.process(batch, 0, 12)
        for n in (1, 2, 3):
            kept = twin.deduplicate_by_ngram(batch, n)
            assert engine.deduplicate_by_ngram(batch, n) == kept


@needs_unicode_14
def test_every_code_point_alone_equals_the_twin():
    engine = TextPreprocessor(1, 2)
    for code in [*range(0xD800), *range(0xE000, 0x110000)]:
        char = chr(code)
        for text in (f"{char}a@b.co{char}", f"{char}123-45-6789{char}", f"aa{char}aaa"):
            assert engine.remove_pii(text) == twin.remove_pii(text), hex(code)
        text = f"aaa{char}bbb {char * 3}"
        assert engine.check_quality(text) == twin.check_quality(text, 1, 2), hex(code)


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
near_pii = st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join)


@settings(max_examples=500, deadline=None)
@given(text=any_text | near_pii)
def test_scrubbing_twice_changes_nothing_that_the_twin_would_not_change(text):
    once = TextPreprocessor().remove_pii(text)
    assert TextPreprocessor().remove_pii(once) == twin.remove_pii(once)


def test_a_lone_surrogate_is_a_value_error_that_says_where():
    with pytest.raises(ValueError, match="text 1 holds a lone surrogate"):
        TextPreprocessor().process(["fine", "\ud800"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextPreprocessor(9, 8), "`min_length`: expected at most `max_length`"),
        (
            lambda: TextPreprocessor().deduplicate_by_ngram([], 0),
            "n must be at least 1",
        ),
    ],
)
def test_bounds_that_make_no_sense_are_value_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
