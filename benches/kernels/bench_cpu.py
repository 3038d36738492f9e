"""The engine's kernels for CPUs beside plain PyTorch, interleaved.

    python benches/kernels/bench_cpu.py

Two rows of 512 tokens of a 13.8M Llama (d 384, 6 heads of 64, inner 1,024, vocabulary 8,192),
which is what `bench_speed.py` trains. `cpu` is the path of `triptych.ops` without the engine:
for attention torch's SDPA with `is_causal`, with a mask, or written out where it has no such rule;
for the loss chunks, else a few operators.
Milliseconds, forward + backward, and peak MiB beside inputs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych import ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prep"))
import measuring
from timing import Clock, compare

TOKENS, WIDTH, HEADS, INNER, VOCAB_SIZE = 1024, 384, 6, 1024, 8192
Case = tuple[Callable[..., Tensor], list[Tensor], dict[str, Callable[..., Tensor]]]


def main() -> None:
    """Times every operator in both types."""
    options = measuring.parser(__doc__).parse_args()
    clock = Clock("cpu")
    report = {}
    for dtype in (torch.float32, torch.bfloat16):
        for name, (function, leaves, peers) in cases(dtype).items():
            sides = {"engine": by("", function), "cpu": by("cpu", function)}
            upstream = torch.randn_like(function(*leaves))
            rows = compare(
                sides | peers, leaves, upstream, clock, 5 * options.rounds, 20.0
            )
            report[f"{name} {str(dtype).removeprefix('torch.')}"] = rows
            print(name, dtype, json.dumps(rows), file=sys.stderr, flush=True)
    measuring.report({"cpu_kernels": report}, options.json)


def by(setting: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function under a `TRIPTYCH_OPS` that says `cpu`, or nothing."""

    def call(*leaves: Tensor) -> Tensor:
        os.environ["TRIPTYCH_OPS"] = "cpu" if setting == "cpu" else ""
        return function(*leaves)

    return call


def cases(dtype: torch.dtype) -> dict[str, Case]:
    """By name: what `triptych.ops` computes, of what, and peers."""

    def random(*shape: int, **more: Any) -> Tensor:
        return torch.randn(shape, **{"dtype": dtype, **more}).requires_grad_()

    heads = [random(TOKENS, HEADS, WIDTH // HEADS) for _ in range(3)]
    halves = torch.tensor([0, TOKENS // 2, TOKENS], dtype=torch.int32)
    # Half a document is the prompt, a quarter each response.
    responses = torch.tensor([[256, 384], [768, 896]], dtype=torch.int32)
    tables = ops.rotary_tables(torch.arange(TOKENS), WIDTH // HEADS, 10_000.0)
    targets = torch.randint(VOCAB_SIZE, (TOKENS,))
    hidden = [random(TOKENS, WIDTH), random(VOCAB_SIZE, WIDTH)]

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, dtype is torch.bfloat16):
            return ops.rms_norm(x, weight, 1e-5, narrow=True)

    def attention(**rules: Any) -> Case:
        def attend(q: Tensor, k: Tensor, v: Tensor, *sinks: Tensor) -> Tensor:
            given = dict(zip(("sinks",), sinks, strict=False)) | rules
            return ops.attention(q, k, v, cu_seqlens=halves, **given)

        return attend, heads, {}

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return ops.linear_cross_entropy(hidden, weight, targets)

    def logits(hidden: Tensor, weight: Tensor) -> Tensor:
        return F.cross_entropy((hidden @ weight.T).float(), targets)

    rows = [random(TOKENS, WIDTH, dtype=torch.float32)]
    rows += [random(WIDTH, dtype=torch.float32)]
    gates = [random(TOKENS, INNER), random(TOKENS, INNER)]
    return {
        "attention": attention(),
        "attention, soft-cap": attention(softcap=50.0),
        "attention, sinks": (*attention()[:1], [*heads, random(HEADS)], {}),
        "attention, pairs": attention(pairs=responses),
        "loss": (loss, hidden, {"cross_entropy": logits}),
        "rms_norm": (norm, rows, {}),
        "rope": (lambda x: ops.rotate(x, *tables), heads[:1], {}),
        "swiglu": (ops.swiglu, gates, {}),
    }


if __name__ == "__main__":
    main()
