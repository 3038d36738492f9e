"""Writes `unicode_tables.rs`: the character classes of Python 3.11's `str` (Unicode 14).

    python3.11 make_tables.py > unicode_tables.rs

A code point has one of four classes, so two bits do; 128 code points make a block
of four u64, equal blocks are stored once, and the first stage names the block.
"""

import sys
import unicodedata

OTHER, ALNUM, SPACE, DECIMAL = 0, 1, 2, 3
BLOCK = 128  # code points: 256 bits, four words


def character_class(char: str) -> int:
    """Class of a character; every decimal digit is alphanumeric too."""
    if char.isspace():
        return SPACE
    if char.isdecimal():
        return DECIMAL
    return ALNUM if char.isalnum() else OTHER


def block_words(start: int) -> tuple[int, ...]:
    """The four u64 of the block that begins at code point `start`."""
    classes = [character_class(chr(start + i)) for i in range(BLOCK)]
    return tuple(
        sum(classes[word * 32 + i] << (2 * i) for i in range(32)) for word in range(4)
    )


def main() -> None:
    """Prints the tables, cut after the last block that is not empty."""
    if unicodedata.unidata_version != "14.0.0":
        sys.exit(f"expected Unicode 14.0.0 (Python 3.11), found {unicodedata.unidata_version}")
    words = [block_words(start) for start in range(0, sys.maxunicode + 1, BLOCK)]
    while not any(words[-1]):
        words.pop()
    distinct = list(dict.fromkeys([(0, 0, 0, 0), *words]))
    stage = [distinct.index(block) for block in words]
    print("//! Written by `make_tables.py` from Python 3.11 (Unicode 14.0.0); do not edit.\n")
    print("/// Block of each 128 code points.")
    print(f"pub(super) static STAGE: [u16; {len(stage)}] = [")
    for row in range(0, len(stage), 24):
        print("    " + " ".join(f"{block}," for block in stage[row : row + 24]))
    print("];\n\n/// Two bits a code point, 32 to the word, four words to the block.")
    print(f"pub(super) static BLOCKS: [[u64; 4]; {len(distinct)}] = [")
    for block in distinct:
        print("    [" + ", ".join(f"0x{word:016x}" for word in block) + "],")
    print("];")


if __name__ == "__main__":
    main()
