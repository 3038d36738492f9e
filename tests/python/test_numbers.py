"""Numbers from Python that are none, or too large: a sentence names the argument."""

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import triptych
from small_shards import write_sources
from tiny import tiny_model
from triptych.config import require_numbers
from triptych.curriculum import BatchRamp
from triptych.errors import ConfigError
from triptych.generation import Sampling
from triptych.language_model import LanguageModel
from triptych.model.shape import ModelShape
from triptych.train import OptimizerConfig, StageSchedule
from triptych.train.averaging import AverageConfig
from triptych.train.parallel import ParallelConfig

SETTINGS = [
    triptych.GenerateConfig(model="m", prompts=("a",)),
    triptych.ChatConfig(model="m"),
    triptych.EvalConfig(model="m"),
    triptych.InspectConfig(run="r", step=0),
    triptych.VerifyConfig(folder="f", resume_at=1),
    triptych.AverageRunConfig(run="r", output="o", last=1),
    triptych.DemoConfig(),
    triptych.PreTrainingConfig(),
    triptych.StageConfig(stage="s", learning_rate=1e-3, steps=1, batch_size=1),
    triptych.PretrainConfig(
        output="o",
        tokenizer="t",
        sources={"web": "w"},
        model=ModelShape(size="10m"),
        tokens=10**7,
    ),
    BatchRamp(first=1, steps=1),
    OptimizerConfig(),
    ParallelConfig(),
    StageSchedule(name="s", steps=1, max_lr=1.0),
    AverageConfig(beta=0.5),
]
NUMBERS = [
    pytest.param(settings, field.name, id=f"{type(settings).__name__}.{field.name}")
    for settings in SETTINGS
    for field in fields(settings)
    if field.type in ("int", "float", "int | None", "float | None")
]


@pytest.mark.parametrize(("settings", "name"), NUMBERS)
def test_a_setting_that_is_no_number_is_named(settings, name):
    for value in ("3", True, math.nan, 10**400, [], 1.5j):
        if value == 10**400 and "float" not in type_of(settings, name):
            continue
        with pytest.raises(ConfigError, match=name):
            replace(settings, **{name: value})
    if "None" not in type_of(settings, name):
        with pytest.raises(ConfigError, match=f"{name}: expected"):
            replace(settings, **{name: None})
    if "int" in type_of(settings, name):
        with pytest.raises(ConfigError, match=f"{name}: expected int, found float"):
            replace(settings, **{name: 1.0})


def type_of(settings, name):
    return next(str(field.type) for field in fields(settings) if field.name == name)


def test_numbers_of_numpy_are_numbers():
    require_numbers(StageSchedule(name="s", steps=np.int64(3), max_lr=np.float32(1)))


@pytest.mark.parametrize("windows", [3, [3], [(1, None)], [(1.5, 2)], "ab"])
def test_windows_that_are_no_pairs_of_numbers_are_named(windows):
    with pytest.raises(ConfigError, match="skip"):
        replace(SETTINGS[9], skip=windows)


@pytest.mark.parametrize(
    "call",
    [
        lambda: triptych.FlashAttentionBlock(8, 0, 16),
        lambda: triptych.FlashAttentionBlock(8, -1, 16),
        lambda: triptych.FlashAttentionBlock(0, 1, 16),
        lambda: triptych.FlashAttentionBlock(8, 2, -1),
        lambda: triptych.FlashAttentionBlock(2**63, 2, 8),
        lambda: triptych.FlashAttentionBlock("8", 2, 8),
        lambda: triptych.FlashAttentionBlock(8, 2, 8, dropout=None),
        lambda: triptych.PreTrainingConfig(d_model=-1),
        lambda: triptych.PreTrainingConfig(vocab_size=0),
        lambda: triptych.get_curriculum_lr(math.nan),
        lambda: triptych.get_curriculum_lr(None),
        lambda: triptych.chinchilla_loss(10**400, 1e9),
        lambda: triptych.chinchilla_loss(None, 1e9),
        lambda: Sampling(temperature=10**400),
        lambda: Sampling(top_k=True),
    ],
)
def test_an_argument_out_of_range_is_a_sentence(call):
    with pytest.raises(ValueError, match="expected"):
        call()


@pytest.mark.parametrize(
    "input_ids",
    [
        [1, 2],
        torch.tensor([1, 97]),
        torch.tensor([[0, -1]]),
        torch.tensor([1.0]),
        torch.tensor([True]),
    ],
)
def test_ids_that_are_none_of_the_model_are_refused(input_ids):
    model = LanguageModel(tiny_model(), Path())
    with pytest.raises(ConfigError, match="expected an int64 tensor of ids from 0 to"):
        model.logits(input_ids)
    assert model.logits(torch.tensor([0, 96])).shape == (2, 97)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("tokens"), web=[[7, 8, 9]] * 8) / "web"


def order(shards, **limits):
    stage = {"name": "s", "steps": 2, "rows_per_step": 1, "seq_len": 8}
    stages = [{**stage, "weights": {"web": 1.0}}]
    return triptych.Order([("web", str(shards))], stages, 0, **limits)


@pytest.mark.parametrize("step", [2, 2**63, -1, 2**64])
def test_a_step_that_there_is_not_has_no_data(shards, step):
    found = order(shards)
    assert [found.data_step(x) for x in range(2)] == [0, 1]
    with pytest.raises(ConfigError, match="expected 0"):
        found.data_step(step)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_hash_that_64_bits_do_not_hold_is_refused(number):
    for arguments in ((number, 0), (0, number)):
        with pytest.raises(ConfigError, match="expected 0 or more"):
            triptych.Order.roll(*arguments)


def test_passes_that_no_float_holds_are_refused(shards):
    with pytest.raises(ConfigError, match="expected"):
        order(shards, max_epochs={"web": 10**400})
