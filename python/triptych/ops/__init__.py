"""Fast operators: the one place that chooses who computes them.

On a CPU: kernels of the engine where the processor has the instructions, else plain
PyTorch arranged for memory and speed. On CUDA: Triton kernels, and for attention flash-attn
where it is installed, or torch's `varlen_attn` where Triton is not. The environment variable
`TRIPTYCH_OPS` forces the choice: `reference`, `cpu` or `triton` for all, `attention=varlen`
or `rms_norm=cpu` for one, commas between. What cannot be had is an error.
"""

from triptych.ops.accumulation import accumulating
from triptych.ops.attention import attention
from triptych.ops.choice import implementation
from triptych.ops.decoding import decode_attention
from triptych.ops.layers import (
    add_rms_norm,
    geglu,
    relu2,
    rms_norm,
    rope,
    rotary_tables,
    rotate,
    swiglu,
)
from triptych.ops.linear_loss import (
    IGNORE_INDEX,
    linear_cross_entropy,
    linear_logprobs,
    linear_statistics,
)
from triptych.ops.matrices import decoding, embedding, linear
from triptych.ops.orthogonal import orthogonalize
from triptych.ops.parallel_loss import (
    parallel_cross_entropy,
    parallel_logprobs,
    parallel_statistics,
)
from triptych.ops.rotary import rotary_frequencies

__all__ = [
    "IGNORE_INDEX",
    "accumulating",
    "add_rms_norm",
    "attention",
    "decode_attention",
    "decoding",
    "embedding",
    "geglu",
    "implementation",
    "linear",
    "linear_cross_entropy",
    "linear_logprobs",
    "linear_statistics",
    "orthogonalize",
    "parallel_cross_entropy",
    "parallel_logprobs",
    "parallel_statistics",
    "relu2",
    "rms_norm",
    "rope",
    "rotary_frequencies",
    "rotary_tables",
    "rotate",
    "swiglu",
]
