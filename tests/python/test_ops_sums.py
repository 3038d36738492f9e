"""Sums of the engine's kernels for CPUs: shared among threads, and over many numbers."""

import pytest
import torch

from op_results import numbers, results
from triptych import _core, ops

pytestmark = pytest.mark.skipif(
    not _core.cpu_has_vectors(), reason="the processor has no vectors"
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 200])
def test_a_head_that_threads_share_has_the_bits_that_one_gives(dtype, window):
    q, k, v = (numbers(1100, 1, 16, seed=i, dtype=dtype) for i in range(3))
    sinks = numbers(1, seed=4)

    def attend(q, k, v, sinks):
        return ops.attention(q, k, v, window=window, sinks=sinks)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        wanted = results(attend, q, k, v, sinks)
        for num in (2, 5):
            torch.set_num_threads(num)
            assert all(map(torch.equal, results(attend, q, k, v, sinks), wanted))
    finally:
        torch.set_num_threads(threads)


def test_a_sinks_gradient_over_many_tokens_has_the_bits_that_one_thread_gives():
    tokens = 100_000  # torch cuts a sum of 32,768 numbers and more by its threads
    q, k, v = (numbers(tokens, 1, 16, seed=i) for i in range(3))
    ends = torch.arange(0, tokens + 1, 16, dtype=torch.int32)

    def attend(sinks):
        return ops.attention(q, k, v, cu_seqlens=ends, sinks=sinks)

    threads = torch.get_num_threads()
    try:
        found = []
        for num in (1, 2, 3):
            torch.set_num_threads(num)
            found.append(results(attend, numbers(1, seed=4))[1])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[1], found[0])
    assert torch.equal(found[2], found[0])


def test_sums_over_many_words_keep_the_digits_of_float32():
    hidden, weight = numbers(3, 8, seed=1), numbers(131_072, 8, seed=2)
    targets = torch.tensor([0, 5, 131_071])
    found = ops.linear_statistics(hidden, weight, targets)
    logits = (hidden @ weight.T).double()  # the same products, so sums alone differ
    shares = logits.softmax(1)
    # A share is e to the power of its log-probability: 1e-5 of the sum is 1e-5 of it.
    wanted = shares.gather(1, targets[:, None])[:, 0].log()
    torch.testing.assert_close(found.logps.double(), wanted, rtol=0.0, atol=2e-6)
    entropies = -(shares * shares.log()).sum(1)
    torch.testing.assert_close(found.entropy.double(), entropies, rtol=1e-6, atol=0.0)
