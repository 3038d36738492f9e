"""When checkpoints are written: while training waits, or beside it in a thread.

Beside it, training waits for a copy in memory only. One checkpoint is written at a time;
it has its name only when it is whole, so a kill in between leaves the one before.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych.model.transformer import Transformer
from triptych.train import checkpoint
from triptych.train.averaging import WeightAverage
from triptych.train.checkpoint import TrainState


@dataclass(frozen=True)
class Keeping:
    """Which checkpoints stay: the newest, and those of steps that a number divides."""

    newest: int = 2
    every_steps: int | None = None


class Saver:
    """Writes the checkpoints of a run into `folder`.

    Args:
        tokenizer_path: goes into every checkpoint.
        beside: in a thread, from a copy: twice the memory of weights and optimiser.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer_path: Path | None,
        keeping: Keeping,
        *,
        beside: bool = False,
    ) -> None:
        self.folder, self.tokenizer_path = folder, tokenizer_path
        self.keeping, self.beside = keeping, beside
        self._thread = ThreadPoolExecutor(1, "checkpoint") if beside else None
        self._writing: Future[Path] | None = None

    def save(
        self,
        model: Transformer,
        optimizer: torch.optim.Optimizer,
        state: TrainState,
        average: WeightAverage | None = None,
    ) -> None:
        """Saves now, or copies now and lets the thread write."""
        self.wait()
        snapshot = checkpoint.take(
            model, optimizer, state, copied=self.beside, average=average
        )
        if self._thread is None:
            self._write(snapshot)
        else:
            self._writing = self._thread.submit(self._write, snapshot)

    def wait(self) -> None:
        """Returns when nothing is being written.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, snapshot: checkpoint.Snapshot) -> Path:
        return checkpoint.write(
            self.folder,
            snapshot,
            tokenizer_path=self.tokenizer_path,
            keep=self.keeping.newest,
            keep_every_steps=self.keeping.every_steps,
        )
