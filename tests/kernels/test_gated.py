"""Gated activations against their twins, and in their bits."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tolerances import assert_close
from triptych_kernels import geglu, reference, relu2, swiglu

pytestmark = pytest.mark.filterwarnings("ignore:overflow")  # NumPy's, of exp's end
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Kernel, twin, and the same as one writes it in torch.
FUNCTIONS = {
    "swiglu": (swiglu, reference.swiglu, lambda g, u: F.silu(g) * u),
    "geglu": (geglu, reference.geglu, lambda g, u: F.gelu(g) * u),
    "geglu of tanh": (
        partial(geglu, approximate="tanh"),
        partial(reference.geglu, approximate="tanh"),
        lambda g, u: F.gelu(g, approximate="tanh") * u,
    ),
    "relu2": (relu2, reference.relu2, lambda g, u: F.relu(g).square() * u),
    "relu2 ungated": (
        lambda g, _: relu2(g),
        lambda g, _: reference.relu2(g),
        lambda g, _: F.relu(g).square(),
    ),
}
each = pytest.mark.parametrize("functions", FUNCTIONS.values(), ids=FUNCTIONS)


def make_inputs(*shape, dtype=torch.float32):
    """gate, up and the upstream gradient; gates reach far into both tails."""
    gate, up, upstream = torch.randn(3, *(shape or (5, 123)))
    return [x.to(dtype) for x in (3.0 * gate, up, upstream)]


def run(function, gate, up, upstream):
    """Output, and the gradients of gate and up; of up none where it is not used."""
    leaves = [x.detach().clone().requires_grad_() for x in (gate, up)]
    out = function(*leaves)
    out.backward(upstream.to(out.dtype))
    return [out.detach(), *(x.grad for x in leaves if x.grad is not None)]


def assert_parity(functions, inputs):
    kernel, twin, own = functions
    found = run(kernel, *inputs)
    wide = run(twin, *(x.double() for x in inputs))
    torch_own = run(own, *inputs)
    for f, w, o in zip(found, wide, torch_own, strict=True):
        assert f.dtype == inputs[0].dtype
        assert_close(f, w, o, f.dtype)


@each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_and_gradients_match_float64(functions, dtype):
    assert_parity(functions, make_inputs(dtype=dtype))


@each
@pytest.mark.parametrize("shape", [(1,), (64,), (3, 2, 5), (1, 200)], ids=str)
def test_every_shape_matches_float64(functions, shape):
    assert_parity(functions, make_inputs(*shape))


@each
def test_far_gates_give_neither_nan_nor_a_wrong_limit(functions):
    kernel, _, own = functions
    gate = torch.tensor([-1e4, -90.0, -0.0, 0.0, 90.0, 1e4])
    up, upstream = torch.full((6,), 0.5), torch.ones(6)
    found, expected = (run(f, gate, up, upstream) for f in (kernel, own))
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-5, atol=1e-30)


@each
def test_halves_of_a_fused_projection_are_read_in_place(functions):
    kernel = functions[0]
    fused = torch.randn(7, 2 * 70)
    gate, up = fused.chunk(2, dim=-1)
    found = run(kernel, gate, up, torch.ones(7, 70))
    expected = run(kernel, gate.contiguous(), up.contiguous(), torch.ones(7, 70))
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@each
def test_gradients_with_other_strides_are_taken(functions):
    gate, up, _ = make_inputs(4, 6)
    upstream = torch.randn(6, 4).T
    found = run(functions[0], gate.T.contiguous().T, up, upstream)
    expected = run(functions[0], gate, up, upstream.contiguous())
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@each
def test_nothing_gives_nothing(functions):
    out, *grads = run(functions[0], *make_inputs(0, 8))
    assert all(x.shape == (0, 8) for x in (out, *grads))


@each
def test_two_runs_and_a_part_of_the_rows_agree_in_every_bit(functions):
    inputs = make_inputs(9, 70, dtype=torch.bfloat16)
    whole, again = (run(functions[0], *inputs) for _ in range(2))
    assert all(torch.equal(w, a) for w, a in zip(whole, again, strict=True))
    part = run(functions[0], *(x[2:5] for x in inputs))
    assert all(torch.equal(w[2:5], p) for w, p in zip(whole, part, strict=True))


@each
def test_gradcheck_passes_through_the_operators(functions):
    gate, up, _ = make_inputs(3, 4, dtype=torch.float64)
    leaves = gate.requires_grad_(), up.requires_grad_()
    assert torch.autograd.gradcheck(functions[0], leaves, fast_mode=True)


@pytest.mark.parametrize("gated", [False, True])
def test_the_operators_pass_opcheck(gated):
    gate, up, upstream = make_inputs(3, 5)
    up = up if gated else None
    backward = torch.ops.triptych.gated_backward.default
    torch.library.opcheck(backward, (upstream, gate, up, "silu"))
    gate.requires_grad_()
    torch.library.opcheck(torch.ops.triptych.gated.default, (gate, up, "silu"))


@each
def test_torch_compile_makes_one_graph(functions):
    inputs = make_inputs(4, 6)
    compiled = torch.compile(functions[0], fullgraph=True, backend="aot_eager")
    found, eager = (run(f, *inputs) for f in (compiled, functions[0]))
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


def test_wrong_inputs_are_named_with_what_was_expected_and_found():
    gate = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"up must be as gate, \(3, 4\) .* \(3, 5\)"):
        swiglu(gate, torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"found .* of torch.float16"):
        geglu(gate, gate.half())
    with pytest.raises(ValueError, match=r'"none" or "tanh", found "erf"'):
        geglu(gate, gate, approximate="erf")
    with pytest.raises(ValueError, match=r"gate must be of .* found torch.int64"):
        relu2(gate.long())


def test_the_gradient_of_a_gradient_is_an_error_and_not_zeros():
    gate, up = torch.randn(2, 3, 8)
    gate.requires_grad_()
    total = swiglu(gate, up).square().sum()
    (slope,) = torch.autograd.grad(total, gate, create_graph=True)
    with pytest.raises(RuntimeError, match="none of its own"):
        slope.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [swiglu, geglu, relu2])
def test_what_is_no_number_stays_so(function, dtype):
    """Or a run that has diverged would go on as if it had not."""
    gate = torch.tensor([float("nan"), 1.0, -1.0], dtype=dtype, requires_grad=True)
    up = torch.ones(3, dtype=dtype, requires_grad=True)
    out = function(gate, up)
    found = (out, *torch.autograd.grad(out.sum(), (gate, up)))
    for x in found:
        assert x.isnan().tolist() == [True, False, False]
