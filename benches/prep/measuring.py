"""What the benches share: interleaved runs, seconds of the processor, a report.

Machines are shared, so rounds are interleaved and what is compared is the median of
processor seconds (user and system). Every report says the load and the commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "python" / "triptych" / "sample"


def parser(document: str | None) -> argparse.ArgumentParser:
    """The options that all benches have."""
    options = argparse.ArgumentParser(
        description=(document or "").split("\n")[0],
        epilog="Peers that are not installed are left out and named.",
    )
    options.add_argument(
        "--input", type=Path, help="a .jsonl file with `text` (default: generated)"
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path, help="where the report goes as well")
    options.add_argument(
        "--engine", type=Path, help="`triptych-prep` (default: beside this Python)"
    )
    options.add_argument(
        "--peer-python", default=sys.executable, help="a Python with the peers"
    )
    options.add_argument(
        "--peer-megabytes", type=float, default=2, help="text that slow peers get"
    )
    return options


def engine(options: argparse.Namespace) -> str:
    """The program to measure."""
    beside = shutil.which("triptych-prep", path=str(Path(sys.executable).parent))
    found = options.engine or beside
    if found is None or not Path(found).exists():
        sys.exit("no `triptych-prep` beside this Python: run `pip install .` first")
    return str(found)


def cpu_seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Processor seconds of a whole process, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command,
        check=True,
        env=os.environ | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepared(
    program: str, corpus: Path, output: Path, arguments: Iterable[str]
) -> float:
    """Processor seconds of one `run` into a new folder."""
    shutil.rmtree(output, ignore_errors=True)
    command = [program, "run", "--input", str(corpus), "--output", str(output)]
    return cpu_seconds([*command, "--format", "jsonl", *arguments])


def peer(python: str, program: str, arguments: list[str]) -> dict[str, float] | None:
    """What a program of a peer prints as JSON; `None` if the peer is not installed."""
    done = subprocess.run(
        [python, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    if "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr:
        return None
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().split("\n")[-1])


def interleaved(
    sides: dict[str, Callable[[], float | None]], rounds: int
) -> dict[str, float]:
    """The median of every side's figure, one run of each in turn."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            figure = measure()
            if figure is not None:
                figures[name].append(figure)
    return {name: statistics.median(runs) for name, runs in figures.items() if runs}


def head(corpus: Path, target: Path, megabytes: float) -> int:
    """Writes the first documents, so many megabytes of text; returns their bytes."""
    size = 0
    with corpus.open("rb") as source, target.open("wb") as out:
        for line in source:
            size += len(json.loads(line)["text"].encode())
            out.write(line)
            if size >= megabytes * 1e6:
                break
    return size


def text_bytes(corpus: Path) -> int:
    """Bytes of all texts of a file."""
    with corpus.open("rb") as source:
        return sum(len(json.loads(line)["text"].encode()) for line in source)


def report(result: dict[str, object], target: Path | None) -> None:
    """Prints the result with the machine, and writes it where that is asked."""
    text = json.dumps(result | machine(), indent=2)
    print(text)
    if target:
        target.write_text(text + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """Processor, its load, Python and commit."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "cpu": names[0] if names else "unknown",
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }
