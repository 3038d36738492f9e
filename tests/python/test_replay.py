"""Steps of a run done again from a checkpoint: the same bytes, or what differs."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from small_shards import varied, write_sources
from triptych.cli import main
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.commands.verify import VerifyConfig, verify
from triptych.curriculum import StageConfig
from triptych.errors import ConfigError, IntegrityError
from triptych.model.shape import ModelShape


def stage(name, **changes):
    return StageConfig(stage=name, learning_rate=1e-2, batch_size=4, **changes)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return write_sources(folder, web=varied(60), code=varied(60, source=1))


@pytest.fixture
def settings(sources, tmp_path):
    return PretrainConfig(
        output=str(tmp_path / "run"),
        tokenizer=str(sources / "tokenizer.json"),
        sources={name: str(sources / name) for name in ("web", "code")},
        model=ModelShape(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        stage=(
            stage("first", steps=6, mixture={"web": 1.0}),
            stage("then", steps=8, mixture={"code": 1.0}, ramp_steps=4),
        ),
        seq_len=32,
        checkpoint_every_steps=5,
        keep_checkpoints=10,
        precision="fp32",
        threads=1,
    )


def test_a_run_whose_settings_are_no_json_is_not_replayed_and_says_which(settings):
    pretrain(dataclasses.replace(settings, checkpoint_every_steps=5))
    (Path(settings.output) / "run.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"run\.json` is damaged: expected a JSON"):
        replay(settings.output, 10)


def test_a_run_is_replayed_from_a_checkpoint_to_the_next_with_the_same_bytes(
    settings, tmp_path, capsys
):
    pretrain(settings)  # it keeps steps 5, 6 (a stage ends), 10 and 14
    run = str(tmp_path / "run")
    assert main(["verify", run, "--resume-at", "6"]) == 0
    assert "steps 7 to 10 again: the same bytes" in capsys.readouterr().out
    found = verify(VerifyConfig(folder=run, resume_at=10))
    assert found["replay"] == {"from_step": 10, "to_step": 14, "differing": []}
    with pytest.raises(ConfigError, match=r"behind it \(5, 6, 10\), found 7"):
        replay(run, 7)


def test_a_replay_tells_a_run_that_was_trained_otherwise(settings, tmp_path):
    pretrain(settings)
    run = tmp_path / "run"
    pretrain(dataclasses.replace(settings, output=str(tmp_path / "other"), seed=1))
    foreign = tmp_path / "other" / "checkpoints" / "step-00000010"
    shutil.rmtree(run / "checkpoints" / "step-00000010")
    shutil.copytree(foreign, run / "checkpoints" / "step-00000010")
    assert "model.safetensors" in replay(run, 6)["differing"]
    assert main(["verify", str(run), "--resume-at", "6"]) == 4


def test_steps_before_a_window_that_was_left_out_later_are_replayed_without_it(
    settings,
):
    pretrain(settings)
    pretrain(dataclasses.replace(settings, skip=((8, 9),)))
    for step in (5, 6):
        assert replay(settings.output, step)["differing"] == []


def test_a_replay_up_to_a_damaged_checkpoint_names_its_file(settings):
    pretrain(settings)
    weights = Path(settings.output) / "checkpoints" / "step-00000010/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"model\.safetensors` is damaged"):
        replay(settings.output, 6)


def test_steps_of_several_processes_are_not_judged_by_one(settings, tmp_path):
    pretrain(settings)
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_text(log.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(
        ConfigError, match="as trained steps 7 to 10, which are 2, found 1"
    ):
        replay(tmp_path / "run", 6)
