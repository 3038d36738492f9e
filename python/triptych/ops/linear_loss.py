"""Cross-entropy and log-probabilities straight from hidden states.

The public functions of the room: they choose who computes, weigh and reduce. The
arithmetic for a CPU is in `summed_loss` and `token_losses`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from triptych.ops import checks, traced
from triptych.ops.arrays import (
    autocast_dtype,
    dtype_obstacle,
    engine_obstacle,
    is_recorded,
)
from triptych.ops.choice import Obstacles, implementation, kernel
from triptych.ops.chunked import Settings
from triptych.ops.summed_loss import summed_loss
from triptych.ops.token_losses import (
    TokenStatistics,
    token_logps,
    token_losses,
    token_statistics,
)

IGNORE_INDEX = -100


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    gradient_filter: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of `hidden @ weight.T`, without building those logits.

    Args:
        hidden: (tokens, hidden_size).
        weight: (vocab_size, hidden_size).
        targets: (tokens,) int64 or int32 ids, or `ignore_index`: such tokens cost nothing.
        weights: (tokens,) factor of each token's loss, by default 1; they may learn,
            for which logits are computed once more.
        ignore_index: target of tokens that do not count.
        z_loss: adds z_loss * lse ** 2 a token (Chowdhery et al. 2022, section 5).
        label_smoothing: share of the target spread over all ids, as in torch.
        softcap: logits become softcap * tanh(logit / softcap).
        gradient_filter: a probability; our kernel may leave out of the gradient what
            tokens less likely contribute, by whole tiles (Wijmans et al. 2025, section
            4.3). 0, and any on a CPU, is the exact gradient.
        reduction: "sum", "none" ((tokens,), 0 where ignored), or "mean" over the
            tokens that count, whatever their weights.

    Returns:
        A scalar, or (tokens,) for "none", in nats: float32, or float64 where the
        products are, on a CPU.
    """
    _check(hidden, weight, targets, reduction)
    targets = targets.long()
    _check_filter(gradient_filter, label_smoothing)
    _check_costs(weights, targets, z_loss, label_smoothing)
    checks.above_zero("softcap", softcap)
    settings = Settings(autocast_dtype(hidden), softcap, 1.0, z_loss, label_smoothing)
    obstacles = (
        *_chunked_obstacles(reduction, gradient_filter, weights),
        engine_obstacle(dtype_obstacle, hidden, settings.dtype),
    )
    name = implementation("linear_cross_entropy", hidden.device.type, obstacles)
    if _is_compiled(hidden, name):
        numbers = ignore_index, z_loss, label_smoothing, softcap, reduction
        narrow = hidden.to(settings.dtype)
        traced_loss: Tensor = _TRACED_LOSS(narrow, weight, targets, weights, *numbers)
        return traced_loss
    if name in ("cpu", "rust"):
        settings = settings._replace(by_engine=name == "rust")
        return _on_cpu(
            hidden, weight, targets, weights, ignore_index, settings, reduction
        )
    options = {
        "ignore_index": ignore_index,
        "z_loss": z_loss,
        "label_smoothing": label_smoothing,
        "softcap": softcap,
    }
    hidden = hidden.to(settings.dtype)
    if name == "chunked":
        function = kernel("linear_cross_entropy", name)
        total: Tensor = function(hidden, weight, targets, weights, **options)
        return _reduce(total, targets != ignore_index, reduction)
    losses = kernel("linear_cross_entropy", name)(
        hidden,
        weight.to(settings.dtype),
        targets,
        gradient_filter=gradient_filter,
        reduction="none",
        **options,
    )
    losses = losses if weights is None else losses * weights
    return _reduce(losses, targets != ignore_index, reduction)


def _chunked_obstacles(
    reduction: str, gradient_filter: float, weights: Tensor | None
) -> Obstacles:
    if _learn(weights):
        return (("chunked", "it gives weights no gradient"),)
    if reduction == "none":
        return (("chunked", "it keeps no token's loss"),)
    if gradient_filter:
        return (("chunked", "it has no gradient filter"),)
    return ()


def _learn(weights: Tensor | None) -> bool:
    """Whether weights get a gradient, for which each token's loss is needed."""
    return weights is not None and weights.requires_grad and torch.is_grad_enabled()


def _on_cpu(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    ignore_index: int,
    settings: Settings,
    reduction: str,
) -> Tensor:
    counted = targets != ignore_index
    check_ids(targets, counted, weight.shape[0])
    if reduction == "none" or _learn(weights):
        losses = token_losses(hidden, weight, targets, counted, settings)
        losses = losses if weights is None else losses * weights
        return _reduce(losses, counted, reduction)
    total = summed_loss(hidden, weight, targets, counted, weights, settings)
    return total if reduction == "sum" else total / _count(counted)


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    gradient_filter: float = 0.0,
) -> Tensor:
    """Log-probability of each target under `hidden @ weight.T`, in nats.

    Args:
        hidden: (tokens, hidden_size).
        weight: (vocab_size, hidden_size).
        targets: (tokens,) int64 or int32 ids; where it is -100 the result is 0.
        temperature: logits are divided by it, after any soft-cap.
        softcap: logits become softcap * tanh(logit / softcap).
        gradient_filter: as in `linear_cross_entropy`.

    Returns:
        (tokens,) float32; gradients are recomputed chunk by chunk.
    """
    _check(hidden, weight, targets, "none")
    targets = targets.long()
    checks.above_zero("temperature", temperature)
    checks.above_zero("softcap", softcap)
    _check_filter(gradient_filter)
    settings = Settings(autocast_dtype(hidden), softcap, temperature)
    counted = targets != IGNORE_INDEX
    no_rust = engine_obstacle(dtype_obstacle, hidden, settings.dtype)
    name = implementation("linear_logprobs", hidden.device.type, (no_rust,))
    if _is_compiled(hidden, name):
        narrow = hidden.to(settings.dtype)
        found: Tensor = _TRACED_LOGPS(narrow, weight, targets, temperature, softcap)
        return found
    if name in ("cpu", "rust"):
        settings = settings._replace(by_engine=name == "rust")
        check_ids(targets, counted, weight.shape[0])
        return token_logps(hidden, weight, targets, counted, settings)
    logps: Tensor = kernel("linear_logprobs", name)(
        hidden.to(settings.dtype),
        weight.to(settings.dtype),
        targets.masked_fill(~counted, 0),
        temperature=temperature,
        softcap=softcap,
        gradient_filter=gradient_filter,
    )
    return logps.masked_fill(~counted, 0.0)


def linear_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> TokenStatistics:
    """What losses on `hidden @ weight.T` are made of, all of it differentiable.

    Log-probability of the target, log-sum-exp, entropy and mean logit of each token.

    Args:
        hidden: (tokens, hidden_size).
        weight: (vocab_size, hidden_size).
        targets: (tokens,) int64 or int32 ids; where it is -100 all four are 0.
        temperature: logits are divided by it, after any soft-cap.
        softcap: logits become softcap * tanh(logit / softcap).
    """
    _check(hidden, weight, targets, "none")
    targets = targets.long()
    checks.above_zero("temperature", temperature)
    checks.above_zero("softcap", softcap)
    dtype = autocast_dtype(hidden)
    no_rust = engine_obstacle(dtype_obstacle, hidden, dtype)
    name = implementation("linear_statistics", hidden.device.type, (no_rust,))
    if _is_compiled(hidden, name):
        narrow = hidden.to(dtype)
        found = _TRACED_STATISTICS(narrow, weight, targets, temperature, softcap)
        return TokenStatistics(*found)
    if name in ("cpu", "rust"):
        by_engine = name == "rust"
        settings = Settings(
            dtype, softcap, temperature, entropy=True, by_engine=by_engine
        )
        counted = targets != IGNORE_INDEX
        check_ids(targets, counted, weight.shape[0])
        return token_statistics(hidden, weight, targets, counted, settings)
    four = kernel("linear_statistics", name)(
        hidden.to(dtype),
        weight.to(dtype),
        targets,
        temperature=temperature,
        softcap=softcap,
    )
    return TokenStatistics(*four)


def _is_compiled(hidden: Tensor, name: str) -> bool:
    """Whether an operator is to be shown: who compiles or records has no targets."""
    plain = name in ("cpu", "rust") and hidden.device.type == "cpu"
    return plain and (torch.compiler.is_compiling() or is_recorded())


def _loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    ignore_index: int,
    z_loss: float,
    label_smoothing: float,
    softcap: float | None,
    reduction: str,
) -> Tensor:
    return linear_cross_entropy(
        hidden,
        weight,
        targets,
        weights=weights,
        ignore_index=ignore_index,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
        softcap=softcap,
        reduction=reduction,
    )


def _logps(hidden: Tensor, weight: Tensor, targets: Tensor, *numbers: Any) -> Tensor:
    temperature, softcap = numbers
    return linear_logprobs(
        hidden, weight, targets, temperature=temperature, softcap=softcap
    )


def _statistics(
    hidden: Tensor, weight: Tensor, targets: Tensor, *numbers: Any
) -> TokenStatistics:
    temperature, softcap = numbers
    return linear_statistics(
        hidden, weight, targets, temperature=temperature, softcap=softcap
    )


def _rows_of(hidden: Tensor, weight: Tensor, targets: Tensor, *_: Any) -> Tensor:
    wide = torch.promote_types(hidden.dtype, torch.float32)
    return hidden.new_empty(targets.shape, dtype=wide)


def _losses_of(hidden: Tensor, weight: Tensor, targets: Tensor, *others: Any) -> Tensor:
    rows = _rows_of(hidden, weight, targets)
    return rows if others[-1] == "none" else rows.new_empty(())


_INPUTS = "Tensor hidden, Tensor weight, Tensor targets"
_TRACED_LOSS = traced.traced(
    "reduced_cross_entropy",
    f"{_INPUTS}, Tensor? weights, int ignore_index, float z_loss, "
    "float label_smoothing, float? softcap, str reduction",
    1,
    _loss,
)
_LOGITS = f"{_INPUTS}, float temperature, float? softcap"
_TRACED_LOGPS = traced.traced("token_logprobs", _LOGITS, 1, _logps)
_TRACED_STATISTICS = traced.traced("token_statistics", _LOGITS, 4, _statistics)
traced.shapes_of(_TRACED_LOSS, _losses_of)
traced.shapes_of(_TRACED_LOGPS, _rows_of)
traced.shapes_of(_TRACED_STATISTICS, lambda *x: tuple(_rows_of(*x) for _ in range(4)))


def _reduce(losses: Tensor, counted: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / _count(counted)


def _count(counted: Tensor) -> int | Tensor:
    if counted.is_meta:  # there are no numbers, but a shape
        return 1
    if torch.compiler.is_compiling() or is_recorded():
        found: Tensor = _COUNT(counted)
        return found
    return _number(counted)


def _number(counted: Tensor) -> int:
    count = int(counted.sum())
    if count == 0:
        raise ValueError("targets: expected at least one that counts, found none")
    return count


# A number on the host would break a graph of torch.compile: on a GPU all else is operators.
_COUNT = traced.opaque(
    "count_of_targets",
    "(Tensor counted) -> Tensor",
    lambda counted: torch.full((), _number(counted), device=counted.device),
    lambda counted: counted.new_empty((), dtype=torch.int64),
)


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, reduction: str) -> None:
    fits = (
        hidden.dim() == 2 and weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    )
    if not fits or targets.shape != hidden.shape[:1]:
        raise ValueError(
            "expected hidden (tokens, hidden_size), weight (vocab_size, hidden_size) "
            f"and targets (tokens,), found {tuple(hidden.shape)}, "
            f"{tuple(weight.shape)} and {tuple(targets.shape)}"
        )
    checks.integers("targets", targets, "(tokens,)")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f'reduction: expected "mean", "sum" or "none", found "{reduction}"'
        )


def _check_costs(
    weights: Tensor | None, targets: Tensor, z_loss: float, label_smoothing: float
) -> None:
    if weights is not None and weights.shape != targets.shape:
        raise ValueError(
            f"weights: expected {tuple(targets.shape)}, one a token, found "
            f"{tuple(weights.shape)}"
        )
    checks.at_least_zero("z_loss", z_loss)
    checks.share("label_smoothing", label_smoothing, whole=True)


def _check_filter(gradient_filter: float, label_smoothing: float = 0.0) -> None:
    if gradient_filter and label_smoothing:
        raise ValueError(
            "gradient_filter: expected 0 with label_smoothing, which gives every logit a "
            f"gradient, found {gradient_filter}"
        )
    if not 0.0 <= gradient_filter < 1.0:
        raise ValueError(
            f"gradient_filter: expected a probability below 1, found {gradient_filter}"
        )


def check_ids(targets: Tensor, counted: Tensor, vocab_size: int) -> None:
    """Refuses ids of tokens that count but that the vocabulary does not have."""
    outside = counted & ((targets < 0) | (targets >= vocab_size))
    if bool(outside.any()):
        raise ValueError(
            f"targets: expected ids below {vocab_size}, found "
            f"{int(targets[outside][0])}"
        )
