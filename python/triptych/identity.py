"""What a function of the user's is, as a hash that is the same in every process.

A run is refused other rules than it began with, so the hash takes in what a rule decides
by as far as it can be read: its code, its defaults, what it closes over, the globals that
it names and the functions of its own module that it calls. What may be a state, as a list
that notes what was seen, counts by its type alone.
"""

from __future__ import annotations

import dis
import functools
import hashlib
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def digest(function: Any) -> str:
    """Sixteen hexadecimal digits of the hash of a callable."""
    home = getattr(getattr(function, "func", function), "__module__", None)
    spelled = _Speller(home).spell(function)
    return hashlib.sha256(spelled.encode()).hexdigest()[:16]


class _Speller:
    """Spells values as text; what other modules than `home` have made, by its name."""

    def __init__(self, home: str | None) -> None:
        self.home = home
        self.seen: dict[int, Any] = {}  # values, since a freed one may leave its id

    def spell(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN:
            return repr(value)
        if kind is not tuple:
            if id(value) in self.seen:
                return "again"
            self.seen[id(value)] = value
        return f"{kind.__qualname__}({', '.join(map(self.spell, self.parts(value)))})"

    def parts(self, value: Any) -> Iterable[Any]:
        """What a value is made of; nothing where that is not known."""
        kind = type(value)
        if kind is tuple:
            return tuple(value)
        if kind in (set, frozenset):
            return sorted(value, key=repr)  # their order is another in each process
        if kind is dict:
            return [part for item in value.items() for part in item]
        if kind is CodeType:
            return (value.co_code, value.co_consts, value.co_names)
        if kind is FunctionType:
            return self.parts_of_function(value)
        if kind is MethodType:
            return (value.__func__, value.__self__)
        if kind is functools.partial:
            return (value.func, value.args, value.keywords)
        if kind.__module__ == self.home:
            return (kind.__dict__.get("__call__"), getattr(value, "__dict__", None))
        return ()

    def parts_of_function(self, function: FunctionType) -> Iterable[Any]:
        if function.__module__ != self.home:
            return (function.__module__, function.__qualname__)
        defaults = (function.__defaults__, function.__kwdefaults__)
        return (
            function.__code__,
            *defaults,
            *_closed_over(function),
            *_globals(function),
        )


def _closed_over(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is given its value later
            yield None


def _globals(function: FunctionType) -> list[Any]:
    """The globals that a function names, also in functions inside it."""
    steps = (
        step
        for code in _codes(function.__code__)
        for step in dis.get_instructions(code)
    )
    names = {step.argval for step in steps if step.opname == "LOAD_GLOBAL"}
    return [function.__globals__.get(name) for name in sorted(names)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
