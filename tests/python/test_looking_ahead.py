"""A host that launches the next step before it reads this one: the same run, to the bit."""

import math

import pytest
import torch

import sharded_worker
from test_ranks import start
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.train import (
    OptimizerConfig,
    PretrainObjective,
    RouterBalance,
    Trainer,
    gradient,
)
from triptych.train.averaging import AverageConfig
from triptych.train.health import Reading
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import read_metrics
from triptych.train.optimizer import create_optimizer

TIMES = (
    "tokens_per_second",
    "step_seconds",
    "data_seconds",
    "mfu",
    "memory_mib",
    "goodput",
)


def trainer(folder, objective=None, **changes):
    config = tiny_train_config(folder, **changes)
    return Trainer(tiny_model(), objective or PretrainObjective(), TinyData(), config)


def lines(folder):
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in read_metrics(folder)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"micro_batch_rows": 1},
        {"optimizer": OptimizerConfig(name="muon")},
        {"average": AverageConfig(beta=0.5)},
        {"clip_norm": None},
    ],
    ids=["plain", "micro-batches", "muon", "averaged", "not clipped"],
)
def test_a_run_that_looks_ahead_has_the_bits_of_one_that_waits(
    tmp_path, monkeypatch, changes
):
    runs = {}
    for name, devices in (("waits", ()), ("looks", ("cpu",))):
        monkeypatch.setattr(gradient, "ASYNCHRONOUS", devices)
        runs[name] = trainer(tmp_path / name, **changes)
        assert runs[name].looks_ahead is (name == "looks")
        runs[name].run()
    assert same_weights(runs["waits"].model, runs["looks"].model)
    assert lines(tmp_path / "waits") == lines(tmp_path / "looks")


# Name: (grid, other settings) of two processes.
GRIDS = {
    "copies": ({}, {}),
    "copies, not clipped": ({}, {"clip_norm": None}),
    "copies, a fault of the data": ({}, {"objective": sharded_worker.NanAt()}),
    "copies, muon": ({}, {"optimizer": OptimizerConfig(name="muon")}),
    "shards": ({"shard": 2}, {}),
    "shards, a fault of the data": (
        {"shard": 2},
        {"objective": sharded_worker.NanAt()},
    ),
    "shards, muon": ({"shard": 2}, {"optimizer": OptimizerConfig(name="muon")}),
    "tensor": ({"tensor": 2}, {}),
    "tokens": ({"context": 2}, {}),
}


def weights_of(run):
    last = run / "checkpoints" / "step-00000010"
    return [path.read_bytes() for path in sorted(last.rglob("*.safetensors"))]


def test_processes_that_look_ahead_have_the_bits_of_ones_that_wait(tmp_path):
    calls = {
        "waits": sharded_worker.train_all,
        "looks": sharded_worker.train_looking_ahead,
    }
    for name, target in calls.items():
        cases = [
            ((tmp_path / name / grid, parallel), settings)
            for grid, (parallel, settings) in GRIDS.items()
        ]
        start(target, 2, cases)
    for grid in GRIDS:
        waits, looks = tmp_path / "waits" / grid, tmp_path / "looks" / grid
        assert lines(waits) == lines(looks), grid
        assert weights_of(waits) == weights_of(looks) != [], grid
        faults = [incident["step"] for incident in IncidentLog(looks).read()]
        assert faults == ([4] if "fault" in grid else []), grid


def test_the_next_gradient_is_launched_before_this_step_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(gradient, "ASYNCHRONOUS", ("cpu",))
    happened = []
    run = trainer(tmp_path)
    launch, read = run.launcher.launch, gradient.Numbers.read

    def launching(step, *rest):
        happened.append(f"launch {step}")
        return launch(step, *rest)

    def reading(numbers):
        happened.append("read")
        return read(numbers)

    monkeypatch.setattr(run.launcher, "launch", launching)
    monkeypatch.setattr(gradient.Numbers, "read", reading)
    run.run()
    last = run.num_steps - 1
    between = [x for step in range(1, last + 1) for x in (f"launch {step}", "read")]
    assert happened == ["launch 0", *between, "read"]


def test_runs_whose_next_step_depends_on_what_the_host_reads_wait(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(gradient, "ASYNCHRONOUS", ("cpu",))
    assert not trainer(tmp_path / "fp16", precision="fp16").looks_ahead
    balanced = RouterBalance(PretrainObjective(), 0.01)
    assert not trainer(tmp_path / "experts", objective=balanced).looks_ahead
    eight = trainer(tmp_path / "8", optimizer=OptimizerConfig(state_bits=8))
    assert not eight.looks_ahead


def state_of(model, optimizer):
    weights = [p.detach().clone() for p in model.parameters()]
    moments = [x.clone() for s in optimizer.state.values() for x in s.values()]
    return weights + moments


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_update_left_out_on_the_device_changes_no_bit_whatever_the_gradient(name):
    model = tiny_model()
    optimizer = create_optimizer(model, OptimizerConfig(name=name), 1e-2)
    assert gradient.can_leave_out(optimizer)
    for fill in (0.5, math.nan, math.inf, 0.25):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, fill)
        before = state_of(model, optimizer)
        faulty = torch.tensor(not math.isfinite(fill))
        gradient.step_unless(faulty, optimizer)
        after = state_of(model, optimizer)
        if not math.isfinite(fill):
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        else:
            assert not torch.equal(before[0], after[0])
        assert all(bool(x.isfinite().all()) for x in after)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_update_not_left_out_is_the_usual_one(name):
    found = []
    for left in (False, True):
        model = tiny_model()
        optimizer = create_optimizer(model, OptimizerConfig(name=name), 1e-2)
        for fill in (0.5, -0.25):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, fill)
            if left:
                gradient.step_unless(torch.tensor(False), optimizer)
            else:
                optimizer.step()
        found.append(state_of(model, optimizer))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("loss", "norm", "limits", "expected"),
    [
        (2.0, 1.0, (math.inf, math.inf), False),
        (math.nan, 1.0, (math.inf, math.inf), True),
        (math.inf, 1.0, (math.inf, math.inf), True),
        (-math.inf, 1.0, (math.inf, math.inf), True),
        (2.0, math.inf, (math.inf, math.inf), True),
        (2.0, math.nan, (3.0, 3.0), True),
        (2.0, 1.0, (2.0, 1.0), False),
        (2.1, 1.0, (2.0, 1.0), True),
        (2.0, 1.1, (2.0, 1.0), True),
    ],
)
def test_the_device_finds_at_fault_what_the_host_does(loss, norm, limits, expected):
    tensors = torch.tensor(loss, dtype=torch.float64), torch.tensor(norm)
    assert gradient.exceeds(*tensors, Reading(*limits)).item() is expected
