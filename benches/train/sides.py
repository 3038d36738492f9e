"""One side of `bench_speed.py`: trains some steps and prints what they took as JSON.

Arguments: SIDE SIZE PRECISION STEPS THREADS.
"""

from __future__ import annotations

import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

ROWS, LENGTH, WARM_STEPS = 8, 512, 2
# Of ours: as fast as 8 here, in a quarter of the activations, with the same gradient.
MICRO_BATCH_ROWS = 2
SIZES: dict[str, dict[str, Any]] = {
    "13.8M": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 1024,
        "vocab_size": 8192,
    },
    "50.7M": {
        "hidden_size": 576,
        "num_hidden_layers": 8,
        "num_attention_heads": 9,
        "intermediate_size": 1536,
        "vocab_size": 32768,
    },
}
COMMON = {"tie_word_embeddings": True, "max_position_embeddings": LENGTH}


def main() -> None:
    """Trains and reports."""
    side, size, precision, steps, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    shape = SIZES[size] | COMMON
    clock = Clock()
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        LOOPS[side](shape, precision, int(steps) + WARM_STEPS, clock)
    wall, cpu = clock.medians()
    tokens = ROWS * LENGTH
    rate = flops_per_token(shape) * tokens / wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        "tokens_per_second": tokens / wall,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_mib": peak,
        "first_step_s": clock.first - started,
        "share_of_peak": rate / matmul_peak(precision),
    }
    print(json.dumps(result))


class Clock:
    """Seconds of wall and processor between ticks, which come after each step."""

    def __init__(self) -> None:
        self.walls: list[float] = []
        self.cpus: list[float] = []
        self.first = 0.0

    def tick(self) -> None:
        """Marks the end of a step."""
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())
        self.first = self.first or self.walls[0]

    def medians(self) -> tuple[float, float]:
        """Of the steps after the warm ones."""
        found = []
        for times in (self.walls, self.cpus):
            warm = times[WARM_STEPS - 1 :]
            found.append(statistics.median(b - a for a, b in pairwise(warm)))
        return found[0], found[1]


def flops_per_token(shape: dict[str, Any]) -> float:
    """Of a forward and a backward pass; embeddings are looked up, not multiplied."""
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    a_layer = 4 * width * width + 3 * width * shape["intermediate_size"]
    parameters = layers * a_layer + shape["vocab_size"] * width
    return 6.0 * parameters + 6.0 * layers * width * LENGTH


def matmul_peak(precision: str, size: int = 2048) -> float:
    """Floating point operations a second of the best of some products."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def ids(vocab_size: int, steps: int) -> torch.Tensor:
    """(steps, rows, length) random ids."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(8, vocab_size, (steps, ROWS, LENGTH), generator=generator)


def ours(
    shape: dict[str, Any],
    precision: str,
    steps: int,
    clock: Clock,
    compiled: bool = False,
) -> None:
    """`triptych.train.Trainer`, in micro-batches of `MICRO_BATCH_ROWS`."""
    from triptych.model import ModelConfig, Transformer
    from triptych.train import PretrainObjective, StageSchedule, TrainConfig, Trainer

    markers = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    heads = {"num_key_value_heads": shape["num_attention_heads"]}
    config = ModelConfig.from_dict(shape | markers | heads)
    stage = StageSchedule(name="bench", steps=steps, max_lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainConfig(
            output=Path(folder),
            stages=(stage,),
            precision=precision,
            tensorboard=False,
            micro_batch_rows=MICRO_BATCH_ROWS,
            compile=compiled,
        )
        trainer = Trainer(
            Transformer(config),
            PretrainObjective(),
            RandomRows(ids(shape["vocab_size"], steps)),
            settings,
            on_step=lambda _: clock.tick(),
        )
        trainer.run()


def ours_compiled(
    shape: dict[str, Any], precision: str, steps: int, clock: Clock
) -> None:
    """The same, its layers compiled before the first step."""
    ours(shape, precision, steps, clock, compiled=True)


class RandomRows:
    """Rows of one document each, as the Trainer takes them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.num_steps = rows, len(rows)

    def rows_per_step(self, step: int) -> int:
        """All steps are alike."""
        return ROWS

    def step_hash(self, step: int) -> str:
        """Names a step."""
        return str(step)

    def batch(self, step: int, first_row: int = 0, num_rows: int | None = None) -> Any:
        """Some rows of a step."""
        from triptych.train.batch import Batch

        rows = self.rows[step, first_row:][:num_rows]
        labels = rows.roll(-1, dims=1)
        labels[:, -1] = -100
        num = len(rows)
        return Batch(
            input_ids=rows.flatten(),
            labels=labels.flatten(),
            position_ids=torch.arange(LENGTH).repeat(num),
            weights=(labels != -100).float().flatten(),
            cu_seqlens=torch.arange(num + 1, dtype=torch.int32) * LENGTH,
            documents=torch.arange(num),
            sources=torch.zeros(num, dtype=torch.int32),
        )


def llama(shape: dict[str, Any]) -> Any:
    """The same model of transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="sdpa"))


def plain(
    shape: dict[str, Any], precision: str, steps: int, clock: Clock, compiled: bool
) -> None:
    """A loop of ten lines over transformers' model."""
    model = llama(shape)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for rows in ids(shape["vocab_size"], steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = run(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        clock.tick()


def eager(shape: dict[str, Any], precision: str, steps: int, clock: Clock) -> None:
    """The plain loop as it is."""
    plain(shape, precision, steps, clock, compiled=False)


def compiled(shape: dict[str, Any], precision: str, steps: int, clock: Clock) -> None:
    """The plain loop under torch.compile."""
    plain(shape, precision, steps, clock, compiled=True)


def trainer(shape: dict[str, Any], precision: str, steps: int, clock: Clock) -> None:
    """The Trainer of transformers."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Tick(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    rows = ids(shape["vocab_size"], steps).flatten(0, 1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=ROWS, use_cpu=True,
            bf16=precision == "bf16", learning_rate=1e-3, report_to=[],
            save_strategy="no", logging_steps=1, disable_tqdm=True,
        )  # fmt: skip
        dataset = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(
            llama(shape), arguments, train_dataset=dataset, callbacks=[Tick()]
        ).train()


LOOPS: dict[str, Callable[[dict[str, Any], str, int, Clock], None]] = {
    "ours": ours,
    "ours_compiled": ours_compiled,
    "trainer": trainer,
    "eager": eager,
    "compiled": compiled,
}

if __name__ == "__main__":
    main()
