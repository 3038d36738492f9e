"""Preparation from Python: the same engine as `triptych-prep`, without files if wanted.

`run` prepares files into a documents folder; `clean` passes Arrow data of any library
through the same rules; `TextPreprocessor` is the founding API over single texts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from triptych import _core
from triptych._core import TextPreprocessor
from triptych.config import to_mapping
from triptych.errors import ConfigError, RuleError
from triptych.identity import digest

__all__ = [
    "ArrowStream",
    "CleanConfig",
    "CleanedBatches",
    "Ledger",
    "PrepConfig",
    "Rule",
    "TextPreprocessor",
    "clean",
    "run",
]


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """What happens to each text, in `clean` as in `run`.

    Attributes:
        profile: `seed`, `clean` (PII only), `dedup` (n-grams only) or one of
            docs/quality.md; several are asked in order.
        pii: what is done with personal data, in place of the four patterns of `seed`
            and `clean`: the table `[pii]` of docs/pii.md.
        language: the languages to keep: the table `[language]` of docs/language.md.
        rule: bounds on features of docs/quality.md, asked after the profiles: `feature`,
            `min`, `max` or both, and a `name` for the ledger.
        phrase_list: lists of phrases that no text may hold, asked last: `name` and `file`,
            and `whole_words`, `except` or `sha256` of docs/quality.md.
        min_length: fewest words of a document (founding design: 128).
        max_length: most words of a document (founding design: 4096).
        ngram: words in an n-gram of deduplication (founding design: 13).
        text_field: JSON key, or column, of the text.
        threads: worker threads; None takes all cores.
    """

    profile: str | tuple[str, ...] = "seed"
    pii: dict[str, Any] = field(default_factory=dict)
    language: dict[str, Any] | None = None
    rule: tuple[dict[str, Any], ...] = ()
    phrase_list: tuple[dict[str, Any], ...] = ()
    min_length: int = 128
    max_length: int = 4096
    ngram: int = 13
    text_field: str = "text"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class PrepConfig(CleanConfig):
    """What `triptych prep run` takes; every name is also its option.

    Attributes:
        input: files, folders or globs.
        output: the documents folder to write.
        format: of the documents written.
        shard_bytes: text in a shard after which the next begins, in whole blocks of 1 MiB.
        max_line_bytes: longest line; a longer one is quarantined.
        max_file_bytes: most bytes that one compressed file may decompress to.
        max_expansion: most decompressed bytes per byte on disk, past 64 MiB.
        max_bad: share of records, in [0, 1], that may be bad; the summary's
            `bad_fraction` is to be held against it.
        shard: this machine's share, as "2/5"; `triptych prep merge` makes one folder of all.
        overwrite: replace a folder made with other settings or inputs.
    """

    input: tuple[str, ...]
    output: str
    format: Literal["jsonl.zst", "jsonl", "parquet"] = "jsonl.zst"
    shard_bytes: int = 256 << 20
    max_line_bytes: int = 32 << 20
    max_file_bytes: int = 1 << 40
    max_expansion: int = 1000
    max_bad: float = 0.001
    shard: str = "1/1"
    overwrite: bool = False


class Amounts(TypedDict):
    """How much text entered or left a step; `bytes` in UTF-8."""

    documents: int
    bytes: int
    words: int


class _Step(TypedDict):
    name: str
    entered: Amounts
    left: Amounts


class FunnelStep(_Step, total=False):
    """One step of the profile: what entered and left it, and what it rejected, by reason."""

    rejected: dict[str, Amounts]


class _Counts(TypedDict):
    read: int
    kept: int
    rejected: dict[str, int]
    duplicates: int
    quarantined: int
    bytes_read: int
    pii: dict[str, int]


class Ledger(_Counts, total=False):
    """What became of the rows; `read` is the sum of the four that follow it.

    `rejected` is by reason. `quarantined` are rows that are no text: null, or not
    UTF-8. `bytes_read` is of the text column, in UTF-8. `pii` is what a policy found,
    by kind. `funnel` has the steps of the profile in order, once a row was read.
    """

    funnel: list[FunnelStep]


class ArrowStream(Protocol):
    """Tables and readers of pyarrow, data frames of polars and pandas >= 2.2, and more."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule with an Arrow C stream."""
        ...


Rule = Callable[[pa.RecordBatch], Any]
"""A rule of one's own: for each row of a batch True or a null (keep), False or a reason."""


def run(settings: PrepConfig, *, rules: Sequence[Rule] = ()) -> dict[str, Any]:
    """Prepares files into a documents folder and returns what became of them.

    The result has `output`, `already_done` (the folder stood there, made from the
    same inputs and configuration), `documents`, `bad_fraction`, `warning` (of inputs
    without a document; it is also given as one) and `ledger`.

    Args:
        settings: inputs, output and what happens between.
        rules: as for `clean`, over batches with the columns `id`, `source` and `text`.
            A folder is made by rules of these names, versions (their attribute
            `version`, if they have one), code and values: others are other settings.

    Raises:
        ConfigError: for a wrong path or setting; IntegrityError if the ledger does not
            add up; ResourceError if disk or memory ran out; RuleError if a rule failed.
    """
    rules = _functions(rules)
    table = {**to_mapping(settings), "python_rule": [_identity(rule) for rule in rules]}
    summary = dict(json.loads(_core.run_prep(_to_json(table), _asking(rules))))
    if summary["warning"] is not None:
        warnings.warn(summary["warning"], stacklevel=2)
    return summary


def clean(
    batches: ArrowStream | Iterable[pa.RecordBatch],
    config: CleanConfig | Mapping[str, Any] | None = None,
    *,
    rules: Sequence[Rule] = (),
    features: Sequence[str] = (),
) -> CleanedBatches:
    """Passes Arrow data through personal data, language, quality and deduplication.

    What comes out is what `run` keeps of the same documents: the text column is
    replaced, in its own type; rows that a rule drops are left out; other columns follow
    unchanged. Duplicates are found across all batches. Work is done as batches are
    taken, on `config.threads` threads; the result depends neither on their number nor
    on how rows are spread over batches.

    Args:
        batches: anything with `__arrow_c_stream__`, or an iterable of record batches.
        config: as `CleanConfig`, or a mapping of its names.
        rules: asked after all others and before deduplication. Each gets the rows that
            passed so far as a record batch, in the columns of the input, and gives an
            array of as many rows: booleans (False drops the row for the reason
            `python.NAME`) or strings (a string drops it for `python.NAME.STRING`, null
            keeps it). NAME is the attribute `name` of the rule or else its `__name__`.
        features: names in docs/quality.md, measured of every text that passes and
            given to `rules` as further columns; no column of the input may have the
            name of one.

    Raises:
        ConfigError: for an unknown key or a wrong value, with the nearest name, and if
            there is no text column.
        TypeError: if `batches` is no Arrow data.
    """
    table, asking = _clean_table(config), _asking(_functions(rules))
    names = list(_listed("features", features, "a list of names"))
    core = _core.BatchCleaner(batches, _to_json(table), asking, names)
    return CleanedBatches(core)


def _listed(name: str, given: Any, expected: str) -> tuple[Any, ...]:
    """The items of a list, or of an iterator, which can be gone through once."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}: expected {expected}, found {given!r:.80}")
    return tuple(given)


def _functions(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    found = _listed("rules", rules, "a list of functions")
    for rule in found:
        if not callable(rule):
            raise ConfigError(f"rules: expected functions, found {rule!r:.80}")
    return found


def _to_json(table: Mapping[str, Any]) -> str:
    """The settings as the engine reads them; what it has no word for is named by its key."""
    for key, value in table.items():
        try:
            text = json.dumps(
                value, allow_nan=False, default=_plain_value, ensure_ascii=False
            )
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"key `{key}`: {error}") from error
        except ValueError as error:  # what JSON has no number for, or a ring
            expected = "finite numbers, in tables and lists that do not hold themselves"
            raise ConfigError(
                f"key `{key}`: expected {expected}, found {value!r:.80}"
            ) from error
        except TypeError as error:
            raise ConfigError(f"key `{key}`: {error}") from error
    return json.dumps(table, default=_plain_value)


def _plain_value(value: Any) -> Any:
    """A path as its name, and a number of numpy as one of Python."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == ():
        return value.item()
    expected = "strings, numbers, truth values, lists and tables"
    raise TypeError(f"expected {expected}, found {type(value).__name__}")


def _clean_table(config: CleanConfig | Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of `CleanConfig`, also of a `PrepConfig`; None is what is not set."""
    config = CleanConfig() if config is None else config
    if isinstance(config, Mapping):
        given = {key: value for key, value in config.items() if value is not None}
        return dict(to_mapping(given))
    if not isinstance(config, CleanConfig):
        expected = "a `CleanConfig` or a mapping of its names"
        raise ConfigError(f"configuration: expected {expected}, found {config!r:.80}")
    names = {field.name for field in dataclasses.fields(CleanConfig)}
    table: dict[str, Any] = to_mapping(config)
    return {name: value for name, value in table.items() if name in names}


class CleanedBatches:
    """What `clean` gives: an iterator of record batches that is an Arrow C stream too.

    So it can be handed on, to `pyarrow.table`, `polars.from_arrow`, `duckdb` or
    `pyarrow.RecordBatchReader.from_stream`. It can be gone through once. A batch with
    more than 32 MiB of text comes out as several; one of which nothing is left, not at
    all.
    """

    def __init__(self, core: _core.BatchCleaner) -> None:
        self._core = core

    @property
    def schema(self) -> pa.Schema:
        """The schema, which is that of the input."""
        return self._core.schema

    @property
    def ledger(self) -> Ledger:
        """What became of the rows of all batches taken so far; of all, at the end."""
        counts: dict[str, Any] = json.loads(self._core.ledger_json)
        return Ledger(**{"pii": {}, **counts})  # type: ignore[typeddict-item]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return next(self._core)

    def read_all(self) -> pa.Table:
        """All that is left, as a table."""
        return pa.Table.from_batches(list(self), self.schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rest of the batches, for other libraries.

        They know Arrow's errors only: what goes wrong on the way they raise as one of
        those, with the same message; after Ctrl-C `KeyboardInterrupt` follows.
        """
        return self._core.__arrow_c_stream__(requested_schema)


def _name(rule: Rule) -> str:
    return str(getattr(rule, "name", None) or getattr(rule, "__name__", "rule"))


def _identity(rule: Rule) -> str:
    """Name, version and a hash of code and values: what tells a rule from others."""
    return f"{_name(rule)}@{getattr(rule, 'version', '')}:{digest(rule)}"


def _asking(rules: Sequence[Rule]) -> Callable[[pa.RecordBatch], pa.StringArray] | None:
    """All rules as the engine asks them: a reason for the ledger, or null, for each row.

    Each rule gets the rows that those before it kept.
    """

    def ask(batch: pa.RecordBatch) -> pa.StringArray:
        batch = _plain_batch(batch)
        reasons = pa.nulls(batch.num_rows, pa.string())
        for rule in rules:
            kept = pc.is_null(reasons)
            if not pc.any(kept).as_py():
                break  # of no rows, numpy for one makes an answer of another type
            some = batch if pc.all(kept).as_py() else batch.filter(kept)
            found = _answer(rule, some)
            reasons = pc.replace_with_mask(reasons, kept, found)
        return reasons

    return ask if rules else None


def _plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with views, as of polars, and runs as columns that pyarrow computes with."""
    columns = [_without_runs(column) for column in batch.columns]
    fields = [
        field.with_type(_plain(column.type))
        for field, column in zip(batch.schema, columns, strict=True)
    ]
    columns = [
        column.cast(field.type) for field, column in zip(fields, columns, strict=True)
    ]
    schema = pa.schema(fields, batch.schema.metadata)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _without_runs(column: pa.Array) -> pa.Array:
    is_run = pa.types.is_run_end_encoded(column.type)
    return pc.run_end_decode(column) if is_run else column


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with strings and bytes, also those inside, as pyarrow computes with them."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain(kind.value_type), kind.ordered)
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type), kind.keys_sorted)
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain(field.type))


_ANSWERS = "booleans (True keeps) or strings (null keeps)"


def _answer(rule: Rule, batch: pa.RecordBatch) -> pa.StringArray:
    name = _name(rule)
    try:
        given = rule(batch)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise RuleError(f"rule `{name}`: {problem}") from error
    answer = _as_array(name, given)
    if len(answer) != batch.num_rows:
        expected = f"as many values as rows, {batch.num_rows}"
        raise RuleError(f"rule `{name}`: expected {expected}, found {len(answer)}")
    return _reasons(name, answer)


def _as_array(name: str, given: Any) -> pa.Array:
    if isinstance(given, pa.ChunkedArray):
        return given.combine_chunks()
    try:
        return given if isinstance(given, pa.Array) else pa.array(given)
    except Exception as error:  # its message may hold what the texts hold
        found = f"{type(given).__name__} ({type(error).__name__})"
        raise RuleError(
            f"rule `{name}`: expected an array of {_ANSWERS}, found {found}"
        ) from error


def _reasons(name: str, answer: pa.Array) -> pa.StringArray:
    answer, prefix = answer.cast(_plain(answer.type)), f"python.{name}"
    kind = answer.type
    if pa.types.is_boolean(kind) and answer.null_count == 0:
        keep = pa.nulls(len(answer), pa.string())
        return pc.if_else(answer, keep, pa.scalar(prefix, pa.string()))
    if pa.types.is_null(kind):
        return answer.cast(pa.string())
    if pa.types.is_dictionary(kind):
        return _reasons(name, answer.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        reasons = answer.cast(pa.string())
        return pc.binary_join_element_wise(pa.scalar(prefix), reasons, ".")
    found = "booleans with nulls" if pa.types.is_boolean(kind) else str(kind)
    raise RuleError(f"rule `{name}`: expected {_ANSWERS}, found {found}")
