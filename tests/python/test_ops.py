"""Operators against plain PyTorch: values, gradients, memory, isolation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from triptych import ops
from triptych.errors import ConfigError

TOKENS, WIDTH, VOCAB_SIZE = 1100, 24, 123  # two chunks and a ragged third

FEATURES = [
    pytest.param({}, id="plain"),
    pytest.param({"label_smoothing": 0.1}, id="label smoothing"),
    pytest.param({"z_loss": 1e-2}, id="z-loss"),
    pytest.param({"softcap": 5.0}, id="soft-cap"),
    pytest.param(
        {"label_smoothing": 0.2, "z_loss": 1e-3, "softcap": 3.0}, id="everything"
    ),
]


def inputs(tokens=TOKENS, ignored=True):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, WIDTH, generator=generator)
    weight = torch.randn(VOCAB_SIZE, WIDTH, generator=generator)
    targets = torch.randint(0, VOCAB_SIZE, (tokens,), generator=generator)
    if ignored:
        targets[::7] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def plain_losses(
    hidden, weight, targets, *, label_smoothing=0.0, z_loss=0.0, softcap=None
):
    """(tokens,) losses from logits that are built in full."""
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    losses = F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=label_smoothing
    )
    return losses + z_loss * logits.logsumexp(1).square() * (targets != -100)


def assert_same_gradients(loss, expected, tensors):
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    found, wanted = (torch.autograd.grad(x, tensors) for x in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_and_its_gradients_equal_pytorch(features, reduction):
    hidden, weight, targets = inputs()
    # a weight of a thousandth keeps sums near 1, where 1e-6 is about float32's eps
    scale = 1.0 if reduction == "mean" else 1e-3
    loss = ops.linear_cross_entropy(
        hidden, weight, targets, reduction=reduction, **features
    )
    losses = plain_losses(hidden, weight, targets, **features)
    expected = losses.sum()
    if reduction == "mean":
        expected = expected / (targets != -100).sum()
    assert_same_gradients(loss * scale, expected * scale, (hidden, weight))


@pytest.mark.parametrize("features", FEATURES)
def test_per_token_losses_take_any_upstream_gradient(features):
    hidden, weight, targets = inputs()
    upstream = torch.linspace(-1e-3, 2e-3, TOKENS)
    losses = ops.linear_cross_entropy(
        hidden, weight, targets, reduction="none", **features
    )
    assert losses[::7].abs().max() == 0
    expected = plain_losses(hidden, weight, targets, **features)
    assert_same_gradients(
        (losses * upstream).sum(), (expected * upstream).sum(), (hidden, weight)
    )


def test_weights_multiply_each_tokens_loss():
    hidden, weight, targets = inputs()
    weights = torch.linspace(0, 1e-3, TOKENS)
    for reduction in ("sum", "none"):
        expected = (plain_losses(hidden, weight, targets) * weights).sum()
        loss = ops.linear_cross_entropy(
            hidden, weight, targets, weights=weights, reduction=reduction
        )
        assert_same_gradients(loss.sum(), expected, (hidden, weight))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_weights_that_learn_get_a_gradient_whatever_the_reduction(reduction, compiled):
    hidden, weight, targets = inputs()
    weights = torch.linspace(0, 1e-3, TOKENS).requires_grad_()

    def total(hidden, weight, weights):
        return ops.linear_cross_entropy(
            hidden, weight, targets, weights=weights, reduction=reduction
        ).sum()

    expected = (plain_losses(hidden, weight, targets) * weights).sum()
    if reduction == "mean":
        expected = expected / (targets != -100).sum()
    if compiled:
        total = torch.compile(total, fullgraph=True, backend="aot_eager")
    found = total(hidden, weight, weights)
    assert_same_gradients(found, expected, (hidden, weight, weights))


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "softcap": 4.0}])
def test_logprobs_and_their_gradients_equal_pytorch(settings):
    hidden, weight, targets = inputs()
    logps = ops.linear_logprobs(hidden, weight, targets, **settings)
    logits = hidden @ weight.T
    if settings:
        logits = 4.0 * torch.tanh(logits / 4.0) / 0.7
    expected = -F.cross_entropy(logits, targets, reduction="none")
    upstream = torch.linspace(-1e-3, 1e-3, TOKENS)
    assert_same_gradients(
        (logps * upstream).sum(), (expected * upstream).sum(), (hidden, weight)
    )


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "softcap": 4.0}])
def test_token_statistics_and_their_gradients_equal_pytorch(settings):
    hidden, weight, targets = inputs()
    found = ops.linear_statistics(hidden, weight, targets, **settings)
    logits = hidden @ weight.T
    if settings:
        logits = 4.0 * torch.tanh(logits / 4.0) / 0.7
    logps = logits.log_softmax(1)
    expected = (
        -F.cross_entropy(logits, targets, reduction="none"),
        logits.logsumexp(1),
        -(logps.exp() * logps).sum(1),
        logits.mean(1),
    )
    counted = targets != -100
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other * counted, rtol=1e-5, atol=1e-6)
    scales = torch.linspace(-1e-3, 2e-3, 4 * TOKENS).view(4, TOKENS)
    assert_same_gradients(
        sum((x * s).sum() for x, s in zip(found, scales, strict=True)),
        sum((x * s * counted).sum() for x, s in zip(expected, scales, strict=True)),
        (hidden, weight),
    )


@pytest.mark.parametrize("by", ["", "cpu"], ids=["by the engine", "by torch"])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_large_logits_lose_no_digits_of_a_probability(monkeypatch, by, reduction):
    monkeypatch.setenv("TRIPTYCH_OPS", by)
    weight = 1e4 * torch.randn(50, 20, generator=torch.manual_seed(0))
    targets = torch.arange(20)
    weight[targets, targets] = 4e4
    weight[targets + 1, targets] = 4e4 - 0.5  # the two share the probability

    def results(dtype, loss):
        leaf = weight.detach().to(dtype).requires_grad_()
        losses = loss(torch.eye(20, dtype=dtype), leaf)
        losses.sum().backward()
        return losses.double(), leaf.grad.double()

    found = results(
        torch.float32,
        lambda *x: ops.linear_cross_entropy(*x, targets, reduction=reduction),
    )
    exact = results(
        torch.float64,
        lambda x, w: F.cross_entropy(x @ w.T, targets, reduction=reduction),
    )
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


def test_bfloat16_accumulates_in_float32():
    hidden, weight, targets = inputs()
    expected = plain_losses(hidden, weight, targets).sum() / (targets != -100).sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ops.linear_cross_entropy(hidden, weight, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    found, wanted = (torch.autograd.grad(x, weight)[0] for x in (loss, expected))
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found.flatten(), wanted.flatten(), 0) > 0.9999


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operator returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.numel())
        return output


@pytest.mark.parametrize("per_token", [False, True])
def test_no_tensor_of_all_tokens_by_all_words_is_ever_built(per_token):
    hidden, weight, targets = inputs(tokens=4096)
    with LargestTensor() as largest:
        if per_token:
            ops.linear_logprobs(hidden, weight, targets).sum().backward()
        else:
            ops.linear_cross_entropy(hidden, weight, targets).backward()
    assert largest.numel <= max(512 * VOCAB_SIZE, hidden.numel())
    assert largest.numel < targets.numel() * VOCAB_SIZE / 4


def test_ignored_tokens_never_reach_the_matrix_product():
    hidden, weight, targets = inputs(tokens=600, ignored=False)
    targets[10:] = -100
    poisoned = hidden.detach().clone()
    poisoned[10:] = math.nan
    assert ops.linear_cross_entropy(poisoned, weight, targets).isfinite()


def test_a_mean_over_nothing_is_an_error():
    hidden, weight, targets = inputs(tokens=4)
    with pytest.raises(ValueError, match="at least one that counts, found none"):
        ops.linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    nothing = ops.linear_cross_entropy(
        hidden, weight, torch.full_like(targets, -100), reduction="sum"
    )
    assert nothing.item() == 0.0


def test_bad_arguments_are_named():
    hidden, weight, targets = inputs(tokens=4, ignored=False)
    with pytest.raises(ValueError, match=r"found \(4, 24\), \(123, 24\) and \(3,\)"):
        ops.linear_cross_entropy(hidden, weight, targets[:3])
    with pytest.raises(ValueError, match="ids below 123, found 123"):
        ops.linear_cross_entropy(hidden, weight, torch.full_like(targets, 123))
    with pytest.raises(ValueError, match='found "average"'):
        ops.linear_cross_entropy(hidden, weight, targets, reduction="average")


def explicit_attention(
    q, k, v, cu_seqlens, causal=True, window=None, softcap=None, scale=None, sinks=None,
    pairs=None,
):  # fmt: skip
    """Attention from one dense mask over all tokens."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    scale = q.shape[2] ** -0.5 if scale is None else scale
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    place = torch.arange(q.shape[0])
    document = torch.searchsorted(cu_seqlens, place.int(), right=True)
    distance = place[:, None] - place
    seen = document[:, None] == document
    if causal or window is not None:
        seen &= distance >= 0
    if window is not None:
        seen &= distance < window
    for (chosen, rejected), end in zip(pairs or (), cu_seqlens[1:], strict=bool(pairs)):
        seen[rejected:end, chosen:rejected] = False
    scores = scores.masked_fill(~seen, -math.inf)
    if sinks is None:
        weights = scores.softmax(-1)
    else:
        exp = scores.exp()
        weights = exp / (exp.sum(-1, keepdim=True) + sinks.exp()[:, None, None])
    return torch.einsum("hij,jhd->ihd", weights, v)


def assert_like_explicit(leaves, inputs, cu_seqlens, rules, generator):
    """The result and the gradients of `leaves` are those of attention written out."""
    found = ops.attention(*inputs, cu_seqlens=cu_seqlens, **rules)
    expected = explicit_attention(*inputs, cu_seqlens, **rules)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(found.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad(found, leaves, upstream),
        torch.autograd.grad(expected, leaves, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"causal": False},
        {"window": 3},
        {"softcap": 2.0},
        {"window": 2, "softcap": 2.0, "scale": 0.3},
        {"scale": -0.3},
        {"scale": 0.0},
        {"window": 3, "scale": -0.3},
        {"sinks": (0.5, -1.0, 2.0, 0.0)},
        {"window": 3, "softcap": 2.0, "sinks": (0.5, -1.0, 2.0, 0.0)},
    ],
)
@pytest.mark.parametrize("lengths", [[12], [4, 4, 4], [3, 5, 1, 3, 0], [7, 2, 7, 2]])
def test_packed_attention_equals_a_dense_mask(rules, lengths):
    generator = torch.Generator().manual_seed(1)
    tokens = sum(lengths)
    q = torch.randn(tokens, 4, 8, generator=generator, requires_grad=True)
    k, v = (
        torch.randn(tokens, 2, 8, generator=generator, requires_grad=True)
        for _ in range(2)
    )
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    leaves = [q, k, v]
    if "sinks" in rules:
        leaves.append(torch.tensor(rules["sinks"], requires_grad=True))
        rules = {**rules, "sinks": leaves[-1]}
    assert_like_explicit(leaves, (q, k, v), cu_seqlens, rules, generator)


@pytest.mark.parametrize("rules", [{}, {"softcap": 2.0}, {"sinks": (0.5, -1.0)}])
@pytest.mark.parametrize("window", [1, 30, 200])
def test_a_window_over_long_documents_equals_a_dense_mask(rules, window):
    lengths = torch.tensor([0, 700, 5, 131, 700])
    cu_seqlens = lengths.cumsum(0)
    generator = torch.Generator().manual_seed(2)
    shapes = (int(lengths.sum()), 2, 8), *[(int(lengths.sum()), 1, 8)] * 2
    leaves = [torch.randn(x, generator=generator, requires_grad=True) for x in shapes]
    rules = {"window": window} | {
        name: torch.tensor(x) if name == "sinks" else x for name, x in rules.items()
    }
    assert_like_explicit(leaves, leaves, cu_seqlens, rules, generator)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_memory_under_a_window_grows_with_the_length_and_not_with_its_square(softcap):
    found = []
    for tokens in (1024, 4096):
        q = torch.randn(tokens, 2, 8, requires_grad=True)
        with LargestTensor() as largest:
            ops.attention(q, q, q, window=64, softcap=softcap).sum().backward()
        found.append(largest.numel)
    assert found[1] <= 4.5 * found[0]


def test_documents_seen_first_without_gradients_are_trained_on_next():
    cu_seqlens = torch.tensor([0, 1, 5, 7])  # lengths that no other test has
    q = torch.randn(7, 2, 8, requires_grad=True)
    with torch.inference_mode():
        expected = ops.attention(q, q, q, cu_seqlens=cu_seqlens)
    found = ops.attention(q, q, q, cu_seqlens=cu_seqlens)
    found.sum().backward()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("head_dim", [8, 16], ids=["by torch", "by the engine"])
def test_rows_without_a_token_have_a_gradient_of_nothing(head_dim):
    q, k, v = (torch.ones(0, 2, head_dim, requires_grad=True) for _ in range(3))
    sinks = torch.ones(2, requires_grad=True)
    found = ops.attention(q, k, v, cu_seqlens=torch.tensor([0, 0]), sinks=sinks)
    found.sum().backward()
    assert all(x.grad.shape == (0, 2, head_dim) for x in (q, k, v))
    assert sinks.grad.tolist() == [0.0, 0.0]  # as ranks that exchange gradients need


@pytest.mark.parametrize("head_dim", [8, 16], ids=["by torch", "by the engine"])
def test_types_that_differ_are_an_error_that_autocast_heals(head_dim):
    q, k = torch.randn(5, 2, head_dim), torch.randn(5, 2, head_dim).bfloat16()
    with pytest.raises(ValueError, match=r"one floating type, found .*32, .*bfloat16"):
        ops.attention(q, k, k)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.attention(q, k, k).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"found torch\.int64"):
        ops.attention(*(torch.ones(5, 2, head_dim, dtype=torch.int64),) * 3)


def test_boundaries_that_do_not_cover_the_tokens_are_an_error():
    q = torch.randn(5, 2, 4)
    cu_seqlens = torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ValueError, match="from 0 to 5 tokens, found 0 to 3"):
        ops.attention(q, q, q, cu_seqlens=cu_seqlens)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_second_response_of_a_pair_does_not_see_the_first(softcap):
    q, k, v = (torch.randn(24, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    cu_seqlens = torch.tensor([0, 7, 7, 14, 14, 24], dtype=torch.int32)
    pairs = ((2, 4), (7, 7), (10, 11), (14, 14), (16, 20))
    found = ops.attention(
        q, k, v, cu_seqlens=cu_seqlens, softcap=softcap, pairs=torch.tensor(pairs)
    )
    expected = explicit_attention(q, k, v, cu_seqlens, softcap=softcap, pairs=pairs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_pairs_that_fit_nothing_are_an_error():
    q = torch.randn(5, 2, 4)
    pairs = torch.tensor([[2, 3], [4, 4]])
    with pytest.raises(ValueError, match=r"pairs: expected \(1, 2\), found \(2, 2\)"):
        ops.attention(q, q, q, pairs=pairs)
    with pytest.raises(ValueError, match="causal attention without a window"):
        ops.attention(q, q, q, pairs=pairs[:1], window=3)


def test_sinks_of_another_number_of_heads_are_an_error():
    q = torch.randn(5, 2, 4)
    with pytest.raises(ValueError, match=r"sinks: expected \(2,\), found \(3,\)"):
        ops.attention(q, q, q, sinks=torch.zeros(3))


def test_an_implementation_that_cannot_be_had_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    hidden, weight, targets = inputs(tokens=4)
    monkeypatch.setenv("TRIPTYCH_OPS", "triton")
    with pytest.raises(ConfigError, match="TRITON_INTERPRET=1"):
        ops.linear_cross_entropy(hidden, weight, targets)
    monkeypatch.setenv("TRIPTYCH_OPS", "fastest")
    with pytest.raises(ConfigError, match=r"expected one of .* found `fastest`"):
        ops.linear_cross_entropy(hidden, weight, targets)


def test_the_reference_gives_the_same_loss_where_it_is_there(monkeypatch):
    reference = pytest.importorskip("triptych_kernels.reference")
    if not hasattr(reference, "linear_cross_entropy"):
        pytest.skip("triptych_kernels.reference has no linear_cross_entropy")
    hidden, weight, targets = inputs()
    loss = ops.linear_cross_entropy(hidden, weight, targets)
    monkeypatch.setenv("TRIPTYCH_OPS", "reference")
    expected = ops.linear_cross_entropy(hidden, weight, targets)
    assert_same_gradients(loss, expected, (hidden, weight))
