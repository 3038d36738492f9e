"""Triton kernels of the loss on the output layer; see docs/kernels.md.

Shape letters in this file: N = tokens, V = vocabulary entries, D = hidden units,
S = vocabulary splits, C = vocabulary entries of one chunk of the backward.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.softcap import tanh

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _grouped(rows, columns, GROUP: tl.constexpr):
    """This program's row and column of tiles, out of rows x columns.

    Programs that run at one time cover GROUP rows and as many columns as fit, not all
    rows of a column: what they read of both operands then stays in the L2 cache.
    """
    pid = tl.program_id(0)
    first = pid // (GROUP * columns) * GROUP
    height = tl.minimum(rows - first, GROUP)
    inside = pid % (GROUP * columns)
    return first + inside % height, inside // height


@triton.jit
def _add_product(a, b, acc):
    """The sum of acc and a @ b."""
    if a.dtype == tl.float32:
        # Sums of BLOCK entries, then the sum of those: one chain of fp32 additions
        # over a whole vocabulary loses four times the digits. Written as an fma, since
        # the compiler joins a product and an addition to one chain again.
        acc = tl.fma(tl.dot(a, b, input_precision="ieee"), 1.0, acc)
    else:
        acc = tl.dot(a, b, acc)
    return acc


@triton.jit
def _logits_tile(
    hidden_ptr,  # (N, D)
    weight_ptr,  # (V, D)
    n,  # (BLOCK_N,) token indices, inside [0, N)
    v,  # (BLOCK_V,) vocabulary indices, inside [0, V)
    D,
    stride_hn,
    stride_wv,
    softcap,
    EVEN_D: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """(BLOCK_N, BLOCK_V) fp32 logits, soft-capped, before the temperature."""
    d = tl.arange(0, BLOCK_D)
    # int64: n * D passes 2**31 at 524,288 tokens of width 4096.
    h_ptrs = hidden_ptr + n.to(tl.int64)[:, None] * stride_hn + d[None, :]
    w_ptrs = weight_ptr + v.to(tl.int64)[None, :] * stride_wv + d[:, None]
    z = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    for d_start in range(0, D, BLOCK_D):
        if EVEN_D:
            h = tl.load(h_ptrs)
            w = tl.load(w_ptrs)
        else:
            h = tl.load(h_ptrs, mask=(d < D - d_start)[None, :], other=0.0)
            w = tl.load(w_ptrs, mask=(d < D - d_start)[:, None], other=0.0)
        z = _add_product(h, w, z)
        h_ptrs += BLOCK_D
        w_ptrs += BLOCK_D
    if HAS_SOFTCAP:
        z = softcap * tanh(z / softcap)
    return z


@triton.jit
def _exp(x):
    """Of differences: a logit times log2(e) is rounded by more than a difference is."""
    return tl.exp2(x * LOG2E)


@triton.jit
def _raised(u, s, m, m_new):
    """Sum of exp(z - m) * (z - m) once m grew; a row that met nothing yet has 0."""
    grown = tl.where(s > 0.0, m, m_new) - m_new
    return _exp(m - m_new) * (u + s * grown)


@triton.jit
def statistics_kernel(
    hidden_ptr,  # (N, D)
    weight_ptr,  # (V, D)
    targets_ptr,  # (N,) int64, negative where ignored
    # (S, 4 or 5, N) fp32, written: max m, sum of exp(z - m), target logit, sum of logits,
    # and if HAS_ENTROPY sum of exp(z - m) * (z - m)
    partial_ptr,
    N,
    V,
    D,
    stride_hn,
    stride_wv,
    softcap,
    inv_temperature,
    tiles_per_split,
    HAS_SOFTCAP: tl.constexpr,
    HAS_MEAN: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Statistics of BLOCK_N rows of logits over one split of the vocabulary.

    Online log-sum-exp (Milakov & Gimelshein 2018): running maximum m and
    s = sum(exp(z - m)), s rescaled whenever m grows. For the entropy log(s) - u / s
    also u = sum(exp(z - m) * (z - m)), all of one sign: nothing cancels. No program
    touches another's partials, so there is no lock and no order to depend on.
    """
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    target = tl.load(targets_ptr + n, mask=n < N, other=-1)
    if tl.max(target, axis=0) < 0:
        return  # nothing supervised here: the combination reads no partials
    n_in = tl.minimum(n, N - 1)
    m = tl.full([BLOCK_N], -float("inf"), tl.float32)
    s = tl.zeros([BLOCK_N], tl.float32)
    z_target = tl.zeros([BLOCK_N], tl.float32)
    z_sum = tl.zeros([BLOCK_N], tl.float32)
    u = tl.zeros([BLOCK_N], tl.float32)

    v_first = split * tiles_per_split * BLOCK_V
    v_end = tl.minimum(v_first + tiles_per_split * BLOCK_V, V)
    for v_start in range(v_first, v_end, BLOCK_V):
        v = v_start + tl.arange(0, BLOCK_V)
        z = _logits_tile(
            hidden_ptr, weight_ptr, n_in, tl.minimum(v, V - 1), D, stride_hn, stride_wv,
            softcap, EVEN_D, HAS_SOFTCAP, BLOCK_N, BLOCK_V, BLOCK_D,
        )  # fmt: skip
        z = z * inv_temperature
        z_target += tl.sum(tl.where(v[None, :] == target[:, None], z, 0.0), axis=1)
        if HAS_MEAN:
            z_sum += tl.sum(tl.where((v < V)[None, :], z, 0.0), axis=1)
        z = tl.where((v < V)[None, :], z, -float("inf"))
        m_new = tl.maximum(m, tl.max(z, axis=1))
        if HAS_ENTROPY:
            below = tl.where((v < V)[None, :], z - m_new[:, None], 0.0)
            u = _raised(u, s, m, m_new) + tl.sum(_exp(below) * below, axis=1)
        s = s * _exp(m - m_new) + tl.sum(_exp(z - m_new[:, None]), axis=1)
        m = m_new

    out_ptr = partial_ptr + split.to(tl.int64) * (4 + HAS_ENTROPY) * N + n
    tl.store(out_ptr, m, mask=n < N)
    tl.store(out_ptr + N, s, mask=n < N)
    tl.store(out_ptr + 2 * N, z_target, mask=n < N)
    if HAS_MEAN:
        tl.store(out_ptr + 3 * N, z_sum, mask=n < N)
    if HAS_ENTROPY:
        tl.store(out_ptr + 4 * N, u, mask=n < N)


@triton.jit
def combine_kernel(
    partial_ptr,  # (S, 4 or 5, N) fp32
    targets_ptr,  # (N,) int64, negative where ignored
    logps_ptr,  # (N,) fp32, written: log-probability of the target, nats
    lse_ptr,  # (N,) fp32, written: log-sum-exp, nats
    lost_ptr,  # (N,) fp32, written: what it lost when it was rounded
    mean_ptr,  # (N,) fp32, written if HAS_MEAN: mean logit
    entropy_ptr,  # (N,) fp32, written if HAS_ENTROPY: nats
    N,
    V,
    S,
    HAS_MEAN: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Joins the splits of each row in their fixed order; ignored rows become 0."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    target = tl.load(targets_ptr + n, mask=n < N, other=-1)
    supervised = target >= 0
    m = tl.full([BLOCK_N], -float("inf"), tl.float32)
    s = tl.zeros([BLOCK_N], tl.float32)
    z_target = tl.zeros([BLOCK_N], tl.float32)
    z_sum = tl.zeros([BLOCK_N], tl.float32)
    u = tl.zeros([BLOCK_N], tl.float32)
    in_ptr = partial_ptr + n
    for _ in range(0, S):
        m_split = tl.load(in_ptr, mask=supervised, other=0.0)
        s_split = tl.load(in_ptr + N, mask=supervised, other=1.0)
        m_new = tl.maximum(m, m_split)
        if HAS_ENTROPY:
            u_split = tl.load(in_ptr + 4 * N, mask=supervised, other=0.0)
            u = _raised(u, s, m, m_new) + _raised(u_split, s_split, m_split, m_new)
        s = s * _exp(m - m_new) + s_split * _exp(m_split - m_new)
        m = m_new
        z_target += tl.load(in_ptr + 2 * N, mask=supervised, other=0.0)
        if HAS_MEAN:
            z_sum += tl.load(in_ptr + 3 * N, mask=supervised, other=0.0)
        in_ptr += (4 + HAS_ENTROPY) * N
    above = tl.log2(s) * LN2
    lse = m + above
    # A target past the vocabulary was found by no split: NaN says so, loudly.
    z_target = tl.where(target < V, z_target, float("nan"))
    tl.store(
        logps_ptr + n, tl.where(supervised, (z_target - m) - above, 0.0), mask=n < N
    )
    tl.store(lost_ptr + n, tl.where(supervised, (m - lse) + above, 0.0), mask=n < N)
    tl.store(lse_ptr + n, tl.where(supervised, lse, 0.0), mask=n < N)
    if HAS_MEAN:
        tl.store(mean_ptr + n, tl.where(supervised, z_sum / V, 0.0), mask=n < N)
    if HAS_ENTROPY:
        entropy = above - u / s
        tl.store(entropy_ptr + n, tl.where(supervised, entropy, 0.0), mask=n < N)


@triton.jit
def dlogits_kernel(
    hidden_ptr,  # (N, D)
    weight_ptr,  # (V, D)
    targets_ptr,  # (N,) int64, negative where ignored
    lse_ptr,  # (N,) fp32
    lost_ptr,  # (N,) fp32: what lse lost when it was rounded
    entropy_ptr,  # (N,) fp32, read if HAS_ENTROPY
    # (2 to 4, N) fp32: upstream gradient of logps, lse and, where there are any, mean
    # logit and entropy
    coefficients_ptr,
    dlogits_ptr,  # (N, C), written: gradient of the chunk's logits
    kept_ptr,  # (tiles of N, tiles of C) int8, written if FILTER: 0 where left out
    N,
    V,
    D,
    v_first,  # vocabulary entry where the chunk begins
    C,
    stride_hn,
    stride_wv,
    stride_gn,
    softcap,
    inv_temperature,
    least,  # probability below which FILTER leaves a tile out
    HAS_SOFTCAP: tl.constexpr,
    HAS_MEAN: tl.constexpr,
    HAS_ENTROPY: tl.constexpr,
    FILTER: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradient of one tile of logits.

    p * (g_lse - g_lp - g_H * (log p + H)) + onehot * g_lp + g_mean / V, times
    (1 - (z / cap)^2) / temperature. The logits are recomputed; every loss made of the
    four statistics is served by this one formula.
    """
    tile_n, tile_c = _grouped(tl.cdiv(N, BLOCK_N), tl.cdiv(C, BLOCK_V), 8)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    c = tile_c * BLOCK_V + tl.arange(0, BLOCK_V)
    v = v_first + c
    target = tl.load(targets_ptr + n, mask=n < N, other=-1)
    g_ptrs = dlogits_ptr + n.to(tl.int64)[:, None] * stride_gn + c[None, :]
    inside = (n < N)[:, None] & (v < V)[None, :]
    kept_ptr += tile_n * tl.cdiv(C, BLOCK_V) + tile_c
    if tl.max(target, axis=0) < 0:
        if FILTER:
            tl.store(kept_ptr, 0)
        zero = tl.zeros([BLOCK_N, BLOCK_V], dlogits_ptr.dtype.element_ty)
        tl.store(g_ptrs, zero, mask=inside)
        return
    z = _logits_tile(
        hidden_ptr, weight_ptr, tl.minimum(n, N - 1), tl.minimum(v, V - 1), D,
        stride_hn, stride_wv, softcap, EVEN_D, HAS_SOFTCAP, BLOCK_N, BLOCK_V, BLOCK_D,
    )  # fmt: skip
    lse = tl.load(lse_ptr + n, mask=n < N, other=0.0)
    g_lp = tl.load(coefficients_ptr + n, mask=n < N, other=0.0)
    g_lse = tl.load(coefficients_ptr + N + n, mask=n < N, other=0.0)
    lse = tl.where(target >= 0, lse, float("inf"))  # p = 0 where ignored
    lost = tl.load(lost_ptr + n, mask=n < N, other=0.0)
    log_p = z * inv_temperature - lse[:, None]
    p = _exp(log_p)  # but for exp(-lost) of its row
    if FILTER:  # what is left out is still written: products may take larger steps
        told = tl.where(v[None, :] == target[:, None], 1.0, p)
        largest = tl.max(tl.max(tl.where(inside, told, 0.0), axis=1), axis=0)
        keep = largest >= least
        tl.store(kept_ptr, keep.to(tl.int8))
        p = tl.where(keep, p, 0.0)
    factor = g_lse - g_lp
    share = _exp(-lost)
    if HAS_ENTROPY:
        row = coefficients_ptr + (2 + HAS_MEAN) * N
        g_entropy = tl.load(row + n, mask=n < N, other=0.0)
        entropy = tl.load(entropy_ptr + n, mask=n < N, other=0.0)
        factor -= g_entropy * (entropy - lost)
        factor, g_entropy = factor * share, g_entropy * share
        g = p * (factor[:, None] - g_entropy[:, None] * log_p)
    else:
        g = p * (factor * share)[:, None]
    g += tl.where(v[None, :] == target[:, None], g_lp[:, None], 0.0)
    if HAS_MEAN:
        g_mean = tl.load(coefficients_ptr + 2 * N + n, mask=n < N, other=0.0)
        g += (g_mean / V)[:, None]
    if HAS_SOFTCAP:
        ratio = z / softcap
        g *= 1.0 - ratio * ratio
    g = tl.where((target >= 0)[:, None], g * inv_temperature, 0.0)
    tl.store(g_ptrs, g.to(dlogits_ptr.dtype.element_ty), mask=inside)


@triton.jit
def product_kernel(
    a_ptr,  # (R, I), by its strides: dlogits or its transpose
    b_ptr,  # (I, D)
    c_ptr,  # (R, D), written
    scale_ptr,  # () fp32: the result is multiplied by it
    kept_ptr,  # int8, by its strides: of each tile of a, read if FILTER_R
    R,
    I,  # noqa: E741 (the inner dimension)
    D,
    stride_ar,
    stride_ai,
    stride_bi,
    stride_cr,
    stride_kr,
    stride_ki,
    ACCUMULATE: tl.constexpr,
    FILTER_R: tl.constexpr,  # rows of the tiles of zeros to leave out; 0: none
    FILTER_I: tl.constexpr,  # columns of them
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    """Writes c = scale * (a @ b), or adds a @ b to an fp32 c, without the scale.

    The sum over I goes on from what c holds, in steps of BLOCK_I, so cutting I in
    chunks that are multiples of BLOCK_I leaves every bit as it was.
    """
    tile_r, tile_d = _grouped(tl.cdiv(R, BLOCK_R), tl.cdiv(D, BLOCK_D), 8)
    r = tile_r * BLOCK_R + tl.arange(0, BLOCK_R)
    d = tile_d * BLOCK_D + tl.arange(0, BLOCK_D)
    i = tl.arange(0, BLOCK_I)
    c_ptrs = c_ptr + r.to(tl.int64)[:, None] * stride_cr + d[None, :]
    inside = (r < R)[:, None] & (d < D)[None, :]
    if ACCUMULATE:
        acc = tl.load(c_ptrs, mask=inside, other=0.0)
    else:
        acc = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    a_rows = a_ptr + r.to(tl.int64)[:, None] * stride_ar
    a_ptrs = a_rows + i.to(tl.int64)[None, :] * stride_ai
    b_ptrs = b_ptr + i.to(tl.int64)[:, None] * stride_bi + d[None, :]
    kept_row = kept_ptr
    if FILTER_R:  # BLOCK_R divides it, and BLOCK_I the columns
        kept_row += tile_r * BLOCK_R // FILTER_R * stride_kr
    for i_start in range(0, I, BLOCK_I):
        left = i < I - i_start
        if FILTER_R == 0:
            a = tl.load(a_ptrs, mask=(r < R)[:, None] & left[None, :], other=0.0)
            b = tl.load(b_ptrs, mask=left[:, None] & (d < D)[None, :], other=0.0)
            acc = _add_product(a, b, acc)
        elif tl.load(kept_row + i_start // FILTER_I * stride_ki) != 0:
            a = tl.load(a_ptrs, mask=(r < R)[:, None] & left[None, :], other=0.0)
            b = tl.load(b_ptrs, mask=left[:, None] & (d < D)[None, :], other=0.0)
            acc = _add_product(a, b, acc)
        # int64: rows that are 2**25 apart are 2**31 from step to step.
        a_ptrs += tl.cast(BLOCK_I, tl.int64) * stride_ai
        b_ptrs += tl.cast(BLOCK_I, tl.int64) * stride_bi
    if not ACCUMULATE:
        acc *= tl.load(scale_ptr)
    tl.store(c_ptrs, acc.to(c_ptr.dtype.element_ty), mask=inside)
