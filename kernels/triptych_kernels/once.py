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
    one: below a plain sum, what a penalty on gradients adds would be left out unsaid. And
    where gradients of chosen tensors are asked for, only what leads to them is run: the
    refusal leads where the saved tensors do, and `ctx.roots` if nothing is saved that does.
    """

    @wraps(backward)
    def once(ctx: Any, *upstream: Tensor) -> Any:
        if not torch.is_grad_enabled():  # only `create_graph` enables it here
            return backward(ctx, *upstream)
        unpacked = _Unpacked(ctx)
        with torch.no_grad():
            found = backward(unpacked, *upstream)
        roots = (*unpacked.saved_tensors, *upstream, *getattr(ctx, "roots", ()))
        if isinstance(found, tuple):
            return _refusing(found, roots)
        return _refusing((found,), roots)[0]

    return once


def roots(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Empty tensors that lead where the inputs of a `forward` lead; not their memory."""
    with torch.enable_grad():
        return tuple(x[:0].clone() for x in inputs if x.requires_grad)


class _Unpacked:
    """A context whose tensors are unpacked but once: a checkpoint refuses a second time."""

    def __init__(self, ctx: Any) -> None:
        vars(self).update(_ctx=ctx, saved_tensors=ctx.saved_tensors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ctx, name, value)


def _refusing(
    found: tuple[Tensor | None, ...], roots: tuple[Any, ...]
) -> tuple[Tensor | None, ...]:
    """The same numbers, which raise an error where they are differentiated."""
    aliases = [None if x is None else x.detach().requires_grad_() for x in found]
    leading = [x for x in roots if isinstance(x, Tensor) and x.requires_grad]
    refusal: Any = torch._C._functions.DelayedError(_REFUSAL, len(found) + len(leading))
    marked: tuple[Tensor | None, ...] = refusal(*aliases, *leading)
    return marked[: len(found)]
