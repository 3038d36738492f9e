"""What large vocabularies and packed rows cost on a CPU, beside plain PyTorch.

    python benches/kernels/bench_cpu_large.py --rounds 5 --json benches/results/cpu_large.json

`loss`: 4,096 tokens, width 512, vocabulary 131,072, beside `F.cross_entropy` of the logits.
`attention`: nine documents in a row of 2,048, 6 heads of 64, beside SDPA with a dense mask.
Seconds of forward and backward, interleaved in one process; MiB beside what was there before, each
side in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from processes import in_processes
from torch import Tensor

from triptych import ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prep"))
import measuring

TOKENS, WIDTH, VOCAB_SIZE = 4096, 512, 131_072
BOUNDARIES = [0, 37, 200, 330, 612, 800, 1111, 1400, 1777, 2048]
HEADS, HEAD_DIM = 6, 64
SIDES = ("triptych", "pytorch")


def main() -> None:
    """Measures both operators in both types."""
    options = measuring.parser(__doc__).parse_args()
    report = {}
    for name in CASES:
        for dtype in ("float32", "bfloat16"):
            row = seconds(name, dtype, options.rounds)
            arguments = [(name, dtype, side) for side in SIDES]
            peaks = [in_processes(peak_mib, [one], 1, died)[0] for one in arguments]
            row |= {"mib": dict(zip(SIDES, peaks, strict=True))}
            row["of_time"] = row["seconds"]["triptych"] / row["seconds"]["pytorch"]
            row["of_memory"] = peaks[0] / peaks[1]
            report[f"{name} {dtype}"] = row
            print(name, dtype, json.dumps(row), file=sys.stderr, flush=True)
    measuring.report({"cpu_large": report}, options.json)


def loss(dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """A mean loss by each side, of the same leaves."""
    hidden = torch.randn(TOKENS, WIDTH).to(dtype).requires_grad_()
    weight = (torch.randn(VOCAB_SIZE, WIDTH) * 0.02).to(dtype).requires_grad_()
    targets = torch.randint(VOCAB_SIZE, (TOKENS,))
    return {
        "triptych": lambda: ops.linear_cross_entropy(hidden, weight, targets),
        "pytorch": lambda: F.cross_entropy((hidden @ weight.T).float(), targets),
    }


def attention(dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """The sum of what a packed row attends to by each side, of the same leaves."""
    shape = BOUNDARIES[-1], HEADS, HEAD_DIM
    q, k, v = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
    boundaries = torch.tensor(BOUNDARIES, dtype=torch.int32)
    documents = torch.repeat_interleave(torch.arange(9), boundaries.diff())
    mask = (documents[:, None] == documents[None]).tril()

    def dense() -> Tensor:
        heads = (x.transpose(0, 1)[None] for x in (q, k, v))
        return F.scaled_dot_product_attention(*heads, attn_mask=mask).sum()

    return {
        "triptych": lambda: ops.attention(q, k, v, cu_seqlens=boundaries).sum(),
        "pytorch": dense,
    }


CASES = {"loss": loss, "attention": attention}


def seconds(name: str, dtype: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of a pass forward and backward, of the wall and of all cores."""
    torch.manual_seed(0)
    sides = CASES[name](getattr(torch, dtype))
    for side in SIDES:
        sides[side]().backward()
    walls, cores = ({side: [] for side in SIDES} for _ in range(2))
    for _ in range(rounds):
        for side in SIDES:
            start = time.perf_counter(), time.process_time()
            sides[side]().backward()
            walls[side].append(time.perf_counter() - start[0])
            cores[side].append(time.process_time() - start[1])
    medians = (
        {side: statistics.median(x[side]) for side in SIDES} for x in (walls, cores)
    )
    return dict(zip(("seconds", "core_seconds"), medians, strict=True))


def peak_mib(name: str, dtype: str, side: str) -> float:
    """Most memory a pass holds beside its leaves, gradients included."""
    once = CASES[name](getattr(torch, dtype))[side]
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_kib()
    once().backward()
    return (high_water_kib() - before) / 1024


def high_water_kib() -> int:
    """What Linux says this process held at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def died(name: str, dtype: str, side: str) -> float:
    """No figure."""
    sys.exit(f"{side}'s {name} in {dtype} ended its process: is there memory for it?")


if __name__ == "__main__":
    main()
