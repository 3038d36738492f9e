"""Bits per byte after some minutes of training: ours, transformers' Trainer, nanochat.

    python benches/train/bench_quality.py --work FOLDER --nanochat CHECKOUT

`FOLDER` holds `train.jsonl` and `heldout.jsonl` ({"id", "text"} a line); the tokenizer
(8,192 ids) and the token shards are made in it, once. Every side reads the same ids, in
rows of 512, and is measured on the same held-out ones. A budget is CPU seconds, as a
machine is never quiet for long: a minute counts 60 for each of `--threads`. Time to compile
does not count; ours includes what its start from counts takes.

`--precision bf16` is autocast for ours and the Trainer; nanochat stays in fp32. Ours is compiled
where the engine has no kernels for the type. A side is timed for some steps, its schedule is
planned for as many as the budget holds, and then it is trained. Results are written after every
run, and what is there is not run again: the bench may be stopped and called again, also in
parts (`--runs`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "prep"))
import measuring  # noqa: E402

CALIBRATION_STEPS = 6
WARM_STEPS = 1  # of those, left out
SWEEP = (1e-3, 2e-3, 3e-3, 6e-3, 1e-2)  # AdamW's rates
SWEEP_SHARE = 1 / 6  # of the budget, which each rate of the sweep has

Settings = dict[str, Any]
TRAINER: Settings = {
    "side": "trainer",
    "rows": 8,
    "model": {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 4, "intermediate_size": 704, "tie_word_embeddings": True,
    },
}  # fmt: skip
NANOCHAT: Settings = {"side": "nanochat", "depth": 4, "accumulation": 1}
OURS: Settings = {
    "side": "ours",
    "start": "bigram",
    "model": {
        "model_type": "qwen3", "hidden_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
        "intermediate_size": 704, "tie_word_embeddings": False,
        "initializer_range": 0.03,
    },
    "stage": {
        "rows": 4, "max_lr": 0.02, "min_lr_ratio": 0.05, "warmup_steps": 10,
        "schedule": "wsd", "decay_ratio": 0.65,
    },
    "optimizer": {
        "name": "muon", "lr_convention": "spectral", "embedding_lr_ratio": 0.075,
        "head_lr_ratio": 0.0375, "weight_decay": 0.0, "eps": 1e-10,
    },
}  # fmt: skip
SHALLOW = OURS | {"model": OURS["model"] | {"num_hidden_layers": 2}}
# From normal weights embeddings and head have the whole way to go: best of 2.20 to 2.25 bits
# after 300,000 tokens at ratios of (10, 0.4), (5, 0.2), (5, 0.4), (2, 0.4).
RANDOM = OURS | {
    "start": "random",
    "model": OURS["model"] | {"initializer_range": 0.0625},
    "optimizer": OURS["optimizer"] | {"embedding_lr_ratio": 5.0, "head_lr_ratio": 0.4},
}
# What a result repeats of the settings.
RECIPE = (
    "precision",
    "depth",
    "rows",
    "rate_scale",
    "learning_rate",
    "start",
    "model",
    "stage",
    "optimizer",
)
# What is run, by name: settings, and the share of the budget.
RUNS: dict[str, tuple[Settings, float]] = {
    "nanochat": (NANOCHAT | {"rows": 32}, 1.0),
    "nanochat, 8 rows": (NANOCHAT | {"rows": 8}, 1.0),
    # Its rule makes rates small with the batch; these are its rates as they stand.
    "nanochat, 8 rows, full rates": (NANOCHAT | {"rows": 8, "rate_scale": 1.0}, 1.0),
    **{
        f"trainer, sweep {rate:g}": (TRAINER | {"learning_rate": rate}, SWEEP_SHARE)
        for rate in SWEEP
    },
    "trainer": (TRAINER, 1.0),
    "trainer at 0.003": (TRAINER | {"learning_rate": 0.003}, 1.0),
    # Smaller steps than its sweep had, as ours are.
    "trainer, 4 rows": (TRAINER | {"rows": 4}, 1.0),
    "ours": (OURS, 1.0),
    "ours, 2 layers": (SHALLOW, 1.0),
    "ours, 2 layers, 6 of 10 minutes": (SHALLOW, 0.6),
    "ours, 2 layers, 4 of 10 minutes": (SHALLOW, 0.4),
    "ours, 6 of 10 minutes": (OURS, 0.6),
    "ours, 4 of 10 minutes": (OURS, 0.4),
    "ours, 1 of 10 minutes": (OURS, 0.1),
    "ours, 4 of 10 minutes, random start": (RANDOM, 0.4),
}


def main() -> None:
    """Runs what is asked for and not there yet; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nanochat", help="a checkout of it")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", default=";".join(RUNS), help="names, ; between them")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument(
        "--json", type=Path, required=True, help="results, read and written"
    )
    options = parser.parse_args()
    prepare(options.work)
    for name in options.runs.split(";"):
        found = results(options.json)
        if name not in found:
            result = run(name, found, options)
            save(options.json, name, result)
            print(name, json.dumps(result), flush=True)


def results(path: Path) -> dict[str, Any]:
    """What was measured before, by name."""
    found = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    return dict(found["runs"])


def save(path: Path, name: str, result: Settings) -> None:
    """Adds one result; another process may have added its own meanwhile."""
    runs = results(path) | {name: result}
    text = json.dumps({"machine": measuring.machine(), "runs": runs}, indent=2) + "\n"
    path.write_text(text)


def prepare(work: Path) -> None:
    """The tokenizer and the token shards of both texts."""
    tokenizer = work / "tokenizer.json"
    command = [sys.executable, "-m", "triptych", "prep"]
    if not tokenizer.exists():
        train = ["train-tokenizer", "--input", str(work / "train.jsonl")]
        train += ["--vocab-size", "8192", "--output", str(tokenizer)]
        subprocess.run([*command, *train], check=True)
    for text, folder in (("train", "tokens"), ("heldout", "heldout")):
        if not (work / folder).exists():
            encode = ["tokenize", "--input", str(work / f"{text}.jsonl")]
            encode += ["--tokenizer", str(tokenizer), "--output", str(work / folder)]
            subprocess.run([*command, *encode], check=True)


def run(name: str, found: dict[str, Any], options: argparse.Namespace) -> Settings:
    """Times a side, plans its steps, trains it."""
    settings, share = RUNS[name]
    if settings["side"] == "trainer" and "learning_rate" not in settings:
        settings = settings | {"learning_rate": best_rate(found)}
    settings = settings | {
        "tokens": str(options.work / "tokens"),
        "heldout": str(options.work / "heldout"),
        "tokenizer": str(options.work / "tokenizer.json"),
        "text": str(options.work / "train.jsonl"),
        "nanochat": options.nanochat,
        "threads": options.threads,
        "precision": options.precision,
        "seed": 0,
    }
    budget = share * 60.0 * options.minutes * options.threads
    timed = side(
        settings | {"steps": CALIBRATION_STEPS, "planned": 100, "measure": False}
    )
    left = budget - timed["start_cpu_seconds"]
    steps = int(left / steady(timed))
    result = side(settings | {"steps": steps, "planned": steps, "measure": True})
    return {
        "bits_per_byte": round(result["bits_per_byte"], 4),
        "budget_cpu_seconds": round(budget),
        "cpu_seconds": round(result["start_cpu_seconds"] + steps * steady(result)),
        "start_cpu_seconds": round(result["start_cpu_seconds"], 1),
        "steps": steps,
        "tokens": result["tokens"],
        "tokens_per_cpu_second": round(result["tokens_per_step"] / steady(result)),
        "parameters": result["parameters"],
        "settings": {key: settings[key] for key in RECIPE if key in settings},
    }


def steady(result: Settings) -> float:
    """CPU seconds of a step, compiling ones left out: the mean, for budgets add up."""
    return statistics.fmean(result["step_cpu_seconds"][WARM_STEPS:])


def best_rate(found: dict[str, Any]) -> float:
    """AdamW's rate with the fewest bits in the sweep."""
    swept = {rate: found[f"trainer, sweep {rate:g}"]["bits_per_byte"] for rate in SWEEP}
    return min(swept, key=lambda rate: swept[rate])


def side(settings: Settings) -> Settings:
    """One side in a process of its own."""
    with tempfile.NamedTemporaryFile("w+") as said:
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, str(HERE / "quality_sides.py"), json.dumps(settings)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=said, text=True, check=False,
            env=environment,
        )  # fmt: skip
        if done.returncode:
            said.seek(0)
            sys.exit(f"{settings['side']}: {said.read()[-3000:]}")
    found: Settings = json.loads(done.stdout.strip().split("\n")[-1])
    return found


if __name__ == "__main__":
    main()
