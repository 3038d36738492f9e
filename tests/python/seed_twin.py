"""The `seed` profile in plain Python: what the engine must equal, and its baseline.

Standard library only, on Python 3.11 (Unicode 14): `re` and `str` are the
specification. `benches/prep/bench_seed.py` times it beside the engine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

UNICODE_VERSION = "14.0.0"  # of Python 3.11
HAS_THAT_UNICODE = unicodedata.unidata_version == UNICODE_VERSION

PATTERNS = (
    (re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Z|a-z]{2,}\b"), "[EMAIL]"),
    (re.compile(r"\b\d{3}[-.]?\d{3}[-.]?\d{4}\b"), "[PHONE]"),
    (re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), "[SSN]"),
    (re.compile(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"), "[IP]"),
)
PROBES = 5


def remove_pii(text: str) -> str:
    for pattern, tag in PATTERNS:
        text = pattern.sub(tag, text)
    return text


def first_broken(text: str, min_length: int, max_length: int) -> str | None:
    """Name of the first quality rule that `text` breaks."""
    words = text.split()
    if not words or len(words) < min_length:
        return "too_few_words"
    if len(words) > max_length:
        return "too_many_words"
    if not 3 <= sum(map(len, words)) / len(words) <= 10:
        return "mean_word_length"
    symbols = sum(1 for char in text if not char.isalnum() and not char.isspace())
    if symbols / len(text) > 0.3:
        return "symbol_fraction"
    if len(set(words)) / len(words) < 0.2:
        return "distinct_words"
    return None


def check_quality(text: str, min_length: int, max_length: int) -> bool:
    return first_broken(text, min_length, max_length) is None


class NgramIndex:
    """The n-grams of the texts kept so far."""

    def __init__(self, n: int) -> None:
        self.n, self.seen = n, set()

    def judge(self, text: str) -> str:
        """`new`, `duplicate`, or `short` for fewer than n words."""
        words, n = text.split(), self.n
        if len(words) < n:
            return "short"
        ngrams = [" ".join(words[at : at + n]) for at in range(0, len(words) - n, n)]
        if any(ngram in self.seen for ngram in ngrams[:PROBES]):
            return "duplicate"
        self.seen.update(ngrams)
        return "new"


def deduplicate_by_ngram(texts: Iterable[str], n: int = 13) -> list[str]:
    index = NgramIndex(n)
    return [text for text in texts if index.judge(text) == "new"]


def process(texts: Sequence[str], min_length: int, max_length: int) -> list[str]:
    scrubbed = map(remove_pii, texts)
    passed = [text for text in scrubbed if check_quality(text, min_length, max_length)]
    return deduplicate_by_ngram(passed)
