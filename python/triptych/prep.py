"""Preparation from Python: the same engine as `triptych-prep`, without files if wanted.

`run` prepares files into a documents folder; `clean` passes Arrow batches through the
same rules; `TextPreprocessor` is the founding API over single texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from triptych import _core, config
from triptych._core import TextPreprocessor

__all__ = ["CleanConfig", "PrepConfig", "TextPreprocessor", "clean", "run"]


@dataclass(frozen=True, kw_only=True)
class PrepConfig:
    """What `triptych prep run` takes; every name is also its option.

    Attributes:
        input: files, folders or globs.
        output: the documents folder to write.
        profile: `seed`, `clean` (PII only), `dedup` (n-grams only) or one of
            docs/quality.md; several are asked in order.
        pii: what is done with personal data, in place of the four patterns of `seed`
            and `clean`: the table `[pii]` of docs/pii.md.
        language: the languages to keep: the table `[language]` of docs/language.md.
        rule: bounds on features of docs/quality.md, asked last: `feature`, `min`,
            `max` or both, and a `name` for the ledger.
        min_length: fewest words of a document (founding design: 128).
        max_length: most words of a document (founding design: 4096).
        ngram: words in an n-gram of deduplication (founding design: 13).
        format: of the documents written.
        shard_bytes: text in a shard after which the next begins, in whole blocks of 1 MiB.
        text_field: JSON key of the text.
        max_line_bytes: longest line; a longer one is quarantined.
        max_file_bytes: most bytes that one compressed file may decompress to.
        max_expansion: most decompressed bytes per byte on disk, past 64 MiB.
        max_bad: share of records, in [0, 1], that may be bad; the summary's
            `bad_fraction` is to be held against it.
        shard: this machine's share, as "2/5"; `triptych prep merge` makes one folder of all.
        threads: worker threads; None takes all cores.
        overwrite: replace a folder made with other settings or inputs.
    """

    input: tuple[str, ...]
    output: str
    profile: str | tuple[str, ...] = "seed"
    pii: dict[str, Any] = field(default_factory=dict)
    language: dict[str, Any] | None = None
    rule: tuple[dict[str, Any], ...] = ()
    min_length: int = 128
    max_length: int = 4096
    ngram: int = 13
    format: Literal["jsonl.zst", "jsonl", "parquet"] = "jsonl.zst"
    shard_bytes: int = 256 << 20
    text_field: str = "text"
    max_line_bytes: int = 32 << 20
    max_file_bytes: int = 1 << 40
    max_expansion: int = 1000
    max_bad: float = 0.001
    shard: str = "1/1"
    threads: int | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Rules for `clean`: those of the `seed` profile, with its word bounds."""

    min_length: int = 128
    max_length: int = 4096
    text_field: str = "text"


def run(settings: PrepConfig) -> dict[str, Any]:
    """Prepares files into a documents folder and returns what became of them.

    The result has `output`, `already_done` (the folder stood there, made from the
    same inputs and configuration), `documents`, `bad_fraction` and `ledger`.

    Raises:
        ConfigError: for a wrong path or setting; IntegrityError if the ledger does not
            add up; ResourceError if disk or memory ran out.
    """
    return dict(json.loads(_core.run_prep(json.dumps(config.to_mapping(settings)))))


def clean(
    batches: Iterable[pa.RecordBatch], settings: CleanConfig | None = None
) -> Iterator[pa.RecordBatch]:
    """Passes Arrow batches through PII scrubbing, quality and n-gram dedup.

    The text column is replaced; rows that a rule drops are left out; other columns
    follow unchanged. Duplicates are found within a batch: send one batch, or use
    `run`, to find them across a corpus.

    Raises:
        KeyError: if a batch has no column `settings.text_field`.
    """
    settings = settings or CleanConfig()
    for batch in batches:
        yield _clean_batch(batch, settings)


def _clean_batch(batch: pa.RecordBatch, settings: CleanConfig) -> pa.RecordBatch:
    index = batch.schema.get_field_index(settings.text_field)
    if index < 0:
        raise KeyError(f"column `{settings.text_field}`: found {batch.schema.names}")
    texts, _ledger = _core.clean_texts(
        batch.column(index).to_pylist(),
        min_length=settings.min_length,
        max_length=settings.max_length,
    )
    kept = pa.array([text is not None for text in texts])
    column = pa.array(texts, type=batch.schema.field(index).type)
    return batch.set_column(index, batch.schema.field(index), column).filter(kept)
