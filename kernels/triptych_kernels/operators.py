"""Kernels as operators of torch: a schema, a launch, shapes and a gradient.

As torch.library.custom_op makes them, but in fewer layers of Python, which the host goes
through at every call: 20 microseconds instead of 70 where a gradient is wanted, 13 instead
of 29 elsewhere (AMD EPYC, torch 2.15). What a launch returns must not share memory with
what it was given; `opcheck` in the tests sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from triptych_kernels.once import once_differentiable

NAMESPACE = "triptych"
LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]

Launch = Callable[..., Any]
SetupContext = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]


def operator(name: str) -> Callable[[Launch], Any]:
    """Registers a launch, whose annotations are the schema; returns the operator."""

    def register(launch: Launch) -> Any:
        schema = torch.library.infer_schema(launch, mutates_args=())
        LIBRARY.define(  # type: ignore[no-untyped-call]
            name + schema, tags=(torch.Tag.pt2_compliant_tag,)
        )
        _implement(name, on_device(launch), "CompositeExplicitAutograd")
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    return register


def shapes_of(operator: Any) -> Callable[[Launch], Launch]:
    """Registers what makes empty results, for tracing."""

    def register(fake: Launch) -> Launch:
        torch.library.register_fake(operator, fake, lib=LIBRARY)
        return fake

    return register


def differentiate(
    operator: Any,
    backward: Backward,
    setup_context: SetupContext,
    *,
    twice: bool = False,
) -> None:
    """Registers the gradient, as torch.library.register_autograd does.

    The gradient of a gradient is an error: torch would take zeros for it. But with
    ``twice``, where the backward is made of operators that have gradients.
    """
    defaults = tuple(argument.default_value for argument in operator._schema.arguments)

    class Differentiated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = _undifferentiated(*inputs)
            setup_context(ctx, inputs, output)
            return output

    def _undifferentiated(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    def called(*inputs: Any) -> Any:
        inputs += defaults[len(inputs) :]  # torch leaves those at the end out
        if forward_ad._current_level >= 0:
            _refuse_tangents(inputs)
        if torch.is_grad_enabled() and any(map(_wants_gradient, inputs)):
            return Differentiated.apply(*inputs)
        return _undifferentiated(*inputs)

    if not twice:
        backward = once_differentiable(backward)
    Differentiated.backward = staticmethod(backward)  # type: ignore[method-assign]
    _implement(operator._opname, called, "Autograd")


def _implement(name: str, function: Launch, key: str) -> None:
    LIBRARY.impl(name, function, key)  # type: ignore[no-untyped-call]


def _wants_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _refuse_tangents(inputs: tuple[Any, ...]) -> None:
    """Below autograd they would be lost, and zeros taken for the derivative."""
    unpacked: Callable[[Tensor], Any] = forward_ad.unpack_dual
    tensors = (x for x in inputs if isinstance(x, Tensor))
    if any(unpacked(x).tangent is not None for x in tensors):
        raise RuntimeError(
            "this operator has a gradient in reverse mode alone: a derivative in forward "
            "mode (torch.func.jvp, dual numbers) needs operators of plain PyTorch"
        )


def on_device(launch: Launch) -> Launch:
    """Makes the device of the first tensor current: Triton launches on that one."""

    @wraps(launch)
    def launching(*args: Any) -> Any:
        first = next(x for x in args if isinstance(x, Tensor))
        with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
            return launch(*args)

    return launching
