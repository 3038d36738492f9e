"""torch.compile takes attention and losses of a CPU whole, and gets the eager numbers."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from triptych import ops

pytestmark = pytest.mark.usefixtures("one_thread")

TARGETS = torch.tensor([1, 2, -100, 6, 0, 3])
DOCUMENTS = torch.tensor([0, 2, 2, 5, 6], dtype=torch.int32)

CASES = {
    "attention": lambda q, k, v, *_: ops.attention(q, k, v, cu_seqlens=DOCUMENTS),
    "a window": lambda q, k, v, *_: ops.attention(q, k, v, window=2),
    "a cap and sinks": lambda q, k, v, sinks, *_: ops.attention(
        q, k, v, cu_seqlens=DOCUMENTS, softcap=3.0, sinks=sinks
    ),
    "a mean": lambda *x: ops.linear_cross_entropy(*x[4:], TARGETS),
    "a sum": lambda *x: ops.linear_cross_entropy(
        *x[4:], TARGETS, z_loss=0.1, label_smoothing=0.1, reduction="sum"
    ),
    "each token": lambda *x: ops.linear_cross_entropy(
        *x[4:], TARGETS, softcap=2.0, weights=torch.arange(6.0), reduction="none"
    ),
    "log-probabilities": lambda *x: ops.linear_logprobs(
        *x[4:], TARGETS, temperature=0.7
    ),
    "statistics": lambda *x: torch.stack(ops.linear_statistics(*x[4:], TARGETS)),
}


def drawn():
    torch.manual_seed(0)
    shapes = (6, 4, 16), (6, 2, 16), (6, 2, 16), (4,), (6, 16), (9, 16)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def result(function, autocast):
    """What a function gives, and the gradients of its inputs."""
    inputs = drawn()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = function(*inputs)
    upstream = torch.linspace(-1.0, 2.0, found.numel()).view(found.shape)
    found.backward(upstream.to(found.dtype))
    return found, [x.grad for x in inputs]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_operator_is_one_graph_with_the_eager_numbers(name, autocast):
    function = CASES[name]
    expected, gradients = result(function, autocast)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, others = result(compiled, autocast)
    tolerance = 2e-2 if autocast else 1e-6
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    for gradient, other in zip(gradients, others, strict=True):
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(other, gradient, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["a sum", "log-probabilities"])
def test_a_compiled_loss_gives_its_gradients_to_autograd_while_others_add_theirs(name):
    compiled = torch.compile(CASES[name], fullgraph=True, backend="aot_eager")
    _, expected = result(CASES[name], autocast=False)
    with ops.accumulating():
        _, gradients = result(compiled, autocast=False)
    for gradient, other in zip(gradients[4:], expected[4:], strict=True):
        torch.testing.assert_close(gradient, other)


def test_the_operators_are_such_as_torch_can_check():
    q, k, v, sinks, hidden, weight = drawn()
    numbers = (True, None, 3.0, None)
    packed = torch.ops.triptych.packed_attention.default
    inputs = (q, k, v, DOCUMENTS, sinks, None)
    torch.library.opcheck(packed, (*inputs, None, *numbers, 0.0))
    torch.library.opcheck(packed, (*inputs, torch.tensor(7), *numbers, 0.5))
    losses = torch.ops.triptych.reduced_cross_entropy.default
    costs = (None, -100, 0.1, 0.1, None, "mean")
    torch.library.opcheck(losses, (hidden, weight, TARGETS, *costs))
    statistics = torch.ops.triptych.token_statistics.default
    torch.library.opcheck(statistics, (hidden, weight, TARGETS, 0.7, None))


@pytest.mark.parametrize("rules", [{}, {"softcap": 3.0}, {"window": 2}], ids=str)
def test_compiled_dropout_is_one_graph_whose_gradient_drops_the_same(rules):
    function = torch.compile(
        lambda q, k, v: ops.attention(
            q, k, v, cu_seqlens=DOCUMENTS, dropout=0.4, **rules
        ),
        fullgraph=True,
        backend="aot_eager",
    )
    q, k, v, *_ = drawn()

    def mixed(v):
        torch.manual_seed(3)
        return function(q, k, v)

    found = mixed(v)
    assert not torch.equal(found, function(q, k, v))  # chance goes on
    (slope,) = torch.autograd.grad(found.sum(), v)
    # What queries take up is linear in the values, by weights that were dropped alike.
    torch.testing.assert_close((slope * v).sum(), found.sum())
    assert torch.equal(mixed(v), found)


def test_the_newest_token_is_one_graph_too():
    q, k, v, *_ = (x.detach() for x in drawn())

    def newest(q, k, v, lengths):
        return ops.decode_attention(q[-1:], k[None], v[None], lengths)

    compiled = torch.compile(newest, fullgraph=True, backend="aot_eager")
    inputs = q, k, v, torch.tensor([5])
    torch.testing.assert_close(compiled(*inputs), newest(*inputs))


ANGLES = torch.linspace(0.0, 3.0, 96).view(6, 1, 16)
LAYERS = {
    "gate": lambda x: ops.swiglu(x, x),
    "norm": lambda x: ops.rms_norm(x, torch.ones(32), 1e-6).float(),
    "turn": lambda x: ops.rotate(x[:, None], ANGLES.cos(), ANGLES.sin()),
    "attention": lambda x: ops.attention(*(x[:, None],) * 3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
def test_who_records_what_torch_does_misses_nothing(name, dtype):
    x, other = torch.randn(2, 6, 32, generator=torch.manual_seed(0)).to(dtype)
    recorded = make_fx(LAYERS[name])(x)
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(
        recorded(other), LAYERS[name](other), atol=tolerance, rtol=tolerance
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = LAYERS[name](mode.from_tensor(x))
    assert found.shape == LAYERS[name](x).shape


@pytest.mark.parametrize("name", LAYERS)
def test_what_was_recorded_without_gradients_has_them_when_it_is_played(name):
    x = torch.randn(6, 32, generator=torch.manual_seed(0))
    recorded = make_fx(LAYERS[name])(x)
    slopes = []
    for function in (recorded, LAYERS[name]):
        leaf = x.clone().requires_grad_()
        slopes += torch.autograd.grad(function(leaf).square().sum(), leaf)
    torch.testing.assert_close(*slopes)


LOSSES = {
    "a mean": lambda *x: ops.linear_cross_entropy(*x),
    "a sum": lambda *x: ops.linear_cross_entropy(*x, z_loss=0.1, reduction="sum"),
    "each token": lambda *x: ops.linear_cross_entropy(*x, reduction="none"),
    "log-probabilities": lambda *x: ops.linear_logprobs(*x),
    "statistics": lambda *x: torch.stack(ops.linear_statistics(*x)),
}
RECORDERS = {
    "make_fx": lambda function, inputs: make_fx(function)(*inputs),
    "jit": lambda function, inputs: torch.jit.trace(function, inputs),
}


@pytest.mark.parametrize("recorder", RECORDERS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_recorded_loss_is_right_for_other_targets(name, recorder):
    hidden, weight = (x.detach() for x in drawn()[4:])
    recorded = RECORDERS[recorder](LOSSES[name], (hidden, weight, TARGETS))
    others = hidden.flip(0), weight, torch.tensor([-100, 1, -100, 0, 8, -100])
    torch.testing.assert_close(recorded(*others), LOSSES[name](*others))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_without_numbers_gives_its_shape(name):
    inputs = *drawn()[4:], TARGETS
    with FakeTensorMode() as mode:
        found = LOSSES[name](*map(mode.from_tensor, inputs))
    assert found.shape == LOSSES[name](*inputs).shape


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_gradient_is_the_eager_one(name):
    def slopes(*inputs):
        leaves = [x.detach().requires_grad_() for x in inputs]
        found = CASES[name](*leaves)
        slopes = torch.autograd.grad(found.square().sum(), leaves, allow_unused=True)
        return [x for x in slopes if x is not None]

    inputs = [x.detach() for x in drawn()]
    recorded = make_fx(slopes)(*inputs)
    others = [x.flip(0) for x in inputs]
    torch.testing.assert_close(recorded(*others), slopes(*others))


def test_a_recorded_newest_token_is_the_eager_one():
    def newest(q, keys, values):
        return ops.decode_attention(q[-1:], keys[None], values[None], torch.tensor([5]))

    inputs = [x.detach() for x in drawn()[:3]]
    recorded = torch.jit.trace(newest, inputs)
    others = [x.flip(0) for x in inputs]
    torch.testing.assert_close(recorded(*others), newest(*others))
