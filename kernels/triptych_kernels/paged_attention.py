"""Attention of the newest token of each sequence over a paged cache, for generation.

The tokens of a sequence are cut in splits of fixed length, so that few sequences fill
a GPU too, and splits are joined in order: a sequence's bits do not depend on the others
of its batch, nor on where its pages lie.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
import torch
from torch import Tensor

from triptych_kernels import paged_attention_kernels as kernels
from triptych_kernels.configs import cdiv, decode_tile, next_power_of_2
from triptych_kernels.operators import operator, shapes_of

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 256


def decode_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    *,
    page_table: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Softmax attention of one query a sequence over all its cached tokens.

    Args:
        q: (B, H, D) query of the newest token; fp32, fp16 or bf16, D <= 256.
        keys: (pages, page_size, K, D) of q's dtype, any page size and strides; H is a
            multiple of K. The newest token is already in it.
        values: shaped as keys.
        lengths: (B,) int32 or int64 tokens of each sequence, the newest included; at
            most max_pages * page_size, which is not checked on a GPU. 0 gives zeros.
        page_table: (B, max_pages) int32 or int64: token j of a sequence is in slot
            j % page_size of its page j // page_size. None: sequence b is page b.
        window: only the last ``window`` tokens are seen.
        softcap: scores become ``softcap * tanh(scores / softcap)``.
        scale: of the scores; None is D ** -0.5.
        sinks: (H,) logits that join the denominator, as in `attention`.

    Returns:
        (B, H, D) of q's dtype; without a gradient.
    """
    _check_inputs(q, keys, values, lengths, page_table)
    if sinks is not None and sinks.shape != q.shape[1:2]:
        raise ValueError(
            f"sinks must have shape ({q.shape[1]},), found {tuple(sinks.shape)}"
        )
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 or None, found {window}")
    if softcap is not None and not softcap > 0.0:
        raise ValueError(f"softcap must be positive or None, found {softcap}")
    if page_table is None:
        page_table = torch.arange(q.shape[0], device=q.device)[:, None]
    scale = q.shape[2] ** -0.5 if scale is None else scale
    with torch.no_grad():  # or torch warns of a gradient that it leaves out
        out: Tensor = _decode(
            q, keys, values, lengths, page_table, window, softcap, scale, sinks
        )
    return out


def _check_inputs(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, page_table: Tensor | None
) -> None:
    if q.ndim != 3 or not 1 <= q.shape[2] <= MAX_HEAD_DIM or q.dtype not in DTYPES:
        raise ValueError(
            f"q must be (sequences, heads, head_dim <= {MAX_HEAD_DIM}) of float32, "
            f"float16 or bfloat16, found {tuple(q.shape)} of {q.dtype}"
        )
    batch, heads, head_dim = q.shape
    if keys.ndim != 4 or keys.shape[3] != head_dim or values.shape != keys.shape:
        raise ValueError(
            f"keys and values must be (pages, page_size, kv_heads, {head_dim}), "
            f"found {tuple(keys.shape)} and {tuple(values.shape)}"
        )
    if keys.dtype != q.dtype or values.dtype != q.dtype:
        raise ValueError(
            f"keys and values must have q's dtype {q.dtype}, "
            f"found {keys.dtype} and {values.dtype}"
        )
    if keys.shape[2] == 0 or heads % keys.shape[2]:
        raise ValueError(
            f"q's heads ({heads}) must be a multiple of the heads of the cache, "
            f"found {keys.shape[2]}"
        )
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths must have shape ({batch},), found {tuple(lengths.shape)}"
        )
    _check_pages(batch, keys.shape[0], page_table)


def _check_pages(batch: int, pages: int, page_table: Tensor | None) -> None:
    if page_table is None and pages < batch:
        raise ValueError(
            f"without a page table each of {batch} sequences needs a page, "
            f"found {pages}"
        )
    if page_table is not None and (
        page_table.ndim != 2 or page_table.shape[0] != batch
    ):
        raise ValueError(
            f"page_table must have shape ({batch}, max_pages), "
            f"found {tuple(page_table.shape)}"
        )


@operator("decode_attention")
def _decode(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    page_table: Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None,
) -> Tensor:
    """(B, H, D): splits by one kernel, their ordered join by another."""
    q = q if q.stride(2) == 1 else q.contiguous()
    keys, values = _alike(keys, values)
    batch, heads, head_dim = q.shape
    out = q.new_empty((batch, heads, head_dim))
    _, page_size, kv_heads, _ = keys.shape
    capacity = page_table.shape[1] * page_size
    _check_lengths(lengths, capacity)
    if out.numel() == 0:
        return out
    tile = decode_tile(head_dim, q)
    splits = max(1, cdiv(capacity, tile.inner))
    acc = q.new_empty((batch, heads, splits, head_dim), dtype=torch.float32)
    m, s = q.new_empty((2, batch, heads, splits), dtype=torch.float32)
    group, block_d = heads // kv_heads, max(16, next_power_of_2(head_dim))
    page_table, lengths = page_table.int().contiguous(), lengths.contiguous()
    seen = {"HAS_WINDOW": window is not None, "SPLIT": tile.inner, "BLOCK_D": block_d}
    kernels.split_kernel[(batch * kv_heads * cdiv(group, tile.rows), splits)](
        q, keys, values, page_table, lengths, acc, m, s, head_dim, kv_heads, group,
        splits, page_size, *q.stride()[:2], *keys.stride()[:3], page_table.stride(0),
        scale, softcap or 1.0, window or 0, HAS_SOFTCAP=softcap is not None,
        BLOCK_G=tile.rows, BLOCK_J=tile.columns,
        num_warps=tile.num_warps, num_stages=tile.num_stages, **seen,
    )  # fmt: skip
    kernels.join_kernel[(batch * heads,)](
        acc, m, s, lengths, m if sinks is None else sinks.contiguous(), out, head_dim,
        heads, splits, window or 0, HAS_SINKS=sinks is not None, num_warps=4, **seen,
    )  # fmt: skip
    return out


@shapes_of(_decode)
def _(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    page_table: Tensor,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None,
) -> Tensor:
    return q.new_empty(q.shape)


def _alike(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of equal strides, heads contiguous; copied only if not."""
    if keys.stride(3) == 1 and keys.stride() == values.stride():
        return keys, values
    return keys.contiguous(), values.contiguous()


def _check_lengths(lengths: Tensor, capacity: int) -> None:
    """On the CPU only: on a GPU, reading them would stall it."""
    if lengths.device.type != "cpu" or lengths.numel() == 0:
        return
    least, most = int(lengths.min()), int(lengths.max())
    if least < 0 or most > capacity:
        raise ValueError(
            f"lengths must be in [0, {capacity}], the slots of a sequence's pages, "
            f"found {least} to {most}"
        )
