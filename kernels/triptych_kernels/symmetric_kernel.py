"""Triton kernel of a matrix times its transpose, of which only half is computed.

Shape letters in this file: B = matrices, M = rows, K = columns.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def symmetric_kernel(
    a_ptr,  # (B, M, K), rows contiguous
    out_ptr,  # (B, M, M), written, contiguous
    M,
    K,
    stride_ab,
    stride_am,
    alpha,
    beta,
    ADD: tl.constexpr,  # M = K, and beta * a is added
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile on or below the diagonal of alpha * a @ a' + beta * a, and its mirror."""
    tiles = tl.cdiv(M, BLOCK_M)
    tile_row = tl.program_id(0) // tiles % tiles
    tile_column = tl.program_id(0) % tiles
    if tile_column > tile_row:
        return
    b = (tl.program_id(0) // (tiles * tiles)).to(tl.int64)  # B * M * K passes 2**31
    a_ptr += b * stride_ab
    out_ptr += b * M * M
    row = (tile_row * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    column = (tile_column * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    k = tl.arange(0, BLOCK_K)
    acc = tl.zeros([BLOCK_M, BLOCK_M], tl.float32)
    for k_start in range(0, K, BLOCK_K):
        inside = (k < K - k_start)[None, :]
        r_ptrs = a_ptr + row[:, None] * stride_am + (k_start + k)[None, :]
        c_ptrs = a_ptr + column[:, None] * stride_am + (k_start + k)[None, :]
        r = tl.load(r_ptrs, mask=(row < M)[:, None] & inside, other=0.0)
        c = tl.load(c_ptrs, mask=(column < M)[:, None] & inside, other=0.0)
        acc = tl.dot(r, tl.trans(c), acc, input_precision="ieee")
    inside = (row < M)[:, None] & (column < M)[None, :]
    acc = acc * alpha
    if ADD:
        a_ptrs = a_ptr + row[:, None] * stride_am + column[None, :]
        acc += beta * tl.load(a_ptrs, mask=inside, other=0.0).to(tl.float32)
    out = acc.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row[:, None] * M + column[None, :], out, mask=inside)
    if tile_row != tile_column:
        tl.store(out_ptr + row[:, None] + column[None, :] * M, out, mask=inside)
