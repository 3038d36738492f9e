"""Matrices made orthogonal, against their twin, the decomposition, and a CPU's path."""

import pytest
import torch

from tolerances import FACTOR, TOLERANCES, assert_close, relative_error
from triptych import ops
from triptych_kernels import orthogonal, orthogonalize, reference
from triptych_kernels.polar_iterations import METHODS

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def polar(matrices):
    u, _, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    return u @ v


def conditioned(*shape):
    """Matrices whose singular values are from 0.5 to 1: errors are of rounding."""
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.5, 1.0, u.shape[-1])
    return u * values @ v


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 40, 40), (3, 17, 50), (1, 50, 17)], ids=str)
def test_a_product_and_its_sum_match_float64(dtype, shape):
    a = (torch.randn(shape) / shape[-1] ** 0.5).to(dtype)
    found = orthogonal._symmetric(a, 1.0, 0.0)
    wide = a.double() @ a.double().mT
    assert_close(found, wide, a @ a.mT, dtype)
    off = torch.arange(shape[1]) // 16  # the interpreter's tiles: mirrored in each bit
    off = off[:, None] != off
    assert torch.equal(found * off, found.mT * off)
    summed = orthogonal._symmetric(found, 0.5, -2.0)
    wide = 0.5 * found.double() @ found.double() - 2.0 * found.double()
    assert_close(summed, wide, 0.5 * found @ found - 2.0 * found, dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(33, 33), (2, 20, 45), (2, 2, 45, 20)], ids=str)
def test_results_match_float64(dtype, method, shape):
    matrices = conditioned(*shape)
    options = {"steps": 5, "method": method}
    found = orthogonalize(matrices, dtype=dtype, **options)
    wide = reference.orthogonalize(matrices.double(), dtype=torch.float64, **options)
    own = reference.orthogonalize(matrices, dtype=dtype, **options)
    # Five iterations in the dtype, each of which may multiply an error by its slope.
    assert found.shape == matrices.shape
    error, torchs = relative_error(found, wide), relative_error(own, wide)
    assert error <= max(FACTOR * torchs, TOLERANCES[dtype])


def test_polar_express_ends_at_the_polar_factor():
    matrices = torch.randn(2, 24, 30)
    found = orthogonalize(
        matrices, steps=10, method="polar-express", dtype=torch.float32
    )
    assert relative_error(found, polar(matrices)) <= 1e-5


def test_newton_schulz_ends_between_its_bounds():
    matrices = torch.randn(3, 24, 60)
    values = torch.linalg.svdvals(orthogonalize(matrices, dtype=torch.float32))
    assert values.min() > 0.65
    assert values.max() < 1.25


def test_the_path_of_a_cpu_gives_the_same():
    matrices = torch.randn(2, 20, 30)
    expected = ops.orthogonalize(matrices, dtype=torch.float32)
    found = orthogonalize(matrices, dtype=torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [ops.orthogonalize, orthogonalize])
@pytest.mark.parametrize("dtype", [torch.float64, *DTYPES], ids=str)
def test_the_result_has_the_type_of_the_matrices(dtype, function):
    matrices = torch.randn(2, 6, 9)
    found = function(matrices.to(dtype), dtype=torch.float32)
    assert found.dtype == dtype
    expected = reference.orthogonalize(matrices, dtype=torch.float32)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_a_tall_matrix_is_the_transpose_of_a_wide_one():
    matrices = torch.randn(2, 40, 12)
    assert torch.equal(orthogonalize(matrices), orthogonalize(matrices.mT).mT)


@pytest.mark.parametrize(
    "function", [ops.orthogonalize, orthogonalize, reference.orthogonalize]
)
@pytest.mark.parametrize("size", [2.0**-10, 2.0**70, 2.0**120])
def test_the_size_of_a_matrix_changes_nothing(function, size):
    """Squares of 1e20 are infinite in fp32, and what is divided by that is zero."""
    matrices = torch.randn(2, 8, 20)
    assert torch.equal(function(matrices * size), function(matrices))


@pytest.mark.parametrize("method", METHODS)
def test_zero_matrices_stay_zero(method):
    zeros = torch.zeros(2, 8, 9)
    assert torch.equal(orthogonalize(zeros, method=method), zeros)
    assert orthogonalize(torch.zeros(0, 8, 9), method=method).shape == (0, 8, 9)


def test_more_matrices_than_a_second_axis_has_programs_are_launched(monkeypatch):
    grids = []

    class Launched:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *_, **constants: None

    monkeypatch.setattr(orthogonal, "symmetric_kernel", Launched())
    orthogonalize(torch.randn(70_000, 2, 2), steps=1)
    assert all(max(grid[1:], default=1) <= 65_535 for grid in grids)
    assert len(grids) == 2


def test_a_matrixs_product_has_the_same_bits_in_any_batch():
    a = torch.randn(3, 40, 50).bfloat16()
    whole = orthogonal._symmetric(a, 1.0, 0.0)
    assert torch.equal(whole, orthogonal._symmetric(a, 1.0, 0.0))
    assert torch.equal(whole[1:2], orthogonal._symmetric(a[1:2], 1.0, 0.0))


def test_the_operator_passes_opcheck():
    operator = torch.ops.triptych.symmetric_product.default
    torch.library.opcheck(operator, (torch.randn(2, 9, 9), 0.5, -1.0))


def test_torch_compile_makes_one_graph():
    matrices = torch.randn(2, 9, 12)
    compiled = torch.compile(orthogonalize, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(matrices), orthogonalize(matrices))


def test_wrong_inputs_are_named_with_what_was_expected_and_found():
    with pytest.raises(ValueError, match=r"\(..., rows, columns\), found \(3,\)"):
        orthogonalize(torch.zeros(3))
    with pytest.raises(ValueError, match=r"dtype must be .* found torch.float64"):
        orthogonalize(torch.zeros(3, 3), dtype=torch.float64)
    with pytest.raises(ValueError, match="steps must be at least 1, found 0"):
        orthogonalize(torch.zeros(3, 3), steps=0)
    with pytest.raises(ValueError, match=r"method must be one of .* found `svd`"):
        orthogonalize(torch.ones(3, 3), method="svd")
