"""Where a configuration says what is wrong with it: a line of the file, or `--set`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SET = "--set"
_HEADER = re.compile(r"^\s*(\[\[?)([^\[\]]+)\]")
_LAST = re.compile(r"(^|\.)[^.\[]*$|\[\d+\]$")  # part of a path
_KEY = re.compile(r"^\s*([\w\-.\"' ]+?)\s*=")


@dataclass(frozen=True)
class Place:
    """A line of a file; the file alone where no line says it; None if there is none."""

    name: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """As a message begins."""
        return self.name if self.line is None else f"{self.name}:{self.line}"


class Places:
    """Finds the place of a fault, which begins with its key: `stage[1].steps: expected …`.

    Args:
        text: of the file; empty if there is none.
        name: of the file, or of what else was read.
        overridden: keys that `--set` gave.
    """

    def __init__(self, text: str, name: str, overridden: Sequence[str] = ()) -> None:
        self._name, self._file = name, name if text else None
        self._lines: dict[str, int] = {}
        for number, path in _paths(text):
            self._lines.setdefault(path, number)
        # A table that the file does not have is there by `--set` alone.
        within = {path for key in overridden for path in _outwards(key)}
        self._overridden = set(overridden) | (within - self._lines.keys())

    def of(self, fault: str) -> Place:
        """Of the key that the fault names, or else of the nearest table around it."""
        paths = list(_candidates(fault))
        if not self._overridden.isdisjoint(paths):
            return Place(SET)
        line = next((self._lines[path] for path in paths if path in self._lines), None)
        return Place(self._name, self._file, line)


def _candidates(fault: str) -> Iterator[str]:
    """`a[1]: b.c: …` may be of `a[1].b.c`, `a[1].b`, `a[1]`, `a`, in this order."""
    path, _, rest = fault.partition(":")
    if inner := re.match(r" ([\w\-.]+):", rest):
        path = f"{path}.{inner[1]}"
    yield from _outwards(path)


def _outwards(path: str) -> Iterator[str]:
    """The path, and those of the tables and lists around it."""
    yield path
    while (around := _LAST.sub("", path)) not in ("", path):
        yield around
        path = around


def _paths(text: str) -> Iterator[tuple[int, str]]:
    """(line, path) of each header and key of a TOML file, in order."""
    table, counts = "", dict[str, int]()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            table = _table(_plain(header[2]), header[1] == "[[", counts)
            yield number, table
        elif key := _KEY.match(line):
            parts = _plain(key[1]).split(".")
            for end in range(1, len(parts) + 1):
                yield number, ".".join([table, *parts[:end]] if table else parts[:end])


def _table(name: str, is_element: bool, counts: dict[str, int]) -> str:
    """The path of a header; names of lists of tables get the number of the last one."""
    *parents, last = name.split(".")
    path = ""
    for part in parents:
        path = f"{path}.{part}" if path else part
        if path in counts:
            path = f"{path}[{counts[path]}]"
    path = f"{path}.{last}" if path else last
    if not is_element:
        return path
    counts[path] = counts.get(path, -1) + 1
    return f"{path}[{counts[path]}]"


def _plain(key: str) -> str:
    """Without quotes, or spaces around dots."""
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
