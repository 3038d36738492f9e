"""Which type `auto` takes: the fastest at first, and from then on that of the run."""

from types import SimpleNamespace

import pytest
import torch

from test_trainer import Killed, kill_after
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.train import PretrainObjective, Trainer, precision
from triptych.train.checkpoint import STATE
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks
from triptych.train.resume import settled_precision

CPU = torch.device("cpu")
PROBES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.fixture
def seconds(monkeypatch):
    """Sets what a product takes in each type, and whether there are instructions."""
    precision.cpu_computes_bf16.cache_clear()

    def pretend(fp32, bf16, *, instructions):
        times = {torch.float32: fp32, torch.bfloat16: bf16}
        monkeypatch.setattr(precision, "_product_seconds", times.__getitem__)
        for probe in PROBES:
            monkeypatch.setattr(torch.cpu, probe, lambda: instructions)

    yield pretend
    precision.cpu_computes_bf16.cache_clear()


@pytest.mark.parametrize(
    ("fp32", "bf16", "instructions", "expected"),
    [
        (3.0, 1.0, True, "bf16"),
        (1.25, 1.0, True, "bf16"),
        (1.15, 1.0, True, "fp32"),
        (0.6, 1.0, True, "fp32"),
        (3.0, 1.0, False, "fp32"),
    ],
)
def test_auto_is_bf16_on_a_cpu_only_where_its_products_are_faster(
    seconds, fp32, bf16, instructions, expected
):
    seconds(fp32, bf16, instructions=instructions)
    assert Precision.choose("auto", CPU).name == expected


def test_the_measurement_is_of_both_types_and_draws_no_random_number():
    before = torch.get_rng_state()
    times = [precision._product_seconds(x) for x in (torch.float32, torch.bfloat16)]
    assert min(times) > 0.0
    assert torch.equal(before, torch.get_rng_state())


def trainer(output, **hooks):
    config = tiny_train_config(output, steps=6, precision="auto")
    return Trainer(tiny_model(), PretrainObjective(), TinyData(6), config, **hooks)


def test_a_run_goes_on_in_the_type_it_began_in_wherever_another_is_faster(
    seconds, tmp_path
):
    seconds(3.0, 1.0, instructions=True)
    whole = trainer(tmp_path / "whole")
    whole.run()
    with pytest.raises(Killed):
        trainer(tmp_path / "parts", on_step=kill_after(4)).run()
    precision.cpu_computes_bf16.cache_clear()
    seconds(0.6, 1.0, instructions=True)
    again = trainer(tmp_path / "parts")
    assert again.precision.name == "bf16"
    again.run()
    assert same_weights(whole.model, again.model)
    assert trainer(tmp_path / "new").precision.name == "fp32"


@pytest.mark.parametrize("text", ["", "[]", '{"run": 3}', '{"run": {"precision": 8}}'])
def test_a_state_that_cannot_be_read_is_left_to_the_one_who_verifies(
    seconds, tmp_path, text
):
    seconds(0.6, 1.0, instructions=True)
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / STATE).write_text(text)
    assert settled_precision("auto", CPU, tmp_path, Ranks.current()).name == "fp32"


@pytest.mark.parametrize(
    ("others", "expected"), [(["bf16"], "bf16"), (["fp32"], "fp32")]
)
def test_processes_that_would_differ_all_take_fp32(seconds, tmp_path, others, expected):
    seconds(3.0, 1.0, instructions=True)
    ranks = SimpleNamespace(gather=lambda own: [own, *others])
    assert settled_precision("auto", CPU, tmp_path, ranks).name == expected
