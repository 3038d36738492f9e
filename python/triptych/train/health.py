"""Whether a step may be trusted: losses and gradient norms beside those before them.

A fault is found before the update, which is then left out; parameters and moments never
see it (0 * NaN is NaN, so a factor of 0 would not do).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SPIKE_WINDOW_STEPS = 128  # OLMo 2's skip-step optimiser looks back as far

# A spread of nearly nothing, as on one batch over and over, would call rounding a spike:
# 6 sigma are at least 6 % of the mean.
MIN_RELATIVE_DEVIATION = 0.01


@dataclass(frozen=True)
class Reading:
    """What a step computed before its update.

    Attributes:
        loss: divided by the count of the step.
        grad_norm: of the gradient, before it is clipped.
    """

    loss: float
    grad_norm: float

    @property
    def is_finite(self) -> bool:
        """Whether an update by it would leave finite parameters."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)

    def as_json(self) -> dict[str, float | None]:
        """Both numbers, or null for what is not finite."""
        return {"loss": finite(self.loss), "grad_norm": finite(self.grad_norm)}


def finite(value: float | None) -> float | None:
    """The number, or None, as JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether there is neither NaN nor infinity among their numbers; each is read once."""
    found = [x for x in tensors if x.is_floating_point() and x.numel()]
    ends: dict[torch.device, list[Tensor]] = {}
    for x in found:
        ends.setdefault(x.device, []).extend(y.float() for y in x.detach().aminmax())
    return all(bool(torch.stack(x).isfinite().all()) for x in ends.values())


class SpikeWatch:
    """The readings of the last steps; small enough to save."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        window = SPIKE_WINDOW_STEPS
        self.losses: deque[float] = deque(state.get("losses", ()), window)
        self.grad_norms: deque[float] = deque(state.get("grad_norms", ()), window)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"losses": list(self.losses), "grad_norms": list(self.grad_norms)}

    def fault(self, reading: Reading, sigmas: float | None) -> str | None:
        """`not_finite`, `loss_spike`, `grad_norm_spike`, or None for a good reading.

        A loss above its limit is a spike also where its gradient overflows: under fp16
        that would else pass for an overflow of the scale, and nobody would name it.
        """
        limits = self.limits(sigmas)
        if math.isfinite(reading.loss) and reading.loss > limits.loss:
            return "loss_spike"
        if not reading.is_finite:
            return "not_finite"
        return "grad_norm_spike" if reading.grad_norm > limits.grad_norm else None

    def limits(self, sigmas: float | None) -> Reading:
        """The highest loss and norm that are no spikes; infinite where any will do."""
        if sigmas is None:
            return Reading(math.inf, math.inf)
        return Reading(
            spike_limit(self.losses, sigmas), spike_limit(self.grad_norms, sigmas)
        )

    def add(self, reading: Reading) -> None:
        """Takes a reading in; spikes too, so that a new level is soon an accepted one."""
        if reading.is_finite:
            self.losses.append(reading.loss)
            self.grad_norms.append(reading.grad_norm)


def spike_limit(past: Sequence[float], sigmas: float) -> float:
    """`sigmas` deviations above the mean of a full window; infinite before it is full."""
    if len(past) < SPIKE_WINDOW_STEPS:
        return math.inf
    mean = math.fsum(past) / len(past)
    variance = math.fsum((x - mean) ** 2 for x in past) / (len(past) - 1)
    deviation = max(math.sqrt(variance), MIN_RELATIVE_DEVIATION * abs(mean))
    return mean + sigmas * deviation
