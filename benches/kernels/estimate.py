"""Floors and predicted times of every kernel, from what the compilers made of it.

    python benches/kernels/estimate.py > docs/kernel-estimates.md

Reads `static_table.md` for registers and shared memory, and `../results/kernels_h200.json`
for what one GPU measured. No GPU is needed. The model is in `predicted` and in the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static_table.md"
# The implementation in `MEASURED` that a kind's kernels are.
OURS = {"attention": "triptych", "loss": "triptych, same bits in any batch"}
MEASURED = HERE.parent / "results" / "kernels_h200.json"


@dataclass(frozen=True)
class Device:
    """A GPU by its data sheet; `unit` is a multiprocessor or compute unit."""

    name: str
    target: str
    units: int
    clock_ghz: float  # at which the peak is quoted
    peak_tflops: float  # dense bf16
    bandwidth_tb_s: float
    threads_a_warp: int
    registers: int  # 32-bit, of a unit
    shared_bytes: int  # of a unit
    threads: int  # resident, of a unit
    exponentials: int = 16  # results a cycle and unit
    shared_bytes_a_cycle: int = 128
    lanes: int = 128  # fp32 results a cycle and unit

    @property
    def flops_a_cycle(self) -> float:
        """Of the matrix units of one unit."""
        return self.peak_tflops * 1e3 / self.units / self.clock_ghz


DEVICES = (
    Device("H100", "sm_90", 132, 1.83, 989.0, 3.35, 32, 65536, 227 * 1024, 2048),
    Device("H200", "sm_90", 132, 1.83, 989.0, 4.8, 32, 65536, 227 * 1024, 2048),
    Device("MI300X", "gfx942", 304, 2.1, 1307.0, 5.3, 64, 131072, 64 * 1024, 2048),
)
# What an H200 reached of its data sheet, in copies and in products of 8192 x 8192 matrices
# (`ceilings` in the results); taken for the other devices as well.
COPY_SHARE, PRODUCT_SHARE = 4.276 / 4.8, 780.9 / 989.0
LAUNCH_US = 3.0  # between launches in one stream


@dataclass(frozen=True)
class Row:
    """What the compiler made of a kernel for a target."""

    tile: tuple[int, ...]
    warps: int
    registers: int
    shared_bytes: int

    def blocks(self, device: Device) -> int:
        """Resident blocks of a unit."""
        threads = self.warps * device.threads_a_warp
        limits = [device.threads // threads]
        limits.append(device.registers // (max(self.registers, 1) * threads))
        if self.shared_bytes:
            limits.append(device.shared_bytes // self.shared_bytes)
        return max(1, min(limits))


@dataclass(frozen=True)
class Work:
    """What one launch has to do; per-step numbers are of one step of one program."""

    bytes: float  # least traffic with device memory, in all
    flops: float = 0.0  # of matrix products, in all
    programs: float = 0.0
    steps: float = 1.0  # of a program's loop, on average
    exponentials: float = 0.0  # a step
    arithmetic: float = 0.0  # fp32 instructions a step
    shared_bytes: float = 0.0  # that products read a step


def main() -> None:
    """Prints the page."""
    rows = dict(static_rows())
    found = json.loads(MEASURED.read_text(encoding="utf-8"))
    measured = {
        entry["shape"]: entry
        for kind, name in OURS.items()
        for entry in found[kind]
        if entry["implementation"] == name
    }
    text = (
        (HERE / "estimate_page.md")
        .read_text(encoding="utf-8")
        .format(
            table="\n".join(line(case, rows, measured) for case in CASES),
            forward=SOFTMAX_INSTRUCTIONS["forward"],
            backward=SOFTMAX_INSTRUCTIONS["dkdv"],
        )
    )
    print(text, end="")


def static_rows() -> Iterator[tuple[tuple[str, str], Row]]:
    """Rows of the static table by (kernel, target)."""
    for line in STATIC.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) < 8 or cells[1] not in {device.target for device in DEVICES}:
            continue
        tile = tuple(int(x) for x in cells[2].split("x"))
        yield (
            (cells[0], cells[1]),
            Row(tile, int(cells[3]), int(cells[5]), int(cells[7])),
        )


def floor_ms(work: Work, device: Device) -> float:
    """No kernel is faster: all bytes once, all products at the data sheet's peak."""
    of_bytes = work.bytes / device.bandwidth_tb_s / 1e9
    return max(of_bytes, work.flops / device.peak_tflops / 1e9)


def predicted_ms(work: Work, row: Row, device: Device) -> float:
    """Of one launch: memory or units, whichever takes longer, and the launch."""
    of_bytes = work.bytes / (device.bandwidth_tb_s * COPY_SHARE) / 1e9
    if not work.flops:
        return of_bytes + LAUNCH_US / 1e3
    return max(of_bytes, unit_ms(work, row, device)) + LAUNCH_US / 1e3


def unit_ms(work: Work, row: Row, device: Device) -> float:
    """The steps of all programs on the units, by their cycles.

    Products and the softmax between them overlap only where a unit holds two blocks, for
    one block waits for its own products.
    """
    a_step = work.flops / work.programs / work.steps
    products = a_step / device.flops_a_cycle / PRODUCT_SHARE
    products = max(products, work.shared_bytes / device.shared_bytes_a_cycle)
    other = work.exponentials / device.exponentials + work.arithmetic / device.lanes
    blocks = row.blocks(device)
    cycles = products + other if blocks == 1 else max(products, other)
    # A unit does the steps of its blocks in turn; the last wave is not full.
    waves = math.ceil(work.programs / (device.units * blocks)) * blocks
    return waves * work.steps * cycles / device.clock_ghz / 1e6


# fp32 instructions a score beside the exponential: scale, maximum, difference, sum, rounding;
# in the backward the difference with delta and two products.
SOFTMAX_INSTRUCTIONS = {"forward": 6, "dq": 6, "dkdv": 7}
PRODUCTS = {"forward": 2, "dq": 3, "dkdv": 4}

# From a row of the static table to what is to be done with such tiles.
Launch = tuple[str, Callable[[Row], Work]]


def attention(kind: str, tokens: int, length: int, dim: int) -> Launch:
    """One of the three loops, causal, 16 heads on 4, over documents of one length."""
    heads, keys = 16, 4
    name, products = f"attention {kind} d{dim} plain", PRODUCTS[kind]
    tensors = {"forward": 2 + 2 * keys / heads, "dq": 3 + 2 * keys / heads}

    def work(row: Row) -> Work:
        block, step = row.tile if kind != "dkdv" else row.tile[::-1]
        programs = tokens / block * (keys if kind == "dkdv" else heads)
        # Tiles on the diagonal are done whole: half a square and half a tile.
        scores = heads * tokens * (length + max(block, step)) / 2
        return Work(
            bytes=2.0 * tokens * heads * dim * tensors.get(kind, 2 + 4 * keys / heads),
            flops=2.0 * products * scores * dim,
            programs=programs,
            steps=scores / programs / (block * step),
            exponentials=block * step,
            arithmetic=SOFTMAX_INSTRUCTIONS[kind] * block * step,
            shared_bytes=2.0 * products * dim * (step + block / 2),
        )

    return name, work


def product(
    name: str, rows: int, columns: int, inner: int, exponentials: int
) -> Launch:
    """A tiled product (rows, columns) over `inner`, with so many exponentials an entry."""

    def work(row: Row) -> Work:
        block, step, depth = row.tile
        return Work(
            bytes=2.0
            * (
                rows * inner
                + columns * inner
                + (rows * columns if not exponentials else 0)
            ),
            flops=2.0 * rows * columns * inner,
            programs=max(1.0, rows / block * columns / step),
            steps=inner / depth,
            # spread over the steps of the inner loop
            exponentials=exponentials * block * step * depth / inner,
            arithmetic=4.0 * exponentials * block * step * depth / inner,
            shared_bytes=2.0 * depth * (step + block / 2),
        )

    return name, work


def copies(name: str, size: float) -> Launch:
    """A kernel whose bytes decide."""
    return name, lambda _: Work(bytes=size)


def loss_forward(tokens: int, width: int, vocab: int) -> tuple[Launch, ...]:
    """Statistics of every token, and the joining of at most 16 splits."""
    statistics = product("loss statistics plain", tokens, vocab, width, 1)
    return statistics, copies("loss combine", 12.0 * 16 * tokens)


def loss_backward(tokens: int, width: int, vocab: int) -> tuple[Launch, ...]:
    """Logits again, then the products with hidden states and weight."""
    return (
        product("loss dlogits plain", tokens, vocab, width, 1),
        product("loss product hidden", tokens, width, vocab, 0),
        product("loss product weight", vocab, width, tokens, 0),
    )


def attention_backward(tokens: int, length: int, dim: int) -> tuple[Launch, ...]:
    """Delta, then both loops."""
    delta = copies("attention delta", 4.0 * tokens * 16 * dim)
    return (
        delta,
        attention("dq", tokens, length, dim),
        attention("dkdv", tokens, length, dim),
    )


TOKENS, MILLION = 8192, 1e6
# (what, direction, launches, key of the measured time if there is one)
CASES: tuple[tuple[str, str, tuple[Launch, ...], tuple[str, str] | None], ...] = (
    *(
        case
        for dim, length, shape in (
            (128, 16384, "16k d128"),
            (64, 16384, "16k d64"),
            (64, 512, "32 x 512 d64"),
        )
        for case in (
            (
                f"attention, {16384 // length} of {length:,}, d {dim}",
                "forward",
                (attention("forward", 16384, length, dim),),
                (shape, "forward_ms"),
            ),
            (
                f"attention, {16384 // length} of {length:,}, d {dim}",
                "backward",
                attention_backward(16384, length, dim),
                (shape, "backward_ms"),
            ),
        )
    ),
    *(
        case
        for width, vocab, shape in (
            (2048, 32768, "D=2048 V=32k"),
            (2048, 131072, "D=2048 V=128k"),
            (4096, 131072, "D=4096 V=128k"),
        )
        for case in (
            (
                f"loss, 8,192 tokens, {shape}",
                "forward",
                loss_forward(TOKENS, width, vocab),
                (shape, "forward_ms"),
            ),
            (
                f"loss, 8,192 tokens, {shape}",
                "backward",
                loss_backward(TOKENS, width, vocab),
                (shape, "backward_ms"),
            ),
        )
    ),
    (
        "rms_norm, 8,192 x 4,096",
        "forward",
        (copies("norm forward 4096 plain", 4.0 * TOKENS * 4096),),
        None,
    ),
    (
        "rms_norm, 8,192 x 4,096",
        "backward",
        (copies("norm backward 4096 plain", 6.0 * TOKENS * 4096),),
        None,
    ),
    (
        "rms_norm with residual",
        "forward",
        (copies("norm forward 4096 residual", 8.0 * TOKENS * 4096),),
        None,
    ),
    (
        "rope, 8,192 tokens, 32 + 8 heads of 128",
        "each way",
        (copies("rope d128 halves", 4.0 * TOKENS * 40 * 128 + 4.0 * TOKENS * 128),),
        None,
    ),
    (
        "swiglu, 8,192 x 14,336",
        "forward",
        (copies("gated silu forward", 6.0 * TOKENS * 14336),),
        None,
    ),
    (
        "swiglu, 8,192 x 14,336",
        "backward",
        (copies("gated silu backward", 10.0 * TOKENS * 14336),),
        None,
    ),
    (
        "adamw, 100 million bf16, stochastic",
        "step",
        (copies("adamw stochastic", 22.0 * 100 * MILLION),),
        None,
    ),
    (
        "decode_attention, 64 of 4,096, 8 key heads of 128",
        "a token",
        (
            copies("decode d128 plain", 4.0 * 8 * 64 * 4096 * 128),
            copies("decode join", 4.0 * 32 * 130 * 64 * 16),
        ),
        None,
    ),
)


def line(case: Any, rows: dict[tuple[str, str], Row], measured: dict[str, Any]) -> str:
    """A row of the page: floor and prediction of each device, and what was measured."""
    title, direction, launches, key = case
    cells, last = [], 0.0
    for device in DEVICES:
        found = [
            (work(rows[name, device.target]), rows[name, device.target])
            for name, work in launches
        ]
        floor = sum(floor_ms(work, device) for work, _ in found)
        predicted = sum(predicted_ms(work, row, device) for work, row in found)
        cells += [f"{floor:.3g}", f"{predicted:.3g}"]
        last = predicted if device.name == "H200" else last
    value = None if key is None else measured[key[0]][key[1]]
    cells += ["-", "-"] if value is None else [f"{value:.3g}", f"{value / last:.2f}"]
    return f"| {title} | {direction} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
