"""What the tables of cases are made of: plain words, and documents on both sides of a rule."""

from __future__ import annotations

import json
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases"


def word(number):
    """A word of six letters for each number below 8,000."""
    first, rest = divmod(number, 400)
    second, third = divmod(rest, 20)
    syllables = [c + v for c in "bdgkl" for v in "aeio"]
    return "".join(syllables[index] for index in (first, second, third))


def words(count, start=0):
    return " ".join(word(start + index) for index in range(count))


def text_of(parts):
    return "".join(piece * count for piece, count in parts)


class Table:
    """The cases of one profile."""

    def __init__(self, profile, judge):
        self.profile, self.judge, self.rows = profile, judge, []

    def add(self, name, *parts):
        parts = [[part, 1] if isinstance(part, str) else list(part) for part in parts]
        text = text_of(parts)
        expected, reason = self.judge(self.profile, text)
        row = {"name": name, "parts": parts, "reason": reason}
        if expected is not None and expected != text:
            row["expected"] = expected
        self.rows.append(row)

    def sides(self, reason, build, numbers):
        """Adds the two neighbours between which the verdict begins or ends to be `reason`."""
        verdicts = [self.judge(self.profile, text_of(build(n)))[1] for n in numbers]
        for at in range(1, len(numbers)):
            pair = [verdicts[at - 1] == reason, verdicts[at] == reason]
            if pair[0] != pair[1]:
                self.add(f"{reason} at {numbers[at - 1]}", *build(numbers[at - 1]))
                self.add(f"{reason} at {numbers[at]}", *build(numbers[at]))
                return
        raise SystemExit(f"{self.profile}: no side of `{reason}`: {set(verdicts)}")

    def write(self, name):
        with (CASES / name).open("w", encoding="utf-8") as file:
            for row in self.rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
