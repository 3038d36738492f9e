"""In which type the matrix products run; weights and optimiser stay float32."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych.errors import ConfigError

logger = logging.getLogger(__name__)

# oneDNN, and torch's layer above it, keep what they made for each shape of a 16-bit
# product, up to 1,024 shapes each, 0.7 MB a shape. Rows of packed documents are of many
# lengths: a run of the demo grew from 0.9 to 1.9 GB in 800 steps. A step of one length
# takes some 20 shapes, and with 64 it is as fast.
CACHED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """`fp32`, `bf16` or `fp16` on one kind of device."""

    name: str
    device_type: str

    @classmethod
    def choose(cls, name: str, device: torch.device) -> Precision:
        """`name`, or with `auto` the fastest type that `device` computes natively.

        Raises:
            ConfigError: the name is unknown, or the device cannot train in it.
        """
        if name == "auto":
            name = _fastest(device.type)
        if name not in DTYPES:
            names = ["auto", *DTYPES]
            raise ConfigError(f"precision: expected one of {names}, found `{name}`")
        if name == "fp16" and device.type not in ("cuda", "cpu"):
            raise ConfigError(
                f"precision: expected `bf16` or `fp32` on {device.type}, found `fp16`, "
                "whose gradients cannot be scaled there"
            )
        if device.type == "cpu" and name != "fp32":
            bound_shape_caches()
        if device.type == "cpu" and name == "bf16" and not cpu_computes_bf16():
            logger.warning(
                "precision: this processor multiplies float32 faster than `bf16`; "
                "`auto` takes `fp32` here"
            )
        return cls(name, device.type)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the matrix products."""
        return DTYPES[self.name]

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which to run the forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)

    @contextmanager
    def weights_cast_once(self) -> Iterator[None]:
        """Within it, contexts of `autocast` share the weights that they made narrow.

        Each would forget them at its end: with four micro-batches of a 13.8M model on two
        cores 2 % of a step. Weights must not change meanwhile.
        """
        if self.name == "fp32":
            yield
            return
        torch.autocast_increment_nesting()
        try:
            yield
        finally:
            if torch.autocast_decrement_nesting() == 0:
                torch.clear_autocast_cache()

    def scaler(self, num_processes: int = 1) -> torch.amp.GradScaler:
        """Gradient scaler, which does nothing unless the type is fp16.

        Several processes agree on an overflow: one that sees it is enough for all to
        leave the step out and to take the next with the same, smaller scale.
        """
        enabled = self.name == "fp16"
        if num_processes == 1 or not enabled:
            scaler = torch.amp.GradScaler(self.device_type, enabled=enabled)
        else:
            from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

            scaler = ShardedGradScaler(self.device_type)
        # The scale is made where it is first used, which a process without any
        # supervised token in its rows would not come to.
        scaler.scale(torch.zeros((), device=self.device_type))
        return scaler


def bound_shape_caches() -> None:
    """Bounds what a CPU's 16-bit products keep, unless the environment says how much.

    It is read once, before the first of them.
    """
    for variable, capacity in CACHED_SHAPES.items():
        os.environ.setdefault(variable, capacity)


def _fastest(device_type: str) -> str:
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if device_type == "cpu" and cpu_computes_bf16() else "fp32"


def computes_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_computes_bf16()


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 faster than float32: by tiles (AMX), or AMD's vectors.

    Vector instructions (AVX-512 BF16) are not enough. A core of an AMD EPYC (Zen 4) made
    165 to 218 GFLOP/s with them and 79 to 94 in float32; two of an Intel Xeon 145 and
    250. Asked of the CPU and not measured, since on a busy machine a measurement comes
    out now so, now so, and with it the bits of a run.
    """
    if _torch_finds("_is_amx_tile_supported"):
        return True
    return _torch_finds("_is_avx512_bf16_supported") and "AuthenticAMD" in _cpu_maker()


def _torch_finds(name: str) -> bool:
    """What a function of torch.cpu says that not all versions have."""
    return bool(getattr(torch.cpu, name, bool)())


def _cpu_maker() -> str:
    """The processors' own word for who made them, among others; empty if it is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("vendor_id")), "")
