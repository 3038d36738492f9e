"""The loss on the output layer against its twin, in Triton's interpreter or on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from tolerances import assert_close, relative_error
from triptych_kernels import (
    configs,
    linear_cross_entropy,
    linear_logprobs,
    linear_loss,
    reference,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# (tokens, hidden size, vocabulary): inside one tile; ragged in all three; several
# tiles and two splits; one token; two vocabulary entries.
SHAPES = [(5, 7, 123), (70, 33, 129), (130, 64, 500), (1, 16, 64), (9, 16, 2)]

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
    return hidden, weight, targets


def run(function, hidden, weight, targets, upstream=None, **options):
    """Output, and gradients of hidden and weight."""
    hidden = hidden.detach().clone().requires_grad_()
    weight = weight.detach().clone().requires_grad_()
    out = function(hidden, weight, targets, **options)
    out.backward(upstream if upstream is None else upstream.to(out.dtype))
    return out.detach(), hidden.grad, weight.grad


def torch_own(hidden, weight, targets, *, z_loss=0.0, softcap=None, **options):
    """Cross-entropy as one writes it in torch, logits in the inputs' dtype."""
    logits = F.linear(hidden, weight)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.float()
    loss = F.cross_entropy(logits, targets, **options)
    square = logits.logsumexp(-1).square() * (targets != -100)
    return loss + z_loss * square.sum() / (targets != -100).sum()


def assert_parity(hidden, weight, targets, **options):
    found = run(linear_cross_entropy, hidden, weight, targets, **options)
    wide = run(
        reference.linear_cross_entropy,
        hidden.double(),
        weight.double(),
        targets,
        **options,
    )
    own = run(torch_own, hidden, weight, targets, **options)
    assert found[0].dtype == torch.float32
    for f, w, o in zip(found, wide, own, strict=True):
        assert_close(f, w, o, hidden.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loss_and_gradients_match_float64(dtype, options):
    assert_parity(*make_inputs(dtype=dtype), **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ragged_shapes_match_float64(shape):
    assert_parity(*make_inputs(shape), label_smoothing=0.1, z_loss=1e-3)


def test_the_shape_of_cut_cross_entropys_own_tests_matches_float64():
    assert_parity(*make_inputs((252, 123, 507)))


@pytest.mark.parametrize("size", [30.0, 1e4])
def test_large_logits_lose_no_digits_of_a_probability(size):
    weight = size / 4 * torch.randn(150, 20)
    ids = torch.arange(20)
    weight[ids, ids], weight[ids + 1, ids] = size, size - 0.5  # they share it
    hidden, upstream = torch.eye(20), torch.rand(20)
    options = {"upstream": upstream, "reduction": "none"}
    found = run(linear_cross_entropy, hidden, weight, ids, **options)
    wide = run(
        reference.linear_cross_entropy, hidden.double(), weight.double(), ids, **options
    )
    own = run(torch_own, hidden, weight, ids, **options)
    for f, w, o in zip(found, wide, own, strict=True):
        assert_close(f, w, o, torch.float32)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_other_reductions_match_the_twin(reduction):
    hidden, weight, targets = make_inputs()
    upstream = torch.randn(70) if reduction == "none" else torch.tensor(0.7)
    arguments = {"upstream": upstream, "reduction": reduction, "label_smoothing": 0.1}
    found = run(linear_cross_entropy, hidden, weight, targets, **arguments)
    wide = run(
        reference.linear_cross_entropy,
        hidden.double(), weight.double(), targets, **arguments,
    )  # fmt: skip
    for f, w in zip(found, wide, strict=True):
        assert relative_error(f, w) <= 1e-6


def test_another_ignore_index_is_ignored():
    hidden, weight, targets = make_inputs()
    targets[targets == -100] = 5
    found = linear_cross_entropy(hidden, weight, targets, ignore_index=5)
    expected = reference.linear_cross_entropy(hidden, weight, targets, ignore_index=5)
    torch.testing.assert_close(found, expected)


def test_ignored_tokens_get_no_loss_and_no_gradient():
    hidden, weight, targets = make_inputs()
    losses, grad_hidden, _ = run(
        linear_cross_entropy, hidden, weight, targets,
        upstream=torch.ones(70), reduction="none", z_loss=1e-3, label_smoothing=0.1,
    )  # fmt: skip
    ignored = targets == -100
    assert not losses[ignored].any()
    assert not grad_hidden[ignored].any()
    assert grad_hidden[~ignored].any(-1).all()


def test_an_all_ignored_sum_is_zero_with_zero_gradients():
    hidden, weight, targets = make_inputs()
    targets.fill_(-100)
    results = run(linear_cross_entropy, hidden, weight, targets, reduction="sum")
    assert all(not result.any() and result.isfinite().all() for result in results)


def test_a_mean_of_no_supervised_token_is_an_error():
    hidden, weight, targets = make_inputs()
    with pytest.raises(ValueError, match="at least one supervised token, found 70"):
        linear_cross_entropy(hidden, weight, targets.fill_(-100))


def test_no_tokens_at_all_sum_to_zero():
    hidden, weight = torch.randn(0, 8), torch.randn(20, 8)
    targets = torch.zeros(0, dtype=torch.long)
    results = run(linear_cross_entropy, hidden, weight, targets, reduction="sum")
    assert results[0] == 0.0
    assert not results[2].any()


def test_a_target_outside_the_vocabulary_is_an_error_in_a_mean_and_nan_in_a_sum():
    hidden, weight, targets = make_inputs()
    for wrong in (129, -3):
        targets[0] = wrong
        with pytest.raises(ValueError, match=r"in \[0, 129\) or -100: found 1"):
            linear_cross_entropy(hidden, weight, targets)
        assert linear_cross_entropy(hidden, weight, targets, reduction="sum").isnan()


def test_very_large_logits_stay_finite():
    hidden, weight, targets = make_inputs()
    # fp32 logits of 5e4 are 2e-3 off, and so are probabilities.
    found = run(linear_cross_entropy, hidden * 1e4, weight, targets)
    wide = run(
        reference.linear_cross_entropy,
        hidden.double() * 1e4, weight.double(), targets,
    )  # fmt: skip
    for f, w in zip(found, wide, strict=True):
        assert relative_error(f, w) <= 1e-2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "softcap": 4.0}], ids=["plain", "capped"]
)
def test_logprobs_and_their_gradients_match_float64(dtype, options):
    hidden, weight, targets = make_inputs(dtype=dtype)
    upstream = torch.randn(70)
    found = run(linear_logprobs, hidden, weight, targets, upstream, **options)
    wide = run(
        reference.linear_logprobs,
        hidden.double(), weight.double(), targets, upstream, **options,
    )  # fmt: skip
    assert found[0].shape == (70,)
    assert found[0].dtype == torch.float32
    for f, w in zip(found, wide, strict=True):
        assert_close(f, w, f, dtype)


def test_a_mean_over_very_many_tokens_does_not_underflow_in_fp16():
    hidden, weight, targets = make_inputs(dtype=torch.float16)
    upstream = torch.tensor(1e-5)
    found = run(linear_cross_entropy, hidden, weight, targets, upstream)
    wide = run(
        reference.linear_cross_entropy,
        hidden.double(),
        weight.double(),
        targets,
        upstream,
    )
    # The result itself is stored in fp16, whose smallest step is 6e-8.
    for f, w in zip(found[1:], wide[1:], strict=True):
        assert (f.double() - w).abs().max() <= 2**-25 * 1.01


def test_gradcheck_passes_through_the_operators():
    hidden, weight, targets = make_inputs((4, 3, 5))
    targets = targets.clamp_min(-100)

    def loss(h, w):  # the kernels compute in fp32: a wide step, a loose tolerance
        options = {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 2.0}
        out = linear_cross_entropy(
            h.float(), w.float(), targets, reduction="none", **options
        )
        return out.double()

    inputs = (hidden.double().requires_grad_(), weight.double().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-2, atol=2e-3, fast_mode=True)


def test_two_runs_agree_in_every_bit():
    inputs = make_inputs(dtype=torch.bfloat16)
    first = run(linear_cross_entropy, *inputs, z_loss=1e-3)
    second = run(linear_cross_entropy, *inputs, z_loss=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_token_gets_the_same_bits_in_a_smaller_batch():
    hidden, weight, targets = make_inputs((70, 33, 500))
    losses, grads, _ = run(linear_logprobs, hidden, weight, targets, torch.ones(70))
    part, part_grads, _ = run(
        linear_logprobs, hidden[:33], weight, targets[:33], torch.ones(33)
    )
    assert torch.equal(losses[:33], part)
    assert torch.equal(grads[:33], part_grads)


def test_a_token_of_fp16_gets_the_same_bits_beside_one_that_weighs_far_more():
    hidden, weight, targets = make_inputs((70, 33, 500), torch.float16)
    upstream = torch.ones(70)
    upstream[33:] = 1e4
    _, grads, _ = run(linear_logprobs, hidden, weight, targets, upstream)
    _, part_grads, _ = run(
        linear_logprobs, hidden[:33], weight, targets[:33], upstream[:33]
    )
    assert torch.equal(grads[:33], part_grads)


@pytest.mark.parametrize("range_", [1.0, 1e4, 1e8])
def test_fp16_gradients_of_tokens_that_weigh_differently_match_float64(range_):
    hidden, weight, targets = make_inputs((70, 33, 500), torch.float16)
    upstream = range_ ** -torch.rand(70)
    found = run(linear_logprobs, hidden, weight, targets, upstream)
    wide = run(
        reference.linear_logprobs, hidden.double(), weight.double(), targets, upstream
    )
    for f, w in zip(found[1:], wide[1:], strict=True):
        assert relative_error(f, w) <= 1e-3


def test_the_size_of_the_workspace_changes_no_bit(monkeypatch):
    inputs = make_inputs((70, 33, 500))
    whole = run(linear_cross_entropy, *inputs)
    monkeypatch.setattr(linear_loss, "WORKSPACE_BYTES", 1)
    cut = run(linear_cross_entropy, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_a_frozen_weight_gets_no_gradient():
    hidden, weight, targets = make_inputs()
    hidden.requires_grad_()
    linear_cross_entropy(hidden, weight, targets).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_rows_with_strides_are_read_in_place():
    hidden, weight, targets = make_inputs()
    wide = torch.zeros(70, 66)
    wide[:, :33] = hidden
    found = linear_cross_entropy(wide[:, :33], weight.T.contiguous().T, targets)
    assert torch.equal(found, linear_cross_entropy(hidden, weight, targets))


def test_row_offsets_beyond_two_to_the_31_elements_are_right():
    # expand() makes rows 2**30 elements apart without the memory: 3 rows share none
    # of it, so a 64-bit offset is the only way to reach the third.
    storage = torch.empty(0, dtype=torch.float16)
    try:
        storage = torch.empty(2 * 2**30 + 8, dtype=torch.float16)
    except RuntimeError:
        pytest.skip("cannot map 4 GiB of address space")
    hidden = storage.as_strided((3, 8), (2**30, 1))
    hidden.copy_(torch.randn(3, 8))
    weight = torch.randn(20, 8).half()
    targets = torch.tensor([1, 2, 3])
    found = linear_logprobs(hidden, weight, targets)
    assert torch.equal(found, linear_logprobs(hidden.contiguous(), weight, targets))


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, of rows then set to 0
@pytest.mark.parametrize("entropy", [False, True])
def test_the_operators_pass_opcheck(entropy):
    hidden, weight, targets = make_inputs((5, 7, 23))
    hidden.requires_grad_()
    weight.requires_grad_()
    statistics = torch.ops.triptych.linear_statistics.default
    rest = (targets, -100, 2.0, 0.5, True, entropy)
    torch.library.opcheck(statistics, (hidden, weight, *rest))
    with torch.no_grad():
        results = statistics(hidden, weight, *rest)
        backward = torch.ops.triptych.linear_statistics_backward.default
        gradients = (torch.ones_like(x) for x in results[:4])
        torch.library.opcheck(
            backward,
            (*gradients, hidden.detach(), weight.detach(), targets, results[1],
             *results[3:], -100, 2.0, 0.5, True, True),
        )  # fmt: skip
    counting = torch.ops.triptych.count_supervised.default
    torch.library.opcheck(counting, (targets, -100, 23))


def test_torch_compile_makes_one_graph_of_the_mean_loss():
    hidden, weight, targets = make_inputs((5, 7, 23))
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    options = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 2.0}
    eager = run(linear_cross_entropy, hidden, weight, targets, **options)
    found = run(compiled, hidden, weight, targets, **options)
    for f, e in zip(found, eager, strict=True):
        torch.testing.assert_close(f, e)


WRONG = {
    "hidden must be": lambda h, w, t: (h[None], w, t, {}),
    "hidden must be .* found .* of torch.float64": lambda h, w, t: (
        h.double(), w.double(), t, {}),
    r"weight must have shape \(vocab_size, 33\), found \(129, 32\)": lambda h, w, t: (
        h, w[:, :32], t, {}),
    "weight must have hidden's dtype": lambda h, w, t: (h, w.half(), t, {}),
    r"targets must have shape \(70,\) .* found \(69,\)": lambda h, w, t: (
        h, w, t[:69], {}),
    "of torch.float32": lambda h, w, t: (h, w, t.float(), {}),
    "reduction must be": lambda h, w, t: (h, w, t, {"reduction": "max"}),
    r"label_smoothing must be in \[0, 1\]": lambda h, w, t: (
        h, w, t, {"label_smoothing": 1.5}),
    "softcap must be positive": lambda h, w, t: (h, w, t, {"softcap": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(("message", "spoil"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, spoil):
    hidden, weight, targets, options = spoil(*make_inputs())
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(hidden, weight, targets, **options)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be positive, found 0\.0"):
        linear_logprobs(*make_inputs(), temperature=0.0)


def filtered_inputs():
    """A few likely entries in the first tile; the other two of 64 are all unlikely."""
    hidden, weight = torch.randn(130, 24), torch.randn(170, 24) * 0.02
    hidden[:, 0] = 1.0
    weight[:64, 0] += 9.0
    return hidden, weight, torch.randint(0, 64, (130,))


def gradients(hidden, weight, targets, **options):
    leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
    linear_cross_entropy(*leaves, targets, reduction="sum", **options).backward()
    return [x.grad for x in leaves]


def test_a_filtered_gradient_is_within_its_bound_of_the_exact_one():
    hidden, weight, targets = filtered_inputs()
    least = 2.0**-12
    exact = gradients(hidden, weight, targets)
    found = gradients(hidden, weight, targets, gradient_filter=least)
    # What is left out of a logit's gradient is its probability, below `least`.
    slack = 1e-6
    of_hidden = least * weight.abs().sum(0) + slack
    of_weight = least * hidden.abs().sum(0) + slack
    assert ((found[0] - exact[0]).abs() <= of_hidden).all()
    assert ((found[1] - exact[1]).abs() <= of_weight).all()
    assert torch.equal(found[1][128:], torch.zeros_like(found[1][128:]))
    assert exact[1][128:].abs().min() > 0.0
    assert torch.equal(found[1][:64], exact[1][:64])


@pytest.mark.parametrize(
    ("kernel", "tile"),
    [
        ("dlogits", (64, 128, 64)), ("dlogits", (128, 64, 64)), ("product", (128, 64, 64)),
        ("product", (64, 64, 128)), ("product", (32, 64, 16)),
    ],
)  # fmt: skip
def test_tiles_of_a_file_of_ones_own_leave_out_what_they_may(monkeypatch, kernel, tile):
    taken = configs.Tile(*tile, 4, 1)
    monkeypatch.setattr(
        linear_loss,
        "loss_tile",
        lambda name, *x, **more: (
            taken if name == kernel else configs.loss_tile(name, *x, **more)
        ),
    )
    hidden, weight, targets = filtered_inputs()
    # Every other tile of 64 entries is likely, and so is kept by some products alone.
    weight[128:, 0] += 9.0
    exact = gradients(hidden, weight, targets)
    found = gradients(hidden, weight, targets, gradient_filter=2.0**-12)
    for f, e in zip(found, exact, strict=True):
        assert (f - e).norm() <= 0.01 * e.norm()


def test_a_filter_that_leaves_nothing_out_changes_no_bit():
    hidden, weight, targets = filtered_inputs()
    exact = gradients(hidden, weight, targets)
    found = gradients(hidden, weight, targets, gradient_filter=1e-30)
    assert all(torch.equal(f, e) for f, e in zip(found, exact, strict=True))


def test_a_filter_beside_label_smoothing_is_refused():
    with pytest.raises(ValueError, match="label_smoothing gives every logit"):
        gradients(*filtered_inputs(), gradient_filter=1e-3, label_smoothing=0.1)
