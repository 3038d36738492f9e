"""Attention by other people's kernels on CUDA: flash-attn 4, 3 and 2, torch's own varlen.

None has run in the tests of this project, which have no GPU with them; what they
are called with is checked against their signatures only.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 256
# Of flash-attn 4, an alpha, on all of its GPUs; and of what flash-attn 3 does with a
# backward pass that repeats its bits.
MAX_HEAD_DIM_OF_4 = 128
MAX_HEAD_DIM_OF_3 = 192


class Library(NamedTuple):
    """Where a function is, and the compute capabilities it runs on, before the dot."""

    module: str
    function: str
    first: int
    last: int = 99


# The fourth has the namespace `flash_attn` too: alone, that is a package with nothing in it.
LIBRARIES = {
    "flash_attn_4": Library("flash_attn.cute", "flash_attn_varlen_func", 9, 11),
    "flash_attn_3": Library("flash_attn_interface", "flash_attn_varlen_func", 9, 9),
    "flash_attn": Library("flash_attn", "flash_attn_varlen_func", 8),
    "varlen": Library("torch.nn.attention.varlen", "varlen_attn", 8),
}


class Rules(NamedTuple):
    """Who may look at whom, and how scores are formed."""

    causal: bool
    window: int | None
    softcap: float | None
    scale: float | None
    dropout: float
    sinks: Tensor | None = None
    pairs: Tensor | None = None


def missing(name: str) -> str:
    """Why a library cannot be called here; empty if it can."""
    library, found = LIBRARIES[name], capability()
    if found is not None and not library.first <= found[0] <= library.last:
        return f"it does not run on compute capability {found[0]}.{found[1]}"
    try:  # a package built for another torch fails only when it is imported
        function = getattr(import_module(library.module), library.function)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        return str(error)
    known = inspect.signature(function).parameters
    if name != "varlen" and not {"deterministic", "window_size"} <= known.keys():
        return "it is too old: its backward pass does not repeat its bits"
    return ""


def capability() -> tuple[int, int] | None:
    """Compute capability of NVIDIA's GPU in use; None of another's, or of none."""
    if torch.version.hip or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_capability()


def flash_attn(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    rules: Rules,
) -> Tensor:
    """flash-attn (Dao 2023) of a version, with its deterministic backward pass."""
    boundaries, longest = cu_seqlens.int().contiguous(), _longest(cu_seqlens)
    every = None if name == "flash_attn_4" else -1
    window = tuple(every if keys < 0 else keys for keys in _window_size(rules))
    more = {"dropout_p": rules.dropout} if name == "flash_attn" else {}
    function = getattr(import_module(LIBRARIES[name].module), LIBRARIES[name].function)
    found = function(
        q,
        k,
        v,
        cu_seqlens_q=boundaries,
        cu_seqlens_k=boundaries,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=rules.scale,
        causal=rules.causal,
        window_size=window,
        deterministic=True,
        **more,
    )
    output: Tensor = found[0] if isinstance(found, tuple) else found
    return output


def varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    rules: Rules,
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn`; its backward may not repeat its bits."""
    varlen_attn = import_module("torch.nn.attention.varlen").varlen_attn
    boundaries, longest = cu_seqlens.int().contiguous(), _longest(cu_seqlens)
    output: Tensor = varlen_attn(
        q,
        k,
        v,
        boundaries,
        boundaries,
        longest,
        longest,
        scale=rules.scale,
        window_size=_window_size(rules),
        **_grouped(q, k),
    )
    return output


def half_obstacle(q: Tensor) -> str:
    """Why no library takes tensors like q; empty if one may."""
    if torch.compiler.is_compiling():
        return "it asks for the longest document, where a graph of torch.compile breaks"
    if q.dtype not in HALVES:
        return f"{q.dtype} is neither float16 nor bfloat16"
    if q.shape[2] > MAX_HEAD_DIM or q.shape[2] % 8:
        return f"a head dim of {q.shape[2]} is no multiple of 8 up to {MAX_HEAD_DIM}"
    return ""


def flash_obstacle(name: str, q: Tensor, dropout: float) -> str:
    """Why flash-attn 3 or 4 cannot be taken beside that; empty if it can."""
    if dropout > 0.0:
        return "it has no dropout"
    largest = MAX_HEAD_DIM_OF_4 if name == "flash_attn_4" else MAX_HEAD_DIM_OF_3
    return (
        ""
        if q.shape[2] <= largest
        else f"a head dim of {q.shape[2]} is above {largest}"
    )


def varlen_obstacle(q: Tensor, k: Tensor) -> str:
    """Why torch's own operator cannot be taken beside that; empty if it can."""
    if torch.are_deterministic_algorithms_enabled():
        return "deterministic algorithms are demanded"
    if q.shape[1] != k.shape[1] and not _varlen_has("enable_gqa"):
        return "this torch has no grouped heads in it"
    return "" if _varlen_has("window_size") else "this torch has no window in it"


@lru_cache(maxsize=8)
def _varlen_has(parameter: str) -> bool:
    try:
        module = import_module("torch.nn.attention.varlen")
    except ImportError:
        return False
    return parameter in inspect.signature(module.varlen_attn).parameters


def _grouped(q: Tensor, k: Tensor) -> dict[str, Any]:
    return {} if q.shape[1] == k.shape[1] else {"enable_gqa": True}


def _window_size(rules: Rules) -> tuple[int, int]:
    """Keys to the left and right that a query sees beside its own; -1 is all."""
    left = -1 if rules.window is None else rules.window - 1
    return left, 0 if rules.causal else -1


def _longest(cu_seqlens: Tensor) -> int:
    """Tokens of the longest document; waits for the device."""
    return int(cu_seqlens.diff().max())
