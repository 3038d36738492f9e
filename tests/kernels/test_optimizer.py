"""The AdamW step against its twin and torch's own, and the chance of its rounding."""

import pytest
import torch

from tolerances import assert_close
from triptych_kernels import adamw, reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SETTINGS = {"step": 3, "lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}


def make_inputs(*shape, dtype=torch.float32):
    """param, grad, exp_avg and exp_avg_sq; the averages in fp32."""
    param, grad, mean, square = torch.randn(4, *(shape or (5, 41)))
    return [param.to(dtype), grad.to(dtype), mean, square.square()]


def stepped(function, inputs, **more):
    """What a step makes of copies of the inputs, without the gradient."""
    param, grad, mean, square = (x.clone() for x in inputs)
    function(param, grad, mean, square, **{**SETTINGS, **more})
    return param, mean, square


def in_type(param, grad, exp_avg, exp_avg_sq, *, step, lr, betas, weight_decay):
    """The step as one writes it in torch, in the parameter's dtype."""
    exp_avg.lerp_(grad.float(), 1.0 - betas[0])
    exp_avg_sq.lerp_(grad.float().square(), 1.0 - betas[1])
    deviation = (exp_avg_sq / (1.0 - betas[1] ** step)).sqrt() + 1e-8
    change = (exp_avg / (1.0 - betas[0] ** step) / deviation).to(param.dtype)
    param.mul_(1.0 - lr * weight_decay).sub_(change, alpha=lr)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (5, 41), (64,), (3, 2, 100)], ids=str)
def test_a_step_matches_float64(dtype, shape):
    inputs = make_inputs(*shape, dtype=dtype)
    found = stepped(adamw, inputs)
    wide = stepped(reference.adamw, [x.double() for x in inputs])
    own = stepped(in_type, inputs)
    assert found[0].dtype == dtype
    assert_close(found[0], wide[0], own[0], dtype)
    for f, w, o in zip(found[1:], wide[1:], own[1:], strict=True):
        assert_close(f, w, o, torch.float32)


def test_ten_steps_are_those_of_torchs_own_optimizer():
    param = torch.randn(70, requires_grad=True)
    options = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    torchs = torch.optim.AdamW([param], **options)
    mine, mean, square = param.detach().clone(), torch.zeros(70), torch.zeros(70)
    for step in range(1, 11):
        param.grad = torch.randn(70)
        adamw(mine, param.grad, mean, square, step=step, **options)
        torchs.step()
    torch.testing.assert_close(mine, param.detach(), rtol=2e-6, atol=1e-7)


def test_the_clip_is_a_factor_of_the_gradient():
    param, grad, *averages = make_inputs()
    clipped = stepped(adamw, (param, grad, *averages), clip=torch.tensor(0.25))
    scaled = stepped(adamw, (param, 0.25 * grad, *averages))
    assert all(torch.equal(c, s) for c, s in zip(clipped, scaled, strict=True))


def test_averages_may_be_kept_in_bfloat16():
    param, grad, *averages = make_inputs()
    narrow = stepped(adamw, (param, grad, *(x.bfloat16() for x in averages)))
    assert narrow[1].dtype == narrow[2].dtype == torch.bfloat16


def test_philox_gives_the_words_of_its_authors():
    # Known answers of Random123: zeros, ones, and the digits of pi.
    known = {
        (0, 0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        (0xFFFFFFFF,) * 6: (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0): (
            0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }  # fmt: skip
    for (*counter, first, second), words in known.items():
        found = reference._philox(
            tuple(torch.tensor([c]) for c in counter), (first, second)
        )
        assert tuple(int(word) for word in found) == words


@pytest.mark.parametrize("seed", [0, 5, 2**40 + 3])
@pytest.mark.parametrize("size", [1, 8, 63, 200])
def test_chance_is_that_of_the_twin_in_every_bit(seed, size):
    inputs = make_inputs(size, dtype=torch.bfloat16)
    found = stepped(adamw, inputs, seed=seed)[0]
    expected = stepped(reference.adamw, inputs, seed=seed)[0]
    # Where a sum of fp32 is another in its last bit, one in 2^16 rounds otherwise.
    assert (found != expected).sum() <= 1


def test_a_result_is_one_of_the_two_neighbours_and_right_on_average():
    param = torch.full((4096,), 1.0, dtype=torch.bfloat16)
    grad, mean, square = torch.ones(4096), torch.ones(4096), torch.ones(4096)
    options = {"weight_decay": 0.0, "eps": 0.0, "betas": (0.0, 0.0), "step": 1}
    found, *_ = stepped(adamw, (param, grad, mean, square), lr=0.001, seed=7, **options)
    assert set(found.tolist()) == {1.0, 1.0 - 2**-8}  # bfloat16 below 1
    expected = 1.0 - 0.001
    deviation = 2**-8 * (0.256 * 0.744 / 4096) ** 0.5
    assert abs(found.double().mean().item() - expected) < 4 * deviation
    nearest, *_ = stepped(adamw, (param, grad, mean, square), lr=0.001, **options)
    assert torch.equal(nearest, param)  # the step is lost


def test_the_same_seed_and_step_give_the_same_bits_and_others_do_not():
    inputs = make_inputs(400, dtype=torch.bfloat16)
    first = stepped(adamw, inputs, seed=1, lr=1e-3)[0]
    assert torch.equal(first, stepped(adamw, inputs, seed=1, lr=1e-3)[0])
    assert not torch.equal(first, stepped(adamw, inputs, seed=2, lr=1e-3)[0])
    # At steps far along only chance differs.
    late = [
        stepped(adamw, inputs, seed=1, lr=1e-3, step=n)[0] for n in (10**6, 10**6 + 1)
    ]
    assert not torch.equal(*late)


def test_what_is_not_finite_stays_so():
    param = torch.tensor([float("inf"), -float("inf"), float("nan"), 1.0])
    zeros = torch.zeros(4)
    inputs = (param.bfloat16(), zeros, zeros, torch.ones(4))
    found = stepped(adamw, inputs, seed=3, weight_decay=0.0)[0].float()
    torch.testing.assert_close(found, param, equal_nan=True)


def test_a_gradient_of_other_strides_is_taken():
    param, grad, *averages = make_inputs(6, 8)
    found = stepped(adamw, (param, grad.T.contiguous().T, *averages))
    expected = stepped(adamw, (param, grad, *averages))
    assert torch.equal(found[0], expected[0])


def test_nothing_is_updated_by_nothing():
    assert all(x.shape == (0,) for x in stepped(adamw, make_inputs(0)))


@pytest.mark.parametrize("seed", [None, 3])
def test_the_operator_passes_opcheck(seed):
    inputs = make_inputs(9, dtype=torch.bfloat16)
    operator = torch.ops.triptych.adamw.default
    rest = (torch.tensor(0.5), seed, 2, 0.01, 0.9, 0.95, 1e-8, 0.1)
    torch.library.opcheck(operator, (*inputs, *rest))


def test_torch_compile_makes_one_graph():
    inputs = make_inputs(20)
    compiled = torch.compile(adamw, fullgraph=True, backend="aot_eager")
    found, eager = (stepped(f, inputs) for f in (compiled, adamw))
    assert all(torch.equal(f, e) for f, e in zip(found, eager, strict=True))


WRONG = {
    r"grad must have shape \(4,\) .* found \(3,\)": ({"grad": torch.ones(3)}, {}),
    "exp_avg must have .* torch.float64": ({"exp_avg": torch.ones(4).double()}, {}),
    "param must be contiguous": ({"param": torch.ones(8)[::2]}, {}),
    "step must be in": ({}, {"step": 0}),
    "clip must be one float32 number": ({}, {"clip": torch.ones(1)}),
    "a seed is for a bfloat16 param": ({}, {"seed": 1}),
    "seed must be in": ({"param": torch.ones(4).bfloat16()}, {"seed": -1}),
}


@pytest.mark.parametrize(("message", "case"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, case):
    tensors, options = case
    names = ("param", "grad", "exp_avg", "exp_avg_sq")
    inputs = {name: torch.ones(4) for name in names} | tensors
    with pytest.raises(ValueError, match=message):
        adamw(**inputs, **{**SETTINGS, **options})
