"""The keys of a configuration as text, out of the docstrings of its dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from triptych.config import default_of

WIDTH = 88
_INDENT = " " * 6


@dataclass(frozen=True)
class Setting:
    """A key of a configuration: its dotted name, default, and what it is for."""

    key: str
    default: str
    text: str


def describe(kind: type, prefix: str = "", base: Any = None) -> Iterator[Setting]:
    """The keys of a dataclass, those of tables within it by their dotted names.

    A list of tables, `[[stage]]` in TOML, has keys like `stage[].steps`. Defaults are
    those of `base`, where a field's default is a value of the dataclass.
    """
    hints, texts = typing.get_type_hints(kind), documented(kind)
    for field in dataclasses.fields(kind):
        key = f"{prefix}{field.name}"
        text = texts.get(field.name, "")
        inner, brackets = _table(hints[field.name])
        default = default_of(field, base)
        if inner is None:
            yield Setting(key, _as_toml(default), text)
            continue
        if text:
            yield Setting(f"{key}{brackets}", "", text)
        within = default if isinstance(default, inner) else None
        yield from describe(inner, f"{key}{brackets}.", within)


def documented(kind: type) -> dict[str, str]:
    """What the `Attributes` of a class and of its bases say, by name.

    A class that is `described_by` another has its texts where it says nothing itself.
    """
    other = getattr(kind, "described_by", None)
    texts = documented(other) if other else {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        _, _, section = section.partition("Attributes:\n")
        body = textwrap.dedent(section.split("\n\n")[0])
        for entry in re.split(r"\n(?=\w)", body):
            name, colon, text = entry.partition(":")
            if colon and name.strip().isidentifier():
                texts[name.strip()] = " ".join(text.split())
    return texts


def render(kind: type) -> str:
    """The keys with their texts, wrapped, as `--help` ends with them."""
    lines = ["settings, as keys of the file or `--set key=value`:"]
    for setting in describe(kind):
        default = f" = {setting.default}" if setting.default else ""
        lines.append(f"  {setting.key}{default}")
        if setting.text:
            wrapped = textwrap.wrap(setting.text, WIDTH - len(_INDENT))
            lines += [f"{_INDENT}{line}" for line in wrapped]
    return "\n".join(lines) + "\n"


def _table(hint: Any) -> tuple[type | None, str]:
    """The dataclass that a field holds, and `[]` where it holds a list of them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (hint, *_) = (a for a in arguments if a is not type(None))
        return _table(hint)
    brackets = "[]" if origin in (tuple, list) else ""
    inner = arguments[0] if brackets else hint
    found = (
        inner if isinstance(inner, type) and dataclasses.is_dataclass(inner) else None
    )
    return found, brackets


def _as_toml(value: Any) -> str:
    """A default as TOML has it; empty where there is none, or it is no value."""
    if value is dataclasses.MISSING or value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
