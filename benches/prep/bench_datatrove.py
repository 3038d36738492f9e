# ruff: noqa: E501 - programs and tables
"""The chain of datatrove 0.10 beside datatrove itself: repetition, Gopher, C4, FineWeb, PII.

    python benches/prep/bench_datatrove.py [--input FILE.jsonl] [--peer-python PYTHON]

Both are whole processes on one thread over the same JSONL file, which is read and
written uncompressed; datatrove gets the first `--peer-megabytes` of it, and so does
the engine once more, so that both must keep as many documents.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import measuring
import pyarrow as pa

PROFILE = "gopher-repetition,gopher,c4,fineweb,datatrove-pii"
DATATROVE = """
import json, sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
folder, target = sys.argv[1], sys.argv[2]
steps = [JsonlReader(folder), GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]
steps += [PIIFormatter(), JsonlWriter(target, compression=None)]
LocalPipelineExecutor(steps, logging_dir=target + "/logs").run()
print(json.dumps({"done": 1}))
"""


def main() -> None:
    parser = measuring.parser(__doc__)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = options.input or write_sample(folder / "corpus.jsonl")
        measuring.report(measure(folder, corpus, options), options.json)


def write_sample(target: Path) -> Path:
    """The bundled sample as one plain file."""
    with target.open("wb") as out:
        for path in sorted(measuring.SAMPLE.glob("*.zst")):
            for line in (
                pa.input_stream(str(path), compression="zstd").read().split(b"\n")
            ):
                if line and "text" in json.loads(line):
                    out.write(line + b"\n")
    return target  # fmt: skip


def measure(folder: Path, corpus: Path, options: object) -> dict[str, object]:
    (folder / "in").mkdir()
    small = folder / "in" / "small.jsonl"
    small_bytes = measuring.head(corpus, small, options.peer_megabytes)
    whole_bytes = measuring.text_bytes(corpus)
    program, output, target = measuring.engine(options), folder / "out", folder / "peer"
    arguments = ["--profile", PROFILE, "--threads", "1"]

    def peer() -> float | None:
        command = [
            options.peer_python,
            "-c",
            DATATROVE,
            str(folder / "in"),
            str(target),
        ]
        if (
            measuring.peer(options.peer_python, "import datatrove; print(1)", [])
            is None
        ):
            return None
        shutil.rmtree(target, ignore_errors=True)  # it would take up a finished run
        return small_bytes / 1e6 / measuring.cpu_seconds(command)

    sides = {
        "engine": lambda: (
            whole_bytes / 1e6 / measuring.prepared(program, corpus, output, arguments)
        ),
        "datatrove": peer,
    }
    figures = measuring.interleaved(sides, options.rounds)
    measuring.prepared(program, small, output, arguments)
    kept = {
        "engine": count(output),
        "datatrove": count(target) if "datatrove" in figures else None,
    }
    ratio = figures["engine"] / figures["datatrove"] if "datatrove" in figures else None
    return {
        "claim": "the parity chain: at least 20 MB/s and 100 times datatrove",
        "profile": PROFILE,
        "text_megabytes": {"engine": round(whole_bytes / 1e6, 1), "datatrove": round(small_bytes / 1e6, 1)},
        "megabytes_per_cpu_second": {name: round(figure, 3) for name, figure in figures.items()},
        "ratio": ratio and round(ratio, 1),
        "documents_kept_of_the_small_file": kept,
    }  # fmt: skip


def count(folder: Path) -> int:
    """Documents in the output of either side."""
    paths = folder.glob("0*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in paths)


if __name__ == "__main__":
    main()
