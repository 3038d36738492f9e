"""A gradient of a kernel that has none of its own is not differentiated unsaid."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import triptych_kernels as kernels

HIDDEN = torch.linspace(-2.0, 2.0, 64).view(4, 16)
WEIGHT, TARGETS = torch.linspace(-1.0, 1.0, 7 * 16).view(7, 16), torch.arange(4)
OPERATORS = {
    "attention": lambda x: kernels.attention(x[:, None], x[:, None], x[:, None]),
    "linear_logprobs": lambda x: kernels.linear_logprobs(x, WEIGHT.to(x), _targets(x)),
    "rms_norm": lambda x: kernels.rms_norm(x, torch.ones_like(x[0])),
    "summed_cross_entropy": lambda x: kernels.summed_cross_entropy(
        x, WEIGHT.to(x), _targets(x)
    ),
    "swiglu": lambda x: kernels.swiglu(x, x + 1.0),
}


def _targets(x):
    return TARGETS.to(x.device)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_penalty_on_gradients_is_an_error(name):
    """Below a plain sum too, whose gradient from above requires none."""
    x = HIDDEN.to(torch.empty(0).device).requires_grad_()
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


@pytest.mark.parametrize("name", OPERATORS)
def test_a_checkpoint_gives_gradients_with_a_graph_that_nobody_differentiates(name):
    """Whose saved tensors may be unpacked but once."""
    x = HIDDEN.to(torch.empty(0).device).requires_grad_()
    (plain,) = torch.autograd.grad(OPERATORS[name](x).sum(), x)
    total = checkpoint(OPERATORS[name], x, use_reentrant=False).sum()
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    assert torch.equal(plain, slope)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_derivative_in_forward_mode_is_an_error_and_not_zeros(name):
    x = HIDDEN.to(torch.empty(0).device)
    with pytest.raises(RuntimeError, match="in reverse mode alone"):
        torch.func.jvp(OPERATORS[name], (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="plain PyTorch"):
        OPERATORS[name](forward_ad.make_dual(x, x))
