"""Everything triptych raises on purpose, and the exit status each one ends with.

Bad settings are `ConfigError`, bad data is `InputError`, a file that is not as its
manifest says is `IntegrityError`, an exhausted disk or memory is `ResourceError`, a
fault of triptych itself is `InternalError`. Each has `file`, `line` (from 1), `byte`
(offset in the file, as decompressed) and `hint`, which are None where not known.
"""

from __future__ import annotations

import errno
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triptych._core import (
    ConfigError,
    InputError,
    IntegrityError,
    InternalError,
    Interrupted,
    ResourceError,
)

__all__ = [
    "EXIT_STATUS",
    "ConfigError",
    "InputError",
    "IntegrityError",
    "InternalError",
    "Interrupted",
    "ResourceError",
    "RuleError",
    "TrainingDiverged",
    "code",
    "exit_status",
    "placed",
    "shown",
]


class RuleError(InputError):
    """A rule given as a Python function failed; its own exception is the cause."""


class TrainingDiverged(RuntimeError):
    """Losses, gradients or weights could not be trusted any more, also after going back."""


EXIT_STATUS: dict[type[BaseException], int] = {
    ConfigError: 2,
    IntegrityError: 4,
    ResourceError: 5,
    Interrupted: 75,
    KeyboardInterrupt: 130,
}


def exit_status(error: BaseException) -> int:
    """Exit status of a command that ends with `error`; 1 if nothing says otherwise."""
    kinds = _kind(error).__mro__
    return next((EXIT_STATUS[kind] for kind in kinds if kind in EXIT_STATUS), 1)


CODES: dict[type[BaseException], str] = {
    ConfigError: "config",
    IntegrityError: "integrity",
    ResourceError: "resource",
    Interrupted: "interrupted",
    InternalError: "internal",
    InputError: "input",
    TrainingDiverged: "diverged",
    OSError: "io",
    ValueError: "value",
}


def code(error: BaseException) -> str:
    """Kind of error in a word, as messages have it in `error[…]`."""
    found = (CODES[kind] for kind in _kind(error).__mro__ if kind in CODES)
    return next(found, "internal")


@contextmanager
def placed(file: str | Path, line: int | None = None) -> Iterator[None]:
    """Gives an `InputError` its place, as those of the engine have it; None is the file."""
    try:
        yield
    except InputError as error:
        error.file, error.line = str(file), line
        raise


def escaped(error: UnicodeEncodeError) -> str:
    """The characters that are no text, the first few, as escapes that any terminal shows."""
    found = error.object[error.start : error.end].encode("ascii", "backslashreplace")
    return f"{found.decode():.24}"


# Marks that turn text around, behind which a name can look like another one.
_TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def shown(text: object) -> str:
    r"""A text with what a terminal would obey, as foreign names may hold, as `\x1b`."""
    return "".join(c if _is_plain(c) else _escape(c) for c in str(text))


def _is_plain(char: str) -> bool:
    return char in "\n\t" or not (
        unicodedata.category(char) == "Cc" or char in _TURNING
    )


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


# What a system says where there is no more room: on the disk, for a user, in a file.
EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: Python, the system, torch on either device.

    Of torch's two only that on a GPU has a class of its own, which is known by name
    here: nobody imports torch for an error.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    names = {kind.__name__ for kind in type(error).__mro__}
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or bool(names & {"MemoryError", "OutOfMemoryError"})


def out_of_memory(error: BaseException) -> ResourceError:
    """The sentence for an error that says so, with what was asked for where it is known."""
    asked = re.search(r"allocate ([\d.]+) (bytes|[KMGTPE]iB)", str(error))
    more = "" if asked is None else f", where {_size(*asked.groups())} more were needed"
    found = ResourceError(f"memory ran out{more}")
    found.hint = (
        "in training a smaller `micro_batch_rows` and `recompute` take less for the same "
        "gradient; `triptych plan` says how much a run will take"
    )
    return found


def _size(number: str, unit: str) -> str:
    return f"{number} {unit}" if unit != "bytes" else f"{int(number) / 2**20:,.0f} MiB"


def _kind(error: BaseException) -> type[BaseException]:
    full = isinstance(error, OSError) and error.errno in EXHAUSTED
    return ResourceError if full or is_out_of_memory(error) else type(error)
