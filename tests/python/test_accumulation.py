"""Passes whose gradients add up, beside the same passes through autograd alone."""

import contextlib

import pytest
import torch
from torch import nn

from triptych import ops
from triptych.ops import accumulation

VOCAB_SIZE, WIDTH = 200, 48
# Of the largest number: sums in another order, and of products rounded to bf16.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


class Net(nn.Module):
    """An embedding, a projection and an output, which may be the embedding again."""

    def __init__(self, tied):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Parameter(torch.randn(VOCAB_SIZE, WIDTH))
        self.inner = nn.Parameter(torch.randn(WIDTH, WIDTH) / 7)
        output = self.embedding if tied else torch.randn(VOCAB_SIZE, WIDTH)
        self.output = output if tied else nn.Parameter(output)

    def loss(self, ids):
        x = ops.embedding(ids, self.embedding)
        hidden = ops.linear(x, self.inner).float() + x
        return ops.linear_cross_entropy(
            hidden[:-1], self.output, ids[1:], reduction="sum"
        )


def passes(num_tokens=700):
    """Ids of three passes: more than a chunk, a few with repetitions, and two."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda n, end: torch.randint(0, end, (n,), generator=generator)  # noqa: E731
    return [draw(num_tokens, VOCAB_SIZE), draw(30, 4), draw(2, VOCAB_SIZE)]


def gradients(net, context, dtype=torch.float32):
    """Of three passes, by name; losses are scaled as a step's count does."""
    net.zero_grad(set_to_none=True)
    narrow = dtype != torch.float32
    with context:
        for ids in passes():
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
                loss = net.loss(ids)
            (loss / 730).backward()
    return {name: x.grad.clone() for name, x in net.named_parameters()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("by", ["rust", "cpu"])
def test_added_in_place_gradients_are_those_of_autograd(monkeypatch, tied, dtype, by):
    if by == "cpu":
        monkeypatch.setenv("TRIPTYCH_OPS", "cpu")
    net = Net(tied)
    found = gradients(net, ops.accumulating(), dtype)
    wanted = gradients(net, contextlib.nullcontext(), dtype)
    for name, one in wanted.items():
        error = (found[name] - one).abs().max() / one.abs().max()
        assert error <= TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_a_projection_of_one_pass_has_the_bits_of_torch(dtype):
    x, weight = torch.randn(2, 5, WIDTH), torch.randn(64, WIDTH)
    upstream = torch.randn(2, 5, 64)
    found = []
    for context in ops.accumulating(), contextlib.nullcontext():
        inputs = [t.clone().requires_grad_() for t in (x, weight)]
        narrow = dtype != torch.float32
        with context, torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            product = ops.linear(*inputs)
            product.backward(upstream.to(product.dtype))
        found.append([product, *(t.grad for t in inputs)])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(0, WIDTH), (3, 0, WIDTH)])
def test_no_rows_give_a_gradient_of_zeros(shape):
    x = torch.zeros(shape, requires_grad=True)
    weight = nn.Parameter(torch.randn(32, WIDTH))
    with ops.accumulating():
        product = ops.linear(x, weight)
        product.sum().backward()
    assert product.shape == (*shape[:-1], 32)
    assert x.grad.shape == shape
    assert not weight.grad.any()


def test_a_second_backward_of_a_loss_is_refused_where_its_memory_is_shared():
    net = Net(tied=True)
    with ops.accumulating():
        loss = net.loss(passes()[0])
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="found a second"):
            loss.backward()


def test_what_does_not_learn_gets_no_gradient():
    net = Net(tied=False)
    net.inner.requires_grad_(False)
    net.output.requires_grad_(False)
    with ops.accumulating():
        net.loss(passes()[0]).backward()
    assert net.embedding.grad is not None
    assert net.inner.grad is None
    assert net.output.grad is None


def test_the_next_step_sees_the_weights_as_they_are_then():
    weight = nn.Parameter(torch.randn(32, WIDTH))
    x = torch.randn(3, WIDTH)
    outputs = []
    for _ in range(2):
        with (
            ops.accumulating(),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            outputs.append(ops.linear(x, weight))
        with torch.no_grad():
            weight.mul_(2.0)
    assert torch.equal(outputs[1], outputs[0] * 2.0)


def test_memory_that_is_given_back_is_lent_again():
    lent = accumulation.Accumulation()
    like = torch.empty(0)
    first = lent.borrow(like, (3, 5), torch.float32)
    second = lent.borrow(like, (3, 5), torch.float32)
    assert first.data_ptr() != second.data_ptr()
    lent.give_back(first)
    again = lent.borrow(like, (3, 5), torch.float32)
    assert again.data_ptr() == first.data_ptr()
    lent.give_back(again)
    assert lent.borrow(like, (5, 3), torch.float32).data_ptr() != first.data_ptr()


def test_two_losses_before_their_backward_do_not_share_memory():
    net, (ids, others, _) = Net(tied=True), passes()
    found = []
    for context in ops.accumulating(), contextlib.nullcontext():
        net.zero_grad(set_to_none=True)
        with context:
            (net.loss(ids) + 2.0 * net.loss(others)).backward()
        found.append(net.embedding.grad.clone())
    assert torch.allclose(*found, rtol=1e-5, atol=1e-4)
