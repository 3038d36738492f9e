"""Checkpoints that every process writes its part of, for any other grid to read.

A folder like a whole checkpoint's, but `weights-NNNNN.safetensors` and
`optimizer-NNNNN.safetensors` hold the boxes of process NNNNN and `shards.json` says
where each lies. The first process commits, by one rename, when all have written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from triptych.artefact import Draft, FileEntry, sync_file, verify
from triptych.errors import ResourceError, code
from triptych.model.config import ModelConfig
from triptych.model.huggingface import CHECKPOINT_FORMAT, check_tensors
from triptych.model.shards import (
    DTYPE_NAMES,
    INDEX,
    OPTIMIZER,
    WEIGHTS,
    Box,
    Shards,
    StoredTensor,
    from_json,
    write_index,
    write_tensors,
)
from triptych.train import checkpoint
from triptych.train.averaging import WeightAverage
from triptych.train.checkpoint import TrainState
from triptych.train.pieces import Piece
from triptych.train.ranks import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A tensor of this process's, and where it lies in the whole."""

    tensor: Tensor
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    def stored(self, file: str) -> StoredTensor:
        """As the index has it."""
        box = Box(file, self.offset, tuple(self.tensor.shape))
        return StoredTensor(self.shape, DTYPE_NAMES[self.tensor.dtype], (box,))


@dataclass(frozen=True)
class ShardedSnapshot:
    """What this process gives to a checkpoint, by group and name."""

    config: ModelConfig
    groups: Mapping[str, Mapping[str, Part]]
    state: dict[str, Any]


def take(
    config: ModelConfig,
    pieces: Sequence[Piece],
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    is_first: bool,
    copied: bool,
    average: WeightAverage | None = None,
) -> ShardedSnapshot:
    """What this process speaks for; `copied` to the CPU, so that training may go on."""
    owned = [piece for piece in pieces if piece.owned]
    weights = {x.name: Part(x.local.detach(), x.offset, x.shape) for x in owned}
    states = dict(_states(pieces, optimizer, is_first))
    groups = {WEIGHTS: weights, OPTIMIZER: states}
    if average is not None:
        groups[checkpoint.RAW_GROUP] = weights
        groups[WEIGHTS] = {
            x.name: Part(average.weights[x.name], x.offset, x.shape) for x in owned
        }
    kept = {group: _kept(parts, copied) for group, parts in groups.items()}
    return ShardedSnapshot(config, kept, asdict(state))


def _states(
    pieces: Sequence[Piece], optimizer: torch.optim.Optimizer, is_first: bool
) -> Iterator[tuple[str, Part]]:
    """`<state>:<parameter>`: shaped as the parameter, or a number that all have."""
    for piece in pieces:
        for kind, value in optimizer.state.get(piece.local, {}).items():
            if value.dim() == 0:
                if is_first:
                    yield f"{kind}:{piece.name}", Part(value.detach(), (), ())
            elif piece.owned:
                part = Part(value.detach(), piece.offset, piece.shape)
                yield f"{kind}:{piece.name}", part


def _kept(parts: Mapping[str, Part], copied: bool) -> dict[str, Part]:
    """Without the empty ones: rows may be fewer than processes."""
    filled = {name: part for name, part in parts.items() if part.tensor.numel()}
    if not copied:
        return filled
    return {
        name: Part(part.tensor.to("cpu", copy=True), part.offset, part.shape)
        for name, part in filled.items()
    }


def write(
    folder: Path,
    snapshot: ShardedSnapshot,
    ranks: Ranks,
    tokenizer_path: Path | None = None,
    keep: int = 2,
    keep_every_steps: int | None = None,
) -> Path:
    """`checkpoint.write`, of all processes together.

    Raises:
        OSError: in every process, what one of them could not write.
    """
    target = folder / f"step-{snapshot.state['step']:08d}"
    begun: list[Draft] = []

    def commit() -> None:
        for draft in begun:
            _commit(draft, snapshot, told, tokenizer_path)
            checkpoint.remove_old(target, keep, keep_every_steps, snapshot.state)

    with ExitStack() as drafts:  # what was written takes room where there is none

        def begin() -> None:
            if ranks.is_first:
                begun.append(drafts.enter_context(Draft(target)))

        together(ranks, begin)
        told = together(ranks, lambda: _write_parts(target, snapshot, ranks.rank))
        together(ranks, commit)
    return target


def together(ranks: Ranks, action: Callable[[], T]) -> list[T]:
    """What an action gives in every process, once all have done it; it is JSON.

    Raises:
        OSError: in every process, if it failed in one; a `ResourceError` if for room.
    """
    value, error = None, None
    try:
        value = action()
    except OSError as failure:
        error = [code(failure), f"process {ranks.rank}: {failure}"]
    found = ranks.gather([value, error])
    errors = [failed for _, failed in found if failed is not None]
    if errors:
        full = any(kind == "resource" for kind, _ in errors)
        raise (ResourceError if full else OSError)("; ".join(x for _, x in errors))
    return [value for value, _ in found]


def _write_parts(target: Path, snapshot: ShardedSnapshot, rank: int) -> dict[str, Any]:
    """Writes a file a group; returns what the index and the manifest need to know."""
    folder = Draft.folder_of(target)
    told: dict[str, Any] = {"files": {}, "boxes": {}}
    for group, parts in snapshot.groups.items():
        if not parts:
            continue
        file = f"{group}-{rank:05d}.safetensors"
        tensors = {name: part.tensor.contiguous() for name, part in parts.items()}
        write_tensors(folder / file, tensors)
        told["files"][file] = asdict(sync_file(folder / file))
        told["boxes"][group] = {
            name: asdict(part.stored(file)) for name, part in parts.items()
        }
    return told


def _commit(
    draft: Draft,
    snapshot: ShardedSnapshot,
    told: Sequence[Mapping[str, Any]],
    tokenizer_path: Path | None,
) -> None:
    boxes = {
        group: [
            (name, from_json(value))
            for process in told
            for name, value in process["boxes"].get(group, {}).items()
        ]
        for group in snapshot.groups
    }
    write_index(draft.folder, boxes)
    synced = {
        name: FileEntry(**entry)
        for process in told
        for name, entry in process["files"].items()
    }
    checkpoint.finish(draft, snapshot.config, snapshot.state, tokenizer_path, synced)


def load(
    folder: Path,
    config: ModelConfig,
    pieces: Sequence[Piece],
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> TrainState:
    """Restores this process's pieces from a checkpoint of any grid, verified first.

    Raises:
        IntegrityError: a file is not as the manifest says.
        ConfigError: the checkpoint is of another model.
    """
    verify(folder, CHECKPOINT_FORMAT)
    checkpoint.require_same_model(folder, config)
    check_tensors(folder, config)
    weights = checkpoint.stored_trained(folder)
    if average is not None:
        stored = checkpoint.stored_weights(folder)
        average.restore({x.name: _box(stored, x.name, x) for x in pieces})
    states = checkpoint.stored_optimizer(folder)
    kinds: dict[str, list[str]] = {}
    for key in states.tensors:
        kind, name = key.split(":", 1)
        kinds.setdefault(name, []).append(kind)
    checkpoint.check_states(folder / INDEX, kinds, {piece.name for piece in pieces})
    optimizer.state.clear()
    for piece in pieces:
        with torch.no_grad():
            piece.local.copy_(_box(weights, piece.name, piece))
        if piece.name in kinds:
            optimizer.state[piece.local] = {
                kind: _box(states, f"{kind}:{piece.name}", piece)
                for kind in kinds[piece.name]
            }
    return checkpoint.read_state(folder)


def _box(stored: Shards, name: str, piece: Piece) -> Tensor:
    """What a piece needs of a tensor shaped as its parameter, or of a number."""
    shape = stored.tensors[name].shape
    if not shape:
        return stored.read(name).to(piece.local.device)
    return stored.read(name, piece.offset, piece.local.shape).to(piece.local.device)
