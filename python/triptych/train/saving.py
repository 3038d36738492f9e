"""When checkpoints are written: while training waits, or beside it in a thread.

Beside it, training waits for a copy in memory only. One checkpoint is written at a time;
it has its name only when it is whole, so a kill in between leaves the one before.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych.train.checkpoint import TrainState
from triptych.train.placement import Whole


@dataclass(frozen=True)
class Keeping:
    """Which checkpoints stay: the newest, and those of steps that a number divides."""

    newest: int = 2
    every_steps: int | None = None


class Saver:
    """Writes the checkpoints of a run into `folder`.

    Args:
        placement: where the model's numbers are; it writes them.
        tokenizer_path: goes into every checkpoint.
        beside: in a thread, from a copy: twice the memory of weights and optimiser.
    """

    def __init__(
        self,
        folder: Path,
        placement: Whole,
        tokenizer_path: Path | None,
        keeping: Keeping,
        *,
        beside: bool = False,
    ) -> None:
        self.folder, self.placement = folder, placement
        self.tokenizer_path = tokenizer_path
        self.keeping, self.beside = keeping, beside
        self._writing: Future[object] | None = None

    def save(self, optimizer: torch.optim.Optimizer, state: TrainState) -> None:
        """Saves now, or copies now and lets the thread write."""
        self.wait()
        write = self.placement.take(optimizer, state, copied=self.beside)
        arguments = (
            self.folder,
            self.tokenizer_path,
            self.keeping.newest,
            self.keeping.every_steps,
        )
        if not self.beside:
            write(*arguments)
            return
        thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing = thread.submit(write, *arguments)
        thread.shutdown(
            wait=False
        )  # it ends with what it writes, and none is left behind

    def wait(self) -> None:
        """Returns when nothing is being written.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
