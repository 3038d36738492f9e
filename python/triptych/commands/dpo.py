"""`triptych dpo`: align a model with preferences (Rafailov et al. 2023)."""

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
    check_data,
    require_fixed,
    require_processes,
    require_run_folder,
    train,
)
from triptych.commands.tuning import planned, require_room, rows_of, shards_of
from triptych.conversation import read_preferences, write_preferences
from triptych.data import OrderedRows
from triptych.errors import ConfigError
from triptych.language_model import LanguageModel, load_model, use_threads
from triptych.train import (
    DpoObjective,
    OptimizerConfig,
    ReferenceLogps,
    TrainResult,
    reference_logps,
)
from triptych.train.checkpoint import weights_hash
from triptych.train.ranks import first_process_first, joined


@dataclass(frozen=True, kw_only=True)
class DpoConfig(TrainingSettings):
    """An alignment run; the model it starts from is its reference.

    How it trains is in `TrainingSettings`.

    Attributes:
        model: run, checkpoint or Hugging Face folder to start from.
        preferences: JSONL files of `prompt`, `chosen`, `rejected`, or one shard folder.
        beta: strength of the pull to the reference (TRL and the paper: 0.1).
        label_smoothing: share of pairs assumed labelled wrongly (cDPO).
        epochs: times each pair is read.
        batch_size: rows a step.
        seq_len: most tokens of a pair, both replies with their prompts; longer pairs
            are left out and counted.
        learning_rate: its peak (TRL: 1e-6 for billions of parameters; small models
            take more).
        schedule: how the rate goes on from its peak: `constant`, `linear`, `cosine` or `wsd`.
        warmup_fraction: share of the steps in which the rate rises.
        min_lr_ratio: rate at the end, as a share of its peak.
    """

    model: str
    preferences: tuple[str, ...]
    beta: float = 0.1
    label_smoothing: float = 0.0
    epochs: float = 1.0
    batch_size: int = 8
    seq_len: int = 2048
    learning_rate: float = 1e-6
    schedule: Schedule = "linear"
    warmup_fraction: float = 0.1
    min_lr_ratio: float = 0.0
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(weight_decay=0.0)
    )
    micro_batch_rows: int = 2

    def __post_init__(self) -> None:
        """Checks what would be found behind the reference; a pair's tokens stay together."""
        require_fixed(self.parallel, "dpo")
        super().__post_init__()
        check_stage(self)
        self.objective(ReferenceLogps())
        if self.parallel.context > 1:
            raise ConfigError(
                "parallel.context: expected 1 for `triptych dpo`, found "
                f"{self.parallel.context}: the tokens of a pair stay together; use "
                "`parallel.shard`"
            )

    def objective(self, reference: ReferenceLogps) -> DpoObjective:
        """What is learnt, measured from the reference."""
        return DpoObjective(
            reference, beta=self.beta, label_smoothing=self.label_smoothing
        )


def dpo(settings: DpoConfig, watch: Watch | None = None) -> TrainResult:
    """Aligns a model, or goes on aligning it; the reference is computed once.

    Raises:
        ConfigError: for a wrong path or setting, or shards of another tokenizer.
        InputError: for a record that is not a pair, with its line.
        IntegrityError: if a shard or checkpoint is not as its manifest says.
    """
    require_run_folder(settings.output, "dpo")
    require_processes(settings.parallel)
    use_threads(settings.threads)
    opened = load_model(settings.model, settings.device)
    with joined():
        with first_process_first():
            data = order(settings, opened.tokenizer)
        require_room(opened.model, data)
        return _align(settings, opened, data, watch or Watch())


def _align(
    settings: DpoConfig, opened: LanguageModel, data: OrderedRows, watch: Watch
) -> TrainResult:
    tokenizer_path = opened.folder / "tokenizer.json"
    check_data(data, tokenizer_path)
    how = train_config(settings, data.stages)  # checked before what takes long
    return train(
        opened.model,
        settings.objective(_reference(settings, opened, data)),
        data,
        how,
        tokenizer_path=tokenizer_path,
        resolved=settings,
        watch=watch,
        begin_again=lambda: load_model(opened.folder, settings.device).model,
    )


def _reference(
    settings: DpoConfig, opened: LanguageModel, data: OrderedRows
) -> ReferenceLogps:
    """The reference's log-probabilities, computed once and kept beside the run."""
    return reference_logps(
        opened.model,
        data,
        cache=Path(settings.output) / "reference",
        made_from={
            "weights": weights_hash(opened.folder),
            "data": data.fingerprint,
            "precision": settings.precision,
        },
        micro_batch_rows=settings.micro_batch_rows,
        precision=settings.precision,
    )


def order(settings: DpoConfig, tokenizer: Tokenizer) -> OrderedRows:
    """The rows of every step; preferences are rendered into the run first."""
    folder = shards(settings.preferences, settings.output, tokenizer)
    return rows_of("dpo", settings, folder)


def shards(paths: tuple[str, ...], output: str, tokenizer: Tokenizer) -> Path:
    """The token shard folder that `paths` name or, as files, are rendered into."""
    return shards_of(
        paths,
        output,
        lambda folder: write_preferences(read_preferences(paths), tokenizer, folder),
        documents_per_unit=2,
    )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(DpoConfig, options.config, options.overrides)
    return finish(options, settings, dpo, lambda: plan(settings))


def plan(settings: DpoConfig) -> dict[str, Any]:
    """Rows, fill and pairs left out, as the run would read them; its folder stays."""
    return planned(settings, order)
