"""The gradient of attention sinks: logits that only the softmax's denominator sees.

A sink is a key with a score of its own and a value of zero (gpt-oss, 2025).
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def sink_gradient_kernel(
    sinks_ptr,  # (H,)
    lse_ptr,  # (H, T) fp32: base-2 log-sum-exp of each row, the sink included
    delta_ptr,  # (H, T) fp32: sum over keys of p * grad_p, or over D of o * grad_o
    grad_sinks_ptr,  # (H,), written
    T,
    BLOCK_I: tl.constexpr,
):
    """Sums -p * delta over all queries of a head, in their order; p is the sink's."""
    head = tl.program_id(0).to(tl.int64)
    sink = tl.load(sinks_ptr + head).to(tl.float32) * LOG2E
    total = tl.zeros([BLOCK_I], tl.float32)
    for i_start in range(0, T, BLOCK_I):
        i = i_start + tl.arange(0, BLOCK_I)
        lse = tl.load(lse_ptr + head * T + i, mask=i < T, other=float("inf"))
        delta = tl.load(delta_ptr + head * T + i, mask=i < T, other=0.0)
        total -= tl.exp2(sink - lse) * delta
    grad = tl.sum(total, axis=0).to(grad_sinks_ptr.dtype.element_ty)
    tl.store(grad_sinks_ptr + head, grad)
