"""Writes `tables.rs`: the classes of characters that split patterns ask for.

    pip install tokenizers==0.23.3
    python make_tables.py > tables.rs

The classes are asked of the regex engine of the `tokenizers` library itself, so its
version of Unicode is ours. A code point has one of eight classes, four bits each:
128 code points make a block of eight u64, equal blocks are stored once, and the
first stage names the block.
"""

import sys

from tokenizers import Regex, __version__
from tokenizers.pre_tokenizers import Split

BLOCK = 128  # code points

# In the order of `Class`; a later pattern wins.
PATTERNS = [
    r"[\p{Lu}\p{Lt}]",
    r"\p{Ll}",
    r"[\p{Lm}\p{Lo}]",
    r"\p{M}",
    r"\p{N}",
    r"\s",
    r"[\r\n]",
]


def classes() -> list[int]:
    """Class of every code point, 0 for none and for surrogates."""
    code_points = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    text = "".join(map(chr, code_points))
    found = [0] * (sys.maxunicode + 1)
    for number, pattern in enumerate(PATTERNS, start=1):
        runs = Split(Regex(f"{pattern}+"), behavior="removed", invert=True)
        for _, (start, end) in runs.pre_tokenize_str(text):
            for code in code_points[start:end]:
                found[code] = number
    return found


def block_words(block: list[int]) -> tuple[int, ...]:
    """The eight u64 of 128 classes."""
    return tuple(
        sum(block[word * 16 + i] << (4 * i) for i in range(16)) for word in range(8)
    )


def main() -> None:
    """Prints the tables, cut after the last block that is not empty."""
    found = classes()
    words = [block_words(found[i : i + BLOCK]) for i in range(0, len(found), BLOCK)]
    while not any(words[-1]):
        words.pop()
    distinct = list(dict.fromkeys([(0,) * 8, *words]))
    stage = [distinct.index(block) for block in words]
    print(
        f"//! Written by `make_tables.py` from tokenizers {__version__}; do not edit.\n"
    )
    print("/// Block of each 128 code points.")
    print(f"pub(super) static STAGE: [u8; {len(stage)}] = [")
    for row in range(0, len(stage), 24):
        print("    " + " ".join(f"{block}," for block in stage[row : row + 24]))
    print("];\n\n/// Four bits a code point, 16 to the word, eight words to the block.")
    print(f"pub(super) static BLOCKS: [[u64; 8]; {len(distinct)}] = [")
    for block in distinct:
        print("    [" + ", ".join(f"0x{word:016x}" for word in block) + "],")
    print("];")


if __name__ == "__main__":
    main()
