"""fp16: gradients scaled, overflows left out, in one process and in several."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import rank_worker
from test_ranks import start
from test_trainer import Killed, kill_after, train
from tiny import TinyData
from triptych.train import LossSum, PretrainObjective, TrainingDiverged, checkpoint
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import read_metrics

LAST = "checkpoints/step-00000010"
FP16 = {"precision": "fp16", "micro_batch_rows": 1}


def test_fp16_learns_and_keeps_float32_weights(tmp_path):
    data = TinyData(steps=20, fresh=False)
    settings = {"precision": "fp16", "checkpoint_every_steps": 1000}
    model, result = train(tmp_path, data=data, **settings)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert result.metrics["loss"] < read_metrics(tmp_path)[0]["loss"] - 0.5


def test_an_overflow_is_left_out_and_halves_the_scale_also_after_a_kill(tmp_path):
    changes = {"objective": rank_worker.OverflowAt(), **FP16}
    _, result = train(tmp_path / "a", **changes)
    assert result.skipped_steps == 1
    state = checkpoint.read_state(tmp_path / "a" / LAST)
    assert (state.scaler["scale"], state.scaler["_growth_tracker"]) == (2.0**15, 6)
    with pytest.raises(Killed):
        train(tmp_path / "b", hooks={"on_step": kill_after(5)}, **changes)
    train(tmp_path / "b", **changes)
    for name in ("model.safetensors", "state.json"):
        one, other = (tmp_path / x / LAST / name for x in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()


class OverflowFrom(PretrainObjective):
    """A gradient too large for fp16 at any scale of its first steps, of a small loss."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        loss, grows = found.loss_sum, int(batch.documents[0]) >= 16
        return LossSum(loss + grows * 1e30 * (loss - loss.detach()), found.count)


def test_overflows_without_end_end_the_run_and_name_no_documents(tmp_path):
    """They are no incidents: nothing is written that the sentence could point to."""
    changes = {"max_bad_steps": 3, "max_rewinds": 0, **FP16}
    with pytest.raises(TrainingDiverged, match=r"scale down to 8192: .*`bf16`") as told:
        train(tmp_path, objective=OverflowFrom(), **changes)
    assert "documents" not in str(told.value)
    assert not IncidentLog(tmp_path).read()


class NothingAt(TinyData):
    """No supervised token in step 1."""

    def batch(self, step, first_row=0, num_rows=None):
        batch = super().batch(step, first_row, num_rows)
        if step:
            return batch
        labels = torch.full_like(batch.labels, -100)
        weights = torch.zeros_like(batch.weights)
        return dataclasses.replace(batch, labels=labels, weights=weights)


def test_a_step_with_nothing_to_learn_is_skipped_in_fp16_too(tmp_path):
    _, result = train(tmp_path, data=NothingAt(), **FP16)
    assert result.skipped_steps == 1


@pytest.mark.parametrize("axis", ["replicate", "shard", "tensor", "context"])
def test_an_overflow_in_one_of_two_processes_is_left_out_by_both(tmp_path, axis):
    grid = {axis: 2}
    start(rank_worker.train_fp16, 2, tmp_path / "two", 6, grid)
    start(rank_worker.train_fp16, 2, tmp_path / "two", 10, grid)
    train(tmp_path / "one", objective=rank_worker.OverflowAt(), **FP16)
    one, two = (checkpoint.read_state(tmp_path / x / LAST) for x in ("one", "two"))
    assert two.skipped_steps == one.skipped_steps == 1
    assert two.scaler == one.scaler
    losses = [[x["loss"] for x in read_metrics(tmp_path / y)] for y in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # fp16 has 11 bits


def test_processes_agree_on_an_overflow_that_only_one_of_them_sees():
    start(rank_worker.overflow_alone, 2)
