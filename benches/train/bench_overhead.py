"""What the loop adds to the computing, and what an asynchronous checkpoint stops.

    python benches/train/bench_overhead.py --json benches/results/overhead.json

Trains the model of `bench_speed.py` by `Trainer`, metrics and status written, with clocks
around what any loop would compute: forward pass with loss, backward pass, norm and clipping,
update. `overhead` is the share of a step's wall time that is none of these. `stall` is the
time that the loop waits when a checkpoint is due that is written beside it (the copy, and the
end of the one before), as a share of a step.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "prep"))
sys.path.insert(0, str(HERE))
import measuring  # noqa: E402
import sides  # noqa: E402

from triptych.model import ModelConfig, Transformer  # noqa: E402
from triptych.train import (  # noqa: E402
    PretrainObjective,
    StageSchedule,
    TrainConfig,
    Trainer,
)

MARKERS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
WARM_STEPS, SAVE_EVERY = 2, 3


def main() -> None:
    """Trains and reports medians."""
    parser = measuring.parser(__doc__)
    parser.add_argument(
        "--size",
        choices=[n for n, c in sides.CASES.items() if c.device == "cpu"],
        default="13.8M",
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(sides.CASES[options.size], options.steps, Path(folder))
    measuring.report(
        {"size": options.size, "steps": options.steps, **found}, options.json
    )


def measured(bench: sides.Case, steps: int, folder: Path) -> dict[str, float]:
    """Shares of a step: what is not computing, and what a save stops."""
    heads = {"num_key_value_heads": bench.shape["num_attention_heads"]}
    config = ModelConfig.from_dict(bench.shape | MARKERS | heads)
    walls, computing = [time.perf_counter()], [0.0]
    spent = Spent()

    def on_step(_: Any) -> None:
        walls.append(time.perf_counter())
        computing.append(spent.seconds)

    trainer = Trainer(
        Transformer(config),
        PretrainObjective(),
        sides.RandomRows(sides.ids(bench, steps)),
        TrainConfig(
            output=folder,
            stages=(StageSchedule(name="bench", steps=steps, max_lr=1e-3),),
            precision="fp32",
            tensorboard=False,
            micro_batch_rows=bench.micro_batch_rows,
            checkpoint_every_steps=SAVE_EVERY,
            async_checkpoints=True,
            compile=False,
        ),
        on_step=on_step,
    )
    stalls = clocks(trainer, spent)
    trainer.run()
    pairs = range(1 + WARM_STEPS, steps + 1)
    # A save comes after its step has been told of: the step behind it has its stall.
    plain = [n for n in pairs if (n - 1) % SAVE_EVERY]
    seconds = {n: walls[n] - walls[n - 1] for n in pairs}
    shares = [1 - (computing[n] - computing[n - 1]) / seconds[n] for n in plain]
    step_seconds = statistics.median(seconds[n] for n in plain)
    return {
        "step_seconds": round(step_seconds, 4),
        "overhead": round(statistics.median(shares), 5),
        "stall_seconds": round(statistics.median(stalls[:-1]), 5),
        "stall": round(statistics.median(stalls[:-1]) / step_seconds, 5),
    }


class Spent:
    """Seconds in some functions, all together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def within(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def clocks(trainer: Trainer, spent: Spent) -> list[float]:
    """Puts clocks around what is computed; returns where the stalls of saves go."""
    objective, placement, saver = trainer.objective, trainer.placement, trainer.saver
    object.__setattr__(objective, "loss", spent.within(objective.loss))
    placement.clip = spent.within(placement.clip)  # type: ignore[method-assign]
    trainer.optimizer.step = spent.within(trainer.optimizer.step)  # type: ignore[method-assign]
    torch.Tensor.backward = spent.within(torch.Tensor.backward)  # type: ignore[assignment]
    stalls: list[float] = []
    save = saver.save

    def timed_save(*arguments: Any) -> None:
        started = time.perf_counter()
        save(*arguments)
        stalls.append(time.perf_counter() - started)

    saver.save = timed_save  # type: ignore[method-assign]
    return stalls


if __name__ == "__main__":
    main()
