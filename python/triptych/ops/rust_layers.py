"""The layers between matrix products by the engine, for processors with AVX2 or AVX-512.

Each reads and writes every number once, forward and backward.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from triptych import _core
from triptych.ops import cpu_layers
from triptych.ops.arrays import LANES, array, dtype_obstacle
from triptych_kernels.once import once_differentiable


class _Context(FunctionCtx):
    """What is kept from a forward pass for its backward pass."""

    saved_tensors: tuple[Tensor, ...]
    plus: float


class _Norm(torch.autograd.Function):
    """x / rms(x) * (weight + plus), in bf16."""

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, weight: Tensor, eps: float, plus: float
    ) -> Tensor:
        x = x.contiguous()
        normed = torch.empty_like(x, dtype=torch.bfloat16)
        factors = torch.empty(x.shape[:-1])
        outputs = array(normed), array(factors)
        threads = torch.get_num_threads()
        _core.rms_norm(array(x), (_own(weight), plus), eps, outputs, threads)
        ctx.save_for_backward(x, weight, factors)
        ctx.plus = plus
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, factors = ctx.saved_tensors
        of_x, of_weight = torch.empty_like(x), torch.empty_like(weight)
        _core.rms_norm_slopes(
            array(x),
            (_own(weight), ctx.plus),
            (array(factors), array(upstream.contiguous())),
            (array(of_x), array(of_weight)),
            torch.get_num_threads(),
        )
        return of_x, of_weight, None, None


def _own(weight: Tensor) -> npt.NDArray[Any]:
    """A copy: memory that numpy has seen cannot be resized, which FSDP does to weights."""
    return array(weight.detach().clone())


def rms_norm(x: Tensor, weight: Tensor, eps: float, casting: str) -> Tensor:
    """`ops.rms_norm` of x in float32 or bf16, rounded to bf16."""
    plus = 1.0 if casting == "gemma" else 0.0
    normed: Tensor = _Norm.apply(x, weight, eps, plus)
    return normed


def norm_obstacle(x: Tensor, weight: Tensor, casting: str, narrow: bool) -> str:
    """Why the engine cannot norm x; empty if it can."""
    if casting == "llama":
        return "it rounds once"
    if weight.dtype != torch.float32:
        return f"weights are {weight.dtype}"
    if x.shape[-1] % LANES:
        return f"a width of {x.shape[-1]} is no multiple of {LANES}"
    if x.dtype == torch.float32 and not (narrow and _autocast_is_bf16()):
        return "its result is bf16"
    return dtype_obstacle(x) or dtype_obstacle(x, torch.bfloat16)


def _autocast_is_bf16() -> bool:
    bf16 = torch.bfloat16
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is bf16


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    x = x.contiguous()
    turned = torch.empty_like(x)
    angles = array(cos.contiguous()), array(sin.contiguous()), cos.shape[-1], sign
    _core.turn(array(x), array(turned), angles, torch.get_num_threads())
    return turned


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """X (..., heads, head_dim) by tables (..., 1, head_dim / 2) of float32."""
    return cpu_layers.turn(x, cos, sin, by=_turned)


def turn_obstacle(x: Tensor, cos: Tensor, sin: Tensor) -> str:
    """Why the engine cannot turn x; empty if it can."""
    if cos.dtype != torch.float32 or sin.dtype != torch.float32:
        return f"tables of {cos.dtype}"
    if x.shape[-1] % (2 * LANES):
        return f"a head dim of {x.shape[-1]} is no multiple of {2 * LANES}"
    return dtype_obstacle(x)


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up, rounded once."""

    @staticmethod
    def forward(ctx: _Context, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        gated = torch.empty_like(gate)
        threads = torch.get_num_threads()
        _core.swiglu([array(gate), array(up)], array(gated), threads)
        return gated

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        slopes = torch.empty_like(gate), torch.empty_like(up)
        inputs = gate, up, upstream.contiguous()
        _core.swiglu_slopes(
            [array(x) for x in inputs],
            [array(x) for x in slopes],
            torch.get_num_threads(),
        )
        return slopes


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`ops.swiglu`."""
    gated: Tensor = _SwiGLU.apply(gate, up)
    return gated


def gated_obstacle(gate: Tensor, up: Tensor) -> str:
    """Why the engine cannot multiply them; empty if it can."""
    if gate.shape != up.shape or gate.dtype != up.dtype:
        return "gate and up differ in shape or dtype"
    if gate.shape[-1] % LANES:
        return f"a width of {gate.shape[-1]} is no multiple of {LANES}"
    return dtype_obstacle(gate)
