"""`triptych sft`: fine-tune a model on conversations, the assistant's words only."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych import config
from triptych._core import Tokenizer
from triptych.commands.settings import TrainingSettings, check_stage, train_config
from triptych.commands.shell import finish
from triptych.commands.training import (
    Schedule,
    Watch,
    require_fixed,
    require_processes,
    require_run_folder,
    train,
)
from triptych.commands.tuning import planned, require_room, rows_of, shards_of
from triptych.conversation import read_conversations, write_conversations
from triptych.data import OrderedRows
from triptych.language_model import load_model, use_threads
from triptych.train import OptimizerConfig, SftObjective, TrainResult
from triptych.train.ranks import first_process_first, joined


@dataclass(frozen=True, kw_only=True)
class SftConfig(TrainingSettings):
    """A fine-tuning run; how it trains is in `TrainingSettings`.

    Attributes:
        model: run, checkpoint or Hugging Face folder to start from.
        conversations: JSONL files of `messages`, or one token shard folder.
        epochs: times each conversation is read.
        batch_size: rows a step.
        seq_len: tokens of a row.
        learning_rate: its peak (Llama 3, sec. 4.1, takes 1e-5 at 405B; small models
            take more).
        schedule: how the rate goes on from its peak: `constant`, `linear`, `cosine` or `wsd`.
        warmup_fraction: share of the steps in which the rate rises.
        min_lr_ratio: rate at the end, as a share of its peak.
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
            begin_again=lambda: load_model(opened.folder, settings.device).model,
        )


def order(settings: SftConfig, tokenizer: Tokenizer) -> OrderedRows:
    """The rows of every step; conversations are rendered into the run first."""
    folder = shards(settings.conversations, settings.output, tokenizer)
    return rows_of("sft", settings, folder)


def shards(paths: tuple[str, ...], output: str, tokenizer: Tokenizer) -> Path:
    """The token shard folder that `paths` name or, as files, are rendered into."""
    return shards_of(
        paths,
        output,
        lambda folder: write_conversations(
            read_conversations(paths), tokenizer, folder
        ),
        documents_per_unit=1,
    )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(SftConfig, options.config, options.overrides)
    return finish(options, settings, sft, lambda: plan(settings))


def plan(settings: SftConfig) -> dict[str, Any]:
    """Rows, fill and cuts of the run, as it would read them; its folder stays as it is."""
    return planned(settings, order)
