"""Triton kernels of gated activations: see `gated`.

Shape letters in this file: N = rows, D = columns. Tensors of one piece are one row.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.softcap import tanh

SQRT_HALF = tl.constexpr(0.7071067811865476)
SQRT_2_BY_PI = tl.constexpr(0.7978845608028654)
CUBIC = tl.constexpr(0.044715)  # Hendrycks & Gimpel 2016, section 2


@triton.jit
def _activation(x, ACTIVATION: tl.constexpr):
    """Value and slope at x."""
    if ACTIVATION == "silu":
        s = 1.0 / (1.0 + tl.exp(-x))
        value = x * s
        slope = s * (1.0 + x * (1.0 - s))
    elif ACTIVATION == "gelu":
        cdf = 0.5 + 0.5 * tl.erf(x * SQRT_HALF)
        value = x * cdf
        slope = cdf + x * (0.5 * SQRT_2_BY_PI) * tl.exp(-0.5 * x * x)
    elif ACTIVATION == "gelu_tanh":
        t = tanh((x + x * x * x * CUBIC) * SQRT_2_BY_PI)
        value = 0.5 * x * (1.0 + t)
        inner_slope = (1.0 + x * x * (3.0 * CUBIC)) * SQRT_2_BY_PI
        slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope
    else:
        tl.static_assert(ACTIVATION == "relu2")
        r = tl.where(x <= 0.0, 0.0, x)  # not maximum: of NaN it makes 0
        value = r * r
        slope = 2.0 * r
    return value, slope


@triton.jit
def _place(D, BLOCK_D: tl.constexpr):
    """Row, columns and their mask of this program; int64: one row may be 2**31 long."""
    blocks = (D - 1) // BLOCK_D + 1  # cdiv adds first, which passes 2**31 below it
    program = tl.program_id(0).to(tl.int64)
    d = program % blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    return program // blocks, d, d < D


@triton.jit
def forward_kernel(
    gate_ptr,  # (N, D)
    up_ptr,  # (N, D), read if HAS_UP
    out_ptr,  # (N, D), written, contiguous
    D,
    stride_gate_n,
    stride_up_n,
    ACTIVATION: tl.constexpr,
    HAS_UP: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Computes activation(gate) * up, rounded once."""
    n, d, inside = _place(D, BLOCK_D)
    gate = tl.load(gate_ptr + n * stride_gate_n + d, mask=inside, other=0.0)
    value, _ = _activation(gate.to(ACCUMULATOR), ACTIVATION)
    if HAS_UP:
        up = tl.load(up_ptr + n * stride_up_n + d, mask=inside, other=0.0)
        value = value * up.to(ACCUMULATOR)
    tl.store(out_ptr + n * D + d, value.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    grad_out_ptr,  # (N, D), contiguous
    gate_ptr,  # (N, D)
    up_ptr,  # (N, D), read if HAS_UP
    grad_gate_ptr,  # (N, D), written, contiguous
    grad_up_ptr,  # (N, D), written if HAS_UP, contiguous
    D,
    stride_gate_n,
    stride_up_n,
    ACTIVATION: tl.constexpr,
    HAS_UP: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of gate and up; the activation is computed again, not kept."""
    n, d, inside = _place(D, BLOCK_D)
    out = n * D + d
    gate = tl.load(gate_ptr + n * stride_gate_n + d, mask=inside, other=0.0)
    value, slope = _activation(gate.to(ACCUMULATOR), ACTIVATION)
    g = tl.load(grad_out_ptr + out, mask=inside, other=0.0).to(ACCUMULATOR)
    if HAS_UP:
        up = tl.load(up_ptr + n * stride_up_n + d, mask=inside, other=0.0)
        grad_up = (g * value).to(grad_up_ptr.dtype.element_ty)
        tl.store(grad_up_ptr + out, grad_up, mask=inside)
        g = g * up.to(ACCUMULATOR)
    grad_gate = (g * slope).to(grad_gate_ptr.dtype.element_ty)
    tl.store(grad_gate_ptr + out, grad_gate, mask=inside)
