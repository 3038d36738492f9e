"""What importing the package costs, and which names it has."""

import subprocess
import sys

import pytest

import triptych_kernels


def in_a_new_process(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_imports_neither_torch_nor_triton():
    code = "import sys, triptych_kernels; print({'torch', 'triton'} & set(sys.modules))"
    assert in_a_new_process(code) == "set()"


def test_a_submodule_hides_no_function():
    for name in triptych_kernels.__all__:
        assert callable(getattr(triptych_kernels, name))
    assert dir(triptych_kernels) == sorted(triptych_kernels.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute `atention`"):
        _ = triptych_kernels.atention


def test_cpu_tensors_without_the_interpreter_are_refused_with_the_reason():
    code = """
import os
os.environ.pop("TRITON_INTERPRET", None)
import torch, triptych_kernels
q = torch.zeros(4, 1, 16)
try:
    triptych_kernels.attention(q, q, q)
except ValueError as error:
    print(error)
"""
    assert "TRITON_INTERPRET=1 set before the import" in in_a_new_process(code)
