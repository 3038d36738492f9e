"""A run over a curriculum: ramps, exits, skipped windows, and its accounts."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from small_shards import varied, write_sources
from triptych import CURRICULUM, config, train_tokenizer
from triptych._core import write_token_shards
from triptych.commands.inspect import InspectConfig, inspect
from triptych.commands.pretrain import PretrainConfig, order, plan, pretrain
from triptych.commands.training import Watch
from triptych.curriculum import ExitCondition, StageConfig
from triptych.errors import ConfigError, IntegrityError, Interrupted
from triptych.model.families import family_named
from triptych.model.shape import ModelShape
from triptych.train import PretrainObjective
from triptych.train.early_exit import ExitWatch
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import EvaluationLog, read_metrics
from triptych.train.ranks import Ranks
from triptych.train.run_lock import only_run_in

SHAPE = ModelShape(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)


def stage(name, steps=None, **changes):
    table = {"stage": name, "learning_rate": 1e-2, "batch_size": 4, "steps": steps}
    return StageConfig(**{**table, **changes})


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    named = {name: varied(60, i) for i, name in enumerate(["web", "code", "held"])}
    return write_sources(tmp_path_factory.mktemp("run"), **named)


@pytest.fixture
def settings(sources, tmp_path):
    return PretrainConfig(
        output=str(tmp_path / "run"),
        tokenizer=str(sources / "tokenizer.json"),
        sources={name: str(sources / name) for name in ("web", "code")},
        model=SHAPE,
        stage=(
            stage("first", 6, mixture={"web": 1.0}),
            stage("then", 8, mixture={"code": 1.0}, ramp_steps=4),
        ),
        seq_len=32,
        checkpoint_every_steps=5,
        keep_checkpoints=10,
        precision="fp32",
        threads=1,
    )


def test_a_run_is_not_written_into_its_own_shards(settings, sources):
    before = sorted(path.name for path in (sources / "web").iterdir())
    with pytest.raises(
        ConfigError, match=r"output: expected a new folder.*an artefact"
    ):
        pretrain(dataclasses.replace(settings, output=str(sources / "web")))
    assert sorted(path.name for path in (sources / "web").iterdir()) == before


def test_what_is_consumed_is_what_was_planned_to_the_token(settings, tmp_path):
    result = pretrain(settings)
    tokens = json.loads((tmp_path / "run" / "tokens.json").read_text())["sources"]
    planned = order(settings).planned_tokens()
    assert {name: counts["planned"] for name, counts in tokens.items()} == planned
    assert result.source_tokens == planned
    assert sum(planned.values()) == result.tokens


def test_a_plan_says_whether_its_model_can_be_made(settings):
    assert plan(settings) == order(settings).report()
    heads = dataclasses.replace(settings.model, num_attention_heads=7)
    with pytest.raises(ConfigError, match="hidden_size"):
        plan(dataclasses.replace(settings, model=heads))


def test_a_plan_refuses_the_files_that_its_run_would(settings, tmp_path):
    other = tmp_path / "other.json"
    train_tokenizer(["other words"] * 3, 300).save(other)
    file = tmp_path / "file"
    file.touch()
    faults = {
        "source `web` .*expected tokens of tokenizer": {"tokenizer": str(other)},
        "no input at .*nowhere": {"evaluation": {"x": str(tmp_path / "nowhere")}},
        "output: expected a folder": {"output": str(file)},
    }
    for message, changes in faults.items():
        with pytest.raises(ConfigError, match=message):
            plan(dataclasses.replace(settings, **changes))


def test_shards_of_another_tokenizer_are_refused_before_evaluation_sets_are_read(
    settings, tmp_path
):
    other = tmp_path / "other.json"
    words = train_tokenizer(["other words"] * 3, 300)
    words.save(other)
    write_token_shards([("a", "s", [8, 9], None)], words, str(tmp_path / "held"), 1)
    given = {"tokenizer": str(other), "evaluation": {"held": str(tmp_path / "held")}}
    with pytest.raises(ConfigError, match="source `web`"):
        pretrain(dataclasses.replace(settings, **given))
    assert not (tmp_path / "run").exists()


def test_a_family_that_transformers_splits_its_own_way_asks_for_a_tokenizer_of_it(
    settings, sources, tmp_path
):
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert family_named("qwen2").split == PRETOKENIZE_REGEX
    shape = dataclasses.replace(SHAPE, model_type="qwen2")
    wrong = dataclasses.replace(settings, model=shape)
    for begin in (plan, pretrain):
        with pytest.raises(ConfigError, match=r"model_type: .*`--pattern qwen2`"):
            begin(wrong)
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(["some words to learn"] * 3, 300, pattern="qwen2").save(tokenizer)
    fitting = dataclasses.replace(wrong, tokenizer=str(tokenizer))
    with pytest.raises(ConfigError, match="source `web`"):  # the split is right
        plan(fitting)


def test_a_run_that_was_stopped_reads_the_same_ids_in_the_same_order(settings):
    class Killed(Exception):
        pass

    def kill(metrics):
        if metrics["step"] == 8:
            raise Killed

    pretrain(settings)
    straight = [line["rolling_hash"] for line in read_metrics_of(settings)]
    shutil.rmtree(settings.output)
    with pytest.raises(Killed):
        pretrain(settings, Watch(on_step=kill))
    result = pretrain(settings)
    assert [line["rolling_hash"] for line in read_metrics_of(settings)] == straight
    assert len(set(straight)) == len(straight) == 14
    assert result.source_tokens == order(settings).planned_tokens()


def test_a_run_that_is_told_to_end_saves_exits_with_75_and_can_go_on(settings):
    table = {**config.to_mapping(settings), "output": settings.output}
    path = Path(settings.output).with_suffix(".json")
    path.write_text(json.dumps(table))
    code = f"""
import os, signal
from triptych.train.trainer import Trainer
step = Trainer._step
def terminated(trainer, number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(trainer, number)
Trainer._step = terminated
from triptych import cli, config
from triptych.commands import pretrain
table = __import__("json").load(open({str(path)!r}))
settings = config.from_mapping(pretrain.PretrainConfig, table)
raise SystemExit(cli._guarded(lambda: pretrain.pretrain(settings) and 0, debug=False))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (75, 1), ended.stderr
    assert "stopped after step 8: run again to go on" in ended.stderr
    assert pretrain(settings).source_tokens == order(settings).planned_tokens()


def read_metrics_of(settings):
    return read_metrics(Path(settings.output))


def test_verify_reads_every_step_again_and_tells_a_changed_one(settings, tmp_path):
    pretrain(settings)
    run = str(tmp_path / "run")
    seen = []
    found = inspect(InspectConfig(run=run, step=13, verify=True), seen.append)
    assert seen == list(range(1, 15))
    assert (found["verified_steps"], found["verified_checkpoints"]) == (14, 4)
    log = tmp_path / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[6]["ids_hash"] = "0" * 16
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert inspect(InspectConfig(run=run, step=5, verify=True))["verified_steps"] == 6
    with pytest.raises(IntegrityError, match="step 6: expected ids_hash"):
        inspect(InspectConfig(run=run, step=13, verify=True))


def test_the_rows_of_a_run_that_went_back_are_without_what_it_left_out(settings):
    with pytest.raises(Interrupted):
        pretrain(settings, Watch(stop_at_step=2))
    went_back = {"step": 4, "action": "rewound", "data_steps": [3, 5]}
    IncidentLog(Path(settings.output)).write(went_back)
    pretrain(settings)
    found = inspect(InspectConfig(run=settings.output, step=11, verify=True))
    assert (found["data_step"], found["verified_steps"]) == (13, 12)


def test_faults_before_the_first_checkpoint_send_the_command_back_to_its_beginning(
    settings, tmp_path, monkeypatch
):
    """Steps 2 and 3 are bad, also computed again; then nothing is."""
    loss, calls = PretrainObjective.loss, []

    def spoilt(self, model, batch):
        found = loss(self, model, batch)
        calls.append(batch)
        factor = math.nan if len(calls) in range(2, 6) else 1.0
        return dataclasses.replace(found, loss_sum=found.loss_sum * factor)

    never = dataclasses.replace(
        settings, skip=((1, 3),), output=str(tmp_path / "never")
    )
    expected = pretrain(never)
    monkeypatch.setattr(PretrainObjective, "loss", spoilt)
    result = pretrain(dataclasses.replace(settings, max_bad_steps=2))
    assert (result.step, result.skipped_steps) == (14, 0)
    weights = [
        (x.checkpoint_folder / "model.safetensors").read_bytes()
        for x in (result, expected)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("step", [-1, 14])
def test_a_step_that_is_none_of_the_run_is_refused(settings, step):
    pretrain(settings)
    with pytest.raises(ConfigError, match=f"step: expected 0 to 13, found {step}"):
        inspect(InspectConfig(run=settings.output, step=step))


def test_a_command_that_is_refused_leaves_what_the_run_says_of_itself(settings):
    pretrain(settings)
    path = Path(settings.output) / "run.json"
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another run: seed: expected 7, found 0"):
        pretrain(dataclasses.replace(settings, seed=7))
    with pytest.raises(
        ConfigError, match=r"another run: data \(of the rows: sources, "
    ):
        pretrain(dataclasses.replace(settings, seq_len=16))
    assert path.read_bytes() == before


def test_a_stage_that_meets_its_exit_condition_ends_and_the_next_begins(settings):
    ends = ExitCondition(loss_below=100.0, window_steps=3)
    stages = (
        dataclasses.replace(settings.stage[0], exit=ends),
        dataclasses.replace(settings.stage[1], exit=ends, ramp_steps=5),
    )
    settings = dataclasses.replace(settings, stage=stages)
    result = pretrain(settings)
    lines = read_metrics_of(settings)
    assert [line["stage"] for line in lines] == ["first"] * 3 + ["then"] * 5
    assert result.step == 8
    found = inspect(InspectConfig(run=settings.output, step=7, verify=True))
    assert found["verified_steps"] == 8


def test_a_run_stopped_behind_an_early_exit_goes_on_as_if_it_had_not_been(settings):
    class Killed(Exception):
        pass

    def kill(metrics):
        if metrics["step"] == 6:
            raise Killed

    ends = ExitCondition(loss_below=100.0, window_steps=4)
    first = dataclasses.replace(settings.stage[0], exit=ends)
    settings = dataclasses.replace(settings, stage=(first, settings.stage[1]))
    pretrain(settings)
    straight = [line["rolling_hash"] for line in read_metrics_of(settings)]
    shutil.rmtree(settings.output)
    with pytest.raises(Killed):
        pretrain(settings, Watch(on_step=kill))
    pretrain(settings)
    assert [line["rolling_hash"] for line in read_metrics_of(settings)] == straight
    assert len(straight) == 4 + 8


def test_a_run_does_not_go_on_under_another_exit_condition(settings):
    ends = ExitCondition(loss_below=0.0, window_steps=4)
    pretrain(settings)
    first = dataclasses.replace(settings.stage[0], exit=ends)
    changed = dataclasses.replace(settings, stage=(first, settings.stage[1]))
    with pytest.raises(ConfigError, match="belongs to another run: exits"):
        pretrain(changed)


# (losses, condition, step at which it is met, None for never)
EXITS = [
    ([3, 2, 1, 0], {"loss_below": 1.5, "window_steps": 1}, 3),
    ([3, 2, 1, 0], {"loss_below": 1.5, "window_steps": 2}, 4),
    ([3, 2, 2, 2, 2], {"no_gain_steps": 2, "window_steps": 1}, 4),
    ([3, 2.9, 2.8, 2.7], {"no_gain_steps": 2, "min_gain": 0.5, "window_steps": 1}, 3),
    ([3, 2.9, 2.8, 2.7], {"no_gain_steps": 2, "window_steps": 1}, None),
    ([3, float("nan"), 2], {"loss_below": 2.6, "window_steps": 2}, 3),
]


@pytest.mark.parametrize(("losses", "condition", "step"), EXITS)
def test_an_exit_condition_is_met_at_the_step_of_the_table(losses, condition, step):
    watch, condition = ExitWatch(), ExitCondition(**condition)
    for number, loss in enumerate(losses, start=1):
        met = watch.met(condition, loss)
        watch = ExitWatch(json.loads(json.dumps(watch.state())))
        assert met == (step is not None and number >= step)


def test_evaluation_sets_are_read_at_the_start_and_where_stages_end(settings, sources):
    last = dataclasses.replace(settings.stage[1], evaluation=("held",))
    settings = dataclasses.replace(
        settings,
        stage=(settings.stage[0], last),
        evaluation={"held": str(sources / "held"), "web": str(sources / "web")},
    )
    result = pretrain(settings)
    initial, first, then = EvaluationLog(Path(settings.output)).read()
    assert (initial["step"], initial["stage"]) == (0, "initial")
    assert initial["bits_per_byte"]["web"] > first["bits_per_byte"]["web"]
    assert (first["step"], first["stage"]) == (6, "first")
    assert set(first["bits_per_byte"]) == {"all", "held", "web"}
    assert (then["step"], set(then["bits_per_byte"])) == (result.step, {"all", "held"})
    wrong = dataclasses.replace(last, evaluation=("hold",))
    with pytest.raises(ConfigError, match=r"found `hold`"):
        dataclasses.replace(settings, stage=(wrong,))


def test_a_model_that_begins_where_another_was_killed_is_read_at_the_start_itself(
    settings, sources, tmp_path
):
    sets = {"held": str(sources / "held")}
    killed = dataclasses.replace(settings, evaluation=sets)

    def die(metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(killed, Watch(on_step=die))  # before its first checkpoint
    other = dataclasses.replace(killed, seed=settings.seed + 1)
    fresh = dataclasses.replace(other, output=str(tmp_path / "fresh"))
    for run in (other, fresh):
        pretrain(run)
    found, expected = (EvaluationLog(Path(x.output)).read() for x in (other, fresh))
    assert found == expected


def test_a_run_without_evaluations_has_none_of_one_that_was_killed_there(
    settings, sources
):
    def die(metrics):
        raise KeyboardInterrupt

    sets = {"held": str(sources / "held")}
    with pytest.raises(KeyboardInterrupt):
        pretrain(dataclasses.replace(settings, evaluation=sets), Watch(on_step=die))
    path = Path(settings.output) / "evaluations.jsonl"
    assert path.exists()
    pretrain(dataclasses.replace(settings, evaluation={}))
    assert not path.exists()


def test_a_run_refused_beside_another_leaves_the_others_evaluations(settings, sources):
    settings = dataclasses.replace(settings, evaluation={"held": str(sources / "held")})
    path, other = Path(settings.output), dataclasses.replace(settings, seed=9)
    path.mkdir()
    (path / "evaluations.jsonl").write_text("")
    with only_run_in(path, Ranks()), pytest.raises(ConfigError, match="locked by one"):
        pretrain(other)
    assert (path / "evaluations.jsonl").read_text() == ""


def test_skipped_windows_change_nothing_before_them_and_are_in_the_account(settings):
    pretrain(settings)
    straight = [line["ids_hash"] for line in read_metrics_of(settings)]
    shutil.rmtree(settings.output)
    settings = dataclasses.replace(settings, skip=((2, 4),))
    result = pretrain(settings)
    skipping = [line["ids_hash"] for line in read_metrics_of(settings)]
    assert skipping[:2] == straight[:2]
    assert result.step == 14
    assert result.source_tokens == order(settings).planned_tokens()
    found = inspect(InspectConfig(run=settings.output, step=13, verify=True))
    assert found["data_step"] == 15


def test_a_run_without_stages_takes_the_founding_four_at_its_size(settings):
    scaled = dataclasses.replace(
        settings, stage=(), tokens=4096, batch_tokens=128, learning_rate=1e-2
    )
    assert [stage.name for stage in scaled.stages] == [
        stage.stage.value for stage in CURRICULUM
    ]
    assert pretrain(scaled).step == sum(stage.num_steps for stage in scaled.stages)
    with pytest.raises(ConfigError, match="no stage and no `tokens`"):
        dataclasses.replace(scaled, tokens=None)


@pytest.mark.parametrize("name", ["tokens", "batch_tokens", "learning_rate"])
def test_what_scales_the_founding_four_is_refused_beside_stages_of_its_own(
    settings, name
):
    message = f"{name}: expected none beside .*stage.*, found 64"
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(settings, **{name: 64})
    share = StageConfig(stage="x", learning_rate=1.0, batch_size=4, data_fraction=1.0)
    shared = dataclasses.replace(settings, stage=(share,), tokens=1280)
    assert [stage.num_steps for stage in shared.stages] == [10]


def test_an_evaluation_set_called_all_is_refused(settings):
    with pytest.raises(ConfigError, match=r"evaluation.all: expected another name"):
        dataclasses.replace(settings, evaluation={"all": "held"})


@pytest.mark.parametrize("window", ["[1]", "[1, 2, 3]", "[-1, 2]", "[5, 2]", "[]"])
def test_a_window_that_is_none_is_refused_by_its_key(settings, window):
    table = config.to_mapping(settings) | {"skip": [json.loads(window)]}
    with pytest.raises(ConfigError, match="skip: expected windows"):
        config.from_mapping(PretrainConfig, table)


STAGES = """# top
[[stage]]
stage = "one"
# one
learning_rate = 1e-2
batch_size = 4
tokens = 4096
[[stage]]
stage = "two"
# two
learning_rate = 1e-2
batch_size = 4
tokens = 4096
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# top", "max_epochs = {w = 1}", r"4: max_epochs.w: expected a name of"),
        ("# top", "max_epochs = {web = 0}", r"4: max_epochs.web: expected > 0"),
        ("# one", "ramp_steps = 1", r"7: stage\[0\].ramp_steps: expected 0"),
        ('"two"', '"one"', r"12: stage\[1\].stage: expected a name of its own"),
        ("# two", "ramp_steps = 9", r"13: stage\[1\]: ramp_steps: .*2\], found 9"),
        ("# two", "mixture = {wbe = 1}", r"13: stage\[1\].*\(web\).*mean `web`"),
        ("# two", "ramp_steps = -1", r"13: stage\[1\]: ramp_steps: expected >= 0, f"),
        ("# two", "mixture = {web = 0}", r"13: stage\[1\]: mixture.web: expected > 0"),
        ("# two", "seq_len = 4096", r"13: stage\[1\].seq_len: expected at most model"),
        ("# top", "seq_len = 4096", r"4: seq_len: expected at most model"),
        ("# top", "seq_len = 1", r"4: seq_len: expected >= 2, found 1"),
        ("# top", "tokens = -1", r"4: tokens: expected at least 1, found -1"),
        ("# two", 'evaluation = ["x"]', r"13: stage\[1\].evaluation: .*found `x`"),
    ],
)
def test_a_fault_between_tables_names_its_key_and_line(
    sources, tmp_path, old, new, message
):
    path = tmp_path / "run.toml"
    heads = {"output": tmp_path / "run", "tokenizer": sources / "tokenizer.json"}
    text = "".join(f"{key} = '{value}'\n" for key, value in heads.items())
    text += f"sources = {{web = '{sources / 'web'}'}}\n{STAGES}"
    path.write_text(text)
    assert [x.num_steps for x in config.load(PretrainConfig, path).stages] == [2, 2]
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        config.load(PretrainConfig, path)


def test_shares_of_the_tokens_of_a_run_sum_to_at_most_one(settings):
    def stages(*shares):
        tables = [{"steps": None, "data_fraction": share} for share in shares]
        found = tuple(stage(f"s{n}", **table) for n, table in enumerate(tables))
        return dataclasses.replace(settings, stage=found, tokens=12800)

    assert len(stages(0.4, 0.3, 0.2, 0.1).stages) == 4
    with pytest.raises(ConfigError, match=r"stage\[2\].data_fraction: .*found 1.1"):
        stages(0.4, 0.5, 0.2)
