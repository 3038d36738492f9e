"""Runs every kernel test in Triton's interpreter, on CPU tensors."""

import os
import sys
from pathlib import Path

# Before any kernel module: @triton.jit looks at it once, when it decorates.
os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch

import bf16_interpreter

bf16_interpreter.install()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
