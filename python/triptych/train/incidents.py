"""`incidents.jsonl`: steps that were not trusted, what was done, and their documents."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.artefact import named, read_json_lines, write_text

FILE_NAME = "incidents.jsonl"
REWOUND = "rewound"

Window = tuple[int, int]


class IncidentLog:
    """The incidents of a run, one line each, on the disk before the run goes on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def read(self) -> list[dict[str, Any]]:
        """All incidents so far, a torn last line left out."""
        return read_json_lines(self.path)

    def write(self, incident: Mapping[str, Any]) -> None:
        """Adds an incident, which must hold `step` and `action`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with named(self.path), open(self.path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(incident) + "\n")
            lines.flush()
            os.fsync(lines.fileno())

    def cut(self, step: int) -> None:
        """Drops the lines of steps behind `step`, which are run again.

        Rewinds stay: their windows are left out from then on.
        """
        kept = [x for x in self.read() if x["step"] <= step or x["action"] == REWOUND]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(x) + "\n" for x in kept))

    def clear(self) -> None:
        """Drops all, rewinds too."""
        if self.path.exists():
            write_text(self.path, "")

    def windows(self) -> list[Window]:
        """Windows of data steps that rewinds left out."""
        windows = [x["data_steps"] for x in self.rewinds()]
        return [(first, end) for first, end in windows if first < end]

    def rewinds(self) -> list[dict[str, Any]]:
        """The incidents that sent the run back."""
        return [x for x in self.read() if x["action"] == REWOUND]


def documents_of(data: Any, step: int) -> list[dict[str, Any]]:
    """Source and id of each document that `step` reads, where the data knows."""
    named_rows = getattr(data, "named_rows", None)
    rows = [] if named_rows is None else named_rows(step)
    read = {(x["source"], x["id"]): None for row in rows for x in row}
    return [{"source": source, "id": name} for source, name in read]


def merged(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The same data steps as windows in order that do not touch."""
    joined: list[Window] = []
    for first, end in sorted(windows):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return tuple(joined)


def before(windows: Sequence[Window], data_step: int) -> tuple[Window, ...]:
    """What a run that has read up to `data_step`, without it, has noticed of windows."""
    return tuple(w for w in merged(windows) if w[0] < data_step)
