# ruff: noqa: E501 - programs and tables
"""All kinds of personal data on, beside the peers, on text with five matches in 10 KB.

    python benches/prep/bench_pii.py [--input FILE.jsonl] [--scrub PROGRAM] [--peer-python PYTHON]

`engine` is the whole process (read JSONL, replace, write JSONL, one thread); `scrub`, if
`cargo build --release --example scrub` was run, is the library alone. Peers find and
do not write: the pattern recognisers of presidio, and a pure-Python twin with the
four patterns of the `seed` profile. Figures are megabytes of text a processor second.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import measuring
import pii_text

SCRUB = measuring.ROOT / "target" / "release" / "examples" / "scrub"

# Recognisers by patterns and checksums; names and places, which need a model, are left out.
PRESIDIO = """
import json, sys, time
from presidio_analyzer import predefined_recognizers as known
names = "Email Ip CreditCard Iban UsSsn Crypto Phone".split()
finders = [getattr(known, name + "Recognizer")() for name in names]
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
start, found = time.process_time(), 0
for text in texts:
    for finder in finders:
        found += len(finder.analyze(text, finder.supported_entities, None) or [])
seconds = time.process_time() - start
print(json.dumps({"megabytes": sum(len(t.encode()) for t in texts) / 1e6, "seconds": seconds, "found": found}))
"""
TWIN = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
import seed_twin as twin
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
start = time.process_time()
changed = sum(twin.remove_pii(text) != text for text in texts)
seconds = time.process_time() - start
print(json.dumps({"megabytes": sum(len(t.encode()) for t in texts) / 1e6, "seconds": seconds, "found": changed}))
"""


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--scrub", type=Path, default=SCRUB)
    parser.add_argument("--megabytes", type=float, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = options.input or folder / "corpus.jsonl"
        if options.input is None:
            inputs = sorted(measuring.SAMPLE.glob("*.zst"))
            pii_text.write(corpus, inputs, options.megabytes)
        measuring.report(measure(folder, corpus, options), options.json)


def measure(folder: Path, corpus: Path, options: object) -> dict[str, object]:
    megabytes = measuring.text_bytes(corpus) / 1e6
    small = folder / "small.jsonl"
    measuring.head(corpus, small, options.peer_megabytes)
    policy = folder / "policy.toml"
    policy.write_text(
        'profile = "clean"\n[pii]\ndefault = "placeholder"\n', encoding="utf-8"
    )
    program, output = measuring.engine(options), folder / "out"
    arguments = ["--config", str(policy), "--threads", "1"]

    def twin(python: str, code: str, rest: list[str]) -> float | None:
        figures = measuring.peer(python, code, [str(small), *rest])
        return figures and figures["megabytes"] / figures["seconds"]

    sides = {
        "engine": lambda: megabytes / measuring.prepared(program, corpus, output, arguments),
        "scrub": lambda: scrubbed(options.scrub, corpus),
        "presidio": lambda: twin(options.peer_python, PRESIDIO, []),
        "python_twin": lambda: twin(options.peer_python, TWIN, [str(measuring.ROOT / "tests" / "python")]),
    }  # fmt: skip
    figures = measuring.interleaved(sides, options.rounds)
    return {
        "claim": "PII alone, all kinds, 5 matches in 10 KB: at least 200 MB/s on one core",
        "text_megabytes": round(megabytes, 1),
        "megabytes_per_cpu_second": {name: round(figure, 2) for name, figure in figures.items()},
        "left_out": [name for name in sides if name not in figures],
    }  # fmt: skip


def scrubbed(program: Path, corpus: Path) -> float | None:
    """Megabytes a second of the library alone, the best of three rounds of one process."""
    if not program.exists():
        return None
    done = subprocess.run(
        [str(program), str(corpus), "3"], capture_output=True, text=True, check=True
    )
    return max(float(line.split()[0]) for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
