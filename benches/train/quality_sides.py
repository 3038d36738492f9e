"""One side of `bench_quality.py`: trains for some steps, then measures bits per byte.

Argument: a JSON object with `side`, `steps` (to do), `planned` (of the schedule), `tokens` and
`heldout` (token shards), `tokenizer`, `text` (JSONL, for nanochat), `nanochat` (its checkout),
`precision`, `threads`, `seed` and the side's own settings. Prints the result as one JSON line.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

SEQ_LEN = 512
MARKERS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
Settings = dict[str, Any]
Tick = Callable[[int], None]
# Logits (S, V) of ids (S,).
Logits = Callable[[torch.Tensor], torch.Tensor]
# What a side gives back: its logits, its parameters, CPU seconds before its first step.
Trained = tuple[Logits, int, float]


def main() -> None:
    """Trains one side and reports."""
    settings: Settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    times: list[float] = []
    counts: list[int] = []

    def tick(tokens: int) -> None:
        times.append(time.process_time())
        counts.append(tokens)

    with contextlib.redirect_stdout(sys.stderr):
        logits, parameters, start_seconds = SIDES[settings["side"]](settings, tick)
    result = {
        "tokens": sum(counts),
        "tokens_per_step": sum(counts) / len(counts),
        "parameters": parameters,
        "start_cpu_seconds": start_seconds,
        "step_cpu_seconds": [b - a for a, b in pairwise(times)],
    }
    if settings.get("measure", True):
        result["bits_per_byte"] = bits_per_byte(logits, settings)
    print(json.dumps(result))


@torch.no_grad()
def bits_per_byte(logits: Logits, settings: Settings) -> float:
    """Of the held-out documents, in pieces of `SEQ_LEN`: every side reads the same ids."""
    from triptych._core import Tokenizer
    from triptych.data import TokenShards
    from triptych.evaluate import text_bytes

    shards = TokenShards(settings["heldout"])
    nats = 0.0
    for document in range(len(shards)):
        ids = torch.from_numpy(shards.tokens(document).astype("int64"))
        for start in range(0, len(ids) - 1, SEQ_LEN):
            labels = ids[start + 1 : start + 1 + SEQ_LEN]
            scores = logits(ids[start : start + len(labels)]).float()
            nats += float(
                torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
            )
    tokenizer = Tokenizer.from_file(settings["tokenizer"])
    return nats / math.log(2) / text_bytes(shards, tokenizer)


def ours(settings: Settings, tick: Tick) -> Trained:
    """`triptych.train.Trainer`, as `triptych pretrain` would run it with these settings."""
    from triptych._core import cpu_has_vectors
    from triptych.curriculum import StageConfig
    from triptych.data import OrderedRows
    from triptych.model import ModelConfig, Transformer
    from triptych.train import (
        OptimizerConfig,
        PretrainObjective,
        StageSchedule,
        TrainConfig,
        Trainer,
    )

    shape = {"vocab_size": 8192, "max_position_embeddings": SEQ_LEN} | MARKERS
    model = Transformer(ModelConfig.from_dict(shape | settings["model"]))
    rate = {key: settings["stage"][key] for key in settings["stage"] if key != "rows"}
    rows = settings["stage"]["rows"]
    stage = StageConfig(
        stage="bench",
        steps=settings["planned"],
        batch_size=rows,
        learning_rate=rate["max_lr"],
    )
    data = OrderedRows(
        {"text": settings["tokens"]}, [stage], seed=settings["seed"], seq_len=SEQ_LEN
    )
    start_seconds = _start(model, data, settings)
    seen = 0

    def on_step(metrics: dict[str, Any]) -> None:
        nonlocal seen
        tick(metrics["tokens"] - seen)
        seen = metrics["tokens"]

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        config = TrainConfig(
            output=Path(folder),
            stages=(StageSchedule(name="bench", steps=settings["planned"], **rate),),
            optimizer=OptimizerConfig(**settings["optimizer"]),
            micro_batch_rows=min(rows, 4),
            precision=settings["precision"],
            tensorboard=False,
            compile=not cpu_has_vectors(),
            checkpoint_every_steps=10**9,
        )
        steps = settings["steps"]
        trainer = Trainer(
            model,
            PretrainObjective(),
            data,
            config,
            on_step=lambda m: (on_step(m), stop_after(m["step"], steps))[0],
        )
        trainer.run()
    model.eval()
    count = sum(p.numel() for p in model.parameters())
    return lambda ids: model.logits(ids), count, start_seconds


def _start(model: Any, data: Any, settings: Settings) -> float:
    """Begins the model as `[model] start` says; CPU seconds of it."""
    from triptych.bigrams import count_bigrams
    from triptych.data import TokenShards
    from triptych.train.bigram_start import start_from_bigrams

    started = time.process_time()
    if settings["start"] == "bigram":
        sources = {name: TokenShards(folder) for name, folder in data.sources.items()}
        counts = count_bigrams(sources, data.planned_tokens(), 8192)
        start_from_bigrams(model, counts, seed=settings["seed"])
    return time.process_time() - started


class Enough(Exception):
    """The steps that were asked for are done, though more were planned."""


def stop_after(step: int, steps: int) -> None:
    """Leaves a loop that was planned for longer."""
    if step >= steps:
        raise Enough


def trainer(settings: Settings, tick: Tick) -> Trained:
    """Transformers' Trainer: a Llama of the same width and depth, AdamW, cosine."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    config = LlamaConfig(
        vocab_size=8192, max_position_embeddings=SEQ_LEN, **MARKERS, **settings["model"]
    )
    model = LlamaForCausalLM(config)
    rows, steps = settings["rows"], settings["steps"]

    class Ticks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **_: Any) -> None:
            tick(rows * SEQ_LEN)
            args[2].should_training_stop |= args[1].global_step >= steps

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=settings["planned"], per_device_train_batch_size=rows,
            use_cpu=True, learning_rate=settings["learning_rate"], report_to=[],
            lr_scheduler_type="cosine", warmup_steps=settings["planned"] // 20,
            adam_beta2=0.95, weight_decay=0.1, optim="adamw_torch_fused",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
            torch_compile=True, bf16=settings["precision"] == "bf16",
            seed=settings["seed"],
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in chunks(settings, rows)]
        Trainer(model, arguments, train_dataset=data, callbacks=[Ticks()]).train()
    model.eval()
    count = sum(p.numel() for p in model.parameters())
    return lambda ids: model(input_ids=ids[None]).logits[0], count, 0.0


def chunks(settings: Settings, rows: int) -> torch.Tensor:
    """(planned * rows, SEQ_LEN) ids: shuffled documents joined and cut, as is the custom."""
    from triptych.data import TokenShards

    shards = TokenShards(settings["tokens"])
    generator = torch.Generator().manual_seed(settings["seed"])
    wanted, parts, held = settings["planned"] * rows * SEQ_LEN, [], 0
    for document in torch.randperm(len(shards), generator=generator).tolist():
        parts.append(torch.from_numpy(shards.tokens(document).astype("int64")))
        held += len(parts[-1])
        if held >= wanted:
            break
    return torch.cat(parts)[:wanted].view(-1, SEQ_LEN)


def nanochat(settings: Settings, tick: Tick) -> Trained:
    """Nanochat's model, optimiser, loader and schedules, as its `base_train.py` sets them.

    Its ids are ours, so that all sides spend their bits on the same tokens.
    """
    with tempfile.TemporaryDirectory() as base:
        os.environ["NANOCHAT_BASE_DIR"] = base
        sys.path.insert(0, settings["nanochat"])
        write_parquet(settings["text"], Path(base) / "base_data_climbmix")
        from nanochat.dataloader import (
            tokenizing_distributed_data_loader_bos_bestfit as loader,
        )
        from nanochat.gpt import GPT, GPTConfig

        depth, rows = settings["depth"], settings["rows"]
        shape = GPTConfig(
            sequence_len=SEQ_LEN, vocab_size=8192, n_layer=depth, n_head=depth,
            n_kv_head=depth, n_embd=64 * depth, window_pattern="L",
        )  # fmt: skip
        with torch.device("meta"):
            model = GPT(shape)
        model.to_empty(device="cpu")
        model.init_weights()
        recipe = Recipe(model, settings)
        compiled = torch.compile(model, dynamic=False)
        batches = loader(
            Ids(settings["tokenizer"]), rows, SEQ_LEN, "train", device="cpu"
        )
        for step in range(settings["steps"]):
            for _ in range(settings["accumulation"]):
                (compiled(*next(batches)) / settings["accumulation"]).backward()
            recipe.update(step)
            tick(rows * SEQ_LEN * settings["accumulation"])
    model.eval()
    count = sum(p.numel() for p in model.parameters())

    def logits(ids: torch.Tensor) -> torch.Tensor:
        # Its forward pass refuses a single token; causality lets another follow.
        ids_or_two = ids if len(ids) > 1 else torch.cat((ids, ids))
        return model(ids_or_two[None])[0][: len(ids)]

    return logits, count, 0.0


class Recipe:
    """The rates, momentum and decay of nanochat's `base_train.py`, with its defaults."""

    def __init__(self, model: Any, settings: Settings) -> None:
        tokens = settings["rows"] * SEQ_LEN * settings["accumulation"]
        ratio = tokens / 2**19
        # Its own rule for small batches, unless another share of its rates is asked for.
        rate = settings.get("rate_scale", math.sqrt(ratio))
        counts = model.num_scaling_params()
        ours = counts["transformer_matrices"] + counts["lm_head"]
        theirs = 12 * 12 * 768**2 + 8192 * 768  # their reference, depth 12
        self.decay = 0.28 * math.sqrt(ratio) * theirs / ours
        self.steps, self.model = settings["planned"], model
        self.optimizer = model.setup_optimizer(
            unembedding_lr=0.008 * rate, embedding_lr=0.3 * rate, scalar_lr=0.5 * rate,
            matrix_lr=0.02 * rate, weight_decay=self.decay,
        )  # fmt: skip

    def update(self, step: int) -> None:
        """One update, with what the schedules say at `step`."""
        down = round(0.65 * self.steps)
        left = (self.steps - step) / down
        height = (step + 1) / 40 if step < 40 else min(1.0, left + (1 - left) * 0.05)
        if step < 400:
            momentum = 0.85 + (0.97 - 0.85) * step / 400
        else:
            momentum = 0.97 - (0.97 - 0.90) * max(0.0, 1 - left)
        decay = self.decay * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * height
            if group["kind"] == "muon":
                group["momentum"], group["weight_decay"] = momentum, decay
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)


class Ids:
    """Our tokenizer with the two methods that nanochat's loader calls."""

    def __init__(self, path: str) -> None:
        from triptych._core import Tokenizer

        self.tokenizer = Tokenizer.from_file(path)

    def get_bos_token_id(self) -> int:
        """Of our vocabulary."""
        return MARKERS["bos_token_id"]

    def encode(
        self, texts: list[str], prepend: int, num_threads: int
    ) -> list[list[int]]:
        """Ids of each text behind `prepend`."""
        return [[prepend, *self.tokenizer.encode(text)] for text in texts]


def write_parquet(text: str, folder: Path) -> None:
    """The documents in the order of nanochat's shards: shuffled; its last file is not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(text, encoding="utf-8", newline="\n") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    folder.mkdir()
    for name, part in (("shard_00000", order.tolist()), ("shard_00001", [0])):
        table = pa.table({"text": [texts[index] for index in part]})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=1024)


SIDES = {"ours": ours, "trainer": trainer, "nanochat": nanochat}

if __name__ == "__main__":
    main()
