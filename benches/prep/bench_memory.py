"""Peak memory of the `seed` profile on a corpus of any size, by number of threads.

    python benches/prep/bench_memory.py [--gigabytes 10] [--threads 1 2] [--json FILE]

The corpus is the bundled sample over and over, each time with other words, so that no
document repeats another and deduplication has to remember all. It needs as much room in
the folder for temporary files, and half of it again for the output. The promise is
300 MB and 64 MB a thread, whatever the size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_seed import machine, write_corpus

MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
status = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"status": status, "peak_megabytes": round(used.ru_maxrss / 1024, 1),
    "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
    "wall_seconds": round(time.monotonic() - began, 1)}))
"""


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        size = write_repeated(folder, int(options.gigabytes * 1e9))
        runs = [measure(folder, threads) for threads in options.threads]
    result = {"corpus_gigabytes": round(size / 1e9, 2), "runs": runs, **machine()}
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="for temporary files")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def write_repeated(folder: Path, num_bytes: int) -> int:
    """Writes the sample until the corpus has `num_bytes`; returns its size.

    A number stands after every word that ends in e or s: one of 13 words in a row does
    so in 996 of 1000 cases.
    """
    once, corpus = folder / "once.jsonl", folder / "corpus.jsonl"
    write_corpus(None, once)
    lines = once.read_bytes()
    with corpus.open("wb") as target:
        number = 0
        while target.tell() < num_bytes:
            number += 1
            text = lines.replace(b"e ", b"e%d " % number)
            target.write(text.replace(b"s ", b"s%d " % number))
        return target.tell()


def measure(folder: Path, threads: int) -> dict[str, float]:
    prep = Path(sys.executable).parent / "triptych-prep"
    output = folder / f"out-{threads}"
    command = [sys.executable, "-c", MEASURE, str(prep), "run", "--input"]
    command += [str(folder / "corpus.jsonl"), "--output", str(output)]
    command += ["--threads", str(threads)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    ledger = json.loads((output / "ledger.json").read_text(encoding="utf-8"))["total"]
    shutil.rmtree(output)
    counts = {key: ledger[key] for key in ("read", "kept", "duplicates")}
    return {"threads": threads, **json.loads(found.stdout), **counts}


if __name__ == "__main__":
    main()
