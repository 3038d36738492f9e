"""Attention over packed documents: FlashAttention-2 in Triton, forward and backward.

The backward is two kernels, one for the queries' gradient and one for the keys' and
values', so nothing is added atomically and two runs agree bit for bit. Price: scores
are computed three times, 7 T^2 D FLOPs a causal head where a fused backward needs 5.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from typing import Any

import torch
from torch import Tensor

from triptych_kernels import flash_attention_backward_kernels as backward
from triptych_kernels import flash_attention_kernels as forward
from triptych_kernels.configs import Tile, attention_tile, cdiv, next_power_of_2
from triptych_kernels.operators import differentiate, operator, shapes_of
from triptych_kernels.sink_kernel import sink_gradient_kernel
from triptych_kernels.tile_table_kernel import tile_table_kernel

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 256


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Softmax attention of each query over the keys of its own document.

    Args:
        q: (T, H, D) queries of the packed documents; fp32, fp16 or bf16, D <= 256.
        k: (T, K, D) keys; H is a multiple of K, and query head h uses h // (H / K).
        v: (T, K, D) values.
        cu_seqlens: (documents + 1,) int32 or int64 boundaries, from 0 to T; empty
            documents are allowed. None is one document. Read on the device: on a GPU
            wrong boundaries are clamped to [0, T], and tokens of no document get 0.
        causal: query i sees keys j <= i of its document.
        window: query i sees keys with 0 <= i - j < window; needs ``causal``.
        softcap: scores become ``softcap * tanh(scores / softcap)``.
        scale: of the scores; None is D ** -0.5.
        sinks: (H,) one learned logit a head, of any floating dtype: a key of value 0
            that every query sees beside its own. Neither scaled nor capped.
        pairs: (documents, 2) int32 or int64 tokens, counted along the packed row, where
            two responses to the document's prompt start. The second, which runs to the
            document's end, does not see the first. Twice the same is no pair. Needs
            ``causal`` and no ``window``; clamped to the document.
        dropout: share in [0, 1) of the weights set to zero, the others divided by the
            share kept; rounded to a multiple of 2^-16. Needs ``seed``.
        seed: () int64 on q's device, of which, with head, query and key counted from
            their document's start, a weight's fate is a function.

    Returns:
        (T, H, D) of q's dtype. The bits of a document depend on nothing but itself.
    """
    _check_inputs(q, k, v, cu_seqlens)
    if sinks is not None and sinks.shape != q.shape[1:2]:
        raise ValueError(
            f"sinks must have shape ({q.shape[1]},), found {tuple(sinks.shape)}"
        )
    _check_pairs(pairs, cu_seqlens, causal and window is None)
    if window is not None and not causal:
        raise ValueError("window needs causal=True: it is 0 <= i - j < window")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1 or None, found {window}")
    if softcap is not None and not softcap > 0.0:
        raise ValueError(f"softcap must be positive or None, found {softcap}")
    _check_dropout(dropout, seed)
    scale = q.shape[2] ** -0.5 if scale is None else scale
    if cu_seqlens is None:
        cu_seqlens = _whole_row(q)
    options = causal, window, softcap, scale
    out: Tensor = _attention(
        q, k, v, cu_seqlens, *options, sinks, pairs, dropout, seed
    )[0]
    return out


def _whole_row(q: Tensor) -> Tensor:
    """(2,) int32 boundaries of one document.

    Not made of a list: a copy from the host waits for a GPU, and no CUDA graph has it.
    """
    return torch.arange(2, dtype=torch.int32, device=q.device) * q.shape[0]


def _check_inputs(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor | None) -> None:
    if q.ndim != 3 or not 1 <= q.shape[2] <= MAX_HEAD_DIM or q.dtype not in DTYPES:
        raise ValueError(
            f"q must be (tokens, heads, head_dim <= {MAX_HEAD_DIM}) of float32, "
            f"float16 or bfloat16, found {tuple(q.shape)} of {q.dtype}"
        )
    tokens, heads, head_dim = q.shape
    for name, x in (("k", k), ("v", v)):
        if x.ndim != 3 or (x.shape[0], x.shape[2]) != (tokens, head_dim):
            raise ValueError(
                f"{name} must have shape ({tokens}, kv_heads, {head_dim}), "
                f"found {tuple(x.shape)}"
            )
        if x.dtype != q.dtype:
            raise ValueError(f"{name} must have q's dtype {q.dtype}, found {x.dtype}")
    if k.shape[1] != v.shape[1] or k.shape[1] == 0 or heads % k.shape[1]:
        raise ValueError(
            f"q's heads ({heads}) must be a multiple of the heads of k and v, "
            f"found {k.shape[1]} and {v.shape[1]}"
        )
    if cu_seqlens is not None and (cu_seqlens.ndim != 1 or cu_seqlens.numel() < 2):
        raise ValueError(
            "cu_seqlens must have shape (documents + 1,) of at least 2, "
            f"found {tuple(cu_seqlens.shape)}"
        )


def _check_pairs(pairs: Tensor | None, cu_seqlens: Tensor | None, can_be: bool) -> None:
    if pairs is None:
        return
    documents = 1 if cu_seqlens is None else cu_seqlens.numel() - 1
    if pairs.shape != (documents, 2):
        raise ValueError(
            f"pairs must have shape ({documents}, 2), found {tuple(pairs.shape)}"
        )
    if not can_be:
        raise ValueError("pairs need causal=True and no window")


def _check_dropout(dropout: float, seed: Tensor | None) -> None:
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), found {dropout}")
    if dropout and (seed is None or seed.shape != () or seed.dtype != torch.int64):
        found = None if seed is None else f"{tuple(seed.shape)} of {seed.dtype}"
        raise ValueError(f"dropout needs a seed, () of torch.int64, found {found}")


def _check_boundaries(cu_seqlens: Tensor, tokens: int) -> None:
    """On the CPU only: on a GPU, reading them would stall it."""
    if cu_seqlens.device.type != "cpu":
        return
    ends = cu_seqlens[0].item(), cu_seqlens[-1].item()
    if ends != (0, tokens) or bool((cu_seqlens.diff() < 0).any()):
        raise ValueError(
            f"cu_seqlens must rise from 0 to {tokens}, found {cu_seqlens.tolist()}"
        )


@operator("attention")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(T, H, D) output and (H, T) fp32 base-2 log-sum-exp of the scores."""
    tokens, heads, head_dim = q.shape
    _check_boundaries(cu_seqlens, tokens)
    q, k, v = (_rows_contiguous(x) for x in (q, k, v))
    out = q.new_zeros((tokens, heads, head_dim))
    lse = q.new_zeros((heads, tokens), dtype=torch.float32)
    if out.numel() == 0:
        return out, lse
    plain = window is None and softcap is None and pairs is None and not dropout
    bounds = _pair_bounds(pairs, cu_seqlens, tokens)
    tile = attention_tile("forward", head_dim, q, plain=plain, dropout=dropout > 0.0)
    tiles = tile_table(cu_seqlens, tokens, tile.rows, causal=causal)
    forward.forward_kernel[(tiles.shape[0], heads)](
        q, k, v, out, lse, tiles, bounds, lse if sinks is None else sinks.contiguous(),
        lse if seed is None else seed, tokens, head_dim, heads // k.shape[1],
        *_strides(q, k, v, out), scale, softcap or 1.0, _reach(window, tokens),
        *_dropped(dropout), HAS_SINKS=sinks is not None,
        **_constants(tile, head_dim, causal, window, softcap, pairs, dropout),
    )  # fmt: skip
    return out, lse


@shapes_of(_attention)
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    lse = q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)
    return q.new_empty(q.shape), lse


@operator("attention_backward")
def _attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q (T, H, D), k and v (T, K, D), and sinks (H,) or (0,)."""
    q, k, v, grad_out = (_rows_contiguous(x) for x in (q, k, v, grad_out))
    grad_q, grad_k, grad_v = (x.new_zeros(x.shape) for x in (q, k, v))
    grad_sinks = q.new_empty(0) if sinks is None else torch.zeros_like(sinks)
    tokens, heads, head_dim = q.shape
    if q.numel() == 0:
        return grad_q, grad_k, grad_v, grad_sinks
    delta = _delta(out, grad_out)
    # Of fp32 outputs they are as good as made anew.
    renewed = sinks is not None and q.dtype != torch.float32
    totals = torch.zeros_like(delta) if renewed else delta
    strides = _strides(q, k, v, grad_out)
    kv_heads = k.shape[1]
    options = scale, softcap or 1.0, _reach(window, tokens), *_dropped(dropout)
    seeds = lse if seed is None else seed
    plain = window is None and softcap is None and pairs is None and not dropout
    bounds = _pair_bounds(pairs, cu_seqlens, tokens)
    tile = attention_tile(
        "dq", head_dim, q, plain=plain and not renewed, dropout=dropout > 0.0
    )
    tiles = tile_table(cu_seqlens, tokens, tile.rows, causal=causal)
    backward.dq_kernel[(tiles.shape[0], heads)](
        q, k, v, grad_out, lse, delta, grad_q, totals, tiles, bounds, seeds,
        tokens, head_dim, heads, heads // kv_heads, *strides, *options,
        WITH_TOTALS=renewed,
        **_constants(tile, head_dim, causal, window, softcap, pairs, dropout),
    )  # fmt: skip
    if sinks is not None:
        sink_gradient_kernel[(heads,)](
            sinks.contiguous(), lse, totals, grad_sinks, tokens, BLOCK_I=1024
        )
    tile = attention_tile("dkdv", head_dim, q, plain=plain, dropout=dropout > 0.0)
    tiles = tile_table(cu_seqlens, tokens, tile.columns, causal=causal)
    backward.dkdv_kernel[(tiles.shape[0], kv_heads)](
        q, k, v, grad_out, lse, delta, grad_k, grad_v, tiles, bounds, seeds, tokens,
        head_dim, kv_heads, heads // kv_heads, *strides, *options,
        **_constants(tile, head_dim, causal, window, softcap, pairs, dropout),
    )  # fmt: skip
    return grad_q, grad_k, grad_v, grad_sinks


@shapes_of(_attention_backward)
def _(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_sinks = q.new_empty(0) if sinks is None else sinks.new_empty(sinks.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), grad_sinks


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    q, k, v, cu_seqlens, *ctx.options, sinks, pairs, ctx.dropout, seed = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens, sinks, pairs, seed)


def _backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, sinks, pairs, seed = ctx.saved_tensors
    *grads, grad_sinks = _attention_backward(
        grad_out, *tensors, *ctx.options, sinks, pairs, ctx.dropout, seed
    )
    return *grads, *[None] * 5, None if sinks is None else grad_sinks, *[None] * 3


differentiate(_attention, _backward, _setup_context)


def tile_table(
    cu_seqlens: Tensor, tokens: int, block: int, *, causal: bool = True
) -> Tensor:
    """(num_tiles, 3) int32 rows (tile start, document start, document end).

    num_tiles = ceil(tokens / block) + documents, an upper bound known without reading
    cu_seqlens; rows to spare are zeros. Made on the device. The tiles of the longest
    documents come first, and the last (for causal queries the dearest) tile before
    the first, so that no long tile is left for the end.
    """
    num_documents = cu_seqlens.numel() - 1
    num_tiles = -(-tokens // block) + num_documents
    table = cu_seqlens.new_zeros((num_tiles, 3), dtype=torch.int32)
    # One launch: a dozen small ones took longer than the attention of 16k tokens.
    tile_table_kernel[(num_documents,)](
        cu_seqlens.contiguous(), table, tokens, num_documents, num_tiles,
        CAUSAL=causal, BLOCK=block, BLOCK_TILE=64, BLOCK_A=64,
    )  # fmt: skip
    return table


def _pair_bounds(pairs: Tensor | None, cu_seqlens: Tensor, tokens: int) -> Tensor:
    """(T + 1, 2) int32 pairs, each at its document's start; unread where there is none.

    Empty documents, which share a start with the next, go to the spare last row.
    """
    if pairs is None:
        return cu_seqlens
    starts = torch.where(cu_seqlens.diff() > 0, cu_seqlens[:-1], tokens)
    bounds = pairs.new_zeros((tokens + 1, 2), dtype=torch.int32)
    bounds[starts.long().clamp(0, tokens)] = pairs.int()
    return bounds


def _delta(out: Tensor, grad_out: Tensor) -> Tensor:
    """(H, T) fp32 sums over the head dim of ``out * grad_out``."""
    tokens, heads, head_dim = out.shape
    delta = out.new_empty((heads, tokens), dtype=torch.float32)
    block = 32
    forward.delta_kernel[(cdiv(tokens, block), heads)](
        out, grad_out, delta, tokens, head_dim, *_strides(out, grad_out),
        BLOCK_I=block, BLOCK_D=_padded(head_dim),
    )  # fmt: skip
    return delta


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    """Token and head strides of each (T, heads, D) tensor."""
    return tuple(stride for x in tensors for stride in x.stride()[:2])


def _rows_contiguous(x: Tensor) -> Tensor:
    """``x``, copied only if its head dim is not contiguous."""
    return x if x.stride(2) == 1 else x.contiguous()


def _padded(head_dim: int) -> int:
    """The power of two that holds a head; a matrix product needs 16."""
    return max(16, next_power_of_2(head_dim))


def _reach(window: int | None, tokens: int) -> int:
    """The window, 0 if there is none: no wider than the row, or int32 sums pass 2^31."""
    return 0 if window is None else min(window, tokens)


def _dropped(dropout: float) -> tuple[int, float]:
    """Which 16-bit numbers drop a weight: those below; and one over the share kept."""
    threshold = min(round(dropout * 2**16), 2**16 - 1)
    return threshold, 2**16 / (2**16 - threshold)


def _constants(
    tile: Tile,
    head_dim: int,
    causal: bool,
    window: int | None,
    softcap: float | None,
    pairs: Tensor | None,
    dropout: float,
) -> dict[str, Any]:
    """Compile-time arguments of the three large kernels."""
    return {
        "CAUSAL": causal,
        "HAS_WINDOW": window is not None,
        "HAS_PAIRS": pairs is not None,
        "HAS_SOFTCAP": softcap is not None,
        "HAS_DROPOUT": dropout > 0.0,
        "EVEN_D": head_dim == _padded(head_dim),
        "BLOCK_I": tile.rows,
        "BLOCK_J": tile.columns,
        "BLOCK_D": _padded(head_dim),
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }
