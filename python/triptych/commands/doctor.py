"""`triptych doctor`: what this machine can do; safe to paste into a report."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import shutil
from dataclasses import dataclass
from typing import Any

from triptych import _core

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "pyarrow",
    "safetensors",
    "jinja2",
    "transformers",
)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Nothing to set."""


def doctor(config: DoctorConfig | None = None) -> dict[str, Any]:
    """Versions, processor, accelerators and disk; no names of users or hosts."""
    return {
        "triptych": importlib.metadata.version("triptych"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": _core.usable_cores(),
        "free_disk_gib": round(shutil.disk_usage(".").free / 2**30, 1),
        "packages": {name: _version(name) for name in PACKAGES},
        **_torch(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    if _version("torch") is None:
        return {"training": "not installed: pip install 'triptych[train]'"}
    import torch

    from triptych.train.precision import Precision

    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cuda_devices": [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ],
        "precision": Precision.choose("auto", torch.device("cpu")).name,
    }


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    facts = doctor()
    if options.json:
        print(json.dumps(facts))
        return 0
    for name, value in facts.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items())
            if isinstance(value, dict)
            else value
        )
        print(f"{name:<16}{shown}")
    return 0
