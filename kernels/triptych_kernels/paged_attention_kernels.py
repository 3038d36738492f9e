"""Triton kernels of attention of one new token over a paged cache: see `paged_attention`.

Shape letters in this file: B = sequences, H = query heads, K = key and value heads,
G = H / K, D = head dim, S = splits. j counts the tokens of a sequence. Exponents are
base 2.

A split is a run of tokens of fixed length, counted from the sequence's start, so the
order of every sum depends on the sequence alone.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.softcap import tanh

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _seen(length, window, HAS_WINDOW: tl.constexpr):
    """First token that the newest of a sequence sees."""
    first = length * 0
    if HAS_WINDOW:
        first = tl.maximum(length - window, 0)
    return first


@triton.jit
def split_kernel(
    q_ptr,  # (B, H, D)
    k_ptr,  # (pages, page_size, K, D)
    v_ptr,  # (pages, page_size, K, D), with k's strides
    table_ptr,  # (B, max_pages) int32: pages of each sequence, in order
    length_ptr,  # (B,) int32 or int64: tokens of each sequence, the newest included
    acc_ptr,  # (B, H, S, D) fp32, written where the split has tokens
    m_ptr,  # (B, H, S) fp32, written alike: largest score
    s_ptr,  # (B, H, S) fp32, written alike: sum of exponentials
    D,
    K,
    G,
    S,
    page_size,
    stride_qb,
    stride_qh,
    stride_kp,
    stride_kt,
    stride_kh,
    stride_tb,
    scale,
    softcap,
    window,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Online softmax of one split, for up to BLOCK_G query heads of one key head.

    A group of more heads takes more programs, which find the keys in the L2 cache: in
    one program 71 heads spilled 49 KB a thread.
    """
    blocks = tl.cdiv(G, BLOCK_G)
    b = (tl.program_id(0) // (K * blocks)).to(tl.int64)
    kv_head = (tl.program_id(0) // blocks % K).to(tl.int64)
    split = tl.program_id(1)
    length = tl.load(length_ptr + b).to(tl.int32)
    first = tl.maximum(split * SPLIT, _seen(length, window, HAS_WINDOW))
    last = tl.minimum(split * SPLIT + SPLIT, length)
    if first >= last:
        return
    g = tl.program_id(0) % blocks * BLOCK_G + tl.arange(0, BLOCK_G)
    d = tl.arange(0, BLOCK_D)
    head = kv_head * G + g
    mine = (g < G)[:, None] & (d < D)[None, :]
    q_ptrs = q_ptr + b * stride_qb + head[:, None] * stride_qh + d[None, :]
    q = tl.load(q_ptrs, mask=mine, other=0.0)
    acc = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    m = tl.full([BLOCK_G], -float("inf"), tl.float32)
    s = tl.zeros([BLOCK_G], tl.float32)
    # From a whole number of tiles: a window moves a token at a time, tiles do not.
    for j_start in range(first // BLOCK_J * BLOCK_J, last, BLOCK_J):
        j = j_start + tl.arange(0, BLOCK_J)
        inside = (j >= first) & (j < last)
        page = tl.load(table_ptr + b * stride_tb + j // page_size, mask=inside, other=0)
        # int64: a pool of pages passes 2**31 elements at 4 GiB.
        rows = page.to(tl.int64) * stride_kp + (j % page_size).to(tl.int64) * stride_kt
        rows = rows[:, None] + kv_head * stride_kh + d[None, :]
        mask = inside[:, None] & (d < D)[None, :]
        k = tl.load(k_ptr + rows, mask=mask, other=0.0)
        z = tl.dot(q, tl.trans(k), input_precision="ieee")
        if HAS_SOFTCAP:
            x = softcap * LOG2E * tanh(z * (scale / softcap))
        else:
            x = z * (scale * LOG2E)
        x = tl.where(inside[None, :], x, -float("inf"))
        m_new = tl.maximum(m, tl.max(x, axis=1))  # every tile has a token: finite
        p = tl.exp2(x - m_new[:, None])
        rescale = tl.exp2(m - m_new)
        s = s * rescale + tl.sum(p, axis=1)
        v = tl.load(v_ptr + rows, mask=mask, other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
        m = m_new
    out = (b * K * G + head) * S + split
    tl.store(acc_ptr + out[:, None] * D + d[None, :], acc, mask=mine)
    tl.store(m_ptr + out, m, mask=g < G)
    tl.store(s_ptr + out, s, mask=g < G)


@triton.jit
def join_kernel(
    acc_ptr,  # (B, H, S, D) fp32
    m_ptr,  # (B, H, S) fp32
    s_ptr,  # (B, H, S) fp32
    length_ptr,  # (B,) int32 or int64
    sinks_ptr,  # (H,), read if HAS_SINKS
    out_ptr,  # (B, H, D), written, contiguous
    D,
    H,
    S,
    window,
    HAS_WINDOW: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Joins the splits of one sequence and head in order; no token gives zeros."""
    row = tl.program_id(0).to(tl.int64)
    length = tl.load(length_ptr + row // H).to(tl.int32)
    d = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_D], tl.float32)
    m = -float("inf")
    s = 0.0
    if HAS_SINKS:
        m = tl.load(sinks_ptr + row % H).to(tl.float32) * LOG2E
        s = 1.0
    first = _seen(length, window, HAS_WINDOW) // SPLIT
    for split in range(first, tl.cdiv(length, SPLIT)):
        place = row * S + split
        m_split = tl.load(m_ptr + place)
        m_new = tl.maximum(m, m_split)
        old = tl.exp2(m - m_new)
        new = tl.exp2(m_split - m_new)
        part = tl.load(acc_ptr + place * D + d, mask=d < D, other=0.0)
        acc = acc * old + part * new
        s = s * old + tl.load(s_ptr + place) * new
        m = m_new
    out = acc / tl.where(s > 0.0, s, 1.0)
    tl.store(out_ptr + row * D + d, out.to(out_ptr.dtype.element_ty), mask=d < D)
