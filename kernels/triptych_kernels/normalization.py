"""Root-mean-square normalization, alone or of a sum with the residual stream.

Memory decides its time: forward and backward read each input once and write each
output once. The backward recomputes the normalized rows from the inputs and one number
a row.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from math import prod
from typing import Any, overload

import torch
import triton.language as tl
from torch import Tensor

from triptych_kernels import normalization_kernels as kernels
from triptych_kernels.configs import cdiv, next_power_of_2, normalization_tile
from triptych_kernels.operators import differentiate, operator, shapes_of

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
MAX_WIDTH = 16384
CASTINGS = ("llama", "gemma", "none")


@overload
def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float = ...,
    *,
    residual: None = ...,
    casting: str = ...,
) -> Tensor: ...
@overload
def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float = ...,
    *,
    residual: Tensor,
    casting: str = ...,
) -> tuple[Tensor, Tensor]: ...
def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float = 1e-6,
    *,
    residual: Tensor | None = None,
    casting: str = "none",
) -> Tensor | tuple[Tensor, Tensor]:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimension.

    Zhang & Sennrich 2019, eq. 4. Always computed in fp32 (fp64 for fp64 inputs).

    Args:
        x: (..., D) of fp64, fp32, fp16 or bf16, D <= 16384.
        weight: (D,), of any of these dtypes.
        eps: added to the mean square.
        residual: shaped as x; it is added first, and the sum is what is normalized.
        casting: "none" rounds once, at the end; "llama" rounds to x's dtype before
            the weight multiplies, as Hugging Face's Llama does; "gemma" rounds once
            and multiplies by ``1 + weight``.

    Returns:
        (..., D) of x's dtype. With a residual also ``x + residual``, rounded to the
        residual's dtype: (normalized, sum).
    """
    _check_inputs(x, weight, residual, casting)
    y, total, _ = _rms_norm(x, weight, residual, eps, casting)
    return y if residual is None else (y, total)


def _check_inputs(
    x: Tensor, weight: Tensor, residual: Tensor | None, casting: str
) -> None:
    if x.ndim < 1 or not 1 <= x.shape[-1] <= MAX_WIDTH or x.dtype not in DTYPES:
        raise ValueError(
            f"x must be (..., width <= {MAX_WIDTH}) of float64, float32, float16 or "
            f"bfloat16, found {tuple(x.shape)} of {x.dtype}"
        )
    if weight.shape != x.shape[-1:]:
        raise ValueError(
            f"weight must have shape ({x.shape[-1]},), found {tuple(weight.shape)}"
        )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"residual must have x's shape {tuple(x.shape)}, "
            f"found {tuple(residual.shape)}"
        )
    if casting not in CASTINGS:
        raise ValueError(f"casting must be one of {CASTINGS}, found `{casting}`")


@operator("rms_norm")
def _rms_norm(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float, casting: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized rows, x + residual (or (0,)), and (rows,) 1 / root mean square."""
    y, total, rstd = _empty_results(x, residual)
    if x.numel() == 0:
        return y, total, rstd
    rows = _rows(x)
    added = rows if residual is None else _rows(residual)
    tile = normalization_tile("forward", x.shape[-1])
    kernels.forward_kernel[(cdiv(rows.shape[0], tile.rows),)](
        rows, added, weight.contiguous(), y, total, rstd, *rows.shape, rows.stride(0),
        added.stride(0), eps, BLOCK_N=tile.rows, num_warps=tile.num_warps,
        **_constants(x, residual is not None, casting),
    )  # fmt: skip
    return y, total, rstd


@shapes_of(_rms_norm)
def _(
    x: Tensor, weight: Tensor, residual: Tensor | None, eps: float, casting: str
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_results(x, residual)


@operator("rms_norm_backward")
def _rms_norm_backward(
    grad_y: Tensor,
    grad_total: Tensor | None,
    x: Tensor,
    weight: Tensor,
    rstd: Tensor,
    casting: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of x, what was normalized, and of weight (D,)."""
    grad_x = x.new_empty(x.shape)
    grad_weight = weight.new_zeros(weight.shape)
    if x.numel() == 0:
        return grad_x, grad_weight
    rows, width = _rows(x), x.shape[-1]
    tile = normalization_tile("backward", width)
    num_partials = cdiv(rows.shape[0], tile.inner)
    partial = rstd.new_empty((num_partials, width))
    grad_y = grad_y.contiguous()
    more = grad_y if grad_total is None else grad_total.contiguous()
    kernels.backward_kernel[(num_partials,)](
        grad_y, more, rows, weight.contiguous(), rstd, grad_x, partial, *rows.shape,
        rows.stride(0), RUN=tile.inner, BLOCK_N=tile.rows, num_warps=tile.num_warps,
        **_constants(x, grad_total is not None, casting),
    )  # fmt: skip
    tile = normalization_tile("sum", width)
    kernels.sum_partials_kernel[(cdiv(width, tile.columns),)](
        partial, grad_weight, num_partials, width, BLOCK_P=tile.rows,
        BLOCK_D=tile.columns, num_warps=tile.num_warps,
    )  # fmt: skip
    return grad_x, grad_weight


@shapes_of(_rms_norm_backward)
def _(
    grad_y: Tensor,
    grad_total: Tensor | None,
    x: Tensor,
    weight: Tensor,
    rstd: Tensor,
    casting: str,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, residual, _, ctx.casting = inputs
    _, total, rstd = output
    ctx.dtypes = x.dtype, None if residual is None else residual.dtype
    ctx.save_for_backward(x if residual is None else total, weight, rstd)


def _backward(
    ctx: Any, grad_y: Tensor, grad_total: Tensor, _: Tensor
) -> tuple[Tensor | None, ...]:
    dtype, residual_dtype = ctx.dtypes
    grad_x, grad_weight = _rms_norm_backward(
        grad_y,
        None if residual_dtype is None else grad_total,
        *ctx.saved_tensors,
        ctx.casting,
    )
    grad_residual = None if residual_dtype is None else grad_x.to(residual_dtype)
    return grad_x.to(dtype), grad_weight, grad_residual, None, None


differentiate(_rms_norm, _backward, _setup_context)


def _empty_results(x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    total = x.new_empty(0) if residual is None else residual.new_empty(x.shape)
    # Not numel() of the shape: torch.compile would take the number of rows for a constant.
    rstd = x.new_empty(prod(x.shape[:-1]), dtype=_accumulator(x.dtype))
    return x.new_empty(x.shape), total, rstd


def _rows(x: Tensor) -> Tensor:
    """(N, D) rows of x, each contiguous; a view where it can be."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _constants(x: Tensor, has_residual: bool, casting: str) -> dict[str, Any]:
    """Compile-time arguments of both kernels."""
    return {
        "HAS_RESIDUAL": has_residual,
        "CAST_FIRST": casting == "llama",
        "OFFSET": 1.0 if casting == "gemma" else 0.0,
        "ACCUMULATOR": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "BLOCK_D": next_power_of_2(x.shape[-1]),
    }
