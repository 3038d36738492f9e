"""Tensors spread over files: which box of which tensor each file holds.

`shards.json` names, of every tensor, its shape, its type, and its boxes, each with the
safetensors file that holds it under the tensor's name. A reader takes from the files
the numbers it wants, however they were cut. torch's own distributed checkpoints do the
same, but their index is a pickle, which could run code; this one is JSON.

    {"format": "triptych-shards/1",
     "weights": {"model.norm.weight": {"shape": [384], "dtype": "F32", "boxes":
        [{"file": "weights-00000.safetensors", "offset": [0], "shape": [192]}, …]}},
     "optimizer": {"exp_avg:model.norm.weight": …}}
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from triptych.artefact import damaged, read_json, write_json
from triptych.errors import EXHAUSTED, ResourceError

INDEX = "shards.json"
FORMAT = "triptych-shards/1"
WEIGHTS, OPTIMIZER = "weights", "optimizer"

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file.

    Raises:
        ResourceError: there is no room for it.
        OSError: it cannot be written for another reason.
    """
    try:
        save_file(dict(tensors), path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise _unwritten(path, tensors, int(number[1])) from error


def _unwritten(path: Path, tensors: Mapping[str, Tensor], number: int) -> OSError:
    size = sum(x.numel() * x.element_size() for x in tensors.values())
    kind = ResourceError if number in EXHAUSTED else OSError
    return kind(
        f"`{path}`: expected to write {size} bytes, found: {os.strerror(number)}; make "
        "room, then run the same command again"
    )


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where it begins in the whole, its shape, and its file."""

    file: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    def overlap(
        self, offset: Sequence[int], shape: Sequence[int]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
        """What it has of another box: slices of itself, and of the other; or None."""
        own, others = [], []
        for a, n, b, m in zip(self.offset, self.shape, offset, shape, strict=True):
            start, end = max(a, b), min(a + n, b + m)
            if start >= end:
                return None
            own.append(slice(start - a, end - a))
            others.append(slice(start - b, end - b))
        return tuple(own), tuple(others)


@dataclass(frozen=True)
class StoredTensor:
    """Shape and type of a tensor, and the boxes that make it up."""

    shape: tuple[int, ...]
    dtype: str
    boxes: tuple[Box, ...]

    @property
    def torch_dtype(self) -> torch.dtype:
        """Its type in memory."""
        return _DTYPES[self.dtype]


class Shards:
    """The tensors of one group (`weights` or `optimizer`) in the files of a folder."""

    def __init__(self, folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
        self.folder, self.tensors = folder, tensors
        self._open: dict[str, Any] = {}

    @classmethod
    def indexed(cls, folder: Path, group: str) -> Shards:
        """Those that `shards.json` names.

        Raises:
            IntegrityError: it is not such an index.
        """
        path = folder / INDEX
        values = read_json(path)
        try:
            return cls(folder, {k: from_json(v) for k, v in values[group].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, f"an index of `{FORMAT}`", repr(error)) from error

    @classmethod
    def of_file(cls, path: Path) -> Shards:
        """Those of one safetensors file, every one whole.

        Raises:
            IntegrityError: it is no such file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                heads = {name: file.get_slice(name) for name in file.keys()}
                tensors = {
                    name: _whole(path.name, tuple(head.get_shape()), head.get_dtype())
                    for name, head in heads.items()
                }
        except (SafetensorError, OSError) as error:
            raise damaged(path, "a safetensors file", str(error)) from error
        return cls(path.parent, tensors)

    def read(
        self,
        name: str,
        offset: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """A box of a tensor, by default all of it; only its own numbers are read.

        Raises:
            IntegrityError: the files do not hold all of it, exactly once.
        """
        stored = self.tensors[name]
        shape = stored.shape if shape is None else tuple(shape)
        offset = (0,) * len(shape) if offset is None else tuple(offset)
        overlaps = [(box, box.overlap(offset, shape)) for box in stored.boxes]
        parts = [(box, both) for box, both in overlaps if both is not None]
        # Before there is memory for them: an index can promise any size.
        found = sum(self._held(box, name, both[1]) for box, both in parts)
        path, expected = self.folder / INDEX, f"{math.prod(shape)} numbers"
        if found != math.prod(shape):
            raise damaged(path, f"{expected} of `{name}` at {offset}", f"{found}")
        result = torch.empty(shape, dtype=stored.torch_dtype)
        seen = torch.zeros(shape if len(parts) > 1 else (), dtype=torch.bool)
        for box, (own, theirs) in parts:
            if len(parts) > 1 and seen[theirs].any():
                raise damaged(path, f"{expected} of `{name}`, each once", "some twice")
            seen[theirs if len(parts) > 1 else ...] = True
            result[theirs] = self._part(box.file, name, own)
        return result

    def all(self) -> dict[str, Tensor]:
        """Every tensor, whole."""
        return {name: self.read(name) for name in self.tensors}

    def _held(self, box: Box, name: str, slices: tuple[slice, ...]) -> int:
        """Numbers of a part, once the file is known to hold its box."""
        with self._opened(box.file, name) as file:
            shape = tuple(file.get_slice(name).get_shape())
        if shape != box.shape:
            path = self.folder / Path(box.file).name
            raise damaged(path, f"`{name}` of shape {box.shape}", f"shape {shape}")
        return math.prod(x.stop - x.start for x in slices)

    def _part(self, file: str, name: str, slices: tuple[slice, ...]) -> Tensor:
        with self._opened(file, name) as opened:
            if not slices:
                whole: Tensor = opened.get_tensor(name)
                return whole
            part: Tensor = opened.get_slice(name)[slices]
            return part

    @contextmanager
    def _opened(self, file: str, name: str) -> Iterator[Any]:
        """A file, kept open; what it says of `name` within is an `IntegrityError`."""
        path = self.folder / Path(file).name
        try:
            if file not in self._open:
                self._open[file] = safe_open(path, framework="pt")
            yield self._open[file]
        except (SafetensorError, OSError) as error:
            raise damaged(
                path, f"a safetensors file with `{name}`", str(error)
            ) from error


def write_index(
    folder: Path, groups: Mapping[str, Iterable[tuple[str, StoredTensor]]]
) -> None:
    """Writes `shards.json` of what each process tells of its own boxes."""
    values: dict[str, Any] = {"format": FORMAT}
    for group, told in groups.items():
        tensors: dict[str, StoredTensor] = {}
        for name, found in told:
            boxes = (*tensors[name].boxes, *found.boxes) if name in tensors else ()
            tensors[name] = StoredTensor(found.shape, found.dtype, boxes or found.boxes)
        values[group] = {name: asdict(tensors[name]) for name in sorted(tensors)}
    write_json(folder / INDEX, values)


def from_json(value: Mapping[str, Any]) -> StoredTensor:
    """A tensor as the index has it.

    Raises:
        ValueError, TypeError, KeyError: it is not one.
    """
    boxes = (
        Box(str(box["file"]), _numbers(box["offset"]), _numbers(box["shape"]))
        for box in value["boxes"]
    )
    stored = StoredTensor(_numbers(value["shape"]), str(value["dtype"]), tuple(boxes))
    if stored.dtype not in _DTYPES:
        raise ValueError(f"type {stored.dtype}")
    ranks = {len(x) for box in stored.boxes for x in (box.offset, box.shape)}
    if ranks != {len(stored.shape)}:
        raise ValueError(f"boxes of {sorted(ranks)} dimensions")
    return stored


def _numbers(values: Any) -> tuple[int, ...]:
    if not all(isinstance(n, int) and n >= 0 for n in values):
        raise ValueError(f"{values} for lengths")
    return tuple(values)


def _whole(file: str, shape: tuple[int, ...], dtype: str) -> StoredTensor:
    return StoredTensor(shape, dtype, (Box(file, (0,) * len(shape), shape),))
