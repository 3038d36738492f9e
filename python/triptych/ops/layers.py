"""The small operators between the matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """X / rms(x) * weight over the last dimension, computed in float32.

    Zhang & Sennrich 2019, eq. 4. The result has the dtype of x.
    """
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)


def rotary_tables(
    position_ids: Tensor, head_dim: int, theta: float
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., 1, head_dim / 2) of position_ids (...), in float32.

    Pair i turns by position * theta ** (-2 i / head_dim) (Su et al. 2021, eq. 15).
    The 1 stands for the heads, which all turn alike.
    """
    exponents = torch.arange(0, head_dim, 2, device=position_ids.device).float()
    frequencies = 1.0 / theta ** (exponents / head_dim)
    angles = position_ids[..., None].float() * frequencies
    return angles.cos()[..., None, :], angles.sin()[..., None, :]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns x (..., heads, head_dim); pair i is dimensions i and i + head_dim / 2.

    That is the layout of Hugging Face checkpoints, not the paper's neighbours.
    """
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return turned.to(x.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020, eq. 6)."""
    return F.silu(gate) * up
