"""Attention by other people's kernels on CUDA: flash-attn, and torch's own varlen.

Neither has run in the tests of this project, which have no GPU with them; what they
are called with is checked against their signatures only.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 256


class Rules(NamedTuple):
    """Who may look at whom, and how scores are formed."""

    causal: bool
    window: int | None
    softcap: float | None
    scale: float | None
    dropout: float
    sinks: Tensor | None = None
    pairs: Tensor | None = None


def flash_attn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    rules: Rules,
) -> Tensor:
    """flash-attn (Dao 2023) with its deterministic backward pass."""
    longest = _longest(cu_seqlens)
    output: Tensor = import_module("flash_attn").flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        dropout_p=rules.dropout,
        softmax_scale=rules.scale,
        causal=rules.causal,
        window_size=_window_size(rules),
        deterministic=True,
    )
    return output


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    rules: Rules,
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn`; its backward may not repeat its bits."""
    varlen_attn = import_module("torch.nn.attention.varlen").varlen_attn
    longest = _longest(cu_seqlens)
    output: Tensor = varlen_attn(
        q,
        k,
        v,
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        scale=rules.scale,
        window_size=_window_size(rules),
        **_grouped(q, k),
    )
    return output


def half_obstacle(q: Tensor) -> str:
    """Why neither library takes tensors like q; empty if both do."""
    if q.dtype not in HALVES:
        return f"{q.dtype} is neither float16 nor bfloat16"
    if q.shape[2] > MAX_HEAD_DIM or q.shape[2] % 8:
        return f"a head dim of {q.shape[2]} is no multiple of 8 up to {MAX_HEAD_DIM}"
    return ""


def varlen_obstacle(q: Tensor, k: Tensor) -> str:
    """Why torch's own operator cannot be taken beside that; empty if it can."""
    if torch.are_deterministic_algorithms_enabled():
        return "deterministic algorithms are demanded"
    if q.shape[1] != k.shape[1] and not _varlen_has("enable_gqa"):
        return "this torch has no grouped heads in it"
    return "" if _varlen_has("window_size") else "this torch has no window in it"


@lru_cache(maxsize=8)
def _varlen_has(parameter: str) -> bool:
    try:
        module = import_module("torch.nn.attention.varlen")
    except ImportError:
        return False
    return parameter in inspect.signature(module.varlen_attn).parameters


def _grouped(q: Tensor, k: Tensor) -> dict[str, Any]:
    return {} if q.shape[1] == k.shape[1] else {"enable_gqa": True}


def _window_size(rules: Rules) -> tuple[int, int]:
    """Keys to the left and right that a query sees beside its own; -1 is all."""
    left = -1 if rules.window is None else rules.window - 1
    return left, 0 if rules.causal else -1


def _longest(cu_seqlens: Tensor) -> int:
    """Tokens of the longest document; waits for the device."""
    return int(cu_seqlens.diff().max())
