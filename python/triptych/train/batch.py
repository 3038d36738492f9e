"""Packed rows as tensors, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some rows as one packed sequence, flat and without padding.

    Attributes:
        input_ids: (tokens,) int64.
        labels: (tokens,) int64, the next token, or -100 where nothing is learnt.
        position_ids: (tokens,) int64, restarting with every segment.
        weights: (tokens,) float32 factor of each label's loss, 0 where it is -100.
        cu_seqlens: (segments + 1,) int32: 0, then the end of each segment.
        documents: (segments,) int64 index of the document in its source.
        sources: (segments,) int32 index of the source.
        ids_hash: hash of the ids; those of the parts of a step add up modulo 2^64.
        origin: the batch that this one is a copy of on another device.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    weights: Tensor
    cu_seqlens: Tensor
    documents: Tensor
    sources: Tensor
    ids_hash: int = 0
    origin: Batch | None = None

    @property
    def host(self) -> Batch:
        """The batch where it was made: reading it there waits for no device."""
        return self if self.origin is None else self.origin

    @property
    def num_tokens(self) -> int:
        """Tokens in all segments."""
        return self.input_ids.numel()

    @property
    def num_segments(self) -> int:
        """Segments: documents, or the pieces of those longer than a row."""
        return self.cu_seqlens.numel() - 1

    def segment_ids(self) -> Tensor:
        """(tokens,) int64 index of the segment that each token belongs to."""
        lengths = self.cu_seqlens.diff().long()
        numbers = torch.arange(self.num_segments, device=lengths.device)
        return torch.repeat_interleave(numbers, lengths, output_size=self.num_tokens)

    def source_tokens(self) -> dict[int, int]:
        """Tokens of each source, by its number."""
        counts = torch.zeros(
            int(self.sources.max()) + 1 if self.num_segments else 0, dtype=torch.int64
        )
        lengths = self.cu_seqlens.diff().to(counts)
        counts.index_add_(0, self.sources.long(), lengths)
        return {number: int(n) for number, n in enumerate(counts.tolist()) if n}

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        names = (f.name for f in fields(self) if f.name not in ("ids_hash", "origin"))
        moved = {name: _moved(getattr(self, name), device) for name in names}
        return Batch(**moved, ids_hash=self.ids_hash, origin=self.host)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on a GPU is from locked memory, and the host does not wait for it."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def read_by(batches: Sequence[Batch]) -> tuple[list[tuple[int, int]], int]:
    """Tokens of each source by its number, and the hash of the ids, of some batches."""
    counts: dict[int, int] = {}
    for batch in batches:
        for number, tokens in batch.source_tokens().items():
            counts[number] = counts.get(number, 0) + tokens
    return sorted(counts.items()), sum(batch.ids_hash for batch in batches) % 2**64


class DataSource(Protocol):
    """Rows as a pure function of the step: nothing is consumed or replayed.

    It may also have `fingerprint`, a string that names its content (say the hash of
    its shards' manifests), which `data_fingerprint` takes in; `sources`, the names that
    `Batch.sources` counts; and `ended_early(stage, steps)`, the same rows with a stage
    that ends sooner, which stages with an exit condition need; and
    `prefetch(step, batch_rows, share)`, which makes the batches of a share of the rows,
    its number and how many there are, ahead. To leave out windows of steps, it has
    `skip`, those it leaves out, `skipping(windows)`, the same rows without those
    windows, `data_step(step)`, and `named_rows(step)`, which names documents.
    """

    @property
    def num_steps(self) -> int:
        """Steps there are rows for."""

    def rows_per_step(self, step: int) -> int:
        """Rows that `step` is made of."""

    def batch(
        self, step: int, first_row: int = 0, num_rows: int | None = None
    ) -> Batch:
        """Rows `first_row` to `first_row + num_rows` (or the end) of `step`."""

    def step_hash(self, step: int) -> str:
        """Hash that names the rows of `step`."""


def data_fingerprint(data: DataSource) -> str:
    """Names a data source: its own fingerprint, its length, and three of its steps.

    Windows that are left out do not count: a run may leave out more as it goes on.
    """
    if getattr(data, "skip", ()):
        data = data.skipping(())  # type: ignore[attr-defined]
    last = data.num_steps - 1
    hashes = [data.step_hash(step) for step in sorted({0, last // 2, last})]
    own = str(getattr(data, "fingerprint", ""))
    text = "\n".join([own, str(data.num_steps), *hashes])
    return hashlib.sha256(text.encode()).hexdigest()
