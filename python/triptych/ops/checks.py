"""Arguments that no implementation of an operator can serve, refused alike by all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

INTEGERS = (torch.int32, torch.int64)
CASTINGS = ("none", "llama", "gemma")


def above_zero(name: str, value: float | None) -> None:
    """Refuses a factor or cap that is not a positive number; None is none."""
    if value is not None and not 0.0 < value < math.inf:
        raise ValueError(f"{name}: expected a number above 0, found {value}")


def number(name: str, value: float | None) -> None:
    """Refuses what is infinite or no number; None is none."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name}: expected a number, found {value}")


def sinks(x: Tensor | None, heads: int) -> None:
    """Refuses logits that are not one a head."""
    if x is not None and x.shape != (heads,):
        raise ValueError(f"sinks: expected ({heads},), found {tuple(x.shape)}")


def share(name: str, value: float, *, whole: bool) -> None:
    """Refuses what is not in [0, 1], or without `whole` not in [0, 1)."""
    if not 0.0 <= value <= 1.0 or (value == 1.0 and not whole):
        interval = "[0, 1]" if whole else "[0, 1)"
        raise ValueError(f"{name}: expected in {interval}, found {value}")


def at_least_zero(name: str, value: float) -> None:
    """Refuses what is negative, infinite or no number."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name}: expected at least 0, found {value}")


def at_least_one_key(window: int | None) -> None:
    """Refuses a window of nothing."""
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"window: expected at least 1 key, found {window}")


def integers(name: str, x: Tensor, shape: str) -> None:
    """Refuses ids or places of another type, or not in one row."""
    if x.dim() != 1 or x.dtype not in INTEGERS:
        raise ValueError(
            f"{name}: expected {shape} of int32 or int64, found {tuple(x.shape)} of "
            f"{x.dtype}"
        )


def boundaries(values: Sequence[int], tokens: int) -> None:
    """Refuses documents that do not cover the tokens, each once."""
    ends = (values[0], values[-1]) if values else ("nothing", "nothing")
    if ends != (0, tokens):
        raise ValueError(
            f"cu_seqlens: expected to run from 0 to {tokens} tokens, found {ends[0]} to "
            f"{ends[1]}"
        )
    falls = next((pair for pair in pairwise(values) if pair[1] < pair[0]), None)
    if falls is not None:
        raise ValueError(
            f"cu_seqlens: expected places that never fall, found {falls[1]} behind "
            f"{falls[0]}"
        )


def casting(name: str) -> None:
    """Refuses a way to round that there is not."""
    if name not in CASTINGS:
        known = '"none", "llama" or "gemma"'
        raise ValueError(f'casting: expected {known}, found "{name}"')
