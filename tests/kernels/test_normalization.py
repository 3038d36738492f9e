"""Root-mean-square normalization against its twin, and in its bits."""

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from tolerances import assert_close
from triptych_kernels import reference, rms_norm

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CASTINGS = ("llama", "gemma", "none")
EPS = 1e-5


def make_inputs(rows=21, width=37, dtype=torch.float32, residual=False):
    """Leaves (x, weight, residual or nothing), and one upstream gradient a result."""
    shapes = [(rows, width), (width,), (rows, width)][: 3 if residual else 2]
    leaves = [torch.randn(shape).to(dtype) for shape in shapes]
    upstream = [torch.randn(rows, width).to(dtype) for _ in range(1 + residual)]
    return leaves, upstream


def run(function, leaves, upstream, **options):
    """Results, then gradients of the leaves."""
    x, weight, *residual = (t.detach().clone().requires_grad_() for t in leaves)
    if residual:
        options["residual"] = residual[0]
    results = function(x, weight, EPS, **options)
    results = results if residual else (results,)
    grads = [g.to(r.dtype) for g, r in zip(upstream, results, strict=True)]
    torch.autograd.backward(results, grads)
    return *(r.detach() for r in results), *(t.grad for t in (x, weight, *residual))


def torch_own(x, weight, eps, *, residual=None, casting):
    """Normalization as one writes it in torch, in the inputs' dtype."""
    total = x if residual is None else x + residual
    factor = 1.0 + weight if casting == "gemma" else weight
    y = F.rms_norm(total, weight.shape, None, eps) * factor
    return y if residual is None else (y, total)


def assert_parity(leaves, upstream, **options):
    found = run(rms_norm, leaves, upstream, **options)
    # Rounding before the weight multiplies is an error, seen from float64.
    wide = run(reference.rms_norm, [x.double() for x in leaves], upstream, **options)
    own = run(torch_own, leaves, upstream, **options)
    for f, w, o in zip(found, wide, own, strict=True):
        assert f.dtype == leaves[0].dtype
        assert_close(f, w, o, leaves[0].dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("casting", CASTINGS)
@pytest.mark.parametrize("residual", [False, True])
def test_results_and_gradients_match_float64(dtype, casting, residual):
    assert_parity(*make_inputs(dtype=dtype, residual=residual), casting=casting)


@pytest.mark.parametrize(("rows", "width"), [(1, 3), (5, 123), (3, 64), (70, 256)])
def test_every_shape_matches_float64(rows, width):
    assert_parity(*make_inputs(rows, width), casting="none")


def test_llama_casting_gives_the_bits_of_hugging_faces_layer():
    (x, weight), _ = make_inputs(dtype=torch.bfloat16)
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    expected = weight * normed.to(torch.bfloat16)
    found = rms_norm(x, weight, EPS, casting="llama")
    apart = (found.float() - expected.float()).abs() / expected.abs()
    assert (apart > 0).sum() <= 2  # the sum of squares has another order
    assert apart.max() <= 2**-7


@pytest.mark.parametrize("casting", CASTINGS)
def test_the_twin_rounds_where_the_kernel_does(casting):
    (x, weight, residual), _ = make_inputs(dtype=torch.bfloat16, residual=True)
    for f, r in zip(
        rms_norm(x, weight, EPS, residual=residual, casting=casting),
        reference.rms_norm(x, weight, EPS, residual=residual, casting=casting),
        strict=True,
    ):
        assert (f != r).sum() <= 2


def test_a_residual_of_float32_stays_float32_under_a_bfloat16_layer():
    (x, weight), _ = make_inputs(dtype=torch.bfloat16)
    residual = torch.randn(x.shape)
    y, total = rms_norm(x, weight, EPS, residual=residual)
    assert (y.dtype, total.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(total, x.float() + residual)


def test_a_weight_of_float32_serves_a_bfloat16_layer():
    (x, weight), (upstream,) = make_inputs(dtype=torch.bfloat16)
    weight = weight.float().requires_grad_()
    y = rms_norm(x, weight, EPS)
    assert y.dtype == torch.bfloat16
    y.backward(upstream)
    assert weight.grad.dtype == torch.float32


def test_a_sum_that_nobody_uses_gives_the_gradient_of_the_rows_alone():
    (x, weight, residual), (upstream, _) = make_inputs(residual=True)
    x.requires_grad_()
    residual.requires_grad_()
    rms_norm(x, weight, EPS, residual=residual)[0].backward(upstream)
    assert torch.equal(x.grad, residual.grad)
    total = (x + residual).detach().requires_grad_()
    rms_norm(total, weight, EPS).backward(upstream)
    assert torch.equal(x.grad, total.grad)


def test_no_rows_give_nothing_and_a_zero_gradient_of_the_weight():
    y, grad_x, grad_weight = run(rms_norm, *make_inputs(0, 8))
    assert y.shape == grad_x.shape == (0, 8)
    assert torch.equal(grad_weight, torch.zeros(8))


def test_heads_of_a_fused_projection_are_normalized_each_for_itself():
    fused = torch.randn(6, 5, 16)
    weight = torch.randn(16)
    found = rms_norm(fused[:, 1:4], weight, EPS)
    assert found.shape == (6, 3, 16)
    assert torch.equal(found[:, 2], rms_norm(fused[:, 3].contiguous(), weight, EPS))


def test_two_runs_agree_in_every_bit():
    inputs = make_inputs(dtype=torch.bfloat16, residual=True)
    first, second = (run(rms_norm, *inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_rows_bits_do_not_depend_on_the_other_rows():
    (x, weight), (upstream,) = make_inputs(30)
    y, grad_x, _ = run(rms_norm, (x, weight), [upstream])
    part = slice(11, 23)
    found = run(rms_norm, (x[part], weight), [upstream[part]])
    assert torch.equal(found[0], y[part])
    assert torch.equal(found[1], grad_x[part])


def test_the_weights_gradient_adds_whole_runs_in_order():
    (x, weight), (upstream,) = make_inputs(40)
    upstream[16:] = 0.0  # two runs of the interpreter, and rows that add nothing
    _, _, whole = run(rms_norm, (x, weight), [upstream])
    _, _, part = run(rms_norm, (x[:16], weight), [upstream[:16]])
    assert torch.equal(whole, part)


@pytest.mark.parametrize("casting", ["gemma", "none"])
@pytest.mark.parametrize("residual", [False, True])
def test_gradcheck_passes_through_the_operators(casting, residual):
    leaves, _ = make_inputs(10, 7, torch.float64, residual)
    leaves = [x.requires_grad_() for x in leaves]

    def normed(x, weight, *added):
        more = {"residual": added[0]} if added else {}
        return rms_norm(x, weight, EPS, casting=casting, **more)

    assert torch.autograd.gradcheck(normed, leaves, fast_mode=True)


@pytest.mark.parametrize("residual", [False, True])
def test_the_operators_pass_opcheck(residual):
    (x, weight, *added), upstream = make_inputs(6, 8, residual=residual)
    added = added[0].requires_grad_() if residual else None
    x.requires_grad_()
    weight.requires_grad_()
    forward = torch.ops.triptych.rms_norm.default
    torch.library.opcheck(forward, (x, weight, added, EPS, "llama"))
    x, weight = x.detach(), weight.detach()
    with torch.no_grad():
        rstd = forward(x, weight, added, EPS, "llama")[2]
    grads = upstream if residual else (*upstream, None)
    backward = torch.ops.triptych.rms_norm_backward.default
    torch.library.opcheck(backward, (*grads, x, weight, rstd, "llama"))


@pytest.mark.parametrize("residual", [False, True])
def test_torch_compile_makes_one_graph(residual):
    inputs = make_inputs(6, 8, residual=residual)
    compiled = torch.compile(rms_norm, fullgraph=True, backend="aot_eager")
    found, eager = (run(f, *inputs) for f in (compiled, rms_norm))
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


@pytest.mark.parametrize("residual", [False, True])
def test_one_graph_serves_any_number_of_rows(residual):
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(rms_norm, fullgraph=True, dynamic=True, backend=counted)
    graphs = []
    for rows in (6, 11, 40):
        run(compiled, *make_inputs(rows, 8, residual=residual))
        graphs.append(counted.frame_count)
    assert graphs == graphs[:1] * 3


WRONG = {
    r"x must be .* found \(2, 16385\)": ((2, 16385), (16385,), None, "none"),
    r"weight must have shape \(8,\), found \(7,\)": ((2, 8), (7,), None, "none"),
    r"residual must have x's shape": ((2, 8), (8,), (3, 8), "none"),
    "casting must be one of .* found `bf16`": ((2, 8), (8,), None, "bf16"),
}


@pytest.mark.parametrize(("message", "case"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, case):
    x, weight, residual, casting = case
    residual = None if residual is None else torch.zeros(residual)
    with pytest.raises(ValueError, match=message):
        rms_norm(
            torch.zeros(x), torch.zeros(weight), residual=residual, casting=casting
        )
