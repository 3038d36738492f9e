"""The curriculum: pre-training as a table of stages.

A stage is one object: which data in which proportions, how long, at what learning
rate, batch and sequence length. The founding curriculum is `CURRICULUM`; a run's own
is the `[[stage]]` table of its configuration.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import Literal

from triptych.config import require_numbers
from triptych.errors import ConfigError

ScheduleName = Literal[
    "constant", "linear", "cosine", "wsd", "wsd_sqrt", "inverse_sqrt"
]


class TrainingStage(str, Enum):
    """The four stages of pre-training, in order."""

    FOUNDATION = "foundation"
    KNOWLEDGE = "knowledge"
    REASONING = "reasoning"
    SYNTHESIS = "synthesis"


@dataclass(frozen=True, kw_only=True)
class ExitCondition:
    """When a stage ends before its last step; either condition is enough.

    Attributes:
        loss_below: the mean loss of the last `window_steps`, in nats a token, is less.
        no_gain_steps: that mean has not fallen by `min_gain` for so many steps.
        min_gain: the least fall, in nats a token, that counts.
        window_steps: steps of the mean, all of this stage.
    """

    loss_below: float | None = None
    no_gain_steps: int | None = None
    min_gain: float = 1e-3  # our choice, not measured
    window_steps: int = 50  # likewise

    def __post_init__(self) -> None:
        """Checks every bound once, at birth."""
        require_numbers(self)
        named = self.loss_below is not None or self.no_gain_steps is not None
        _check(named, "exit", "`loss_below` or `no_gain_steps`", "neither")
        _check(self.window_steps >= 1, "window_steps", ">= 1", self.window_steps)
        _check(self.min_gain >= 0, "min_gain", ">= 0", self.min_gain)
        steps = self.no_gain_steps
        _check(steps is None or steps >= 1, "no_gain_steps", ">= 1", steps)


@dataclass(frozen=True, kw_only=True)
class BatchRamp:
    """A batch that grows over the first steps of a stage, as in Brown et al. 2020.

    It grows evenly (their section 2.3) in multiples of `first`, so that a number of
    processes that divides the first batch divides all.

    Attributes:
        first: rows of the stage's first steps; a divisor of its batch.
        steps: after so many the batch is whole.
    """

    first: int
    steps: int

    def __post_init__(self) -> None:
        require_numbers(self)
        _check(self.first >= 1, "first", ">= 1", self.first)
        _check(self.steps >= 1, "steps", ">= 1", self.steps)

    def rows(self, step: int, batch_size: int) -> int:
        """Rows of `step` of the stage, from 0: `first` times 1, 2, … up to the batch."""
        levels = batch_size // self.first
        risen = (levels - 1) * min(step, self.steps) // self.steps
        return self.first * (1 + risen)

    def begins(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """(first step, rows) of each run of steps of one batch."""
        rises = max(batch_size // self.first - 1, 1)
        rises = min(rises, self.steps)  # where it grows at every step, by more at once
        for rise in range(rises + 1):
            start = -(-rise * self.steps // rises)
            yield start, self.rows(start, batch_size)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a curriculum: a `[[stage]]` table.

    Its length is `steps`, or `tokens`, or else `data_fraction` of the run's tokens;
    its batch `batch_size`, or `batch_tokens`. `resolved` turns all of them into
    `steps` and `batch_size`.

    Attributes:
        stage: its name; a `TrainingStage` (which is a str) for the founding four.
        learning_rate: peak learning rate of the stage.
        data_fraction: share of the curriculum's tokens, in (0, 1].
        steps: duration in optimiser steps.
        tokens: duration in slots of rows, rounded up to whole steps.
        batch_size: sequences a step.
        batch_tokens: slots a step, rounded to whole sequences.
        batch_ramp: a smaller batch at the start of the stage; the learning rate goes
            by steps all the same.
        seq_len: tokens of a sequence; None takes the run's.
        mixture: weight of each source by name; empty means all sources alike.
        ramp_steps: first steps, in which the mixture moves here from the stage before's.
        packing: how documents are laid into rows: `best-fit` (only those longer than
            a row are cut), `concat` or `bos-aligned` (every row full, more cuts).
        schedule: shape of the learning rate within the stage.
        warmup_steps: linear rise at its start.
        min_lr_ratio: learning rate at its end as a share of the peak; None for 1 where
            it is constant, and else a tenth (Hoffmann et al. 2022).
        decay_ratio: share of the steps behind warm-up in which `wsd` and `wsd_sqrt`
            decay.
        exit: when the stage ends before its last step.
        evaluation: evaluation sets read at its end; None reads all of the run's.
    """

    stage: str
    learning_rate: float
    data_fraction: float | None = None
    steps: int | None = None
    tokens: int | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    batch_ramp: BatchRamp | None = None
    seq_len: int | None = None
    mixture: Mapping[str, float] = field(default_factory=dict)
    ramp_steps: int = 0
    packing: Literal["best-fit", "concat", "bos-aligned"] = "best-fit"
    schedule: ScheduleName = "constant"
    warmup_steps: int = 0
    min_lr_ratio: float | None = None
    decay_ratio: float = 0.2  # Haegele et al. 2024, figure 5
    exit: ExitCondition | None = None
    evaluation: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks every bound once, at birth."""
        rate, length = self.learning_rate, self.seq_len
        _check(_positive(rate), "learning_rate", "> 0", rate)
        require_numbers(self)
        self._check_duration()
        _one_of("batch", batch_size=self.batch_size, batch_tokens=self.batch_tokens)
        ratio = self.floor_ratio
        _check(length is None or length >= 2, "seq_len", ">= 2", length)
        _check(0 <= ratio <= 1, "min_lr_ratio", "in [0, 1]", ratio)
        _check(0 <= self.decay_ratio <= 1, "decay_ratio", "in [0, 1]", self.decay_ratio)
        self._check_parts()
        for name, weight in self.mixture.items():
            _check(_positive(weight), f"mixture.{name}", "> 0", weight)

    def _check_duration(self) -> None:
        fraction = self.data_fraction
        if fraction is None:
            _one_of("duration", steps=self.steps, tokens=self.tokens)
            return
        _check(0 < fraction <= 1, "data_fraction", "in (0, 1]", fraction)
        if self.steps is not None or self.tokens is not None:
            _one_of("duration", steps=self.steps, tokens=self.tokens)

    def _check_parts(self) -> None:
        """Warm-up and ramp lie within the stage, once its steps are known."""
        for name in ("warmup_steps", "ramp_steps"):
            value = getattr(self, name)
            _check(value >= 0, name, ">= 0", value)
            fits = self.steps is None or value <= self.steps
            _check(fits, name, f"in [0, steps = {self.steps}]", value)
        if self.batch_ramp is not None and self.batch_size is not None:
            self._check_batch_ramp(self.batch_ramp, self.batch_size)

    def _check_batch_ramp(self, ramp: BatchRamp, batch_size: int) -> None:
        divides = batch_size % ramp.first == 0
        name = "batch_ramp.first"
        _check(divides, name, f"a divisor of batch_size = {batch_size}", ramp.first)
        fits = self.steps is None or ramp.steps <= self.steps
        _check(fits, "batch_ramp.steps", f"at most steps = {self.steps}", ramp.steps)
        _, (most, _) = islice(ramp.begins(batch_size), 2)
        few = self.ramp_steps <= most
        expected = f"at most {most}, the steps before the batch first grows,"
        _check(few, "ramp_steps", expected, self.ramp_steps)

    @property
    def name(self) -> str:
        """The stage's name as a plain string."""
        return self.stage.value if isinstance(self.stage, TrainingStage) else self.stage

    @property
    def floor_ratio(self) -> float:
        """Learning rate at the stage's end as a share of the peak."""
        if self.min_lr_ratio is not None:
            return self.min_lr_ratio
        return 1.0 if self.schedule == "constant" else 0.1

    @property
    def num_steps(self) -> int:
        """Optimiser steps, once they are known."""
        return self._known("steps", self.steps)

    @property
    def rows_per_step(self) -> int:
        """Sequences a step, once they are known; the most, where they grow."""
        return self._known("batch_size", self.batch_size)

    def batches(self) -> list[tuple[int, int]]:
        """(steps, rows a step) of the stage, in order: one pair without a ramp."""
        starts = [(0, self.rows_per_step)]
        if self.batch_ramp is not None:
            starts = list(self.batch_ramp.begins(self.rows_per_step))
        starts = [x for x in starts if x[0] < self.num_steps]
        ends = [start for start, _ in starts[1:]] + [self.num_steps]
        return [(end - x, rows) for (x, rows), end in zip(starts, ends, strict=True)]

    @property
    def num_rows(self) -> int:
        """Rows of all steps of the stage, once they are known."""
        return sum(steps * rows for steps, rows in self.batches())

    def _known(self, name: str, value: int | None) -> int:
        if value is None:
            raise ConfigError(
                f"stage `{self.name}`: expected `{name}`, found a stage that is not "
                "resolved: call `resolved` first"
            )
        return value

    def resolved(self, seq_len: int, run_tokens: int | None = None) -> StageConfig:
        """The same stage with `seq_len`, `steps` and `batch_size` in numbers.

        Args:
            seq_len: of the run, where the stage has none.
            run_tokens: of all stages, where the stage has only a `data_fraction`.

        Raises:
            ConfigError: a batch of less than one sequence, or no length at all.
        """
        length = self.seq_len or seq_len
        batch_size = self.batch_size or self._rows_of(length)
        steps = self.steps or self._steps_of(batch_size, length, run_tokens)
        return dataclasses.replace(
            self,
            seq_len=length,
            steps=steps,
            tokens=None,
            batch_size=batch_size,
            batch_tokens=None,
        )

    def _rows_of(self, seq_len: int) -> int:
        tokens = self.batch_tokens or 0
        enough = tokens >= seq_len
        _check(enough, "batch_tokens", f">= seq_len = {seq_len}", tokens)
        return round(tokens / seq_len)

    def _steps_of(self, batch_size: int, seq_len: int, run_tokens: int | None) -> int:
        tokens = self.tokens
        if tokens is None and run_tokens is not None and self.data_fraction is not None:
            tokens = round(self.data_fraction * run_tokens)
        if tokens is None:
            raise ConfigError(
                f"stage `{self.name}`: expected `steps`, `tokens`, or `tokens` of the "
                "run to take `data_fraction` of, found none of them"
            )
        rows = math.ceil(tokens / seq_len)
        if self.batch_ramp is None:
            return max(1, math.ceil(rows / batch_size))
        ramp = dataclasses.replace(
            self,
            steps=self.batch_ramp.steps,
            tokens=None,
            data_fraction=None,
            batch_size=batch_size,
            batch_tokens=None,
        )
        _check(
            rows >= ramp.num_rows,
            "batch_ramp.steps",
            f"steps of at most the stage's {rows} rows",
            f"{ramp.num_rows} rows",
        )
        return ramp.num_steps + math.ceil((rows - ramp.num_rows) / batch_size)


def _one_of(what: str, **values: int | None) -> None:
    """Exactly one of the values is given, and is at least 1."""
    given = {name: value for name, value in values.items() if value is not None}
    names = " or ".join(f"`{name}`" for name in values)
    found = " and ".join(f"`{name}`" for name in given) or "neither"
    _check(len(given) == 1, what, f"one of {names}", found)
    for name, value in given.items():
        _check(value >= 1, name, ">= 1", value)


def _positive(value: float) -> bool:
    return isinstance(value, Real) and 0 < value <= sys.float_info.max


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


WARMUP_STEPS = 2_000  # founding design, `PreTrainingConfig`: of a million steps


def scaled_curriculum(
    *, tokens: int, batch_tokens: int, learning_rate: float, seq_len: int
) -> tuple[StageConfig, ...]:
    """The founding four at the size of a run: same shares, same ratios of rates.

    The rate of a stage moves in a straight line to the next one's, the last one's to
    a tenth (Hoffmann et al. 2022), and the first rises over as small a share of the
    run as the founding warm-up is of its million steps, at least ten steps.

    Args:
        tokens: slots of all stages together.
        batch_tokens: slots a step.
        learning_rate: peak of the first stage.
        seq_len: tokens of a row.
    """
    peak = CURRICULUM[0].learning_rate
    rates = [stage.learning_rate / peak for stage in CURRICULUM] + [
        CURRICULUM[-1].learning_rate / peak / 10
    ]
    stages = [
        StageConfig(
            stage=stage.stage,
            data_fraction=stage.data_fraction,
            learning_rate=learning_rate * rates[index],
            batch_tokens=batch_tokens,
            schedule="linear",
            min_lr_ratio=rates[index + 1] / rates[index],
        ).resolved(seq_len, tokens)
        for index, stage in enumerate(CURRICULUM)
    ]
    total = sum(stage.num_steps for stage in stages)
    share = WARMUP_STEPS / sum(stage.num_steps for stage in CURRICULUM)
    warmup = min(max(10, round(share * total)), stages[0].num_steps)
    return (dataclasses.replace(stages[0], warmup_steps=warmup), *stages[1:])


def stage_at(step: int, curriculum: Sequence[StageConfig]) -> StageConfig:
    """The stage in which `step` falls; past the end the curriculum starts again.

    Raises:
        ValueError: for a negative step or an empty curriculum.
    """
    if not isinstance(step, Integral) or step < 0 or not curriculum:
        raise ValueError(
            f"expected a step >= 0 and a stage, found step {step!r:.60} of "
            f"{len(curriculum)} stages"
        )
    offset = step % sum(stage.num_steps for stage in curriculum)
    for stage in curriculum:
        if offset < stage.num_steps:
            return stage
        offset -= stage.num_steps
    raise AssertionError("the offset is below the sum of the stages' steps")


def get_curriculum_lr(
    step: int, curriculum: Sequence[StageConfig] = CURRICULUM
) -> float:
    """Learning rate of the stage in which `step mod total` falls (founding design)."""
    return stage_at(step, curriculum).learning_rate
