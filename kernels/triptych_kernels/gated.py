"""Gated activations of the feed-forward layer, one elementwise kernel each way.

Only gate and up are kept; the backward computes the activation again, which costs
nothing beside the bytes it would take to read it.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from triptych_kernels import gated_kernels as kernels
from triptych_kernels.configs import cdiv, gated_tile
from triptych_kernels.operators import differentiate, operator, shapes_of

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
GELUS = {"none": "gelu", "tanh": "gelu_tanh"}


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up`` (Shazeer 2020, eq. 6).

    Computed in fp32 (fp64 for fp64 inputs) and rounded once, as are the others here.

    Args:
        gate: of any shape; fp64, fp32, fp16 or bf16. Halves of a fused projection
            are read in place.
        up: of gate's shape and dtype.
    """
    return _gated_of(gate, up, "silu")


def geglu(gate: Tensor, up: Tensor, *, approximate: str = "none") -> Tensor:
    """``gelu(gate) * up`` (Shazeer 2020, eq. 6).

    Args:
        gate: as for `swiglu`.
        up: of gate's shape and dtype.
        approximate: "none" is the Gaussian's own distribution function, "tanh" the
            approximation of Gemma and GPT-2 (Hendrycks & Gimpel 2016).
    """
    if approximate not in GELUS:
        raise ValueError(f'approximate must be "none" or "tanh", found "{approximate}"')
    return _gated_of(gate, up, GELUS[approximate])


def relu2(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """``relu(gate)^2``, times ``up`` if it is given (So et al. 2021).

    Args:
        gate: as for `swiglu`.
        up: of gate's shape and dtype, or None.
    """
    return _gated_of(gate, up, "relu2")


def _gated_of(gate: Tensor, up: Tensor | None, activation: str) -> Tensor:
    if gate.dtype not in DTYPES:
        raise ValueError(
            f"gate must be of float64, float32, float16 or bfloat16, found {gate.dtype}"
        )
    if up is not None and (up.shape != gate.shape or up.dtype != gate.dtype):
        raise ValueError(
            f"up must be as gate, {tuple(gate.shape)} of {gate.dtype}, "
            f"found {tuple(up.shape)} of {up.dtype}"
        )
    out: Tensor = _gated(gate, up, activation)
    return out


@operator("gated")
def _gated(gate: Tensor, up: Tensor | None, activation: str) -> Tensor:
    """``activation(gate) * up``, contiguous."""
    out = gate.new_empty(gate.shape)
    if out.numel() == 0:
        return out
    gate_rows, up_rows = _rows(gate, up)
    grid, constants = _launch(gate, gate_rows, up is not None, activation)
    kernels.forward_kernel[grid](
        gate_rows, up_rows, out, gate_rows.shape[1], gate_rows.stride(0),
        up_rows.stride(0), **constants,
    )  # fmt: skip
    return out


@shapes_of(_gated)
def _(gate: Tensor, up: Tensor | None, activation: str) -> Tensor:
    return gate.new_empty(gate.shape)


@operator("gated_backward")
def _gated_backward(
    grad_out: Tensor, gate: Tensor, up: Tensor | None, activation: str
) -> tuple[Tensor, Tensor]:
    """Gradients of gate, and of up or (0,)."""
    grad_gate, grad_up = _empty_gradients(gate, up)
    if gate.numel() == 0:
        return grad_gate, grad_up
    gate_rows, up_rows = _rows(gate, up)
    grid, constants = _launch(gate, gate_rows, up is not None, activation)
    kernels.backward_kernel[grid](
        grad_out.contiguous(), gate_rows, up_rows, grad_gate, grad_up,
        gate_rows.shape[1], gate_rows.stride(0), up_rows.stride(0), **constants,
    )  # fmt: skip
    return grad_gate, grad_up


@shapes_of(_gated_backward)
def _(
    grad_out: Tensor, gate: Tensor, up: Tensor | None, activation: str
) -> tuple[Tensor, Tensor]:
    return _empty_gradients(gate, up)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    gate, up, ctx.activation = inputs
    ctx.save_for_backward(gate, up)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    gate, up = ctx.saved_tensors
    grad_gate, grad_up = _gated_backward(grad_out, gate, up, ctx.activation)
    return grad_gate, None if up is None else grad_up, None


differentiate(_gated, _backward, _setup_context)


def _empty_gradients(gate: Tensor, up: Tensor | None) -> tuple[Tensor, Tensor]:
    shape = torch.Size((0,)) if up is None else up.shape
    return gate.new_empty(gate.shape), gate.new_empty(shape)


def _rows(gate: Tensor, up: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N, D) gate and up with contiguous rows; one row where both are in one piece."""
    up = gate if up is None else up
    if gate.is_contiguous() and up.is_contiguous():
        return gate.view(1, -1), up.view(1, -1)
    rows = (x.reshape(-1, gate.shape[-1]) for x in (gate, up))
    gate, up = (x if x.stride(1) == 1 else x.contiguous() for x in rows)
    return gate, up


def _launch(
    gate: Tensor, rows: Tensor, has_up: bool, activation: str
) -> tuple[tuple[int], dict[str, Any]]:
    """Grid, and compile-time arguments of both kernels."""
    tile = gated_tile(gate)
    grid = (rows.shape[0] * cdiv(rows.shape[1], tile.columns),)
    return grid, {
        "ACTIVATION": activation,
        "HAS_UP": has_up,
        "ACCUMULATOR": tl.float64 if gate.dtype == torch.float64 else tl.float32,
        "BLOCK_D": tile.columns,
        "num_warps": tile.num_warps,
    }
