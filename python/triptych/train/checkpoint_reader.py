"""A run's checkpoints as `torch.distributed.checkpoint` reads them.

torch plans which box of which tensor each process needs; here the boxes come out of files that
were hashed first. Nothing is unpickled: torch's own index is a pickle, ours is JSON. Not part of
`triptych.train`, which would take half a second longer to import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from triptych.artefact import FILE_NAME, verify
from triptych.model.huggingface import CHECKPOINT_FORMAT
from triptych.model.shards import Shards, StoredTensor
from triptych.train import checkpoint

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


class CheckpointReader(StorageReader):
    """Gives `torch.distributed.checkpoint.load` a checkpoint, whatever grid wrote it.

        state = {"model": model.state_dict()}
        load(state, storage_reader=CheckpointReader("run/checkpoints/step-00000120"))

    Tensors are called `model.<name>` and `trained.<name>`, by their Hugging Face names, and
    `optimizer.<state>:<name>`. They differ from each other only where weights are averaged:
    then training goes on from `trained`. A tied output matrix, which `state_dict` names as well, is
    read from the embedding.

    Raises:
        IntegrityError: a file is not as the manifest says, before any is read; torch wraps it
            in its `CheckpointException`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Path(path)
        self._groups: dict[str, Shards] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Turns to another checkpoint, if one is named; called before each load."""
        self.folder = self.folder if checkpoint_id is None else Path(checkpoint_id)
        self._groups = {}

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether there is a folder with a manifest."""
        return (Path(checkpoint_id) / FILE_NAME).is_file()

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Shapes, types and boxes of all tensors, of files that are verified."""
        verify(self.folder, CHECKPOINT_FORMAT)
        self._groups = {
            "model": checkpoint.stored_weights(self.folder),
            "trained": checkpoint.stored_trained(self.folder),
            "optimizer": checkpoint.stored_optimizer(self.folder),
        }
        return Metadata(dict(self._described()), storage_meta=self.storage_meta())

    def storage_meta(self) -> StorageMeta:
        """Where the checkpoint is."""
        return StorageMeta(checkpoint_id=self.folder)

    def _described(self) -> Iterator[tuple[str, TensorStorageMetadata]]:
        for group, stored in self._groups.items():
            for name, tensor in stored.tensors.items():
                yield f"{group}.{name}", _described(tensor)
            if EMBEDDING in stored.tensors and HEAD not in stored.tensors:  # tied
                yield f"{group}.{HEAD}", _described(stored.tensors[EMBEDDING])

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *_: Any, **__: Any
    ) -> None:
        """Opens what another process verified."""
        if not self._groups:
            self.read_metadata()

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As torch planned it."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As torch planned it."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copies the boxes of a plan to where the planner wants them."""
        for item in plan.items:
            group, name = item.storage_index.fqn.split(".", 1)
            inner = item.storage_offsets
            box = item.storage_index.offset or (0,) * len(inner)
            offset = [a + b for a, b in zip(box, inner, strict=True)]
            stored = self._groups[group]
            name = name if name in stored.tensors else EMBEDDING  # a tied head's
            target = planner.resolve_tensor(item).detach()
            target.copy_(stored.read(name, offset, item.lengths))
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def _described(stored: StoredTensor) -> TensorStorageMetadata:
    """A tensor as torch's index has it."""
    chunks = [
        ChunkStorageMetadata(torch.Size(box.offset), torch.Size(box.shape))
        for box in stored.boxes
    ]
    properties = TensorProperties(dtype=stored.torch_dtype)
    return TensorStorageMetadata(properties, torch.Size(stored.shape), chunks)
