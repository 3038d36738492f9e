"""From token shards to batches: what the Trainer and the evaluations read.

Training reads rows in the order that `triptych._core.Order` computes from (seed,
stage table, step). Evaluation reads every document once, in the order it is stored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from triptych import _core, artefact
from triptych.batch_memory import BatchMemory
from triptych.curriculum import StageConfig
from triptych.errors import ConfigError
from triptych.tokens import local_shards
from triptych.train.batch import Batch

TOKENS_FORMAT = "triptych-tokens/1"
IGNORE_INDEX = -100
HELD_FILES = 64  # of a folder; a process may have 1,024 files open on most systems
PREFETCHED_BATCHES = 4  # of 16,000 tokens: 0.3 MB; one would do where steps are alike

DTYPES = {
    "input_ids": torch.int64,
    "labels": torch.int64,
    "position_ids": torch.int64,
    "weights": torch.float32,
    "cu_seqlens": torch.int32,
    "documents": torch.int64,
    "sources": torch.int32,
}


class OrderedRows:
    """Rows of every step, by name of source and stage table; nothing is consumed.

    Args:
        sources: token shard folder of each source, on this machine or at an address.
        stages: the stage table; a stage without `seq_len` takes the argument's.
        seed: of the order; another seed is another permutation.
        seq_len: tokens of a row where a stage does not say.
        skip: (first, end) windows of data steps to leave out; what comes behind a
            window moves up, and the number of steps stays.
        max_epochs: most passes over a source, by name.

    Raises:
        ConfigError: a faulty stage or limit, or a source read more often than it may.
    """

    def __init__(
        self,
        sources: Mapping[str, str | Path],
        stages: Sequence[StageConfig],
        *,
        seed: int,
        seq_len: int,
        skip: Sequence[tuple[int, int]] = (),
        max_epochs: Mapping[str, float] | None = None,
    ) -> None:
        self.sources = {name: local_shards(folder) for name, folder in sources.items()}
        self.stages = tuple(stage.resolved(seq_len) for stage in stages)
        self.seed, self.seq_len = seed, seq_len
        self.skip, self.max_epochs = tuple(skip), dict(max_epochs or {})
        table = [x for stage in self.stages for x in _stage_rows(stage, self.sources)]
        self._rows: list[int] = [stage["rows_per_step"] for stage in table]
        folders = [(name, str(folder)) for name, folder in self.sources.items()]
        self._order = _core.Order(folders, table, seed, skip, self.max_epochs)
        self._memory = BatchMemory()
        self._ahead: _core.Batches | None = None

    @property
    def num_steps(self) -> int:
        """Optimiser steps of all stages together."""
        return self._order.num_steps

    def rows_per_step(self, step: int) -> int:
        """Rows of the global batch at `step`."""
        return self._rows[self._order.stage(step)]

    def data_step(self, step: int) -> int:
        """The data step that `step` reads: itself, moved up by windows that are skipped."""
        return self._order.data_step(step)

    def ended_early(self, stage: int, steps: int) -> OrderedRows:
        """The same rows, with stage number `stage` ending after `steps` of its steps.

        Steps before that end read what they read before, as a ramp may not be cut.
        """
        stages = list(self.stages)
        stages[stage] = dataclasses.replace(stages[stage], steps=steps)
        return self._with(stages, self.skip)

    def skipping(self, windows: Sequence[tuple[int, int]]) -> OrderedRows:
        """The same rows with these windows of data steps left out, and no others."""
        return self._with(self.stages, windows)

    def _with(
        self, stages: Sequence[StageConfig], skip: Sequence[tuple[int, int]]
    ) -> OrderedRows:
        return OrderedRows(
            self.sources,
            stages,
            seed=self.seed,
            seq_len=self.seq_len,
            skip=skip,
            max_epochs=self.max_epochs,
        )

    def step_hash(self, step: int) -> str:
        """Hash of the token ids of `step`: equal on every machine that reads the same."""
        return self._order.step_hash(step)

    def batch(
        self, step: int, first_row: int = 0, num_rows: int | None = None
    ) -> Batch:
        """Rows `first_row …` of `step`, packed flat without padding (see `Batch`)."""
        ahead = self._next_ahead((step, first_row, num_rows))
        return _to_batch(
            ahead or self._order.batch(step, first_row, num_rows, self._memory)
        )

    def prefetch(
        self, step: int, batch_rows: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        """Reads batches of `batch_rows` rows ahead, from `step` on.

        Of every step it reads one share of the rows: its number, from 0, and how many.

        `batch` takes them as long as it is asked for them in turn; when it is asked for
        anything else they are given up.
        """
        self._ahead = self._order.prefetch(
            step, batch_rows, PREFETCHED_BATCHES, self._memory, share
        )

    def _next_ahead(self, wanted: tuple[int, int, int | None]) -> dict[str, Any] | None:
        ahead = self._ahead  # another thread may give it up meanwhile
        if ahead is None:
            return None
        step, first_row, num_rows, arrays = _next_part(ahead)
        if (step, first_row, num_rows) == wanted:
            return arrays
        self._ahead = None
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Without the batches read ahead: their thread is in this process."""
        return {**self.__dict__, "_ahead": None, "_memory": BatchMemory()}

    def named_rows(self, step: int) -> list[list[dict[str, Any]]]:
        """The segments of each row of `step`: source, document id, start and length."""
        names = list(self.sources)
        return [
            [
                {
                    "source": names[source],
                    "id": self._order.document_id(source, document),
                    "start": start,
                    "length": length,
                }
                for source, document, start, length in row
            ]
            for row in self._order.rows(step)
        ]

    def report(self) -> dict[str, Any]:
        """Rows, fill, cuts and epochs per source, as planned for the whole table."""
        return dict(json.loads(self._order.report()))

    def planned_tokens(self) -> dict[str, int]:
        """Tokens that all steps read of each source, windows that are skipped left out."""
        tokens = dict.fromkeys(self.sources, 0)
        for stage in self.report()["stages"]:
            for draw in stage["draws"]:
                tokens[draw["source"]] += draw["tokens"]
        return tokens

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the shards' manifests: what the order is a function of."""
        manifests = (
            f"{name} {artefact.sha256_file(folder / artefact.FILE_NAME)}"
            for name, folder in self.sources.items()
        )
        return hashlib.sha256("\n".join(manifests).encode()).hexdigest()


def _next_part(
    ahead: _core.Batches,
) -> tuple[int | None, int | None, int | None, dict[str, Any] | None]:
    """The next step, first row, number of rows and arrays; None of each if there is none.

    An error may be of a step that nobody asks for, or of a process that was forked off
    and has no such thread: to read what is wanted tells.
    """
    nothing = (None, None, None, None)
    try:
        return next(ahead, nothing)
    except ValueError:
        return nothing


def _stage_rows(stage: StageConfig, sources: Iterable[str]) -> list[dict[str, Any]]:
    """The stage as the engine knows stages: one for each size of its batch.

    Nothing but the batch changes at their borders: the mixture and sources go on.
    """
    batches = stage.batches()
    names = [f"{stage.name}, {rows} rows" for _, rows in batches[:-1]] + [stage.name]
    ramps = [stage.ramp_steps] + [0] * (len(batches) - 1)
    return [
        {
            "name": name,
            "steps": steps,
            "rows_per_step": rows,
            "seq_len": stage.seq_len,
            "weights": dict(stage.mixture) or dict.fromkeys(sources, 1.0),
            "ramp_steps": ramp,
            "packing": stage.packing,
            "goes_on": index > 0,
        }
        for index, (name, ramp, (steps, rows)) in enumerate(
            zip(names, ramps, batches, strict=True)
        )
    ]


def _to_batch(arrays: Mapping[str, Any]) -> Batch:
    fields: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in DTYPES}
    return Batch(**fields, ids_hash=arrays["ids_hash"])


class TokenShards:
    """A token shard folder, read with numpy: documents by number, in stored order.

    Attributes:
        lengths: (documents,) tokens of each, BOS and EOS included.

    Raises:
        ConfigError: if there is no manifest; IntegrityError if a file differs from it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = local_shards(folder)
        self.content = artefact.verify(self.folder, TOKENS_FORMAT).content
        shards = self.content["shards"]
        self._names = [str(shard["name"]) for shard in shards]
        self._files: dict[str, _HeldFile] = {}
        tables = [self._documents(s["name"]) for s in shards]
        self._ids_of = [table["id"] for table in tables]
        self._first = np.cumsum([0, *(len(table) for table in tables)])
        self._starts = _column(tables, "offset")
        self.lengths = _column(tables, "length")

    def _documents(self, name: str) -> pa.Table:
        columns = ["id", "offset", "length"]
        return pq.read_table(self.folder / f"{name}.docs.parquet", columns=columns)

    def _place(self, index: int) -> tuple[int, slice]:
        """The shard of document `index`, and where its ids are."""
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        start = int(self._starts[index])
        return shard, slice(start, start + int(self.lengths[index]))

    def __len__(self) -> int:
        return len(self.lengths)

    def id(self, index: int) -> str:
        """Id of document `index`."""
        shard, _ = self._place(index)
        found: str = self._ids_of[shard][index - int(self._first[shard])].as_py()
        return found

    def tokens(self, index: int) -> npt.NDArray[np.int64]:
        """Ids of document `index`, BOS and EOS included.

        Raises:
            IntegrityError: the file was cut or written to since the folder was opened.
        """
        shard, where = self._place(index)
        file = self._file(f"{self._names[shard]}.bin")
        ids = file.read({"u16": "<u2", "u32": "<u4"}[self.content["dtype"]], where)
        vocab_size, largest = self.content["vocab_size"], ids.max(initial=0)
        if largest >= vocab_size:
            at = where.start + int(ids.argmax())
            found = f"id {largest} at token {at}"
            raise artefact.damaged(file.path, f"ids under {vocab_size}", found)
        return ids.astype(np.int64)

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """For each id of document `index`, whether it is supervised.

        Raises:
            IntegrityError: the file was cut since the folder was opened.
        """
        shard, where = self._place(index)
        if not self.content["has_mask"]:
            return np.ones(int(self.lengths[index]), dtype=bool)
        mask = self._file(f"{self._names[shard]}.mask.bin").read("u1", where)
        return mask.astype(bool)

    def _file(self, name: str) -> _HeldFile:
        found = self._files.get(name)
        if found is None:
            if len(self._files) >= HELD_FILES:
                self._files.clear()
            found = self._files[name] = _HeldFile(self.folder / name)
        return found


class _HeldFile:
    """A file held open for reads at given places.

    It is not mapped: of a map, what somebody has cut off ends the process (SIGBUS).
    """

    def __init__(self, path: Path) -> None:
        self.path, self._descriptor = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[type[_HeldFile], tuple[Path]]:
        """Another process opens it for itself."""
        return _HeldFile, (self.path,)

    def read(self, dtype: str, where: slice) -> npt.NDArray[Any]:
        """The numbers at `where`, counted in numbers of `dtype`."""
        width = np.dtype(dtype).itemsize
        at, end = where.start * width, where.stop * width
        parts = []
        while at < end and (part := os.pread(self._descriptor, end - at, at)):
            parts.append(part)
            at += len(part)
        if at < end:
            raise artefact.damaged(self.path, f"at least {end} bytes", "an end before")
        return np.frombuffer(b"".join(parts), dtype)


def require_rendered(folder: str | Path, *, documents_per_unit: int) -> None:
    """Refuses shards that are not conversations (1 a unit) or pairs (2 a unit).

    Raises:
        ConfigError: a text that nobody asked about would be learnt, or a reply that
            somebody rejected; or nothing at all would be.
    """
    content = artefact.read_manifest(folder, TOKENS_FORMAT).content
    kinds = {1: "conversations", 2: "preference pairs"}
    units = content.get("documents_per_unit", 1)
    found = kinds.get(units, "units") if content["has_mask"] else "documents"
    if found != kinds[documents_per_unit]:
        raise ConfigError(
            f"`{folder}`: expected token shards of {kinds[documents_per_unit]}, with a "
            f"mask of what is supervised, found those of {found}"
        )
    tokens = TokenShards(folder)
    if not any(tokens.mask(index)[1:].any() for index in range(len(tokens))):
        raise ConfigError(
            f"`{folder}`: expected tokens that are supervised, found none: every mask is "
            "0, so that nothing would be learnt; write the shards again with the masks"
        )


def _column(tables: Sequence[pa.Table], name: str) -> npt.NDArray[np.int64]:
    """A column of integers of all tables, one behind the other."""
    parts = [table[name].to_numpy().astype(np.int64) for table in tables]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def stored_batches(
    shards: TokenShards, *, seq_len: int, batch_tokens: int
) -> Iterator[Batch]:
    """Every document once, cut into pieces of at most `seq_len`, about `batch_tokens` a batch.

    Pieces follow each other flat; a piece's last label is the document's next token,
    so that a cut costs no supervised token.
    """
    pieces: list[dict[str, npt.NDArray[Any]]] = []
    held = 0
    for document in range(len(shards)):
        for piece in _pieces(shards, document, seq_len):
            if pieces and held + len(piece["input_ids"]) > batch_tokens:
                yield _join(pieces)
                pieces, held = [], 0
            pieces.append(piece)
            held += len(piece["input_ids"])
    if pieces:
        yield _join(pieces)


def _pieces(
    shards: TokenShards, document: int, seq_len: int
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    ids, mask = shards.tokens(document), shards.mask(document)
    labels = np.where(mask[1:], ids[1:], IGNORE_INDEX)
    for start in range(0, len(labels), seq_len):
        piece = labels[start : start + seq_len]
        yield {
            "input_ids": ids[start : start + len(piece)],
            "labels": piece,
            "position_ids": np.arange(len(piece)),
            "weights": (piece != IGNORE_INDEX).astype(np.float32),
            "documents": np.array([document]),
        }


def _join(pieces: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Batch:
    joined = {
        key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]
    }
    lengths = [len(piece["input_ids"]) for piece in pieces]
    joined["cu_seqlens"] = np.concatenate([[0], np.cumsum(lengths)])
    joined["sources"] = np.zeros(len(pieces))
    fields: dict[str, Any] = {
        key: torch.from_numpy(joined[key]).to(dtype) for key, dtype in DTYPES.items()
    }
    return Batch(**fields)


def require_same_tokenizer(
    folders: Mapping[str, str | Path], tokenizer_sha256: str
) -> None:
    """Refuses shards that another tokenizer made.

    Raises:
        ConfigError: naming the source and both hashes.
    """
    for name, folder in folders.items():
        manifest = artefact.read_manifest(local_shards(folder), TOKENS_FORMAT)
        found = manifest.made_from["tokenizer_sha256"]
        if found != tokenizer_sha256:
            raise ConfigError(
                f"source `{name}` at `{folder}`: expected tokens of tokenizer "
                f"{tokenizer_sha256[:12]}…, found tokenizer {found[:12]}…: tokenize it again"
            )
