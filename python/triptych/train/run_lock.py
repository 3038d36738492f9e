"""One run in a folder at a time: two would write over each other's checkpoints and lines.

The folder itself is locked, as the engine locks those that it writes, so nothing is left
behind: the system lifts the lock where a process ends, however it does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych.errors import ConfigError
from triptych.train.ranks import Ranks


@contextmanager
def only_run_in(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Within, no other run trains in `folder`; the first process sees to that.

    Raises:
        ConfigError: in every process, if another run does.
    """
    held = _opened(folder) if ranks.is_first else None
    try:
        if not ranks.gather(held is None or _lock(held))[0]:
            raise ConfigError(
                f"output `{folder}`: expected a folder that no other run is writing, "
                "found it locked by one that has not ended; wait for it, or choose "
                "another folder"
            )
        yield
    finally:
        if held is not None:
            os.close(held)


def _opened(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder, os.O_RDONLY)


def _lock(folder: int) -> bool:
    """Whether no other process holds it; where a disk knows no locks nobody does."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
