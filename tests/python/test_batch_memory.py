"""Memory of batches is used again, and never while anything can see it."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from triptych.batch_memory import GRAIN_TOKENS, HELD_SETS, BatchMemory

VIEWS = {
    "a tensor": lambda array: torch.from_numpy(array),
    "a view of a tensor": lambda array: torch.from_numpy(array).view(2, -1)[1],
    "a slice": lambda array: array[3:5],
    "a slice of a slice": lambda array: array[3:50][4:],
    "a buffer": lambda array: memoryview(array)[2:4],
    "an array over a buffer": lambda array: np.frombuffer(array, array.dtype),
}


def addresses(arrays):
    return [array.ctypes.data for array in arrays]


def test_memory_that_nobody_refers_to_is_given_again():
    memory = BatchMemory()
    first = addresses(memory(100))
    assert addresses(memory(GRAIN_TOKENS)) == first  # another number of tokens, too


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("view", VIEWS)
def test_memory_is_not_given_again_while_a_view_of_one_array_lives(view, index):
    memory = BatchMemory()
    arrays = memory(100)
    first, seen = addresses(arrays), VIEWS[view](arrays[index])
    del arrays
    assert not set(addresses(memory(100))) & set(first)
    del seen
    assert addresses(memory(100)) == first


def test_arrays_have_the_types_of_a_batch_and_no_more_entries_than_asked_for():
    arrays = BatchMemory()(10)
    assert [array.dtype for array in arrays] == [np.int64] * 3 + [np.float32]
    assert {array.shape for array in arrays} == {(10,)}


def test_no_more_sets_are_held_than_said():
    memory = BatchMemory()
    taken = [memory(100) for _ in range(3 * HELD_SETS)]
    assert len(memory._held) == HELD_SETS
    assert len({tuple(addresses(arrays)) for arrays in taken}) == len(taken)


def test_threads_that_ask_at_once_get_memory_of_their_own(monkeypatch):
    memory, find = BatchMemory(), BatchMemory._unused
    memory(100)  # there is one set that nobody refers to

    def slowly(self, capacity):
        found = find(self, capacity)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(BatchMemory, "_unused", slowly)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: memory(100), range(4)))
    assert len({tuple(addresses(arrays)) for arrays in taken}) == 4


def test_a_copy_in_another_process_has_memory_of_its_own():
    memory = BatchMemory()
    copy = pickle.loads(pickle.dumps(memory))
    assert addresses(copy(100)) != addresses(memory(100))
