"""Tensors on a CPU as the engine reads and writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from triptych import _core

DTYPES = (torch.float32, torch.bfloat16)
# Numbers in a vector of AVX-512, twice AVX2's; rows of the engine's kernels fill whole ones.
LANES = 16


def array(x: Tensor) -> npt.NDArray[Any]:
    """The memory of a contiguous tensor, flat; bf16, which numpy has not, as uint16."""
    flat = x.detach().view(-1)
    found: npt.NDArray[Any] = (
        flat.view(torch.uint16) if x.dtype == torch.bfloat16 else flat
    ).numpy()
    return found


def rows_array(x: Tensor) -> npt.NDArray[Any]:
    """The memory of rows (n, width) of a buffer from its start, with what lies between them."""
    return array(x.as_strided((x.shape[0], x.stride(0)), (x.stride(0), 1)))


def widened(x: Tensor) -> Tensor:
    """X in the type that sums are made in: float32, or its own float64."""
    return x if x.dtype == torch.float64 else x.float()


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The type of products with x: autocast's where it is on, as of torch's own, else x's."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype


def is_autocast(x: Tensor) -> bool:
    """Whether autocast is on where x is."""
    # Of "meta", say, torch has no autocast, and does not want to be asked.
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def engine_obstacle(
    why: Callable[..., str], *arguments: Any, is_operator: bool = False
) -> tuple[str, str]:
    """`rust` and why it cannot serve: what `why` says of the arguments, or who records.

    An operator of torch is recorded by its name; else what the engine writes is missed.
    """
    if torch.compiler.is_compiling():
        return "rust", "torch.compile does not look into it"
    if not is_operator and is_recorded():
        return "rust", "it is recorded what torch does, not what the engine writes"
    return "rust", why(*arguments)


_RECORDERS = (
    torch._C._TorchDispatchModeKey.PROXY,  # make_fx
    torch._C._TorchDispatchModeKey.FAKE,
)


def is_recorded() -> bool:
    """Whether someone takes down which operators of torch are called."""
    modes = map(torch._C._get_dispatch_mode, _RECORDERS)
    return torch._C._is_tracing() or any(mode is not None for mode in modes)


def dtype_obstacle(x: Tensor, dtype: torch.dtype | None = None) -> str:
    """Why the engine has no kernels for x's device and its type, or `dtype`."""
    if x.device.type != "cpu":
        return "the engine computes on a CPU only"
    return _of_dtype(dtype or x.dtype)


@lru_cache
def _of_dtype(dtype: torch.dtype) -> str:
    if dtype not in DTYPES:
        return f"it does not compute in {dtype}"
    if not _core.cpu_has_vectors():
        return f"this processor has no vectors for {dtype}"
    return ""
