"""AdamW whose two moments take a byte a number, through torchao.

Dettmers et al. 2022: blocks of 256 numbers share a scale, and 256 values that are denser
near zero. A parameter of fewer than 4,096 numbers, or not a multiple of 256, keeps
float32. torchao compiles the update of every shape, also where layers are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import util
from typing import Any

import torch
from torch import Tensor

from triptych.errors import ConfigError
from triptych.model.compiled import cpp_obstacle

# What torchao keeps of a moment; its table of values is a constant.
PARTS = ("codes", "scale")
SIGNED = {"exp_avg": True, "exp_avg_sq": False}


def create_adamw_8bit(
    groups: list[dict[str, Any]], *, lr: float, **settings: Any
) -> torch.optim.Optimizer:
    """AdamW over some groups, with torch's settings.

    Raises:
        ConfigError: torchao is not installed, or nothing compiles for the CPU.
    """
    if util.find_spec("torchao") is None:
        raise ConfigError(
            "optimizer.state_bits: expected 32, or torchao to be installed (`pip "
            "install 'triptych[ao]'`), found 8 without it"
        )
    on_cpu = any(p.device.type == "cpu" for group in groups for p in group["params"])
    why = cpp_obstacle() if on_cpu else ""
    if why:
        raise ConfigError(f"optimizer.state_bits: expected 32, found 8, but {why}")
    from torchao.optim import AdamW8bit

    warnings.filterwarnings("ignore", "OptimState8bit does not implement")
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=lr, **settings)
    return optimizer


def parts_of(kind: str, value: Tensor) -> dict[str, Tensor]:
    """Plain tensors that a tensor of an optimiser's state is made of, by kind."""
    if not hasattr(value, PARTS[0]):
        return {kind: value}
    return {f"{kind}.{part}": getattr(value, part) for part in PARTS}


def joined(
    optimizer: torch.optim.Optimizer, parameter: Tensor, values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of a parameter, made of its parts, on the parameter's device."""
    state = {
        kind: x.to(parameter.device) for kind, x in values.items() if "." not in kind
    }
    for kind in {kind.split(".")[0] for kind in values if "." in kind}:
        moment = optimizer._new_buffer(parameter, SIGNED[kind])  # type: ignore[attr-defined]
        for part in PARTS:
            getattr(moment, part).copy_(values[f"{kind}.{part}"])
        state[kind] = moment
    return state
