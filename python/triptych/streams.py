"""The standard streams of a command: open, in any locale, and ending nobody's work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any, TextIO, cast


def open_all() -> None:
    """What is closed becomes the null device, before a file of ours takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


def unfailing_errors() -> redirect_stderr[TextIO]:
    """Standard error within it is one that can always be written to."""
    return redirect_stderr(cast("TextIO", _Unfailing(sys.stderr)))


class _Unfailing:
    """Standard error as one that ends nobody's work.

    Where it cannot be written to any more, as when the terminal of a run was closed or
    the disk of its log is full, it goes to the null device from then on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text` where that is possible."""
        with self._heard_or_not():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Brings out what was written, where that is possible."""
        with self._heard_or_not():
            self._stream.flush()

    @contextmanager
    def _heard_or_not(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(AttributeError, OSError):  # a stream without a descriptor
                silence(self._stream)


def silence(stream: TextIO) -> None:
    """Lets what is written to it vanish, also by native code and when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def speak_in_any_locale() -> None:
    r"""What a terminal's encoding has no letter for is shown as `\xe9`, and no error.

    What comes in and is no text is kept, as of arguments, for whoever reads it to name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
