"""Trackers: asked for, told every step, and never in the way."""

from __future__ import annotations

import os
import sys
import types

import pytest

from test_trainer import Killed, kill_after, train
from triptych import cli, config
from triptych._core import train_tokenizer, write_token_shards
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.commands.sft import SftConfig
from triptych.curriculum import StageConfig
from triptych.errors import ConfigError
from triptych.model.shape import ModelShape
from triptych.planner.probe import measure
from triptych.train import TrackingConfig
from triptych.train.metrics import read_metrics


class FakeRun:
    """What both trackers give: `log` and `finish`."""

    def __init__(self, module, settings):
        self.module, self.settings = module, settings
        self.lines, self.finished = [], False

    def log(self, numbers, step):
        if step == self.module.fails_at:
            raise OSError("no route to host")
        self.lines.append((step, numbers))

    def finish(self):
        self.finished = True


@pytest.fixture
def fakes(monkeypatch):
    """Modules by the names of the trackers, with the runs that they were asked for."""
    modules = {}
    for name in ("trackio", "wandb"):
        module = types.ModuleType(name)
        module.runs, module.fails_at = [], None

        def init(module=module, **settings):
            module.runs.append(FakeRun(module, settings))
            return module.runs[-1]

        module.init = init
        monkeypatch.setitem(sys.modules, name, module)
        modules[name] = module
    return modules


BOTH = TrackingConfig(use=("trackio", "wandb"), project="p")


def test_every_step_is_shown_and_the_lines_stay_the_truth(tmp_path, fakes):
    train(tmp_path, tracking=BOTH)
    lines = read_metrics(tmp_path)
    for module in fakes.values():
        (run,) = module.runs
        assert [step for step, _ in run.lines] == list(range(1, 11))
        assert [x["loss"] for _, x in run.lines] == [x["loss"] for x in lines]
        assert all("stage" not in x and "step" not in x for _, x in run.lines)
        assert run.finished
        assert run.settings["project"] == "p"
        assert run.settings["config"]["optimizer"]["beta2"] == 0.95


def test_nothing_leaves_the_machine_unless_asked(tmp_path, fakes):
    train(tmp_path / "here", tracking=BOTH)
    assert fakes["wandb"].runs[0].settings["mode"] == "offline"
    assert "space_id" not in fakes["trackio"].runs[0].settings
    away = TrackingConfig(use=BOTH.use, online=True, space="me/mine")
    train(tmp_path / "away", tracking=away)
    assert fakes["wandb"].runs[1].settings["mode"] == "online"
    assert fakes["trackio"].runs[1].settings["space_id"] == "me/mine"


def test_a_run_that_goes_on_is_the_same_run_there(tmp_path, fakes):
    with pytest.raises(Killed):
        train(tmp_path / "a", tracking=BOTH, hooks={"on_step": kill_after(5)})
    train(tmp_path / "a", tracking=BOTH)
    train(tmp_path / "b", tracking=BOTH)
    first, again, other = (x.settings for x in fakes["wandb"].runs)
    assert (first["id"], first["resume"]) == (again["id"], "allow")
    assert other["id"] != first["id"]
    names = [x.settings["name"] for x in fakes["trackio"].runs]
    assert names[0] == names[1] != names[2]


def test_a_tracker_that_fails_is_warned_of_once_and_left(tmp_path, fakes, caplog):
    fakes["wandb"].fails_at = 3
    _, result = train(tmp_path, tracking=BOTH)
    assert result.step == 10
    assert len(read_metrics(tmp_path)) == 10
    assert [step for step, _ in fakes["wandb"].runs[0].lines] == [1, 2]
    assert len(fakes["trackio"].runs[0].lines) == 10
    said = [x.getMessage() for x in caplog.records if x.levelname == "WARNING"]
    assert said == [
        "wandb: OSError: no route to host; the run goes on without it, "
        "`metrics.jsonl` has all"
    ]


def test_a_tracker_that_is_not_installed_stops_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "trackio", None)
    _, result = train(tmp_path, tracking=TrackingConfig(use=("trackio",)))
    assert result.step == 10
    assert "trackio: ModuleNotFoundError" in caplog.text


def test_no_tracker_is_imported_unless_asked_for(tmp_path, monkeypatch):
    for name in ("trackio", "wandb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    train(tmp_path)
    assert not {"trackio", "wandb"} & set(sys.modules)
    assert not (tmp_path / "tracking-id").exists()


def test_another_tracker_does_not_make_it_another_run(tmp_path, fakes):
    train(tmp_path, tracking=BOTH)
    _, result = train(tmp_path, tracking=TrackingConfig())
    assert result.step == 10


@pytest.fixture
def pretraining(tmp_path):
    tokenizer = train_tokenizer(None, ["some words to learn"] * 3, 300)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    documents = [(f"{i}", "web", [*range(7, 30 + i % 9)], None) for i in range(60)]
    write_token_shards(documents, tokenizer, str(tmp_path / "web"), 1)
    return PretrainConfig(
        output=str(tmp_path / "run"),
        tokenizer=str(tmp_path / "tokenizer.json"),
        sources={"web": str(tmp_path / "web")},
        model=ModelShape(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        stage=(StageConfig(stage="one", learning_rate=0.01, batch_size=2, steps=4),),
        seq_len=32,
        threads=1,
        checkpoint_every_steps=2,
        tracking=BOTH,
    )


def test_steps_that_are_run_again_to_be_compared_are_no_run_there(pretraining, fakes):
    pretrain(pretraining)
    assert replay(pretraining.output, 2)["differing"] == []
    assert [len(module.runs) for module in fakes.values()] == [1, 1]


def test_steps_that_are_run_for_a_plan_are_no_run_there(
    pretraining, tmp_path, monkeypatch
):
    asked = tmp_path / "asked"
    text = f"def init(**_):\n    open({str(asked)!r}, 'w')\n    raise OSError\n"
    (tmp_path / "trackio.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", path)  # it is a process of its own
    measure(pretraining, steps=1)
    assert not asked.exists()


def test_the_option_is_the_setting():
    options = cli.build_parser().parse_args(["sft", "--track", "trackio,wandb"])
    needed = ["output=x", "model=x", 'conversations=["x"]']
    settings = config.load(SftConfig, None, [*needed, *options.overrides])
    assert settings.tracking.use == ("trackio", "wandb")
    with pytest.raises(
        ConfigError, match="one of `trackio`, `wandb`, found str 'wand'"
    ):
        config.load(SftConfig, None, [*needed, 'tracking.use=["wand"]'])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"space": "me/mine"}, "expected `online = true` with it"),
        ({"use": ["trackio"], "online": True}, "expected one for trackio online"),
    ],
)
def test_a_place_without_a_way_there_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        config.from_mapping(TrackingConfig, table)
