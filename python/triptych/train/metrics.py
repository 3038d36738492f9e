"""What a run writes while it goes: `metrics.jsonl`, `status.json`, TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.artefact import named, read_json_lines, write_text
from triptych.train.health import finite
from triptych.train.tracking import Trackers

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG, STATUS, EVALUATIONS = "metrics.jsonl", "status.json", "evaluations.jsonl"
BOARD = "tensorboard"


class MetricsLog:
    """One line a step, appended; lines of steps that are run again are cut off."""

    def __init__(
        self,
        folder: Path,
        step: int,
        *,
        tensorboard: bool,
        trackers: Trackers | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        _truncate(folder / LOG, step)
        self._lines = open(folder / LOG, "a", encoding="utf-8")
        self._board = _board(folder / BOARD, step) if tensorboard else None
        self._trackers = trackers

    def write(self, metrics: Mapping[str, Any]) -> None:
        """Appends the metrics of a step, which must hold `step`."""
        with named(self.folder / LOG):
            self._lines.write(json.dumps(metrics) + "\n")
            self._lines.flush()
        if self._trackers is not None:
            self._trackers.log(metrics)
        if self._board is None:
            return
        with named(self.folder / BOARD):
            for key, value in metrics.items():
                if key != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(key, value, metrics["step"])

    def status(self, values: Mapping[str, Any]) -> None:
        """Replaces `status.json`."""
        write_text(self.folder / STATUS, json.dumps(values, indent=2) + "\n")

    def close(self) -> None:
        """Flushes and closes what is open."""
        with named(self.folder / LOG):
            self._lines.close()
        if self._trackers is not None:
            self._trackers.close()
        if self._board is not None:
            with named(self.folder / BOARD):
                self._board.close()


class EvaluationLog:
    """`evaluations.jsonl`: what the held-out sets cost, first and after each stage.

    Lines in order are the forgetting matrix: a row a stage, a column a set.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / EVALUATIONS

    def write(self, line: Mapping[str, Any]) -> None:
        """Adds a line, which must hold `step`; lines of that step or later ones go.

        Bits that are no numbers, as of weights that are none, are null.
        """
        kept = [old for old in self.read() if old["step"] < line["step"]]
        bits = {name: finite(x) for name, x in line["bits_per_byte"].items()}
        line = {**line, "bits_per_byte": bits}
        write_text(self.path, "".join(json.dumps(x) + "\n" for x in [*kept, line]))

    def read(self) -> list[dict[str, Any]]:
        """All lines, in the order of steps."""
        return read_json_lines(self.path)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, a torn last one left out."""
    return read_json_lines(folder / LOG)


def _truncate(path: Path, step: int) -> None:
    """Keeps the lines of steps up to `step`; a torn line goes too."""
    if path.exists():
        kept = [line for line in read_json_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _board(folder: Path, step: int) -> SummaryWriter | None:
    """A TensorBoard writer that hides events after `step`; None if not installed."""
    if util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
