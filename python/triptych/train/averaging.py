"""Averages of weights: a running one while training, and one of finished checkpoints.

Both take the noise out of the last steps that a decay of the learning rate would take
out, without deciding beforehand where a run ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from triptych.config import require_numbers
from triptych.errors import ConfigError
from triptych.train.schedule import cosine


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """An exponential moving average of the weights; one of the two is given.

    Attributes:
        half_life_steps: updates after which weights count half as much.
        beta: share of the old average in the new one, in (0, 1).
    """

    half_life_steps: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        require_numbers(self)
        if (self.half_life_steps is None) == (self.beta is None):
            found = "neither" if self.beta is None else "both"
            raise ConfigError(
                f"average: expected one of `half_life_steps` and `beta`, found {found}"
            )
        if self.half_life_steps is not None and self.half_life_steps <= 0.0:
            found = repr(self.half_life_steps)
            raise ConfigError(f"half_life_steps: expected above 0, found {found}")
        if self.beta is not None and not 0.0 < self.beta < 1.0:
            raise ConfigError(f"beta: expected in (0, 1), found {self.beta!r}")

    @property
    def log_beta(self) -> float:
        """Logarithm of the share that the old average keeps."""
        if self.half_life_steps is not None:
            return -math.log(2.0) / self.half_life_steps
        assert self.beta is not None
        return math.log(self.beta)

    def share(self, update: int) -> float:
        """Share of the weights of `update` (from 1) in the average.

        (1 - beta) / (1 - beta ** update): the bias that Adam corrects for (Kingma & Ba
        2015, section 3) never arises, as the first weights are the first average and
        those before training have no part in it.
        """
        return math.expm1(self.log_beta) / math.expm1(update * self.log_beta)


class WeightAverage:
    """The running average of weights, by name, float32, on their device.

    Args:
        parameters: by name, those that an optimiser updates; tied ones once.
        config: how far back it looks.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: AverageConfig
    ) -> None:
        self.config = config
        self._parameters = dict(parameters)
        self.weights = {
            name: parameter.detach().float().clone()
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self, updates: int) -> int:
        """Takes the model's weights in, after `updates` before; returns their number."""
        share = self.config.share(updates + 1)
        for name, parameter in self._parameters.items():
            self.weights[name].lerp_(parameter.detach().float(), share)
        return updates + 1

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the average that a checkpoint holds."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the model's weights and the average, bit for bit."""
        for name, parameter in self._parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(held)


@contextmanager
def averaged(average: WeightAverage | None) -> Iterator[None]:
    """Within it the model has its average's weights, where there is one."""
    if average is None:
        yield
        return
    average.swap()
    try:
        yield
    finally:
        average.swap()


# Learning rate, as a share of its peak, at a share in [0, 1] of a decay.
DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "sqrt": lambda progress: 1.0 - math.sqrt(progress),
    "cosine": cosine,
}


def merge_weights(steps: Sequence[int], decay: str) -> list[float]:
    """The weight of each checkpoint in a merge that emulates a decay; they sum to 1.

    Tian et al. 2025 (WSM), theorem 3.1: with w_i the decayed rate between checkpoints
    i - 1 and i of 0 … k, the last counts w_k, the first 1 - w_1, and the others
    w_i - w_(i+1). Rates are those at the ends of these intervals, of a decay that
    would reach 0 one interval behind the last; so `linear` is the plain mean where
    checkpoints are evenly apart.

    Args:
        steps: of the checkpoints, rising; at least one.
        decay: a name of `DECAYS`.

    Raises:
        ConfigError: the name is unknown, or there are no steps that rise.
    """
    if decay not in DECAYS:
        names = ", ".join(f"`{name}`" for name in DECAYS)
        raise ConfigError(f"decay: expected one of {names}, found `{decay}`")
    if not steps or sorted(set(steps)) != list(steps):
        raise ConfigError(f"steps: expected some that rise, found {list(steps)}")
    intervals = len(steps) - 1
    length = (steps[-1] - steps[0]) * (intervals + 1) / max(intervals, 1)
    rates = [DECAYS[decay]((step - steps[0]) / length) for step in steps[1:]]
    ends = [1.0, *rates, 0.0]
    return [before - after for before, after in pairwise(ends)]


def merged(
    parts: Iterator[Mapping[str, Tensor]], shares: Sequence[float]
) -> dict[str, Tensor]:
    """The weighted sum of weights by name, added in float64, as float32."""
    total: dict[str, Tensor] = {}
    for weights, share in zip(parts, shares, strict=True):
        for name, tensor in weights.items():
            part = tensor.double() * share
            total[name] = total[name].add_(part) if name in total else part
    return {name: tensor.float() for name, tensor in total.items()}
