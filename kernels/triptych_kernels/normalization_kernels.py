"""Triton kernels of root-mean-square normalization: see `normalization`.

Shape letters in this file: N = rows, D = width of a row, P = partial sums.

A row is held in registers as a whole, so it is read once. What the weight's gradient
adds up is cut in runs of rows of a fixed length, never by the number of processors:
the order of its sums depends on the rows alone.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def _offsets(n, d, stride_n):
    """Of an (n, d) tile; int64, since N * D passes 2**31 at 524,288 rows of 4096."""
    return n.to(tl.int64)[:, None] * stride_n + d[None, :]


@triton.jit
def forward_kernel(
    x_ptr,  # (N, D)
    residual_ptr,  # (N, D), read if HAS_RESIDUAL
    weight_ptr,  # (D,)
    y_ptr,  # (N, D), written, contiguous
    total_ptr,  # (N, D), written if HAS_RESIDUAL, contiguous: x + residual
    rstd_ptr,  # (N,), written: 1 / root mean square of each row, for the backward
    N,
    D,
    stride_xn,
    stride_rn,
    eps,
    HAS_RESIDUAL: tl.constexpr,
    CAST_FIRST: tl.constexpr,  # round to y's type before the weight multiplies
    OFFSET: tl.constexpr,  # added to the weight
    ACCUMULATOR: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Row by row, y = x / sqrt(mean(x^2) + eps) * (weight + OFFSET)."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    inside = (n < N)[:, None] & (d < D)[None, :]
    x = tl.load(x_ptr + _offsets(n, d, stride_xn), mask=inside, other=0.0)
    x = x.to(ACCUMULATOR)
    out = _offsets(n, d, D)
    if HAS_RESIDUAL:
        r = tl.load(residual_ptr + _offsets(n, d, stride_rn), mask=inside, other=0.0)
        total = (x + r.to(ACCUMULATOR)).to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + out, total, mask=inside)
        x = total.to(ACCUMULATOR)  # as rounded: the backward has no other
    rstd = tl.rsqrt(tl.sum(x * x, axis=1) / D + eps)
    tl.store(rstd_ptr + n, rstd, mask=n < N)
    normed = x * rstd[:, None]
    if CAST_FIRST:
        normed = normed.to(y_ptr.dtype.element_ty).to(ACCUMULATOR)
    weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(ACCUMULATOR) + OFFSET
    y = normed * weight[None, :]
    tl.store(y_ptr + out, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    grad_y_ptr,  # (N, D), contiguous
    grad_total_ptr,  # (N, D), contiguous, read if HAS_RESIDUAL
    x_ptr,  # (N, D): what was normalized
    weight_ptr,  # (D,)
    rstd_ptr,  # (N,)
    grad_x_ptr,  # (N, D), written, contiguous
    partial_ptr,  # (P, D), written: the weight's gradient of each run of rows
    N,
    D,
    stride_xn,
    HAS_RESIDUAL: tl.constexpr,
    CAST_FIRST: tl.constexpr,
    OFFSET: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    RUN: tl.constexpr,  # rows of a program
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of one run of rows.

    With c = grad_y * (weight + OFFSET) and the normalized row h,
    grad_x = rstd * (c - h * mean(c * h)), and the weight's is sum(grad_y * h).
    Rounding h before the weight multiplies counts as the identity.
    """
    d = tl.arange(0, BLOCK_D)
    weight = tl.load(weight_ptr + d, mask=d < D, other=0.0).to(ACCUMULATOR) + OFFSET
    grad_weight = tl.zeros([BLOCK_N, BLOCK_D], ACCUMULATOR)
    first = tl.program_id(0) * RUN
    for n_start in range(first, tl.minimum(first + RUN, N), BLOCK_N):
        n = n_start + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & (d < D)[None, :]
        rows = _offsets(n, d, D)
        x = tl.load(x_ptr + _offsets(n, d, stride_xn), mask=inside, other=0.0)
        g = tl.load(grad_y_ptr + rows, mask=inside, other=0.0).to(ACCUMULATOR)
        rstd = tl.load(rstd_ptr + n, mask=n < N, other=0.0)[:, None]
        h = x.to(ACCUMULATOR) * rstd
        c = g * weight[None, :]
        grad_x = rstd * (c - h * (tl.sum(c * h, axis=1) / D)[:, None])
        if HAS_RESIDUAL:
            more = tl.load(grad_total_ptr + rows, mask=inside, other=0.0)
            grad_x += more.to(ACCUMULATOR)
        tl.store(grad_x_ptr + rows, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
        if CAST_FIRST:
            h = h.to(grad_y_ptr.dtype.element_ty).to(ACCUMULATOR)
        grad_weight += g * h
    grad_weight = tl.sum(grad_weight, axis=0)
    out_ptr = partial_ptr + tl.program_id(0).to(tl.int64) * D + d
    tl.store(out_ptr, grad_weight, mask=d < D)


@triton.jit
def sum_partials_kernel(
    partial_ptr,  # (P, D)
    out_ptr,  # (D,), written
    P,
    D,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Adds partial sums in their order, for one block of columns."""
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros([BLOCK_D], partial_ptr.dtype.element_ty)
    for p_start in range(0, P, BLOCK_P):
        p = p_start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & (d < D)[None, :]
        part = tl.load(partial_ptr + _offsets(p, d, D), mask=inside, other=0.0)
        total += tl.sum(part, axis=0)
    tl.store(out_ptr + d, total.to(out_ptr.dtype.element_ty), mask=d < D)
