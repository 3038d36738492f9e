"""What the host does around a launch: nothing that a GPU must be waited for.

A copy from the host or a look at a number waits, and ends the capture of a CUDA graph.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import triptych_kernels as kernels
from triptych import ops

WAITS = {"tensor", "item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__"}


class Called(TorchFunctionMode):
    """Names of the functions of torch that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_function__(self, function, types, arguments=(), named=None):
        self.names.add(getattr(function, "__name__", ""))
        return function(*arguments, **(named or {}))


def packed(*heads):
    """Tensors that have a device and no numbers: whoever reads one meets an error."""
    return [torch.empty(5, n, 16, device="meta", requires_grad=True) for n in heads]


def hidden_states():
    hidden, weight = (
        torch.empty(n, 8, device="meta", requires_grad=True) for n in (5, 9)
    )
    return hidden, weight, torch.empty(5, dtype=torch.int64, device="meta")


def of_one_token(q, k):
    lengths = torch.empty(5, dtype=torch.int64, device="meta")
    return kernels.decode_attention(q, k[:, None], k[:, None], lengths)


OPERATORS = {
    "attention": lambda: kernels.attention(*packed(4, 2, 2)),
    "attention of triptych.ops": lambda: ops.attention(*packed(4, 2, 2)),
    "decode_attention": lambda: of_one_token(*packed(4, 2)),
    "linear_cross_entropy": lambda: kernels.linear_cross_entropy(
        *hidden_states(), reduction="sum", label_smoothing=0.1, z_loss=0.1
    ),
    "linear_logprobs": lambda: kernels.linear_logprobs(*hidden_states()),
    "summed_cross_entropy": lambda: kernels.summed_cross_entropy(*hidden_states()),
    "rms_norm": lambda: kernels.rms_norm(packed(4)[0], torch.empty(16, device="meta")),
    "rope": lambda: kernels.rope(
        *packed(4, 2), frequencies=torch.empty(8, device="meta")
    ),
    "swiglu": lambda: kernels.swiglu(*packed(4, 4)),
}


@pytest.mark.cpu_only
@pytest.mark.parametrize("call", OPERATORS.values(), ids=OPERATORS)
def test_no_operator_copies_from_the_host_or_waits_for_the_device(call):
    with Called() as called:
        call()
    assert called.names
    assert not called.names & WAITS
