"""A ladder trains what it plans, once, and predicts the run that it is of."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from small_shards import alike, write_sources
from triptych import Tokenizer, config
from triptych.cli import main
from triptych.commands import ladder as ladder_command
from triptych.commands.ladder import _finite_ends, compare, ladder
from triptych.commands.pretrain import PretrainConfig
from triptych.curriculum import BatchRamp
from triptych.errors import ConfigError, InputError, Interrupted
from triptych.miniseries.division import divide, wait_for
from triptych.miniseries.drawing import ladder_page, ladder_svg
from triptych.miniseries.points import plan_points
from triptych.miniseries.running import HeldOut, train_point
from triptych.miniseries.shapes import SHARES, default_sizes
from triptych.model.presets import preset
from triptych.planner import plan_run
from triptych.planner.planning import flops_per_slot
from triptych.planner.probe import Probe
from triptych.train import TrackingConfig
from triptych.train.metrics import EvaluationLog
from triptych.train.ranks import alone, is_first_process

STAGES = """
[[stage]]
stage = "first"
learning_rate = 0.02
batch_size = 4
steps = 150
warmup_steps = 15
[[stage]]
stage = "second"
learning_rate = 0.01
batch_size = 4
steps = 50
schedule = "linear"
min_lr_ratio = 0.1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    write_sources(folder, web=alike(), heldout=alike())
    lines = [
        f'output = "{folder / "run"}"',
        f'tokenizer = "{folder / "tokenizer.json"}"',
        "seq_len = 32",
        "threads = 1",
        f'[sources]\nweb = "{folder / "web"}"',
        f'[evaluation]\nweb = "{folder / "heldout"}"',
        "[model]\nhidden_size = 16\nnum_hidden_layers = 2\nnum_attention_heads = 2",
        "intermediate_size = 32",
        '[ladder]\nsizes = ["4x1", "8x1", "8x2"]\ndurations = [0.1, 0.2, 0.4]',
        STAGES,
    ]
    (folder / "run.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return config.load(PretrainConfig, folder / "run.toml")


def tokenizer_of(settings):
    return Tokenizer.from_file(settings.tokenizer)


def test_every_size_is_trained_for_every_duration_cheapest_first(settings):
    points, target = plan_points(settings)
    assert {p.name for p in points} == {
        f"{size}-{duration}"
        for size in ("4x1", "8x1", "8x2")
        for duration in ("0.1", "0.2", "0.4")
    }
    assert [p.flops for p in points] == sorted(p.flops for p in points)
    step = target.batch_tokens
    for point in points:
        wanted = float(point.name.split("-")[1]) * point.parameters
        assert point.tokens == pytest.approx(wanted, abs=2 * step)
        assert point.tokens <= point.batch_tokens * point.steps  # rows have padding


@pytest.mark.parametrize(("batch_size", "first"), [(48, 16), (16, 2), (30, 1), (6, 6)])
def test_a_batch_that_grows_grows_in_every_run(settings, batch_size, first):
    ramp = BatchRamp(first=first, steps=60)
    grown = dataclasses.replace(
        settings.stage[1],
        steps=150,
        batch_size=batch_size,
        batch_ramp=ramp,
        ramp_steps=2,
    )
    stages = (settings.stage[0], grown)
    points, target = plan_points(dataclasses.replace(settings, stage=stages))
    whole = target.settings.stages[1]
    for point in points:
        stage = point.settings.stages[1]
        wanted = float(point.name.split("-")[1]) * point.parameters
        step = target.batch_tokens
        assert point.tokens == pytest.approx(wanted, rel=0.05, abs=2 * step)
        slots = sum(x.num_rows * 32 for x in point.settings.stages)
        assert point.flops == pytest.approx(slots * flops_per_slot(_model(point), 32))
        if stage.batch_ramp is not None:
            share = stage.batch_ramp.steps / stage.num_steps
            assert share == pytest.approx(60 / 150, abs=1 / stage.num_steps)
    assert first < batch_size or not any(
        p.settings.stages[1].batch_ramp for p in points
    )
    assert whole.batch_ramp == ramp


def _model(point):
    return point.settings.model.model_config(tokenizer_of(point.settings))


def test_the_head_counts_and_the_table_of_embeddings_does_not(settings):
    (_, target), tied = plan_points(settings), settings.model
    untied = dataclasses.replace(tied, tie_word_embeddings=False)
    assert untied.model_config(tokenizer_of(settings)).num_matmul_parameters() == (
        target.parameters
    )
    vocabulary = tokenizer_of(settings).vocab_size
    layers = 2 * (4 * 16 * 16 + 3 * 16 * 32)
    assert target.parameters == layers + vocabulary * 16


def test_rates_and_batches_move_by_step_law_from_what_the_run_has(settings):
    settings = dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, hidden_size=128, num_hidden_layers=2),
    )
    (small, *_), target = plan_points(settings)
    n, own_n = (_matrices(x.settings, tokenizer_of(settings)) for x in (small, target))
    d = float(small.name.split("-")[1]) * small.parameters
    expected = (n / own_n) ** -0.713 * (d / target.tokens) ** 0.307
    assert small.learning_rate / 0.02 == pytest.approx(expected, rel=1e-3)
    first, second = small.settings.stages
    assert first.learning_rate == pytest.approx(2 * second.learning_rate)
    assert (second.schedule, second.min_lr_ratio) == ("linear", 0.1)
    rows = max(1, round(4 * (d / target.tokens) ** 0.571))
    assert first.rows_per_step == second.rows_per_step == rows
    share = d / target.tokens * 4 / rows
    assert [x.num_steps for x in (first, second)] == [
        max(1, round(own * share)) for own in (150, 50)
    ]
    assert first.warmup_steps == min(10, first.num_steps)


def test_the_recipe_stays_where_it_is_the_same_or_mup_moves_it(settings):
    untied = dataclasses.replace(settings.model, tie_word_embeddings=False)
    same = dataclasses.replace(settings.ladder, recipe="same")
    for change in ({"ladder": same}, {"model": untied, "mup_base_width": 16}):
        points, target = plan_points(dataclasses.replace(settings, **change))
        for point in points:
            assert point.learning_rate == target.learning_rate == 0.02
            assert point.batch_tokens == target.batch_tokens
            wanted = float(point.name.split("-")[1]) * point.parameters
            assert point.tokens == pytest.approx(wanted, abs=2 * point.batch_tokens)


def test_step_law_beside_mup_is_refused(settings):
    change = {
        "model": dataclasses.replace(settings.model, tie_word_embeddings=False),
        "mup_base_width": 16,
        "ladder": dataclasses.replace(settings.ladder, recipe="step_law"),
    }
    with pytest.raises(ConfigError, match='expected "same" beside `mup_base_width`'):
        plan_points(dataclasses.replace(settings, **change))


def _matrices(settings, tokenizer):
    model = settings.model.model_config(tokenizer)
    return model.num_matmul_parameters() - model.vocab_size * model.hidden_size


def test_a_size_of_the_dial_gets_the_dial_s_own_recipe(settings):
    """The law that moves rates is the one in `presets`: from d1 to d2 it agrees."""
    tokens = 1_000_000
    shape = dataclasses.replace(
        settings.model, size="d2", hidden_size=None, intermediate_size=None
    )
    shape = dataclasses.replace(
        shape, num_hidden_layers=None, num_attention_heads=None, qk_norm=False
    )
    big = dataclasses.replace(
        settings, model=shape, stage=(), tokens=tokens, batch_tokens=None
    )
    parameters = preset("d1").parameters + 300 * 64
    table = dataclasses.replace(
        settings.ladder, sizes=("d1",), durations=(tokens / parameters,)
    )
    (point,), target = plan_points(dataclasses.replace(big, ladder=table))
    assert target.learning_rate == pytest.approx(preset("d2", tokens).learning_rate)
    # the target's slots have padding, so it has fewer tokens than the point
    wanted = preset("d1", tokens).learning_rate * (tokens / target.tokens) ** 0.307
    assert point.learning_rate == pytest.approx(wanted, rel=0.02)  # rounded to 3 digits


def test_sizes_that_are_not_given_come_near_their_shares(settings):
    shape = dataclasses.replace(
        settings.model,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=None,
    )
    tokenizer = tokenizer_of(settings)
    model = shape.model_config(tokenizer)
    sizes = default_sizes(shape, model, tokenizer)
    from triptych.miniseries.shapes import shape_of

    for size, share in zip(sizes, SHARES, strict=True):
        small = shape_of(size, shape, model).model_config(tokenizer)
        wanted = share * model.num_matmul_parameters()
        assert small.num_matmul_parameters() == pytest.approx(wanted, rel=0.1)
        assert small.num_attention_heads % small.num_key_value_heads == 0
    assert len(set(sizes)) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"evaluation": {}}, "evaluation: expected a held-out token shard folder"),
        ({"sizes": ("big",)}, "found `big`, nor `WIDTHxLAYERS`"),
        ({"sizes": ("7x1",)}, "expected an even width, found 7"),
        ({"sizes": ()}, "too small to choose five below it"),
    ],
)
def test_what_cannot_be_a_ladder_is_refused(settings, change, words):
    if "sizes" in change:
        change = {"ladder": dataclasses.replace(settings.ladder, **change)}
    with pytest.raises(ConfigError, match=words):
        plan_points(dataclasses.replace(settings, **change))


def test_the_table_takes_each_duration_once_and_above_zero(folder):
    for text, words in (
        ("[1, 1]", "each once"),
        ("[0.1, 0.10000001]", "each once, found 0.1, 0.1"),
        ("[0]", "numbers > 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            config.load(
                PretrainConfig, folder / "run.toml", [f"ladder.durations={text}"]
            )


def test_a_killed_ladder_goes_on_and_trains_nothing_twice(settings, folder, capsys):
    class Killed:
        """Stops like Ctrl-C in the fifth run."""

        runs = 0

        def __init__(self, title, total):
            Killed.runs += 1

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def step(self, metrics):
            if Killed.runs == 5 and metrics["step"] == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ladder(settings, progress=Killed)
    points = folder / "run" / "ladder" / "points"
    begun = {path.name: _starts(path) for path in points.iterdir()}
    assert len(begun) == 5
    assert not (folder / "run" / "ladder" / "ladder.json").exists()
    command = ["ladder", "--config", str(folder / "run.toml"), "--json"]
    assert main([*command, "--with-target"]) == 0
    found = json.loads(capsys.readouterr().out)
    again = {path.name: _starts(path) for path in points.iterdir()}
    assert len(again) == 9
    assert sum(again[name] - begun[name] for name in begun) == 1  # the one killed
    _check_result(found, settings, folder / "run" / "ladder")
    assert main(command) == 0  # nothing is left to train
    assert {path.name: _starts(path) for path in points.iterdir()} == again


def _starts(folder):
    return len((folder / "sessions.jsonl").read_text().splitlines())


def _check_result(found, settings, folder):
    assert json.loads((folder / "ladder.json").read_text()) == found
    losses = [point["loss"] for point in found["points"]]
    assert min(losses) < 0.9 * max(losses)  # something was learnt
    held_out = HeldOut(settings)
    for point in found["points"]:
        nats = point["bits_per_byte"] * held_out.nats_per_bit
        assert point["loss"] == pytest.approx(nats)
    target, predicted = found["target"], found["prediction"]
    assert target == compare(target["loss"], predicted) | {
        "bits_per_byte": target["bits_per_byte"]
    }
    ElementTree.fromstring((folder / "ladder.svg").read_text())
    page = (folder / "ladder.html").read_text()
    assert "Trained, it came to" in page
    for point in found["points"]:
        assert point["name"] in page


def test_processes_train_runs_of_their_own_and_predict_what_one_does(folder, tmp_path):
    command = [sys.executable, "-m", "triptych", "ladder", "--json"]
    command += ["--config", str(folder / "run.toml")]
    command += ["--set", f"output={tmp_path / 'two'}"]
    several = [
        subprocess.Popen(
            command,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, said), (second, also_said) = (one.communicate() for one in several)
    assert [one.returncode for one in several] == [0, 0], (said, also_said)
    assert second == ""  # the first one speaks for all
    command[-1] = f"output={tmp_path / 'one'}"
    alone = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(alone.stdout) == json.loads(first)
    points = tmp_path / "two" / "ladder" / "points"
    assert [_starts(path) for path in points.iterdir()] == [1] * 9


def test_runs_are_divided_by_their_work_and_each_is_trained_once(settings):
    points, _ = plan_points(settings)
    for processes in (1, 2, 4, 12):
        shares = divide(points, processes)
        assert len(shares) == processes
        names = [point.name for share in shares for point in share]
        assert sorted(names) == sorted(point.name for point in points)
        most = max(sum(point.flops for point in share) for share in shares)
        total = sum(point.flops for point in points)
        assert most <= 4 / 3 * max(total / processes, points[-1].flops) + 1


def test_who_waits_for_others_can_be_stopped(settings, tmp_path):
    points, _ = plan_points(dataclasses.replace(settings, output=str(tmp_path)))
    with pytest.raises(Interrupted, match="9 of 9 runs were"):
        wait_for(points, lambda: True)


def test_a_process_alone_sees_no_others_and_then_does_again(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with alone() as place:
        assert place == (2, 4)
        assert is_first_process()
    assert not is_first_process()


def test_a_finished_run_of_other_settings_is_refused(settings, tmp_path):
    settings = dataclasses.replace(settings, output=str(tmp_path))
    (point, *_), _ = plan_points(settings)
    train_point(point)
    (other, *_), _ = plan_points(dataclasses.replace(settings, seed=1))
    with pytest.raises(
        ConfigError, match=r"found another `seed`.*choose another `output`"
    ):
        train_point(other)
    bits = train_point(point)
    for free in (
        {"threads": 2},
        {"micro_batch_rows": 1},
        {"recompute": "full"},
        {"tensorboard": False},
        {"tracking": TrackingConfig(project="other")},
    ):
        (again, *_), _ = plan_points(dataclasses.replace(settings, **free))
        assert train_point(again) == bits, free


def test_a_run_that_ended_without_a_loss_is_named(settings, tmp_path):
    settings = dataclasses.replace(settings, output=str(tmp_path))
    (point, *_), _ = plan_points(settings)
    train_point(point)
    log = EvaluationLog(Path(point.settings.output))
    last = log.read()[-1]
    log.write({**last, "bits_per_byte": dict.fromkeys(last["bits_per_byte"], math.nan)})
    json.loads(log.path.read_text().splitlines()[-1], parse_constant=pytest.fail)
    with pytest.raises(InputError, match=f"run `{point.name}`: .*not finite.*learning"):
        train_point(point)


def test_a_dry_run_says_work_and_time_and_writes_nothing(folder, tmp_path, capsys):
    before = sorted(path.name for path in folder.iterdir())
    command = ["ladder", "--config", str(folder / "run.toml"), "--dry-run"]
    command += ["--set", f"output={tmp_path / 'none'}", "--sizes", "8x2"]
    assert main([*command, "--durations", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    (point,) = plan["points"]
    assert point["name"] == "8x2-1"
    assert plan["totals"]["flops"] == point["flops"] > 0
    assert plan["totals"]["seconds"] == point["seconds"] > 0
    assert main([*command, "--durations", "1,2", "--no-measure"]) == 0
    shown = capsys.readouterr().out
    assert "8x2-2" in shown
    assert "target" in shown
    assert not (tmp_path / "none").exists()
    assert sorted(path.name for path in folder.iterdir()) == before


def test_time_of_a_dry_run_goes_by_operations_and_not_by_steps(settings, monkeypatch):
    first, second = settings.stage
    longer = dataclasses.replace(second, batch_size=16, seq_len=128)
    settings = dataclasses.replace(settings, stage=(first, longer))
    probe = Probe(1.0, 1.0, 1.0, 1.0, 1.0)  # a second for a step of the first stage
    monkeypatch.setattr(ladder_command, "measure", lambda _: probe)
    for row, point in zip(
        ladder_command.dry_run(settings)["points"],
        plan_points(settings)[0],
        strict=True,
    ):
        expected = plan_run(point.settings, probe=probe).totals["seconds"]
        assert row["seconds"] == pytest.approx(expected, rel=0.01)
        assert row["seconds"] > 2 * point.steps


def test_the_drawing_escapes_names_and_shows_curves_points_and_interval():
    law = {
        "irreducible": 1.0,
        "parameter_scale": 100.0,
        "token_scale": 100.0,
        "parameter_exponent": 0.4,
        "token_exponent": 0.4,
    }
    point = {"name": "<b>", "parameters": 1000, "tokens": 5000, "epochs": 1.0}
    point |= {"learning_rate": 0.1, "batch_tokens": 64, "loss": 9.0}
    point |= {"bits_per_byte": 3.0, "residual": 0.01}
    prediction = {"parameters": 9000, "tokens": 90_000, "loss": 4.0}
    result = {
        "points": [point, {**point, "parameters": 2000, "loss": 8.0}],
        "law": law,
        "intervals": dict.fromkeys(law, (0.5, 2.0)),
        "prediction": {**prediction, "low": 3.5, "high": 4.5, "level": 0.9},
        "warnings": [],
    }
    drawing = ElementTree.fromstring(ladder_svg(result))
    kinds = [child.tag.split("}")[1] for child in drawing]
    assert kinds.count("circle") == 2
    assert kinds.count("polyline") == 3  # two sizes and the prediction
    trained = result | {"target": compare(4.2, result["prediction"])}
    kinds = [x.tag for x in ElementTree.fromstring(ladder_svg(trained))]
    assert sum("circle" in kind for kind in kinds) == 3
    page = ladder_page(trained)
    assert "<b>" not in page
    assert "-4.76% off, and the loss is inside" in page


def test_pretrain_reads_the_same_file(folder, capsys):
    assert main(["pretrain", "--config", str(folder / "run.toml"), "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)["config"]["ladder"]
    assert shown == {"sizes": ["4x1", "8x1", "8x2"], "durations": [0.1, 0.2, 0.4]}
    assert not Path(folder / "run" / "metrics.jsonl").exists()


def test_an_interval_without_end_is_null_since_json_has_no_infinity():
    found = _finite_ends({"parameters": (5.0, 1.0, float("inf"))})
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "parameters": [5.0, 1.0, None]
    }
