"""The loop: pinned, learning, invariant, and the same after any interruption."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.errors import ConfigError, Interrupted
from triptych.model.huggingface import load_model
from triptych.train import (
    DpoObjective,
    OptimizerConfig,
    PretrainObjective,
    StageSchedule,
    Trainer,
    reference_logps,
)
from triptych.train.metrics import read_metrics
from triptych.train.optimizer import create_optimizer, decay_groups
from triptych.train.precision import Precision


def train(output, *, data=None, objective=None, model=None, hooks=None, **changes):
    """Runs a tiny training; returns the trained model and the result."""
    data = TinyData() if data is None else data
    model = tiny_model() if model is None else model
    config = tiny_train_config(output, steps=data.num_steps, **changes)
    trainer = Trainer(
        model, objective or PretrainObjective(), data, config, **(hooks or {})
    )
    return model, trainer.run()


# Checkpoints at the ends of stages only: each one costs some synced writes.
UNSAVED = {"checkpoint_every_steps": 1000}


class Killed(Exception):
    pass


def kill_after(step):
    def on_step(metrics):
        if metrics["step"] == step:
            raise Killed

    return on_step


def test_two_steps_from_a_fixed_seed_give_the_pinned_losses(tmp_path):
    train(tmp_path)
    losses = [line["loss"] for line in read_metrics(tmp_path)[:2]]
    assert losses == pytest.approx([4.592297, 4.593919], rel=1e-5)


def test_a_tiny_model_overfits_one_batch(tmp_path):
    data = TinyData(steps=60, fresh=False)
    stage = [StageSchedule(name="only", steps=60, max_lr=2e-2, schedule="constant")]
    _, result = train(tmp_path, data=data, stages=stage, **UNSAVED)
    assert result.metrics["loss"] < 0.5


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 4])
def test_the_result_does_not_depend_on_micro_batches(tmp_path, micro_batch_rows):
    whole, _ = train(tmp_path / "whole", micro_batch_rows=100, **UNSAVED)
    parts, _ = train(tmp_path / "parts", micro_batch_rows=micro_batch_rows, **UNSAVED)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_dpo_training_raises_accuracy_and_margin(tmp_path):
    model, data = tiny_model(), TinyData(steps=12, documents_per_unit=2, fresh=False)
    objective = DpoObjective(reference_logps(model, data, precision="fp32"))
    _, result = train(tmp_path, data=data, objective=objective, model=model)
    first = read_metrics(tmp_path)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.metrics["accuracy"] == 1.0
    assert result.metrics["margin"] > 0.1
    assert result.metrics["loss"] < first["loss"]


def test_a_run_that_was_killed_ends_with_the_same_weights_and_lines(tmp_path):
    straight, _ = train(tmp_path / "straight")
    with pytest.raises(Killed):
        train(tmp_path / "killed", hooks={"on_step": kill_after(5)})
    steps = []
    resumed, result = train(
        tmp_path / "killed", hooks={"on_step": lambda line: steps.append(line["step"])}
    )
    assert steps == [4, 5, 6, 7, 8, 9, 10]
    assert result.step == 10
    assert same_weights(straight, resumed)
    losses = [
        [(line["step"], line["loss"]) for line in read_metrics(tmp_path / name)]
        for name in ("straight", "killed")
    ]
    assert losses[0] == losses[1]


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    first, _ = train(tmp_path)
    again, result = train(tmp_path, hooks={"on_step": kill_after(10)})
    assert result.step == 10
    assert result.metrics == {}
    assert same_weights(first, again)


HERE = Path(__file__).parent
VICTIM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_trainer import train
from triptych import artefact
from triptych.train import checkpoint

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "between steps":
    train(Path(sys.argv[2]), hooks={"on_step": lambda m: m["step"] == 5 and die()})
write, tensors_only = checkpoint.write_tensors, sys.argv[3] == "inside a save"

def save_then_die(path, *rest):
    write(path, *rest)
    if "step-00000006" in str(path):
        os.truncate(path, 1000)
        die()

if tensors_only:
    checkpoint.write_tensors = save_then_die
else:
    rename = artefact.Draft._rename
    artefact.Draft._rename = lambda self: (
        die() if self.target.name == "step-00000006" else rename(self)
    )
train(Path(sys.argv[2]), async_checkpoints=sys.argv[4] == "True")
"""


@pytest.mark.parametrize(
    ("where", "beside"),
    [
        ("between steps", False),
        ("inside a save", False),
        ("inside a save", True),
        ("before rename", False),
        ("before rename", True),
    ],
)
def test_a_process_killed_at_any_point_goes_on_to_the_same_weights(
    tmp_path, where, beside
):
    straight, _ = train(tmp_path / "straight")
    run = tmp_path / "killed"
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, str(HERE), str(run), where, str(beside)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        timeout=120,
    )
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()
    resumed, _ = train(run, async_checkpoints=beside)
    assert same_weights(straight, resumed)
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["step-00000009", "step-00000010"]


def test_no_thread_is_left_behind_by_a_run_that_its_caller_still_holds(tmp_path):
    before = set(threading.enumerate())
    held = Trainer(
        tiny_model(),
        PretrainObjective(),
        TinyData(),
        tiny_train_config(tmp_path, async_checkpoints=True),
    )
    held.run()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=60)
    assert not [thread.name for thread in left if thread.is_alive()]


def test_checkpoints_written_beside_the_training_have_the_same_bytes(tmp_path):
    train(tmp_path / "waiting", keep_checkpoints=10)
    train(tmp_path / "beside", keep_checkpoints=10, async_checkpoints=True)
    waiting, beside = (tmp_path / x / "checkpoints" for x in ("waiting", "beside"))
    files = sorted(path.relative_to(waiting) for path in waiting.rglob("*.*"))
    assert [f for f in files if f.name == "model.safetensors"]
    for file in files:
        assert (beside / file).read_bytes() == (waiting / file).read_bytes(), file


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("until", "state"), [(5, "interrupted"), (10, "finished")])
def test_the_status_of_a_run_that_ended_names_its_last_checkpoint(
    tmp_path, beside, until, state
):
    steps = []
    hooks = {"on_step": steps.append, "should_stop": lambda: len(steps) == until}
    changes = {"keep_checkpoints": 1, "async_checkpoints": beside}
    try:
        train(tmp_path, hooks=hooks, **changes)
    except Interrupted:
        assert state == "interrupted"
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["step"], status["state"]) == (until, state)
    assert [status["checkpoint"]] == [
        str(path) for path in (tmp_path / "checkpoints").iterdir()
    ]


@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")],
)
def test_the_status_of_a_run_that_broke_off_does_not_say_that_it_runs(
    tmp_path, error, state
):
    def break_off(metrics):
        if metrics["step"] == 5:
            raise error

    with pytest.raises(error):
        train(tmp_path, hooks={"on_step": break_off})
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["step"], status["state"]) == (5, state)
    assert Path(status["checkpoint"]).name == "step-00000003"


def test_a_stop_that_is_asked_for_saves_and_can_be_continued(tmp_path):
    straight, _ = train(tmp_path / "straight")
    with pytest.raises(Interrupted, match="after step 1"):
        train(tmp_path / "stopped", hooks={"should_stop": lambda: True})
    resumed, _ = train(tmp_path / "stopped")
    assert same_weights(straight, resumed)


def test_stage_ends_are_told_before_they_are_saved(tmp_path):
    told = []

    def on_stage_end(name, step, model):
        saved = (tmp_path / "checkpoints" / f"step-{step:08d}").exists()
        told.append((name, step, saved))

    train(tmp_path, hooks={"on_stage_end": on_stage_end})
    assert told == [("first", 6, False), ("second", 10, False)]


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(ConfigError, match="another run: seed: expected 7, found 0"):
        train(tmp_path, seed=7)


def test_a_second_run_in_a_folder_is_refused_while_the_first_one_trains(tmp_path):
    said = []

    def begin_another(metrics):
        if metrics["step"] == 5:
            with pytest.raises(ConfigError, match="locked by one that has not ended"):
                train(tmp_path)
            said.append(metrics["step"])

    model, _ = train(tmp_path, hooks={"on_step": begin_another})
    assert said == [5]
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 11))
    assert same_weights(model, train(tmp_path)[0])  # which has nothing left to do


def test_a_run_writes_metrics_status_and_a_loadable_model(tmp_path):
    model, result = train(tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["stage"] for line in lines] == ["first"] * 6 + ["second"] * 4
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["step"], status["state"]) == (10, "finished")
    assert same_weights(load_model(result.checkpoint_folder), model)


def test_tensorboard_events_are_written_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path, tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_bf16_training_keeps_float32_weights_and_learns(tmp_path):
    data = TinyData(steps=20, fresh=False)
    model, result = train(tmp_path, data=data, precision="bf16", **UNSAVED)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert result.metrics["loss"] < read_metrics(tmp_path)[0]["loss"] - 0.5


def test_fp16_where_gradients_cannot_be_scaled_is_refused():
    with pytest.raises(ConfigError, match="`bf16` or `fp32` on mps, found `fp16`"):
        Precision.choose("fp16", torch.device("mps"))


def test_stages_that_do_not_fit_the_data_are_refused(tmp_path):
    config = tiny_train_config(tmp_path, steps=9)
    with pytest.raises(ConfigError, match=r"expected 10 steps in all.*found 9"):
        Trainer(tiny_model(), PretrainObjective(), TinyData(steps=10), config)


def test_only_matrices_decay_whatever_their_names():
    model = tiny_model(tie_word_embeddings=False, qk_norm=True)
    decayed, others = (dict(group) for group in decay_groups(model))
    assert "lm_head.weight" in decayed
    assert "model.embed_tokens.weight" in others
    assert all(parameter.dim() == 2 for parameter in decayed.values())
    assert {name.rsplit(".", 2)[-2] for name in others} == {
        "embed_tokens",
        "norm",
        "q_norm",
        "k_norm",
        "input_layernorm",
        "post_attention_layernorm",
    }
    optimizer = create_optimizer(model, OptimizerConfig(), 1e-3)
    assert {g["kind"]: g["weight_decay"] for g in optimizer.param_groups} == {
        "matrix": 0.1,
        "head": 0.1,
        "embedding": 0.0,
        "rest": 0.0,
    }


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 0.8875, 0.55, 0.1]),
        ("cosine", [0.5, 1.0, 0.96574, 0.55, 0.1]),
        ("wsd", [0.5, 1.0, 1.0, 1.0, 0.1]),
    ],
)
def test_learning_rates_follow_their_schedule(schedule, expected):
    stage = StageSchedule(
        name="x", steps=10, max_lr=1.0, warmup_steps=2, schedule=schedule
    )
    rates = [stage.lr(step) for step in (1, 2, 3, 6, 10)]
    assert rates == pytest.approx(expected, abs=1e-5)
