"""The checks of `benches/kernels/run_all.py` on wrong kernels, and its tuner's rows."""

import subprocess
import sys
from pathlib import Path

import checking
import layer_checks
import pytest
import torch

from conftest import DEVICE

# The module that a check takes its kernel from, the kernel and a case of the check.
KERNELS = {
    "loss": (checking, "linear_cross_entropy", ("fp16", (1, 64, 2), "plain")),
    "logprobs": (checking, "linear_logprobs", ("bf16",)),
    "statistics": (checking, "linear_statistics", ("fp32",)),
    "layer": (layer_checks, "rms_norm", ("bf16", "norm llama")),
}


def one_percent_more(kernel):
    def wrong(*inputs, **options):
        out = kernel(*inputs, **options)
        return [x * 1.01 for x in out] if isinstance(out, tuple) else out * 1.01

    return wrong


@pytest.mark.parametrize("check", KERNELS)
def test_a_check_passes_a_kernel_and_fails_one_that_is_a_hundredth_off(
    monkeypatch, check
):
    module, kernel, case = KERNELS[check]
    with torch.device("cpu"):  # a check chooses its device itself
        assert checking.check_one(check, (DEVICE, *case))["passed"]
        monkeypatch.setattr(module, kernel, one_percent_more(getattr(module, kernel)))
        row = checking.check_one(check, (DEVICE, *case))
    assert not row["passed"]
    assert "error" not in row, row


def test_a_sinks_gradient_is_checked_too():
    *_, leaves = layer_checks.three("sinks", "cpu")
    assert [tuple(x.shape) for x in leaves][3:] == [(4,)]


FIRST_ROWS = """
import tune
from triptych_kernels import configs
first = {}
for kernel, head_dim, tile in tune.candidates("sm_80"):
    first.setdefault((kernel, head_dim), tile)
assert first["dkdv", 64] == configs.attention_row("dkdv", 64, "sm_80", plain=True)
assert first["statistics", None] == configs.loss_row("statistics", "sm_80", plain=True)
assert first["decode one", 128] == configs.decode_row(128, "sm_80")
"""


@pytest.mark.cpu_only
def test_the_tuner_compares_with_the_row_that_its_own_gpu_would_take():
    # A process of its own: the tuner turns the interpreter off.
    command = [sys.executable, "-c", FIRST_ROWS]
    done = subprocess.run(
        command, cwd=Path(checking.__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
