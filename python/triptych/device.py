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
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
