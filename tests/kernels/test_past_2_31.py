"""Strides and windows whose products and sums pass 2^31."""

import pytest
import torch

from triptych_kernels import attention, linear_cross_entropy, rope


def far_apart(x, *strides):
    """The same numbers, elements further apart; what lies between is never touched."""
    size = sum((n - 1) * stride for n, stride in zip(x.shape, strides, strict=True)) + 1
    try:
        storage = torch.empty(size, dtype=x.dtype)
    except RuntimeError:
        pytest.skip(f"cannot map {size * x.element_size() >> 30} GiB of address space")
    return storage.as_strided(x.shape, strides).copy_(x)


def gradients(function, *leaves):
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = function(*leaves)
    return out.detach(), *torch.autograd.grad(out.sum(), leaves)


def assert_same(found, expected):
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("interleaved", [False, True])
def test_heads_that_are_2_30_elements_apart_are_turned(interleaved):
    q, k = torch.randn(2, 1, 8).half(), torch.randn(2, 3, 8).half()
    options = {"frequencies": torch.rand(4), "interleaved": interleaved}
    found = rope(q, far_apart(k, 8, 2**30, 1), **options)
    assert_same(found, rope(q, k, **options))


def test_rows_that_are_2_31_elements_apart_from_step_to_step_have_their_gradients():
    hidden, weight = torch.randn(70, 8).half(), torch.randn(5, 8).half()
    targets = torch.randint(0, 5, (70,))

    def loss(hidden, weight):
        return linear_cross_entropy(hidden, weight, targets)

    found = gradients(loss, far_apart(hidden, 2**25, 1), weight)
    assert_same(found, gradients(loss, hidden, weight))


@pytest.mark.parametrize("window", [2**31 - 33, 2**31 - 1, 2**63 - 1])
def test_a_window_that_stands_for_none_has_the_bits_of_none(window):
    leaves = [torch.randn(40, n, 8) for n in (2, 1, 1)]
    found = gradients(lambda *x: attention(*x, window=window), *leaves)
    assert_same(found, gradients(attention, *leaves))
