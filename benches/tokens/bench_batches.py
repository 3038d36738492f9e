"""Batches of shuffled packed rows beside a numpy gather and torch's loader.

    python benches/tokens/bench_batches.py

All sides read the same ids, 16 rows of 2,048 a step in a shuffled order, after one pass that
warms the pages. `gather` copies ids out of a memory map and does nothing else; `gather_labels`
makes of them what ours makes: int64 ids, labels, positions and weights, with documents told
apart at EOS. Tokens a second of the processor and of the clock, medians of interleaved rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prep"))
import measuring

from triptych import Order, import_tokens, train_tokenizer
from triptych.batch_memory import BatchMemory

ROWS, SEQ_LEN, STEPS = 16, 2048, 200
EOS, MIN_ID, VOCAB_SIZE = 2, 8, 300
TOKENS = 64 << 20  # 128 MB of u16: more than any cache of the processor

Ids = npt.NDArray[np.uint16]
Step = Callable[[int], int]


def main() -> None:
    """Runs every side in turn and writes medians and ratios."""
    options = measuring.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.bin"
        made_ids().tofile(path)
        order = our_order(path, Path(folder))
        ids = np.memmap(path, dtype="<u2", mode="r")
        check(order, set(np.unique(ids[: 1 << 20]).tolist()))
        sides = all_sides(order, ids)
        for step in sides.values():
            run(step)
        walls: dict[str, list[float]] = {name: [] for name in sides}
        figures = measuring.interleaved(
            {name: timed(step, walls[name]) for name, step in sides.items()},
            options.rounds,
        )
    report = {
        name: {
            "tokens_per_cpu_second": round(figure),
            "tokens_per_second": round(sorted(walls[name])[len(walls[name]) // 2]),
            "ratio_to_gather": round(figure / figures["gather"], 3),
        }
        for name, figure in figures.items()
    }
    measuring.report({"sides": report, "seq_len": SEQ_LEN, "rows": ROWS}, options.json)


def made_ids() -> Ids:
    """Random ids, with documents of 10 to 8,000 tokens as in web text (log-normal)."""
    generator = np.random.default_rng(0)
    ids = generator.integers(MIN_ID, 250, TOKENS, dtype=np.uint16)
    lengths = generator.lognormal(5.8, 1.0, TOKENS // 300).clip(10, 8000).astype(int)
    ends = np.cumsum(lengths) - 1
    ids[ends[ends < TOKENS]] = EOS
    ids[-1] = EOS
    return ids


def our_order(path: Path, folder: Path) -> Order:
    """The ids as token shards, packed, in the order of a seed."""
    words = ["words to learn"] * 3
    tokenizer = train_tokenizer(words, vocab_size=VOCAB_SIZE)
    shards = folder / "shards"
    import_tokens(
        path, format="raw", dtype="u16", eos_id=EOS, tokenizer=tokenizer, output=shards
    )
    table = {
        "name": "bench",
        "steps": STEPS * 10,
        "rows_per_step": ROWS,
        "seq_len": SEQ_LEN,
        "weights": {"ids": 1.0},
    }
    return Order([("ids", shards)], [table], 0)


def check(order: Order, known: set[int]) -> None:
    """What is timed is what is wanted: labels are the next ids, inside documents."""
    batch = order.batch(0)
    ids, labels, ends = batch["input_ids"], batch["labels"], batch["cu_seqlens"][1:] - 1
    inner = np.setdiff1d(np.arange(len(ids)), ends)
    assert set(ids.tolist()) <= known
    assert (labels[inner] == ids[inner + 1]).all()
    assert len(ids) > 0.99 * ROWS * SEQ_LEN


def all_sides(order: Order, ids: Ids) -> dict[str, Step]:
    """By name, what makes a step and returns its tokens."""
    rows = ids[: len(ids) // (SEQ_LEN + 1) * (SEQ_LEN + 1)].reshape(-1, SEQ_LEN + 1)
    generator = np.random.default_rng(1)

    def chosen() -> npt.NDArray[np.int64]:
        return generator.integers(0, len(rows), ROWS)

    memory = BatchMemory()

    def ours(step: int) -> int:
        batch = order.batch(step % order.num_steps, memory=memory)
        return len(batch["input_ids"])

    def gather(_: int) -> int:
        return rows[chosen()][:, :-1].size

    def gather_labels(_: int) -> int:
        return labelled(rows[chosen()])

    sides: dict[str, Step] = {
        "triptych": ours,
        "gather": gather,
        "gather_labels": gather_labels,
    }
    loader = torch_loader(rows)
    return sides if loader is None else sides | {"torch_dataloader": loader}


def labelled(block: Ids) -> int:
    """What ours makes of a block of rows, in numpy; returns its tokens."""
    wide = block.astype(np.int64)
    ids, labels = wide[:, :-1].copy(), wide[:, 1:].copy()
    ends = ids == EOS
    labels[ends] = -100
    weights = np.where(ends, np.float32(0), np.float32(1))
    starts = np.zeros(ids.shape, np.int64)
    columns = np.arange(SEQ_LEN)
    starts[:, 1:] = np.where(ends[:, :-1], columns[1:], 0)
    positions = columns - np.maximum.accumulate(starts, axis=1)
    assert positions.shape == weights.shape
    return ids.size


def torch_loader(rows: Ids) -> Step | None:
    """Torch's `DataLoader` over the memory map, without workers; ids and labels."""
    try:
        import torch
        from torch.utils.data import DataLoader, Dataset
    except ModuleNotFoundError:
        return None

    class Rows(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.from_numpy(rows[index].astype(np.int64))

    def forever():
        while True:
            yield from DataLoader(Rows(), batch_size=ROWS, shuffle=True)

    batches = forever()
    return lambda _: next(batches)[:, :-1].numel()


def run(step: Step) -> int:
    """All steps once; returns their tokens."""
    return sum(step(number) for number in range(STEPS))


def timed(step: Step, walls: list[float]) -> Callable[[], float]:
    """Tokens a second of the processor; those of the clock are added to `walls`."""

    def measure() -> float:
        cpu, wall = time.process_time(), time.perf_counter()
        tokens = run(step)
        walls.append(tokens / (time.perf_counter() - wall))
        return tokens / (time.process_time() - cpu)

    return measure


if __name__ == "__main__":
    main()
