"""Context parallel: the tokens of a batch spread over processes that read the same rows.

Jacobs et al. 2023 (DeepSpeed-Ulysses). Each process computes a run of the tokens, in all
but attention. There an exchange gives it all tokens of some heads, and a second one turns
that back, so that attention is the one of a single process and documents need no care:
they may cross runs, and heads of different processes have the same work. An exchange
sends 1 / `size` of a tensor to each of the others: 4 a layer forward, 4 backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from triptych.errors import ConfigError
from triptych.model.config import ModelConfig
from triptych.model.huggingface import model_with
from triptych.model.transformer import Transformer
from triptych.train.placement import Whole

Attend = Callable[..., Tensor]


class SpreadTokens(Whole):
    """Every process holds the whole model, and computes a run of a batch's tokens."""

    compiles = False  # layers exchange tokens

    def whole_model(self) -> Transformer | None:
        """A copy, which one process may call alone; None in all but the first."""
        if not self.ranks.is_first:
            return None
        weights = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        return model_with(self.model.config, weights)


def spread_tokens(model: Transformer, group: dist.ProcessGroup, tensor: int) -> None:
    """Spreads the tokens of every batch over the processes of a group, in place.

    All must call it with the same batches. Losses are then those of a process's own
    tokens; losses and gradients of all add up to those of the batch.

    Args:
        model: with its products spread already, if they are to be.
        group: the processes, in the order of their runs of tokens.
        tensor: processes that each layer's products are spread over.

    Raises:
        ConfigError: the heads do not allow it.
    """
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    require_heads(model.config, size, tensor)
    own = partial(own_tokens, rank=rank, size=size)
    model.own_tokens = own
    model.cross_entropy = partial(_own_cross_entropy, model.cross_entropy, own)
    for layer in model.model.layers:
        attention: Any = layer.self_attn
        attention.mix = partial(spread_attention, attention.mix, group)


def require_heads(config: ModelConfig, size: int, tensor: int = 1) -> None:
    """Refuses heads that `size` processes cannot share evenly.

    Raises:
        ConfigError: naming the number of heads.
    """
    heads = config.num_attention_heads // tensor
    keys = config.num_key_value_heads // tensor
    if heads % math.lcm(keys, size):
        raise ConfigError(
            f"parallel.context: expected a number that divides the {heads} heads of "
            f"a process, and whose common multiple with its {keys} key heads does, "
            f"found {size}"
        )


def token_bounds(num_tokens: int, size: int) -> list[int]:
    """Where each process's run begins, and the end: runs differ by one at most."""
    return [num_tokens * n // size for n in range(size + 1)]


def own_tokens(x: Tensor, *, rank: int, size: int) -> Tensor:
    """The run of x (tokens, ...) that a process computes."""
    bounds = token_bounds(len(x), size)
    return x[bounds[rank] : bounds[rank + 1]]


def _own_cross_entropy(
    inner: Callable[..., Tensor],
    own: Callable[[Tensor], Tensor],
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    weights: Tensor,
    reduction: str,
    **settings: Any,
) -> Tensor:
    """`inner` of a process's tokens, given the labels and weights of all."""
    assert reduction == "sum"
    return inner(
        hidden, weight, own(targets), weights=own(weights), reduction="sum", **settings
    )


def spread_attention(
    inner: Attend,
    group: dist.ProcessGroup,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    cu_seqlens: Tensor,
    **settings: Any,
) -> Tensor:
    """`inner` of all tokens and a share of the heads, given a run and all heads.

    Args:
        inner: `ops.attention`.
        group: the processes that have the other runs.
        query: (own tokens, heads, head_dim).
        key: (own tokens, key heads, head_dim).
        value: of the shape of `key`.
        cu_seqlens: of all tokens.
        settings: of `inner`.

    Returns:
        (own tokens, heads, head_dim).
    """
    size = dist.get_world_size(group)
    bounds = token_bounds(int(cu_seqlens[-1]), size)
    counts = [end - start for start, end in pairwise(bounds)]
    repeats = math.lcm(key.shape[1], size) // key.shape[1]
    if repeats > 1:  # more processes than key heads: some have the same one
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    query, key, value = (
        _Exchange.apply(x, counts, group, True) for x in (query, key, value)
    )
    mixed = inner(query, key, value, cu_seqlens=cu_seqlens, **settings)
    back: Tensor = _Exchange.apply(mixed, counts, group, False)
    return back


class _Exchange(torch.autograd.Function):
    """From a run of tokens with all heads to all tokens with a share; or back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: list[int], group: Any, to_heads: bool
    ) -> Tensor:
        ctx.counts, ctx.group, ctx.to_heads = counts, group, to_heads
        return (_to_heads if to_heads else _to_tokens)(x, counts, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        turned = _to_tokens if ctx.to_heads else _to_heads
        return turned(grads[0], ctx.counts, ctx.group), None, None, None


def _to_heads(x: Tensor, counts: list[int], group: Any) -> Tensor:
    """(own tokens, heads, head_dim) to (tokens, heads / size, head_dim)."""
    size, own = len(counts), counts[dist.get_rank(group)]
    heads = x.shape[1] // size
    by_process = x.reshape(own, size, heads, x.shape[2]).transpose(0, 1)
    sent = by_process.flatten(0, 1).contiguous()
    taken = x.new_empty(sum(counts), *sent.shape[1:])
    dist.all_to_all_single(taken, sent, counts, [own] * size, group=group)
    return taken


def _to_tokens(x: Tensor, counts: list[int], group: Any) -> Tensor:
    """(tokens, heads / size, head_dim) to (own tokens, heads, head_dim)."""
    size, own = len(counts), counts[dist.get_rank(group)]
    taken = x.new_empty(size * own, *x.shape[1:])
    dist.all_to_all_single(taken, x.contiguous(), [own] * size, counts, group=group)
    by_process = taken.view(size, own, *x.shape[1:]).transpose(0, 1)
    return by_process.flatten(1, 2).contiguous()
