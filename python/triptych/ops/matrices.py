"""Products and rows of weight matrices, whose gradients are added in place where they may.

Outside of `accumulating` they are torch's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from triptych.ops.accumulation import Accumulation, current


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


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """X (..., inputs) times the transpose of weight (outputs, inputs): (..., outputs)."""
    accumulation, kind = current(), x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if not accumulation.adds(weight) or (dtype is None and x.dtype != weight.dtype):
        return F.linear(x, weight)
    product: Tensor = _Linear.apply(x, weight, dtype or x.dtype, accumulation)
    return product
