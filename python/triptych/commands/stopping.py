"""SIGTERM, which schedulers send before they take a machine away."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class TerminationNotice:
    """While entered, SIGTERM is noted and does nothing else; ask `received`.

    Outside the main thread, where Python lets nobody set a handler, it notes nothing.
    """

    def __init__(self) -> None:
        self._received = False
        self._before: Any = None

    def __enter__(self) -> TerminationNotice:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def received(self) -> bool:
        """Whether the process was asked to end."""
        return self._received

    def _note(self, _: int, __: FrameType | None) -> None:
        self._received = True
