# ruff: noqa: E501 - programs and tables
"""Language identification, beside the peers, on documents of 0.5, 1, 4 and 20 KB.

    python benches/prep/bench_language.py [--identify PROGRAM] [--peer-python PYTHON]

`cargo build --release --example identify` makes the program. Documents are sentences
of the Open Source Guides in `tests/cases` (26 languages), joined up to their length,
or of `--input`. Figures are megabytes a second in one process that judges a text at
a time, models loaded before; the share of documents named as in the file is said too.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from pathlib import Path

import measuring
import pyarrow as pa

PAGES = measuring.ROOT / "tests" / "cases" / "languages.jsonl.zst"
IDENTIFY = measuring.ROOT / "target" / "release" / "examples" / "identify"
LENGTHS = (500, 1_000, 4_000, 20_000)
DOCUMENTS = 300

LOADERS = {
    "py3langid": """
import py3langid
identify = lambda text: py3langid.classify(text)[0]
""",
    "lingua": """
from lingua import LanguageDetectorBuilder
detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()
def identify(text):
    language = detector.detect_language_of(text)
    return language.iso_code_639_1.name.lower() if language else "und"
""",
}
JUDGE = """
import json, sys, time
texts = open(sys.argv[1], encoding="utf-8").read().rstrip("\\n").split("\\n")
texts = texts[: int(sys.argv[2])]
identify(texts[0])
start = time.process_time()
codes = [identify(text) for text in texts]
seconds = time.process_time() - start
print(json.dumps({"megabytes": sum(len(t.encode()) for t in texts) / 1e6, "seconds": seconds, "codes": codes}))
"""


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--identify", type=Path, default=IDENTIFY)
    parser.add_argument("--peer-documents", type=int, default=100)
    options = parser.parse_args()
    if not options.identify.exists():
        parser.error("no `identify`: run `cargo build --release --example identify`")
    table = {}
    with tempfile.TemporaryDirectory() as name:
        for length in LENGTHS:
            path = Path(name) / f"{length}.txt"
            codes = write_documents(options.input or PAGES, path, length)
            table[str(length)] = measure(path, codes, options)
    measuring.report({"bytes_of_a_document": table}, options.json)


def write_documents(source: Path, target: Path, length: int) -> list[str]:
    """Documents without line ends, one a line; their languages."""
    rng = random.Random(length)
    kind = "zstd" if source.suffix == ".zst" else None
    lines = pa.input_stream(str(source), compression=kind).read().split(b"\n")
    pages = [json.loads(line) for line in lines if line]
    pages = [page for page in pages if page["lang"] not in ("pcm", "sw", "bn")]
    codes = []
    with target.open("w", encoding="utf-8") as out:
        for _ in range(DOCUMENTS):
            page = rng.choice(pages)
            sentences = [s for s in page["text"].split("\n") if len(s) > 60]
            text = ""
            while len(text.encode()) < length:
                text += rng.choice(sentences) + " "
            out.write(
                " ".join(text.encode()[:length].decode(errors="ignore").split()) + "\n"
            )
            codes.append(page["lang"].split("-")[0])
    return codes  # fmt: skip


def measure(path: Path, codes: list[str], options: object) -> dict[str, object]:
    right: dict[str, float] = {
        "triptych": share(identified(options.identify, path), codes)
    }

    def peer(name: str) -> float | None:
        code = LOADERS[name] + JUDGE
        arguments = [str(path), str(options.peer_documents)]
        done = measuring.peer(options.peer_python, code, arguments)
        if done is None:
            return None
        right[name] = share(done["codes"], codes)
        return done["megabytes"] / done["seconds"]

    sides = {"triptych": lambda: timed(options.identify, path)}
    sides |= {name: lambda name=name: peer(name) for name in LOADERS}
    figures = measuring.interleaved(sides, options.rounds)
    return {
        "megabytes_per_second": {name: round(figure, 2) for name, figure in figures.items()},
        "right": {name: round(value, 3) for name, value in right.items()},
    }  # fmt: skip


def identified(program: Path, path: Path) -> list[str]:
    """The codes that the program names."""
    with path.open("rb") as texts:
        done = subprocess.run(
            [str(program)], stdin=texts, capture_output=True, text=True, check=True
        )
    return [line.split("\t")[0] for line in done.stdout.splitlines()]  # fmt: skip


def timed(program: Path, path: Path) -> float:
    """Megabytes a second as the program measures them."""
    with path.open("rb") as texts:
        done = subprocess.run(
            [str(program), "--time"],
            stdin=texts,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout.split()[0])


def share(found: list[str], codes: list[str]) -> float:
    """Share of right answers among those given."""
    return sum(a == b for a, b in zip(found, codes, strict=False)) / len(found)


if __name__ == "__main__":
    main()
