"""Rotary positions of queries and keys, turned in one launch.

Pair c of a head turns by position * frequency[c] (Su et al. 2021, eq. 15). The gradient
of a turn is the turn back, so the backward is the same operator and nothing is kept.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
from typing import Any

import torch
from torch import Tensor

from triptych_kernels import rotary_kernels as kernels
from triptych_kernels.configs import cdiv, next_power_of_2, rotary_tile
from triptych_kernels.operators import differentiate, operator, shapes_of

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 512


def rope(
    q: Tensor,
    k: Tensor,
    *,
    position_ids: Tensor | None = None,
    tables: tuple[Tensor, Tensor] | None = None,
    frequencies: Tensor | None = None,
    attention_factor: float = 1.0,
    interleaved: bool = False,
) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by the angles of their positions.

    Args:
        q: (T, H, D) of fp64, fp32, fp16 or bf16; D even, at most 512.
        k: (T, K, D) of q's dtype.
        position_ids: (T,) int32 or int64; None counts from 0.
        tables: cosines and sines, each (P, D / 2) of the positions 0 to P - 1. On a
            GPU a position outside gives NaN. Either tables or frequencies are given.
        frequencies: (D / 2,) angle a position; tables are then made of the positions
            at hand, in fp32 (fp64 for fp64 inputs).
        attention_factor: factor of cosines and sines made of frequencies (YaRN).
        interleaved: pair c is dimensions 2c and 2c + 1, as in the paper; else c and
            c + D / 2, as in Hugging Face checkpoints.

    Returns:
        Turned q and k, contiguous. Neither tables nor frequencies get a gradient.
    """
    _check_inputs(q, k, position_ids)
    if (tables is None) == (frequencies is None):
        raise ValueError("rope needs either tables or frequencies, found both or none")
    if frequencies is not None:
        _check_pairs("frequencies", frequencies.shape, (q.shape[2] // 2,))
        tables = _tables_of(q, position_ids, frequencies, attention_factor)
        position_ids = None
    assert tables is not None
    for name, table in zip(("cosines", "sines"), tables, strict=True):
        _check_pairs(name, table.shape, (tables[0].shape[0], q.shape[2] // 2))
    _check_positions(q.shape[0], position_ids, tables[0].shape[0])
    cos, sin = (x.detach().to(_accumulator(q.dtype)).contiguous() for x in tables)
    turned_q, turned_k = _rope(q, k, cos, sin, position_ids, interleaved, False)
    return turned_q, turned_k


def _check_inputs(q: Tensor, k: Tensor, position_ids: Tensor | None) -> None:
    if q.ndim != 3 or q.shape[2] % 2 or not 2 <= q.shape[2] <= MAX_HEAD_DIM:
        raise ValueError(
            f"q must be (tokens, heads, head_dim) with an even head_dim <= "
            f"{MAX_HEAD_DIM}, found {tuple(q.shape)}"
        )
    if k.ndim != 3 or (k.shape[0], k.shape[2]) != (q.shape[0], q.shape[2]):
        raise ValueError(
            f"k must have shape ({q.shape[0]}, kv_heads, {q.shape[2]}), "
            f"found {tuple(k.shape)}"
        )
    if q.dtype not in DTYPES or k.dtype != q.dtype:
        raise ValueError(
            "q and k must be of one dtype, float64, float32, float16 or bfloat16, "
            f"found {q.dtype} and {k.dtype}"
        )
    if position_ids is not None and position_ids.shape != q.shape[:1]:
        raise ValueError(
            f"position_ids must have shape ({q.shape[0]},), "
            f"found {tuple(position_ids.shape)}"
        )


def _check_pairs(name: str, found: torch.Size, expected: tuple[int, ...]) -> None:
    if tuple(found) != expected:
        raise ValueError(f"{name} must have shape {expected}, found {tuple(found)}")


def _check_positions(tokens: int, position_ids: Tensor | None, rows: int) -> None:
    """Of counted positions by their number; of others the kernel makes NaN."""
    if position_ids is None and tokens > rows:
        raise ValueError(
            f"tables must have a row for each of {tokens} positions, found {rows}"
        )


def _tables_of(
    q: Tensor, position_ids: Tensor | None, frequencies: Tensor, attention_factor: float
) -> tuple[Tensor, Tensor]:
    """(T, D / 2) cosines and sines of each token's angles."""
    wide = _accumulator(q.dtype)
    if position_ids is None:
        position_ids = torch.arange(q.shape[0], device=q.device)
    angles = position_ids[:, None].to(wide) * frequencies.to(q.device, wide)
    return angles.cos() * attention_factor, angles.sin() * attention_factor


@operator("rope")
def _rope(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Tensor | None,
    interleaved: bool,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """Turned q and k; ``inverse`` turns back."""
    turned_q, turned_k = q.new_empty(q.shape), k.new_empty(k.shape)
    if q.numel() + k.numel() == 0:
        return turned_q, turned_k
    q, k = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k))
    tokens, heads, head_dim = q.shape
    pairs = next_power_of_2(head_dim // 2)
    tile = rotary_tile(pairs, q)
    kernels.rotate_kernel[(cdiv(tokens, tile.rows),)](
        q, k, cos, sin, cos if position_ids is None else position_ids.contiguous(),
        turned_q, turned_k, tokens, cos.shape[0], heads, k.shape[1], head_dim,
        *q.stride()[:2], *k.stride()[:2], HAS_POSITIONS=position_ids is not None,
        INVERSE=inverse, INTERLEAVED=interleaved, BLOCK_T=tile.rows,
        BLOCK_C=pairs, num_warps=tile.num_warps,
    )  # fmt: skip
    return turned_q, turned_k


@shapes_of(_rope)
def _(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    position_ids: Tensor | None,
    interleaved: bool,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, _, cos, sin, position_ids, ctx.interleaved, ctx.inverse = inputs
    ctx.save_for_backward(cos, sin, position_ids)


def _backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    cos, sin, position_ids = ctx.saved_tensors
    grads = _rope(
        grad_q, grad_k, cos, sin, position_ids, ctx.interleaved, not ctx.inverse
    )
    return *grads, *[None] * 5


differentiate(_rope, _backward, _setup_context, twice=True)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
