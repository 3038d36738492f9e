"""Writes `tables.rs` and `special_cases.txt`, the data of spaCy's English tokenizer.

    pip install spacy==3.8.18 && python3.11 make_tables.py

The data are those of spaCy 3.8.18 (https://github.com/explosion/spaCy, MIT License,
(c) 2016-2024 ExplosionAI GmbH, 2016 spaCy GmbH, 2015 Matthew Honnibal): which characters
are alphabetic, prefixes, suffixes, quotes and so on, the units that may follow a number,
and the special cases with their splits. They are asked of the running tokenizer and not
read from its source, so that what is written is what it does.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import spacy
from spacy.lang import char_classes
from spacy.pipeline import Sentencizer
from spacy.symbols import ORTH

VERSION = "3.8.18"
BLOCK = 64  # code points
HERE = Path(__file__).parent
TOKENIZER = spacy.blank("en").tokenizer


def members_of(characters: str) -> Callable[[str], bool]:
    """Test of membership in a class of `re`, given without its brackets."""
    pattern = re.compile(f"[{characters}]")
    return lambda char: pattern.match(char) is not None


def before_dot(char: str) -> bool:
    """True if a full stop after this character, within a chunk, is a suffix."""
    return TOKENIZER.find_suffix(f"{char}.") == 1


# Bit i of a class is the i-th test; the names are the constants of `classes.rs`.
TESTS: list[tuple[str, Callable[[str], bool]]] = [
    ("PREFIX", lambda char: TOKENIZER.find_prefix(char) == 1),
    ("SUFFIX", lambda char: TOKENIZER.find_suffix(char) == 1),
    ("INFIX", lambda char: len(TOKENIZER.find_infix(char)) == 1),
    ("ALPHA", members_of(char_classes.ALPHA)),
    ("LOWER", members_of(char_classes.ALPHA_LOWER)),
    ("UPPER", members_of(char_classes.ALPHA_UPPER)),
    ("QUOTE", members_of(char_classes.CONCAT_QUOTES)),
    ("BEFORE_DOT", before_dot),
    ("PUNCTUATION", lambda char: unicodedata.category(char).startswith("P")),
    ("SENTENCE_END", set(Sentencizer.default_punct_chars).__contains__),
    ("SPACE", str.isspace),
]


def character_class(code: int) -> int:
    """Bits of the tests that the character passes; none for a surrogate."""
    if 0xD800 <= code < 0xE000:
        return 0
    return sum(1 << bit for bit, (_, test) in enumerate(TESTS) if test(chr(code)))


def unit_texts() -> list[str]:
    """All that is a suffix where a digit stands before it, and only there."""
    listed = char_classes.LIST_UNITS + char_classes.LIST_CURRENCY + ["+"]
    units = dict.fromkeys(unit.replace("\\", "") for unit in listed)
    missed = [unit for unit in units if TOKENIZER.find_suffix(f"5{unit}") != len(unit)]
    if missed:
        sys.exit(f"not suffixes after a digit: {missed}")
    return sorted(units)


def special_cases() -> list[str]:
    """The special cases, a line each, their tokens apart by a space.

    White space is left out: a run of it is one token in any case.
    """
    splits = {text: [token[ORTH] for token in tokens] for text, tokens in TOKENIZER.rules.items()}
    return sorted(" ".join(tokens) for text, tokens in splits.items() if not text.isspace())


def write_tables() -> None:
    """Writes the classes, cut after the last block that is not empty, and the units."""
    classes = [character_class(code) for code in range(sys.maxunicode + 1)]
    blocks = [tuple(classes[start : start + BLOCK]) for start in range(0, len(classes), BLOCK)]
    while not any(blocks[-1]):
        blocks.pop()
    distinct = list(dict.fromkeys(blocks))
    lines = [f"//! Written by `make_tables.py` from spaCy {VERSION} (MIT License); do not edit.\n"]
    for bit, (name, _) in enumerate(TESTS):
        lines.append(f"pub(super) const {name}: u16 = 1 << {bit};")
    lines.append(f"\n/// Block of each {BLOCK} code points.")
    lines.append(f"pub(super) static STAGE: [u16; {len(blocks)}] = [")
    stage = [distinct.index(block) for block in blocks]
    for row in range(0, len(stage), 24):
        lines.append("    " + " ".join(f"{block}," for block in stage[row : row + 24]))
    lines.append(f"];\n\n/// Class of each code point of a block.")
    lines.append(f"pub(super) static BLOCKS: [[u16; {BLOCK}]; {len(distinct)}] = [")
    for block in distinct:
        lines.append("    [" + ",".join(f"{bits}" for bits in block) + "],")
    units = unit_texts()
    lines.append("];\n\n/// What is a suffix after a digit, sorted.")
    lines.append(f"pub(super) static UNITS: [&str; {len(units)}] = [")
    for row in range(0, len(units), 12):
        lines.append("    " + " ".join(f'"{unit}",' for unit in units[row : row + 12]))
    lines.append("];")
    (HERE / "tables.rs").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Writes both files beside this script."""
    if spacy.__version__ != VERSION or unicodedata.unidata_version != "14.0.0":
        sys.exit(f"expected spaCy {VERSION} on Python 3.11 (Unicode 14.0.0)")
    write_tables()
    header = f"# spaCy {VERSION}, special cases of English. MIT License. Written by make_tables.py."
    text = "\n".join([header, *special_cases()]) + "\n"
    (HERE / "special_cases.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
