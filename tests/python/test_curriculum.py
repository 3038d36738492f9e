from __future__ import annotations

import dataclasses

import pytest

from triptych import CURRICULUM, StageConfig, TrainingStage, get_curriculum_lr
from triptych.commands.settings import TrainingSettings, train_config

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
