"""Writes `e164.bin` and `regions.rs` from the metadata of libphonenumber (Apache-2.0).

    pip install phonenumbers && python make_tables.py

The number patterns of every region and type (fixed line, mobile, toll free, ...) are
regular expressions over digits. All of them, each after its calling code, make one
automaton, which is determinised and minimised: walking it tells whether digits are a
number that a numbering plan gives out. `e164.bin` holds little-endian u16: the root,
then ten targets a state; bit 15 of a target says that a number may end there, 0 is a
dead end (state 0 is never a target: it is kept for that).
"""

from __future__ import annotations

import re._parser as parser
import struct
from functools import cache
from pathlib import Path

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

HERE = Path(__file__).parent
TYPES = (
    "fixed_line mobile toll_free premium_rate shared_cost personal_number voip pager uan "
    "voicemail"
).split()
ACCEPTING = 1 << 15

epsilon: list[list[int]] = []  # of each state of the non-deterministic automaton
edges: list[list[tuple[frozenset[int], int]]] = []
final: set[int] = set()


def state() -> int:
    epsilon.append([])
    edges.append([])
    return len(edges) - 1


def step(start: int, digits: frozenset[int]) -> int:
    end = state()
    edges[start].append((digits, end))
    return end


def digits_of(choices) -> frozenset[int]:
    found: set[int] = set()
    for kind, value in choices:
        match str(kind):
            case "LITERAL":
                found.add(value - 48)
            case "RANGE":
                found |= set(range(value[0] - 48, value[1] - 47))
            case "CATEGORY":
                found |= set(range(10))
    return frozenset(found)


def build(tree, start: int) -> int:
    for kind, value in tree:
        start = build_one(str(kind), value, start)
    return start


def build_one(kind: str, value, start: int) -> int:
    match kind:
        case "LITERAL":
            return step(start, frozenset([value - 48]))
        case "IN":
            return step(start, digits_of(value))
        case "SUBPATTERN":
            return build(value[-1], start)
        case "BRANCH":
            return join([build(branch, fork(start)) for branch in value[1]])
        case "MAX_REPEAT":
            fewest, most, body = value
            ends = [start]
            for _ in range(most):
                ends.append(build(body, ends[-1]))
            return join(ends[fewest:])
    raise ValueError(f"no rule for {kind}")


def fork(start: int) -> int:
    branch = state()
    epsilon[start].append(branch)
    return branch


def join(ends: list[int]) -> int:
    end = state()
    for each in ends:
        epsilon[each].append(end)
    return end


def plans():
    """Calling code and pattern of every number type of every region."""
    for code, regions in COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            if region == "001":
                metadata = PhoneMetadata.metadata_for_nongeo_region(code, None)
            else:
                metadata = PhoneMetadata.metadata_for_region(region, None)
            for name in TYPES:
                plan = getattr(metadata, name)
                if plan is not None and plan.national_number_pattern:
                    yield code, plan.national_number_pattern


def closure(states: set[int]) -> frozenset[int]:
    todo, seen = list(states), set(states)
    while todo:
        for target in epsilon[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return frozenset(seen)


rows: dict[tuple, int] = {}  # of the minimal automaton: its row, its number


@cache
def minimal(states: frozenset[int]) -> int:
    row = []
    for digit in range(10):
        targets = {end for each in states for digits, end in edges[each] if digit in digits}
        if not targets:
            row.append(0)
            continue
        after = closure(targets)
        row.append(minimal(after) | (ACCEPTING if final & after else 0))
    return rows.setdefault(tuple(row), len(rows) + 1)


def main() -> None:
    root = state()
    for code, pattern in plans():
        start = root
        for digit in str(code):
            start = step(start, frozenset([int(digit)]))
        final.add(build(parser.parse(pattern), start))
    numbers = [minimal(closure({root}))]
    for row in [(0,) * 10, *rows]:
        numbers.extend(row)
    (HERE / "e164.bin").write_bytes(struct.pack(f"<{len(numbers)}H", *numbers))
    write_regions()


def write_regions() -> None:
    lines = [
        "//! Region, calling code and national prefix; written by `make_tables.py`.",
        "",
        "/// Sorted by region (ISO 3166-1 alpha-2).",
        "pub(super) static REGIONS: &[(&str, &str, &str)] = &[",
    ]
    pairs = [(r, c) for c, rs in COUNTRY_CODE_TO_REGION_CODE.items() for r in rs if r != "001"]
    for region, code in sorted(pairs):
        prefix = PhoneMetadata.metadata_for_region(region, None).national_prefix or ""
        lines.append(f'    ("{region}", "{code}", "{prefix}"),')
    (HERE / "regions.rs").write_text("\n".join([*lines, "];", ""]))


if __name__ == "__main__":
    main()
