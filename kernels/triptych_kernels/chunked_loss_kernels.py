"""Triton kernel of the summed loss: a row of logits becomes its own gradient.

Shape letters in this file: N = tokens of a chunk, V = vocabulary entries.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202  Triton infers the types of a kernel's arguments.
import triton
import triton.language as tl

from triptych_kernels.softcap import tanh

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
# Below every logit, but finite: a lane that has met none yet must not make inf - inf.
LEAST = tl.constexpr(-1e38)


@triton.jit
def _capped(z, softcap, HAS_SOFTCAP: tl.constexpr):
    if HAS_SOFTCAP:
        z = softcap * tanh(z / softcap)
    return z


@triton.jit
def loss_and_gradient_kernel(
    logits_ptr,  # (N, V) fp32, rows V apart; spoiled if WITH_GRADIENT
    gradient_ptr,  # (N, V), written: where the logits are, in the dtype of the products
    targets_ptr,  # (N,) int64, negative where ignored
    factors_ptr,  # (N,) fp32: of each token's loss
    losses_ptr,  # (N,) fp32, written: factor * loss
    scale_ptr,  # () fp32: gradients are divided by it
    V,
    stride_gn,  # of a row's gradient: V elements of fp32, in its own
    softcap,
    z_loss,
    label_smoothing,
    HAS_SOFTCAP: tl.constexpr,
    HAS_MEAN: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Loss of one token, and the gradient of its logits, in two walks over the row.

    Logits are told from the row's largest, never from its log-sum-exp, which one fp32
    number holds too coarsely where they are large.

    The first is an online log-sum-exp a lane (Milakov & Gimelshein 2018), joined at its
    end: one order of sums, whatever else is in the batch. The second finds the row in
    the L2 cache. 16-bit gradients fill the first half of the row's own memory: what is
    written there was read before, by the whole program, which the barrier sees to.
    """
    n = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    z_ptr = logits_ptr + n * V
    g_ptr = gradient_ptr + n * stride_gn
    target = tl.load(targets_ptr + n)
    if target < 0:
        tl.store(losses_ptr + n, 0.0)
        if WITH_GRADIENT:
            zero = tl.zeros([BLOCK], gradient_ptr.dtype.element_ty)
            for v_start in range(0, V, BLOCK):
                tl.store(g_ptr + v_start + lanes, zero, mask=lanes < V - v_start)
        return
    m = tl.full([BLOCK], LEAST, tl.float32)
    s = tl.zeros([BLOCK], tl.float32)
    z_sum = tl.zeros([BLOCK], tl.float32)
    for v_start in range(0, V, BLOCK):
        inside = lanes < V - v_start
        z = tl.load(z_ptr + v_start + lanes, mask=inside, other=0.0)
        z = _capped(z, softcap, HAS_SOFTCAP)
        if HAS_MEAN:
            z_sum += z
        z = tl.where(inside, z, -float("inf"))
        m_new = tl.maximum(m, z)
        s = s * tl.exp2((m - m_new) * LOG2E) + tl.exp2((z - m_new) * LOG2E)
        m = m_new
    largest = tl.max(m, axis=0)
    total = tl.sum(s * tl.exp2((m - largest) * LOG2E), axis=0)
    above = tl.log2(total) * LN2  # of the log-sum-exp, above the largest logit
    lse = largest + above
    # A target past the vocabulary has no logit: NaN says so, loudly.
    z_target = tl.load(z_ptr + target, mask=target < V, other=float("nan"))
    z_target = _capped(z_target, softcap, HAS_SOFTCAP)
    loss = above - (1.0 - label_smoothing) * (z_target - largest) + z_loss * lse * lse
    if HAS_MEAN:
        loss -= label_smoothing * (tl.sum(z_sum, axis=0) / V - largest)
    factor = tl.load(factors_ptr + n)
    tl.store(losses_ptr + n, factor * loss)
    if WITH_GRADIENT:
        factor = factor / tl.load(scale_ptr)
        of_p = factor * (1.0 + 2.0 * z_loss * lse) / total
        for v_start in range(0, V, BLOCK):
            v = v_start + lanes
            z = tl.load(z_ptr + v, mask=v < V, other=0.0)
            tl.debug_barrier()
            z = _capped(z, softcap, HAS_SOFTCAP)
            g = of_p * tl.exp2((z - largest) * LOG2E)
            g -= tl.where(v == target, factor * (1.0 - label_smoothing), 0.0)
            if HAS_MEAN:
                g -= factor * label_smoothing / V
            if HAS_SOFTCAP:
                ratio = z / softcap
                g *= 1.0 - ratio * ratio
            tl.store(g_ptr + v, g.to(gradient_ptr.dtype.element_ty), mask=v < V)
