"""What the passes of a step share, whose gradients add up.

Large matrices, the embedding and the output, cost a processor more in memory than in products:
a narrow copy, a gradient that is made, scaled and added, and pages that the system clears for
each. Within `accumulating` their narrow copies are made once, memory is used again, and
gradients are added where they belong. With a vocabulary of 32,768 at a width of 576, 1,024
tokens a pass, that was a fifth of a step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from triptych import _core
from triptych.ops.arrays import LANES, array, dtype_obstacle

# Rows of a large matrix that are multiplied, or rounded, at a time: as fast as all of 32,768 at a
# width of 576, in 5 MB of bf16 instead of 38.
SLICE_ROWS = 4096


class Accumulation:
    """Memory and narrow weights for some passes; in one that is `alone`, for one only."""

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        self._narrow: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._free: dict[tuple[torch.Size, torch.dtype], list[Tensor]] = defaultdict(
            list
        )

    def adds(self, weight: Tensor) -> bool:
        """Whether gradients of a weight go straight to its `grad`.

        On a GPU rows would be added by atomics, in any order.
        """
        ours = weight.is_leaf and weight.requires_grad and weight.device.type == "cpu"
        return ours and not self.alone

    def narrow(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight in `dtype`, without a gradient."""
        if self.alone or weight.dtype == dtype:
            return weight.detach().to(dtype)
        key = id(weight), dtype
        if key not in self._narrow:  # with the weight itself, or its id might pass on
            self._narrow[key] = weight, weight.detach().to(dtype)
        return self._narrow[key][1]

    def borrow(
        self, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype
    ) -> Tensor:
        """Memory on the device of `like`, not cleared."""
        free = self._free[torch.Size(shape), dtype]
        return (
            free.pop() if free else torch.empty(shape, dtype=dtype, device=like.device)
        )

    def give_back(self, *borrowed: Tensor) -> None:
        """Lets others borrow what nobody reads any more."""
        if not self.alone:
            for x in borrowed:
                self._free[x.shape, x.dtype].append(x)

    @staticmethod
    def add(weight: Tensor, gradient: Tensor, factor: Tensor) -> None:
        """Adds factor * gradient, of the weight's shape, to its `grad`."""
        if weight.grad is None:
            weight.grad = scaled(gradient, factor, weight.dtype)
        else:
            weight.grad.add_(gradient, alpha=factor.item())

    def add_product(self, weight: Tensor, left: Tensor, right: Tensor) -> None:
        """Adds left @ right, of the weight's shape, to its `grad`; sums are of float32."""
        if weight.grad is None:
            weight.grad = (left @ right).to(weight.dtype)
        elif left.dtype == weight.dtype:
            weight.grad.addmm_(left, right)
        else:
            product = self.borrow(weight, tuple(weight.shape), left.dtype)
            add(weight.grad, torch.mm(left, right, out=product))
            self.give_back(product)

    @staticmethod
    def add_rows(weight: Tensor, rows: Tensor, gradients: Tensor) -> None:
        """Adds gradients (tokens, width) to the rows (tokens,) of its `grad`."""
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, rows, gradients.to(weight.dtype))


def scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient (rows, width) times a factor in `dtype`, without a whole copy in another."""
    if gradient.dtype == dtype:
        return gradient * factor
    found = torch.empty_like(gradient, dtype=dtype)
    for start in range(0, gradient.shape[0], SLICE_ROWS):
        rows = slice(start, start + SLICE_ROWS)
        found[rows] = gradient[rows] * factor
    return found


def add(sums: Tensor, numbers: Tensor) -> None:
    """Adds bf16 to float32, which torch does by way of a wide copy; the same bits."""
    by_engine = numbers.dtype == torch.bfloat16 and sums.dtype == torch.float32
    if by_engine and sums.numel() % LANES == 0 and not dtype_obstacle(numbers):
        _core.add_narrow(array(sums), array(numbers), torch.get_num_threads())
    else:
        sums.add_(numbers)


_CURRENT: ContextVar[Accumulation | None] = ContextVar("accumulation", default=None)


@contextmanager
def accumulating() -> Iterator[None]:
    """Within it, each loss and embedding is followed by one `backward()`.

    Weights must not change meanwhile, and their gradients appear in `grad` alone: hooks of
    theirs and `torch.autograd.grad` do not see all.
    """
    token = _CURRENT.set(Accumulation())
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """Within it calls share nothing with others, wherever they are made."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Accumulation:
    """The one we are in, or one for the present call."""
    found = None if torch.compiler.is_compiling() else _CURRENT.get()
    return Accumulation(alone=True) if found is None else found
