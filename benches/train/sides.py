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
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

WARM_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and the rows of a step.

    Attributes:
        shape: as in `config.json`.
        micro_batch_rows: of ours, computed at once, with the same gradient. On two cores 1 is
            within a tenth of 8 in fp32 and a quarter slower in bf16, where 2 are not.
    """

    shape: dict[str, Any]
    rows: int = 8
    length: int = 512
    micro_batch_rows: int = 2
    device: str = "cpu"

    @property
    def vocab_size(self) -> int:
        """Entries of the vocabulary."""
        return int(self.shape["vocab_size"])

    def __post_init__(self) -> None:
        common = {"tie_word_embeddings": True, "max_position_embeddings": self.length}
        self.shape.update(common)


def case(
    width: int, layers: int, heads: int, inner: int, vocab_size: int, **rest: Any
) -> Case:
    """A Llama without grouped heads."""
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocab_size,
    }
    return Case(shape=shape, **rest)


ON_GPU = {"device": "cuda", "rows": 32, "length": 1024, "micro_batch_rows": 32}
LONG = ON_GPU | {"rows": 16, "length": 2048, "micro_batch_rows": 16}
CASES = {
    "13.8M": case(384, 6, 6, 1024, 8192),
    "50.7M": case(576, 8, 9, 1536, 32768),
    "110M on a GPU": case(768, 12, 12, 2048, 32768, **ON_GPU),
    "342M on a GPU": case(1024, 24, 16, 2816, 32768, **LONG),
}


def main() -> None:
    """Trains and reports."""
    side, size, precision, steps, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    bench = CASES[size]
    clock = Clock(bench.device, int(steps) + WARM_STEPS)
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        LOOPS[side](bench, precision, clock.num_steps, clock)
    wall, cpu = clock.per_step()
    tokens = bench.rows * bench.length
    rate = flops_per_token(bench) * tokens / wall
    result = {
        "tokens_per_second": tokens / wall,
        "tokens_per_cpu_second": tokens / cpu,
        "peak_mib": peak_mib(bench.device),
        "first_step_s": clock.first - started,
        "share_of_peak": rate / matmul_peak(precision, bench.device),
    }
    print(json.dumps(result))


def peak_mib(device: str) -> float:
    """Most memory held: of the process, or of tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """Seconds of wall and processor between ticks, which come after each step.

    On a GPU the host runs ahead, so it waits for the device after the warm steps and
    after the last one, and a step takes the mean in between; on a CPU the median.
    """

    def __init__(self, device: str, num_steps: int) -> None:
        self.device, self.num_steps = device, num_steps
        self.walls: list[float] = []
        self.cpus: list[float] = []
        self.first = 0.0

    def tick(self) -> None:
        """Marks the end of a step."""
        ends = len(self.walls) + 1 in (1, WARM_STEPS, self.num_steps)
        if self.device == "cuda" and ends:
            torch.cuda.synchronize()
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())
        self.first = self.first or self.walls[0]

    def per_step(self) -> tuple[float, float]:
        """Of the steps after the warm ones."""
        middle = statistics.mean if self.device == "cuda" else statistics.median
        found = []
        for times in (self.walls, self.cpus):
            warm = times[WARM_STEPS - 1 :]
            found.append(middle(b - a for a, b in pairwise(warm)))
        return found[0], found[1]


def flops_per_token(bench: Case) -> float:
    """Of a forward and a backward pass; embeddings are looked up, not multiplied."""
    shape = bench.shape
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    a_layer = 4 * width * width + 3 * width * shape["intermediate_size"]
    parameters = layers * a_layer + shape["vocab_size"] * width
    return 6.0 * parameters + 6.0 * layers * width * bench.length


def matmul_peak(precision: str, device: str) -> float:
    """Floating point operations a second of the best of some products."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def ids(bench: Case, steps: int) -> torch.Tensor:
    """(steps, rows, length) random ids."""
    generator = torch.Generator().manual_seed(1)
    shape = steps, bench.rows, bench.length
    return torch.randint(8, bench.vocab_size, shape, generator=generator)


def ours(
    bench: Case,
    precision: str,
    steps: int,
    clock: Clock,
    compiled: bool = False,
) -> None:
    """`triptych.train.Trainer`."""
    from triptych.model import ModelConfig, Transformer
    from triptych.train import PretrainObjective, StageSchedule, TrainConfig, Trainer

    markers = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    heads = {"num_key_value_heads": bench.shape["num_attention_heads"]}
    config = ModelConfig.from_dict(bench.shape | markers | heads)
    stage = StageSchedule(name="bench", steps=steps, max_lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainConfig(
            output=Path(folder),
            stages=(stage,),
            precision=precision,
            tensorboard=False,
            micro_batch_rows=bench.micro_batch_rows,
            compile=compiled,
        )
        trainer = Trainer(
            Transformer(config).to(bench.device),
            PretrainObjective(),
            RandomRows(ids(bench, steps)),
            settings,
            on_step=lambda _: clock.tick(),
        )
        trainer.run()


def ours_compiled(bench: Case, precision: str, steps: int, clock: Clock) -> None:
    """The same, its layers compiled before the first step."""
    ours(bench, precision, steps, clock, compiled=True)


class RandomRows:
    """Rows of one document each, as the Trainer takes them."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.num_steps = rows, len(rows)

    def rows_per_step(self, step: int) -> int:
        """All steps are alike."""
        return self.rows.shape[1]

    def step_hash(self, step: int) -> str:
        """Names a step."""
        return str(step)

    def batch(self, step: int, first_row: int = 0, num_rows: int | None = None) -> Any:
        """Some rows of a step."""
        from triptych.train.batch import Batch

        rows = self.rows[step, first_row:][:num_rows]
        labels = rows.roll(-1, dims=1)
        labels[:, -1] = -100
        num, length = rows.shape
        return Batch(
            input_ids=rows.flatten(),
            labels=labels.flatten(),
            position_ids=torch.arange(length).repeat(num),
            weights=(labels != -100).float().flatten(),
            cu_seqlens=torch.arange(num + 1, dtype=torch.int32) * length,
            documents=torch.arange(num),
            sources=torch.zeros(num, dtype=torch.int32),
        )


def llama(bench: Case) -> Any:
    """The same model of transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**bench.shape, attn_implementation="sdpa")
    return LlamaForCausalLM(config).to(bench.device)


def plain(
    bench: Case, precision: str, steps: int, clock: Clock, compiled: bool
) -> None:
    """A loop of ten lines over transformers' model."""
    model, device = llama(bench), bench.device
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for rows in ids(bench, steps):
        rows = rows.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = run(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cpu":
            loss.item()
        clock.tick()


def eager(bench: Case, precision: str, steps: int, clock: Clock) -> None:
    """The plain loop as it is."""
    plain(bench, precision, steps, clock, compiled=False)


def compiled(bench: Case, precision: str, steps: int, clock: Clock) -> None:
    """The plain loop under torch.compile."""
    plain(bench, precision, steps, clock, compiled=True)


def trainer(
    bench: Case, precision: str, steps: int, clock: Clock, compiled: bool = False
) -> None:
    """The Trainer of transformers."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Tick(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    rows = ids(bench, steps).flatten(0, 1)
    on_cpu = bench.device == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        # On a GPU a line every ten steps: each waits for the device.
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=bench.rows,
            use_cpu=on_cpu, bf16=precision == "bf16", learning_rate=1e-3, report_to=[],
            save_strategy="no", logging_steps=1 if on_cpu else 10, disable_tqdm=True,
            torch_compile=compiled,
        )  # fmt: skip
        dataset = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(
            llama(bench), arguments, train_dataset=dataset, callbacks=[Tick()]
        ).train()


def trainer_compiled(bench: Case, precision: str, steps: int, clock: Clock) -> None:
    """The same with `torch_compile`."""
    trainer(bench, precision, steps, clock, compiled=True)


LOOPS: dict[str, Callable[[Case, str, int, Clock], None]] = {
    "ours": ours,
    "ours_compiled": ours_compiled,
    "trainer": trainer,
    "trainer_compiled": trainer_compiled,
    "eager": eager,
    "compiled": compiled,
}

if __name__ == "__main__":
    main()
