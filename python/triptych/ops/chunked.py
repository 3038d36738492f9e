"""Linear cross-entropy in chunks of 512 tokens; the logits of one chunk live at a time.

512 tokens was best of 256, 512 and 1024 on two cores: smaller chunks re-read and
re-write the weight gradient too often, larger ones gain nothing. Where a sum is asked
for, gradients are computed in the forward pass, from logits that are there anyway;
per-token results recompute them in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from triptych import _core
from triptych.ops.accumulation import Accumulation, add, current
from triptych.ops.arrays import array

CHUNK_TOKENS = 512
# Rows of the weight's gradient that are multiplied at a time in a narrow type: as fast as all of
# 32,768 at a width of 576, in 5 MB instead of 38.
SLICE_ROWS = 4096


class Settings(NamedTuple):
    """How logits are formed and what a token costs."""

    dtype: torch.dtype
    softcap: float | None = None
    temperature: float = 1.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    entropy: bool = False  # whether token statistics have it
    by_engine: bool = False  # whether the engine reads logits as they are multiplied

    @property
    def wide(self) -> torch.dtype:
        """Type of losses and sums: float32, or that of products in float64."""
        return torch.promote_types(self.dtype, torch.float32)


class TokenStatistics(NamedTuple):
    """Four float32 numbers a token, (tokens,) each; 0 where it does not count."""

    logps: Tensor  # log-probability of the target, in nats
    lse: Tensor  # log-sum-exp of the logits, in nats
    entropy: Tensor  # of the distribution over the vocabulary, in nats
    mean_logit: Tensor


def summed_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    weights: Tensor | None,
    settings: Settings,
) -> Tensor:
    """Sum over counted tokens of weight * loss: a float32 or float64 scalar."""
    rows = _rows(counted)
    token_weights = torch.ones_like(targets, dtype=settings.wide)
    if weights is not None:
        token_weights = weights.detach().to(settings.wide)
    total: Tensor = _SummedLoss.apply(
        _pick(hidden, rows),
        weight,
        _pick(targets, rows),
        _pick(token_weights, rows),
        settings,
        torch.is_grad_enabled(),
    )
    return total


def token_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> Tensor:
    """(tokens,) loss of each counted token, 0 of the others."""
    rows = _rows(counted)
    logps, lse, mean_logits, _ = _TokenStatistics.apply(
        _pick(hidden, rows), weight, _pick(targets, rows), settings
    )
    smoothing = settings.label_smoothing
    losses = -(1.0 - smoothing) * logps + smoothing * (lse - mean_logits)
    return _place(losses + settings.z_loss * lse.square(), rows, targets)


def token_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> Tensor:
    """(tokens,) log-probability of each counted token, 0 of the others."""
    rows = _rows(counted)
    logps, *_ = _TokenStatistics.apply(
        _pick(hidden, rows), weight, _pick(targets, rows), settings
    )
    return _place(logps, rows, targets)


def token_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counted: Tensor,
    settings: Settings,
) -> TokenStatistics:
    """All four numbers of each counted token; `settings.entropy` is set."""
    rows = _rows(counted)
    logps, lse, mean_logits, entropy = _TokenStatistics.apply(
        _pick(hidden, rows), weight, _pick(targets, rows), settings
    )
    four = logps, lse, entropy, mean_logits
    return TokenStatistics(*(_place(x, rows, targets) for x in four))


def _rows(counted: Tensor) -> Tensor | None:
    """Indices of the counted tokens, or None if all are."""
    return None if bool(counted.all()) else counted.nonzero().squeeze(1)


def _pick(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x.index_select(0, rows)


def _place(values: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    if rows is None:
        return values
    zeros = torch.zeros(like.shape, dtype=values.dtype, device=values.device)
    return zeros.index_copy(0, rows, values)


class _Chunk(NamedTuple):
    """Logits of at most `CHUNK_TOKENS` tokens, in a buffer that the next one reuses."""

    span: slice
    hidden: Tensor  # (chunk, hidden_size), in the dtype of the matrix products
    logits: (
        Tensor  # (chunk, V), to be overwritten: wide, or for the engine as multiplied
    )
    slope: (
        Tensor | None
    )  # (chunk, V) d logit / d raw logit, under a soft-cap of PyTorch


def _chunks(
    hidden: Tensor, weight: Tensor, settings: Settings, memory: Accumulation
) -> Iterator[_Chunk]:
    """Logits chunk by chunk; `weight` is in the dtype of the matrix products."""
    shape = (min(CHUNK_TOKENS, hidden.shape[0]), weight.shape[0])
    product = memory.borrow(weight, shape, weight.dtype)
    is_wide = weight.dtype == settings.wide or settings.by_engine
    buffer = product if is_wide else torch.empty_like(product, dtype=settings.wide)
    for start in range(0, hidden.shape[0], CHUNK_TOKENS):
        span = slice(start, min(start + CHUNK_TOKENS, hidden.shape[0]))
        part = hidden[span].to(weight.dtype)
        torch.mm(part, weight.T, out=product[: part.shape[0]])
        logits = buffer[: part.shape[0]]
        if not is_wide:
            logits.copy_(product[: part.shape[0]])
        slope = None if settings.by_engine else _cap(logits, settings)
        yield _Chunk(span, part, logits, slope)
    memory.give_back(product)


def _cap(logits: Tensor, settings: Settings) -> Tensor | None:
    """Applies soft-cap and temperature in place; returns the slope of the cap."""
    slope = None
    if settings.softcap is not None:
        logits.div_(settings.softcap).tanh_()
        slope = 1.0 - logits.square()
        logits.mul_(settings.softcap)
    if settings.temperature != 1.0:
        logits.div_(settings.temperature)
    return slope


class _Gradients:
    """Gradients of hidden states and weight, summed chunk by chunk, wide."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        settings: Settings,
        needed: list[bool],
        memory: Accumulation,
    ) -> None:
        self.weight, self.settings, self.memory = weight, settings, memory
        self.of_hidden = torch.empty_like(hidden) if needed[0] else None
        self.of_weight: Tensor | None = None
        self.product: Tensor | None = None  # of some rows, before it is added
        self.wants_weight = needed[1]

    def add(self, chunk: _Chunk, of_logits: Tensor) -> None:
        """Takes in d loss / d logits (chunk, V), which may be overwritten."""
        if chunk.slope is not None:
            of_logits.mul_(chunk.slope)
        if self.settings.temperature != 1.0 and not self.settings.by_engine:
            of_logits.div_(self.settings.temperature)
        narrow = of_logits.to(self.weight.dtype)
        if self.of_hidden is not None:
            self.of_hidden[chunk.span] = narrow @ self.weight
        if self.wants_weight:
            self._add_to_weight(narrow.T, chunk.hidden)

    def _add_to_weight(self, left: Tensor, right: Tensor) -> None:
        is_first = self.of_weight is None
        if self.of_weight is None:
            self.of_weight = self._matrix(self.settings.wide, self.weight.shape[0])
        if left.dtype == self.settings.wide and is_first:
            torch.mm(left, right, out=self.of_weight)
            return
        if left.dtype == self.settings.wide:
            self.of_weight.addmm_(left, right)
            return
        for start in range(0, left.shape[0], SLICE_ROWS):
            rows = slice(start, start + SLICE_ROWS)
            self._add_rows(self.of_weight[rows], left[rows], right, is_first)

    def _add_rows(
        self, sums: Tensor, left: Tensor, right: Tensor, is_first: bool
    ) -> None:
        if self.product is None:
            self.product = self._matrix(left.dtype, left.shape[0])
        product = torch.mm(left, right, out=self.product[: left.shape[0]])
        if is_first:
            sums.copy_(product)
        else:
            add(sums, product)

    def _matrix(self, dtype: torch.dtype, num_rows: int) -> Tensor:
        shape = num_rows, self.weight.shape[1]
        return self.memory.borrow(self.weight, shape, dtype)

    def weight_gradient(self) -> Tensor | None:
        """The sum for the weight; None if nobody asks."""
        if self.wants_weight and self.of_weight is None:  # there was no token
            return torch.zeros_like(self.weight, dtype=self.settings.wide)
        if self.product is not None:
            self.memory.give_back(self.product)
        return self.of_weight


class _Context(FunctionCtx):
    """What is kept from a forward pass for its backward pass."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor, ...]
    gradients: tuple[Tensor | None, Tensor | None] | None
    weight: Tensor
    memory: Accumulation
    settings: Settings


class _SummedLoss(torch.autograd.Function):
    """Weighted sum of the losses, with its gradients computed on the way."""

    @staticmethod
    def forward(
        ctx: _Context,
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
            gradients = _Gradients(hidden, narrow, settings, needed, memory)
            total = torch.zeros((), dtype=torch.float64, device=hidden.device)
            for chunk in _chunks(hidden, narrow, settings, memory):
                part = targets[chunk.span], token_weights[chunk.span]
                total += _loss_and_slope(chunk.logits, *part, settings)
                if any(needed):
                    gradients.add(chunk, chunk.logits)
        ctx.gradients = gradients.of_hidden, gradients.weight_gradient()
        ctx.weight, ctx.memory = weight, memory
        return total.to(settings.wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_weight = _kept(ctx)
        if of_hidden is not None:
            of_hidden = of_hidden * upstream
        if of_weight is not None:
            of_weight = _scaled_or_added(ctx, of_weight, upstream)
        return of_hidden, of_weight, None, None, None, None


def _kept(ctx: _Context) -> tuple[Tensor | None, Tensor | None]:
    if ctx.gradients is None:
        raise RuntimeError(
            "expected one backward() for a loss within `accumulating`, found a second: "
            "the memory of its gradient is in use again"
        )
    return ctx.gradients


def _scaled_or_added(
    ctx: _Context, of_weight: Tensor, upstream: Tensor
) -> Tensor | None:
    """The weight's gradient, or None if it is in `weight.grad` already."""
    if not ctx.memory.adds(ctx.weight):
        return (of_weight * upstream).to(ctx.weight.dtype)
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
        array(logits),
        array(targets.contiguous()),
        array(token_weights.contiguous()),
        (settings.z_loss, settings.label_smoothing),
        (settings.softcap, settings.temperature),
        torch.get_num_threads(),
    )
    return torch.tensor(total, dtype=torch.float64)


class _TokenStatistics(torch.autograd.Function):
    """Per token: log-probability of the target, log-sum-exp, mean logit, entropy.

    Every loss here is plain arithmetic on these, so one backward pass serves all:
    d loss / d logits = p * (g_lse - g_logp - g_entropy * (log p + entropy))
    + g_mean / V + onehot * g_logp. Without `settings.entropy` there is none: (0,).
    """

    @staticmethod
    def forward(
        ctx: _Context,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        settings: Settings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = _empty_statistics(targets, settings)
        ctx.memory = memory = current()
        with torch.autocast(hidden.device.type, enabled=False):
            narrow = memory.narrow(weight, settings.dtype)
            for chunk in _chunks(hidden, narrow, settings, memory):
                part = [x[chunk.span] for x in found]
                _fill(part, chunk.logits, targets[chunk.span], settings)
        logps, lse, means, entropy = found
        ctx.save_for_backward(hidden, weight, targets, lse, entropy)
        ctx.settings = settings
        return logps, lse, means, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: _Context,
        g_logp: Tensor,
        g_lse: Tensor,
        g_mean: Tensor,
        g_entropy: Tensor,
    ) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, lse, entropy = ctx.saved_tensors
        settings, memory = ctx.settings, ctx.memory
        with torch.autocast(hidden.device.type, enabled=False):
            narrow = memory.narrow(weight, settings.dtype)
            needed = list(ctx.needs_input_grad[:2])
            gradients = _Gradients(hidden, narrow, settings, needed, memory)
            for chunk in _chunks(hidden, narrow, settings, memory):
                known, given = (
                    [x[chunk.span] for x in numbers]
                    for numbers in ((lse, entropy), (g_logp, g_lse, g_mean, g_entropy))
                )
                ids = targets[chunk.span]
                _into_slopes(chunk.logits, ids, known, given, settings)
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
            array(logits),
            array(targets.contiguous()),
            (settings.softcap, settings.temperature),
            [array(x) for x in found],
            torch.get_num_threads(),
        )
        return
    logps, lse, means, entropy = found
    torch.mean(logits, dim=1, out=means)
    if settings.entropy:
        entropy.copy_(_entropy(logits))
    picked = logits.gather(1, targets[:, None]).squeeze(1)
    lse.copy_(_logsumexp(logits))
    torch.sub(picked, lse, out=logps)


def _into_slopes(
    logits: Tensor,
    targets: Tensor,
    known: list[Tensor],
    upstream: list[Tensor],
    settings: Settings,
) -> None:
    """Logits become d loss / d logits in place, for `upstream` of their statistics."""
    if settings.by_engine:
        _core.logit_slopes(
            array(logits),
            array(targets.contiguous()),
            (settings.softcap, settings.temperature),
            [array(x) for x in known],
            [array(x.contiguous()) for x in upstream],
            torch.get_num_threads(),
        )
        return
    lse, entropy = known
    g_logp, g_lse, g_mean, g_entropy = (x[:, None] for x in upstream)
    factors = g_lse - g_logp
    logits.sub_(lse[:, None])
    if settings.entropy:
        surprise = logits + entropy[:, None]
        factors = surprise.mul_(-g_entropy).add_(factors)
    logits.exp_().mul_(factors).add_(g_mean / logits.shape[1])
    logits.scatter_add_(1, targets[:, None], g_logp)


def _logsumexp(logits: Tensor) -> Tensor:
    """(chunk,) log-sum-exp; overwrites the logits instead of copying them."""
    largest = logits.amax(dim=1, keepdim=True)
    sums = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    return (sums.log() + largest).squeeze(1)


def _entropy(logits: Tensor) -> Tensor:
    """(chunk,) entropy of each row; of terms of one sign, so that nothing cancels."""
    below = logits - logits.amax(dim=1, keepdim=True)
    weights = below.exp()
    sums = weights.sum(dim=1)
    return sums.log() - below.mul_(weights).sum(dim=1) / sums
