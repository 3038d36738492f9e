"""Which implementation computes an operator; chosen once and said once.

By device, then by what stands in the way: a dtype, a shape or a feature that an
implementation does not have, a package that is not there. A choice that is slow on its
device is a warning that names every reason.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from triptych.errors import ConfigError
from triptych.ops.libraries import LIBRARIES, capability, missing

NAMES = ("reference", "cpu", "triton")
KERNELS = ("triton", "chunked")
OPERATORS = (
    "attention",
    "decode_attention",
    "geglu",
    "linear",
    "linear_cross_entropy",
    "linear_logprobs",
    "linear_statistics",
    "orthogonalize",
    "relu2",
    "rms_norm",
    "rope",
    "swiglu",
)
# Names that only one operator knows, beside `NAMES`.
ALTERNATIVES = {
    "attention": (*LIBRARIES, "rust"),
    "decode_attention": ("rust",),
    "linear": ("rust",),
    "linear_cross_entropy": ("chunked", "rust"),
    "linear_logprobs": ("rust",),
    "linear_statistics": ("rust",),
    "rms_norm": ("rust",),
    "rope": ("rust",),
    "swiglu": ("rust",),
}
# In order, where the device is a GPU. `varlen` is last: its backward may add in any
# order, so that two runs differ.
PREFERRED = {
    "attention": (
        "flash_attn_4",
        "flash_attn_3",
        "flash_attn",
        "triton",
        "varlen",
        "cpu",
    ),
    "linear_cross_entropy": ("chunked", "triton", "cpu"),
}
# Whose kernels multiply matrices: before compute capability 8.0 Triton does without tensor
# cores, and their tiles pass the 64 KiB of shared memory that a block has there.
MULTIPLYING = (
    "attention",
    "decode_attention",
    "linear_cross_entropy",
    "linear_logprobs",
    "linear_statistics",
    "orthogonalize",
)
# What the engine has kernels for, on a CPU.
BY_ENGINE = (
    "attention",
    "decode_attention",
    "linear",
    "linear_cross_entropy",
    "linear_logprobs",
    "linear_statistics",
    "rms_norm",
    "rope",
    "swiglu",
)
# Where torch.compile is at work it fuses these with what stands beside them, and does
# not look into a kernel of ours.
FUSED_BY_COMPILER = ("geglu", "relu2", "rms_norm", "rope", "swiglu")

# Of `triptych_kernels` and its reference, by operator and implementation. Filled when
# one is chosen: torch.compile can read a dictionary, but not import a module. Then with
# all operators: torch 2.11 keeps the dictionary that it saw first, and would miss the rest.
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {}

# (implementation, why it cannot serve the arguments at hand)
Obstacles = tuple[tuple[str, str], ...]

logger = logging.getLogger("triptych.ops")


def implementation(
    operator: str,
    device_type: str,
    obstacles: Obstacles = (),
    *,
    compiling: bool = False,
) -> str:
    """Name of the implementation of `operator` on tensors of `device_type`.

    `compiling` says that torch.compile traces the call, which cannot be asked in here.

    Raises:
        ConfigError: `TRIPTYCH_OPS` asks for one that does not exist here.
    """
    setting = os.environ.get("TRIPTYCH_OPS", "")
    fused = compiling and operator in FUSED_BY_COMPILER
    return _choose(operator, device_type, obstacles, setting, fused)


# What `torch.compiler.assume_constant_result` does. Called as a decorator it would load
# torch._dynamo with sympy and triton: 3 s and 150 MB of every command that has a model.
implementation._dynamo_marked_constant = True  # type: ignore[attr-defined]


def kernel(operator: str, name: str) -> Callable[..., Any]:
    """The function behind `triton` or `reference`, once `implementation` chose it."""
    return _FUNCTIONS[operator, name]


@lru_cache(maxsize=256)
def _choose(
    operator: str, device_type: str, obstacles: Obstacles, setting: str, fused: bool
) -> str:
    reasons = dict(obstacles)
    forced = _forced(operator, setting)
    problems: dict[str, str] = {}
    names = (forced,) if forced else _preferred(operator, device_type, fused)
    for name in names:
        problem = reasons.get(name) or _problem(operator, name, device_type)
        if not problem:
            _say(operator, device_type, name, problems)
            return name
        problems[name] = problem
    raise ConfigError(
        f"TRIPTYCH_OPS: expected an implementation of {operator} that runs on "
        f"{device_type}, found `{forced}`: {problems[forced]}"
    )


def _preferred(operator: str, device_type: str, fused: bool) -> tuple[str, ...]:
    """Implementations to try; `cpu`, plain PyTorch, runs anywhere, only slower."""
    if fused:
        return ("cpu",)
    if device_type == "cpu":
        return ("rust", "cpu") if operator in BY_ENGINE else ("cpu",)
    return PREFERRED.get(operator, ("triton", "cpu"))


def _say(operator: str, device_type: str, name: str, problems: dict[str, str]) -> None:
    reasons = "; ".join(f"no `{other}`: {why}" for other, why in problems.items())
    if name == "cpu" and problems and device_type != "cpu":
        logger.warning(
            "%s on %s: `cpu`, plain PyTorch, is slow here (%s)",
            operator,
            device_type,
            reasons,
        )
    logger.info("%s on %s: `%s` %s", operator, device_type, name, reasons)


def _forced(operator: str, setting: str) -> str:
    """What `TRIPTYCH_OPS` says of an operator; empty if nothing.

    A name holds for every operator, `operator=name` for one; commas between them.
    """
    chosen = ""
    for entry in filter(None, setting.split(",")):
        target, equals, name = entry.strip().rpartition("=")
        allowed = (*NAMES, *ALTERNATIVES.get(target, ()))
        if equals and target not in OPERATORS:
            raise ConfigError(
                f"TRIPTYCH_OPS: expected one of {OPERATORS}, found `{target}`"
            )
        if name not in allowed:
            raise ConfigError(
                f"TRIPTYCH_OPS: expected one of {allowed}, found `{name}`"
            )
        if target == operator:
            return name
        chosen = chosen if equals else name
    return chosen


def _problem(operator: str, name: str, device_type: str) -> str:
    """Why `name` cannot compute here; empty if it can."""
    if name in ("cpu", "rust"):
        return ""
    if name in LIBRARIES:
        return missing(name) if device_type == "cuda" else f"{name} runs on CUDA only"
    found = capability() if device_type == "cuda" else None
    if name == "triton" and operator in MULTIPLYING and found and found[0] < 8:
        return f"Triton has no tensor cores on compute capability {found[0]}.{found[1]}"
    if name in KERNELS and device_type == "cpu" and not _interpreted():
        return "Triton runs on a CPU only under TRITON_INTERPRET=1"
    try:  # a package built for another torch fails only when it is imported
        _load(name)
    except (ImportError, AttributeError) as error:
        return str(error)
    return ""


def _load(name: str) -> None:
    module = "triptych_kernels" if name in KERNELS else "triptych_kernels.reference"
    functions = importlib.import_module(module)
    if name == "chunked":
        _FUNCTIONS["linear_cross_entropy", name] = functions.summed_cross_entropy
        return
    for operator in OPERATORS:
        if operator == "linear":  # torch's, where it is not the engine's
            continue
        _FUNCTIONS[operator, name] = getattr(functions, operator)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "") == "1"
