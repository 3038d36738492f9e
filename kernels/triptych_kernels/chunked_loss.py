"""Sum of cross-entropies, with its gradients made in the forward pass.

Where only a sum is asked for, the gradient of the logits is known as soon as they are:
they need not be computed again, 6 NVD FLOPs instead of 8, and all three products are
torch's own. Tokens go in chunks, of which one chunk of logits is in memory. The price:
the sums over tokens are cuBLAS's, which chooses their order by the shape of a chunk, so
`linear_cross_entropy` is what gives a token the same bits in any batch.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from typing import Any

import torch
from torch import Tensor

from triptych_kernels import chunked_loss_kernels as kernels
from triptych_kernels.configs import cdiv, chunked_loss_tile
from triptych_kernels.linear_loss import IGNORE_INDEX, check_inputs, mark_targets
from triptych_kernels.once import roots
from triptych_kernels.operators import differentiate, operator, shapes_of

# fp32 logits held at once: 4,096 tokens at V = 32k. Each chunk reads and writes the whole
# (V, D) gradient of the weight once, which at 4,096 tokens costs a twentieth of its products.
LOGITS_BYTES = 512 << 20
# Chunks are of whole tiles of a matrix product, and of one at least.
_TILE_TOKENS = 128


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    factors: Tensor | None = None,
    *,
    ignore_index: int = IGNORE_INDEX,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Sum of factor * cross-entropy over the supervised tokens, in nats.

    Args:
        hidden: (N, D) fp32, fp16 or bf16, the dtype of the matrix products.
        weight: (V, D) output layer; it is rounded to hidden's dtype, and its gradient,
            which adds up in fp32, comes in its own.
        targets: (N,) integer vocabulary indices, or ``ignore_index``.
        factors: (N,) of each token's loss, without a gradient; by default 1.
        ignore_index: targets of this value have no loss and no gradient.
        z_loss: adds ``z_loss * lse**2`` a supervised token (PaLM, section 5).
        label_smoothing: in [0, 1], as in `torch.nn.functional.cross_entropy`.
        softcap: logits become ``softcap * tanh(logits / softcap)``.

    Returns:
        () fp32; 0 if no token is supervised, NaN if a target is outside the vocabulary.

    Raises:
        ValueError: a shape, dtype or option is wrong.
    """
    check_inputs(hidden, weight, targets, softcap)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], found {label_smoothing}")
    if factors is not None and factors.shape != targets.shape:
        raise ValueError(
            f"factors must have shape {tuple(targets.shape)}, "
            f"found {tuple(factors.shape)}"
        )
    wanted = torch.is_grad_enabled()
    total: Tensor = _summed(
        hidden,
        weight,
        targets,
        None if factors is None else factors.detach(),
        ignore_index,
        z_loss,
        label_smoothing,
        softcap,
        wanted and hidden.requires_grad,
        wanted and weight.requires_grad,
    )[0]
    return total


@operator("summed_cross_entropy")
def _summed(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    factors: Tensor | None,
    ignore_index: int,
    z_loss: float,
    label_smoothing: float,
    softcap: float | None,
    need_hidden: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum; fp32 gradients of hidden and weight, (0,) where not needed; their scale."""
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    narrow = weight.to(hidden.dtype)
    marked = mark_targets(targets, ignore_index, vocab_size)
    if factors is None:
        factors = torch.ones_like(marked, dtype=torch.float32)
    factors = factors.float().contiguous()
    scale = _scale(factors, hidden.dtype)
    losses = torch.empty_like(factors)
    of_hidden = hidden.new_empty(
        hidden.shape if need_hidden else 0, dtype=torch.float32
    )
    of_weight = weight.new_zeros(
        weight.shape if need_weight else 0, dtype=torch.float32
    )
    chunk = chunk_tokens(num_tokens, vocab_size)
    buffer = hidden.new_empty((chunk, vocab_size), dtype=torch.float32)
    tile = chunked_loss_tile()
    for start in range(0, num_tokens, chunk):
        span = slice(start, min(start + chunk, num_tokens))
        logits = buffer[: span.stop - start]
        # The buffer again, in the dtype of the products: its rows are as far apart.
        of_logits = logits.view(hidden.dtype)[:, :vocab_size]
        _product(hidden[span], narrow.T, logits)
        kernels.loss_and_gradient_kernel[(len(logits),)](
            logits, of_logits, marked[span], factors[span], losses[span], scale, vocab_size,
            of_logits.stride(0), softcap or 1.0, z_loss, label_smoothing,
            HAS_SOFTCAP=softcap is not None, HAS_MEAN=label_smoothing > 0.0,
            WITH_GRADIENT=need_hidden or need_weight, BLOCK=tile.columns,
            num_warps=tile.num_warps,
        )  # fmt: skip
        if need_hidden:
            _product(of_logits, narrow, of_hidden[span])
        if need_weight:
            _product(of_logits.T, hidden[span], of_weight, accumulate=True)
    return losses.sum(dtype=torch.float64).float(), of_hidden, of_weight, scale


@shapes_of(_summed)
def _(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    factors: Tensor | None,
    ignore_index: int,
    z_loss: float,
    label_smoothing: float,
    softcap: float | None,
    need_hidden: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    number = hidden.new_empty((), dtype=torch.float32)
    return (
        number,
        hidden.new_empty(hidden.shape if need_hidden else 0, dtype=torch.float32),
        weight.new_empty(weight.shape if need_weight else 0, dtype=torch.float32),
        torch.empty_like(number),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, of_hidden, of_weight, scale = output
    ctx.mark_non_differentiable(of_hidden, of_weight, scale)
    ctx.set_materialize_grads(False)  # or zeros of the size of both gradients are made
    ctx.save_for_backward(of_hidden, of_weight, scale)
    ctx.dtypes = inputs[0].dtype, inputs[1].dtype
    ctx.roots = roots(*inputs[:2])


def _backward(ctx: Any, upstream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if upstream is None:
        return (None,) * 10
    of_hidden, of_weight, scale = ctx.saved_tensors
    factor = upstream * scale
    found = (
        _scaled(gradient, factor, dtype) if needed else None
        for gradient, dtype, needed in zip(
            (of_hidden, of_weight), ctx.dtypes, ctx.needs_input_grad, strict=False
        )
    )
    return (*found, *[None] * 8)


def _scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """``factor * gradient``, rounded once; without an fp32 copy in between."""
    return torch.mul(gradient, factor, out=torch.empty_like(gradient, dtype=dtype))


differentiate(_summed, _backward, _setup_context)


def chunk_tokens(num_tokens: int, vocab_size: int) -> int:
    """Tokens whose fp32 logits are in memory at once, at least 1; all if they fit."""
    tiles = max(1, LOGITS_BYTES // (4 * vocab_size * _TILE_TOKENS))
    chunks = max(1, cdiv(num_tokens, tiles * _TILE_TOKENS))
    even = cdiv(cdiv(num_tokens, chunks), _TILE_TOKENS) * _TILE_TOKENS
    return max(1, min(num_tokens, even))


def _scale(factors: Tensor, dtype: torch.dtype) -> Tensor:
    """() fp32 power of two to take out of fp16 gradients: factors of 1/N would vanish."""
    if dtype != torch.float16 or factors.numel() == 0:
        return torch.ones((), device=factors.device)
    return factors.abs().amax().clamp_min(1e-30).log2().ceil().exp2()


def _product(a: Tensor, b: Tensor, out: Tensor, *, accumulate: bool = False) -> None:
    """Writes ``a @ b`` in fp32, or adds it to ``out``, which is not rounded in between."""
    if a.dtype == torch.float32 or a.device.type == "cpu":
        a, b = a.float(), b.float()
        out.addmm_(a, b) if accumulate else torch.mm(a, b, out=out)
    elif accumulate:
        torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
    else:
        torch.mm(a, b, out_dtype=torch.float32, out=out)
