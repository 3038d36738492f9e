"""Triton kernel of an AdamW step with stochastic rounding: see `optimizer`.

Shape letter in this file: E = elements of a parameter.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl


@triton.jit
def _random_16_bits(first, seed, step, BLOCK: tl.constexpr):
    """(BLOCK,) random numbers below 2^16 of the elements from ``first`` on.

    One call of Philox 4x32-10 (Salmon et al. 2011) serves eight elements: four words
    of two halves. Its counter is (element / 8, step), its key the seed.
    """
    group = first // 8 + tl.arange(0, BLOCK // 8)
    low = group.to(tl.uint32)
    high = (group >> 32).to(tl.uint32)
    a, b, c, d = tl.philox(seed, low, high, low * 0 + step.to(tl.uint32), low * 0)
    words = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [BLOCK // 2])
    return tl.reshape(tl.join(words & 0xFFFF, words >> 16), [BLOCK])


@triton.jit
def _round_stochastically(x, random):
    """Bfloat16 of fp32 x: up with the probability of the part cut off, else down."""
    bits = x.to(tl.uint32, bitcast=True)
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = ((bits + random) & 0xFFFF0000).to(tl.float32, bitcast=True)
    return tl.where(finite, rounded, x).to(tl.bfloat16)


@triton.jit(do_not_specialize=["seed", "step"])
def adamw_kernel(
    param_ptr,  # (E,), read and written
    grad_ptr,  # (E,)
    exp_avg_ptr,  # (E,), read and written
    exp_avg_sq_ptr,  # (E,), read and written
    clip_ptr,  # () fp32, read if HAS_CLIP: factor of the gradient
    E,
    seed,
    step,
    lr,
    keep,  # 1 - lr * weight_decay
    rest1,  # 1 - beta1
    rest2,  # 1 - beta2
    correction1,  # 1 / (1 - beta1^step)
    correction2,  # 1 / (1 - beta2^step)
    eps,
    HAS_CLIP: tl.constexpr,
    STOCHASTIC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Decoupled weight decay and Adam (Loshchilov & Hutter 2019, algorithm 2)."""
    first = tl.program_id(0).to(tl.int64) * BLOCK  # int64: E passes 2**31
    e = first + tl.arange(0, BLOCK)
    inside = e < E
    grad = tl.load(grad_ptr + e, mask=inside, other=0.0).to(tl.float32)
    if HAS_CLIP:
        grad = grad * tl.load(clip_ptr)
    mean = tl.load(exp_avg_ptr + e, mask=inside, other=0.0).to(tl.float32)
    mean = mean + (grad - mean) * rest1
    square = tl.load(exp_avg_sq_ptr + e, mask=inside, other=0.0).to(tl.float32)
    square = square + (grad * grad - square) * rest2
    param = tl.load(param_ptr + e, mask=inside, other=0.0).to(tl.float32)
    deviation = tl.sqrt(square * correction2) + eps
    param = param * keep - lr * (mean * correction1) / deviation
    if STOCHASTIC:
        param = _round_stochastically(param, _random_16_bits(first, seed, step, BLOCK))
    tl.store(param_ptr + e, param.to(param_ptr.dtype.element_ty), mask=inside)
    tl.store(exp_avg_ptr + e, mean.to(exp_avg_ptr.dtype.element_ty), mask=inside)
    square = square.to(exp_avg_sq_ptr.dtype.element_ty)
    tl.store(exp_avg_sq_ptr + e, square, mask=inside)
