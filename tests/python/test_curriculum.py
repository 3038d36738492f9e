"""The stage table: rates by step, lengths and batches, and what no stage may be."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from triptych import CURRICULUM, StageConfig, TrainingStage, get_curriculum_lr
from triptych.commands.settings import TrainingSettings, train_config
from triptych.curriculum import scaled_curriculum
from triptych.errors import ConfigError

# (step, learning rate): both ends of every stage, and the return to the first
RATES = [
    (0, 3e-4),
    (399_999, 3e-4),
    (400_000, 2e-4),
    (699_999, 2e-4),
    (700_000, 1.5e-4),
    (899_999, 1.5e-4),
    (900_000, 1e-4),
    (999_999, 1e-4),
    (1_000_000, 3e-4),
]


@pytest.mark.parametrize(("step", "rate"), RATES)
def test_the_learning_rate_is_that_of_the_stage_of_step_modulo_total(step, rate):
    assert get_curriculum_lr(step, CURRICULUM) == rate


def test_the_founding_curriculum_has_four_stages_that_add_up():
    assert [stage.stage for stage in CURRICULUM] == list(TrainingStage)
    assert sum(stage.data_fraction for stage in CURRICULUM) == pytest.approx(1.0)
    assert sum(stage.steps for stage in CURRICULUM) == 1_000_000


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="expected a step >= 0"):
        get_curriculum_lr(-1, CURRICULUM)


BAD_STAGES = [
    ({"steps": 0}, "steps: expected >= 1, found 0"),
    ({"learning_rate": float("nan")}, "learning_rate: expected > 0, found nan"),
    ({"mixture": {"web": -1.0}}, "mixture.web: expected > 0, found -1.0"),
    ({"warmup_steps": 11}, r"warmup_steps: expected in \[0, steps = 10\], found 11"),
    ({"data_fraction": 1.5}, r"data_fraction: expected in \(0, 1\], found 1.5"),
]


@pytest.mark.parametrize(("change", "message"), BAD_STAGES)
def test_an_impossible_stage_is_refused_at_birth(change, message):
    stage = {
        "stage": "x",
        "data_fraction": 1.0,
        "learning_rate": 1e-3,
        "batch_size": 1,
        "steps": 10,
    }
    with pytest.raises(ValueError, match=message):
        StageConfig(**{**stage, **change})


@pytest.mark.parametrize(
    ("schedule", "floor"),
    [("constant", 1.0), ("linear", 0.1), ("cosine", 0.1), ("wsd", 0.1)],
)
def test_a_schedule_that_moves_ends_at_a_tenth_unless_a_stage_says_otherwise(
    schedule, floor
):
    table = {"stage": "a", "learning_rate": 1.0, "batch_size": 1, "steps": 10}
    given = StageConfig(**table, schedule=schedule)
    (stage,) = train_config(TrainingSettings(output="x"), [given]).stages
    assert stage.lr(10) == pytest.approx(floor)
    flat = dataclasses.replace(given, min_lr_ratio=1.0)
    (stage,) = train_config(TrainingSettings(output="x"), [flat]).stages
    assert stage.lr(10) == 1.0


DURATIONS = [
    ({"steps": 10, "batch_size": 8}, (10, 8)),
    ({"tokens": 10_000, "batch_size": 8}, (5, 8)),
    ({"tokens": 10_000, "batch_tokens": 1024}, (10, 4)),
    ({"data_fraction": 0.5, "batch_tokens": 1024}, (49, 4)),
]


@pytest.mark.parametrize(("table", "expected"), DURATIONS)
def test_durations_and_batches_in_tokens_become_steps_and_rows(table, expected):
    resolved = StageConfig(stage="x", learning_rate=1.0, **table).resolved(256, 100_000)
    assert (resolved.num_steps, resolved.rows_per_step) == expected


FAULTY = [
    ({"batch_size": 1}, "duration: expected one of `steps` or `tokens`, found neither"),
    ({"steps": 1, "tokens": 5, "batch_size": 1}, "found `steps` and `tokens`"),
    ({"steps": 1}, "batch: expected one of `batch_size` or `batch_tokens`"),
    ({"steps": 3, "batch_size": 1, "ramp_steps": 4}, r"in \[0, steps = 3\], found 4"),
    ({"steps": 3, "batch_tokens": 100}, "batch_tokens: expected >= seq_len = 256"),
    ({"data_fraction": 0.1, "batch_size": 1}, "`data_fraction` of"),
]


@pytest.mark.parametrize(("table", "message"), FAULTY)
def test_a_stage_without_one_length_and_one_batch_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        StageConfig(stage="x", learning_rate=1.0, **table).resolved(256)


def test_the_founding_curriculum_is_scaled_to_the_tokens_of_a_run():
    stages = scaled_curriculum(
        tokens=1_000_000, batch_tokens=4096, learning_rate=1e-3, seq_len=512
    )
    steps = [stage.num_steps for stage in stages]
    assert steps == [98, 74, 49, 25]
    assert [stage.rows_per_step for stage in stages] == [8] * 4
    rates = [stage.learning_rate for stage in stages]
    founding = [stage.learning_rate for stage in CURRICULUM]
    assert rates == pytest.approx([rate / founding[0] * 1e-3 for rate in founding])
    for stage, after in itertools.pairwise(stages):
        end = stage.learning_rate * stage.floor_ratio
        assert end == pytest.approx(after.learning_rate)
