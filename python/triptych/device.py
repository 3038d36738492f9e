"""Where a process computes: on a GPU of its own where torch finds one, or on the CPU."""

from __future__ import annotations

import os
from typing import Literal

import torch

from triptych.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


def local_device(name: str = "auto") -> torch.device:
    """Where this process computes; of several GPUs the one of its number on the machine.

    Args:
        name: `auto` is a GPU where torch finds one, else the CPU; `cpu` or `cuda`.

    Raises:
        ConfigError: `cuda`, and torch finds none.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise ConfigError(
            "device: expected a GPU that torch finds for `cuda`, found none"
        )
    if name == "cpu" or not found:
        return torch.device("cpu")
    return torch.device("cuda", told_by_torchrun("LOCAL_RANK", 0))


def told_by_torchrun(name: str, least: int) -> int:
    """What a variable of `torchrun`'s says; `least` where it is not set, as alone.

    Raises:
        ConfigError: that is no number, or below `least`.
    """
    text = os.environ.get(name) or str(least)
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise ConfigError(
            f"{name}: expected a number from {least} on, as `torchrun` sets it, found "
            f"`{text:.60}`; alone, unset it"
        )
    return int(text)
