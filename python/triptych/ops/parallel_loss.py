"""Losses on an output layer whose vocabulary is spread over ranks.

Each rank has all hidden states and a slice of the vocabulary. It makes the four
numbers a token of its slice with `linear_statistics`, and the ranks exchange those:
16 bytes a token and rank, never logits. All combine them in the order of the ranks,
so that every rank has the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from triptych.ops import checks
from triptych.ops.linear_loss import IGNORE_INDEX, check_ids, linear_statistics
from triptych.ops.token_losses import TokenStatistics


def parallel_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    group: dist.ProcessGroup | None,
    first_id: int,
    vocab_size: int,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> TokenStatistics:
    """`linear_statistics` of the whole vocabulary, of which this rank has a slice.

    With w_r = exp(lse_r - lse), the share of slice r of the probability, the entropy
    is the sum of w_r (H_r - log w_r) over the slices, H_r that within one.

    Args:
        hidden: (tokens, hidden_size), the same on every rank; its gradient is the
            sum over the ranks, added in float32.
        weight: (slice, hidden_size), rows from `first_id` on; at least one.
        targets: (tokens,) int64 ids of the whole vocabulary, the same on every rank;
            where it is -100 all four are 0.
        group: ranks that hold the slices; None is all.
        first_id: id of the slice's first row.
        vocab_size: rows of all slices together.
        temperature: logits are divided by it, after any soft-cap.
        softcap: logits become softcap * tanh(logit / softcap).

    Returns:
        (tokens,) float32 each, the same on every rank. Each rank must go on to the
        same loss: a rank's gradient is that loss's, not a sum of one a rank.

    Raises:
        ValueError: the slice is not inside the vocabulary, or on a CPU a target is not. On
            a GPU, which asking would stall, such a target's log-probability is NaN.
    """
    last = first_id + weight.shape[0]
    if not 0 <= first_id < last <= vocab_size:
        raise ValueError(
            f"expected a slice of ids inside [0, {vocab_size}), found "
            f"[{first_id}, {last})"
        )
    ignored = targets == IGNORE_INDEX
    if targets.device.type == "cpu":
        check_ids(targets, ~ignored, vocab_size)
    ours = (targets >= first_id) & (targets < last)
    # The ids of other ranks become this slice's first, whose logit is not used.
    inside = torch.where(ours, targets - first_id, 0)
    inside = inside.masked_fill(ignored, IGNORE_INDEX)
    shared: Tensor = _SumGradients.apply(hidden, group)
    local = linear_statistics(
        shared, weight, inside, temperature=temperature, softcap=softcap
    )
    logps = local.logps.masked_fill(~ours, -torch.inf)
    total = local.mean_logit * weight.shape[0]
    four = torch.stack((local.lse, local.entropy, logps, total))
    found = _combined(_Gather.apply(four, group), ignored, vocab_size)
    # No slice has the logit of such a target, and what none has is -inf.
    outside = ~ignored & ((targets < 0) | (targets >= vocab_size))
    return found._replace(logps=found.logps.masked_fill(outside, torch.nan))


def parallel_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    group: dist.ProcessGroup | None,
    first_id: int,
    vocab_size: int,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """(tokens,) log-probability of each target; see `parallel_statistics`."""
    return parallel_statistics(
        hidden,
        weight,
        targets,
        group=group,
        first_id=first_id,
        vocab_size=vocab_size,
        temperature=temperature,
        softcap=softcap,
    ).logps


def parallel_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    group: dist.ProcessGroup | None,
    first_id: int,
    vocab_size: int,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """(tokens,) float32 loss of each, 0 where ignored, as `linear_cross_entropy`'s.

    The arguments are those of `parallel_statistics` and `linear_cross_entropy`.
    """
    checks.at_least_zero("z_loss", z_loss)
    checks.share("label_smoothing", label_smoothing, whole=True)
    found = parallel_statistics(
        hidden,
        weight,
        targets,
        group=group,
        first_id=first_id,
        vocab_size=vocab_size,
        softcap=softcap,
    )
    losses = -(1.0 - label_smoothing) * found.logps
    losses = losses + label_smoothing * (found.lse - found.mean_logit)
    return losses + z_loss * found.lse.square()


def _combined(gathered: Tensor, ignored: Tensor, vocab_size: int) -> TokenStatistics:
    """The whole vocabulary's numbers, of (ranks, 4, tokens) of the slices.

    Shares are told from the largest log-sum-exp: from that of all, which one fp32 number
    holds too coarsely where logits are large, the digits of a probability would be lost.
    """
    lses, entropies, logps, totals = gathered.unbind(1)
    log_shares = lses.log_softmax(0)
    four = (
        (logps + log_shares).amax(0),  # -inf of all slices but the target's
        lses.logsumexp(0),
        (log_shares.exp() * (entropies - log_shares)).sum(0),
        totals.sum(0) / vocab_size,
    )
    return TokenStatistics(*(x.masked_fill(ignored, 0.0) for x in four))


class _Gather(torch.autograd.Function):
    """(ranks, ...) of every rank's tensor; each rank gets its own part's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.rank = dist.get_rank(group)
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x, group=group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.rank], None


class _SumGradients(torch.autograd.Function):
    """The tensor itself; backward adds what every rank's slice has to say of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].float().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total.to(grads[0].dtype), None
