"""Powers of two that keep fp16 gradients of logits where they have all their digits.

1/N of a mean puts them below fp16's smallest normal, 6e-5. So each token's are brought near
1 before they are rounded: by a factor of its own, or its bits, and with a far heavier token
beside it its digits, would depend on what the others weigh. Other dtypes need none.
"""

import torch
from torch import Tensor


def coefficients_and_scales(
    grads: tuple[Tensor, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(k, N) fp32 upstream gradients that are there, and (N,) factors taken out of them."""
    rows = torch.stack([g.float() for g in grads if g.numel()])
    if dtype != torch.float16:
        return rows, rows.new_ones(rows.shape[1])
    scales = rows.abs().amax(0).clamp_min(1e-30).log2().ceil().exp2()
    return rows / scales, scales


def weighed(hidden: Tensor, shares: Tensor) -> Tensor:
    """Hidden states (N, D) of fp16 times shares (N,), powers of two; others as they are."""
    if hidden.dtype != torch.float16:
        return hidden
    return torch.mul(hidden, shares[:, None], out=torch.empty_like(hidden))
