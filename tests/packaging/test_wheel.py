"""A wheel built from the source distribution, installed elsewhere, is whole and quick.

Run by itself (`make test-packaging`): it compiles the engine, in the project's own
target folder so that the dependencies are compiled once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = sorted(path.stem for path in (ROOT / "kernels/triptych_kernels").glob("*.py"))
SAMPLE_BYTES = 4_000_000  # what the bundled sample may take


def run(*command: str | Path, **environment: str) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pip(*arguments: str | Path) -> None:
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    run(sys.executable, "-m", "pip", "-q", *arguments, CARGO_TARGET_DIR=target)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    pip("wheel", "--no-deps", "--wheel-dir", folder, sdist)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


def python(installed: Path, code: str) -> str:
    interpreted = {"PYTHONPATH": str(installed), "TRITON_INTERPRET": "1"}
    return run(sys.executable, "-c", code, **interpreted).strip()


def test_the_wheel_serves_every_python_from_3_10(wheel):
    assert "-cp310-abi3-" in wheel.name


def test_the_sample_is_there_and_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {item.filename: item.compress_size for item in archive.infolist()}
    sample = {name: size for name, size in files.items() if "/sample/" in name}
    assert "triptych/sample/README.md" in sample
    assert 0 < sum(sample.values()) <= SAMPLE_BYTES


def test_the_installed_package_is_the_one_imported(installed):
    found = python(installed, "import triptych; print(triptych.__file__)")
    assert Path(found).is_relative_to(installed)


@pytest.mark.parametrize("module", KERNELS)
def test_every_kernel_module_is_in_the_wheel(installed, module):
    name = "triptych_kernels" + ("" if module == "__init__" else f".{module}")
    found = python(installed, f"import {name} as kernel; print(kernel.__file__)")
    assert Path(found).is_relative_to(installed)


def test_the_engine_and_every_public_name_work(installed):
    code = (
        "import triptych as t; [getattr(t, name) for name in t.__all__];"
        "print(t.TextPreprocessor().remove_pii('a@b.org'))"
    )
    assert python(installed, code) == "[EMAIL]"


def median_seconds(*command: str | Path, **environment: str) -> float:
    def once() -> float:
        started = time.perf_counter()
        run(*command, **environment)
        return time.perf_counter() - started

    once()  # the disk is cold
    return statistics.median(once() for _ in range(9))


def test_both_commands_say_their_version_at_once(installed):
    prep = installed / "bin" / "triptych-prep"
    assert run(prep, "--version").startswith("triptych-prep ")
    assert median_seconds(prep, "--version") < 0.020
    script, path = installed / "bin" / "triptych", {"PYTHONPATH": str(installed)}
    assert run(script, "--version", **path).startswith("triptych ")
    assert median_seconds(script, "--version", **path) < 0.300
