"""Cross-entropy and log-probabilities of the output layer, without the logits.

One operator gives four numbers a token (log-probability of the target, log-sum-exp,
mean logit, entropy), all differentiable; every loss is a few lines on those vectors.
Memory: 5 * S * N floats forward (S <= 16) and a workspace of `WORKSPACE_BYTES` backward,
where N x V logits would be 2.1 GB at N = 8192, V = 128k in bf16.
Price: the backward computes the logits again, 8 NVD FLOPs against 6 NVD.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych_kernels import linear_loss_kernels as kernels
from triptych_kernels.configs import Tile, cdiv, loss_tile
from triptych_kernels.loss_scales import coefficients_and_scales, weighed
from triptych_kernels.operators import differentiate, operator, shapes_of
from triptych_kernels.supervision import count_supervised

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
IGNORE_INDEX = -100

# Largest (N, C) chunk of logit gradients held at once. Any size gives the same bits.
WORKSPACE_BYTES = 256 << 20

# Tokens a program joins; any power of two does, the kernel is tiny.
_COMBINE_BLOCK = 256


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    gradient_filter: float = 0.0,
) -> Tensor:
    """Cross-entropy, in nats, of the logits ``softcap(hidden @ weight.T)``.

    Args:
        hidden: (N, D) fp32, fp16 or bf16.
        weight: (V, D) output layer, of the same dtype.
        targets: (N,) integer vocabulary indices, or ``ignore_index``.
        ignore_index: targets of this value have no loss and no gradient.
        z_loss: adds ``z_loss * lse**2`` a supervised token (PaLM, section 5).
        label_smoothing: in [0, 1], as in `torch.nn.functional.cross_entropy`.
        softcap: logits become ``softcap * tanh(logits / softcap)``.
        reduction: "mean" over the supervised tokens, "sum", or "none".
        gradient_filter: leaves tiles of logits out of the gradient in which no token
            has its target and every probability is below this; 0 is exact. Wijmans
            et al. 2025 use 2^-12 with bf16, and the exact gradient to pre-train.

    Returns:
        fp32: () for "mean" and "sum", (N,) for "none". With "sum" and "none" a target
        outside the vocabulary makes NaN, since asking would stall the GPU.

    Raises:
        ValueError: a shape, dtype or option is wrong; and for "mean", which waits for
            the device to count, if no token is supervised or a target is outside.
    """
    _check_filter(gradient_filter)
    check_inputs(hidden, weight, targets, softcap)
    _check_dtypes(hidden, weight)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"reduction must be `mean`, `sum` or `none`, found `{reduction}`"
        )
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], found {label_smoothing}")
    smooth = label_smoothing > 0.0
    if smooth and gradient_filter:
        raise ValueError("label_smoothing gives every logit a gradient: no filter")
    logps, lse, mean_logit, *_ = _statistics(
        hidden,
        weight,
        targets,
        ignore_index,
        softcap,
        1.0,
        smooth,
        False,
        gradient_filter,
    )
    losses: Tensor = -logps
    if smooth:
        uniform = lse - mean_logit  # -mean over v of log p(v)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * uniform
    if z_loss:
        losses = losses + z_loss * lse.square()
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    count: Tensor = count_supervised(targets, ignore_index, weight.shape[0])
    return losses.sum() / count


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    gradient_filter: float = 0.0,
) -> Tensor:
    """Log-probability of each target, at a temperature.

    Args:
        hidden: (N, D) fp32, fp16 or bf16.
        weight: (V, D) output layer, of the same dtype.
        targets: (N,) integer vocabulary indices, or -100.
        temperature: positive; the logits are divided by it, after the cap.
        softcap: as in `linear_cross_entropy`.
        gradient_filter: leaves tiles of logits out of the gradient in which no token
            has its target and every probability is below this; 0 is exact. Wijmans
            et al. 2025 use 2^-12 with bf16, and the exact gradient to pre-train.

    Returns:
        (N,) fp32, in nats. 0, without gradient, where the target is -100; NaN where it
        is outside the vocabulary.
    """
    _check_filter(gradient_filter)
    check_inputs(hidden, weight, targets, softcap)
    _check_dtypes(hidden, weight)
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, found {temperature}")
    logps: Tensor = _statistics(
        hidden,
        weight,
        targets,
        IGNORE_INDEX,
        softcap,
        temperature,
        False,
        False,
        gradient_filter,
    )[0]
    return logps


class TokenStatistics(NamedTuple):
    """Four fp32 numbers a token, (N,) each; 0 where the target is -100."""

    logps: Tensor  # log-probability of the target, nats
    lse: Tensor  # log-sum-exp of the logits, nats
    entropy: Tensor  # of the distribution over the vocabulary, nats
    mean_logit: Tensor


def linear_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> TokenStatistics:
    """What losses on the output layer are made of, all of it differentiable.

    Args:
        hidden: (N, D) fp32, fp16 or bf16.
        weight: (V, D) output layer, of the same dtype.
        targets: (N,) integer vocabulary indices, or -100.
        temperature: positive; the logits are divided by it, after the cap.
        softcap: as in `linear_cross_entropy`.
    """
    check_inputs(hidden, weight, targets, softcap)
    _check_dtypes(hidden, weight)
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, found {temperature}")
    logps, lse, mean_logit, entropy, _ = _statistics(
        hidden, weight, targets, IGNORE_INDEX, softcap, temperature, True, True
    )
    return TokenStatistics(logps, lse, entropy, mean_logit)


def _check_filter(gradient_filter: float) -> None:
    if not 0.0 <= gradient_filter < 1.0:
        raise ValueError(
            f"gradient_filter must be a probability below 1, found {gradient_filter}"
        )


def check_inputs(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None
) -> None:
    """Raises ValueError unless shapes and dtypes are as the losses' docstrings say."""
    if hidden.ndim != 2 or hidden.dtype not in DTYPES:
        raise ValueError(
            "hidden must be (tokens, hidden_size) of float32, float16 or bfloat16, "
            f"found {tuple(hidden.shape)} of {hidden.dtype}"
        )
    tokens, hidden_size = hidden.shape
    if weight.ndim != 2 or weight.shape[1] != hidden_size or weight.shape[0] == 0:
        raise ValueError(
            f"weight must have shape (vocab_size, {hidden_size}), "
            f"found {tuple(weight.shape)}"
        )
    if targets.shape != (tokens,) or targets.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"targets must have shape ({tokens},) of int64 or int32, "
            f"found {tuple(targets.shape)} of {targets.dtype}"
        )
    if softcap is not None and not softcap > 0.0:
        raise ValueError(f"softcap must be positive or None, found {softcap}")


def _check_dtypes(hidden: Tensor, weight: Tensor) -> None:
    if weight.dtype != hidden.dtype:
        raise ValueError(
            f"weight must have hidden's dtype {hidden.dtype}, found {weight.dtype}"
        )


@operator("linear_statistics")
def _statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    softcap: float | None,
    temperature: float,
    with_mean: bool,
    with_entropy: bool,
    gradient_filter: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(N,) fp32 target log-probability, log-sum-exp; mean logit, entropy or (0,); lost.

    What the log-sum-exp lost when it was rounded is for the backward: without it each
    probability is off by as much, 2e-6 of it at logits of 30.
    """
    hidden, weight = _rows_contiguous(hidden), _rows_contiguous(weight)
    num_tokens, hidden_size = hidden.shape
    vocab_size = weight.shape[0]
    results = _empty_statistics(hidden, with_mean, with_entropy)
    if num_tokens == 0:
        return results
    logps, lse, mean, entropy, lost = results
    marked = mark_targets(targets, ignore_index, vocab_size)
    plain = softcap is None and not with_mean and not with_entropy
    tile = loss_tile("statistics", hidden, plain=plain)
    num_splits, tiles_per_split = _vocabulary_splits(vocab_size, tile.columns)
    shape = (num_splits, 4 + with_entropy, num_tokens)
    partial = hidden.new_empty(shape, dtype=torch.float32)
    kernels.statistics_kernel[(cdiv(num_tokens, tile.rows), num_splits)](
        hidden, weight, marked, partial, num_tokens, vocab_size, hidden_size,
        hidden.stride(0), weight.stride(0), softcap or 1.0, 1.0 / temperature,
        tiles_per_split, HAS_SOFTCAP=softcap is not None, HAS_MEAN=with_mean,
        HAS_ENTROPY=with_entropy, **_blocks(tile, hidden_size),
    )  # fmt: skip
    kernels.combine_kernel[(cdiv(num_tokens, _COMBINE_BLOCK),)](
        partial, marked, logps, lse, lost, mean, entropy, num_tokens, vocab_size, num_splits,
        HAS_MEAN=with_mean, HAS_ENTROPY=with_entropy, BLOCK_N=_COMBINE_BLOCK,
    )  # fmt: skip
    return results


@shapes_of(_statistics)
def _(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    softcap: float | None,
    temperature: float,
    with_mean: bool,
    with_entropy: bool,
    gradient_filter: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_statistics(hidden, with_mean, with_entropy)


@operator("linear_statistics_backward")
def _statistics_backward(
    grad_logps: Tensor,
    grad_lse: Tensor,
    grad_mean: Tensor,
    grad_entropy: Tensor,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    lse: Tensor,
    entropy: Tensor,
    lost: Tensor,
    ignore_index: int,
    softcap: float | None,
    temperature: float,
    need_hidden: bool,
    need_weight: bool,
    gradient_filter: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Gradients of hidden (N, D) and weight (V, D); (0,) where not needed.

    Vocabulary chunk by chunk: a chunk's rows of the weight gradient are final in one
    product, and the hidden gradient adds up in fp32 in the order of the vocabulary.
    """
    hidden, weight = _rows_contiguous(hidden), _rows_contiguous(weight)
    num_tokens, hidden_size = hidden.shape
    vocab_size = weight.shape[0]
    grad_hidden = hidden.new_zeros(
        hidden.shape if need_hidden else 0, dtype=torch.float32
    )
    grad_weight = weight.new_zeros(weight.shape if need_weight else 0)
    if num_tokens == 0:
        return grad_hidden.to(hidden.dtype), grad_weight
    marked = mark_targets(targets, ignore_index, vocab_size)
    grads = (grad_logps, grad_lse, grad_mean, grad_entropy)
    coefficients, scales = coefficients_and_scales(grads, hidden.dtype)
    scale = scales.amax()
    weighed_hidden = weighed(hidden, scales / scale) if need_weight else hidden
    plain = softcap is None and grad_mean.numel() + grad_entropy.numel() == 0
    tile = loss_tile("dlogits", hidden, plain=plain)
    chunk = _chunk_size(num_tokens, vocab_size, tile.columns, hidden.element_size())
    dlogits = hidden.new_empty((num_tokens, chunk))
    tiles = (cdiv(num_tokens, tile.rows), cdiv(chunk, tile.columns))
    kept = torch.empty(tiles, dtype=torch.int8, device=hidden.device)
    sides = (tile.rows, tile.columns) if gradient_filter else (0, 0)
    for v_first in range(0, vocab_size, chunk):
        size = min(chunk, vocab_size - v_first)
        grid = _num_tiles(num_tokens, size, tile)
        kernels.dlogits_kernel[(grid,)](
            hidden, weight, marked, lse, lost, entropy, coefficients, dlogits, kept,
            num_tokens, vocab_size, hidden_size, v_first, size, hidden.stride(0),
            weight.stride(0), chunk, softcap or 1.0, 1.0 / temperature, gradient_filter,
            HAS_SOFTCAP=softcap is not None, FILTER=gradient_filter > 0.0,
            HAS_MEAN=grad_mean.numel() > 0, HAS_ENTROPY=grad_entropy.numel() > 0,
            **_blocks(tile, hidden_size),
        )  # fmt: skip
        gradient = dlogits[:, :size]
        # The last chunk's tiles are fewer, and packed as the kernel counted them.
        flags = kept.flatten().as_strided(
            (tiles[0], cdiv(size, tile.columns)),
            (cdiv(size, tile.columns), 1),
        )
        rows = slice(v_first, v_first + size)
        if need_hidden:
            _product(
                gradient, weight[rows], grad_hidden, scale, flags, sides,
                accumulate=True,
            )  # fmt: skip
        if need_weight:
            _product(
                gradient.T, weighed_hidden, grad_weight[rows], scale, flags.T, sides[::-1],
                accumulate=False,
            )  # fmt: skip
    if need_hidden:
        grad_hidden.mul_(scales[:, None])  # exact: powers of two
    return grad_hidden.to(hidden.dtype), grad_weight


@shapes_of(_statistics_backward)
def _(
    grad_logps: Tensor,
    grad_lse: Tensor,
    grad_mean: Tensor,
    grad_entropy: Tensor,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    lse: Tensor,
    entropy: Tensor,
    lost: Tensor,
    ignore_index: int,
    softcap: float | None,
    temperature: float,
    need_hidden: bool,
    need_weight: bool,
    gradient_filter: float = 0.0,
) -> tuple[Tensor, Tensor]:
    return (
        hidden.new_empty(hidden.shape if need_hidden else 0),
        weight.new_empty(weight.shape if need_weight else 0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    hidden, weight, targets, *ctx.options, _, _, ctx.gradient_filter = inputs
    _, lse, _, entropy, lost = output
    ctx.mark_non_differentiable(lost)
    ctx.save_for_backward(hidden, weight, targets, lse, entropy, lost)


def _backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    need_hidden, need_weight = ctx.needs_input_grad[:2]
    grad_hidden, grad_weight = _statistics_backward(
        *gradients[:4],
        *ctx.saved_tensors,
        *ctx.options,
        need_hidden,
        need_weight,
        ctx.gradient_filter,
    )
    return (
        grad_hidden if need_hidden else None,
        grad_weight if need_weight else None,
        *[None] * 7,
    )


differentiate(_statistics, _backward, _setup_context)


def _empty_statistics(
    hidden: Tensor, with_mean: bool, with_entropy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Unwritten (N,) and (N,), twice (N,) or (0,), and (N,)."""
    logps, lse, mean_logit, entropy, lost = (
        hidden.new_empty((hidden.shape[0] if there else 0,), dtype=torch.float32)
        for there in (True, True, with_mean, with_entropy, True)
    )
    return logps, lse, mean_logit, entropy, lost


def _rows_contiguous(x: Tensor) -> Tensor:
    """``x``, copied only if its rows are not contiguous."""
    return x if x.stride(1) == 1 else x.contiguous()


def mark_targets(targets: Tensor, ignore_index: int, vocab_size: int) -> Tensor:
    """(N,) int64: -1 where ignored, ``vocab_size`` where outside the vocabulary."""
    marked = targets.long()
    marked = torch.where(marked < 0, vocab_size, marked)
    return torch.where(targets == ignore_index, -1, marked)


def _vocabulary_splits(vocab_size: int, block_v: int) -> tuple[int, int]:
    """How many splits, and tiles in each: of the vocabulary alone, never of N."""
    tiles = cdiv(vocab_size, block_v)
    tiles_per_split = cdiv(tiles, min(16, cdiv(tiles, 4)))
    return cdiv(tiles, tiles_per_split), tiles_per_split


def _chunk_size(num_tokens: int, vocab_size: int, block_v: int, itemsize: int) -> int:
    """Vocabulary entries of a chunk: whole tiles, at least one."""
    fitting = WORKSPACE_BYTES // (num_tokens * itemsize * block_v)
    return max(1, min(fitting, -(-vocab_size // block_v))) * block_v


def _num_tiles(rows: int, columns: int, tile: Tile) -> int:
    return cdiv(rows, tile.rows) * cdiv(columns, tile.columns)


def _blocks(tile: Tile, hidden_size: int) -> dict[str, Any]:
    """Compile-time arguments of the two kernels that make logits."""
    return {
        "EVEN_D": hidden_size % tile.inner == 0,
        "BLOCK_N": tile.rows,
        "BLOCK_V": tile.columns,
        "BLOCK_D": tile.inner,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def _product(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    scale: Tensor,
    kept: Tensor,
    sides: tuple[int, int],
    *,
    accumulate: bool,
) -> None:
    """Writes ``scale * (a @ b)`` to ``c``, or adds ``a @ b`` to it in fp32.

    ``kept`` has a 0 for each tile of ``a``, ``sides`` long, to leave out; 0: none. What
    is left out is zeros, so a product whose own tiles are not parts of those takes all.
    """
    tile = loss_tile("product", b, plain=not accumulate)
    if sides[0] % tile.rows or sides[1] % tile.inner:
        sides = 0, 0
    kernels.product_kernel[(_num_tiles(c.shape[0], c.shape[1], tile),)](
        a, b, c, scale, kept, a.shape[0], a.shape[1], b.shape[1], a.stride(0), a.stride(1),
        b.stride(0), c.stride(0), *kept.stride(), ACCUMULATE=accumulate,
        FILTER_R=sides[0], FILTER_I=sides[1], BLOCK_R=tile.rows, BLOCK_D=tile.columns,
        BLOCK_I=tile.inner, num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
