"""How a copy that is behind gets the state of the others: through the run's folder.

torchft's own transports unpickle what they receive. Here another copy writes a checkpoint
like all others, and the one that is behind verifies its hashes and reads it.
"""

from __future__ import annotations

import shutil
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from torchft.checkpointing import CheckpointTransport

from triptych.train import checkpoint

POLL_SECONDS = 0.05


class Joining(CheckpointTransport):  # type: ignore[misc]
    """Hands a run's state over through `folder`, which all copies see."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, uuid.uuid4().hex

    def metadata(self) -> str:
        """The name by which others find what this copy writes."""
        return self.name

    def send_checkpoint(
        self, dst_ranks: list[int], step: int, state_dict: Any, timeout: timedelta
    ) -> None:
        """Writes the state, once for all that lack it and however often they try."""
        target = self._place(self.name, step)
        if not checkpoint.steps_in(target):
            checkpoint.write(target, state_dict["user"]["default"])

    def recv_checkpoint(
        self, src_rank: int, metadata: str, step: int, timeout: timedelta
    ) -> Any:
        """Waits for another one's; returns where it is.

        Raises:
            TimeoutError: it did not come.
        """
        place = self._place(metadata, step)
        end = time.monotonic() + timeout.total_seconds()
        while not (found := checkpoint.steps_in(place)):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"`{place}`: expected a checkpoint within {timeout}, found none; do "
                    "the copies share one folder?"
                )
            time.sleep(POLL_SECONDS)
        counted = {"step": step, "batches_committed": 0}
        return {"user": {"default": found[0]}, "torchft": counted}

    def clear(self) -> None:
        """Removes what was written, by whomever: nobody is behind."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str, step: int) -> Path:
        # The name is told by another process: it may not point anywhere else.
        return self.folder / uuid.UUID(name).hex / str(step)
