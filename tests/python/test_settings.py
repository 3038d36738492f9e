"""Settings of the training commands: one definition, three doors."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import subprocess
import sys
import typing

import pytest

from triptych import cli, config
from triptych.commands.dpo import DpoConfig, dpo
from triptych.commands.pretrain import PretrainConfig
from triptych.commands.settings import TrainingSettings, train_config
from triptych.commands.sft import SftConfig, sft
from triptych.curriculum import ExitCondition, StageConfig
from triptych.errors import ConfigError
from triptych.founding import PreTrainingConfig
from triptych.language_model import use_threads
from triptych.model.shape import ModelShape, RopeScaling
from triptych.settings_help import describe, documented
from triptych.train import (
    AverageConfig,
    DpoObjective,
    OptimizerConfig,
    PretrainObjective,
    ReferenceLogps,
    StageSchedule,
    TrainConfig,
)

COMMANDS = {"pretrain": PretrainConfig, "sft": SftConfig, "dpo": DpoConfig}
STAGE = [StageConfig(stage="only", learning_rate=1.0, batch_size=1, steps=1)]


def smallest(kind):
    """Settings of a command with nothing given that has a default."""
    needed = {
        "output": "runs/x",
        "tokenizer": "tokenizer.json",
        "sources": {},
        "model": {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1},
        "stage": [{"stage": "a", "learning_rate": 1.0, "batch_size": 1, "steps": 1}],
    }
    others = {"output": "x", "model": "x", "conversations": [], "preferences": []}
    wanted = needed if kind is PretrainConfig else others
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in wanted.items() if name in names}


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_every_command_hands_all_its_shared_settings_to_the_trainer(kind):
    given = {
        "optimizer": {"name": "muon", "beta2": 0.9},
        "micro_batch_rows": 3,
        "precision": "bf16",
        "recompute": "full",
        "checkpoint_every_steps": 7,
        "keep_checkpoints": 5,
        "keep_every_steps": 21,
        "async_checkpoints": True,
        "seed": 4,
        "clip_norm": 0.5,
        "spike_sigmas": 9.0,
        "max_bad_steps": 11,
        "max_rewinds": 1,
        "tensorboard": False,
    }
    settings = config.from_mapping(kind, {**smallest(kind), **given})
    found = train_config(settings, STAGE)
    assert found.optimizer == settings.optimizer
    for name in given.keys() - {"optimizer"}:
        assert getattr(found, name) == given[name], name


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_zero_turns_clipping_and_spikes_off(kind):
    off = {"clip_norm": 0, "spike_sigmas": 0}
    settings = config.from_mapping(kind, {**smallest(kind), **off})
    found = train_config(settings, STAGE)
    assert (found.clip_norm, found.spike_sigmas) == (None, None)


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("name", ["clip_norm", "spike_sigmas", "router_aux_loss_coef"])
def test_less_than_the_zero_that_turns_off_is_refused_at_birth(kind, name):
    with pytest.raises(ConfigError, match=f"{name}: expected at least 0, found -1"):
        config.from_mapping(kind, {**smallest(kind), name: -1})


@pytest.mark.parametrize("kind", [SftConfig, DpoConfig])
def test_no_file_to_learn_from_is_refused_by_its_key(kind, model_folder, tmp_path):
    given = {
        **smallest(kind),
        "model": str(model_folder),
        "output": str(tmp_path / "r"),
    }
    (name,) = given.keys() & {"conversations", "preferences"}
    command = sft if kind is SftConfig else dpo
    with pytest.raises(ConfigError, match=f"{name}: expected at least one file"):
        command(config.from_mapping(kind, given))


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_no_command_defines_a_shared_setting_again_but_for_its_default(kind):
    shared = set(documented(TrainingSettings))
    own = inspect.cleandoc(kind.__doc__).partition("Attributes:")[2]
    assert shared
    assert not [name for name in shared if f"\n    {name}:" in own]


@pytest.mark.parametrize("verb", COMMANDS)
def test_help_lists_every_key_and_says_what_it_is(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    for setting in describe(COMMANDS[verb]):
        assert f"\n  {setting.key}" in text
    assert "\n  optimizer.beta2 = 0.95\n" in text
    assert [
        setting.key for setting in describe(COMMANDS[verb]) if not setting.text
    ] == []
    assert "\n  spike_sigmas = 6.0\n      a loss or gradient norm" in text


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_help_prints_the_defaults_that_a_run_takes(kind):
    run = config.from_mapping(kind, smallest(kind) | {"optimizer": {"beta2": 0.9}})
    defaults = {setting.key: setting.default for setting in describe(kind)}
    for field in dataclasses.fields(run.optimizer):
        value = getattr(run.optimizer, field.name)
        printed = defaults[f"optimizer.{field.name}"]
        if field.name != "beta2" and value is not None:
            assert printed.strip('"') == str(value), field.name


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_help_prints_defaults_as_a_file_may_have_them(kind):
    printed = [x.default for x in describe(kind) if x.default]
    assert {"[]", "true"} <= {*printed}
    for default in printed:
        config.tomllib.loads(f"value = {default}")


def test_help_names_keys_of_tables_in_lists():
    keys = {setting.key for setting in describe(PretrainConfig)}
    assert {"stage[].steps", "stage[].exit.loss_below", "model.size"} <= keys


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_fits_no_generator_is_refused_by_name(kind, seed):
    with pytest.raises(ConfigError, match=rf"seed: expected from 0 .*found {seed}"):
        config.from_mapping(kind, {**smallest(kind), "seed": seed})


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
def test_a_folder_without_a_name_is_not_the_current_one(kind):
    with pytest.raises(ConfigError, match="output: expected a folder"):
        config.from_mapping(kind, {**smallest(kind), "output": ""})


IMPOSSIBLE = {
    "micro_batch_rows": 0,
    "checkpoint_every_steps": 0,
    "keep_checkpoints": 0,
    "keep_every_steps": 0,
    "max_bad_steps": 0,
    "max_rewinds": -1,
    "clip_norm": -1.0,
    "spike_sigmas": -1.0,
}


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_no_trainer_can_do_is_refused_at_its_line_before_a_run_begins(
    kind, name, tmp_path
):
    path = tmp_path / "run.toml"
    path.write_text(f"seed = 1\n{name} = {IMPOSSIBLE[name]}\n")
    needed = {
        PretrainConfig: ["tokenizer=x", "sources={}", "model.size=1m"],
        SftConfig: ["model=x", "conversations=[]"],
        DpoConfig: ["model=x", "preferences=[]"],
    }
    with pytest.raises(ConfigError, match=rf"run\.toml:2: {name}: expected"):
        config.load(kind, path, ["output=x", *needed[kind]])


@pytest.mark.parametrize("kind", [SftConfig, DpoConfig])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1.0),
        ("learning_rate", 0),
        ("min_lr_ratio", 2),
        ("seq_len", 1),
    ],
)
def test_what_no_stage_can_do_is_refused_at_its_line_before_a_model_is_read(
    kind, name, value, tmp_path
):
    path = tmp_path / "run.toml"
    path.write_text(f"seed = 1\n{name} = {value}\n")
    needed = ["output=x", "model=x", "conversations=[]", "preferences=[]"]
    needed.pop(3 if kind is SftConfig else 2)
    with pytest.raises(ConfigError, match=rf"run\.toml:2: {name}: expected"):
        config.load(kind, path, needed)


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    "name", ["eps", "weight_decay", "matrix_lr_ratio", "embedding_lr_ratio"]
)
def test_an_update_that_no_float32_holds_is_refused_at_birth(kind, name):
    given = {**smallest(kind), "optimizer": {name: 1e308}}
    message = rf"optimizer\.{name}: expected an update that float32 holds.*1e\+308"
    with pytest.raises(ConfigError, match=message):
        config.from_mapping(kind, given)


def test_a_cost_of_logits_below_zero_is_refused_at_birth():
    with pytest.raises(ConfigError, match=r"z_loss: expected at least 0, found -1"):
        config.from_mapping(PretrainConfig, {**smallest(PretrainConfig), "z_loss": -1})


@pytest.mark.parametrize("threads", [0, -1, 10**12])
def test_threads_that_no_machine_has_are_refused_by_name(threads):
    with pytest.raises(ConfigError, match=f"threads: .* found {threads}"):
        use_threads(threads)


def test_no_threads_are_no_way_to_say_all_of_them(model_folder, tmp_path, capsys):
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "assistant", "content": "a"}]}')
    given = {"model": model_folder, "output": tmp_path / "run"}
    sets = [f"--set={key}={value}" for key, value in given.items()]
    sets.append(f'--set=conversations=["{chats}"]')
    assert cli.main(["sft", "--threads", "0", *sets]) == 2
    assert "threads: expected at least 1" in capsys.readouterr().err


STEPS = {"name": "a", "steps": 10, "max_lr": 1.0}
SHAPE = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
# What a caller in Python gives at least; TOML's numbers are checked where it is read.
GIVEN = {
    OptimizerConfig: {},
    AverageConfig: {},
    StageSchedule: STEPS,
    TrainConfig: {"output": "x", "stages": [StageSchedule(**STEPS)]},
    ExitCondition: {},
    StageConfig: {"stage": "a", "learning_rate": 1.0, "batch_size": 1, "steps": 1},
    RopeScaling: {"rope_type": "yarn", "factor": 2.0},
    ModelShape: SHAPE,
    SftConfig: {"output": "x", "model": "x", "conversations": ()},
    DpoConfig: {"output": "x", "model": "x", "preferences": ()},
    PreTrainingConfig: {},
    DpoObjective: {"reference": ReferenceLogps()},
    PretrainObjective: {},
}


REAL = (float, float | None)


def numbers_of(kind):
    hints = typing.get_type_hints(kind)
    return [f.name for f in dataclasses.fields(kind) if hints[f.name] in REAL]


NUMBERS = [(kind, name) for kind in GIVEN for name in numbers_of(kind)]


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_setting_that_is_no_number_is_refused_at_birth(kind, name, value):
    with pytest.raises(ConfigError, match=rf"{name}: expected .*found {value}"):
        kind(**{**GIVEN[kind], name: value})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_that_may_use_one_core_computes_by_one_thread():
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from triptych import doctor
from triptych.language_model import use_threads
print(doctor()["cores"], use_threads(None))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "1 1\n"
