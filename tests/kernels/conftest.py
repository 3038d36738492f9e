"""Runs every kernel test in Triton's interpreter, on CPU tensors.

Or compiled, on a GPU: ``TRIPTYCH_TEST_DEVICE=cuda pytest tests/kernels``.
"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

# Before any kernel module: @triton.jit looks at it once, when it decorates.
os.environ["TRITON_INTERPRET"] = "0" if os.environ.get("TRIPTYCH_TEST_DEVICE") else "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches/kernels"))
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch

DEVICE = os.environ.get("TRIPTYCH_TEST_DEVICE", "cpu")
if DEVICE == "cpu":
    import bf16_interpreter

    bf16_interpreter.install()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _device():
    """Tensors of a test are made on the device."""
    with nullcontext() if DEVICE == "cpu" else torch.device(DEVICE):
        yield


def pytest_collection_modifyitems(items):
    for item in items:
        if DEVICE != "cpu" and "cpu_only" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="is about the CPU"))


def pytest_configure(config):
    config.addinivalue_line("markers", "cpu_only: of the interpreter, or of CPU checks")
