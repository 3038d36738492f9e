"""The `native` chain with repetition, all kinds of personal data and language.

    python benches/prep/bench_native.py [--input FILE.jsonl]

Whole processes of one thread over one JSONL file, read and written uncompressed,
documents of 0.5 to 20 KB. The figure is megabytes of text a processor second. Each part
is also left out in turn, to show what it costs.
"""

from __future__ import annotations

import json
import tempfile
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
    options = measuring.parser(__doc__).parse_args()
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

    def megabytes_per_cpu_second(name: str) -> float:
        config = folder / f"{name}.toml"
        config.write_text(CONFIGS[name], encoding="utf-8")
        arguments = ["--profile", PROFILE, "--threads", "1", "--config", str(config)]
        return size / 1e6 / measuring.prepared(program, corpus, output, arguments)

    sides = {name: lambda name=name: megabytes_per_cpu_second(name) for name in CONFIGS}
    figures = measuring.interleaved(sides, options.rounds)
    return {
        "claim": "native, all PII kinds, language and repetition: at least 40 MB/s",
        "profile": PROFILE,
        "text_megabytes": round(size / 1e6, 1),
        "megabytes_per_cpu_second": {name: round(figure, 1) for name, figure in figures.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
