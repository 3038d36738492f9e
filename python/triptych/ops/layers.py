"""The small operators between the matrix products.

Memory decides their time: on a GPU each is one kernel, which reads and writes every
number once, or part of one where torch.compile makes them; on a CPU, plain PyTorch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych.ops import checks, cpu_layers, rust_layers
from triptych.ops.arrays import engine_obstacle, is_recorded, widened
from triptych.ops.choice import Obstacles, implementation, kernel

KERNEL_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
MAX_NORM_WIDTH = 16384
MAX_HEAD_DIM = 512


def _who(operator: str, x: Tensor, obstacles: Obstacles) -> str:
    return implementation(
        operator, x.device.type, obstacles, compiling=torch.compiler.is_compiling()
    )


def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float,
    *,
    casting: str = "none",
    narrow: bool = False,
) -> Tensor:
    """X / rms(x) * weight over the last dimension, in float32 or for such x float64.

    Zhang & Sennrich 2019, eq. 4. The result has the dtype of x.

    Args:
        x: (..., size).
        weight: (size,).
        eps: added to the mean square.
        casting: "none" rounds once, at the end; "llama" rounds before the weight
            multiplies, as Hugging Face's layer does; "gemma" multiplies by 1 + weight.
        narrow: only matrix products read the result, so under autocast it may have
            their type, which they would round it to.
    """
    _check_norm(x, weight, casting)
    no_rust = engine_obstacle(rust_layers.norm_obstacle, x, weight, casting, narrow)
    name = _who("rms_norm", x, (*_norm_obstacles(x), no_rust))
    if name == "rust":
        return rust_layers.rms_norm(x, weight, eps, casting)
    if name != "cpu":
        normed: Tensor = kernel("rms_norm", name)(x, weight, eps, casting=casting)
        return normed
    return _plain_norm(x, weight, eps, casting, x.dtype)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, *, casting: str = "none"
) -> tuple[Tensor, Tensor]:
    """`rms_norm` of x + residual, and that sum in the residual's dtype."""
    _check_norm(x, weight, casting)
    obstacles = (*_norm_obstacles(x), ("rust", "it adds nothing"))
    name = _who("rms_norm", x, obstacles)
    if name != "cpu":
        normed, total = kernel("rms_norm", name)(
            x, weight, eps, residual=residual, casting=casting
        )
        return normed, total
    total = (x + residual).to(residual.dtype)
    return _plain_norm(total, weight, eps, casting, x.dtype), total


def _plain_norm(
    x: Tensor, weight: Tensor, eps: float, casting: str, dtype: torch.dtype
) -> Tensor:
    """Its result, and what "llama" rounds to, is of `dtype`."""
    wide, shape = widened(x), weight.shape
    if casting == "none":
        return F.rms_norm(wide, shape, weight.to(wide.dtype), eps).to(dtype)
    normed = F.rms_norm(wide, shape, None, eps)
    if casting == "gemma":
        return (normed * (1.0 + weight.to(wide.dtype))).to(dtype)
    return (normed.to(dtype) * weight).to(dtype)


def _check_norm(x: Tensor, weight: Tensor, casting: str) -> None:
    checks.casting(casting)
    if weight.shape != x.shape[-1:]:
        raise ValueError(
            f"weight: expected {tuple(x.shape[-1:])}, found {tuple(weight.shape)}"
        )


def _norm_obstacles(x: Tensor) -> Obstacles:
    if x.dtype not in KERNEL_DTYPES:
        return (("triton", f"it does not compute in {x.dtype}"),)
    if x.shape[-1] > MAX_NORM_WIDTH:
        return (("triton", f"a width of {x.shape[-1]} is above {MAX_NORM_WIDTH}"),)
    return ()


def rotary_tables(
    position_ids: Tensor, head_dim: int, theta: float
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (..., 1, head_dim / 2) of position_ids (...), in float32.

    Pair i turns by position * theta ** (-2 i / head_dim) (Su et al. 2021, eq. 15).
    The 1 stands for the heads, which all turn alike.
    """
    exponents = torch.arange(0, head_dim, 2, device=position_ids.device).float()
    frequencies = 1.0 / theta ** (exponents / head_dim)
    angles = position_ids[..., None].float() * frequencies
    return angles.cos()[..., None, :], angles.sin()[..., None, :]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns x (..., heads, head_dim); pair i is dimensions i and i + head_dim / 2.

    That is the layout of Hugging Face checkpoints, not the paper's neighbours.
    """
    name = _who("rope", x, _rope_obstacles(x, cos, sin))
    if name == "rust":
        return rust_layers.turn(x, cos, sin)
    if name == "cpu":
        return _plain_rotate(x, cos, sin)
    return _rotate_both(name, x, x[..., :0, :], cos, sin)[0]


def rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """`rotate` of q (..., heads, head_dim) and k (..., kv_heads, head_dim) at once."""
    name = _who("rope", q, _rope_obstacles(q, cos, sin))
    if name == "rust":
        return rust_layers.turn(q, cos, sin), rust_layers.turn(k, cos, sin)
    if name == "cpu":
        return _plain_rotate(q, cos, sin), _plain_rotate(k, cos, sin)
    return _rotate_both(name, q, k, cos, sin)


def _rotate_both(
    name: str, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens in one row, as the kernel takes them."""
    turned_q, turned_k = kernel("rope", name)(
        q.flatten(0, -3),
        k.flatten(0, -3),
        tables=(cos.flatten(0, -2), sin.flatten(0, -2)),
    )
    return turned_q.view(q.shape), turned_k.view(k.shape)


def _plain_rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # Who records takes down what is written, which has no gradient when it is played.
    is_seen = torch.compiler.is_compiling() or is_recorded()
    if x.device.type == "cpu" and not is_seen:
        return cpu_layers.turn(widened(x), cos, sin).to(x.dtype)
    first, second = widened(x).chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    return turned.to(x.dtype)


def _rope_obstacles(x: Tensor, cos: Tensor, sin: Tensor) -> Obstacles:
    """The twin needs a row of the tables for each token, as the kernel does."""
    tables = (*x.shape[:-2], 1, x.shape[-1] // 2)
    if x.dim() < 3 or cos.shape != tables or sin.shape != tables:
        why = f"tables of {tuple(cos.shape)} are not one row a token"
        return (("triton", why), ("reference", why), ("rust", why))
    no_rust = engine_obstacle(rust_layers.turn_obstacle, x, cos, sin)
    if x.dtype not in KERNEL_DTYPES or x.shape[-1] > MAX_HEAD_DIM:
        why = f"no kernel for {x.dtype} and head dim {x.shape[-1]}"
        return (("triton", why), no_rust)
    return (no_rust,)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (Shazeer 2020, eq. 6)."""
    no_rust = engine_obstacle(rust_layers.gated_obstacle, gate, up)
    name = _who("swiglu", gate, (*_gated_obstacles(gate, up), no_rust))
    if name == "rust":
        return rust_layers.swiglu(gate, up)
    if name == "cpu":
        return F.silu(gate) * up
    gated: Tensor = kernel("swiglu", name)(gate, up)
    return gated


def geglu(gate: Tensor, up: Tensor, *, approximate: str = "none") -> Tensor:
    """gelu(gate) * up (Shazeer 2020, eq. 6); `approximate` is as in `F.gelu`."""
    name = _who("geglu", gate, _gated_obstacles(gate, up))
    if name == "cpu":
        return F.gelu(gate, approximate=approximate) * up
    gated: Tensor = kernel("geglu", name)(gate, up, approximate=approximate)
    return gated


def relu2(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """relu(gate) ** 2, times up if it is given (So et al. 2021)."""
    other = gate if up is None else up
    name = _who("relu2", gate, _gated_obstacles(gate, other))
    if name == "cpu":
        squared = F.relu(gate).square()
        return squared if up is None else squared * up
    gated: Tensor = kernel("relu2", name)(gate, up)
    return gated


def _gated_obstacles(gate: Tensor, up: Tensor) -> Obstacles:
    if gate.shape != up.shape or gate.dtype != up.dtype:
        return (("triton", "gate and up differ in shape or dtype"),)
    if gate.dtype not in KERNEL_DTYPES:
        return (("triton", f"it does not compute in {gate.dtype}"),)
    return ()
