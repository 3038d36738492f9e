"""Rotary positions against their twin, transformers, and in their bits."""

import pytest
import torch

from tolerances import assert_close
from triptych_kernels import reference, rope

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Documents that restart, a repeated and a far position.
POSITIONS = [*range(9), *range(5), 0, 3, 3, 19, *range(4)]


def make_inputs(heads=3, kv_heads=1, head_dim=12, dtype=torch.float32):
    """q, k, and upstream gradients of both."""
    shapes = [(len(POSITIONS), n, head_dim) for n in (heads, kv_heads)] * 2
    return [torch.randn(shape).to(dtype) for shape in shapes]


def positions():
    return torch.tensor(POSITIONS)


def frequencies(head_dim):
    return 100.0 ** (-torch.arange(0, head_dim, 2) / head_dim)


def make_tables(head_dim=12, rows=20):
    angles = torch.arange(rows)[:, None] * frequencies(head_dim)
    return angles.cos(), angles.sin()


def run(function, q, k, upstream_q, upstream_k, **options):
    """Turned q and k, then gradients of both."""
    leaves = [x.detach().clone().requires_grad_() for x in (q, k)]
    turned = function(*leaves, **options)
    torch.autograd.backward(turned, [upstream_q.to(q.dtype), upstream_k.to(k.dtype)])
    return *(x.detach() for x in turned), *(x.grad for x in leaves)


def torch_own(q, k, *, position_ids, tables, interleaved):
    """The turn as one writes it in torch, in the inputs' dtype."""
    cos, sin = (table.to(q.dtype)[position_ids][:, None] for table in tables)
    return tuple(reference._turned(x, cos, sin, interleaved) for x in (q, k))


def assert_parity(inputs, **options):
    found = run(rope, *inputs, **options)
    wide = run(reference.rope, *(x.double() for x in inputs), **options)
    own = run(torch_own, *inputs, **options)
    for f, w, o, x in zip(found, wide, own, inputs, strict=True):
        assert f.dtype == x.dtype
        assert_close(f, w, o, x.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("interleaved", [False, True])
def test_results_and_gradients_match_float64(dtype, interleaved):
    assert_parity(
        make_inputs(dtype=dtype),
        position_ids=positions(),
        tables=make_tables(),
        interleaved=interleaved,
    )


@pytest.mark.parametrize("head_dim", [2, 6, 64, 80, 256])
@pytest.mark.parametrize("interleaved", [False, True])
def test_every_head_dim_matches_float64(head_dim, interleaved):
    assert_parity(
        make_inputs(2, 2, head_dim),
        position_ids=positions(),
        tables=make_tables(head_dim),
        interleaved=interleaved,
    )


def test_frequencies_give_the_bits_of_tables_made_of_them():
    q, k, *_ = make_inputs()
    given = rope(q, k, position_ids=positions(), tables=make_tables())
    made = rope(q, k, position_ids=positions(), frequencies=frequencies(12))
    assert all(torch.equal(g, m) for g, m in zip(given, made, strict=True))


def test_the_halves_are_those_of_transformers():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    q, k, *_ = make_inputs()
    cos, sin = (
        table[positions()].repeat(1, 2)[None].to(q.device) for table in make_tables()
    )
    heads_first = (x.transpose(0, 1)[None] for x in (q, k))
    expected = llama.apply_rotary_pos_emb(*heads_first, cos, sin)
    found = rope(q, k, position_ids=positions(), tables=make_tables())
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e[0].transpose(0, 1))


def test_neighbours_are_turned_as_complex_numbers():
    q, k, *_ = make_inputs()
    cos, sin = make_tables()
    turn = torch.complex(cos, sin)[positions()][:, None]
    pairs = torch.view_as_complex(q.unflatten(-1, (-1, 2)))
    expected = torch.view_as_real(pairs * turn).flatten(-2)
    found, _ = rope(q, k, position_ids=positions(), tables=(cos, sin), interleaved=True)
    torch.testing.assert_close(found, expected)


def test_the_layouts_differ_by_an_order_of_dimensions():
    q, k, *_ = make_inputs()
    order = torch.arange(12).unflatten(0, (2, 6)).T.flatten()  # 0, 6, 1, 7, ...
    options = {"position_ids": positions(), "tables": make_tables()}
    halves, _ = rope(q, k, **options)
    pairs, _ = rope(q[..., order], k[..., order], interleaved=True, **options)
    assert torch.equal(halves[..., order], pairs)


def test_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 8).double().expand(-1, 12, -1, -1)
    turned_q, turned_k = rope(q, k, frequencies=frequencies(8).double())
    scores = (turned_q @ turned_k.transpose(0, 1).mT)[:, 0]
    for shift in range(-3, 4):
        along = scores.diagonal(shift)
        torch.testing.assert_close(along, along[:1].expand_as(along))


def test_the_attention_factor_multiplies_what_frequencies_give():
    q, k, *_ = make_inputs()
    plain, _ = rope(q, k, frequencies=frequencies(12))
    scaled, _ = rope(q, k, frequencies=frequencies(12), attention_factor=1.5)
    torch.testing.assert_close(scaled, 1.5 * plain)


def test_no_positions_count_from_zero():
    q, k, *_ = make_inputs()
    tables = make_tables(rows=len(POSITIONS))
    counted = rope(q, k, tables=tables)
    given = rope(q, k, position_ids=torch.arange(len(POSITIONS)).int(), tables=tables)
    assert all(torch.equal(c, g) for c, g in zip(counted, given, strict=True))


def test_a_position_outside_the_tables_is_nan_for_its_token_alone():
    q, k, *_ = make_inputs()
    wrong = positions()
    wrong[3], wrong[5] = 20, -1
    for x in rope(q, k, position_ids=wrong, tables=make_tables()):
        assert x[[3, 5]].isnan().all()
        assert x[[0, 1, 2, 4]].isfinite().all()


def test_inputs_are_read_in_place_from_a_fused_projection():
    fused = torch.randn(len(POSITIONS), 6, 12)
    q, k = fused[:, 1:4], fused[:, 4:5]
    options = {"position_ids": positions(), "tables": make_tables()}
    found = rope(q, k, **options)
    expected = rope(q.contiguous(), k.contiguous(), **options)
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def test_no_tokens_give_nothing():
    q, k = torch.randn(0, 2, 8), torch.randn(0, 1, 8)
    turned_q, turned_k = rope(q, k, frequencies=frequencies(8))
    assert (turned_q.shape, turned_k.shape) == ((0, 2, 8), (0, 1, 8))


def test_two_runs_and_a_part_of_the_tokens_agree_in_every_bit():
    inputs = make_inputs(dtype=torch.bfloat16)
    options = {"position_ids": positions(), "tables": make_tables()}
    whole = run(rope, *inputs, **options)
    again = run(rope, *inputs, **options)
    assert all(torch.equal(w, a) for w, a in zip(whole, again, strict=True))
    options["position_ids"] = positions()[5:17]
    part = run(rope, *(x[5:17] for x in inputs), **options)
    assert all(torch.equal(w[5:17], p) for w, p in zip(whole, part, strict=True))


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradcheck_passes_through_the_operator_twice(interleaved):
    q, k = (x.double().requires_grad_() for x in make_inputs(1, 1, 4)[:2])
    tables = tuple(table.double() for table in make_tables(4))

    def turned(q, k):
        return rope(
            q, k, position_ids=positions(), tables=tables, interleaved=interleaved
        )

    assert torch.autograd.gradcheck(turned, (q, k))
    assert torch.autograd.gradgradcheck(turned, (q, k))


@pytest.mark.parametrize("given", [None, POSITIONS])
def test_the_operator_passes_opcheck(given):
    q, k = (x.requires_grad_() for x in make_inputs()[:2])
    given = None if given is None else torch.tensor(given)
    cos, sin = make_tables(rows=len(POSITIONS))
    operator = torch.ops.triptych.rope.default
    torch.library.opcheck(operator, (q, k, cos, sin, given, True, False))


def test_torch_compile_makes_one_graph():
    inputs = make_inputs()
    options = {"position_ids": positions(), "frequencies": frequencies(12)}
    compiled = torch.compile(rope, fullgraph=True, backend="aot_eager")
    found, eager = (run(f, *inputs, **options) for f in (compiled, rope))
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


def shaped(q=(4, 2, 8), k=(4, 1, 8), **options):
    """Tensors of these shapes, and tables that fit unless something else is given."""
    tables = {"tables": make_tables(8)}
    return (torch.zeros(q), torch.zeros(k)), options or tables


WRONG = {
    r"even head_dim <= 512, found \(4, 2, 7\)": lambda: shaped(q=(4, 2, 7)),
    r"k must have shape \(4, kv_heads, 8\), found \(3, 1, 8\)": lambda: shaped(
        k=(3, 1, 8)
    ),
    r"position_ids must have shape \(4,\), found \(3,\)": lambda: shaped(
        tables=make_tables(8), position_ids=torch.arange(3)
    ),
    "either tables or frequencies": lambda: shaped(interleaved=True),
    r"frequencies must have shape \(4,\), found \(8,\)": lambda: shaped(
        frequencies=frequencies(16)
    ),
    r"cosines must have shape \(20, 4\), found \(20, 8\)": lambda: shaped(
        tables=make_tables(16)
    ),
    "a row for each of 4 positions, found 3": lambda: shaped(tables=make_tables(8, 3)),
}


@pytest.mark.parametrize(("message", "case"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, case):
    inputs, options = case()
    with pytest.raises(ValueError, match=message):
        rope(*inputs, **options)


def test_a_key_of_another_dtype_is_named():
    with pytest.raises(ValueError, match=r"of one dtype, .* torch.float32 and"):
        rope(torch.zeros(4, 2, 8), torch.zeros(4, 1, 8).half(), tables=make_tables(8))
