"""Attention of the newest token of each sequence over its cached ones, for generation.

On a CPU: a kernel of the engine that reads the cache where it is, or torch's fused kernel with
a mask, over pages put one behind the other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych import _core
from triptych.ops import checks
from triptych.ops.arrays import array, dtype_obstacle, engine_obstacle, widened
from triptych.ops.attention import kernel_obstacle
from triptych.ops.choice import implementation, kernel

HEAD_DIM_STEP = 32  # as of rust/cpu/src/attention/decode.rs


class Rules(NamedTuple):
    """Which keys are seen, and how scores are formed."""

    window: int | None
    softcap: float | None
    scale: float
    sinks: Tensor | None


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
        q: (B, heads, head_dim), of the newest token.
        keys: (pages, page_size, kv_heads, head_dim) of q's dtype, any strides;
            kv_heads divides heads. The newest token is already in it.
        values: shaped as keys.
        lengths: (B,) int64 or int32 tokens of each sequence, the newest included. 0
            gives zeros.
        page_table: (B, max_pages) int: token j of a sequence is in slot j % page_size
            of its page j // page_size; by default sequence b is page b.
        window: only the last `window` tokens are seen.
        softcap: scores become softcap * tanh(score / softcap).
        scale: factor of the scores, by default 1 / sqrt(head_dim).
        sinks: (heads,) logits that join the softmax's denominator alone.

    Returns:
        (B, heads, head_dim), without a gradient.
    """
    _check(q, keys, values, lengths)
    _check_pages(q.shape[0], keys.shape[0], page_table)
    _check_places(lengths, keys.shape[:2], page_table)
    checks.sinks(sinks, q.shape[1])
    checks.at_least_one_key(window)
    checks.above_zero("softcap", softcap)
    checks.number("scale", scale)
    found = {"triton": kernel_obstacle(q)}
    by_engine = engine_obstacle(_no_rust, q, keys, values, lengths, page_table)
    found |= dict([by_engine])
    obstacles = tuple((name, why) for name, why in found.items() if why)
    name = implementation("decode_attention", q.device.type, obstacles)
    scale = 1.0 / math.sqrt(q.shape[2]) if scale is None else scale
    rules = Rules(window, softcap, scale, sinks)
    inputs = q, keys, values, lengths
    with torch.no_grad():
        if name == "rust":
            return _by_engine(*inputs, rules)
        if name == "cpu":
            return _masked(*inputs, page_table, rules)
        function = kernel("decode_attention", name)
        mixed: Tensor = function(*inputs, page_table=page_table, **rules._asdict())
    return mixed


def _no_rust(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, page_table: Tensor | None
) -> str:
    """Why the engine cannot serve these arguments; empty if it can."""
    found = dtype_obstacle(q)
    if found:
        return found
    if page_table is not None:
        return "it has no pages"
    if q.shape[2] % HEAD_DIM_STEP:
        return f"a head dim of {q.shape[2]} is no multiple of {HEAD_DIM_STEP}"
    if keys.stride(-1) != 1 or values.stride(-1) != 1:
        return "numbers of a head are not one behind the other"
    if not lengths.numel() or int(lengths.min()) < 1:
        return "a sequence has no token"
    return ""


def _by_engine(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, rules: Rules
) -> Tensor:
    """`decode_attention` of the engine, without pages."""
    q = q.contiguous()
    mixed = torch.empty_like(q)
    table: dict[str, Any] = {
        "lengths": lengths.tolist(),
        "heads": q.shape[1],
        "kv_heads": keys.shape[2],
        "head_dim": q.shape[2],
        "window": rules.window,
        "scale": rules.scale,
        "softcap": rules.softcap,
        "sinks": [] if rules.sinks is None else rules.sinks.tolist(),
        "strides": [list(x.stride()[:3]) for x in (keys, values)],
        "num_threads": torch.get_num_threads(),
    }
    stored = (array(_memory(x)) for x in (keys, values))
    _core.decode_attention([array(q), *stored], array(mixed), table)
    return mixed


def _memory(x: Tensor) -> Tensor:
    """All numbers from the first of x to its last, those between among them."""
    last = sum(
        (size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True)
    )
    return x.detach().as_strided((last + 1,), (1,))


def _masked(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    page_table: Tensor | None,
    rules: Rules,
) -> Tensor:
    """`decode_attention` in plain PyTorch."""
    keys, values = (_in_order(x, page_table, lengths) for x in (keys, values))
    slots = torch.arange(keys.shape[2], device=q.device)
    last = lengths[:, None].to(q.device)
    seen = slots < last
    # What memory holds that no token was written to may be no number, which no mask hides.
    free = ~seen[:, None, :, None]
    keys, values = (x.masked_fill(free, 0.0) for x in (keys, values))
    if rules.window is not None:
        seen = seen & (slots >= last - rules.window)
    if rules.softcap is None and rules.sinks is None:
        mixed = F.scaled_dot_product_attention(
            q[:, :, None],
            keys,
            values,
            attn_mask=seen[:, None, None],
            scale=rules.scale,
            enable_gqa=bool(q.shape[1] != keys.shape[1]),  # sizes may be recorded too
        )[:, :, 0]
    else:
        mixed = _by_scores(q, keys, values, seen, rules)
    return mixed.masked_fill(lengths[:, None, None] == 0, 0.0)


def _in_order(x: Tensor, page_table: Tensor | None, lengths: Tensor) -> Tensor:
    """(B, kv_heads, slots, head_dim) of pages (pages, page_size, kv_heads, head_dim)."""
    if page_table is None:
        return x[: lengths.numel()].transpose(1, 2)
    pages = page_table.masked_fill(~_used(page_table, lengths, x.shape[1]), 0)
    return x[pages.long()].flatten(1, 2).transpose(1, 2)


def _used(page_table: Tensor, lengths: Tensor, page_size: int) -> Tensor:
    """(B, max_pages) whether a page of the table holds a token; others may be anything."""
    first = torch.arange(page_table.shape[1], device=page_table.device) * page_size
    return first < lengths[:, None].to(first.device)


def _by_scores(
    q: Tensor, keys: Tensor, values: Tensor, seen: Tensor, rules: Rules
) -> Tensor:
    """What torch's kernel has no argument for, in float32 or float64."""
    batch, heads, head_dim = q.shape
    grouped = widened(q).view(batch, keys.shape[1], -1, head_dim)
    scores = grouped @ widened(keys).transpose(2, 3) * rules.scale
    if rules.softcap is not None:
        scores = rules.softcap * torch.tanh(scores / rules.softcap)
    scores = scores.masked_fill(~seen[:, None, None], -math.inf).flatten(1, 2)
    if rules.sinks is not None:
        sink = rules.sinks.to(scores.dtype)[None, :, None].expand(batch, -1, 1)
        scores = torch.cat((scores, sink), dim=2)
    weights = scores.softmax(2)[:, :, : keys.shape[2]]
    mixed = weights.view(*grouped.shape[:3], -1) @ widened(values)
    return mixed.view(batch, heads, head_dim).to(q.dtype)


def _check_places(
    lengths: Tensor, shape: torch.Size, page_table: Tensor | None
) -> None:
    """On a CPU alone: reading them would stall a device, and break a compiler's graph."""
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return
    pages, page_size = shape
    slots = page_size * (1 if page_table is None else page_table.shape[1])
    found = lengths.tolist()
    if any(not 0 <= length <= slots for length in found):
        raise ValueError(
            f"lengths: expected from 0 to {slots}, as the pages hold, found {found!s:.100}"
        )
    if page_table is not None and page_table.device.type == "cpu":
        used = page_table[_used(page_table, lengths, page_size)]
        outside = used[(used < 0) | (used >= pages)]
        if outside.numel():
            raise ValueError(
                f"page_table: expected pages below {pages}, found {int(outside[0])}"
            )


def _check(q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> None:
    fits = q.dim() == 3 and keys.dim() == 4 and keys.shape == values.shape
    if not fits or q.shape[2] != keys.shape[3] or lengths.shape != q.shape[:1]:
        raise ValueError(
            "decode_attention: expected q (B, heads, head_dim), keys and values (pages, "
            f"page_size, kv_heads, head_dim) and lengths (B,), found {tuple(q.shape)}, "
            f"{tuple(keys.shape)}, {tuple(values.shape)} and {tuple(lengths.shape)}"
        )
    if q.shape[2] == 0:
        raise ValueError("decode_attention: expected a head_dim of at least 1, found 0")
    if keys.shape[2] == 0 or q.shape[1] % keys.shape[2]:
        raise ValueError(
            f"decode_attention: expected kv_heads to divide heads ({q.shape[1]}), found "
            f"{keys.shape[2]}"
        )
    if keys.dtype != q.dtype or values.dtype != q.dtype:
        raise ValueError(
            f"decode_attention: expected keys and values of q's {q.dtype}, found "
            f"{keys.dtype} and {values.dtype}"
        )
    checks.integers("lengths", lengths, "(B,)")


def _check_pages(batch: int, pages: int, page_table: Tensor | None) -> None:
    if page_table is None and pages < batch:
        raise ValueError(
            f"keys: expected a page for each of {batch} sequences without a page_table, "
            f"found {pages}"
        )
    if page_table is not None and (
        page_table.dim() != 2
        or page_table.shape[0] != batch
        or page_table.dtype not in checks.INTEGERS
    ):
        raise ValueError(
            f"page_table: expected ({batch}, max_pages) of int32 or int64, found "
            f"{tuple(page_table.shape)} of {page_table.dtype}"
        )
