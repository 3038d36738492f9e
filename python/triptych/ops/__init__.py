"""Fast operators: the one place that chooses who computes them.

On a CPU: plain PyTorch arranged for memory and speed. On CUDA: Triton kernels, and
flash-attn where it is installed. The environment variable `TRIPTYCH_OPS`
(`reference`, `cpu` or `triton`) forces the choice; what cannot be had is an error.
"""

from triptych.ops.attention import attention
from triptych.ops.choice import implementation
from triptych.ops.layers import rms_norm, rotary_tables, rotate, swiglu
from triptych.ops.linear_loss import IGNORE_INDEX, linear_cross_entropy, linear_logprobs
from triptych.ops.rotary import rotary_frequencies

__all__ = [
    "IGNORE_INDEX",
    "attention",
    "implementation",
    "linear_cross_entropy",
    "linear_logprobs",
    "rms_norm",
    "rotary_frequencies",
    "rotary_tables",
    "rotate",
    "swiglu",
]
