"""DCLM's own functions in the order of `dclm_baseline_refinedweb.yaml`, by our reasons.

They are read from a checkout of mlfoundations/dclm, whose folder stands in `DCLM`. What
they import and the rules here do not use is left out.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

CHECKOUT = Path(os.environ.get("DCLM", ""))
UNUSED = {
    "justext": (),
    "lxml": (),
    "lxml.etree": ("ParserError",),
    "bs4": ("BeautifulSoup",),
    "unidecode": ("unidecode",),
    "transformers": ("AutoTokenizer",),
}


def package(name, *names):
    """A stand-in for a module; for a package of the checkout, without its `__init__`."""
    module = types.ModuleType(name)
    module.__path__ = [str(CHECKOUT / name.replace(".", "/"))]
    for each in names:
        setattr(module, each, None)
    sys.modules.setdefault(name, module)


for name, names in UNUSED.items():
    package(name, *names)
for name in ("baselines", "baselines.mappers", "baselines.mappers.filters"):
    package(name)
package("core")
sys.modules["core"].__path__ = [str(CHECKOUT / "baselines" / "core")]

from baselines.mappers import core_utils, modifiers  # noqa: E402
from baselines.mappers.filters import content_filters as filters  # noqa: E402


def repetition(granularity, limit, **options):
    """One of DCLM's thirteen; like theirs, they share what they split."""

    def judge(page):
        cache = page.setdefault("cache", {})
        return filters.repetition_filter(
            page, granularity, limit, cache=cache, **options
        )

    return judge


def count_words(page):
    page["before"] = len(core_utils.split_words(page["text"], ignore_punctuation=True))
    return [page]


def length(**bounds):
    return lambda page: filters.page_length_filter(
        page, "word", ignore_punctuation=True, **bounds
    )


def substring(phrase, **options):
    return modifiers.substring_line_modifier(
        phrase, max_length=10, remove_substring_only=True, **options
    )


EMPTY = "dclm_empty"
TLDS = CHECKOUT / "baselines/mappers/iana_tlds.txt"
STEPS = [
    (modifiers.url_removal_modifier(tlds_filepath=str(TLDS)), EMPTY),
    (modifiers.newline_removal_modifier(max_consecutive=2), EMPTY),
    (length(min_length=50), "dclm_few_words"),
    (length(max_length=100_000), "dclm_many_words"),
    (lambda page: filters.word_length_filter(page, min_length=3), "dclm_short_words"),
    (lambda page: filters.word_length_filter(page, max_length=10), "dclm_long_words"),
    (lambda page: filters.symbol_ratio_filter(page, 0.1), "dclm_symbols"),
    (lambda page: filters.bullet_count_filter(page, 0.9), "dclm_bullet_lines"),
    (lambda page: filters.ellipsis_count_filter(page, 0.3), "dclm_ellipsis_lines"),
    (
        lambda page: filters.alphabetic_word_ratio_filter(page, max_ratio=0.2),
        "dclm_few_letters",
    ),
    (
        lambda page: filters.stop_word_filter(page, count_unique=False),
        "dclm_few_stop_words",
    ),
    (repetition("line", 0.3, count_characters=False), "dclm_duplicate_lines"),
    (repetition("paragraph", 0.3, count_characters=False), "dclm_duplicate_paragraphs"),
    (repetition("line", 0.2), "dclm_duplicate_line_chars"),
    (repetition("paragraph", 0.2), "dclm_duplicate_paragraph_chars"),
    *(
        (repetition(n, limit), f"dclm_frequent_{n}_grams")
        for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16))
    ),
    *(
        (repetition(n, limit), f"dclm_repeated_{n}_grams")
        for n, limit in (
            (5, 0.15),
            (6, 0.14),
            (7, 0.13),
            (8, 0.12),
            (9, 0.11),
            (10, 0.1),
        )
    ),
    (count_words, EMPTY),
    (lambda page: modifiers.uppercase_ratio_line_modifier(page, 0.5), EMPTY),
    (lambda page: modifiers.numeric_ratio_line_modifier(page, 0.999999), EMPTY),
    (modifiers.counter_line_modifier(), EMPTY),
    (lambda page: modifiers.line_length_modifier(page, min_length=2), EMPTY),
    (substring("items in cart"), EMPTY),
    (substring("Read more...", location="suffix"), EMPTY),
    (substring("Sign-in", location="prefix"), EMPTY),
    (
        lambda page: filters.word_removal_ratio_filter(page, "before"),
        "dclm_words_removed",
    ),
]


def judge(_profile, text):
    """The text that the chain leaves, or None, and the reason."""
    pages = [{"text": text}]
    for step, reason in STEPS:
        if not (pages := step(pages[0])):
            return None, reason
    return pages[0]["text"], None
