# ruff: noqa: E501 - programs and tables
"""The `native` chain with repetition, all kinds of personal data and language, by threads.

    python benches/prep/bench_native.py [--input FILE.jsonl] [--threads 1 2]

Whole processes over one JSONL file, read and written uncompressed, documents of 0.5 to
20 KB. For one thread the figure is megabytes of text a processor second; for more it
is the wall clock, and the gain over one thread beside it. Each part is also left out
in turn, to show what it costs.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import measuring
import pyarrow as pa

PROFILE = "gopher-repetition,native"
PII = '[pii]\ndefault = "placeholder"\n'
LANGUAGE = "[language]\nthreshold = 0.0\n"
CONFIGS = {
    "all": PII + LANGUAGE,
    "without_language": PII,
    "without_pii": LANGUAGE,
    "chain_alone": "",
}
SMALLEST, LARGEST = 500, 20_000


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        size = write_corpus(options.input, corpus)
        measuring.report(measure(folder, corpus, size, options), options.json)


def write_corpus(source: Path | None, target: Path) -> int:
    """The documents of the right length, the sample six times over; the bytes of their texts."""
    if source:
        lines = source.read_bytes().split(b"\n")
    else:
        paths = sorted(measuring.SAMPLE.glob("*.zst"))
        texts = [
            pa.input_stream(str(path), compression="zstd").read() for path in paths
        ]
        lines = b"\n".join(texts).split(b"\n") * 6
    size = 0
    with target.open("wb") as out:
        for line in lines:
            text = json.loads(line).get("text") if line else None
            if text and SMALLEST <= len(text.encode()) <= LARGEST:
                size += len(text.encode())
                out.write(line + b"\n")
    return size  # fmt: skip


def measure(
    folder: Path, corpus: Path, size: int, options: object
) -> dict[str, object]:
    program, output = measuring.engine(options), folder / "out"

    def arguments(name: str, threads: int) -> list[str]:
        config = folder / f"{name}.toml"
        config.write_text(CONFIGS[name], encoding="utf-8")
        return [
            "--profile",
            PROFILE,
            "--threads",
            str(threads),
            "--config",
            str(config),
        ]

    def processor(name: str) -> float:
        return (
            size / 1e6 / measuring.prepared(program, corpus, output, arguments(name, 1))
        )

    def wall(threads: int) -> float:
        start = time.perf_counter()
        measuring.prepared(program, corpus, output, arguments("all", threads))
        return size / 1e6 / (time.perf_counter() - start)

    sides = {name: lambda name=name: processor(name) for name in CONFIGS}
    sides |= {f"wall_{n}": lambda n=n: wall(n) for n in options.threads}
    figures = measuring.interleaved(sides, options.rounds)
    walls = {n: figures.pop(f"wall_{n}") for n in options.threads}
    return {
        "claim": "native, all PII kinds, language and repetition: at least 40 MB/s; 2 threads 1.85 times 1",
        "profile": PROFILE,
        "text_megabytes": round(size / 1e6, 1),
        "megabytes_per_cpu_second": {name: round(figure, 1) for name, figure in figures.items()},
        "megabytes_per_second_by_threads": {str(n): round(figure, 1) for n, figure in walls.items()},
        "gain": {str(n): round(figure / walls[options.threads[0]], 2) for n, figure in walls.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
