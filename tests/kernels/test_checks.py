"""The checks of `benches/kernels/run_all.py` on wrong kernels."""

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
