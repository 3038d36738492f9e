"""Sums of the engine's kernels for CPUs: shared among threads, and over many numbers."""

import pytest
import torch

from triptych import _core, ops

pytestmark = pytest.mark.skipif(
    not _core.cpu_has_vectors(), reason="the processor has no vectors"
)


def numbers(*shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def results(function, *inputs):
    """What it gives, and gradients for an upstream that is the same each time."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = function(*inputs)
    upstream = numbers(*output.shape, seed=9).to(output.dtype)
    return output.detach(), *torch.autograd.grad(output, inputs, upstream)


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
