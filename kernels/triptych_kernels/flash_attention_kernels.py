"""Triton kernels of packed attention: see `flash_attention` and docs/kernels.md.

Shape letters in this file: T = tokens of the packed row, H = query heads, K = key and
value heads, D = head dim, G = H / K. i counts queries, j keys. Exponents are base 2.

A tile is a row (start, document start, document end) of a table; it lies in one
document, so no inner loop asks which document a key is of, and the order of every sum
depends on the document alone.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.softcap import tanh

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load_rows(ptr, rows, end, stride_row, d, D, EVEN_D: tl.constexpr):
    """(rows, BLOCK_D) tile; rows from ``end`` on and columns past D are 0."""
    # int64: T * H * D passes 2**31 at 262,144 tokens of 64 heads of 128.
    ptrs = ptr + rows.to(tl.int64)[:, None] * stride_row + d[None, :]
    if EVEN_D:
        return tl.load(ptrs, mask=(rows < end)[:, None], other=0.0)
    return tl.load(ptrs, mask=(rows < end)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _store_rows(ptr, x, rows, end, stride_row, d, D):
    ptrs = ptr + rows.to(tl.int64)[:, None] * stride_row + d[None, :]
    mask = (rows < end)[:, None] & (d < D)[None, :]
    tl.store(ptrs, x.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _visible(i, j, CAUSAL: tl.constexpr, HAS_WINDOW: tl.constexpr, window):
    """Whether query i sees key j of the same document; i and j broadcast."""
    seen = (i >= 0) & (j >= 0)
    if CAUSAL:
        seen = i >= j
    if HAS_WINDOW:
        seen = seen & (i - j < window)
    return seen


@triton.jit
def _scores(z, scale, softcap, HAS_SOFTCAP: tl.constexpr):
    """Base-2 scores of raw products z: scaled, then capped, times log2(e)."""
    if HAS_SOFTCAP:
        x = softcap * LOG2E * tanh(z * (scale / softcap))
    else:
        x = z * (scale * LOG2E)
    return x


@triton.jit
def _score_gradients(p, dp, delta, x, softcap, HAS_SOFTCAP: tl.constexpr):
    """Gradients of the scaled products; the slope of the cap is 1 - tanh^2."""
    ds = p * (dp - delta)
    if HAS_SOFTCAP:
        t = x * (1.0 / (softcap * LOG2E))
        ds = ds * (1.0 - t * t)
    return ds


@triton.jit
def _key_ranges(
    start,
    document,
    end,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Where keys of a query tile begin, need no mask, need one again, and end.

    Every bound but the last is a whole number of key tiles past the document start.
    """
    last = end
    full_end = document + (end - document) // BLOCK_J * BLOCK_J
    if CAUSAL:
        last = tl.minimum(end, start + BLOCK_I)
        full_end = document + (start + 1 - document) // BLOCK_J * BLOCK_J
    first = document
    full = document
    if HAS_WINDOW:
        hidden_for_all = tl.maximum(start - window + 1 - document, 0)
        hidden_for_some = tl.maximum(start + BLOCK_I - window - document, 0)
        first = document + hidden_for_all // BLOCK_J * BLOCK_J
        full = document + (hidden_for_some + BLOCK_J - 1) // BLOCK_J * BLOCK_J
    full_end = tl.maximum(full_end, first)
    return first, tl.minimum(full, full_end), full_end, last


@triton.jit
def _forward_range(
    acc,
    m,
    s,
    q,
    k_ptr,
    v_ptr,
    i,
    d,
    first,
    last,
    end,
    stride_kt,
    stride_vt,
    D,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Online softmax over the key tiles of [first, last)."""
    for j_start in range(first, last, BLOCK_J):
        j = j_start + tl.arange(0, BLOCK_J)
        k = _load_rows(k_ptr, j, end, stride_kt, d, D, EVEN_D)
        z = tl.dot(q, tl.trans(k), input_precision="ieee")
        z = _scores(z, scale, softcap, HAS_SOFTCAP)
        if MASKED:
            seen = _visible(i[:, None], j[None, :], CAUSAL, HAS_WINDOW, window)
            z = tl.where(seen & (j < end)[None, :], z, -float("inf"))
        m_new = tl.maximum(m, tl.max(z, axis=1))
        # A row that has met no key yet must not compute inf - inf.
        m_safe = tl.where(m_new == -float("inf"), 0.0, m_new)
        p = tl.exp2(z - m_safe[:, None])
        rescale = tl.exp2(m - m_safe)
        s = s * rescale + tl.sum(p, axis=1)
        v = _load_rows(v_ptr, j, end, stride_vt, d, D, EVEN_D)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
        m = m_new
    return acc, m, s


@triton.jit
def forward_kernel(
    q_ptr,  # (T, H, D)
    k_ptr,  # (T, K, D)
    v_ptr,  # (T, K, D)
    o_ptr,  # (T, H, D), written
    lse_ptr,  # (H, T) fp32, written: base-2 log-sum-exp of each row of scores
    tiles_ptr,  # (num_tiles, 3) int32
    sinks_ptr,  # (H,), read if HAS_SINKS: logits that join the denominator
    T,
    D,
    G,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_ot,
    stride_oh,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """FlashAttention-2 forward (Dao 2023, algorithm 1) of one query tile and head.

    Three loops: keys the window cuts, keys all queries see, keys of the diagonal.
    """
    start = tl.load(tiles_ptr + 3 * tl.program_id(0))
    document = tl.load(tiles_ptr + 3 * tl.program_id(0) + 1)
    end = tl.load(tiles_ptr + 3 * tl.program_id(0) + 2)
    if start >= end:
        return
    head = tl.program_id(1).to(tl.int64)
    i = start + tl.arange(0, BLOCK_I)
    d = tl.arange(0, BLOCK_D)
    k_ptr += head // G * stride_kh
    v_ptr += head // G * stride_vh
    q = _load_rows(q_ptr + head * stride_qh, i, end, stride_qt, d, D, EVEN_D)
    acc = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    m = tl.full([BLOCK_I], 0.0 if HAS_SINKS else -float("inf"), tl.float32)
    s = tl.zeros([BLOCK_I], tl.float32)
    if HAS_SINKS:  # as if a key of value 0 had been seen
        m += tl.load(sinks_ptr + head).to(tl.float32) * LOG2E
        s += 1.0
    first, full, full_end, last = _key_ranges(
        start, document, end, window, CAUSAL, HAS_WINDOW, BLOCK_I, BLOCK_J
    )
    if HAS_WINDOW:
        acc, m, s = _forward_range(
            acc, m, s, q, k_ptr, v_ptr, i, d, first, full, end, stride_kt, stride_vt,
            D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP, True, EVEN_D,
            BLOCK_J,
        )  # fmt: skip
    acc, m, s = _forward_range(
        acc, m, s, q, k_ptr, v_ptr, i, d, full, full_end, end, stride_kt, stride_vt,
        D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP, False, EVEN_D,
        BLOCK_J,
    )  # fmt: skip
    acc, m, s = _forward_range(
        acc, m, s, q, k_ptr, v_ptr, i, d, full_end, last, end, stride_kt, stride_vt,
        D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP, True, EVEN_D,
        BLOCK_J,
    )  # fmt: skip
    s = tl.where(s > 0.0, s, 1.0)  # rows past the end may have seen no key
    o_ptr += head * stride_oh
    _store_rows(o_ptr, acc / s[:, None], i, end, stride_ot, d, D)
    tl.store(lse_ptr + head * T + i, m + tl.log2(s), mask=i < end)


@triton.jit
def delta_kernel(
    o_ptr,  # (T, H, D)
    grad_o_ptr,  # (T, H, D)
    delta_ptr,  # (H, T) fp32, written: sum over D of o * grad_o
    T,
    D,
    stride_ot,
    stride_oh,
    stride_gt,
    stride_gh,
    BLOCK_I: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """What the softmax subtracts from the gradient of each row of probabilities."""
    head = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
    d = tl.arange(0, BLOCK_D)
    o = _load_rows(o_ptr + head * stride_oh, i, T, stride_ot, d, D, False)
    g = _load_rows(grad_o_ptr + head * stride_gh, i, T, stride_gt, d, D, False)
    delta = tl.sum(o.to(tl.float32) * g.to(tl.float32), axis=1)
    tl.store(delta_ptr + head * T + i, delta, mask=i < T)


@triton.jit
def _dq_range(
    acc,
    q,
    g,
    lse,
    delta,
    k_ptr,
    v_ptr,
    i,
    d,
    first,
    last,
    end,
    stride_kt,
    stride_vt,
    D,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Adds dS @ K over the key tiles of [first, last)."""
    for j_start in range(first, last, BLOCK_J):
        j = j_start + tl.arange(0, BLOCK_J)
        k = _load_rows(k_ptr, j, end, stride_kt, d, D, EVEN_D)
        z = tl.dot(q, tl.trans(k), input_precision="ieee")
        x = _scores(z, scale, softcap, HAS_SOFTCAP)
        p = tl.exp2(x - lse[:, None])
        if MASKED:
            seen = _visible(i[:, None], j[None, :], CAUSAL, HAS_WINDOW, window)
            p = tl.where(seen & (j < end)[None, :], p, 0.0)
        v = _load_rows(v_ptr, j, end, stride_vt, d, D, EVEN_D)
        dp = tl.dot(g, tl.trans(v), input_precision="ieee")
        ds = _score_gradients(p, dp, delta[:, None], x, softcap, HAS_SOFTCAP)
        acc = tl.dot(ds.to(k.dtype), k, acc, input_precision="ieee")
    return acc


@triton.jit
def dq_kernel(
    q_ptr,  # (T, H, D)
    k_ptr,  # (T, K, D)
    v_ptr,  # (T, K, D)
    grad_o_ptr,  # (T, H, D)
    lse_ptr,  # (H, T) fp32
    delta_ptr,  # (H, T) fp32
    grad_q_ptr,  # (T, H, D), written, contiguous
    tiles_ptr,  # (num_tiles, 3) int32, of queries
    T,
    D,
    H,
    G,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_gt,
    stride_gh,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradient of one query tile: scale * sum over keys of P * (dP - delta) @ K."""
    start = tl.load(tiles_ptr + 3 * tl.program_id(0))
    document = tl.load(tiles_ptr + 3 * tl.program_id(0) + 1)
    end = tl.load(tiles_ptr + 3 * tl.program_id(0) + 2)
    if start >= end:
        return
    head = tl.program_id(1).to(tl.int64)
    i = start + tl.arange(0, BLOCK_I)
    d = tl.arange(0, BLOCK_D)
    k_ptr += head // G * stride_kh
    v_ptr += head // G * stride_vh
    q = _load_rows(q_ptr + head * stride_qh, i, end, stride_qt, d, D, EVEN_D)
    g = _load_rows(grad_o_ptr + head * stride_gh, i, end, stride_gt, d, D, EVEN_D)
    # Rows past the end get lse = inf, so p = 0.
    lse = tl.load(lse_ptr + head * T + i, mask=i < end, other=float("inf"))
    delta = tl.load(delta_ptr + head * T + i, mask=i < end, other=0.0)
    acc = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    first, full, full_end, last = _key_ranges(
        start, document, end, window, CAUSAL, HAS_WINDOW, BLOCK_I, BLOCK_J
    )
    if HAS_WINDOW:
        acc = _dq_range(
            acc, q, g, lse, delta, k_ptr, v_ptr, i, d, first, full, end, stride_kt,
            stride_vt, D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP,
            True, EVEN_D, BLOCK_J,
        )  # fmt: skip
    acc = _dq_range(
        acc, q, g, lse, delta, k_ptr, v_ptr, i, d, full, full_end, end, stride_kt,
        stride_vt, D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP,
        False, EVEN_D, BLOCK_J,
    )  # fmt: skip
    acc = _dq_range(
        acc, q, g, lse, delta, k_ptr, v_ptr, i, d, full_end, last, end, stride_kt,
        stride_vt, D, scale, softcap, window, CAUSAL, HAS_WINDOW, HAS_SOFTCAP,
        True, EVEN_D, BLOCK_J,
    )  # fmt: skip
    _store_rows(grad_q_ptr + head * D, acc * scale, i, end, H * D, d, D)


@triton.jit
def _dkdv_range(
    grad_k,
    grad_v,
    k,
    v,
    q_ptr,
    grad_o_ptr,
    lse_ptr,
    delta_ptr,
    j,
    d,
    first,
    last,
    end,
    stride_qt,
    stride_gt,
    D,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    """Adds P^T @ dO and dS^T @ Q over the query tiles of [first, last)."""
    for i_start in range(first, last, BLOCK_I):
        i = i_start + tl.arange(0, BLOCK_I)
        q = _load_rows(q_ptr, i, end, stride_qt, d, D, EVEN_D)
        lse = tl.load(lse_ptr + i, mask=i < end, other=float("inf"))
        z = tl.dot(k, tl.trans(q), input_precision="ieee")
        x = _scores(z, scale, softcap, HAS_SOFTCAP)
        p = tl.exp2(x - lse[None, :])
        if MASKED:
            seen = _visible(i[None, :], j[:, None], CAUSAL, HAS_WINDOW, window)
            p = tl.where(seen, p, 0.0)
        g = _load_rows(grad_o_ptr, i, end, stride_gt, d, D, EVEN_D)
        grad_v = tl.dot(p.to(g.dtype), g, grad_v, input_precision="ieee")
        dp = tl.dot(v, tl.trans(g), input_precision="ieee")
        delta = tl.load(delta_ptr + i, mask=i < end, other=0.0)
        ds = _score_gradients(p, dp, delta[None, :], x, softcap, HAS_SOFTCAP)
        grad_k = tl.dot(ds.to(q.dtype), q, grad_k, input_precision="ieee")
    return grad_k, grad_v


@triton.jit
def dkdv_kernel(
    q_ptr,  # (T, H, D)
    k_ptr,  # (T, K, D)
    v_ptr,  # (T, K, D)
    grad_o_ptr,  # (T, H, D)
    lse_ptr,  # (H, T) fp32
    delta_ptr,  # (H, T) fp32
    grad_k_ptr,  # (T, K, D), written, contiguous
    grad_v_ptr,  # (T, K, D), written, contiguous
    tiles_ptr,  # (num_tiles, 3) int32, of keys
    T,
    D,
    K,
    G,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    stride_vt,
    stride_vh,
    stride_gt,
    stride_gh,
    scale,
    softcap,
    window,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of one key tile, summed over its group's query heads in order."""
    start = tl.load(tiles_ptr + 3 * tl.program_id(0))
    document = tl.load(tiles_ptr + 3 * tl.program_id(0) + 1)
    end = tl.load(tiles_ptr + 3 * tl.program_id(0) + 2)
    if start >= end:
        return
    kv_head = tl.program_id(1).to(tl.int64)
    j = start + tl.arange(0, BLOCK_J)
    d = tl.arange(0, BLOCK_D)
    k = _load_rows(k_ptr + kv_head * stride_kh, j, end, stride_kt, d, D, EVEN_D)
    v = _load_rows(v_ptr + kv_head * stride_vh, j, end, stride_vt, d, D, EVEN_D)
    grad_k = tl.zeros([BLOCK_J, BLOCK_D], tl.float32)
    grad_v = tl.zeros([BLOCK_J, BLOCK_D], tl.float32)
    first = document
    full = document
    full_end = end
    last = end
    if CAUSAL:  # queries of the diagonal come first and need the mask
        first = start
        full = start + (BLOCK_J + BLOCK_I - 1) // BLOCK_I * BLOCK_I
    if HAS_WINDOW:
        last = tl.minimum(end, start + BLOCK_J + window - 1)
        full_end = full + tl.maximum(start + window - full, 0) // BLOCK_I * BLOCK_I
    full = tl.minimum(full, last)
    full_end = tl.minimum(full_end, last)
    for head in range(kv_head * G, kv_head * G + G):
        q_head = q_ptr + head * stride_qh
        g_head = grad_o_ptr + head * stride_gh
        lse_head = lse_ptr + head * T
        delta_head = delta_ptr + head * T
        if CAUSAL:
            grad_k, grad_v = _dkdv_range(
                grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, d,
                first, full, end, stride_qt, stride_gt, D, scale, softcap, window,
                CAUSAL, HAS_WINDOW, HAS_SOFTCAP, True, EVEN_D, BLOCK_I,
            )  # fmt: skip
        grad_k, grad_v = _dkdv_range(
            grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, d,
            full, full_end, end, stride_qt, stride_gt, D, scale, softcap, window,
            CAUSAL, HAS_WINDOW, HAS_SOFTCAP, False, EVEN_D, BLOCK_I,
        )  # fmt: skip
        if HAS_WINDOW:
            grad_k, grad_v = _dkdv_range(
                grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, d,
                full_end, last, end, stride_qt, stride_gt, D, scale, softcap, window,
                CAUSAL, HAS_WINDOW, HAS_SOFTCAP, True, EVEN_D, BLOCK_I,
            )  # fmt: skip
    stride = K * D
    _store_rows(grad_k_ptr + kv_head * D, grad_k * scale, j, end, stride, d, D)
    _store_rows(grad_v_ptr + kv_head * D, grad_v, j, end, stride, d, D)
