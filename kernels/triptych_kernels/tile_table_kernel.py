"""The table of tiles that packed attention walks, made in one launch.

A tile is a row (start, document start, document end); it lies in one document. Made by
torch operators the table took a dozen launches: 0.1 to 0.37 ms on an H200, now 6 us.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def _bounds(cu_ptr, a, num_documents, T):
    """First and last + 1 token of documents a, inside [0, T]; (0, 0) past the last."""
    first = tl.load(cu_ptr + a, mask=a < num_documents, other=0).to(tl.int32)
    end = tl.load(cu_ptr + a + 1, mask=a < num_documents, other=0).to(tl.int32)
    first, end = tl.maximum(first, 0), tl.maximum(end, 0)
    return tl.minimum(first, T), tl.minimum(end, T)


@triton.jit
def tile_table_kernel(
    cu_ptr,  # (num_documents + 1,) int32 or int64
    tiles_ptr,  # (num_tiles, 3) int32, written where a tile is; zeros before
    T,
    num_documents,
    num_tiles,
    CAUSAL: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_TILE: tl.constexpr,
    BLOCK_A: tl.constexpr,
):
    """Writes the tiles of one document, each to its place among all, dearest first.

    The place is counted, not sorted: tiles that are dearer, and equal ones of earlier
    documents.
    """
    own = tl.program_id(0)
    first, end = _bounds(cu_ptr, own, num_documents, T)
    own_tiles = tl.cdiv(end - first, BLOCK)
    for tile_start in range(0, own_tiles, BLOCK_TILE):
        tile = tile_start + tl.arange(0, BLOCK_TILE)
        place = tl.zeros([BLOCK_TILE], tl.int32)
        if not CAUSAL:
            place = tile
        for a_start in range(0, num_documents, BLOCK_A):
            a = a_start + tl.arange(0, BLOCK_A)
            a_first, a_end = _bounds(cu_ptr, a, num_documents, T)
            length = tl.maximum(a_end - a_first, 0)
            count = (length + BLOCK - 1) // BLOCK
            if CAUSAL:  # the later in its document, the dearer
                before = tl.maximum(count[None, :] - 1 - tile[:, None], 0)
                same = (a < own)[None, :] & (count[None, :] > tile[:, None])
                place += tl.sum(before + same.to(tl.int32), axis=1)
            else:  # the longer its document, the dearer
                longer = (length > end - first) | ((length == end - first) & (a < own))
                place += tl.sum(tl.where(longer, count, 0), axis=0)
        out_ptr = tiles_ptr + 3 * place
        inside = (tile < own_tiles) & (place < num_tiles)
        tl.store(out_ptr, first + tile * BLOCK, mask=inside)
        tl.store(out_ptr + 1, tl.zeros_like(tile) + first, mask=inside)
        tl.store(out_ptr + 2, tl.zeros_like(tile) + end, mask=inside)
