"""The four numbers a token of the output layer, entropy foremost, against their twin."""

import math

import pytest
import torch

from test_linear_cross_entropy import DTYPES, SHAPES, make_inputs
from tolerances import assert_close
from triptych_kernels import linear_logprobs, linear_statistics, reference

# NumPy's, of 0 * inf in rows that are then set to 0.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")
OPTIONS = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "all": {"temperature": 1.5, "softcap": 3.0},
}
NAMES = ("logps", "lse", "entropy", "mean_logit")


def run(function, hidden, weight, targets, upstream, **options):
    """The four, then gradients of hidden and weight from their weighted sum."""
    leaves = [x.detach().clone().requires_grad_() for x in (hidden, weight)]
    results = function(*leaves, targets, **options)
    total = sum(
        (r * u.to(r.dtype)).sum() for r, u in zip(results, upstream, strict=True)
    )
    total.backward()
    return *(r.detach() for r in results), *(x.grad for x in leaves)


def torch_own(hidden, weight, targets, *, temperature=1.0, softcap=None):
    """The four as one writes them in torch, logits in the inputs' dtype."""
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.float() / temperature
    logps = logits.log_softmax(-1)
    counted = targets != -100
    picked = logps.gather(1, targets.clamp_min(0)[:, None])[:, 0]
    entropy = -(logps.exp() * logps).sum(-1)
    four = picked, logits.logsumexp(-1), entropy, logits.mean(-1)
    return tuple(x * counted for x in four)


def assert_parity(inputs, upstream, **options):
    dtype = inputs[0].dtype
    found = run(linear_statistics, *inputs, upstream, **options)
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    wide = run(reference.linear_statistics, *wide, upstream, **options)
    own = run(torch_own, *inputs, upstream, **options)
    for f, w, o in zip(found, wide, own, strict=True):
        assert_close(f, w, o, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_results_and_gradients_match_float64(dtype, options):
    inputs = make_inputs(dtype=dtype)
    assert_parity(inputs, torch.randn(4, 70), **options)


# Without the one token, whose mean logit may cancel to less than fp32 can tell.
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] > 1], ids=str)
def test_every_shape_matches_float64(shape):
    inputs = make_inputs(shape)
    assert_parity(inputs, torch.randn(4, shape[0]))


def test_the_gradient_of_the_entropy_alone_matches_float64():
    upstream = torch.zeros(4, 70)
    upstream[2] = torch.randn(70)
    assert_parity(make_inputs(), upstream)


def test_a_sure_prediction_has_no_entropy_and_a_blind_one_all_of_it():
    hidden = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    weight = torch.zeros(77, 2)
    weight[5, 0] = 200.0
    hidden.requires_grad_()
    found = linear_statistics(hidden, weight, torch.tensor([5, 6]))
    assert found.entropy.tolist() == pytest.approx([0.0, math.log(77)], abs=1e-6)
    found.entropy.sum().backward()
    assert hidden.grad.isfinite().all()


def test_log_probabilities_are_those_of_the_operator_without_entropy():
    inputs = make_inputs()
    alone = linear_logprobs(*inputs, temperature=0.7)
    assert torch.equal(linear_statistics(*inputs, temperature=0.7).logps, alone)


def test_ignored_tokens_have_zeros_and_no_gradient():
    inputs = make_inputs((9, 8, 20))
    *found, grad_hidden, _ = run(linear_statistics, *inputs, torch.ones(4, 9))
    assert all(torch.equal(x[3:7], torch.zeros(4)) for x in found)
    assert torch.equal(grad_hidden[3:7], torch.zeros(4, 8))
    none = linear_statistics(inputs[0], inputs[1], torch.full((9,), -100))
    assert all(torch.equal(x, torch.zeros(9)) for x in none)


def test_two_runs_and_half_the_batch_agree_in_every_bit():
    hidden, weight, targets = make_inputs(dtype=torch.bfloat16)
    upstream = torch.randn(4, 70)
    first, second = (
        run(linear_statistics, hidden, weight, targets, upstream) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    half = run(linear_statistics, hidden[:35], weight, targets[:35], upstream[:, :35])
    assert all(torch.equal(a[:35], b) for a, b in zip(first[:5], half[:5], strict=True))


def test_gradcheck_passes_through_the_operator():
    hidden, weight, targets = make_inputs((4, 3, 11))
    leaves = [x.double().requires_grad_() for x in (hidden, weight)]

    def four(hidden, weight):  # the kernels compute in fp32: a wide step
        found = linear_statistics(hidden.float(), weight.float(), targets)
        return torch.stack(found).double()

    assert torch.autograd.gradcheck(four, leaves, eps=1e-2, atol=2e-3, fast_mode=True)


def test_torch_compile_makes_one_graph():
    inputs, upstream = make_inputs((9, 8, 20)), torch.randn(4, 9)
    compiled = torch.compile(linear_statistics, fullgraph=True, backend="aot_eager")
    found, eager = (run(f, *inputs, upstream) for f in (compiled, linear_statistics))
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


def test_a_temperature_of_zero_is_named():
    with pytest.raises(ValueError, match="temperature must be positive, found 0"):
        linear_statistics(*make_inputs(), temperature=0.0)
