"""Logits of 512 tokens at a time, and gradients summed from them: for losses on a CPU.

512 tokens was best of 256, 512 and 1024 on two cores: smaller chunks re-read and
re-write the weight gradient too often, larger ones gain nothing. Where a sum is asked
for (`summed_loss`), gradients are computed in the forward pass, from logits that are
there anyway; results for each token (`token_losses`) recompute them in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from triptych.ops.accumulation import SLICE_ROWS, Accumulation, add

CHUNK_TOKENS = 512
PAGE_BYTES = 4096  # of x86-64 and most of ARM
LINE_BYTES = 64  # of a cache, and of a vector of AVX-512


class Settings(NamedTuple):
    """How logits are formed and what a token costs."""

    dtype: torch.dtype
    softcap: float | None = None
    temperature: float = 1.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    entropy: bool = False  # whether token statistics have it
    by_engine: bool = False  # whether the engine reads logits as they are multiplied

    @property
    def wide(self) -> torch.dtype:
        """Type of losses and sums: float32, or that of products in float64."""
        return torch.promote_types(self.dtype, torch.float32)

    def shape(self, vocab_size: int) -> tuple[int, float | None, float]:
        """How the engine makes logits of what was multiplied."""
        return vocab_size, self.softcap, self.temperature


def counted_rows(counted: Tensor) -> Tensor | None:
    """Indices of the counted tokens, or None if all are."""
    return None if bool(counted.all()) else counted.nonzero().squeeze(1)


def pick(x: Tensor, rows: Tensor | None) -> Tensor:
    """Those rows of x; x itself if all count."""
    return x if rows is None else x.index_select(0, rows)


def place(values: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    """Puts values back where their rows were picked, among zeros; shaped as `like`."""
    if rows is None:
        return values
    zeros = torch.zeros(like.shape, dtype=values.dtype, device=values.device)
    return zeros.index_copy(0, rows, values)


class Chunk(NamedTuple):
    """Logits of at most `CHUNK_TOKENS` tokens, in a buffer that the next one reuses."""

    span: slice
    hidden: Tensor  # (chunk, hidden_size), in the dtype of the matrix products
    logits: (
        Tensor  # (chunk, V), to be overwritten: wide, or for the engine as multiplied
    )
    slope: (
        Tensor | None
    )  # (chunk, V) d logit / d raw logit, under a soft-cap of PyTorch


def chunks(
    hidden: Tensor, weight: Tensor, settings: Settings, memory: Accumulation
) -> Iterator[Chunk]:
    """Logits chunk by chunk; `weight` is in the dtype of the matrix products."""
    vocab_size = weight.shape[0]
    shape = (min(CHUNK_TOKENS, hidden.shape[0]), _apart(vocab_size, weight.dtype))
    product = memory.borrow(weight, shape, weight.dtype)
    is_wide = weight.dtype == settings.wide or settings.by_engine
    buffer = product if is_wide else torch.empty_like(product, dtype=settings.wide)
    for start in range(0, hidden.shape[0], CHUNK_TOKENS):
        span = slice(start, min(start + CHUNK_TOKENS, hidden.shape[0]))
        part = hidden[span].to(weight.dtype)
        raw = torch.mm(part, weight.T, out=product[: part.shape[0], :vocab_size])
        logits = buffer[: part.shape[0], :vocab_size]
        if not is_wide:
            logits.copy_(raw)
        slope = None if settings.by_engine else _cap(logits, settings)
        yield Chunk(span, part, logits, slope)
    memory.give_back(product)


def _apart(vocab_size: int, dtype: torch.dtype) -> int:
    """Numbers from one row of logits to the next.

    Rows whole pages apart, of vocabularies of powers of two, fall on the same lines of a cache:
    float32 products with 32,768 to 131,072 rows of a weight took 10 to 20 % longer.
    """
    is_aligned = not vocab_size * dtype.itemsize % PAGE_BYTES
    return vocab_size + LINE_BYTES // dtype.itemsize if is_aligned else vocab_size


def _cap(logits: Tensor, settings: Settings) -> Tensor | None:
    """Applies soft-cap and temperature in place; returns the slope of the cap."""
    slope = None
    if settings.softcap is not None:
        logits.div_(settings.softcap).tanh_()
        slope = 1.0 - logits.square()
        logits.mul_(settings.softcap)
    if settings.temperature != 1.0:
        logits.div_(settings.temperature)
    return slope


class Gradients:
    """Gradients of hidden states and weight, summed chunk by chunk, wide."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        settings: Settings,
        needed: list[bool],
        memory: Accumulation,
    ) -> None:
        self.weight, self.settings, self.memory = weight, settings, memory
        self.of_hidden = torch.empty_like(hidden) if needed[0] else None
        self.of_weight: Tensor | None = None
        self.product: Tensor | None = None  # of some rows, before it is added
        self.wants_weight = needed[1]

    def add(self, chunk: Chunk, of_logits: Tensor) -> None:
        """Takes in d loss / d logits (chunk, V), which may be overwritten."""
        if chunk.slope is not None:
            of_logits.mul_(chunk.slope)
        if self.settings.temperature != 1.0 and not self.settings.by_engine:
            of_logits.div_(self.settings.temperature)
        narrow = of_logits.to(self.weight.dtype)
        if self.of_hidden is not None:
            self.of_hidden[chunk.span] = narrow @ self.weight
        if self.wants_weight:
            self._add_to_weight(narrow.T, chunk.hidden)

    def _add_to_weight(self, left: Tensor, right: Tensor) -> None:
        is_first = self.of_weight is None
        if self.of_weight is None:
            self.of_weight = self._matrix(self.settings.wide, self.weight.shape[0])
        if left.dtype == self.settings.wide and is_first:
            torch.mm(left, right, out=self.of_weight)
            return
        if left.dtype == self.settings.wide:
            self.of_weight.addmm_(left, right)
            return
        for start in range(0, left.shape[0], SLICE_ROWS):
            rows = slice(start, start + SLICE_ROWS)
            self._add_rows(self.of_weight[rows], left[rows], right, is_first)

    def _add_rows(
        self, sums: Tensor, left: Tensor, right: Tensor, is_first: bool
    ) -> None:
        if self.product is None:
            self.product = self._matrix(left.dtype, left.shape[0])
        product = torch.mm(left, right, out=self.product[: left.shape[0]])
        if is_first:
            sums.copy_(product)
        else:
            add(sums, product)

    def _matrix(self, dtype: torch.dtype, num_rows: int) -> Tensor:
        shape = num_rows, self.weight.shape[1]
        return self.memory.borrow(self.weight, shape, dtype)

    def weight_gradient(self) -> Tensor | None:
        """The sum for the weight; None if nobody asks."""
        if self.wants_weight and self.of_weight is None:  # there was no token
            return torch.zeros_like(self.weight, dtype=self.settings.wide)
        if self.product is not None:
            self.memory.give_back(self.product)
        return self.of_weight


class Context(FunctionCtx):
    """What is kept from a forward pass for its backward pass."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    gradients: tuple[Tensor | None, Tensor | None] | None
    weight: Tensor
    memory: Accumulation
    settings: Settings
    roots: tuple[Tensor, ...]
