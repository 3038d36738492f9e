"""Rows of tiles that `benches/kernels/tune.py` wrote for a GPU of one's own.

A file of JSON: `format`, the `device` and `triton` they were timed with, and `rows`, each
with `table`, what that table goes by, and `tile`, the five numbers of `configs.Tile`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FORMAT = "triptych-tiles/1"
# Environment variable that names such a file. Without it no bit of a result depends on
# anything but the tables of the package.
VARIABLE = "TRIPTYCH_TILES"
# What each table goes by.
KEYS = {
    "attention": ("kernel", "head_dim", "target"),
    "loss": ("kernel", "target"),
    "decode": ("head_dim", "target"),
}
# No block has more rows, columns, warps or stages than this, whatever a file says.
MAX_NUMBER = 1 << 16

Row = tuple[str, tuple[Any, ...], tuple[int, ...]]


def write(path: Path, rows: Sequence[Row], *, device: str, triton: str) -> None:
    """Writes (table, key, tile) rows."""
    found = [
        {"table": table, **dict(zip(KEYS[table], key, strict=True)), "tile": tile}
        for table, key, tile in rows
    ]
    values = {"format": FORMAT, "device": device, "triton": triton, "rows": found}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Iterator[Row]:
    """The (table, key, tile) rows of a file.

    Raises:
        ValueError: naming the file, and the row that is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(path, f"{error}") from error
    found = values.get("format") if isinstance(values, dict) else values
    if found != FORMAT or not isinstance(values.get("rows"), list):
        raise _wrong(path, f"format {found!r:.80}")
    for number, row in enumerate(values["rows"], start=1):
        try:
            table, tile = row["table"], tuple(row["tile"])
            key = tuple(row[name] for name in KEYS[table])
        except (KeyError, TypeError) as error:
            raise _wrong(path, f"{error!r} in row {number}") from error
        if not all(isinstance(part, (str, int)) for part in key):
            raise _wrong(path, f"{key!r:.80} in row {number}")
        if len(tile) != 5 or not all(map(_is_size, tile)):
            raise _wrong(path, f"the tile {row['tile']!r:.80} in row {number}")
        yield table, key, tile


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= MAX_NUMBER


def _wrong(path: Path, found: str) -> ValueError:
    return ValueError(
        f"{VARIABLE} `{path}`: expected rows of format {FORMAT} as "
        f"benches/kernels/tune.py --write gives them, found {found}"
    )
