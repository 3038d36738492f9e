"""Tokens a second of training beside transformers' Trainer and plain loops.

    python benches/train/bench_speed.py --size 13.8M

Every side trains the same Llama on the same random ids, 8 rows of 512 a step, with AdamW
and clipping at 1, each in a process of its own; rounds are interleaved. A figure is the
median step of a round, the first steps left out. `share_of_peak` counts 6 floating point
operations a parameter of a matrix product and 6 * layers * width * length a token for causal
attention, against the fastest product of square matrices (2,048; on a GPU 8,192) that this
machine makes. On a CPU peers compute the 8 rows at once and ours one by one: an eighth of
the activations in `peak_mib`, and no advantage in time. Sizes "on a GPU" have longer rows, which
all compute at once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "prep"))
import measuring  # noqa: E402
from sides import CASES  # noqa: E402

SIDES = ("ours", "ours_compiled", "trainer", "trainer_compiled", "eager", "compiled")
RESULTS = ("tokens_per_second", "tokens_per_cpu_second", "peak_mib", "first_step_s")


def main() -> None:
    """Runs every side in turn and writes medians and ratios."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--size", choices=tuple(CASES), default="13.8M")
    parser.add_argument("--precisions", default="fp32", help="of fp32,bf16")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sides", default=",".join(SIDES))
    options = parser.parse_args()
    names = [
        (side, precision)
        for precision in options.precisions.split(",")
        for side in options.sides.split(",")
    ]
    runs: dict[tuple[str, str], list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            runs[name].append(run(*name, options))
    report: dict[str, object] = {
        f"{side} {precision}": {
            key: round(statistics.median(x[key] for x in found), 3)
            for key in (*RESULTS, "share_of_peak")
        }
        for (side, precision), found in runs.items()
    }
    measuring.report({"size": options.size, "sides": report}, options.json)


def run(side: str, precision: str, options: object) -> dict[str, float]:
    """One side in a process of its own."""
    given = vars(options)
    command = [sys.executable, str(HERE / "sides.py"), side, given["size"], precision]
    command += [str(given["steps"]), str(given["threads"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().split("\n")[-1])
    print(side, precision, found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
