"""Averages of weights: of all steps while training, and of finished checkpoints."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

import sharded_worker
from test_ranks import start
from test_trainer import Killed, kill_after
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych import cli, config
from triptych.commands.average import AverageRunConfig, average
from triptych.errors import ConfigError, IntegrityError
from triptych.language_model import load_model
from triptych.model.huggingface import load_model as load_transformer
from triptych.model.huggingface import read_weights
from triptych.train import (
    AverageConfig,
    PretrainObjective,
    StageSchedule,
    Trainer,
    checkpoint,
)
from triptych.train.averaging import DECAYS, merge_weights

STEPS = 10
HALF_LIFE = AverageConfig(half_life_steps=3)


def train(
    folder, *, objective=None, hooks=None, vocab_size=97, tokenizer=None, **changes
):
    """Runs a tiny training; returns its model."""
    model = tiny_model(vocab_size=vocab_size)
    settings = tiny_train_config(folder, **changes)
    objective = objective or PretrainObjective()
    data = TinyData(steps=settings.num_steps)
    Trainer(
        model, objective, data, settings, tokenizer_path=tokenizer, **(hooks or {})
    ).run()
    return model


def last(folder):
    return folder / "checkpoints" / f"step-{STEPS:08d}"


def numbers(model):
    return torch.cat([x.detach().double().flatten() for x in model.parameters()])


def twin(history, beta):
    """The average by its definition: a weighted mean, in float64."""
    shares = [beta ** (len(history) - 1 - i) for i in range(len(history))]
    total = sum(share * x for share, x in zip(shares, history, strict=True))
    return total / sum(shares)


@pytest.mark.parametrize(
    ("rule", "beta"),
    [(HALF_LIFE, 0.5 ** (1 / 3)), (AverageConfig(beta=0.9), 0.9)],
)
def test_the_running_average_is_the_weighted_mean_of_all_steps(tmp_path, rule, beta):
    model, history = tiny_model(), []
    trainer = Trainer(
        model,
        PretrainObjective(),
        TinyData(),
        tiny_train_config(tmp_path, average=rule),
        on_step=lambda _: history.append(numbers(model)),
    )
    trainer.run()
    found = numbers(load_transformer(last(tmp_path)))
    torch.testing.assert_close(found, twin(history, beta), atol=1e-6, rtol=0)
    assert (found - history[-1]).abs().max() > 1e-3
    state = checkpoint.read_state(last(tmp_path))
    assert state.averaged_updates == STEPS


def test_a_killed_run_goes_on_to_the_same_bytes_of_both(tmp_path):
    train(tmp_path / "straight", average=HALF_LIFE)
    with pytest.raises(Killed):
        train(tmp_path / "killed", average=HALF_LIFE, hooks={"on_step": kill_after(5)})
    train(tmp_path / "killed", average=HALF_LIFE, async_checkpoints=True)
    for name in ("model.safetensors", "raw.safetensors", "state.json"):
        one, other = (last(tmp_path / x) / name for x in ("straight", "killed"))
        assert one.read_bytes() == other.read_bytes(), name


def test_training_does_not_notice_the_average(tmp_path):
    plain = train(tmp_path / "plain")
    beside = train(tmp_path / "average", average=HALF_LIFE)
    assert same_weights(plain, beside)
    files = [last(tmp_path / "plain") / "model.safetensors"]
    files += [last(tmp_path / "average") / "raw.safetensors"]
    raw, model = (load_file(file) for file in files)
    assert all(torch.equal(raw[name], model[name]) for name in model)


def test_what_is_evaluated_at_the_end_of_a_stage_is_the_average(tmp_path):
    seen = {}
    hooks = {"on_stage_end": lambda _, step, model: seen.update({step: numbers(model)})}
    model = train(tmp_path, average=HALF_LIFE, hooks=hooks, keep_checkpoints=9)
    assert list(seen) == [6, 10]
    for step, found in seen.items():
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        assert torch.equal(found, numbers(load_transformer(folder)))
    assert not torch.equal(seen[10], numbers(model))


class FaultyAt(PretrainObjective):
    """A loss that is not finite at one step, told by its documents."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        faulty = 12 <= int(batch.documents[0]) < 16  # step 3, from 0
        return type(found)(found.loss_sum * math.nan, found.count) if faulty else found


def test_a_skipped_step_is_not_averaged(tmp_path):
    train(tmp_path, average=HALF_LIFE, objective=FaultyAt())
    state = checkpoint.read_state(last(tmp_path))
    assert (state.skipped_steps, state.averaged_updates) == (1, STEPS - 1)


def test_a_run_is_not_continued_with_another_average(tmp_path):
    train(tmp_path, average=HALF_LIFE)
    with pytest.raises(ConfigError, match="another run: average"):
        train(tmp_path)


def test_a_damaged_average_is_refused_by_name(tmp_path):
    train(tmp_path, average=HALF_LIFE)
    for folder in (tmp_path / "checkpoints").iterdir():
        path = folder / "raw.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"raw\.safetensors"):
        train(tmp_path, average=HALF_LIFE)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "one of `half_life_steps` and `beta`, found neither"),
        ({"half_life_steps": 2.0, "beta": 0.5}, "found both"),
        ({"half_life_steps": 0}, "half_life_steps: expected above 0, found 0.0"),
        ({"beta": 1.0}, r"beta: expected in \(0, 1\), found 1.0"),
    ],
)
def test_an_impossible_average_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        config.from_mapping(AverageConfig, table)


def test_pieces_are_averaged_like_a_whole_and_every_grid_goes_on_with_both(tmp_path):
    run, rule = tmp_path / "pieces", {"average": HALF_LIFE}
    sharded_worker.train(tmp_path / "alone", {}, **rule)
    journey = [({"shard": 2}, 4), ({"tensor": 2}, 7), ({"shard": 2}, STEPS)]
    cases = [((run, grid, until), rule) for grid, until in journey]
    start(sharded_worker.train_all, 2, cases)
    one, other = last(tmp_path / "alone"), last(run)
    for read in (checkpoint.trained_weights, read_weights):
        expected, found = read(one), read(other)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0)
    sharded_worker.train(run, {}, **rule)  # one process finds a finished run


def closed_form(decay, num):
    """Tian et al. 2025, theorem 3.1, for checkpoints evenly apart."""
    rates = [1.0] + [DECAYS[decay](i / num) for i in range(1, num)]
    return [a - b for a, b in zip(rates, [*rates[1:], 0.0], strict=True)]


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("num", [1, 2, 5, 12])
def test_the_weights_of_a_merge_sum_to_one_and_follow_the_theorem(decay, num):
    steps = [100 + 50 * i for i in range(num)]
    weights = merge_weights(steps, decay)
    assert sum(weights) == pytest.approx(1.0, abs=1e-12)
    assert min(weights) >= 0.0
    assert weights == pytest.approx(closed_form(decay, num), abs=1e-12)
    if decay == "linear":
        assert weights == pytest.approx([1 / num] * num)
    if decay == "sqrt":
        roots = [math.sqrt((j + 1) / num) - math.sqrt(j / num) for j in range(num)]
        assert weights == pytest.approx(roots)


@pytest.mark.parametrize("decay", DECAYS)
def test_a_merge_is_the_walk_with_decayed_steps(decay):
    steps = [10, 20, 30, 60, 70]  # not evenly apart
    updates = torch.randn(len(steps) - 1, 7, dtype=torch.float64)
    start = torch.randn(7, dtype=torch.float64)
    points = [start, *(start - updates[: i + 1].sum(0) for i in range(len(updates)))]
    shares = merge_weights(steps, decay)
    found = sum(share * x for share, x in zip(shares, points, strict=True))
    length = (steps[-1] - steps[0]) * len(steps) / len(updates)
    rates = [DECAYS[decay]((step - steps[0]) / length) for step in steps[1:]]
    decayed = sum(rate * x for rate, x in zip(rates, updates, strict=True))
    torch.testing.assert_close(found, start - decayed)


CONSTANT = [StageSchedule(name="only", steps=STEPS, max_lr=1e-2, schedule="constant")]


def test_the_command_merges_what_training_would_go_on_from(tmp_path, tokenizer_path):
    pytest.importorskip("transformers")
    run, output = tmp_path / "run", tmp_path / "merged"
    train(
        run,
        stages=CONSTANT,
        average=HALF_LIFE,
        keep_checkpoints=9,
        vocab_size=384,
        tokenizer=tokenizer_path,
    )
    call = ["average", str(run), "--output", str(output), "--last", "3"]
    assert cli.main([*call, "--decay", "sqrt"]) == 0
    folders = checkpoint.steps_in(run / "checkpoints")[-3:]
    shares = merge_weights([checkpoint.step_of(x) for x in folders], "sqrt")
    parts = [checkpoint.trained_weights(x) for x in folders]
    merged = load_model(output).model
    for name, parameter in merged.named_parameters():
        expected = sum(s * x[name].double() for s, x in zip(shares, parts, strict=True))
        torch.testing.assert_close(parameter.double(), expected, atol=1e-7, rtol=0)
    manifest = json.loads((output / "manifest.json").read_text())
    assert list(manifest["made_from"]["checkpoints"]) == [x.name for x in folders]
    assert "verified" in manifest["content"]


def test_a_merge_of_more_than_was_kept_says_how_many_there_are(tmp_path):
    train(tmp_path)
    wanted = AverageRunConfig(run=str(tmp_path), output="x", last=5)
    with pytest.raises(ConfigError, match="at most the 2 checkpoints"):
        average(wanted)


def test_a_merge_of_no_run_names_the_folder(tmp_path):
    wanted = AverageRunConfig(run=str(tmp_path / "nope"), output="x")
    with pytest.raises(ConfigError, match=r"no run at .*nope"):
        average(wanted)


def test_a_merge_after_a_decay_is_warned_of(tmp_path, tokenizer_path, caplog):
    shape = {"vocab_size": 384, "tokenizer": tokenizer_path}
    train(tmp_path / "run", keep_checkpoints=9, **shape)
    wanted = {"run": str(tmp_path / "run"), "output": str(tmp_path / "merged")}
    average(AverageRunConfig(**wanted))
    assert "the learning rate moved from" in caplog.text
