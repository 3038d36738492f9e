"""Attention and losses of a CPU as operators of torch, for torch.compile.

They go by the documents' ends and by the targets that count, numbers which a compiler
does not have: so it is shown an operator, and does not look inside. Forward is the eager
function; backward runs it again with a gradient, which costs one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from triptych.ops.accumulation import apart
from triptych_kernels.once import once_differentiable

Outputs = Tensor | tuple[Tensor, ...]

_LIBRARY = torch.library.Library("triptych", "FRAGMENT")  # type: ignore[no-untyped-call]


def traced(
    name: str, arguments: str, outputs: int, compute: Callable[..., Any]
) -> Callable[..., Any]:
    """An operator `triptych::name` that computes what `compute` does, on a CPU.

    Args:
        name: of the operator.
        arguments: its arguments, as torch's schemas have them.
        outputs: how many tensors it gives.
        compute: takes the arguments in order; differentiable in those of real numbers.
    """
    returns = ", ".join(["Tensor"] * outputs)
    gradients = f"{name}_backward"
    _define(name, f"({arguments}) -> ({returns})")
    _define(gradients, f"({arguments}, Tensor[] upstream, int[] places) -> Tensor[]")
    operator, backward = (
        getattr(torch.ops.triptych, x).default for x in (name, gradients)
    )
    # What they give back is all that a compiler is told of: they must not add to `grad`.
    alone = apart()(compute)
    _implement(name, lambda *inputs: _owned(alone(*inputs)))
    _implement(gradients, apart()(lambda *inputs: _gradients(compute, inputs)))
    torch.library.register_fake(backward, lambda *inputs: _alike(inputs), lib=_LIBRARY)
    function = _differentiable(operator, backward)
    _LIBRARY.impl(name, function.apply, "Autograd")  # type: ignore[no-untyped-call]
    return operator  # type: ignore[no-any-return]


def opaque(
    name: str, schema: str, compute: Callable[..., Any], shapes: Callable[..., Outputs]
) -> Callable[..., Any]:
    """An operator `triptych::name` of any device, without a gradient."""
    _define(name, schema)
    operator = getattr(torch.ops.triptych, name).default
    _LIBRARY.impl(name, compute, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    shapes_of(operator, shapes)
    return operator  # type: ignore[no-any-return]


def shapes_of(operator: Any, shapes: Callable[..., Outputs]) -> None:
    """Tells the compiler the shapes that an operator gives."""
    torch.library.register_fake(operator, shapes, lib=_LIBRARY)


def _define(name: str, schema: str) -> None:
    tags = (torch.Tag.pt2_compliant_tag,)
    _LIBRARY.define(name + schema, tags=tags)  # type: ignore[no-untyped-call]


def _implement(name: str, launch: Callable[..., Any]) -> None:
    _LIBRARY.impl(name, launch, "CPU")  # type: ignore[no-untyped-call]


def _owned(outputs: Outputs) -> Outputs:
    """In memory of their own, each, as what the compiler was told."""
    if isinstance(outputs, Tensor):
        return outputs.contiguous()
    return tuple(x.contiguous() for x in outputs)


def _reals(inputs: Sequence[Any]) -> list[int]:
    """Places of the arguments that may have a gradient."""
    return [
        place
        for place, x in enumerate(inputs)
        if isinstance(x, Tensor) and x.is_floating_point()
    ]


def _alike(inputs: Sequence[Any]) -> list[Tensor]:
    *arguments, _, places = inputs
    contiguous = torch.contiguous_format
    return [torch.empty_like(arguments[i], memory_format=contiguous) for i in places]


def _gradients(compute: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    *arguments, upstream, places = inputs
    for i in places:
        arguments[i] = arguments[i].detach().requires_grad_()
    leaves = [arguments[i] for i in places]
    # Below who records, autograd is left out: that is not what `enable_grad` gives back.
    autograd = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._SetExcludeDispatchKeyGuard(autograd, False), torch.enable_grad():
        found = compute(*arguments)
    outputs = (found,) if isinstance(found, Tensor) else tuple(found)
    gradients = torch.autograd.grad(outputs, leaves, upstream, materialize_grads=True)
    return [x.contiguous() for x in gradients]


def _differentiable(operator: Any, backward_operator: Any) -> Any:
    """The operator with its gradient."""

    class Traced(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                outputs = operator(*inputs)
            tensors = [x if isinstance(x, Tensor) else None for x in inputs]
            ctx.save_for_backward(*tensors)
            ctx.others = [None if isinstance(x, Tensor) else x for x in inputs]
            return outputs

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
            saved = zip(ctx.saved_tensors, ctx.others, strict=True)
            inputs = [other if x is None else x for x, other in saved]
            places = [i for i in _reals(inputs) if ctx.needs_input_grad[i]]
            found = backward_operator(*inputs, list(upstream), places)
            by_place = dict(zip(places, found, strict=True))
            return tuple(by_place.get(i) for i in range(len(inputs)))

    return Traced
