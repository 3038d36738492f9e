"""Attention of the engine, for processors with vectors: an operator with its gradient.

Scores stay in the nearest cache, and what a causal mask or a window hides is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from triptych import _core
from triptych.ops import checks
from triptych.ops.arrays import LANES, array, autocast_dtype, dtype_obstacle
from triptych.ops.libraries import Rules
from triptych.ops.pairs import within_documents
from triptych_kernels.once import once_differentiable

MAX_HEAD_DIM = 256
# Of one head torch cuts a sum of 32,768 numbers and more by its threads, and with them its bits.
SUMMED_TOKENS = 16384


def obstacle(q: Tensor, rules: Rules) -> str:
    """Why the engine cannot take such a query; empty if it can."""
    if rules.scale is not None and not 0.0 < rules.scale < math.inf:
        return f"a scale of {rules.scale} is not above 0"
    if q.shape[2] % LANES or q.shape[2] > MAX_HEAD_DIM:
        return (
            f"a head dim of {q.shape[2]} is no multiple of {LANES} up to {MAX_HEAD_DIM}"
        )
    return dtype_obstacle(q, autocast_dtype(q))


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    rules: Rules,
    seed: Tensor | None = None,
) -> Tensor:
    """As `ops.attention`; `seed`, () int64, says which weights dropout drops."""
    dtype = autocast_dtype(q)
    scale = 1.0 / math.sqrt(q.shape[2]) if rules.scale is None else rules.scale
    mixed: Tensor
    mixed, _ = _attend(
        *(x.to(dtype) for x in (q, k, v)),
        cu_seqlens,
        rules.sinks,
        rules.pairs,
        seed,
        rules.causal,
        rules.window,
        rules.softcap,
        scale,
        rules.dropout,
    )
    return mixed


# As torch.library.custom_op would register them, but that it imports torch._dynamo at the
# first call, with sympy and triton: 3 s and 100 MB.
_LIBRARY = torch.library.Library("triptych", "FRAGMENT")  # type: ignore[no-untyped-call]


def _operator(name: str, launch: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    """Registers a launch on CPUs, whose annotations are the schema, and its shapes."""
    schema = torch.library.infer_schema(launch, mutates_args=())
    tags = (torch.Tag.pt2_compliant_tag,)
    _LIBRARY.define(name + schema, tags=tags)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, launch, "CPU")  # type: ignore[no-untyped-call]
    operator = getattr(torch.ops.triptych, name).default
    torch.library.register_fake(operator, shapes, lib=_LIBRARY)
    return operator


def _launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    sinks: Tensor | None,
    pairs: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """What each query takes up, and (heads, tokens) logarithms of its sums."""
    numbers = causal, window, softcap, scale, dropout
    rules = _rules(q, k, (cu_seqlens, sinks, pairs, seed), numbers)
    q, k, v = (x.contiguous() for x in (q, k, v))
    mixed = torch.empty_like(q)
    log_sums = torch.empty(q.shape[1::-1], dtype=torch.float32)
    _core.attention_forward(
        [array(x) for x in (q, k, v)], array(mixed), array(log_sums), rules
    )
    return mixed, log_sums


def _shapes(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    log_sums = q.new_empty(q.shape[1::-1], dtype=torch.float32)
    return torch.empty_like(q, memory_format=torch.contiguous_format), log_sums


def _launch_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    sinks: Tensor | None,
    pairs: Tensor | None,
    seed: Tensor | None,
    mixed: Tensor,
    log_sums: Tensor,
    upstream: Tensor,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and sinks; (0,) of sinks that are none."""
    numbers = causal, window, softcap, scale, dropout
    rules = _rules(q, k, (cu_seqlens, sinks, pairs, seed), numbers)
    q, k, v, upstream = (x.contiguous() for x in (q, k, v, upstream))
    gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    totals = log_sums.new_empty(log_sums.shape if sinks is not None else (0,))
    _core.attention_backward(
        [array(x) for x in (q, k, v)],
        [array(mixed), array(upstream)],
        array(log_sums),
        [array(x) for x in gradients],
        array(totals),
        rules,
    )
    return *gradients, _of_sinks(sinks, log_sums, totals)


def _of_sinks(sinks: Tensor | None, log_sums: Tensor, totals: Tensor) -> Tensor:
    """A sink is a key whose value is zero: its slope is -weight * sum over keys of P dP."""
    if sinks is None:
        return torch.empty(0)
    weights = torch.exp2(sinks.float()[:, None] / math.log(2.0) - log_sums)
    products = weights * totals
    starts = range(0, max(products.shape[1], 1), SUMMED_TOKENS)
    sums = [products[:, at : at + SUMMED_TOKENS].sum(1) for at in starts]
    return -torch.stack(sums).sum(0).to(sinks.dtype)


def _shapes_backward(
    q: Tensor, k: Tensor, v: Tensor, _: Tensor, sinks: Tensor | None, *__: Any
) -> tuple[Tensor, ...]:
    contiguous = torch.contiguous_format
    of_sinks = q.new_empty(0) if sinks is None else torch.empty_like(sinks)
    inputs = (torch.empty_like(x, memory_format=contiguous) for x in (q, k, v))
    return *inputs, of_sinks


_attend = _operator("rust_attention", _launch, _shapes)
_attend_backward = _operator(
    "rust_attention_backward", _launch_backward, _shapes_backward
)


class _Attention(torch.autograd.Function):
    """The operator and its gradient."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output: tuple[Tensor, Tensor] = _undifferentiated(*inputs)
        ctx.rules = inputs[7:]
        ctx.save_for_backward(*inputs[:7], *output)
        ctx.mark_non_differentiable(output[1])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found = _attend_backward(*ctx.saved_tensors, upstream, *ctx.rules)
        sinks = found[3] if ctx.needs_input_grad[4] else None
        return (*found[:3], None, sinks, *(None,) * 7)


def _undifferentiated(*inputs: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return _attend(*inputs)


_LIBRARY.impl("rust_attention", _Attention.apply, "Autograd")  # type: ignore[no-untyped-call]


def _rules(
    q: Tensor,
    k: Tensor,
    tensors: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    numbers: tuple[bool, int | None, float | None, float, float],
) -> dict[str, Any]:
    cu_seqlens, sinks, pairs, seed = tensors
    boundaries = cu_seqlens.tolist()
    checks.boundaries(boundaries, q.shape[0])
    names = ("causal", "window", "softcap", "scale", "dropout")
    return dict(zip(names, numbers, strict=True)) | {
        "bf16": q.dtype == torch.bfloat16,
        "boundaries": boundaries,
        "heads": q.shape[1],
        "kv_heads": k.shape[1],
        "head_dim": q.shape[2],
        "sinks": [] if sinks is None else sinks.tolist(),
        "pairs": [] if pairs is None else within_documents(pairs, boundaries).tolist(),
        "seed": 0 if seed is None else int(seed) % 2**64,
        "num_threads": torch.get_num_threads(),
    }
