"""Matrices made orthogonal by a few products, as Muon's updates are."""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.ops.choice import implementation, kernel
from triptych_kernels.polar_iterations import SAFETY, coefficients

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def orthogonalize(
    matrices: Tensor,
    *,
    steps: int = 5,
    method: str = "newton-schulz",
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """About U V' of the decomposition U S V' of each matrix; without a gradient.

    Args:
        matrices: (..., rows, columns).
        steps: iterations.
        method: `newton-schulz` (Jordan et al. 2024) ends between 0.7 and 1.2 after
            five, which serves Muon as well as 1; `polar-express` (Amsel et al. 2025)
            goes on to 1.
        dtype: of the products: float32, float16 or bfloat16.

    Returns:
        (..., rows, columns) in the dtype of `matrices`.
    """
    _check(matrices, steps, dtype)
    name = implementation("orthogonalize", matrices.device.type)
    if name == "cpu":
        return _plain(matrices, steps, method, dtype)
    function = kernel("orthogonalize", name)
    result: Tensor = function(matrices, steps=steps, method=method, dtype=dtype)
    return result


def _check(matrices: Tensor, steps: int, dtype: torch.dtype) -> None:
    if matrices.dim() < 2:
        raise ValueError(
            f"matrices: expected (..., rows, columns), found {tuple(matrices.shape)}"
        )
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, found {steps}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {DTYPES}, found {dtype}")


@torch.no_grad()
def _plain(matrices: Tensor, steps: int, method: str, dtype: torch.dtype) -> Tensor:
    """Each iteration is three products of the batch, sums done by the products."""
    if matrices.numel() == 0:
        return matrices.clone()
    x = matrices.reshape(-1, *matrices.shape[-2:])
    wide = x.shape[1] <= x.shape[2]
    # Summed in fp64: the squares of entries of 1e19 and more are infinite in fp32.
    norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float64)
    norms = norms.to(torch.promote_types(x.dtype, torch.float32))
    norms = norms * (SAFETY if method == "polar-express" else 1.0)
    x = (x / norms.clamp_min(1e-7)).to(dtype)
    x = x if wide else x.mT
    for a, b, c in coefficients(steps, method):
        gram = x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, factor, x, beta=a)
    result = x if wide else x.mT
    return result.reshape(matrices.shape).to(matrices.dtype)
