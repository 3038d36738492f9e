"""What is said of a step's cost is what was computed."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tiny import TinyData, packed, tiny_config, tiny_model, tiny_train_config
from triptych.model.families import FAMILIES
from triptych.train import PretrainObjective, Trainer
from triptych.train.measures import Goodput, attended_pairs, peak_flops, step_flops
from triptych.train.metrics import read_metrics

BATCH = packed([list(range(5, 25)), [7, 8, 9], list(range(50, 90))])


@given(st.lists(st.integers(0, 40)), st.one_of(st.none(), st.integers(1, 50)))
def test_pairs_are_those_that_a_mask_lets_through(lengths, window):
    expected = 0
    for length in lengths:
        distance = torch.arange(length)[:, None] - torch.arange(length)
        mask = (distance >= 0) & (distance < (window or length + 1))
        expected += int(mask.sum())
    assert attended_pairs(lengths, window) == expected


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "olmo2"])
def test_the_products_of_a_step_are_those_that_torch_counts(name):
    model = tiny_model(model_type=name)
    with FlopCounterMode(display=False) as counter:
        PretrainObjective().loss(model, BATCH).loss_sum.backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(
        n for op, n in counts.items() if str(op) in ("aten.mm", "aten.addmm")
    )
    config = model.config
    assert FAMILIES[name].experts is None
    # Labels that cost nothing leave out the head's three products.
    head = 2 * config.vocab_size * config.hidden_size
    counted = int((BATCH.labels >= 0).sum())
    unseen = 3 * head * (BATCH.num_tokens - counted)
    lengths = BATCH.cu_seqlens.diff().tolist()
    width = config.num_attention_heads * config.head_dim
    pairs = sum(
        attended_pairs(lengths, config.window(i))
        for i in range(config.num_hidden_layers)
    )
    assert products + unseen == step_flops(config, [BATCH]) - 12 * width * pairs


def test_half_of_a_long_document_is_what_a_causal_mask_leaves():
    config = tiny_config()
    square = 12 * config.num_hidden_layers * 4 * 8 * 64  # a token, of 4 heads of 8
    batch = packed([list(range(5, 69))])
    causal = step_flops(config, [batch]) - 6 * config.num_matmul_parameters() * 64
    assert causal / (square * 64) == pytest.approx(0.5, abs=0.01)


def test_a_run_says_its_time_memory_and_utilisation(tmp_path):
    config = tiny_train_config(tmp_path, steps=10)
    Trainer(tiny_model(), PretrainObjective(), TinyData(), config).run()
    for line in read_metrics(tmp_path):
        assert 0.0 < line["data_seconds"] < line["step_seconds"]
        assert 0.0 < line["mfu"] < 1.0
        assert line["memory_mib"] > 100
        assert 0.0 < line["goodput"] <= 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it handed down")
def test_memory_is_the_own_and_not_that_of_what_started_the_process():
    child = (
        "import torch; from triptych.train.measures import peak_memory_mib;"
        "print(peak_memory_mib(torch.device('cpu')))"
    )
    parent = (
        "import subprocess, sys; held = b'1' * (1 << 30);"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    said = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    )
    assert 50 < float(said.stdout) < 1000


def test_lost_time_and_steps_without_an_update_lower_the_goodput(tmp_path, monkeypatch):
    clock = iter([100.0, 150.0, 160.0, 200.0])
    monkeypatch.setattr("time.time", lambda: next(clock))
    Goodput(tmp_path, [])
    lines = [{"step_seconds": 20.0}, {"step_seconds": 9.0, "fault": "loss_spike"}]
    goodput = Goodput(tmp_path, lines)  # 50 s later, 20 of them well spent
    assert goodput.share({"step_seconds": 10.0}) == 30.0 / 60.0
    assert goodput.share({"step_seconds": 5.0, "fault": "not_finite"}) == 30.0 / 100.0
    sessions = (tmp_path / "sessions.jsonl").read_text().splitlines()
    assert [json.loads(line)["started"] for line in sessions] == [100.0, 150.0]


def test_a_peak_comes_with_its_source():
    peak, source = peak_flops(torch.device("cpu"), torch.float32)
    assert peak > 1e8
    assert "up to 1024" in source


@pytest.mark.parametrize(
    ("name", "tera", "row"),
    [
        ("NVIDIA L4", 121, "L4"),
        ("NVIDIA L40", 181, "L40"),
        ("NVIDIA L40S", 362, "L40S"),
        ("NVIDIA A100-SXM4-80GB", 312, "A100"),
        ("NVIDIA H100 80GB HBM3", 989, "H100"),
        ("NVIDIA H100 PCIe", 756, "H100 PCIe"),
        ("NVIDIA H100 NVL", 835, "H100 NVL"),
        ("NVIDIA H200", 989, "H200"),
        ("NVIDIA GH200 480GB", 989, "GH200"),
        ("NVIDIA B200", 2250, "B200"),
        ("NVIDIA GB200", 2500, "GB200"),
    ],
)
def test_a_device_has_the_peak_of_its_own_name(monkeypatch, name, tera, row):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    found = peak_flops(torch.device("cuda"), torch.bfloat16)
    assert found == (tera * 1e12, f"data sheet of {row}")


def test_a_device_that_is_slow_in_a_type_is_probed_with_little(monkeypatch):
    clock = iter(x * 1.0 for x in range(100))  # every look at the clock is a second
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    peak, source = peak_flops(torch.device("cpu"), torch.bfloat16)
    assert peak == 2 * 256**3
    assert "up to 256" in source
