"""A gradient without one of its own is not differentiated unsaid."""

import pytest
import torch

from triptych import _core, ops

pytestmark = pytest.mark.skipif(
    not _core.cpu_has_vectors(), reason="plain PyTorch may differentiate twice"
)

WEIGHT, TARGETS = torch.linspace(-1.0, 1.0, 7 * 16).view(7, 16), torch.arange(4)
OPERATORS = {
    "attention": lambda x: ops.attention(x[:, None], x[:, None], x[:, None]),
    "linear_cross_entropy": lambda x: ops.linear_cross_entropy(x, WEIGHT, TARGETS),
    "linear_logprobs": lambda x: ops.linear_logprobs(x, WEIGHT, TARGETS),
    "swiglu": lambda x: ops.swiglu(x, x + 1.0),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_penalty_on_gradients_is_an_error(name):
    """Left out unsaid, the step would be another one."""
    x = torch.linspace(-2.0, 2.0, 64).view(4, 16).requires_grad_()
    total = OPERATORS[name](x).sum()
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    assert slope.isfinite().all()
    penalized = total + slope.square().sum()
    with pytest.raises(RuntimeError, match="none of its own"):
        torch.autograd.grad(penalized, x, retain_graph=True)
    with pytest.raises(RuntimeError, match="none of its own"):
        torch.autograd.grad(slope.sum(), x, retain_graph=True, allow_unused=True)
    with pytest.raises(RuntimeError, match="none of its own"):
        penalized.backward()


def test_gradients_are_the_same_with_a_graph_that_nobody_differentiates():
    x = torch.linspace(-2.0, 2.0, 64).view(4, 16).requires_grad_()
    total = OPERATORS["linear_logprobs"](x).sum()
    (plain,) = torch.autograd.grad(total, x, retain_graph=True)
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    assert torch.equal(plain, slope)
