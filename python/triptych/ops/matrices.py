"""Products and rows of weight matrices.

Within `accumulating` their gradients are added in place where they may be, within `decoding`
products of a few rows read the matrix as fast as memory gives it; else they are torch's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from triptych import _core
from triptych.ops.accumulation import Accumulation, current
from triptych.ops.arrays import (
    array,
    autocast_dtype,
    dtype_obstacle,
    engine_obstacle,
    is_autocast,
)
from triptych.ops.choice import implementation
from triptych_kernels.once import once_differentiable

# As of rust/cpu/src/few.rs.
MOST_FEW_ROWS = 8
WIDTH_STEP = 32


class _Context(FunctionCtx):
    """What is kept from a forward pass for its backward pass."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    weight: Tensor
    accumulation: Accumulation


class _Embedding(torch.autograd.Function):
    """Rows, whose gradients are added to those rows of the weight's `grad`."""

    @staticmethod
    def forward(
        ctx: _Context, ids: Tensor, weight: Tensor, accumulation: Accumulation
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.accumulation = weight, accumulation
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        rows = _flat(upstream)
        ctx.accumulation.add_rows(ctx.weight, ids.reshape(-1), rows)
        return None, None, None


class _Linear(torch.autograd.Function):
    """x @ weight.T in the weight's narrow type."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        weight: Tensor,
        dtype: torch.dtype,
        accumulation: Accumulation,
    ) -> Tensor:
        rows = _flat(x).to(dtype)
        ctx.save_for_backward(rows)
        ctx.weight, ctx.accumulation = weight, accumulation
        product = rows @ accumulation.narrow(weight, dtype).T
        return product.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        of_rows = _flat(upstream)
        of_x = None
        if ctx.needs_input_grad[0]:
            narrow = ctx.accumulation.narrow(ctx.weight, rows.dtype)
            of_x = (of_rows @ narrow).view(*upstream.shape[:-1], narrow.shape[1])
        ctx.accumulation.add_product(ctx.weight, of_rows.T, rows)
        return of_x, None, None, None


def _flat(x: Tensor) -> Tensor:
    """The rows (n, width) of x (..., width), of which there may be none."""
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """Rows `ids` (..., int64) of weight (vocab_size, width): (..., width)."""
    accumulation = current()
    if not accumulation.adds(weight):
        return F.embedding(ids, weight)
    rows: Tensor = _Embedding.apply(ids, weight, accumulation)
    return rows


_DECODES = ContextVar("decodes", default=False)


@contextmanager
def decoding() -> Iterator[None]:
    """Lets a kernel for few rows make products on a CPU, without gradients.

    It looks at weights as arrays, whose memory torch can then no longer resize: not for
    those that FSDP gathers.
    """
    before = _DECODES.set(True)
    try:
        with torch.no_grad():
            yield
    finally:
        _DECODES.reset(before)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X (..., inputs) times the transpose of weight (outputs, inputs), plus a bias.

    Returns:
        (..., outputs).
    """
    if _DECODES.get() and _is_few(x, weight):
        few = _few(x, weight)
        return few if bias is None else few + bias
    if bias is not None:
        return F.linear(x, weight, bias)
    accumulation = current()
    is_mixed = x.dtype != weight.dtype and not is_autocast(x)
    if is_mixed or not accumulation.adds(weight):
        return F.linear(x, weight)
    product: Tensor = _Linear.apply(x, weight, autocast_dtype(x), accumulation)
    return product


def _is_few(x: Tensor, weight: Tensor) -> bool:
    kind = x.device.type
    num_rows = x.shape[:-1].numel()
    if kind != "cpu" or not 0 < num_rows <= MOST_FEW_ROWS:
        return False
    if x.dtype != weight.dtype or is_autocast(x):
        return False
    obstacle = engine_obstacle(dtype_obstacle, x)
    return not x.shape[-1] % WIDTH_STEP and (
        implementation("linear", kind, (obstacle,)) == "rust"
    )


def _few(x: Tensor, weight: Tensor) -> Tensor:
    product = x.new_empty((*x.shape[:-1], weight.shape[0]))
    num_rows = x.shape[:-1].numel()
    _core.multiply_few(
        array(x.contiguous()),
        array(weight.contiguous()),
        array(product),
        num_rows,
        torch.get_num_threads(),
    )
    return product
