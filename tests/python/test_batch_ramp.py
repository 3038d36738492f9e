"""A batch that grows: rows by step, and the same data in the same order."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from small_shards import varied, write_sources
from triptych.commands.inspect import InspectConfig, inspect
from triptych.commands.pretrain import PretrainConfig, order, pretrain
from triptych.commands.training import Watch
from triptych.curriculum import BatchRamp, ExitCondition, StageConfig
from triptych.data import OrderedRows
from triptych.errors import ConfigError
from triptych.model.shape import ModelShape
from triptych.train.metrics import read_metrics

RAMP = BatchRamp(first=2, steps=6)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ramp")
    return write_sources(folder, web=varied(90), code=varied(90, source=1))


def stage(name="grows", **changes):
    table = {"stage": name, "learning_rate": 1e-2, "batch_size": 8, "steps": 10}
    return StageConfig(**{**table, "batch_ramp": RAMP, **changes})


def rows_of(sources, stages, **changes):
    folders = {name: sources / name for name in ("web", "code")}
    return OrderedRows(folders, stages, seed=5, seq_len=32, **changes)


@pytest.mark.parametrize(
    ("ramp", "batch_size", "expected"),
    [
        (BatchRamp(first=2, steps=6), 8, [2, 2, 4, 4, 6, 6, 8, 8]),
        (BatchRamp(first=4, steps=3), 8, [4, 4, 4, 8, 8, 8, 8, 8]),
        (BatchRamp(first=1, steps=2), 8, [1, 4, 8, 8, 8, 8, 8, 8]),
        (BatchRamp(first=8, steps=5), 8, [8] * 8),
        (BatchRamp(first=1, steps=5), 4, [1, 1, 2, 2, 3, 4, 4, 4]),
    ],
)
def test_the_batch_grows_in_multiples_of_its_first(ramp, batch_size, expected):
    assert [ramp.rows(step, batch_size) for step in range(8)] == expected
    table = stage(batch_size=batch_size, batch_ramp=ramp, steps=8)
    batches = table.batches()
    assert [rows for steps, rows in batches for _ in range(steps)] == expected
    assert table.num_rows == sum(expected)


def test_a_mistyped_batch_is_refused_at_once_where_it_was_counted_up_to(sources):
    """That is, each of its 2^40 sizes, of which the ramp has three."""
    table = stage(batch_size=1 << 40, batch_ramp=BatchRamp(first=1, steps=2))
    assert [steps for steps, _ in table.batches()] == [1, 1, 8]
    with pytest.raises(ConfigError, match="at most 16777216 rows"):
        rows_of(sources, [table])


def test_the_mixture_is_exact_while_the_batch_grows(sources):
    grows = stage(
        steps=64,
        batch_size=32,
        batch_ramp=BatchRamp(first=1, steps=62),
        mixture={"web": 0.97, "code": 0.03},
    )
    rows, dealt, of_code = rows_of(sources, [grows]), 0, 0
    for step in range(rows.num_steps):
        for row in rows.named_rows(step):
            dealt, of_code = dealt + 1, of_code + (row[0]["source"] == "code")
            assert abs(of_code - 0.03 * dealt) < 1


def test_a_growing_batch_reads_the_rows_of_an_even_one_in_their_order(sources):
    one_source = {"mixture": {"web": 1.0}}
    grows = rows_of(sources, [stage(**one_source)])
    even = rows_of(
        sources, [stage(steps=28, batch_size=2, batch_ramp=None, **one_source)]
    )
    assert [grows.rows_per_step(s) for s in range(10)] == [2, 2, 4, 4, 6, 6, *[8] * 4]
    dealt = [row for step in range(10) for row in grows.named_rows(step)]
    expected = [row for step in range(28) for row in even.named_rows(step)]
    assert dealt == expected


def test_shares_of_the_mixture_hold_at_every_size_of_the_batch(sources):
    grows = rows_of(sources, [stage(mixture={"web": 1.0, "code": 1.0})])
    for step in range(10):
        names = Counter(row[0]["source"] for row in grows.named_rows(step))
        assert names["web"] == names["code"] == grows.rows_per_step(step) / 2


def test_tokens_of_a_stage_count_the_smaller_batches():
    tokens = {"steps": None, "tokens": 24 * 32, "batch_size": 8}
    resolved = stage(**tokens).resolved(32)
    assert (resolved.num_steps, resolved.num_rows) == (6, 24)
    resolved = stage(**{**tokens, "tokens": 24 * 32 + 1}).resolved(32)
    assert (resolved.num_steps, resolved.num_rows) == (7, 32)
    with pytest.raises(ConfigError, match=r"the stage's 23 rows, found 24 rows"):
        stage(**{**tokens, "tokens": 23 * 32}).resolved(32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_ramp": BatchRamp(first=3, steps=6)}, "a divisor of batch_size = 8"),
        ({"batch_ramp": BatchRamp(first=2, steps=11)}, "at most steps = 10, found 11"),
        (
            {"ramp_steps": 3},
            "ramp_steps: expected at most 2, the steps before the batch",
        ),
    ],
)
def test_an_impossible_ramp_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        stage(**change)


@pytest.fixture
def settings(sources, tmp_path):
    return PretrainConfig(
        output=str(tmp_path / "run"),
        tokenizer=str(sources / "tokenizer.json"),
        sources={name: str(sources / name) for name in ("web", "code")},
        model=ModelShape(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        stage=(stage("plain", steps=3, batch_ramp=None), stage(ramp_steps=2)),
        seq_len=32,
        micro_batch_rows=3,
        checkpoint_every_steps=2,
        precision="fp32",
        threads=1,
        tensorboard=False,
    )


class Killed(Exception):
    pass


def kill(metrics):
    if metrics["step"] == 8:
        raise Killed


def test_a_run_killed_while_its_batch_grows_goes_on_to_the_same_bytes(settings):
    run = Path(settings.output)
    last = run / "checkpoints" / "step-00000013" / "model.safetensors"
    result = pretrain(settings)
    straight, lines = last.read_bytes(), read_metrics(run)
    shutil.rmtree(run)
    with pytest.raises(Killed):
        pretrain(settings, Watch(on_step=kill))
    assert pretrain(settings).source_tokens == result.source_tokens
    assert last.read_bytes() == straight
    hashes = [line["rolling_hash"] for line in lines]
    assert [line["rolling_hash"] for line in read_metrics(run)] == hashes
    planned = json.loads((run / "tokens.json").read_text())["sources"]
    assert sum(x["consumed"] for x in planned.values()) == result.tokens
    assert inspect(InspectConfig(run=str(run), step=12, verify=True))["verified_steps"]


def test_a_stage_whose_batch_grows_may_end_early_but_not_while_it_grows(settings):
    ends = ExitCondition(loss_below=100.0, window_steps=1)
    grows = dataclasses.replace(settings.stage[1], exit=ends)
    settings = dataclasses.replace(settings, stage=(settings.stage[0], grows))
    assert pretrain(settings).step == 3 + RAMP.steps
    skipping = dataclasses.replace(
        settings, skip=((4, 6),), output=settings.output + "2"
    )
    assert order(skipping).data_step(12) == 14
    assert pretrain(skipping).step == 3 + RAMP.steps
