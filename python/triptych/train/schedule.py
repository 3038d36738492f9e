"""Learning rates as pure functions of the step.

Steps of a stage count from 1 here: at step n of N the rate is the one that update n
uses, so warm-up never wastes an update at rate 0 and the last one is at the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.config import require_numbers
from triptych.errors import ConfigError

SCHEDULES = ("constant", "linear", "cosine", "wsd", "wsd_sqrt", "inverse_sqrt")


@dataclass(frozen=True, kw_only=True)
class StageSchedule:
    """One stage: its length, and its learning rate from warm-up to floor.

    Attributes:
        schedule: after warm-up, `constant`, `linear`, `cosine` (Loshchilov & Hutter
            2017), `wsd` (warm-up, stable, decay: Hu et al. 2024), `wsd_sqrt` (alike,
            decaying as 1 - sqrt: Haegele et al. 2024, eq. 2), or `inverse_sqrt`
            (Vaswani et al. 2017, eq. 3; its floor is `min_lr_ratio` all the same).
        decay_ratio: share of the steps behind warm-up in which `wsd` and `wsd_sqrt`
            decay.
    """

    name: str
    steps: int
    max_lr: float
    min_lr_ratio: float = 0.1  # floor / max_lr (Hoffmann et al. 2022)
    warmup_steps: int = 0
    schedule: str = "cosine"
    decay_ratio: float = 0.2  # Haegele et al. 2024, figure 5

    def __post_init__(self) -> None:
        require_numbers(self)
        self._check("steps", self.steps > 0, "at least 1", self.steps)
        self._check("max_lr", self.max_lr > 0, "above 0", self.max_lr)
        for name in ("min_lr_ratio", "decay_ratio"):
            value = getattr(self, name)
            self._check(name, 0.0 <= value <= 1.0, "between 0 and 1", value)
        fits = 0 <= self.warmup_steps <= self.steps
        self._check("warmup_steps", fits, f"at most {self.steps}", self.warmup_steps)
        known = self.schedule in SCHEDULES
        self._check("schedule", known, f"one of {SCHEDULES}", self.schedule)

    def _check(self, name: str, good: bool, expected: str, found: object) -> None:
        if not good:
            raise ConfigError(
                f"stage `{self.name}`: {name}: expected {expected}, found {found!r}"
            )

    def lr(self, step: int) -> float:
        """Learning rate of step 1 to `steps` of this stage."""
        if step < self.warmup_steps:
            return self.max_lr * step / self.warmup_steps
        length = max(self.steps - self.warmup_steps, 1)
        progress = min((step - self.warmup_steps) / length, 1.0)
        floor = self.min_lr_ratio * self.max_lr
        return floor + (self.max_lr - floor) * self._height(progress)

    def _height(self, progress: float) -> float:
        """Share in [0, 1] of the way from floor to peak, after warm-up."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "linear":
            return 1.0 - progress
        if self.schedule == "cosine":
            return cosine(progress)
        if self.schedule == "inverse_sqrt":
            return self._inverse_sqrt(progress)
        remaining = 1.0
        if self.decay_ratio:
            remaining = min(1.0, (1.0 - progress) / self.decay_ratio)
        if self.schedule == "wsd_sqrt":
            return 1.0 - math.sqrt(1.0 - remaining)
        return remaining

    def _inverse_sqrt(self, progress: float) -> float:
        """Root of the end of warm-up over the step; at least step 1 is its end."""
        end = max(self.warmup_steps, 1)
        step = self.warmup_steps + progress * (self.steps - self.warmup_steps)
        return math.sqrt(end / max(step, end))


def cosine(progress: float) -> float:
    """Half a cosine: 1 at progress 0, 0 at progress 1."""
    return (1.0 + math.cos(math.pi * progress)) / 2.0


def warmup_cosine(
    step: int, *, max_lr: float, min_lr: float, warmup_steps: int, max_steps: int
) -> float:
    """`max_lr * step / warmup_steps` in warm-up, then cosine to `min_lr`, then that."""
    if step < warmup_steps:
        return max_lr * step / warmup_steps
    progress = min((step - warmup_steps) / max(max_steps - warmup_steps, 1), 1.0)
    return min_lr + (max_lr - min_lr) * cosine(progress)


def stage_at(stages: Sequence[StageSchedule], step: int) -> tuple[int, int]:
    """Index of the stage that `step` (from 0) falls in, and its step there (from 0)."""
    for index, stage in enumerate(stages):
        if step < stage.steps:
            return index, step
        step -= stage.steps
    raise ConfigError(
        f"step: expected one inside the stages, found {step} past the end"
    )
