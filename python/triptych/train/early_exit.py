"""When a stage ends before its last step: its losses watched, step by step."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from triptych.config import require_numbers
from triptych.curriculum import ExitCondition


@dataclass(frozen=True, kw_only=True)
class StageExit:
    """An exit condition, and the steps of the stage before which it is not asked.

    Attributes:
        earliest_steps: at least the warm-up and the ramp of the mixture: a ramp that
            was cut would change the rows of steps that are past.
    """

    condition: ExitCondition
    earliest_steps: int = 0

    def __post_init__(self) -> None:
        require_numbers(self)


class ExitWatch:
    """The running mean of a stage's losses, and when it last fell; small enough to save."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.losses: deque[float] = deque(state.get("losses", ()))
        self.best_mean: float | None = state.get("best_mean")
        self.steps_without_gain: int = state.get("steps_without_gain", 0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "losses": list(self.losses),
            "best_mean": self.best_mean,
            "steps_without_gain": self.steps_without_gain,
        }

    def met(self, condition: ExitCondition, loss: float) -> bool:
        """Takes in the loss of a step; whether the stage has done what it can."""
        if math.isfinite(loss):
            self.losses.append(loss)
        while len(self.losses) > condition.window_steps:
            self.losses.popleft()
        if len(self.losses) < condition.window_steps:
            return False
        mean = math.fsum(self.losses) / condition.window_steps
        self._note(mean, condition.min_gain)
        low = condition.loss_below is not None and mean < condition.loss_below
        patience = condition.no_gain_steps
        return low or (patience is not None and self.steps_without_gain >= patience)

    def _note(self, mean: float, min_gain: float) -> None:
        if self.best_mean is None or mean <= self.best_mean - min_gain:
            self.best_mean, self.steps_without_gain = mean, 0
        else:
            self.steps_without_gain += 1
