"""Rotation on a CPU, with its gradient by hand.

Each pass over the numbers costs, and autograd takes more of them than there need be:
forward and backward of 512 tokens of 12 heads of 64 took 1.55 ms, and take 1.0 (two cores
of an Intel Xeon, torch 2.15). The norm won a third in the same way and is not here: a sum
of squares by another kernel than transformers' moves the logits of a model with large
weights by 1.7e-5 of the largest, more than an export may be off.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from triptych_kernels.once import once_differentiable

# Of x, cosines, sines and the sign of the angle.
Turned = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class _Context(FunctionCtx):
    """What is kept from a forward pass for its backward pass."""

    saved_tensors: tuple[Tensor, ...]
    turned: Turned


class _Turn(torch.autograd.Function):
    """Pairs turned by their angles; the gradient is turned back."""

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, cos: Tensor, sin: Tensor, turned: Turned
    ) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.turned = turned
        return turned(x, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return ctx.turned(upstream, cos, sin, -1.0), None, None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (a, b) = turned.chunk(2, dim=-1), x.chunk(2, dim=-1)
    torch.mul(a, cos, out=first).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=second).addcmul_(a, sin, value=sign)
    return turned


def turn(x: Tensor, cos: Tensor, sin: Tensor, by: Turned = _turned) -> Tensor:
    """X (..., heads, head_dim), pair i being dimensions i and i + head_dim / 2.

    `by` turns x, by 1 forward and by -1 back.
    """
    turned: Tensor = _Turn.apply(x, cos, sin, by)
    return turned
