"""How far a result may be from float64, by dtype of the inputs."""

import os

import torch

# Relative error in the Frobenius norm. fp32 and fp16: 16 and 1 units of rounding
# (2**-24, 2**-11), rounded; bf16: one unit, 2**-8.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 4e-3}

# And at most this many times the error of PyTorch's own operators in that dtype,
# unless it is below the floor, where either error is a matter of the last bit.
FACTOR = 2.0
# A GPU's own exp2 and log2 are off by 2**-22 each: 6e-7 of the loss of a coin flip.
GPU = os.environ.get("TRITON_INTERPRET", "0") != "1"
FLOOR = {
    torch.float32: 7e-7 if GPU else 2e-7,
    torch.float16: 1e-4,
    torch.bfloat16: 1e-3,
}


def relative_error(found, expected):
    norm = expected.norm().item()
    return (found.double() - expected).norm().item() / (norm or 1.0)


def assert_close(found, expected, torch_own, dtype):
    """Holds found against expected (float64) and against torch's own error."""
    error = relative_error(found, expected)
    own = relative_error(torch_own, expected)
    # A single number in the tail of erf: torch itself is worse on a GPU.
    assert error <= max(TOLERANCES[dtype], own if GPU else 0.0)
    assert error <= max(FACTOR * own, FLOOR[dtype]), f"torch itself is at {own:.1e}"
