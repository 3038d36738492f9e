"""What a mean over supervised tokens is divided by."""

import torch
from torch import Tensor

from triptych_kernels.operators import operator, shapes_of


@operator("count_supervised")
def count_supervised(targets: Tensor, ignore_index: int, vocab_size: int) -> Tensor:
    """() fp32 number of targets that are not ignored; at least 1, or ValueError."""
    supervised = targets != ignore_index
    outside = supervised & ((targets < 0) | (targets >= vocab_size))
    # One copy to the host for both numbers.
    count, wrong = torch.stack([supervised.sum(), outside.sum()]).tolist()
    if wrong:
        raise ValueError(
            f"targets must be in [0, {vocab_size}) or {ignore_index}: "
            f"found {wrong} outside"
        )
    if count == 0:
        raise ValueError(
            f"a mean needs at least one supervised token, found {targets.numel()} "
            f"targets, all equal to ignore_index ({ignore_index})"
        )
    return torch.full((), float(count), device=targets.device)


@shapes_of(count_supervised)
def _(targets: Tensor, ignore_index: int, vocab_size: int) -> Tensor:
    return targets.new_empty((), dtype=torch.float32)
