"""Losses, log-probabilities and statistics of each token, differentiable.

Their gradient is made from logits that are computed again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from triptych import _core
from triptych.ops.accumulation import current
from triptych.ops.arrays import array, rows_array
from triptych.ops.chunked import (
    Context,
    Gradients,
    Settings,
    chunks,
    counted_rows,
    pick,
    place,
)
from triptych_kernels.once import once_differentiable


class TokenStatistics(NamedTuple):
    """Four float32 numbers a token, (tokens,) each; 0 where it does not count."""

    logps: Tensor  # log-probability of the target, in nats
    lse: Tensor  # log-sum-exp of the logits, in nats
    entropy: Tensor  # of the distribution over the vocabulary, in nats
    mean_logit: Tensor


def token_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> Tensor:
    """(tokens,) loss of each counted token, 0 of the others."""
    rows, (logps, lse, mean_logits, _) = _of_counted(
        hidden, weight, targets, counted, settings
    )
    smoothing = settings.label_smoothing
    losses = -(1.0 - smoothing) * logps + smoothing * (lse - mean_logits)
    return place(losses + settings.z_loss * lse.square(), rows, targets)


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> Tensor:
    """(tokens,) log-probability of each counted token, 0 of the others."""
    rows, (logps, *_) = _of_counted(hidden, weight, targets, counted, settings)
    return place(logps, rows, targets)


def token_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> TokenStatistics:
    """All four numbers of each counted token; `settings.entropy` is set."""
    rows, (logps, lse, mean_logits, entropy) = _of_counted(
        hidden, weight, targets, counted, settings
    )
    four = logps, lse, entropy, mean_logits
    return TokenStatistics(*(place(x, rows, targets) for x in four))


def _of_counted(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> tuple[Tensor | None, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Which tokens count, see `counted_rows`, and four numbers of each of those."""
    rows = counted_rows(counted)
    inputs = pick(hidden, rows), weight, pick(targets, rows)
    return rows, _TokenStatistics.apply(*inputs, settings)


class _TokenStatistics(torch.autograd.Function):
    """Per token: log-probability of the target, log-sum-exp, mean logit, entropy.

    Every loss here is plain arithmetic on these, so one backward pass serves all:
    d loss / d logits = p * (g_lse - g_logp - g_entropy * (log p + entropy))
    + g_mean / V + onehot * g_logp. Without `settings.entropy` there is none: (0,).
    """

    @staticmethod
    def forward(
        ctx: Context,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        settings: Settings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = _empty_statistics(targets, settings)
        ctx.memory = memory = current()
        with torch.autocast(hidden.device.type, enabled=False):
            narrow = memory.narrow(weight, settings.dtype)
            for chunk in chunks(hidden, narrow, settings, memory):
                part = [x[chunk.span] for x in found]
                _fill(part, chunk.logits, targets[chunk.span], settings)
        logps, lse, means, entropy = found
        ctx.save_for_backward(hidden, weight, targets, entropy)
        ctx.settings = settings
        return logps, lse, means, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Context,
        g_logp: Tensor,
        g_lse: Tensor,
        g_mean: Tensor,
        g_entropy: Tensor,
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, entropy = ctx.saved_tensors
        settings, memory = ctx.settings, ctx.memory
        with torch.autocast(hidden.device.type, enabled=False):
            narrow = memory.narrow(weight, settings.dtype)
            needed = list(ctx.needs_input_grad[:2])
            gradients = Gradients(hidden, narrow, settings, needed, memory)
            for chunk in chunks(hidden, narrow, settings, memory):
                given = [x[chunk.span] for x in (g_logp, g_lse, g_mean, g_entropy)]
                part = targets[chunk.span], entropy[chunk.span]
                _into_slopes(chunk.logits, *part, given, settings)
                gradients.add(chunk, chunk.logits)
        of_weight = gradients.weight_gradient()
        if of_weight is not None:
            of_weight = of_weight.to(weight.dtype)
        return gradients.of_hidden, of_weight, None, None


def _empty_statistics(targets: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    """Memory for four numbers a token; none for an entropy that nobody asks for."""
    num = targets.shape[0]
    sizes = (num, num, num, num if settings.entropy else 0)
    return tuple(targets.new_empty(size, dtype=settings.wide) for size in sizes)


def _fill(
    found: list[Tensor], logits: Tensor, targets: Tensor, settings: Settings
) -> None:
    """Writes the statistics of a chunk, whose logits may be overwritten."""
    if settings.by_engine:
        _core.logit_statistics(
            rows_array(logits),
            array(targets.contiguous()),
            settings.shape(logits.shape[1]),
            [array(x) for x in found],
            torch.get_num_threads(),
        )
        return
    logps, lse, means, entropy = found
    torch.mean(logits, dim=1, out=means)
    if settings.entropy:
        entropy.copy_(_entropy(logits))
    # Told from the largest: a log-sum-exp, once rounded, is too coarse for large logits.
    largest = logits.amax(dim=1, keepdim=True)
    picked = logits.sub_(largest).gather(1, targets[:, None])
    above = logits.exp_().sum(dim=1, keepdim=True).log_()
    logps.copy_((picked - above).squeeze(1))
    lse.copy_((largest + above).squeeze(1))


def _into_slopes(
    logits: Tensor,
    targets: Tensor,
    entropies: Tensor,
    upstream: list[Tensor],
    settings: Settings,
) -> None:
    """Logits become d loss / d logits in place, for `upstream` of their statistics.

    The log-sum-exp is made again: once rounded, it is too coarse for large logits.
    """
    if settings.by_engine:
        _core.logit_slopes(
            rows_array(logits),
            array(targets.contiguous()),
            settings.shape(logits.shape[1]),
            array(entropies),
            [array(x.contiguous()) for x in upstream],
            torch.get_num_threads(),
        )
        return
    g_logp, g_lse, g_mean, g_entropy = (x[:, None] for x in upstream)
    logits.sub_(logits.amax(dim=1, keepdim=True))
    below = logits.clone() if settings.entropy else None
    sums = logits.exp_().sum(dim=1, keepdim=True)
    factors = (g_lse - g_logp) / sums
    if below is not None:
        surprise = below.add_(entropies[:, None] - sums.log())
        factors = surprise.mul_(-g_entropy / sums).add_(factors)
    logits.mul_(factors).add_(g_mean / logits.shape[1])
    logits.scatter_add_(1, targets[:, None], g_logp)


def _entropy(logits: Tensor) -> Tensor:
    """(chunk,) entropy of each row; of terms of one sign, so that nothing cancels."""
    below = logits - logits.amax(dim=1, keepdim=True)
    weights = below.exp()
    sums = weights.sum(dim=1)
    return sums.log() - below.mul_(weights).sum(dim=1) / sums
