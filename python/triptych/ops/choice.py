"""Which implementation computes an operator; chosen once and said once."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from triptych.errors import ConfigError

NAMES = ("reference", "cpu", "triton")

logger = logging.getLogger("triptych.ops")


def implementation(operator: str, device_type: str) -> str:
    """Name of the implementation of `operator` on tensors of `device_type`.

    Raises:
        ConfigError: `TRIPTYCH_OPS` asks for one that does not exist here.
    """
    return _choose(operator, device_type, os.environ.get("TRIPTYCH_OPS", ""))


def kernel(operator: str, name: str) -> Callable[..., Any]:
    """The function behind `triton` or `reference`, as `triptych_kernels` has it."""
    module = "triptych_kernels" if name == "triton" else "triptych_kernels.reference"
    function: Callable[..., Any] = getattr(importlib.import_module(module), operator)
    return function


@lru_cache(maxsize=64)
def _choose(operator: str, device_type: str, forced: str) -> str:
    if forced and forced not in NAMES:
        raise ConfigError(f"TRIPTYCH_OPS: expected one of {NAMES}, found `{forced}`")
    preferred = "cpu" if device_type == "cpu" else "triton"
    chosen = forced or preferred
    problem = _problem(operator, chosen, device_type)
    if problem and forced:
        raise ConfigError(
            f"TRIPTYCH_OPS: expected an implementation of {operator} that runs on "
            f"{device_type}, found `{forced}`: {problem}"
        )
    if problem:
        logger.warning("%s on %s: no `triton` (%s)", operator, device_type, problem)
        chosen = "cpu"  # plain PyTorch: runs anywhere, only slower
    logger.info("%s on %s: `%s`", operator, device_type, chosen)
    return chosen


def _problem(operator: str, name: str, device_type: str) -> str:
    """Why `name` cannot compute `operator` here; empty if it can."""
    if name == "cpu":
        return ""
    if name == "triton" and device_type == "cpu" and not _interpreted():
        return "Triton runs on a CPU only under TRITON_INTERPRET=1"
    try:
        kernel(operator, name)
    except (ImportError, AttributeError) as error:
        return str(error)
    return ""


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "") == "1"
