"""Gradients that have no gradient of their own, and say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_REFUSAL = (
    b"this operator has a gradient, but that has none of its own: a penalty "
    b"on gradients needs operators of plain PyTorch"
)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes whoever differentiates what `backward` gives meet an error.

    torch's own decorator of the name refuses only where the gradient from above requires
    one: below a plain sum, what a penalty on gradients adds would be left out unsaid.
    """

    @wraps(backward)
    def once(ctx: Any, *upstream: Tensor) -> Any:
        with torch.no_grad():
            found = backward(ctx, *upstream)
        if not torch.is_grad_enabled():  # only `create_graph` enables it here
            return found
        if isinstance(found, tuple):
            return _refusing(found)
        return _refusing((found,))[0]

    return once


def _refusing(found: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The same numbers, which raise an error where they are differentiated."""
    aliases = [None if x is None else x.detach().requires_grad_() for x in found]
    refusal: Any = torch._C._functions.DelayedError(_REFUSAL, len(found))
    marked: tuple[Tensor | None, ...] = refusal(*aliases)
    return marked
