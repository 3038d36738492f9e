"""Activation checkpointing: what the backward pass computes again instead of keeping.

Chen et al. 2016. Results are the same bit for bit: what is computed again is computed
by the same operators from the same numbers, and no layer draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from triptych.errors import ConfigError

# Calls a layer on its input and whatever else it reads.
LayerCall = Callable[..., Tensor]

# Kept by `selective`: matrix products and attention, whose time is that of the layer.
# What is left (norms, rotation, activations) reads memory once and costs next to nothing.
_KEPT = ("mm", "addmm", "bmm")


def _plain(layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return layer(*arguments)


def _full(layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Keeps a layer's input only: a forward pass more, about a third of the time."""
    output: Tensor = checkpoint(
        layer, *arguments, use_reentrant=False, preserve_rng_state=False
    )
    return output


def _selective(layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
    output: Tensor = checkpoint(
        layer,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(create_selective_checkpoint_contexts, _policy),
    )
    return output


def _policy(_context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    save, again = CheckpointPolicy.MUST_SAVE, CheckpointPolicy.PREFER_RECOMPUTE
    return save if kept_by_selective(operator) else again


def kept_by_selective(operator: Any) -> bool:
    """Whether `selective` keeps what an operator returned, beside a layer's input."""
    name = str(getattr(operator, "_opname", operator))
    return name in _KEPT or "attention" in name


_CALLS: dict[str, LayerCall] = {
    "none": _plain,
    "selective": _selective,
    "full": _full,
}


def layer_call(name: str, compiled: LayerCall | None = None) -> LayerCall:
    """How layers are called under `none`, `selective` or `full`.

    Args:
        name: one of these.
        compiled: computes a layer in its stead where gradients are wanted. The compiler
            then does what `selective` does: of what lies between matrix products it
            keeps nothing that it can compute again.

    Raises:
        ConfigError: the name is none of these.
    """
    if name not in _CALLS:
        expected = ", ".join(f"`{known}`" for known in _CALLS)
        raise ConfigError(f"recompute: expected one of {expected}, found `{name}`")
    if compiled is None:
        return _where_learning(_CALLS[name])
    if name != "full":
        return _where_learning(compiled)
    return _where_learning(partial(_full, compiled))


def _where_learning(call: LayerCall) -> LayerCall:
    """`call`, and plainly where no gradient is wanted: there is nothing to keep."""
    return partial(_called, call)  # of functions with names: a model can be pickled


def _called(call: LayerCall, layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return call(layer, *arguments) if torch.is_grad_enabled() else layer(*arguments)
