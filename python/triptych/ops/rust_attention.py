"""Attention of the engine, for processors with AVX-512: an operator with its gradient.

Scores stay in the nearest cache, and what a causal mask or a window hides is not computed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import _core
from triptych.ops.libraries import Rules

DTYPES = (torch.float32, torch.bfloat16)
MAX_HEAD_DIM = 256
# Lanes of a vector; a head fills whole ones.
LANES = 16


def obstacle(q: Tensor, rules: Rules) -> str:
    """Why the engine cannot take such a query; empty if it can."""
    if rules.softcap is not None or rules.sinks is not None or rules.pairs is not None:
        return "it has no soft-cap, no sinks and no pairs"
    if rules.dropout > 0.0:
        return "it has no dropout"
    return _obstacle(compute_dtype(q), q.shape[2])


def _obstacle(dtype: torch.dtype, head_dim: int) -> str:
    if dtype not in DTYPES:
        return f"it does not compute in {dtype}"
    if head_dim % LANES or head_dim > MAX_HEAD_DIM:
        return f"a head dim of {head_dim} is no multiple of {LANES} up to {MAX_HEAD_DIM}"
    if not _core.cpu_has_vectors(dtype == torch.bfloat16):
        return f"this processor has no AVX-512 for {dtype}"
    return ""


def compute_dtype(q: Tensor) -> torch.dtype:
    """The type of the products: autocast's where it is on, as of torch's own attention."""
    if torch.is_autocast_enabled(q.device.type):
        return torch.get_autocast_dtype(q.device.type)
    return q.dtype


def attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, rules: Rules
) -> Tensor:
    """As `ops.attention`."""
    dtype = compute_dtype(q)
    scale = 1.0 / math.sqrt(q.shape[2]) if rules.scale is None else rules.scale
    mixed: Tensor
    mixed, _ = _attend(
        *(x.to(dtype) for x in (q, k, v)),
        cu_seqlens,
        rules.causal,
        rules.window,
        scale,
    )
    return mixed


@torch.library.custom_op("triptych::rust_attention", mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """What each query takes up, and (heads, tokens) logarithms of its sums."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    mixed = torch.empty_like(q)
    log_sums = torch.empty(q.shape[1::-1], dtype=torch.float32)
    rules = _rules(q, k, cu_seqlens, causal, window, scale)
    _core.attention_forward(
        [_array(x) for x in (q, k, v)], _array(mixed), _array(log_sums), rules
    )
    return mixed, log_sums


@_attend.register_fake
def _(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    log_sums = q.new_empty(q.shape[1::-1], dtype=torch.float32)
    return torch.empty_like(q, memory_format=torch.contiguous_format), log_sums


@torch.library.custom_op("triptych::rust_attention_backward", mutates_args=())
def _attend_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    mixed: Tensor,
    log_sums: Tensor,
    upstream: Tensor,
    causal: bool,
    window: int | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    q, k, v, upstream = (x.contiguous() for x in (q, k, v, upstream))
    gradients = tuple(torch.empty_like(x) for x in (q, k, v))
    rules = _rules(q, k, cu_seqlens, causal, window, scale)
    _core.attention_backward(
        [_array(x) for x in (q, k, v)],
        [_array(mixed), _array(upstream)],
        _array(log_sums),
        [_array(x) for x in gradients],
        rules,
    )
    return gradients


@_attend_backward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    contiguous = torch.contiguous_format
    q, k, v = (torch.empty_like(x, memory_format=contiguous) for x in (q, k, v))
    return q, k, v


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]):
    q, k, v, cu_seqlens, *rules = inputs
    ctx.save_for_backward(q, k, v, cu_seqlens, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.rules = rules


def _backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _attend_backward(*ctx.saved_tensors, upstream, *ctx.rules)
    return (*gradients, None, None, None, None)


_attend.register_autograd(_backward, setup_context=_setup_context)


def _rules(
    q: Tensor,
    k: Tensor,
    cu_seqlens: Tensor,
    causal: bool,
    window: int | None,
    scale: float,
) -> dict[str, Any]:
    return {
        "bf16": q.dtype == torch.bfloat16,
        "boundaries": cu_seqlens.tolist(),
        "heads": q.shape[1],
        "kv_heads": k.shape[1],
        "head_dim": q.shape[2],
        "causal": causal,
        "window": window,
        "scale": scale,
        "num_threads": torch.get_num_threads(),
    }


def _array(x: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor; bf16, which numpy has not, as uint16."""
    flat = x.detach().view(-1)
    return (flat.view(torch.uint16) if x.dtype == torch.bfloat16 else flat).numpy()
