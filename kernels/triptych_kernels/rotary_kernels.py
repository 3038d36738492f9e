"""Triton kernel of rotary positions: see `rotary`.

Shape letters in this file: T = tokens, H = query heads, K = key heads, D = head dim,
P = positions in the tables. c counts pairs of dimensions, D / 2 of them.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def _turn_heads(
    x_ptr,  # (T, heads, D)
    out_ptr,  # (T, heads, D), written, contiguous
    cos,  # (tokens, pairs) of this program's tokens
    sin,
    t,
    T,
    heads,
    D,
    stride_t,
    stride_h,
    INTERLEAVED: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Turns every head of a tile of tokens."""
    # int64: T * heads * D passes 2**31 at 262,144 tokens of 64 heads of 128.
    rows = t.to(tl.int64)[:, None]
    c = tl.arange(0, BLOCK_C)[None, :]
    d = tl.arange(0, 2 * BLOCK_C)[None, :]
    halves = D // 2
    for head in range(heads):
        # int64 too: with heads first, a head is T * D elements from the next.
        in_ptr = x_ptr + rows * stride_t + tl.cast(head, tl.int64) * stride_h
        to_ptr = out_ptr + (rows * heads + head) * D
        if INTERLEAVED:  # neighbours in one load, taken apart in registers
            inside = (t < T)[:, None] & (d < D)
            x = tl.load(in_ptr + d, mask=inside, other=0.0).to(cos.dtype)
            x = tl.reshape(x, [x.shape[0], BLOCK_C, 2])
            first, second = tl.split(x)
            turned = tl.join(first * cos - second * sin, second * cos + first * sin)
            turned = tl.reshape(turned, [turned.shape[0], 2 * BLOCK_C])
            tl.store(to_ptr + d, turned.to(out_ptr.dtype.element_ty), mask=inside)
        else:
            inside = (t < T)[:, None] & (c < halves)
            first = tl.load(in_ptr + c, mask=inside, other=0.0).to(cos.dtype)
            second = tl.load(in_ptr + halves + c, mask=inside, other=0.0).to(cos.dtype)
            one = first * cos - second * sin
            other = second * cos + first * sin
            tl.store(to_ptr + c, one.to(out_ptr.dtype.element_ty), mask=inside)
            to_ptr += halves
            tl.store(to_ptr + c, other.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rotate_kernel(
    q_ptr,  # (T, H, D)
    k_ptr,  # (T, K, D)
    cos_ptr,  # (P, D / 2), contiguous
    sin_ptr,  # (P, D / 2), contiguous
    position_ptr,  # (T,) int64 or int32, read if HAS_POSITIONS
    turned_q_ptr,  # (T, H, D), written, contiguous
    turned_k_ptr,  # (T, K, D), written, contiguous
    T,
    P,
    H,
    K,
    D,
    stride_qt,
    stride_qh,
    stride_kt,
    stride_kh,
    HAS_POSITIONS: tl.constexpr,
    INVERSE: tl.constexpr,  # turn the other way
    INTERLEAVED: tl.constexpr,  # pairs are neighbours, else a half apart
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Turns queries and keys of a tile of tokens; angles are read once for all heads.

    A position outside the tables turns into NaN, which no later step can hide.
    """
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.arange(0, BLOCK_C)
    position = t.to(tl.int64)
    if HAS_POSITIONS:
        position = tl.load(position_ptr + t, mask=t < T, other=0).to(tl.int64)
    known = ((position >= 0) & (position < P))[:, None] & (c < D // 2)[None, :]
    angles = position[:, None] * (D // 2) + c[None, :]
    cos = tl.load(cos_ptr + angles, mask=known, other=float("nan"))
    sin = tl.load(sin_ptr + angles, mask=known, other=float("nan"))
    if INVERSE:
        sin = -sin
    _turn_heads(
        q_ptr, turned_q_ptr, cos, sin, t, T, H, D, stride_qt, stride_qh,
        INTERLEAVED, BLOCK_C,
    )  # fmt: skip
    _turn_heads(
        k_ptr, turned_k_ptr, cos, sin, t, T, K, D, stride_kt, stride_kh,
        INTERLEAVED, BLOCK_C,
    )  # fmt: skip
