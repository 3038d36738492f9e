"""Packed attention against its twin, in Triton's interpreter or on a GPU."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from tolerances import assert_close
from triptych_kernels import attention, configs, flash_attention, reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Documents of one token, of none, inside a tile, and of several tiles.
PACKED = (0, 1, 1, 2, 35, 90, 90)

# Where two responses to a document's prompt start; twice the same is no pair.
PAIRS = ((1, 1), (1, 1), (2, 2), (10, 20), (52, 71), (90, 90))

OPTIONS = {
    "causal": {},
    "full": {"causal": False},
    "window": {"window": 9},
    "window past a tile": {"window": 37},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": (0.5, -1.0)},
    "pairs": {"pairs": PAIRS},
    "pairs, softcap, sinks": {"pairs": PAIRS, "softcap": 2.0, "sinks": (0.5, -1.0)},
    "dropout": {"dropout": 0.3},
    "full, dropout": {"causal": False, "dropout": 0.5},
    "pairs, dropout": {"pairs": PAIRS, "dropout": 0.1},
    "all, dropout": {
        "window": 20, "softcap": 2.0, "sinks": (-0.5, 3.0), "dropout": 0.25
    },
    "all": {"window": 20, "softcap": 2.0, "scale": 0.3, "sinks": (-0.5, 3.0)},
}  # fmt: skip


def make_inputs(tokens=90, heads=2, kv_heads=1, head_dim=16, dtype=torch.float32):
    """q, k, v and the upstream gradient."""
    sizes = (heads, kv_heads, kv_heads, heads)
    return [torch.randn(tokens, n, head_dim).to(dtype) for n in sizes]


def run(function, q, k, v, upstream, *, sinks=None, pairs=None, **options):
    """Output, and gradients of q, k, v and, if there are any, sinks."""
    if pairs is not None:
        options["pairs"] = torch.tensor(pairs)
    if "dropout" in options:
        options.setdefault("seed", torch.tensor(-(2**62) + 12345))
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    if sinks is not None:
        options["sinks"] = torch.tensor(sinks, dtype=q.dtype, requires_grad=True)
    out = function(*leaves, **options)
    leaves += [] if sinks is None else [options["sinks"]]
    out.backward(upstream.to(out.dtype))
    return out.detach(), *(x.grad for x in leaves)


def cu(boundaries):
    return torch.tensor(boundaries, dtype=torch.int32)


def torch_own(
    q, k, v, *, cu_seqlens, causal=True, window=None, softcap=None, scale=None,
    sinks=None, pairs=None, dropout=0.0, seed=None,
):  # fmt: skip
    """Attention as one writes it in torch, in the inputs' dtype."""
    tokens, heads, head_dim = q.shape
    seen = reference._seen(tokens, cu_seqlens, causal, window, q.device)
    if pairs is not None:
        seen &= ~reference._other_response(tokens, cu_seqlens, pairs)
    group = heads // k.shape[1]
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    scores = q @ k.repeat_interleave(group, 0).mT * (scale or head_dim**-0.5)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        sinks = sinks[:, None, None].expand(-1, tokens, 1)
        scores = torch.cat((scores, sinks), -1)
    p = F.softmax(scores, -1)[..., :tokens]
    if dropout:
        halves = reference._random_halves(heads, tokens, cu_seqlens, seed)
        p = p * (halves >= round(dropout * 2**16)) / (1.0 - dropout)
    return (p @ v.repeat_interleave(group, 0)).transpose(0, 1)


def assert_parity(inputs, **options):
    found = run(attention, *inputs, **options)
    wide = run(reference.attention, *(x.double() for x in inputs), **options)
    own = run(torch_own, *inputs, **options)
    for f, w, o in zip(found, wide, own, strict=True):
        assert f.dtype == inputs[0].dtype
        assert_close(f, w, o, f.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_output_and_gradients_match_float64(dtype, options):
    q, k, v, upstream = make_inputs(dtype=dtype)
    if "sinks" in options and dtype == torch.float32:
        # Theirs is a sum over all tokens; of both signs, it would cancel to the last
        # bits of torch's own too.
        v, upstream = v.abs(), upstream.abs()
    assert_parity((q, k, v, upstream), cu_seqlens=cu(PACKED), **options)


@pytest.mark.parametrize(("tokens", "head_dim"), [(33, 64), (130, 64)])
def test_large_scores_match_float64_too(tokens, head_dim):
    q, *others = make_inputs(tokens, 2, 2, head_dim)
    assert_parity((4.0 * q, *others), cu_seqlens=cu([0, tokens]))


@pytest.mark.parametrize("head_dim", [5, 20, 64, 128, 256])
def test_every_head_dim_matches_float64(head_dim):
    inputs = make_inputs(40, 1, 1, head_dim)
    assert_parity(inputs, cu_seqlens=cu([0, 7, 40]))


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 2), (3, 1)])
def test_grouped_queries_share_keys_and_values(heads, kv_heads):
    inputs = make_inputs(30, heads, kv_heads, dtype=torch.float16)
    assert_parity(inputs, cu_seqlens=cu([0, 12, 30]))


def test_causal_attention_agrees_with_torchs_own_operator():
    q, k, v, _ = make_inputs(50, 4, 2)
    heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
    expected = F.scaled_dot_product_attention(
        *heads_first, is_causal=True, enable_gqa=True
    )
    found = attention(q, k, v)
    torch.testing.assert_close(found, expected[0].transpose(0, 1))


def test_no_boundaries_mean_one_document():
    inputs = make_inputs(40)
    whole = run(attention, *inputs)
    one = run(attention, *inputs, cu_seqlens=cu([0, 40]))
    assert all(torch.equal(a, b) for a, b in zip(whole, one, strict=True))


@pytest.mark.parametrize("window", [None, 20])
def test_production_tiles_match_float64_too(monkeypatch, window):
    tiles = {kernel: configs.ATTENTION[kernel, 64, "sm_90"] for kernel in
             ("forward", "dq", "dkdv")}  # fmt: skip
    monkeypatch.setattr(
        flash_attention, "attention_tile", lambda name, *_, **__: tiles[name]
    )
    inputs = make_inputs(200, 2, 1, 64, torch.bfloat16)
    assert_parity(inputs, cu_seqlens=cu([0, 3, 200]), window=window)


def test_a_window_of_one_returns_the_values():
    q, k, v, _ = make_inputs(40, 1, 1)
    torch.testing.assert_close(attention(q, k, v, window=1), v)


def test_a_window_as_long_as_the_row_changes_nothing():
    inputs = make_inputs(90)
    wide = run(attention, *inputs, window=90)
    for w, n in zip(wide, run(attention, *inputs), strict=True):
        torch.testing.assert_close(w, n)


def test_a_sink_is_a_key_whose_value_is_zero():
    q, k, v, _ = make_inputs(30, 1, 1)
    extra = torch.zeros(1, 1, 16)
    extra[..., 0] = 1.0
    q[..., 0] = 1.2  # so that every query scores the extra key alike
    k[..., 0] = 0.0
    longer = [
        torch.cat((more, x)) for more, x in ((q[:1], q), (extra, k), (0 * extra, v))
    ]
    found = attention(q, k, v, sinks=torch.tensor([1.2 / 4.0]))
    torch.testing.assert_close(found, attention(*longer)[1:])


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("options", [{"causal": False}, {"window": 9, "dropout": 0.3}])
def test_a_sinks_gradient_is_right_where_most_of_its_sum_cancels(dtype, options):
    for seed in range(8):  # one head each: no larger gradient hides a small one's error
        torch.manual_seed(seed)
        inputs = make_inputs(64, 1, 1, 32, dtype)
        assert_parity(inputs, cu_seqlens=cu([0, 21, 64]), sinks=(0.5,), **options)


def test_a_sink_of_minus_infinity_is_none():
    inputs = make_inputs(dtype=torch.float16)
    plain = run(attention, *inputs, cu_seqlens=cu(PACKED))
    never = (float("-inf"),) * 2
    *found, grad = run(attention, *inputs, cu_seqlens=cu(PACKED), sinks=never)
    assert all(torch.equal(f, p) for f, p in zip(found, plain, strict=True))
    assert torch.equal(grad, torch.zeros_like(grad))


def test_sinks_of_float32_serve_a_bfloat16_layer():
    q, k, v, _ = make_inputs(dtype=torch.bfloat16)
    sinks = torch.zeros(2, requires_grad=True)
    attention(q, k, v, sinks=sinks).sum().backward()
    assert sinks.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (0, 1),
        (1, 2),
        (16, 48),
        (31, 33),
        (0, 69),
        (40, 41),
        (5, 64),
        (69, 70),
        (33, 60),
    ],
)
def test_pairs_that_start_anywhere_match_float64(chosen, rejected):
    inputs = make_inputs(75)
    pairs = ((chosen, rejected), (71, 73))
    assert_parity(inputs, cu_seqlens=cu([0, 70, 75]), pairs=pairs)


def test_each_response_of_a_pair_gets_what_it_gets_alone():
    q, k, v, _ = make_inputs(60)
    paired = attention(q, k, v, pairs=torch.tensor([[20, 45]]))
    torch.testing.assert_close(paired[:45], attention(q[:45], k[:45], v[:45]))
    rows = torch.cat((torch.arange(20), torch.arange(45, 60)))
    torch.testing.assert_close(paired[rows], attention(q[rows], k[rows], v[rows]))


def test_a_document_without_a_pair_keeps_its_bits_beside_one_with():
    inputs = make_inputs(90)
    plain = run(attention, *inputs, cu_seqlens=cu(PACKED))
    beside = run(attention, *inputs, cu_seqlens=cu(PACKED), pairs=PAIRS)
    assert all(torch.equal(p[:2], b[:2]) for p, b in zip(plain, beside, strict=True))
    none = tuple((end, end) for end in PACKED[1:])
    unpaired = run(attention, *inputs, cu_seqlens=cu(PACKED), pairs=none)
    assert all(torch.equal(p, u) for p, u in zip(plain, unpaired, strict=True))


def test_pairs_outside_their_document_are_clamped_to_it():
    inputs = make_inputs(30)
    found = run(
        attention, *inputs, cu_seqlens=cu([0, 12, 30]), pairs=((5, 99), (-3, 20))
    )
    expected = run(
        attention, *inputs, cu_seqlens=cu([0, 12, 30]), pairs=((5, 12), (12, 20))
    )
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def weights_left(boundaries, dropout, seed=7, tokens=64, function=attention):
    """(T, 2, T) bool: which weights of causal attention dropout leaves."""
    q = k = torch.zeros(tokens, 2, tokens)
    v = torch.eye(tokens)[:, None].expand(-1, 2, -1)
    seeds = {"dropout": dropout, "seed": torch.tensor(seed)}
    return function(q, k, v, cu_seqlens=cu(boundaries), **seeds) > 0.0


def test_dropout_leaves_the_very_weights_its_twin_leaves():
    for bounds in ([0, 64], [0, 1, 23, 64]):
        found = weights_left(bounds, 0.4)
        assert torch.equal(
            found, weights_left(bounds, 0.4, function=reference.attention)
        )


def test_dropout_takes_its_share_in_any_head_and_another_with_another_seed():
    possible = weights_left([0, 64], 0.0).sum()
    one, other = weights_left([0, 64], 0.25), weights_left([0, 64], 0.25, seed=8)
    # 4,160 weights: a standard deviation is 0.0067.
    assert abs(one.sum() / possible - 0.75) < 0.025
    assert abs((one & other).sum() / possible - 0.75**2) < 0.03
    both_heads = (one[:, 0] & one[:, 1]).sum() / (possible / 2)
    assert abs(both_heads - 0.75**2) < 0.04


def test_a_documents_dropout_does_not_depend_on_where_it_is_packed():
    inputs = make_inputs(90)
    packed = run(attention, *inputs, cu_seqlens=cu(PACKED), dropout=0.3)
    alone = run(attention, *(x[35:90] for x in inputs), dropout=0.3)
    assert all(torch.equal(p[35:90], a) for p, a in zip(packed, alone, strict=True))


def test_dropout_of_nothing_changes_no_bit():
    inputs = make_inputs(40)
    plain = run(attention, *inputs)
    none = run(attention, *inputs, dropout=0.0)
    assert all(torch.equal(p, n) for p, n in zip(plain, none, strict=True))


def test_no_tokens_give_no_output():
    inputs = make_inputs(0)
    out, *grads = run(attention, *inputs, cu_seqlens=cu([0, 0]))
    assert out.shape == (0, 2, 16)
    assert [tuple(g.shape) for g in grads] == [(0, 2, 16), (0, 1, 16), (0, 1, 16)]


def test_two_runs_agree_in_every_bit():
    inputs = make_inputs(dtype=torch.bfloat16)
    first = run(attention, *inputs, cu_seqlens=cu(PACKED))
    second = run(attention, *inputs, cu_seqlens=cu(PACKED))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("window", [None, 20])
def test_a_documents_bits_do_not_depend_on_where_it_is_packed(window):
    inputs = make_inputs(90)
    packed = run(attention, *inputs, cu_seqlens=cu(PACKED), window=window)
    alone = run(attention, *(x[35:90] for x in inputs), window=window)
    assert all(torch.equal(p[35:90], a) for p, a in zip(packed, alone, strict=True))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of inf and NaN
def test_a_huge_score_in_one_document_does_not_reach_another():
    q, k, v, upstream = make_inputs(40)
    clean = run(attention, q, k, v, upstream, cu_seqlens=cu([0, 20, 40]))
    for x in (q, k, v, upstream):
        x[:20] = 1e30  # inf and NaN all over the first document
    dirty = run(attention, q, k, v, upstream, cu_seqlens=cu([0, 20, 40]))
    assert all(torch.equal(c[20:], d[20:]) for c, d in zip(clean, dirty, strict=True))


def test_inputs_are_read_in_place_from_a_fused_projection():
    fused = torch.randn(40, 4, 16)
    q, k, v = fused[:, :2], fused[:, 2:3], fused[:, 3:]
    found = attention(q, k, v)
    expected = attention(q.contiguous(), k.contiguous(), v.contiguous())
    assert torch.equal(found, expected)


def test_tiles_cover_every_token_once_and_cross_no_document():
    tiles = flash_attention.tile_table(cu(PACKED), 90, 16).tolist()
    assert len(tiles) == 6 + 6
    covered = []
    for start, document, end in tiles:
        if start < end:
            assert (document, end) in pairwise(PACKED)
            assert (start - document) % 16 == 0
            covered += range(start, min(start + 16, end))
    assert sorted(covered) == list(range(90))


def test_the_dearest_tiles_come_first():
    tiles = flash_attention.tile_table(cu(PACKED), 90, 16).tolist()
    work = [start - document for start, document, _ in tiles]
    assert work == sorted(work, reverse=True)
    full = flash_attention.tile_table(cu(PACKED), 90, 16, causal=False).tolist()
    lengths = [end - document for _, document, end in full]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("causal", [True, False])
def test_every_document_of_many_has_all_its_tiles(causal):
    lengths = torch.randint(0, 40, (150,))
    bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    tokens = int(bounds[-1])
    tiles = flash_attention.tile_table(bounds, tokens, 16, causal=causal)
    expected = sorted(
        [start, first, end]
        for first, end in pairwise(bounds.tolist())
        for start in range(first, end, 16)
    )
    spare = [[0, 0, 0]] * (tiles.shape[0] - len(expected))
    assert tiles[len(expected) :].tolist() == spare
    assert sorted(tiles[: len(expected)].tolist()) == expected


def test_a_long_document_has_more_tiles_than_a_step_places():
    tiles = flash_attention.tile_table(cu([0, 5, 3005]), 3005, 16).tolist()
    assert sorted(tiles)[2:] == [[start, 5, 3005] for start in range(5, 3005, 16)]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradcheck_passes_through_the_operators(dropout):
    inputs = [x.double().requires_grad_() for x in make_inputs(7, 2, 1, 4)[:3]]
    inputs.append(torch.tensor([0.5, -1.0]).double().requires_grad_())

    def packed(
        q, k, v, sinks
    ):  # the kernels compute in fp32: a wide step, a loose tolerance
        q, k, v, sinks = (x.float() for x in (q, k, v, sinks))
        out = attention(
            q, k, v, cu_seqlens=cu([0, 2, 7]), softcap=2.0, sinks=sinks,
            dropout=dropout, seed=torch.tensor(3),
        )  # fmt: skip
        return out.double()

    assert torch.autograd.gradcheck(packed, inputs, eps=1e-2, atol=2e-3, fast_mode=True)


@pytest.mark.parametrize("with_sinks", [False, True])
def test_the_operators_pass_opcheck(with_sinks):
    q, k, v, upstream = make_inputs(7)
    sinks = torch.randn(2) if with_sinks else None
    for x in (q, k, v, *([sinks] if with_sinks else [])):
        x.requires_grad_()
    pairs = torch.tensor([[2, 2], [3, 5]]) if with_sinks else None
    window = None if with_sinks else 3
    dropout = (0.3, torch.tensor(5)) if with_sinks else (0.0, None)
    rest = (cu([0, 2, 7]), True, window, 2.0, 0.25, sinks, pairs, *dropout)
    forward = torch.ops.triptych.attention.default
    torch.library.opcheck(forward, (q, k, v, *rest))
    with torch.no_grad():
        out, lse = forward(q, k, v, *rest)
    backward = torch.ops.triptych.attention_backward.default
    q, k, v = (x.detach() for x in (q, k, v))
    rest = (*rest[:5], sinks.detach() if with_sinks else None, pairs, *dropout)
    torch.library.opcheck(backward, (upstream, q, k, v, out, lse, *rest))


@pytest.mark.parametrize("sinks", [None, (0.5, -1.0)])
def test_torch_compile_makes_one_graph(sinks):
    inputs = make_inputs(20)
    pairs = None if sinks is None else ((3, 5), (10, 15))
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    eager = run(attention, *inputs, cu_seqlens=cu([0, 8, 20]), sinks=sinks, pairs=pairs)
    found = run(compiled, *inputs, cu_seqlens=cu([0, 8, 20]), sinks=sinks, pairs=pairs)
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


WRONG = {
    "q must be": lambda q, k, v: ((q[0], k, v), {}),
    "q must be .* torch.float64": lambda q, k, v: ((q.double(), k, v), {}),
    r"k must have shape \(90, kv_heads, 16\), found \(89, 1, 16\)": lambda q, k, v: (
        (q, k[1:], v), {}),
    "v must have q's dtype": lambda q, k, v: ((q, k, v.half()), {}),
    r"heads \(2\) must be a multiple .* found 3": lambda q, k, v: (
        (q, k.expand(-1, 3, -1), v.expand(-1, 3, -1)), {}),
    "window needs causal": lambda q, k, v: ((q, k, v), {"window": 3, "causal": False}),
    "window must be at least 1": lambda q, k, v: ((q, k, v), {"window": 0}),
    "softcap must be positive": lambda q, k, v: ((q, k, v), {"softcap": -1.0}),
    r"sinks must have shape \(2,\), found \(3,\)": lambda q, k, v: (
        (q, k, v), {"sinks": torch.zeros(3)}),
    r"pairs must have shape \(1, 2\), found \(2, 2\)": lambda q, k, v: (
        (q, k, v), {"pairs": torch.zeros(2, 2).long()}),
    "pairs need causal=True and no window": lambda q, k, v: (
        (q, k, v), {"pairs": torch.zeros(1, 2).long(), "window": 3}),
    r"dropout must be in \[0, 1\), found 1.0": lambda q, k, v: (
        (q, k, v), {"dropout": 1.0}),
    r"dropout needs a seed, \(\) of torch.int64, found None": lambda q, k, v: (
        (q, k, v), {"dropout": 0.1}),
    "cu_seqlens must have shape": lambda q, k, v: ((q, k, v), {"cu_seqlens": cu([0])}),
}  # fmt: skip


@pytest.mark.parametrize(("message", "spoil"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, spoil):
    inputs, options = spoil(*make_inputs()[:3])
    with pytest.raises(ValueError, match=message):
        attention(*inputs, **options)


@pytest.mark.cpu_only  # on a GPU it would wait for the device to ask
def test_boundaries_that_do_not_rise_are_named_on_a_cpu():
    q, k, v = make_inputs()[:3]
    with pytest.raises(ValueError, match="must rise from 0 to 90, found"):
        attention(q, k, v, cu_seqlens=cu([0, 60, 40, 90]))
