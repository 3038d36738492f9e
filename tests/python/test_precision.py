"""Which type `auto` takes: the fastest at first, and from then on that of the run."""

import platform
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from test_router_balance import QWEN
from test_trainer import Killed, kill_after, train
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.train import PretrainObjective, RouterBalance, Trainer, precision
from triptych.train.checkpoint import STATE
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks
from triptych.train.resume import settled_precision

CPU = torch.device("cpu")
AMX = "_is_amx_tile_supported"


def has_tiles(monkeypatch, answer, *, vectors=False, maker="GenuineIntel"):
    monkeypatch.setattr(torch.cpu, AMX, lambda: answer)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(precision, "_cpu_maker", lambda: f"vendor_id : {maker}")


@pytest.mark.parametrize(
    ("tiles", "vectors", "maker", "expected"),
    [
        (True, True, "GenuineIntel", "bf16"),
        (False, True, "GenuineIntel", "fp32"),
        (False, True, "AuthenticAMD", "bf16"),
        (False, False, "AuthenticAMD", "fp32"),
    ],
)
def test_auto_is_bf16_on_a_cpu_with_tiles_for_it_or_the_vectors_of_amd(
    monkeypatch, tiles, vectors, maker, expected
):
    has_tiles(monkeypatch, tiles, vectors=vectors, maker=maker)
    assert Precision.choose("auto", CPU).name == expected


def test_bf16_where_it_is_the_slower_type_is_taken_with_a_warning(monkeypatch, caplog):
    has_tiles(monkeypatch, False)
    assert Precision.choose("bf16", CPU).name == "bf16"
    assert "multiplies float32 faster than `bf16`" in caplog.text
    caplog.clear()
    has_tiles(monkeypatch, True)
    Precision.choose("bf16", CPU)
    assert not caplog.text


def test_the_maker_of_the_cpu_is_read_where_the_system_tells_it():
    if sys.platform == "linux" and platform.machine() == "x86_64":
        assert precision._cpu_maker().startswith("vendor_id")


def trainer(output, **hooks):
    config = tiny_train_config(output, steps=6, precision="auto")
    return Trainer(tiny_model(), PretrainObjective(), TinyData(6), config, **hooks)


def test_a_run_goes_on_in_the_type_it_began_in_on_another_machine(
    monkeypatch, tmp_path
):
    has_tiles(monkeypatch, True)
    whole = trainer(tmp_path / "whole")
    whole.run()
    with pytest.raises(Killed):
        trainer(tmp_path / "parts", on_step=kill_after(4)).run()
    has_tiles(monkeypatch, False)
    again = trainer(tmp_path / "parts")
    assert again.precision.name == "bf16"
    again.run()
    assert same_weights(whole.model, again.model)
    assert trainer(tmp_path / "new").precision.name == "fp32"


@pytest.mark.parametrize("text", ["", "[]", '{"run": 3}', '{"run": {"precision": 8}}'])
def test_a_state_that_cannot_be_read_is_left_to_the_one_who_verifies(
    monkeypatch, tmp_path, text
):
    has_tiles(monkeypatch, False)
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / STATE).write_text(text)
    assert settled_precision("auto", CPU, tmp_path, Ranks.current()).name == "fp32"


@pytest.mark.parametrize(
    ("others", "expected"), [(["bf16"], "bf16"), (["fp32"], "fp32")]
)
def test_processes_that_would_differ_all_take_fp32(
    monkeypatch, tmp_path, others, expected
):
    has_tiles(monkeypatch, True)
    ranks = SimpleNamespace(gather=lambda own: [own, *others])
    assert settled_precision("auto", CPU, tmp_path, ranks).name == expected


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_weights_cast_once_a_step_give_the_same_bits(
    tmp_path, monkeypatch, experts, recompute
):
    shape = {**QWEN, "router_aux_loss_coef": 0.5} if experts else {}

    def weights(name):
        model = tiny_model(**shape)
        objective = PretrainObjective()
        if experts:  # whose counts are taken without gradients, before the passes
            objective = RouterBalance(objective, 0.5)
        data = TinyData(steps=6)
        settings = {"precision": "bf16", "micro_batch_rows": 1, "recompute": recompute}
        train(tmp_path / name, model=model, objective=objective, data=data, **settings)
        return model

    once = weights("once")
    monkeypatch.setattr(Precision, "weights_cast_once", lambda _: nullcontext())
    assert same_weights(once, weights("each time"))


# Prints by how many MiB 300 lengths of rows make a process grow.
GROWTH = """
import torch
from triptych.train.precision import Precision
torch.set_num_threads(1)
precision = Precision.choose("bf16", torch.device("cpu"))
weight = torch.zeros(256, 256, requires_grad=True)
def step(length):
    x = torch.zeros(length, 256, requires_grad=True)
    with precision.autocast():
        torch.nn.functional.linear(x, weight).sum().backward()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20
for length in range(100, 110):
    step(length)
before = resident()
for length in range(200, 500):
    step(length)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_rows_of_many_lengths_do_not_make_a_run_grow():
    """By 674 MiB with torch's own bounds, by 48 with ours."""
    call = [sys.executable, "-c", GROWTH]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200
