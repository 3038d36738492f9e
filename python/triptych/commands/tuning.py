"""What `sft` and `dpo` share: texts rendered into a run, rows over them, their plan."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triptych._core import Tokenizer
from triptych.artefact import FILE_NAME, read_manifest
from triptych.commands.training import steps_for
from triptych.curriculum import StageConfig
from triptych.data import TOKENS_FORMAT, OrderedRows, TokenShards, require_rendered
from triptych.errors import ConfigError
from triptych.language_model import load_model
from triptych.model import Transformer
from triptych.tokens import local_shards
from triptych.train.checkpoint import steps_in
from triptych.train.ranks import is_first_process


def rows_of(name: str, settings: Any, folder: Path) -> OrderedRows:
    """The rows of every step over the shards of a folder, in one stage of that name."""
    stage = _stage(name, settings, folder)
    return OrderedRows(
        {"data": folder}, [stage], seed=settings.seed, seq_len=settings.seq_len
    )


def _stage(name: str, settings: Any, folder: Path) -> StageConfig:
    """The stage table of a run over one source, `settings.epochs` long."""
    steps = steps_for(
        folder,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seq_len=settings.seq_len,
    )
    return StageConfig(
        stage=name,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        steps=steps,
        seq_len=settings.seq_len,
        # A decay's last step is at its floor, which is 0 for `dpo`: alone it would learn nothing.
        schedule=settings.schedule if steps > 1 else "constant",
        warmup_steps=round(settings.warmup_fraction * steps),
        min_lr_ratio=settings.min_lr_ratio,
    )


def require_room(model: Transformer, data: OrderedRows) -> None:
    """Refuses texts that the model reads only in parts, or never learnt to.

    Rows may be longer than what it reads, as long as the documents in them are not.

    Raises:
        ConfigError: naming both lengths.
    """
    limit = model.config.max_position_embeddings
    if data.seq_len <= limit:
        return
    for folder in data.sources.values():
        longest = min(int(TokenShards(folder).lengths.max(initial=0)), data.seq_len)
        if longest > limit:
            raise ConfigError(
                f"seq_len: expected at most {limit}, the model's max_position_embeddings, "
                f"as `{folder}` has longer texts, found {data.seq_len}"
            )


def shards_of(
    paths: Sequence[str],
    output: str,
    write: Callable[[Path], object],
    *,
    documents_per_unit: int,
) -> Path:
    """The token shard folder that `paths` name, on this machine or at an address.

    Files are rendered into a run by `write`.
    """
    if not paths:
        key = "preferences" if documents_per_unit == 2 else "conversations"
        raise ConfigError(f"{key}: expected at least one file or folder, found none")
    if len(paths) == 1 and (folder := local_shards(paths[0])).is_dir():
        require_rendered(folder, documents_per_unit=documents_per_unit)
        return folder
    return _rendered(Path(output), write)


def _rendered(run: Path, write: Callable[[Path], object]) -> Path:
    """The token shard folder of a run, which `write` renders; others find it there.

    What a run was trained with stays: without it nobody could go on.

    Raises:
        ConfigError: the run has checkpoints, of other texts.
    """
    folder = run / "tokens"
    made = (folder / FILE_NAME).is_file()
    if made and not is_first_process():
        return folder
    if not made or not steps_in(run / "checkpoints"):
        write(folder)
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "tokens"
        write(again)
        same = _texts_of(again) == _texts_of(folder)
    if not same:
        raise ConfigError(
            f"`{folder}` belongs to another run: expected the texts that its checkpoints "
            "were trained with, found others; choose another output folder"
        )
    return folder


def _texts_of(folder: Path) -> tuple[Any, ...]:
    """What tells the tokens and masks of a folder from others.

    Not the names of documents, which hold the path of a file as it was written, nor the
    version of triptych: a run goes on though both changed.
    """
    found = read_manifest(folder, TOKENS_FORMAT)
    files = {name: x for name, x in found.files.items() if name.endswith(".bin")}
    return found.made_from, found.content, files


def planned(
    settings: Any, order: Callable[[Any, Tokenizer], OrderedRows]
) -> dict[str, Any]:
    """The report of the rows of a run, whose texts are rendered elsewhere for that."""
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = dataclasses.replace(settings, output=scratch)
        return order(elsewhere, load_model(settings.model).tokenizer).report()
