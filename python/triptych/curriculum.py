"""The curriculum: pre-training as a table of stages.

A stage is one object: which data in which proportions, how long, at what learning
rate, batch and sequence length. The founding curriculum is `CURRICULUM`; a run's own
is the `[[stage]]` table of its configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from triptych.errors import ConfigError


class TrainingStage(str, Enum):
    """The four stages of pre-training, in order."""

    FOUNDATION = "foundation"
    KNOWLEDGE = "knowledge"
    REASONING = "reasoning"
    SYNTHESIS = "synthesis"


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a curriculum.

    Attributes:
        stage: its name; a `TrainingStage` (which is a str) for the founding four.
        data_fraction: share of the curriculum's tokens, in (0, 1].
        learning_rate: peak learning rate of the stage.
        batch_size: sequences a step.
        steps: duration in optimiser steps.
        seq_len: tokens of a sequence; None takes the run's.
        mixture: weight of each source by name; empty means all sources alike.
        schedule: shape of the learning rate within the stage.
        warmup_steps: linear rise at its start.
        min_lr_ratio: learning rate at its end as a share of the peak.
    """

    stage: str
    data_fraction: float
    learning_rate: float
    batch_size: int
    steps: int
    seq_len: int | None = None
    mixture: Mapping[str, float] = field(default_factory=dict)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "constant"
    warmup_steps: int = 0
    min_lr_ratio: float = 1.0

    def __post_init__(self) -> None:
        """Checks every bound once, at birth."""
        _check(
            0 < self.data_fraction <= 1,
            "data_fraction",
            "in (0, 1]",
            self.data_fraction,
        )
        _check(
            _positive(self.learning_rate), "learning_rate", "> 0", self.learning_rate
        )
        _check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
        _check(self.steps >= 1, "steps", ">= 1", self.steps)
        _check(
            self.seq_len is None or self.seq_len >= 2, "seq_len", ">= 2", self.seq_len
        )
        _check(
            0 <= self.warmup_steps <= self.steps,
            "warmup_steps",
            f"in [0, steps = {self.steps}]",
            self.warmup_steps,
        )
        _check(
            0 <= self.min_lr_ratio <= 1, "min_lr_ratio", "in [0, 1]", self.min_lr_ratio
        )
        for name, weight in self.mixture.items():
            _check(_positive(weight), f"mixture.{name}", "> 0", weight)

    @property
    def name(self) -> str:
        """The stage's name as a plain string."""
        return self.stage.value if isinstance(self.stage, TrainingStage) else self.stage


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _check(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise ConfigError(f"{name}: expected {expected}, found {found}")


# Founding design, table "Curriculum": 512 sequences a step, a million steps in all.
CURRICULUM: tuple[StageConfig, ...] = (
    StageConfig(
        stage=TrainingStage.FOUNDATION,
        data_fraction=0.40,
        learning_rate=3e-4,
        batch_size=512,
        steps=400_000,
    ),
    StageConfig(
        stage=TrainingStage.KNOWLEDGE,
        data_fraction=0.30,
        learning_rate=2e-4,
        batch_size=512,
        steps=300_000,
    ),
    StageConfig(
        stage=TrainingStage.REASONING,
        data_fraction=0.20,
        learning_rate=1.5e-4,
        batch_size=512,
        steps=200_000,
    ),
    StageConfig(
        stage=TrainingStage.SYNTHESIS,
        data_fraction=0.10,
        learning_rate=1e-4,
        batch_size=512,
        steps=100_000,
    ),
)


def stage_at(step: int, curriculum: Sequence[StageConfig]) -> StageConfig:
    """The stage in which `step` falls; past the end the curriculum starts again.

    Raises:
        ValueError: for a negative step or an empty curriculum.
    """
    if step < 0 or not curriculum:
        raise ValueError(
            f"expected a step >= 0 and a stage, found step {step} of {len(curriculum)} stages"
        )
    offset = step % sum(stage.steps for stage in curriculum)
    for stage in curriculum:
        if offset < stage.steps:
            return stage
        offset -= stage.steps
    raise AssertionError("the offset is below the sum of the stages' steps")


def get_curriculum_lr(
    step: int, curriculum: Sequence[StageConfig] = CURRICULUM
) -> float:
    """Learning rate of the stage in which `step mod total` falls (founding design)."""
    return stage_at(step, curriculum).learning_rate
