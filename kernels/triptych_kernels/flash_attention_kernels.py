"""Triton kernels of packed attention, forward: see `flash_attention`.

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
def load_rows(ptr, rows, end, stride_row, d, D, EVEN_D: tl.constexpr):
    """(rows, BLOCK_D) tile; rows from ``end`` on and columns past D are 0."""
    # int64: T * H * D passes 2**31 at 262,144 tokens of 64 heads of 128.
    ptrs = ptr + rows.to(tl.int64)[:, None] * stride_row + d[None, :]
    if EVEN_D:
        return tl.load(ptrs, mask=(rows < end)[:, None], other=0.0)
    return tl.load(ptrs, mask=(rows < end)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def store_rows(ptr, x, rows, end, stride_row, d, D):
    """Writes rows before ``end`` and columns before D, in the pointer's dtype."""
    ptrs = ptr + rows.to(tl.int64)[:, None] * stride_row + d[None, :]
    mask = (rows < end)[:, None] & (d < D)[None, :]
    tl.store(ptrs, x.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def pair_bounds(pairs_ptr, document, end):
    """Where the two responses of a document start, inside it whatever was given."""
    chosen = tl.load(pairs_ptr + 2 * document)
    rejected = tl.load(pairs_ptr + 2 * document + 1)
    chosen = tl.minimum(tl.maximum(chosen, document), end)
    return chosen, tl.minimum(tl.maximum(rejected, chosen), end)


@triton.jit
def visible(
    i,
    j,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    window,
    HAS_PAIRS: tl.constexpr,
    chosen,
    rejected,
):
    """Whether query i sees key j of the same document; i and j broadcast."""
    seen = (i >= 0) & (j >= 0)
    if CAUSAL:
        seen = i >= j
    if HAS_WINDOW:
        seen = seen & (i - j < window)
    if HAS_PAIRS:  # the second response does not see the first
        seen = seen & ((i < rejected) | (j < chosen) | (j >= rejected))
    return seen


@triton.jit
def scores(z, scale, softcap, HAS_SOFTCAP: tl.constexpr):
    """Base-2 scores of raw products z: scaled, then capped, times log2(e)."""
    if HAS_SOFTCAP:
        x = softcap * LOG2E * tanh(z * (scale / softcap))
    else:
        x = z * (scale * LOG2E)
    return x


@triton.jit
def kept(seed, head, i, j_start, threshold, BLOCK_J: tl.constexpr):
    """(rows of i, BLOCK_J) bool: which weights dropout leaves; i, j_start of a document.

    One call of Philox 4x32-10 (Salmon et al. 2011) serves eight keys of a query: four
    words of two halves. Its counter is (query, key / 8, head), its key the seed.
    """
    group = (j_start // 8 + tl.arange(0, BLOCK_J // 8)).to(tl.uint32)[None, :]
    query = i.to(tl.uint32)[:, None] + group * 0
    group = group + query * 0
    third = (query * 0 + head).to(tl.uint32)
    a, b, c, d = tl.philox(seed, query, group, third, query * 0)
    words = tl.join(tl.join(a, c), tl.join(b, d))
    words = tl.reshape(words, [i.shape[0], BLOCK_J // 2])
    halves = tl.join(words & 0xFFFF, words >> 16)
    return tl.reshape(halves, [i.shape[0], BLOCK_J]).to(tl.int32) >= threshold


@triton.jit
def key_ranges(
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
def pair_ranges(
    start,
    document,
    full_end,
    chosen,
    rejected,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Where keys of a query tile need a mask, are hidden for all, and are seen again.

    Of whole key tiles past the document start. Only tiles with a query of the second
    response are concerned, and only those of nothing else leave keys out.
    """
    prompt_end = document + (chosen - document) // BLOCK_J * BLOCK_J
    first_end = document + (chosen - document + BLOCK_J - 1) // BLOCK_J * BLOCK_J
    second = document + (rejected - document) // BLOCK_J * BLOCK_J
    some = start + BLOCK_I > rejected
    full_end = tl.where(some, tl.minimum(full_end, prompt_end), full_end)
    hidden = tl.where(start >= rejected, first_end, full_end)
    again = tl.where(start >= rejected, tl.maximum(first_end, second), full_end)
    return full_end, hidden, again


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
    chosen,
    rejected,
    document,
    head,
    seed,
    threshold,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
    MASKED: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_J: tl.constexpr,
):
    """Online softmax over the key tiles of [first, last)."""
    for j_start in range(first, last, BLOCK_J):
        j = j_start + tl.arange(0, BLOCK_J)
        k = load_rows(k_ptr, j, end, stride_kt, d, D, EVEN_D)
        z = tl.dot(q, tl.trans(k), input_precision="ieee")
        z = scores(z, scale, softcap, HAS_SOFTCAP)
        if MASKED:
            seen = visible(
                i[:, None], j[None, :], CAUSAL, HAS_WINDOW, window, HAS_PAIRS, chosen,
                rejected,
            )  # fmt: skip
            z = tl.where(seen & (j < end)[None, :], z, -float("inf"))
        m_new = tl.maximum(m, tl.max(z, axis=1))
        # A row that has met no key yet must not compute inf - inf.
        m_safe = tl.where(m_new == -float("inf"), 0.0, m_new)
        p = tl.exp2(z - m_safe[:, None])
        rescale = tl.exp2(m - m_safe)
        s = s * rescale + tl.sum(p, axis=1)
        if HAS_DROPOUT:  # of the weights, after their sum
            keep = kept(
                seed, head, i - document, j_start - document, threshold, BLOCK_J
            )
            p = tl.where(keep, p, 0.0)
        v = load_rows(v_ptr, j, end, stride_vt, d, D, EVEN_D)
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
    pairs_ptr,  # (T + 1, 2) int32 by document start, read if HAS_PAIRS
    sinks_ptr,  # (H,), read if HAS_SINKS: logits that join the denominator
    seed_ptr,  # () int64, read if HAS_DROPOUT
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
    threshold,
    inv_keep,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_PAIRS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_DROPOUT: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    EVEN_D: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """FlashAttention-2 forward (Dao 2023, algorithm 1) of one query tile and head.

    Loops: keys the window cuts, keys all queries see, where the first response of a
    pair starts, and the diagonal.
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
    acc = tl.zeros([BLOCK_I, BLOCK_D], tl.float32)
    m = tl.full([BLOCK_I], 0.0 if HAS_SINKS else -float("inf"), tl.float32)
    s = tl.zeros([BLOCK_I], tl.float32)
    if HAS_SINKS:  # as if a key of value 0 had been seen
        m += tl.load(sinks_ptr + head).to(tl.float32) * LOG2E
        s += 1.0
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
        acc, m, s = _forward_range(
            acc, m, s, q, k_ptr, v_ptr, i, d, first, full, end, stride_kt, stride_vt, D,
            scale, softcap, window, chosen, rejected, document, head, seed, threshold,
            CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, True, EVEN_D,
            BLOCK_J,
        )  # fmt: skip
    acc, m, s = _forward_range(
        acc, m, s, q, k_ptr, v_ptr, i, d, full, full_end, end, stride_kt, stride_vt, D,
        scale, softcap, window, chosen, rejected, document, head, seed, threshold,
        CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, False, EVEN_D, BLOCK_J,
    )  # fmt: skip
    if HAS_PAIRS:
        acc, m, s = _forward_range(
            acc, m, s, q, k_ptr, v_ptr, i, d, full_end, hidden, end, stride_kt,
            stride_vt, D, scale, softcap, window, chosen, rejected, document, head,
            seed, threshold, CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT,
            True, EVEN_D, BLOCK_J,
        )  # fmt: skip
    acc, m, s = _forward_range(
        acc, m, s, q, k_ptr, v_ptr, i, d, again, last, end, stride_kt, stride_vt, D,
        scale, softcap, window, chosen, rejected, document, head, seed, threshold,
        CAUSAL, HAS_WINDOW, HAS_PAIRS, HAS_SOFTCAP, HAS_DROPOUT, True, EVEN_D, BLOCK_J,
    )  # fmt: skip
    s = tl.where(s > 0.0, s, 1.0)  # rows past the end may have seen no key
    o_ptr += head * stride_oh
    if HAS_DROPOUT:
        acc *= inv_keep
    store_rows(o_ptr, acc / s[:, None], i, end, stride_ot, d, D)
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
    o = load_rows(o_ptr + head * stride_oh, i, T, stride_ot, d, D, False)
    g = load_rows(grad_o_ptr + head * stride_gh, i, T, stride_gt, d, D, False)
    delta = tl.sum(o.to(tl.float32) * g.to(tl.float32), axis=1)
    tl.store(delta_ptr + head * T + i, delta, mask=i < T)
