"""Bytes a token and tokens a word, by source and language, as Python counts them."""

import json

import pytest

from triptych._core import tokenize_documents
from triptych.errors import ConfigError
from triptych.tokens import measure_fertility, train_tokenizer

TEXTS = ["the cat sat", " ein Straßenfest\u0085in Köln\x1c2024 ", "世界", ""]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*TEXTS, *TEXTS], 300)


def test_counts_are_those_of_python(tokenizer):
    total = measure_fertility(tokenizer, TEXTS)["total"]
    assert total["documents"] == len(TEXTS)
    assert total["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert total["words"] == sum(len(text.split()) for text in TEXTS)
    assert total["tokens"] == sum(len(tokenizer.encode(text)) for text in TEXTS)
    assert total["bytes_per_token"] == total["bytes"] / total["tokens"]
    assert total["tokens_per_word"] == total["tokens"] / total["words"]


def test_a_folder_of_token_shards_has_what_is_measured(tokenizer, tmp_path):
    path = tmp_path / "docs.jsonl"
    rows = [{"text": text, "lang": f"l{n % 2}"} for n, text in enumerate(TEXTS)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    tokenize_documents([path], tokenizer, tmp_path / "tokens")
    stored = json.loads((tmp_path / "tokens" / "fertility.json").read_text())
    assert stored == measure_fertility(tokenizer, path)
    assert list(stored["languages"]) == ["l0", "l1"]
    assert stored["sources"] == {"docs": stored["total"]}


def test_a_mistyped_path_is_an_error_and_no_text(tokenizer, tmp_path):
    there = tmp_path / "there.jsonl"
    there.write_text('{"text": "a b"}\n', encoding="utf-8")
    missing = str(tmp_path / "mising.jsonl")
    named = [f"notes.{end}" for end in ("htm", "xhtml", "markdown", "feather")]
    for given in (missing, [str(there), missing], str(tmp_path / "*.TXT.gz"), *named):
        with pytest.raises(ConfigError, match="no input at"):
            train_tokenizer(given, 300)
        with pytest.raises(ConfigError, match="no input at"):
            measure_fertility(tokenizer, given)
    for text in ("see notes.txt", "https://example.org/a.html", "and/or", "a\0.txt b"):
        assert measure_fertility(tokenizer, text)["total"]["bytes"] == len(text)


def test_a_path_among_texts_is_read(tokenizer, tmp_path):
    path = tmp_path / "there.txt"
    path.write_text("a b c d", encoding="utf-8")
    given = [path, "e f", tmp_path / "missing.txt"]
    found = measure_fertility(tokenizer, given[:2])["total"]
    assert (found["documents"], found["bytes"]) == (2, 10)
    with pytest.raises(ConfigError, match="no input at"):
        train_tokenizer(given, 300)


def test_texts_without_words_have_no_ratio(tokenizer):
    total = measure_fertility(tokenizer, [""])["total"]
    assert (total["bytes_per_token"], total["tokens_per_word"]) == (None, None)
