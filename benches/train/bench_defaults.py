"""Which defaults `triptych pretrain` should have: bits per byte of `--size` recipes.

    python benches/train/bench_defaults.py --work FOLDER --json RESULTS

`FOLDER` is that of `bench_quality.py`. A run is a size of the dial and the founding four stages
over so many tokens; nothing is changed but the choice that is named and a factor of the rate
that the size has. All read the same rows. Results are written after every run, and what is
there is not run again, so the bench may be stopped and called again, also in parts (`--runs`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from bench_quality import prepare, results, save  # noqa: E402

from triptych import config  # noqa: E402
from triptych.commands.pretrain import PretrainConfig, pretrain  # noqa: E402
from triptych.train.metrics import EVALUATIONS  # noqa: E402

Settings = dict[str, Any]
SIZES: dict[str, int] = {"1m": 400_000, "3m": 800_000}  # tokens
FACTORS = (0.5, 1.0, 2.0, 4.0)
BIGRAM: Settings = {"tie_word_embeddings": False, "start": "bigram"}
# A start from counts is near to where embeddings and head stay: the shares of the demo's.
NEAR = {"embedding_lr_ratio": 0.15, "head_lr_ratio": 0.075}
CHOICES: dict[str, Settings] = {
    "adamw": {"optimizer": {"name": "adamw"}},
    "adamw, untied": {
        "optimizer": {"name": "adamw"},
        "model": {"tie_word_embeddings": False},
    },
    "muon, rms": {"optimizer": {"name": "muon", "lr_convention": "rms"}},
    "muon, rms, untied": {
        "optimizer": {"name": "muon", "lr_convention": "rms"},
        "model": {"tie_word_embeddings": False},
    },
    "muon, rms, bigram": {
        "optimizer": {"name": "muon", "lr_convention": "rms", **NEAR},
        "model": BIGRAM,
    },
}
RUNS = [f"{size}; {name}; {f:g}" for size in SIZES for f in FACTORS for name in CHOICES]


def main() -> None:
    """Runs what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", nargs="*", default=RUNS, help="SIZE; CHOICE; FACTOR")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    prepare(options.work)
    for name in options.runs:
        if name not in results(options.json):
            result = run(*name.split("; "), options)
            save(options.json, name, result)
            print(name, json.dumps(result), flush=True)


def run(size: str, choice: str, factor: str, options: argparse.Namespace) -> Settings:
    """One recipe of the dial, with one choice and its rate times `factor`."""
    chosen = CHOICES[choice]
    with tempfile.TemporaryDirectory() as folder:
        table: Settings = {
            "output": f"{folder}/run",
            "tokenizer": str(options.work / "tokenizer.json"),
            "sources": {"text": str(options.work / "tokens")},
            "evaluation": {"heldout": str(options.work / "heldout")},
            "tokens": SIZES[size],
            "threads": options.threads,
            "checkpoint_every_steps": 1_000_000,
            **chosen,
            "model": {"size": size, **chosen.get("model", {})},
        }
        rate = config.from_mapping(PretrainConfig, table).stages[0].learning_rate
        table["learning_rate"] = rate * float(factor)
        began = time.process_time()
        pretrain(config.from_mapping(PretrainConfig, table))
        lines = (Path(folder) / "run" / EVALUATIONS).read_text().splitlines()
    return {
        "bits_per_byte": {
            line["stage"]: round(line["bits_per_byte"]["heldout"], 4)
            for line in map(json.loads, lines)
        },
        "learning_rate": table["learning_rate"],
        "tokens": SIZES[size],
        "cpu_seconds": round(time.process_time() - began),
    }


if __name__ == "__main__":
    main()
