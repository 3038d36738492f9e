"""`triptych sft`: fine-tune a model on conversations, the assistant's words only."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych import config
from triptych._core import Tokenizer
from triptych.artefact import FILE_NAME, read_manifest
from triptych.commands.settings import TrainingSettings, check_stage, train_config
from triptych.commands.shell import finish
from triptych.commands.training import (
    Schedule,
    Watch,
    require_fixed,
    require_processes,
    require_run_folder,
    steps_for,
    train,
)
from triptych.conversation import read_conversations, write_conversations
from triptych.curriculum import StageConfig
from triptych.data import TOKENS_FORMAT, OrderedRows, TokenShards, require_rendered
from triptych.errors import ConfigError
from triptych.language_model import load_model, use_threads
from triptych.model import Transformer
from triptych.train import OptimizerConfig, SftObjective, TrainResult
from triptych.train.checkpoint import steps_in
from triptych.train.ranks import first_process_first, is_first_process, joined


@dataclass(frozen=True, kw_only=True)
class SftConfig(TrainingSettings):
    """A fine-tuning run; how it trains is in `TrainingSettings`.

    Attributes:
        model: run, checkpoint or Hugging Face folder to start from.
        conversations: JSONL files of `messages`, or one token shard folder.
        epochs: times each conversation is read.
        batch_size: rows a step.
        learning_rate: its peak (Llama 3, sec. 4.1, takes 1e-5 at 405B; small models
            take more).
        warmup_fraction: share of the steps in which the rate rises.
    """

    model: str
    conversations: tuple[str, ...]
    epochs: float = 3.0
    batch_size: int = 8
    seq_len: int = 512
    learning_rate: float = 2e-5
    schedule: Schedule = "cosine"
    warmup_fraction: float = 0.03
    min_lr_ratio: float = 0.1
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(weight_decay=0.0)
    )

    def __post_init__(self) -> None:
        """Checks how long it is to last."""
        require_fixed(self.parallel, "sft")
        super().__post_init__()
        check_stage(self)


def sft(settings: SftConfig, watch: Watch | None = None) -> TrainResult:
    """Fine-tunes a model, or goes on fine-tuning it.

    Raises:
        ConfigError: for a wrong path or setting, or shards of another tokenizer.
        InputError: for a record that is not a conversation, with its line.
        IntegrityError: if a shard or checkpoint is not as its manifest says.
    """
    require_run_folder(settings.output, "sft")
    require_processes(settings.parallel)
    use_threads(settings.threads)
    opened = load_model(settings.model, settings.device)
    with joined():
        with first_process_first():
            data = order(settings, opened.tokenizer)
        require_room(opened.model, data)
        return train(
            opened.model,
            SftObjective(),
            data,
            train_config(settings, data.stages),
            tokenizer_path=opened.folder / "tokenizer.json",
            resolved=settings,
            watch=watch or Watch(),
        )


def order(settings: SftConfig, tokenizer: Tokenizer) -> OrderedRows:
    """The rows of every step; conversations are rendered into the run first."""
    folder = shards(settings.conversations, settings.output, tokenizer)
    stage = single_stage("sft", settings, folder)
    return OrderedRows(
        {"data": folder}, [stage], seed=settings.seed, seq_len=settings.seq_len
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


def shards(paths: tuple[str, ...], output: str, tokenizer: Tokenizer) -> Path:
    """The token shard folder that `paths` name or, as files, are rendered into."""
    if len(paths) == 1 and Path(paths[0]).is_dir():
        require_rendered(paths[0], documents_per_unit=1)
        return Path(paths[0])
    return rendered(
        Path(output),
        lambda folder: write_conversations(
            read_conversations(paths), tokenizer, folder
        ),
    )


def rendered(run: Path, write: Callable[[Path], object]) -> Path:
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


def single_stage(name: str, settings: Any, folder: Path) -> StageConfig:
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


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(SftConfig, options.config, options.overrides)
    return finish(options, settings, sft, lambda: plan(settings))


def plan(settings: SftConfig) -> dict[str, Any]:
    """Rows, fill and cuts of the run, as it would read them; its folder stays as it is."""
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = dataclasses.replace(settings, output=scratch)
        return order(elsewhere, load_model(settings.model).tokenizer).report()
