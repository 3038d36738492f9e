"""Soft-capped logits and attention scores: ``cap * tanh(z / cap)`` (Gemma 2, 2024)."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def tanh(x):
    """Hyperbolic tangent, within 3 units in the last place of fp32 everywhere.

    ``1 - 2 / (exp(2|x|) + 1)`` is 6e-8 off in absolute terms, which for small x is
    large in relative ones; below 0.25 the odd Taylor series stands in (next term
    8e-9 relative). exp2, because libdevice has no interpreter.
    """
    a = tl.abs(x)
    far = 1.0 - 2.0 / (tl.exp2(a * 2.8853900817779268) + 1.0)  # 2 * log2(e)
    x2 = x * x
    series = 62.0 / 2835.0 * x2 - 17.0 / 315.0
    series = (series * x2 + 2.0 / 15.0) * x2 - 1.0 / 3.0
    near = x + x * (x2 * series)
    return tl.where(a < 0.25, near, tl.where(x < 0.0, -far, far))
