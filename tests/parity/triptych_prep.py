"""The binary's decisions on texts, and texts to decide on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases"
BINARY = os.environ.get("TRIPTYCH_PREP") or shutil.which("triptych-prep")


def run(folder, profile, texts, *extra):
    """What the binary makes of each text: a file a document, so that the ledger tells all."""
    source = folder / "in"
    source.mkdir()
    for index, text in enumerate(texts):
        record = json.dumps({"id": str(index), "text": text})
        (source / f"{index:05}.jsonl").write_text(record + "\n", encoding="utf-8")
    output = folder / "out"
    options = ["--profile", profile, "--format", "jsonl", "--max-bad", "1", *extra]
    command = [BINARY, "run", "--input", source, "--output", output, *options]
    subprocess.run(command, check=True, capture_output=True)
    ledger = json.loads((output / "ledger.json").read_text(encoding="utf-8"))
    reasons = [next(iter(file["rejected"]), None) for file in ledger["files"]]
    shards = sorted(output.glob("[0-9]*.jsonl"))  # not the samples, nor the quarantine
    lines = [
        json.loads(line)
        for shard in shards
        for line in shard.read_text(encoding="utf-8").split("\n")
        if line
    ]
    kept = {int(line["id"]): line["text"] for line in lines}
    return [(kept.get(index), reason) for index, reason in enumerate(reasons)]


def case_texts(*names):
    for name in names:
        for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").split("\n"):
            if line:
                parts = json.loads(line)["parts"]
                yield "".join(piece * count for piece, count in parts)


PIECES = [
    *("the ", "of ", "and ", "cat ", "don't ", "U.S. ", "e-mail ", "3.14 ", "# ", "… "),
    *(
        "The cat sat on the mat.\n",
        "It isn't here!\n",
        "- point one\n",
        "• point\n",
        "\n\n",
    ),
    *(
        "use cookies ",
        "javascript ",
        "[1]",
        "[edit]",
        '"No," he said. ',
        "word" * 8 + " ",
    ),
    *("日本語。", "été ", "\u2028", "\x1c", "\r\n", "...\n", "a b c d e f g h i j. "),
]


def mixed_texts(count):
    """Documents thrown together: what nobody thought of."""
    rng = random.Random(0)
    for _ in range(count):
        few = rng.sample(PIECES, rng.randrange(2, len(PIECES)))
        pieces = [rng.choice(few) for _ in range(rng.randrange(5, 300))]
        yield "".join(pieces)
