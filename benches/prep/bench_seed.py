"""The `seed` profile on one thread, beside its pure-Python twin, in one run.

    python benches/prep/bench_seed.py [--input FILE.jsonl ...] [--rounds 5] [--json FILE]

Both are whole processes over the same uncompressed JSONL file: read, scrub, judge,
deduplicate, write. Rounds are interleaved, since machines are shared; what is
compared is the median of CPU seconds (user and system). Without --input the bundled
sample is used. The run fails if both do not keep the same documents.
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
import tempfile
from pathlib import Path

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "python" / "triptych" / "sample"
TWIN = ROOT / "tests" / "python"

# The twin as a program: the loop of a user who writes it in plain Python.
TWIN_PROGRAM = """
import json, sys
import seed_twin as twin
index = twin.NgramIndex(13)
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    for line in source:
        record = json.loads(line)
        text = twin.remove_pii(record["text"])
        if twin.check_quality(text, 128, 4096) and index.judge(text) == "new":
            record["text"] = text
            target.write(json.dumps(record, ensure_ascii=False).encode() + b"\\n")
"""


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        text_bytes = write_corpus(options.input, corpus)
        result = measure(folder, corpus, options.rounds)
    result |= {"text_megabytes": round(text_bytes / 1e6, 2), **machine()}
    for side in ("twin", "engine"):
        result[f"{side}_megabytes_per_cpu_second"] = round(
            text_bytes / 1e6 / result[f"{side}_cpu_seconds"], 1
        )
    result["ratio"] = round(
        result["twin_cpu_seconds"] / result["engine_cpu_seconds"], 1
    )
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--input", type=Path, nargs="+", help=".jsonl or .jsonl.zst")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def write_corpus(inputs: list[Path] | None, corpus: Path) -> int:
    """Writes the inputs as one plain file; returns the bytes of their texts."""
    size = 0
    with corpus.open("wb") as target:
        for path in inputs or sorted(SAMPLE.glob("*.zst")):
            kind = "zstd" if path.suffix == ".zst" else None
            for line in (
                pa.input_stream(str(path), compression=kind).read().split(b"\n")
            ):
                text = json.loads(line).get("text") if line else None
                if text is not None:
                    size += len(text.encode())
                    target.write(line + b"\n")
    return size


def measure(folder: Path, corpus: Path, rounds: int) -> dict[str, float]:
    twin_output, engine_output = folder / "twin.jsonl", folder / "engine"
    prep = shutil.which("triptych-prep", path=str(Path(sys.executable).parent))
    if prep is None:
        sys.exit("no `triptych-prep` beside this Python: run `pip install .` first")
    twin = [sys.executable, "-c", TWIN_PROGRAM, str(corpus), str(twin_output)]
    engine = [prep, "run", "--input", str(corpus), "--output", str(engine_output)]
    engine += ["--format", "jsonl", "--threads", "1"]
    seconds: dict[str, list[float]] = {"twin": [], "engine": []}
    for _ in range(rounds):
        seconds["twin"].append(cpu_seconds(twin))
        shutil.rmtree(engine_output, ignore_errors=True)
        seconds["engine"].append(cpu_seconds(engine))
    check_equal(twin_output, engine_output)
    return {
        f"{k}_cpu_seconds": round(statistics.median(v), 4) for k, v in seconds.items()
    }


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(TWIN)}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check_equal(twin_output: Path, engine_output: Path) -> None:
    """Both kept the same texts in the same order, or the times mean nothing."""
    found = [texts(path) for path in (twin_output, engine_output / "00000.jsonl")]
    if found[0] != found[1]:
        sys.exit(f"the results differ: {len(found[0])} and {len(found[1])} documents")


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_bytes().split(b"\n") if line]


def machine() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    cpu = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if "model name" in x), cpu)
    return {
        "cpu": cpu,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    main()
