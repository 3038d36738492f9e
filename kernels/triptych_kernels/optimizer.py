"""One step of AdamW in one launch, for parameters that are kept in bfloat16 too.

A step moves a parameter by less than half of bfloat16's spacing most of the time, so
rounding to nearest would undo it. Rounding up or down by chance keeps it on average.
The numbers come from a counter: the same seed and step give the same bits.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
import torch
from torch import Tensor

from triptych_kernels import optimizer_kernels as kernels
from triptych_kernels.configs import cdiv, optimizer_tile
from triptych_kernels.operators import on_device

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def adamw(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    clip: Tensor | None = None,
    seed: int | None = None,
) -> None:
    """Updates a parameter and its two averages in place; computed in fp32.

    Args:
        param: contiguous; fp32, fp16 or bf16, as are the others, each its own.
        grad: of param's shape.
        exp_avg: average of gradients, contiguous; fp32 unless memory is short.
        exp_avg_sq: average of their squares, alike.
        step: number of this step, from 1; below 2^31.
        lr: learning rate.
        betas: decay of the two averages.
        eps: added to the root of the second.
        weight_decay: decoupled; ``lr * weight_decay`` of the parameter is taken away.
        clip: () fp32 on param's device, factor of the gradient: a clipping
            coefficient that the host never waits for.
        seed: rounds a bf16 parameter up or down by chance, with probabilities that
            make it right on average; in [0, 2^63), another for each parameter. None
            rounds to nearest.
    """
    _check_inputs(param, grad, exp_avg, exp_avg_sq, clip)
    if not 1 <= step < 2**31:
        raise ValueError(f"step must be in [1, 2^31), found {step}")
    if seed is not None and param.dtype != torch.bfloat16:
        raise ValueError(f"a seed is for a bfloat16 param, found {param.dtype}")
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"seed must be in [0, 2^63), found {seed}")
    _adamw(
        param, grad, exp_avg, exp_avg_sq, clip, seed, step, lr, *betas, eps,
        weight_decay,
    )  # fmt: skip


def _check_inputs(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    clip: Tensor | None,
) -> None:
    tensors = {
        "param": param,
        "grad": grad,
        "exp_avg": exp_avg,
        "exp_avg_sq": exp_avg_sq,
    }
    for name, x in tensors.items():
        if x.shape != param.shape or x.dtype not in DTYPES:
            raise ValueError(
                f"{name} must have shape {tuple(param.shape)} of float32, float16 or "
                f"bfloat16, found {tuple(x.shape)} of {x.dtype}"
            )
        if name != "grad" and not x.is_contiguous():
            raise ValueError(f"{name} must be contiguous, found strides {x.stride()}")
    if clip is not None and (clip.ndim or clip.dtype != torch.float32):
        raise ValueError(
            f"clip must be one float32 number, found {tuple(clip.shape)} of "
            f"{clip.dtype}"
        )


@torch.library.custom_op(
    "triptych::adamw", mutates_args=("param", "exp_avg", "exp_avg_sq")
)
@on_device
def _adamw(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    clip: Tensor | None,
    seed: int | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """One step in place."""
    size = param.numel()
    if size == 0:
        return
    tile = optimizer_tile(param)
    kernels.adamw_kernel[(cdiv(size, tile.columns),)](
        param, grad.contiguous(), exp_avg, exp_avg_sq, param if clip is None else clip,
        size, seed or 0, step, lr, 1.0 - lr * weight_decay, 1.0 - beta1, 1.0 - beta2,
        1.0 / (1.0 - beta1**step), 1.0 / (1.0 - beta2**step), eps,
        HAS_CLIP=clip is not None, STOCHASTIC=seed is not None, BLOCK=tile.columns,
        num_warps=tile.num_warps,
    )  # fmt: skip


@_adamw.register_fake
def _(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    clip: Tensor | None,
    seed: int | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    return None
