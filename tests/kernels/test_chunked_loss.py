"""The summed loss, whose gradients are made in the forward pass, against its twin."""

import pytest
import torch
import torch.nn.functional as F

from tolerances import assert_close
from triptych_kernels import chunked_loss, reference, summed_cross_entropy

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# (tokens, hidden size, vocabulary): ragged in all three; several walks over a row; one
# token; two vocabulary entries.
SHAPES = [(70, 33, 129), (130, 64, 500), (1, 16, 64), (9, 16, 2)]

OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "z-loss": {"z_loss": 1e-2},
    "softcap": {"softcap": 3.0},
    "all": {"label_smoothing": 0.2, "z_loss": 1e-3, "softcap": 5.0},
}


def make_inputs(shape=(70, 33, 129), dtype=torch.float32):
    tokens, hidden_size, vocab_size = shape
    hidden = torch.randn(tokens, hidden_size).to(dtype)
    weight = (torch.randn(vocab_size, hidden_size) * 0.3).to(dtype)
    targets = torch.randint(0, vocab_size, (tokens,))
    targets[3:7] = -100
    return hidden, weight, targets, torch.rand(tokens)


def run(function, hidden, weight, targets, factors, upstream=1.0, **options):
    """Output, and gradients of hidden and weight."""
    leaves = [x.detach().clone().requires_grad_() for x in (hidden, weight)]
    out = function(*leaves, targets, factors, **options)
    out.backward(torch.tensor(upstream, dtype=out.dtype))
    return out.detach(), *(leaf.grad for leaf in leaves)


def torch_own(hidden, weight, targets, factors, *, z_loss=0.0, softcap=None, **options):
    """The sum as one writes it in torch, logits in the inputs' dtype."""
    logits = F.linear(hidden, weight)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.float()
    losses = F.cross_entropy(logits, targets, reduction="none", **options)
    losses = losses + z_loss * logits.logsumexp(-1).square() * (targets != -100)
    return (losses * factors).sum()


def assert_parity(hidden, weight, targets, factors, **options):
    given = hidden, weight, targets, factors
    wide = hidden.double(), weight.double(), targets, factors.double()
    found = run(summed_cross_entropy, *given, **options)
    expected = run(reference.summed_cross_entropy, *wide, **options)
    own = run(torch_own, *given, **options)
    assert found[0].dtype == torch.float32
    for f, e, o in zip(found, expected, own, strict=True):
        assert_close(f, e, o, hidden.dtype)


@pytest.fixture(params=[1, 1 << 20], ids=["one tile a chunk", "one chunk"])
def _chunks(request, monkeypatch):
    monkeypatch.setattr(chunked_loss, "LOGITS_BYTES", request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loss_and_gradients_match_float64(dtype, options):
    assert_parity(*make_inputs(dtype=dtype), upstream=0.7, **options)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ragged_shapes_match_float64(shape):
    assert_parity(*make_inputs(shape), label_smoothing=0.1, z_loss=1e-3)


@pytest.mark.parametrize("size", [30.0, 1e4])
def test_large_logits_lose_no_digits_of_a_probability(size):
    weight = size / 4 * torch.randn(150, 20)
    ids = torch.arange(20)
    weight[ids, ids], weight[ids + 1, ids] = size, size - 0.5  # they share it
    assert_parity(torch.eye(20), weight, ids, torch.rand(20))


@pytest.mark.usefixtures("_chunks")
def test_16_bit_gradients_are_right_where_they_overwrite_logits():
    assert_parity(*make_inputs((150, 32, 300), torch.bfloat16), softcap=5.0)


def test_chunks_are_even_whole_tiles_that_fit():
    # 512 MiB are 4,096 tokens of 32,768 fp32 logits.
    assert chunked_loss.chunk_tokens(8192, 32768) == 4096
    assert chunked_loss.chunk_tokens(5000, 32768) == 2560
    assert chunked_loss.chunk_tokens(100, 32768) == 100
    assert chunked_loss.chunk_tokens(8192, 10**9) == 128
    assert chunked_loss.chunk_tokens(0, 32768) == 1


def test_a_weight_of_another_dtype_gets_its_gradient_unrounded():
    hidden, weight, targets, factors = make_inputs(dtype=torch.bfloat16)
    found = run(summed_cross_entropy, hidden, weight.float(), targets, factors)
    rounded = run(summed_cross_entropy, hidden, weight, targets, factors)
    assert found[2].dtype == torch.float32
    assert torch.equal(found[2].bfloat16(), rounded[2])
    assert torch.equal(found[1], rounded[1])
    assert not torch.equal(found[2], rounded[2].float())


def test_factors_are_one_by_default():
    hidden, weight, targets, _ = make_inputs()
    ones = run(summed_cross_entropy, hidden, weight, targets, torch.ones(70))
    found = run(summed_cross_entropy, hidden, weight, targets, None)
    assert all(torch.equal(a, b) for a, b in zip(found, ones, strict=True))


def test_another_ignore_index_is_ignored():
    hidden, weight, targets, factors = make_inputs()
    targets[targets == -100] = 5
    given = hidden, weight, targets, factors
    found = summed_cross_entropy(*given, ignore_index=5)
    expected = reference.summed_cross_entropy(*given, ignore_index=5)
    torch.testing.assert_close(found, expected)


def test_ignored_tokens_get_no_gradient():
    hidden, weight, targets, factors = make_inputs()
    grad_hidden = run(summed_cross_entropy, hidden, weight, targets, factors)[1]
    assert not grad_hidden[targets == -100].any()
    assert grad_hidden[targets != -100].any(-1).all()


def test_an_all_ignored_sum_is_zero_with_zero_gradients():
    hidden, weight, targets, factors = make_inputs()
    results = run(summed_cross_entropy, hidden, weight, targets.fill_(-100), factors)
    assert all(not result.any() and result.isfinite().all() for result in results)


def test_no_tokens_at_all_sum_to_zero():
    hidden, weight = torch.randn(0, 8), torch.randn(20, 8)
    targets = torch.zeros(0, dtype=torch.long)
    results = run(summed_cross_entropy, hidden, weight, targets, None)
    assert results[0] == 0.0
    assert not results[2].any()


@pytest.mark.parametrize("wrong", [129, -3])
def test_a_target_outside_the_vocabulary_makes_nan(wrong):
    hidden, weight, targets, factors = make_inputs()
    targets[0] = wrong
    assert summed_cross_entropy(hidden, weight, targets, factors).isnan()


def test_logits_that_are_not_finite_make_nan():
    hidden, weight, targets, factors = make_inputs()
    hidden[0, 0] = float("inf")
    assert summed_cross_entropy(hidden, weight, targets, factors).isnan()


def test_factors_of_one_over_very_many_tokens_do_not_underflow_in_fp16():
    hidden, weight, targets, factors = make_inputs(dtype=torch.float16)
    tiny = factors * 2.0**-17
    found = run(summed_cross_entropy, hidden, weight.float(), targets, tiny)
    whole = run(summed_cross_entropy, hidden, weight.float(), targets, factors)
    torch.testing.assert_close(found[2], whole[2] * 2.0**-17)


def test_a_frozen_weight_gets_no_gradient():
    hidden, weight, targets, factors = make_inputs()
    hidden.requires_grad_()
    summed_cross_entropy(hidden, weight, targets, factors).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_without_gradients_the_sum_is_the_same():
    given = make_inputs((130, 64, 500), torch.bfloat16)
    with torch.no_grad():
        found = summed_cross_entropy(*given)
    assert torch.equal(found, run(summed_cross_entropy, *given)[0])


def test_gradcheck_passes_through_the_operator():
    hidden, weight, targets, factors = make_inputs((4, 3, 5))

    def loss(h, w):  # the kernel computes in fp32: a wide step, a loose tolerance
        options = {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 2.0}
        given = h.float(), w.float(), targets, factors
        return summed_cross_entropy(*given, **options).double()

    inputs = (hidden.double().requires_grad_(), weight.double().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-2, atol=2e-3, fast_mode=True)


def test_two_runs_agree_in_every_bit():
    given = make_inputs((130, 64, 500), torch.bfloat16)
    first = run(summed_cross_entropy, *given, z_loss=1e-3)
    second = run(summed_cross_entropy, *given, z_loss=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_second_backward_pass_gives_the_same_gradients():
    hidden, weight, targets, factors = make_inputs(dtype=torch.bfloat16)
    leaves = hidden.requires_grad_(), weight.requires_grad_()
    out = summed_cross_entropy(*leaves, targets, factors)
    first = torch.autograd.grad(out, leaves, torch.tensor(0.5), retain_graph=True)
    second = torch.autograd.grad(out, leaves, torch.tensor(1.0))
    for f, s in zip(first, second, strict=True):
        assert torch.equal(2.0 * f, s)


def test_the_operator_passes_opcheck():
    hidden, weight, targets, factors = make_inputs((5, 7, 23))
    hidden.requires_grad_()
    weight.requires_grad_()
    operator = torch.ops.triptych.summed_cross_entropy.default
    rest = (targets, factors, -100, 0.01, 0.1, 2.0, True, True)
    torch.library.opcheck(operator, (hidden, weight, *rest))


def test_torch_compile_makes_one_graph_of_the_sum():
    given = make_inputs((5, 7, 23))
    compiled = torch.compile(summed_cross_entropy, fullgraph=True, backend="aot_eager")
    eager = run(summed_cross_entropy, *given, label_smoothing=0.1)
    found = run(compiled, *given, label_smoothing=0.1)
    for f, e in zip(found, eager, strict=True):
        torch.testing.assert_close(f, e)


WRONG = {
    "hidden must be": lambda h, w, t, f: (h[None], w, t, f, {}),
    r"weight must have shape \(vocab_size, 33\)": lambda h, w, t, f: (
        h, w[:, :32], t, f, {}),
    r"targets must have shape \(70,\)": lambda h, w, t, f: (h, w, t[:69], f, {}),
    r"factors must have shape \(70,\)": lambda h, w, t, f: (h, w, t, f[:9], {}),
    r"label_smoothing must be in \[0, 1\]": lambda h, w, t, f: (
        h, w, t, f, {"label_smoothing": 1.5}),
    "softcap must be positive": lambda h, w, t, f: (h, w, t, f, {"softcap": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(("message", "spoil"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, spoil):
    *given, options = spoil(*make_inputs())
    with pytest.raises(ValueError, match=message):
        summed_cross_entropy(*given, **options)
