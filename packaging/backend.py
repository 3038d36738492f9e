"""Build backend: maturin, and the standalone binary beside the extension module.

A wheel of maturin holds an extension module or a binary, not both. This backend
builds `triptych-prep` with cargo into the wheel's scripts folder, then hands over
to maturin, so that a `pip install` brings the command that starts in milliseconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import maturin

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "rust" / "cli" / "data" / "scripts"
BINARY = "triptych-prep" + (".exe" if sys.platform == "win32" else "")

get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_editable = maturin.get_requires_for_build_editable


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Builds the wheel with the binary inside (PEP 517)."""
    _build_binary()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Builds the editable wheel with the binary inside (PEP 660)."""
    _build_binary()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(
    sdist_directory: str, config_settings: dict[str, Any] | None = None
) -> str:
    """Builds the source distribution (PEP 517)."""
    SCRIPTS.mkdir(parents=True, exist_ok=True)  # maturin wants its data folder
    return maturin.build_sdist(sdist_directory, config_settings)


def _build_binary() -> None:
    # With the extension's package named too, both share the features of their dependencies,
    # which are then compiled once: half of the time of an install.
    command = ["cargo", "build", "--release", "--bins"]
    command += ["--package", "triptych-cli", "--package", "triptych-py"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / "release" / BINARY, SCRIPTS / BINARY)
