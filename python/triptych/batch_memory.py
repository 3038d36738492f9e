"""Memory for batches: used again as soon as nothing refers to it any more.

New memory costs more than what is written to it: 28 bytes a token, mapped page by page.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Any, TypeAlias

import numpy.typing as npt
import torch

Arrays: TypeAlias = tuple[npt.NDArray[Any], ...]

# Of `input_ids`, `labels`, `position_ids` and `weights`: what has an entry a token.
TOKEN_DTYPES = (torch.int64, torch.int64, torch.int64, torch.float32)
HELD_SETS = 4  # a batch in use, the next one, and two of another stage's size
GRAIN_TOKENS = 4096  # packed rows differ by some tokens: one size serves them all


class BatchMemory:
    """Gives arrays for the batches of one `OrderedRows`.

    Args:
        pinned: page-locked memory, from which a copy to a GPU need not be staged.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self._held: list[Arrays] = []
        self._finding = threading.Lock()  # between finding a set and referring to it

    def __reduce__(self) -> tuple[partial[BatchMemory], tuple[()]]:
        """Another process has memory of its own."""
        return partial(BatchMemory, pinned=self.pinned), ()

    def __call__(self, tokens: int) -> Arrays:
        """Arrays of `tokens` entries that nobody else reads or writes; not cleared."""
        capacity = -(-tokens // GRAIN_TOKENS) * GRAIN_TOKENS
        with self._finding:
            arrays = self._unused(capacity) or self._new(capacity)
            return tuple(array[:tokens] for array in arrays)

    def _unused(self, capacity: int) -> Arrays | None:
        for arrays in self._held:
            if len(arrays[0]) == capacity and not _is_referred_to(arrays):
                return arrays
        return None

    def _new(self, capacity: int) -> Arrays:
        arrays = tuple(
            torch.empty(capacity, dtype=dtype, pin_memory=self.pinned).numpy()
            for dtype in TOKEN_DTYPES
        )
        self._held = [*self._held[-HELD_SETS + 1 :], arrays]
        return arrays


def _is_referred_to(arrays: Arrays) -> bool:
    """Whether anything but the tuple holds one: a view holds what it is a view of."""
    in_tuple_and_argument = 2
    return any(
        sys.getrefcount(arrays[index]) > in_tuple_and_argument
        for index in range(len(arrays))
    )
