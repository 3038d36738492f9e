"""Tile sizes of every kernel: a table, not a tuner.

A tuner would choose by the shapes at hand, so the order of a sum, and with it the
bits of a result, would depend on the batch. Rows were chosen by cross-compiling and
reading registers and spills (`benches/kernels/static_table.py`); those of sm_90 were
also timed on an H200 (`benches/kernels/tune.py`). Rows of a file that `TRIPTYCH_TILES` names
come first: who times rows on a GPU of their own asks for its bits.
"""

# mypy: disable-error-code="import-untyped, import-not-found"
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from triptych_kernels import tuned_rows

# A target whose own rows are few takes the others from here. sm_100's are those that
# the rows of sm_90 spill on.
ROWS_OF = {"sm_100": "sm_90"}


class Tile(NamedTuple):
    """Block sizes and launch options of one kernel."""

    rows: int
    columns: int
    inner: int  # depth of a step of a matrix product; 0 where it is the head dim
    num_warps: int
    num_stages: int


# (kernel, padded head dim, target); 16-bit inputs. rows are queries and columns keys.
ATTENTION: dict[tuple[str, int, str], Tile] = {
    ("forward", 64, "sm_80"): Tile(64, 64, 0, 4, 2),
    ("forward", 64, "sm_90"): Tile(128, 64, 0, 8, 3),
    ("forward", 64, "gfx942"): Tile(128, 32, 0, 4, 1),
    ("forward", 128, "sm_80"): Tile(128, 32, 0, 8, 2),
    ("forward", 128, "sm_90"): Tile(128, 64, 0, 8, 3),
    ("forward", 128, "gfx942"): Tile(128, 32, 0, 4, 1),
    ("forward", 256, "sm_80"): Tile(64, 32, 0, 8, 1),
    ("forward", 256, "sm_90"): Tile(64, 64, 0, 8, 2),
    ("forward", 256, "gfx942"): Tile(64, 32, 0, 4, 1),
    ("dq", 64, "sm_80"): Tile(64, 32, 0, 4, 3),
    ("dq", 64, "sm_90"): Tile(64, 32, 0, 4, 2),
    ("dq", 64, "gfx942"): Tile(64, 32, 0, 4, 1),
    ("dq", 128, "sm_80"): Tile(64, 32, 0, 4, 2),
    ("dq", 128, "sm_90"): Tile(64, 32, 0, 4, 2),
    ("dq", 128, "gfx942"): Tile(64, 32, 0, 4, 1),
    ("dq", 256, "sm_80"): Tile(64, 16, 0, 8, 1),
    ("dq", 256, "sm_90"): Tile(64, 32, 0, 4, 1),
    ("dq", 256, "gfx942"): Tile(32, 32, 0, 4, 1),
    ("dkdv", 64, "sm_80"): Tile(32, 64, 0, 4, 2),
    ("dkdv", 64, "sm_90"): Tile(32, 64, 0, 4, 2),
    ("dkdv", 64, "sm_100"): Tile(32, 64, 0, 8, 2),
    ("dkdv", 64, "gfx942"): Tile(32, 64, 0, 4, 1),
    ("dkdv", 128, "sm_80"): Tile(32, 64, 0, 8, 2),
    ("dkdv", 128, "sm_90"): Tile(32, 64, 0, 8, 2),
    ("dkdv", 128, "sm_100"): Tile(32, 32, 0, 8, 2),
    ("dkdv", 128, "gfx942"): Tile(16, 64, 0, 4, 1),
    ("dkdv", 256, "sm_80"): Tile(16, 32, 0, 8, 1),
    ("dkdv", 256, "sm_90"): Tile(16, 32, 0, 4, 1),
    ("dkdv", 256, "gfx942"): Tile(16, 32, 0, 4, 1),
}

# 16-bit inputs. rows are tokens (of the product: rows of the result), columns are
# vocabulary entries (of the product: hidden units).
LOSS: dict[tuple[str, str], Tile] = {
    ("statistics", "sm_80"): Tile(128, 128, 64, 8, 2),
    ("statistics", "sm_90"): Tile(128, 128, 64, 8, 3),
    ("statistics", "sm_100"): Tile(128, 128, 64, 8, 3),
    ("statistics", "gfx942"): Tile(128, 128, 64, 8, 2),
    ("dlogits", "sm_80"): Tile(128, 128, 64, 8, 3),
    ("dlogits", "sm_90"): Tile(128, 128, 64, 8, 3),
    ("dlogits", "gfx942"): Tile(128, 128, 64, 8, 2),
    ("product", "sm_80"): Tile(128, 128, 64, 8, 3),
    ("product", "sm_90"): Tile(128, 128, 64, 8, 3),
    ("product", "gfx942"): Tile(128, 128, 64, 8, 2),
}

# Instead of the rows above where there is no window, soft-cap or mean logit, and for
# products that are not added to anything: larger tiles, which otherwise spill.
ATTENTION_PLAIN: dict[tuple[str, int, str], Tile] = {
    ("forward", 256, "sm_90"): Tile(128, 64, 0, 8, 2),
    ("dq", 64, "sm_80"): Tile(64, 32, 0, 4, 2),
    ("dkdv", 64, "sm_90"): Tile(64, 64, 0, 4, 2),
    ("dkdv", 128, "sm_90"): Tile(32, 128, 0, 8, 2),
    ("dkdv", 64, "sm_100"): Tile(64, 64, 0, 8, 2),
}
# And with dropout, whose random numbers take registers, or smaller.
ATTENTION_DROPOUT: dict[tuple[str, int, str], Tile] = {
    ("dq", 64, "sm_80"): Tile(64, 32, 0, 4, 2),
    ("dkdv", 64, "sm_80"): Tile(32, 32, 0, 4, 2),
    ("forward", 256, "sm_90"): Tile(64, 32, 0, 8, 2),
    ("dq", 256, "sm_90"): Tile(64, 16, 0, 8, 1),
    ("dkdv", 256, "sm_90"): Tile(16, 32, 0, 8, 1),
}
LOSS_PLAIN: dict[tuple[str, str], Tile] = {
    ("statistics", "sm_90"): Tile(128, 256, 64, 8, 3),
    ("product", "sm_90"): Tile(128, 256, 64, 8, 4),
}

# fp32 products run without tensor cores, in full precision: small tiles, any target.
ATTENTION_FP32: dict[tuple[str, int], Tile] = {
    ("forward", 64): Tile(32, 32, 0, 4, 1),
    ("forward", 128): Tile(16, 32, 0, 4, 1),
    ("forward", 256): Tile(16, 16, 0, 4, 1),
    ("dq", 64): Tile(32, 16, 0, 4, 1),
    ("dq", 128): Tile(16, 16, 0, 8, 1),
    ("dq", 256): Tile(16, 16, 0, 8, 1),
    # 32 x 32 spills 1,408 bytes on sm_90, 16 x 32 spills 16 on sm_80.
    ("dkdv", 64): Tile(32, 16, 0, 4, 1),
    ("dkdv", 128): Tile(16, 32, 0, 4, 1),
    ("dkdv", 256): Tile(16, 16, 0, 4, 1),
}
LOSS_FP32 = Tile(64, 64, 16, 8, 1)

# A row of logits that becomes its gradient: columns of a walk, 16 a thread, any target.
CHUNKED_LOSS = Tile(1, 4096, 0, 8, 1)

# Kernels that only move bytes, any target and dtype. Rows of normalization by padded
# width: rows at once, 0, rows of a run (backward), warps. A thread holds at most 32
# elements of a row forward and 16 backward; a run is 2**17 elements, at least 32 rows.
NORMALIZATION: dict[tuple[str, int], Tile] = {
    ("forward", 128): Tile(32, 0, 0, 4, 1),
    ("forward", 256): Tile(16, 0, 0, 4, 1),
    ("forward", 512): Tile(8, 0, 0, 4, 1),
    ("forward", 1024): Tile(4, 0, 0, 4, 1),
    ("forward", 2048): Tile(2, 0, 0, 4, 1),
    ("forward", 4096): Tile(1, 0, 0, 4, 1),
    ("forward", 8192): Tile(1, 0, 0, 8, 1),
    ("forward", 16384): Tile(1, 0, 0, 16, 1),
    ("backward", 128): Tile(16, 0, 1024, 4, 1),
    ("backward", 256): Tile(8, 0, 512, 4, 1),
    ("backward", 512): Tile(4, 0, 256, 4, 1),
    ("backward", 1024): Tile(2, 0, 128, 4, 1),
    ("backward", 2048): Tile(1, 0, 64, 4, 1),
    ("backward", 4096): Tile(1, 0, 32, 8, 1),
    ("backward", 8192): Tile(1, 0, 32, 16, 1),
    ("backward", 16384): Tile(1, 0, 32, 16, 1),
}
NORMALIZATION_SUM = Tile(32, 64, 0, 4, 1)

# Rotary positions: inner is pairs of dimensions of a program, eight a thread, which
# are 16 bytes of each half of a 16-bit head.
ROTARY: dict[str, Tile] = {
    "sm_80": Tile(0, 0, 1024, 4, 1),
    "sm_90": Tile(0, 0, 1024, 4, 1),
    "gfx942": Tile(0, 0, 2048, 4, 1),
}

# Gated activations: eight elements a thread.
GATED: dict[str, Tile] = {
    "sm_80": Tile(0, 1024, 0, 4, 1),
    "sm_90": Tile(0, 1024, 0, 4, 1),
    "gfx942": Tile(0, 2048, 0, 4, 1),
}

# A step of the optimizer: eight elements a thread, as many as a call of Philox serves.
OPTIMIZER: dict[str, Tile] = {
    "sm_80": Tile(0, 1024, 0, 4, 1),
    "sm_90": Tile(0, 1024, 0, 4, 1),
    "gfx942": Tile(0, 2048, 0, 4, 1),
}

# A matrix times its transpose; 16-bit inputs. rows are those of a square tile.
SYMMETRIC: dict[str, Tile] = {
    "sm_80": Tile(128, 0, 64, 8, 3),
    "sm_90": Tile(128, 0, 64, 8, 3),
    "gfx942": Tile(128, 0, 64, 8, 2),
}
SYMMETRIC_FP32 = Tile(64, 0, 16, 8, 1)

# (padded head dim, target) of attention over a paged cache; 16-bit inputs. rows are heads
# of a group that a program takes, columns tokens of a tile, inner those of a split: 8 key
# heads of 4,096 tokens are 128 programs.
DECODE: dict[tuple[int, str], Tile] = {
    (64, "sm_80"): Tile(16, 64, 256, 4, 3),
    (64, "sm_90"): Tile(16, 64, 256, 4, 3),
    (64, "gfx942"): Tile(16, 64, 256, 4, 1),
    (128, "sm_80"): Tile(16, 64, 256, 4, 2),
    (128, "sm_90"): Tile(16, 64, 512, 2, 4),
    (128, "gfx942"): Tile(16, 64, 256, 4, 1),
    (256, "sm_80"): Tile(16, 32, 256, 4, 2),
    (256, "sm_90"): Tile(16, 32, 256, 4, 3),
    (256, "gfx942"): Tile(16, 32, 256, 4, 1),
}
DECODE_FP32 = Tile(16, 16, 256, 4, 1)

# The interpreter pays by the step, not by the size: small enough for several steps
# in a small test, large enough for few.
ATTENTION_INTERPRETER = Tile(32, 16, 0, 4, 1)
LOSS_INTERPRETER = Tile(64, 64, 64, 4, 1)
CHUNKED_LOSS_INTERPRETER = Tile(1, 64, 0, 4, 1)
NORMALIZATION_INTERPRETER = Tile(4, 16, 8, 4, 1)
DECODE_INTERPRETER = Tile(16, 8, 16, 4, 1)
OPTIMIZER_INTERPRETER = Tile(0, 64, 0, 4, 1)
SYMMETRIC_INTERPRETER = Tile(16, 0, 16, 4, 1)
GATED_INTERPRETER = Tile(0, 64, 0, 4, 1)
ROTARY_INTERPRETER = Tile(8, 0, 0, 4, 1)  # rows are tokens


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def attention_tile(
    kernel: str,
    head_dim: int,
    query: torch.Tensor,
    *,
    plain: bool = False,
    dropout: bool = False,
) -> Tile:
    """The row of the table for ``query``'s device and dtype.

    ``plain`` says that there is no window, soft-cap, pair or dropout, and of "dq" no sink.
    """
    target = _matrix_target(query.device)
    if target == "interpreter":
        return ATTENTION_INTERPRETER
    size = max(64, next_power_of_2(head_dim))
    if query.dtype == torch.float32:
        return ATTENTION_FP32[kernel, size]
    return attention_row(kernel, size, target, plain=plain, dropout=dropout)


def attention_row(
    kernel: str, size: int, target: str, *, plain: bool, dropout: bool = False
) -> Tile:
    """The row for 16-bit inputs with a padded head dim of ``size``."""
    if plain and (kernel, size, target) in ATTENTION_PLAIN:
        return ATTENTION_PLAIN[kernel, size, target]
    if (kernel, size, target) not in ATTENTION:
        target = ROWS_OF[target]
    row = ATTENTION[kernel, size, target]
    if dropout:
        return ATTENTION_DROPOUT.get((kernel, size, target), row)
    return ATTENTION_PLAIN.get((kernel, size, target), row) if plain else row


def loss_tile(kernel: str, hidden: torch.Tensor, *, plain: bool = False) -> Tile:
    """The row of the table for ``hidden``'s device and dtype.

    ``plain`` says that there is neither a soft-cap nor a mean logit, or of a product
    that it is not added to anything.
    """
    target = _matrix_target(hidden.device)
    if target == "interpreter":
        return LOSS_INTERPRETER
    if hidden.dtype == torch.float32:
        return LOSS_FP32
    return loss_row(kernel, target, plain=plain)


def loss_row(kernel: str, target: str, *, plain: bool) -> Tile:
    """The row for 16-bit inputs."""
    if plain and (kernel, target) in LOSS_PLAIN:
        return LOSS_PLAIN[kernel, target]
    if (kernel, target) not in LOSS:
        target = ROWS_OF[target]
    row = LOSS[kernel, target]
    return LOSS_PLAIN.get((kernel, target), row) if plain else row


def chunked_loss_tile() -> Tile:
    """Columns of a walk over a row of logits."""
    return CHUNKED_LOSS_INTERPRETER if interpreted() else CHUNKED_LOSS


def normalization_tile(kernel: str, width: int) -> Tile:
    """The row of a kernel ("forward", "backward", "sum") for rows of ``width``."""
    if interpreted():
        return NORMALIZATION_INTERPRETER
    if kernel == "sum":
        return NORMALIZATION_SUM
    return NORMALIZATION[kernel, max(128, next_power_of_2(width))]


def rotary_tile(pairs: int, query: torch.Tensor) -> Tile:
    """Tokens (rows) of a program that turns heads of ``pairs``, a power of two."""
    target = _target(query.device)
    return ROTARY_INTERPRETER if target == "interpreter" else rotary_row(pairs, target)


def rotary_row(pairs: int, target: str) -> Tile:
    """The row of the table with its tokens filled in, at least one."""
    row = ROTARY[ROWS_OF.get(target, target)]
    return row._replace(rows=max(1, row.inner // pairs))


def decode_tile(head_dim: int, query: torch.Tensor) -> Tile:
    """The row of the table for ``query``'s device and dtype."""
    target = _matrix_target(query.device)
    if target == "interpreter":
        return DECODE_INTERPRETER
    if query.dtype == torch.float32:
        return DECODE_FP32
    return decode_row(max(64, next_power_of_2(head_dim)), target)


def decode_row(size: int, target: str) -> Tile:
    """The row for 16-bit inputs with a padded head dim of ``size``."""
    if (size, target) in DECODE:
        return DECODE[size, target]
    return DECODE[size, ROWS_OF[target]]


def optimizer_tile(param: torch.Tensor) -> Tile:
    """Elements (columns) of a program of the optimizer."""
    target = _target(param.device)
    return OPTIMIZER_INTERPRETER if target == "interpreter" else optimizer_row(target)


def optimizer_row(target: str) -> Tile:
    """The row of a step of the optimizer, for any dtype."""
    return OPTIMIZER[ROWS_OF.get(target, target)]


def symmetric_tile(matrix: torch.Tensor) -> Tile:
    """The row of the table for ``matrix``'s device and dtype."""
    target = _matrix_target(matrix.device)
    if target == "interpreter":
        return SYMMETRIC_INTERPRETER
    return SYMMETRIC_FP32 if matrix.dtype == torch.float32 else symmetric_row(target)


def symmetric_row(target: str) -> Tile:
    """The row for 16-bit inputs."""
    return SYMMETRIC[ROWS_OF.get(target, target)]


def gated_tile(gate: torch.Tensor) -> Tile:
    """Columns of a program of a gated activation."""
    target = _target(gate.device)
    return GATED_INTERPRETER if target == "interpreter" else gated_row(target)


def gated_row(target: str) -> Tile:
    """The row of a gated activation, for any dtype."""
    return GATED[ROWS_OF.get(target, target)]


def cdiv(size: int, tile: int) -> int:
    """Tiles that cover ``size``. Triton's own costs 6 microseconds outside of kernels."""
    return -(-size // tile)


def next_power_of_2(size: int) -> int:
    """The smallest power of 2 that is not below ``size``, which is at least 1."""
    return 1 << (size - 1).bit_length()


@lru_cache
def _target(device: torch.device) -> str:
    """The table's name for a device: the newest listed one it can run."""
    if interpreted():
        return "interpreter"
    if device.type != "cuda":
        raise ValueError(
            "kernels need tensors on a GPU, or TRITON_INTERPRET=1 set before the "
            f"import: found device `{device}`"
        )
    if torch.version.hip:
        return "gfx942"
    # 9.x and 10.x have 227 KiB of shared memory a block; 8.6, 8.9 and 12.x have
    # 99 KiB, which every sm_80 row keeps to.
    major, _ = torch.cuda.get_device_capability(device)
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


@lru_cache
def _matrix_target(device: torch.device) -> str:
    """`_target` for a kernel with matrix products, of which Triton's least is 8.0."""
    target = _target(device)
    if target == "sm_80" and torch.cuda.get_device_capability(device) < (8, 0):
        major, minor = torch.cuda.get_device_capability(device)
        raise ValueError(
            "kernels with matrix products need an NVIDIA GPU of compute capability 8.0, "
            f"found {major}.{minor}: `triptych.ops` has plain PyTorch for it"
        )
    return target


def take_rows(path: Path) -> None:
    """Puts the rows of a file over those of the tables.

    Raises:
        ValueError: for a row of a kernel or head dim that its table does not have.
    """
    tables: dict[str, dict[Any, Tile]] = {"decode": DECODE}
    tables |= {"attention": ATTENTION_PLAIN, "loss": LOSS_PLAIN}
    known: dict[str, dict[Any, Tile]] = {"attention": ATTENTION, "loss": LOSS}
    known["decode"] = DECODE
    for table, key, tile in tuned_rows.read(path):
        if key[:-1] not in {known_key[:-1] for known_key in known[table]}:
            raise ValueError(
                f"`{path}`: expected a kernel and head dim of the table `{table}`, "
                f"found {key!r:.80}"
            )
        tables[table][key] = Tile(*tile)


if os.environ.get(tuned_rows.VARIABLE):
    take_rows(Path(os.environ[tuned_rows.VARIABLE]))
