"""Dolma's taggers with the rules of `configs/dolma-v1_6/mixing/cc-head.yaml`, by our reasons."""

from __future__ import annotations

import operator

from dolma.core.data_types import InputSpec
from dolma.taggers.gopher import GopherTagger
from dolma.taggers.pii import FastPiiRegex

# Attribute, when it drops, and our reason. The mixer's three rules on
# `..._most_common_{2,3,4}gram` are not here: the tagger's names end in `grams`, so
# they never fire (`test_dolma.py` asks the mixer itself).
RULES = [
    ("word_count", operator.lt, 50, "dolma_few_words"),
    ("word_count", operator.gt, 100_000, "dolma_many_words"),
    ("median_word_length", operator.lt, 3, "dolma_short_words"),
    ("median_word_length", operator.gt, 10, "dolma_long_words"),
    ("symbol_to_word_ratio", operator.gt, 0.1, "dolma_symbols"),
    (
        "fraction_of_words_with_alpha_character",
        operator.lt,
        0.8,
        "dolma_few_letters",
    ),
    ("required_word_count", operator.lt, 2, "dolma_few_stop_words"),
    (
        "fraction_of_lines_starting_with_bullet_point",
        operator.gt,
        0.9,
        "dolma_bullet_lines",
    ),
    (
        "fraction_of_lines_ending_with_ellipsis",
        operator.gt,
        0.3,
        "dolma_ellipsis_lines",
    ),
    ("fraction_of_duplicate_lines", operator.gt, 0.3, "dolma_duplicate_lines"),
    (
        "fraction_of_characters_in_duplicate_lines",
        operator.gt,
        0.3,
        "dolma_duplicate_line_chars",
    ),
    *(
        (
            f"fraction_of_characters_in_duplicate_{n}grams",
            operator.gt,
            limit,
            f"dolma_repeated_{n}_grams",
        )
        for n, limit in zip(
            range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True
        )
    ),
]
MAX_PII = 5
KINDS = ("EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS")

GOPHER = GopherTagger()
PII = FastPiiRegex()


def replace_spans(text, spans):
    """The text with every span replaced; of two that overlap the later one is dropped."""
    pieces, done = [], 0
    for start, end, kind in sorted(spans, key=lambda span: span[0]):
        if start >= done:
            pieces += [text[done:start], f" |||{kind}||| "]
            done = end
    return "".join([*pieces, text[done:]])


def judge(_profile, text):
    """The text that the mixer writes, or None, and the reason."""
    spec = InputSpec(id="", text=text)
    found = GOPHER.tag(spec)
    for attribute, drops, limit, reason in RULES:
        spans = found.get(attribute)
        if spans and drops(spans[0][2], limit):
            return None, reason
    pii = PII.tag(spec)
    if pii["doc_count"][0][2] > MAX_PII:
        return None, "dolma_personal_data"
    spans = [(*span[:2], kind) for kind in KINDS for span in pii.get(kind, [])]
    return replace_spans(text, spans), None
