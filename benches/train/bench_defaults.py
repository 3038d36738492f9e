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
# Name: size, tokens.
SIZES = {
    "1m": ("1m", 400_000),
    "1m, long": ("1m", 4_000_000),
    "3m": ("3m", 800_000),
    "10m": ("10m", 1_600_000),
}
FACTORS = (0.5, 1.0, 2.0, 4.0)
BIGRAM: Settings = {"tie_word_embeddings": False, "start": "bigram"}
# A start from counts is near to where embeddings and head stay: the shares of the demo's.
NEAR = {"embedding_lr_ratio": 0.15, "head_lr_ratio": 0.075}
MUON: Settings = {"name": "muon", "lr_convention": "rms"}
CHOICES: dict[str, Settings] = {
    "adamw": {"optimizer": {"name": "adamw"}},
    "adamw, untied": {
        "optimizer": {"name": "adamw"},
        "model": {"tie_word_embeddings": False},
    },
    "muon, rms": {"optimizer": MUON},
    "muon, rms, untied": {
        "optimizer": MUON,
        "model": {"tie_word_embeddings": False},
    },
    "muon, rms, bigram": {
        "optimizer": {**MUON, **NEAR},
        "model": BIGRAM,
    },
    "muon, rms, half the batch": {"optimizer": MUON, "batch": 0.5},
    "muon, rms, twice the batch": {"optimizer": MUON, "batch": 2.0},
    "muon, rms, half the start": {
        "optimizer": MUON,
        "model": {"initializer_range": 0.01},
    },
    "muon, rms, twice the start": {
        "optimizer": MUON,
        "model": {"initializer_range": 0.04},
    },
    "muon, rms, one stage": {"optimizer": MUON, "schedule": "wsd"},
    "muon, rms, one stage, cosine": {"optimizer": MUON, "schedule": "cosine"},
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
    (size, tokens), chosen = SIZES[size], dict(CHOICES[choice])
    batch, schedule = chosen.pop("batch", 1.0), chosen.pop("schedule", None)
    with tempfile.TemporaryDirectory() as folder:
        table: Settings = {
            "output": f"{folder}/run",
            "tokenizer": str(options.work / "tokenizer.json"),
            "sources": {"text": str(options.work / "tokens")},
            "evaluation": {"heldout": str(options.work / "heldout")},
            "tokens": tokens,
            "threads": options.threads,
            "checkpoint_every_steps": 1_000_000,
            **chosen,
            "model": {"size": size, **chosen.get("model", {})},
        }
        recipe = config.from_mapping(PretrainConfig, table).model.recipe(tokens)
        rate = recipe["learning_rate"] * float(factor)
        table["learning_rate"] = rate
        table["batch_tokens"] = max(round(recipe["batch_tokens"] * batch), 512)
        if schedule is not None:
            table |= one_stage(table, schedule)
        began = time.process_time()
        pretrain(config.from_mapping(PretrainConfig, table))
        lines = (Path(folder) / "run" / EVALUATIONS).read_text().splitlines()
    return {
        "bits_per_byte": {
            line["stage"]: round(line["bits_per_byte"]["heldout"], 4)
            for line in map(json.loads, lines)
        },
        "learning_rate": rate,
        "tokens": tokens,
        "cpu_seconds": round(time.process_time() - began),
    }


def one_stage(table: Settings, schedule: str) -> Settings:
    """The same tokens, batch and peak in one stage, whose rate falls as `schedule` says."""
    taken = ("tokens", "batch_tokens", "learning_rate")
    stage = {name: table.pop(name) for name in taken}
    return {"stage": [{"stage": "all", "schedule": schedule, **stage}]}


if __name__ == "__main__":
    main()
