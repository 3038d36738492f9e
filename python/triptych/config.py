"""Strict configuration: TOML in, frozen dataclasses out, every fault at once.

A configuration is a tree of frozen dataclasses. Unknown keys, wrong types and
values that a dataclass refuses at birth are collected over the whole tree and
raised together, each with its key, its line, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from triptych.config_places import SET, Places
from triptych.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

MAX_FAULTS = 20  # a screenful; more would hide the first


def load(
    kind: type[T], path: str | Path | None = None, overrides: Iterable[str] = ()
) -> T:
    """Builds `kind` from a TOML file and `key=value` overrides.

    Args:
        kind: a dataclass.
        path: TOML file, or None to start from the defaults.
        overrides: `a.b=value` with `value` in TOML syntax; a bare word is a string.

    Raises:
        ConfigError: with every fault found, one a line.
    """
    text = _read(Path(path)) if path is not None else ""
    table = _parse(text, path)
    keys = [_apply(table, override) for override in overrides]
    return _from(kind, table, Places(text, str(path or SET), overridden=keys))


def from_mapping(
    kind: type[T], table: Mapping[str, Any], *, name: str = "configuration"
) -> T:
    """Builds `kind` from nested mappings.

    Raises:
        ConfigError: with every fault found, one a line.
    """
    return _from(kind, table, Places("", name))


def _from(kind: type[T], table: Mapping[str, Any], places: Places) -> T:
    faults: list[str] = []
    value = _dataclass(kind, table, "", faults)
    if faults:
        found = [(places.of(fault), fault) for fault in faults[:MAX_FAULTS]]
        report = "\n".join(f"{place}: {fault}" for place, fault in found)
        first = found[0][0]
        raise _at(ConfigError(report), first.file, first.line)
    return typing.cast(T, value)


def require_numbers(settings: Any) -> None:
    """Refuses what is no finite number where a dataclass has one, if Python gives it.

    Every comparison with nan is false, and one with None or a string is a fault of
    Python's: no bound of a field would say what is wrong.

    Raises:
        ConfigError: naming the first.
    """
    for name, hint in _numbers_of(typing.cast(Any, type(settings))).items():
        value, faults = getattr(settings, name), list[str]()
        if value is not None or not _may_be_none(hint):
            _convert(hint, value, name, faults)
        if faults:
            raise ConfigError(faults[0])


@functools.cache
def _numbers_of(kind: Any) -> dict[str, Any]:
    """The hints of the fields that hold numbers, alone or several."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: hints[name] for name in names if _is_of_numbers(hints[name])}


def _is_of_numbers(hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, list, typing.Union, types.UnionType):
        return all(_is_of_numbers(x) for x in args if x not in (type(None), ...))
    if origin in (dict, Mapping):
        return _is_of_numbers(args[1])
    return hint in (int, float)


def _may_be_none(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def to_mapping(value: Any) -> Any:
    """The inverse of `from_mapping`: plain dicts, lists and scalars; None left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {key: to_mapping(item) for key, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {str(key): to_mapping(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_mapping(item) for item in value]
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
    except FileNotFoundError:
        missing = ConfigError(f"no configuration at `{path}`: expected a TOML file")
        raise _at(missing, path) from None
    except IsADirectoryError:
        folder = ConfigError(f"`{path}`: expected a TOML file, found a folder")
        raise _at(folder, path) from None
    except (OSError, UnicodeDecodeError) as error:
        unreadable = ConfigError(f"`{path}` cannot be read as TOML: {error}")
        raise _at(unreadable, path) from None


def _parse(text: str, path: str | Path | None) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        found = "nesting that is too deep"
        raise _at(ConfigError(f"`{path}` is not TOML: found {found}"), path) from None
    except tomllib.TOMLDecodeError as error:
        line = getattr(error, "lineno", None)  # from Python 3.14 on
        raise _at(ConfigError(f"`{path}` is not TOML: {error}"), path, line) from None
    return table


def _at(
    error: ConfigError, file: str | Path | None, line: int | None = None
) -> ConfigError:
    """The error with its place, as those of the engine have it."""
    error.file, error.line = None if file is None else str(file), line
    return error


def _apply(table: dict[str, Any], override: str) -> str:
    """Sets the key in the table; returns it."""
    key, separator, raw = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set: expected `key=value`, found `{override}`")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set: `{key}` goes through `{parent}`, not a table")
    table[leaf] = _scalar(raw.strip())
    return key.strip()


def _scalar(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw


def _dataclass(
    kind: Any, table: Any, where: str, faults: list[str], base: Any = None
) -> Any:
    """`base` has what the table does not say: a field's default may differ from `kind`'s."""
    if not isinstance(table, Mapping):
        faults.append(f"{where or 'top level'}: expected a table, found {_show(table)}")
        return None
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    before = len(faults)
    for key in table:
        if key not in fields:
            faults.append(_unknown(key, where, list(fields)))
    defaults = {name: default_of(field, base) for name, field in fields.items()}
    values = {
        name: _convert(hints[name], table[name], _join(where, name), faults, default)
        if name in table
        else default
        for name, default in defaults.items()
        if name in table or default is not dataclasses.MISSING
    }
    _check_required(defaults, table, where, faults)
    return _build(kind, values, where, faults) if len(faults) == before else None


def default_of(field: dataclasses.Field[Any], base: Any = None) -> Any:
    """What a field is where nobody says: `base`'s value, or else its own default."""
    if base is not None:
        return getattr(base, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check_required(
    defaults: Mapping[str, Any],
    table: Mapping[str, Any],
    where: str,
    faults: list[str],
) -> None:
    for name, default in defaults.items():
        if default is dataclasses.MISSING and name not in table:
            faults.append(f"{_join(where, name)}: required, found nothing")


def _build(kind: Any, values: dict[str, Any], where: str, faults: list[str]) -> Any:
    try:
        return kind(**values)
    except ValueError as error:
        faults.append(f"{where}: {error}" if where else str(error))
        return None


def _convert(
    hint: Any, value: Any, where: str, faults: list[str], default: Any = None
) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return _convert(inner[0], value, where, faults, default)
    if dataclasses.is_dataclass(hint):
        base = default if isinstance(default, typing.cast(type, hint)) else None
        return _dataclass(hint, value, where, faults, base)
    if origin is typing.Literal:
        return _literal(args, value, where, faults)
    if origin in (tuple, list):
        return _sequence(args[0], value, where, faults)
    if origin in (dict, Mapping):
        return _table(args[1], value, where, faults)
    return _plain(hint, value, where, faults)


def _literal(names: Any, value: Any, where: str, faults: list[str]) -> Any:
    if value not in names:
        expected = ", ".join(f"`{name}`" for name in names)
        faults.append(f"{where}: expected one of {expected}, found {_show(value)}")
    return value


def _sequence(item: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, (list, tuple)):
        faults.append(f"{where}: expected a list, found {_show(value)}")
        return ()
    parts = (
        _convert(item, part, f"{where}[{i}]", faults) for i, part in enumerate(value)
    )
    return tuple(parts)


def _table(item: Any, value: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(value, Mapping):
        faults.append(f"{where}: expected a table, found {_show(value)}")
        return {}
    return {
        key: _convert(item, part, _join(where, key), faults)
        for key, part in value.items()
    }


def _plain(hint: Any, value: Any, where: str, faults: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    kind = {int: Integral, float: Real}.get(hint, hint)  # NumPy's too
    right = isinstance(value, kind) and (hint is bool or not isinstance(value, bool))
    if not right:
        faults.append(f"{where}: expected {hint.__name__}, found {_show(value)}")
    elif hint is float and not math.isfinite(value):
        # TOML has both; every comparison with nan is false, so no bound would find it.
        faults.append(f"{where}: expected a finite number, found {value}")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:  # more than 308 digits
        return math.inf


def _show(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _unknown(key: str, where: str, valid: list[str]) -> str:
    expected = ", ".join(f"`{name}`" for name in valid)
    place = _join(where, key)
    return f"{place}: unknown key, expected one of {expected}{nearest(key, valid)}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about a name that there is not: which one is like it, if any."""
    found = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else ""
