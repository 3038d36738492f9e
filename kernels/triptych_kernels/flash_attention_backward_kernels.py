"""Triton kernels of packed attention, backward: see `flash_attention`.

Letters and tiles are those of `flash_attention_kernels`. One kernel makes the queries'
gradient, one the keys' and values': nothing is added atomically.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.configs import interpreted
from triptych_kernels.flash_attention_kernels import (
    LOG2E,
    kept,
    key_ranges,
    load_rows,
    pair_bounds,
    pair_ranges,
    scores,
    store_rows,
    visible,
)

# Scores must be those of the forward pass in every bit: of large ones, what another order
# of sums changes is no longer a small part of a weight. NumPy's order goes by which factor
# comes first; that a GPU sums both products over D in one order has not been measured.
INTERPRETED = tl.constexpr(interpreted())


@triton.jit
def _score_gradients(p, dp, delta, x, softcap, HAS_SOFTCAP: tl.constexpr):
    """Gradients of the scaled products; the slope of the cap is 1 - tanh^2."""
    ds = p * (dp - delta)
    if HAS_SOFTCAP:
        t = x * (1.0 / (softcap * LOG2E))
        ds = ds * (1.0 - t * t)
    return ds


@triton.jit
def _dq_range(
    acc,
    total,
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
    chosen,
    rejected,
    document,
    head,
    seed,
    threshold,
    inv_keep,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
    WITH_TOTALS: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Adds dS @ K, and P * dP if WITH_TOTALS, over the key tiles of [first, last)."""
    for j_start in range(first, last, BLOCK_J):
        j = j_start + tl.arange(0, BLOCK_J)
        k = load_rows(k_ptr, j, end, stride_kt, d, D, EVEN_D)
        z = tl.dot(q, tl.trans(k), input_precision="ieee")
        x = scores(z, scale, softcap, HAS_SOFTCAP)
        p = tl.exp2(x - lse[:, None])
        if MASKED:
            seen = visible(
                i[:, None], j[None, :], CAUSAL, HAS_WINDOW, window, HAS_PAIRS, chosen,
                rejected,
            )  # fmt: skip
            p = tl.where(seen & (j < end)[None, :], p, 0.0)
        v = load_rows(v_ptr, j, end, stride_vt, d, D, EVEN_D)
        dp = tl.dot(g, tl.trans(v), input_precision="ieee")
        if HAS_DROPOUT:
            keep = kept(
                seed, head, i - document, j_start - document, threshold, BLOCK_J
            )
            dp = tl.where(keep, dp * inv_keep, 0.0)
        if WITH_TOTALS:
            total += tl.sum(p * dp, axis=1)
        ds = _score_gradients(p, dp, delta[:, None], x, softcap, HAS_SOFTCAP)
        acc = tl.dot(ds.to(k.dtype), k, acc, input_precision="ieee")
    return acc, total


@triton.jit
def dq_kernel(
    q_ptr,  # (T, H, D)
    k_ptr,  # (T, K, D)
    v_ptr,  # (T, K, D)
    grad_o_ptr,  # (T, H, D)
    lse_ptr,  # (H, T) fp32
    delta_ptr,  # (H, T) fp32
    grad_q_ptr,  # (T, H, D), written, contiguous
    renewed_ptr,  # (H, T) fp32, written if WITH_TOTALS: sum over keys of P * dP
    tiles_ptr,  # (num_tiles, 3) int32, of queries
    pairs_ptr,  # (T + 1, 2) int32 by document start, read if HAS_PAIRS
    seed_ptr,  # () int64, read if HAS_DROPOUT
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
    threshold,
    inv_keep,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
    WITH_TOTALS: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradient of one query tile: scale * sum over keys of P * (dP - delta) @ K.

    The gradient of a sink is a sum of deltas in which most cancels: made of outputs that
    were rounded to 16 bits it may have no digit right, so deltas are made anew here.
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
    q = load_rows(q_ptr + head * stride_qh, i, end, stride_qt, d, D, EVEN_D)
    g = load_rows(grad_o_ptr + head * stride_gh, i, end, stride_gt, d, D, EVEN_D)
    # Rows past the end get lse = inf, so p = 0.
    lse = tl.load(lse_ptr + head * T + i, mask=i < end, other=float("inf"))
    delta = tl.load(delta_ptr + head * T + i, mask=i < end, other=0.0)
    acc = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_I], tl.float32)
    first, full, full_end, last = key_ranges(
        start, document, end, window, CAUSAL, HAS_WINDOW, BLOCK_I, BLOCK_J
    )
    seed = 0
    if HAS_DROPOUT:
        seed = tl.load(seed_ptr)
    chosen = end
    rejected = end
    hidden = full_end
    again = full_end
    if HAS_PAIRS:
        chosen, rejected = pair_bounds(pairs_ptr, document, end)
        full_end, hidden, again = pair_ranges(
            start, document, full_end, chosen, rejected, BLOCK_I, BLOCK_J
        )
    if HAS_WINDOW:
        acc, total = _dq_range(
            acc, total, q, g, lse, delta, k_ptr, v_ptr, i, d, first, full, end,
            stride_kt, stride_vt, D, scale, softcap, window, chosen, rejected, document,
            head, seed, threshold, inv_keep, CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP,
            HAS_DROPOUT, WITH_TOTALS, True, EVEN_D, BLOCK_J,
        )  # fmt: skip
    acc, total = _dq_range(
        acc, total, q, g, lse, delta, k_ptr, v_ptr, i, d, full, full_end, end,
        stride_kt, stride_vt, D, scale, softcap, window, chosen, rejected, document,
        head, seed, threshold, inv_keep, CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP,
        HAS_DROPOUT, WITH_TOTALS, False, EVEN_D, BLOCK_J,
    )  # fmt: skip
    if HAS_PAIRS:
        acc, total = _dq_range(
            acc, total, q, g, lse, delta, k_ptr, v_ptr, i, d, full_end, hidden, end,
            stride_kt, stride_vt, D, scale, softcap, window, chosen, rejected, document,
            head, seed, threshold, inv_keep, CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP,
            HAS_DROPOUT, WITH_TOTALS, True, EVEN_D, BLOCK_J,
        )  # fmt: skip
    acc, total = _dq_range(
        acc, total, q, g, lse, delta, k_ptr, v_ptr, i, d, again, last, end, stride_kt,
        stride_vt, D, scale, softcap, window, chosen, rejected, document, head, seed,
        threshold, inv_keep, CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT,
        WITH_TOTALS, True, EVEN_D, BLOCK_J,
    )  # fmt: skip
    if WITH_TOTALS:
        tl.store(renewed_ptr + head * T + i, total, mask=i < end)
    store_rows(grad_q_ptr + head * D, acc * scale, i, end, H * D, d, D)


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
    j_start,
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
    chosen,
    rejected,
    document,
    head,
    seed,
    threshold,
    inv_keep,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Adds P^T @ dO and dS^T @ Q over the query tiles of [first, last)."""
    for i_start in range(first, last, BLOCK_I):
        i = i_start + tl.arange(0, BLOCK_I)
        q = load_rows(q_ptr, i, end, stride_qt, d, D, EVEN_D)
        lse = tl.load(lse_ptr + i, mask=i < end, other=float("inf"))
        if INTERPRETED:
            z = tl.trans(tl.dot(q, tl.trans(k), input_precision="ieee"))
        else:
            z = tl.dot(k, tl.trans(q), input_precision="ieee")
        x = scores(z, scale, softcap, HAS_SOFTCAP)
        p = tl.exp2(x - lse[None, :])
        if MASKED:
            seen = visible(
                i[None, :], j[:, None], CAUSAL, HAS_WINDOW, window, HAS_PAIRS, chosen,
                rejected,
            )  # fmt: skip
            p = tl.where(seen, p, 0.0)
        g = load_rows(grad_o_ptr, i, end, stride_gt, d, D, EVEN_D)
        used = p
        if HAS_DROPOUT:  # grad_v is divided by the share kept once, at the end
            keep = tl.trans(
                kept(seed, head, i - document, j_start - document, threshold, BLOCK_J)
            )
            used = tl.where(keep, p, 0.0)
        grad_v = tl.dot(used.to(g.dtype), g, grad_v, input_precision="ieee")
        dp = tl.dot(v, tl.trans(g), input_precision="ieee")
        if HAS_DROPOUT:
            dp = tl.where(keep, dp * inv_keep, 0.0)
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
    pairs_ptr,  # (T + 1, 2) int32 by document start, read if HAS_PAIRS
    seed_ptr,  # () int64, read if HAS_DROPOUT
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
    threshold,
    inv_keep,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
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
    k = load_rows(k_ptr + kv_head * stride_kh, j, end, stride_kt, d, D, EVEN_D)
    v = load_rows(v_ptr + kv_head * stride_vh, j, end, stride_vt, d, D, EVEN_D)
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
    seed = 0
    if HAS_DROPOUT:
        seed = tl.load(seed_ptr)
    chosen = end
    rejected = end
    if HAS_PAIRS:
        chosen, rejected = pair_bounds(pairs_ptr, document, end)
        # Keys of the first response alone: no query of the second; of neither: as ever.
        first_alone = (start >= chosen) & (start + BLOCK_J <= rejected)
        neither = (start + BLOCK_J <= chosen) | (start >= rejected)
        last = tl.where(first_alone, rejected, end)
        whole = full + tl.maximum(last - full, 0) // BLOCK_I * BLOCK_I
        full_end = tl.where(neither, end, tl.where(first_alone, whole, full))
    full = tl.minimum(full, last)
    full_end = tl.minimum(full_end, last)
    for head in range(kv_head * G, kv_head * G + G):
        q_head = q_ptr + head * stride_qh
        g_head = grad_o_ptr + head * stride_gh
        lse_head = lse_ptr + head * T
        delta_head = delta_ptr + head * T
        if CAUSAL:
            grad_k, grad_v = _dkdv_range(
                grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, start, d,
                first, full, end, stride_qt, stride_gt, D, scale, softcap, window,
                chosen, rejected, document, head, seed, threshold, inv_keep, CAUSAL,
                HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, True, EVEN_D, BLOCK_I,
                BLOCK_J,
            )  # fmt: skip
        grad_k, grad_v = _dkdv_range(
            grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, start, d,
            full, full_end, end, stride_qt, stride_gt, D, scale, softcap, window,
            chosen, rejected, document, head, seed, threshold, inv_keep, CAUSAL,
            HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, False, EVEN_D, BLOCK_I,
            BLOCK_J,
        )  # fmt: skip
        if HAS_WINDOW or HAS_PAIRS:
            grad_k, grad_v = _dkdv_range(
                grad_k, grad_v, k, v, q_head, g_head, lse_head, delta_head, j, start, d,
                full_end, last, end, stride_qt, stride_gt, D, scale, softcap, window,
                chosen, rejected, document, head, seed, threshold, inv_keep, CAUSAL,
                HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, True, EVEN_D, BLOCK_I,
                BLOCK_J,
            )  # fmt: skip
    if HAS_DROPOUT:
        grad_v *= inv_keep
    stride = K * D
    store_rows(grad_k_ptr + kv_head * D, grad_k * scale, j, end, stride, d, D)
    store_rows(grad_v_ptr + kv_head * D, grad_v, j, end, stride, d, D)
