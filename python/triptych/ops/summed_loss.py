"""Sum of the losses of all tokens, whose gradient is made in the forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from triptych import _core
from triptych.ops.accumulation import current, scaled
from triptych.ops.arrays import array, rows_array
from triptych.ops.chunked import (
    Context,
    Gradients,
    Settings,
    chunks,
    counted_rows,
    pick,
)
from triptych_kernels.once import once_differentiable, roots


def summed_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    weights: Tensor | None,
    settings: Settings,
) -> Tensor:
    """Sum over counted tokens of weight * loss: a float32 or float64 scalar."""
    rows = counted_rows(counted)
    token_weights = torch.ones_like(targets, dtype=settings.wide)
    if weights is not None:
        token_weights = weights.detach().to(settings.wide)
    total: Tensor = _SummedLoss.apply(
        pick(hidden, rows),
        weight,
        pick(targets, rows),
        pick(token_weights, rows),
        settings,
        torch.is_grad_enabled(),
    )
    return total


class _SummedLoss(torch.autograd.Function):
    """Weighted sum of the losses, with its gradients computed on the way."""

    @staticmethod
    def forward(
        ctx: Context,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        token_weights: Tensor,
        settings: Settings,
        with_gradients: bool,
    ) -> Tensor:
        needed = [with_gradients and need for need in ctx.needs_input_grad[:2]]
        memory = current()
        with torch.autocast(hidden.device.type, enabled=False):
            narrow = memory.narrow(weight, settings.dtype)
            gradients = Gradients(hidden, narrow, settings, needed, memory)
            total = torch.zeros((), dtype=torch.float64, device=hidden.device)
            for chunk in chunks(hidden, narrow, settings, memory):
                part = targets[chunk.span], token_weights[chunk.span]
                total += _loss_and_slope(chunk.logits, *part, settings)
                if any(needed):
                    gradients.add(chunk, chunk.logits)
        ctx.gradients = gradients.of_hidden, gradients.weight_gradient()
        ctx.weight, ctx.memory = weight, memory
        ctx.roots = roots(hidden, weight)
        return total.to(settings.wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_weight = _kept(ctx)
        if of_hidden is not None:
            of_hidden = of_hidden * upstream
        if of_weight is not None:
            of_weight = _scaled_or_added(ctx, of_weight, upstream)
        return of_hidden, of_weight, None, None, None, None


def _kept(ctx: Context) -> tuple[Tensor | None, Tensor | None]:
    if ctx.gradients is None:
        raise RuntimeError(
            "expected one backward() for a loss within `accumulating`, found a second: "
            "the memory of its gradient is in use again"
        )
    return ctx.gradients


def _scaled_or_added(
    ctx: Context, of_weight: Tensor, upstream: Tensor
) -> Tensor | None:
    """The weight's gradient, or None if it is in `weight.grad` already."""
    if not ctx.memory.adds(ctx.weight):
        return scaled(of_weight, upstream, ctx.weight.dtype)
    ctx.memory.add(ctx.weight, of_weight, upstream)
    ctx.memory.give_back(of_weight)
    ctx.gradients = None
    return None


def _loss_and_slope(
    logits: Tensor, targets: Tensor, token_weights: Tensor, settings: Settings
) -> Tensor:
    """Weighted loss sum of a chunk; logits become d loss / d logits in place."""
    if settings.by_engine:
        return _by_engine(logits, targets, token_weights, settings)
    vocab_size, smoothing = logits.shape[1], settings.label_smoothing
    largest = logits.amax(dim=1, keepdim=True)
    logits.sub_(largest)  # largest exponent is 0: exp cannot overflow
    picked = logits.gather(1, targets[:, None])
    mean = logits.mean(dim=1, keepdim=True) if smoothing else picked
    sums = logits.exp_().sum(dim=1, keepdim=True)
    shifted_lse = sums.log()
    lse = shifted_lse + largest
    losses = shifted_lse - (1.0 - smoothing) * picked - smoothing * mean
    losses = losses + settings.z_loss * lse.square()
    factors = token_weights[:, None]
    logits.mul_(factors * (1.0 + 2.0 * settings.z_loss * lse) / sums)
    logits.scatter_add_(1, targets[:, None], -(1.0 - smoothing) * factors)
    if smoothing:
        logits.sub_(factors * (smoothing / vocab_size))
    return (losses * factors).sum(dtype=torch.float64)


def _by_engine(
    logits: Tensor, targets: Tensor, token_weights: Tensor, settings: Settings
) -> Tensor:
    """The same in one pass of the engine, without float32 copies of bf16."""
    total = _core.loss_and_slopes(
        rows_array(logits),
        array(targets.contiguous()),
        array(token_weights.contiguous()),
        (settings.z_loss, settings.label_smoothing),
        settings.shape(logits.shape[1]),
        torch.get_num_threads(),
    )
    return torch.tensor(total, dtype=torch.float64)
