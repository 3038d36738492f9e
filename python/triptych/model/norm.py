"""The norm of every family."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triptych import ops
from triptych.model.config import ModelConfig


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019), in float32 inside.

    It starts as the identity of what is normalised: weights are 1, or 0 in families
    that multiply by 1 + weight.
    """

    def __init__(self, config: ModelConfig, size: int) -> None:
        super().__init__()
        one_plus = config.family.one_plus_norms
        self.weight = nn.Parameter(torch.zeros(size) if one_plus else torch.ones(size))
        self.eps = config.rms_norm_eps
        self.casting = "gemma" if one_plus else "none"

    def forward(self, x: Tensor, narrow: bool = False) -> Tensor:
        """Normalises the last dimension of x (..., size); keeps its dtype.

        `narrow`: only matrix products read it, see `ops.rms_norm`.
        """
        return ops.rms_norm(
            x, self.weight, self.eps, casting=self.casting, narrow=narrow
        )
