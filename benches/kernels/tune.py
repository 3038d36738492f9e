"""Times other rows of the tile tables on the GPU that is here, and writes those that win.

    python benches/kernels/tune.py [--write tiles.json] [--json FILE] [--jobs 12] [--only WORD]
    TRIPTYCH_TILES=tiles.json triptych pretrain ...

Rows of a file are of plain calls, as they are timed here. A winner goes into
kernels/triptych_kernels/configs.py by hand, after `static_table.py` has shown that it
does not spill with any feature.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "0"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))

import timing
import torch
import triton
from processes import in_processes

from triptych_kernels import (
    chunked_loss,
    configs,
    flash_attention,
    linear_loss,
    paged_attention,
    tuned_rows,
)
from triptych_kernels.configs import Tile

# (kernel, head dim): rows to try beside the table's own
ATTENTION = {
    ("forward", 64): [
        (128, 128, 8, 2), (128, 128, 8, 3), (64, 64, 4, 3), (128, 64, 4, 3),
        (128, 64, 8, 4), (64, 128, 4, 3),
    ],
    ("forward", 128): [
        (128, 128, 8, 2), (128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 4, 3),
        (64, 128, 4, 2), (128, 64, 8, 4), (128, 32, 8, 4),
    ],
    ("forward", 256): [(128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 8, 3), (64, 32, 4, 2)],
    ("dq", 64): [
        (64, 64, 4, 2), (64, 64, 4, 3), (128, 64, 8, 2), (128, 64, 8, 3),
        (128, 32, 8, 3), (64, 128, 4, 2), (128, 128, 8, 2),
    ],
    ("dq", 128): [
        (64, 64, 4, 2), (64, 64, 4, 1), (128, 64, 8, 1), (128, 64, 8, 2),
        (128, 32, 8, 2), (128, 32, 8, 3), (64, 32, 4, 3), (64, 64, 8, 2),
    ],
    ("dq", 256): [(64, 32, 8, 1), (64, 32, 4, 1), (128, 32, 8, 1), (64, 16, 4, 2),
        (64, 64, 8, 1), (64, 64, 4, 1), (64, 32, 4, 2)],
    ("dkdv", 64): [
        (64, 64, 4, 2), (64, 64, 4, 3), (32, 128, 8, 2), (64, 128, 8, 2),
        (64, 128, 8, 3), (128, 64, 4, 2), (64, 64, 8, 2), (32, 64, 4, 3),
    ],
    ("dkdv", 128): [
        (32, 64, 8, 2), (64, 128, 8, 2), (64, 128, 8, 1), (64, 64, 4, 2),
        (64, 64, 4, 1), (32, 64, 4, 2), (32, 128, 8, 3), (32, 128, 8, 1),
    ],
    ("dkdv", 256): [(32, 64, 8, 1), (32, 64, 4, 1), (64, 64, 4, 1), (64, 64, 8, 1)],
}  # fmt: skip
LOSS = {
    "statistics": [
        (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3),
        (128, 128, 64, 8, 4), (128, 128, 64, 4, 3), (64, 256, 64, 4, 3),
    ],
    "dlogits": [
        (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3),
        (128, 128, 64, 8, 4), (128, 128, 64, 4, 3), (64, 256, 64, 4, 3),
    ],
    "product": [
        (128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3),
        (128, 128, 64, 8, 4), (128, 128, 64, 4, 4), (64, 256, 64, 4, 3),
    ],
}  # fmt: skip
# Of a row of logits that becomes its gradient: columns of a walk, warps.
CHUNKED_LOSS = [(2048, 4), (2048, 8), (4096, 4), (4096, 16), (8192, 8), (8192, 16)]
# Head dim 128 over a cache: columns, tokens of a split, warps, stages.
DECODE = [
    (64, 512, 4, 3), (64, 1024, 4, 3), (64, 256, 4, 4), (64, 512, 4, 4), (128, 512, 4, 3),
    (128, 512, 8, 3), (128, 256, 4, 2), (32, 256, 4, 4), (64, 256, 8, 3), (64, 256, 2, 3),
    (32, 256, 2, 4), (64, 512, 2, 4), (128, 1024, 8, 2), (64, 1024, 8, 4),
]  # fmt: skip
# (sequences, tokens of each): many that are short, and one that is long.
CACHES = {"decode many": (32, 8192), "decode one": (1, 65536)}
LENGTHS = (5003, 4096, 3001, 2048, 1111, 701, 299, 124, 1)
LOSS_SHAPE = (8192, 4096, 32768)


def candidates(target):
    """(kernel, head dim or None, tile), the table's own row for the target first."""
    for (kernel, head_dim), rows in ATTENTION.items():
        own = configs.attention_row(kernel, head_dim, target, plain=True)
        yield kernel, head_dim, own
        for rows_, columns, warps, stages in rows:
            yield kernel, head_dim, Tile(rows_, columns, 0, warps, stages)
    for kernel, rows in LOSS.items():
        yield kernel, None, configs.loss_row(kernel, target, plain=True)
        for row in rows:
            yield kernel, None, Tile(*row)
    yield "chunked", None, configs.CHUNKED_LOSS
    for columns, warps in CHUNKED_LOSS:
        yield "chunked", None, Tile(1, columns, 0, warps, 1)
    for kernel in CACHES:
        yield kernel, 128, configs.decode_row(128, target)
        for columns, split, warps, stages in DECODE:
            yield kernel, 128, Tile(16, columns, split, warps, stages)


def launcher(kernel, head_dim, tile):
    """A function that runs the pass that `kernel` is of, with `tile` for it alone."""
    if kernel in CACHES:
        return decode_launcher(kernel, head_dim, tile)
    if kernel == "chunked":
        return chunked_launcher(tile)
    if head_dim is None:
        return loss_launcher(kernel, tile)
    return attention_launcher(kernel, head_dim, tile)


def attention_launcher(kernel, head_dim, tile):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    q, k, v, grad = (
        torch.randn(tokens, n, head_dim, device="cuda").bfloat16()
        for n in (16, 4, 4, 16)
    )
    cu = torch.tensor([0, *LENGTHS], device="cuda").cumsum(0).int()
    rest = (cu, True, None, None, head_dim**-0.5)
    out, lse = flash_attention._attention(q, k, v, *rest)
    table = configs.attention_tile
    flash_attention.attention_tile = lambda name, *x, **plain: (
        tile if name == kernel else table(name, *x, **plain)
    )
    if kernel == "forward":
        return lambda: flash_attention._attention(q, k, v, *rest)
    return lambda: flash_attention._attention_backward(grad, q, k, v, out, lse, *rest)


def loss_launcher(kernel, tile):
    torch.manual_seed(0)
    tokens, hidden_size, vocab_size = LOSS_SHAPE
    hidden = torch.randn(tokens, hidden_size, device="cuda").bfloat16()
    weight = torch.randn(vocab_size, hidden_size, device="cuda").bfloat16()
    weight *= hidden_size**-0.5
    targets = torch.randint(0, vocab_size, (tokens,), device="cuda")
    rest = (-100, None, 1.0)
    forward = linear_loss._statistics
    grads = [torch.ones(tokens, device="cuda"), torch.zeros(tokens, device="cuda")]
    none = torch.zeros(0, device="cuda")  # neither mean logit nor entropy
    grads += [none, none]
    _, lse, *_, lost = forward(hidden, weight, targets, *rest, False, False)
    table = configs.loss_tile
    linear_loss.loss_tile = lambda name, x, **plain: (
        tile if name == kernel else table(name, x, **plain)
    )
    if kernel == "statistics":
        return lambda: forward(hidden, weight, targets, *rest, False, False)
    return lambda: linear_loss._statistics_backward(
        *grads, hidden, weight, targets, lse, none, lost, *rest, True, True
    )


def chunked_launcher(tile):
    torch.manual_seed(0)
    tokens, hidden_size, vocab_size = LOSS_SHAPE
    hidden = torch.randn(tokens, hidden_size, device="cuda").bfloat16()
    weight = torch.randn(vocab_size, hidden_size, device="cuda").bfloat16()
    weight *= hidden_size**-0.5
    targets = torch.randint(0, vocab_size, (tokens,), device="cuda")
    chunked_loss.chunked_loss_tile = lambda: tile
    rest = (None, -100, 0.0, 0.0, None, True, True)
    return lambda: chunked_loss._summed(hidden, weight, targets, *rest)


def decode_launcher(kernel, head_dim, tile):
    torch.manual_seed(0)
    sequences, length = CACHES[kernel]
    q = torch.randn(sequences, 32, head_dim, device="cuda").bfloat16()
    keys, values = (
        torch.randn(sequences, length, 8, head_dim, device="cuda").bfloat16()
        for _ in range(2)
    )
    lengths = torch.full((sequences,), length, device="cuda")
    paged_attention.decode_tile = lambda *_: tile
    return lambda: paged_attention.decode_attention(q, keys, values, lengths)


def restore():
    chunked_loss.chunked_loss_tile = configs.chunked_loss_tile
    paged_attention.decode_tile = configs.decode_tile
    flash_attention.attention_tile = configs.attention_tile
    linear_loss.loss_tile = configs.loss_tile


# A smaller gain is not told from noise.
LEAST_GAIN = 0.02


def winners(rows, target):
    """(table, key, tile) of the fastest rows that are faster than the table's own.

    A tile of decoding must be so in both of its caches together.
    """
    times = {}
    for row in (row for row in rows if "ms" in row):
        is_decoding = row["kernel"] in CACHES
        kernel = "decode" if is_decoding else row["kernel"]
        tiles = times.setdefault((kernel, row["head_dim"]), {})
        tiles.setdefault(tuple(row["tile"]), []).append(row["ms"])
    found = []
    for (kernel, head_dim), tiles in times.items():
        own, *_ = tiles.values()  # the table's own row is timed first
        whole = {x: math.prod(ms) for x, ms in tiles.items() if len(ms) == len(own)}
        best = min(whole, key=whole.get)
        gain = 1 - (whole[best] / math.prod(own)) ** (1 / len(own))
        if gain >= LEAST_GAIN and kernel != "chunked":  # whose row is of any target
            found.append((*_place(kernel, head_dim, target), best))
    return found


def _place(kernel, head_dim, target):
    if kernel == "decode":
        return "decode", (head_dim, target)
    if head_dim is None:
        return "loss", (kernel, target)
    return "attention", (kernel, head_dim, target)


def compile_one(kernel, head_dim, tile):
    """Leaves the kernel in Triton's cache on disk; the error, if it cannot run."""
    try:
        launcher(kernel, head_dim, tile)()
        torch.cuda.synchronize()
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    finally:
        restore()


def died(kernel, head_dim, tile):
    """The error of a candidate that ended the process which compiled it."""
    return f"the process that compiled {kernel} {head_dim} {tile} died"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="file of the rows that win")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument(
        "--only", default="", help="kernels, as `dq` or `dq 64`, with commas between"
    )
    options = parser.parse_args()
    only = tuple(options.only.split(","))
    timing.require_gpu("cuda", "tiles are timed where they are to be used")
    target = configs._target(torch.device("cuda"))
    listed = [c for c in candidates(target) if f"{c[0]} {c[1]}".startswith(only)]
    errors = in_processes(compile_one, listed, options.jobs, died)
    clock, rows = timing.Clock("cuda"), []
    for (kernel, head_dim, tile), error in zip(listed, errors, strict=True):
        row = {"kernel": kernel, "head_dim": head_dim, "tile": list(tile)}
        if not error:
            row["ms"] = timing.timed(launcher(kernel, head_dim, tile), clock, 5)
            restore()
        rows.append({**row, "error": error} if error else row)
        print(kernel, head_dim, *tile, row.get("ms", error), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    won = winners(rows, target)
    print(*won or ["no row is faster than the tables' own"], sep="\n")
    if options.write:
        device = torch.cuda.get_device_name()
        tuned_rows.write(options.write, won, device=device, triton=triton.__version__)


if __name__ == "__main__":
    main()
