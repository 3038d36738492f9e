"""`triptych pretrain`: a base model from token shards, over a curriculum of stages."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from triptych import config
from triptych._core import Tokenizer
from triptych.commands.shell import finish
from triptych.commands.training import (
    ModelShape,
    PrecisionName,
    Watch,
    train,
    train_config,
)
from triptych.curriculum import StageConfig
from triptych.data import OrderedRows
from triptych.errors import ConfigError
from triptych.language_model import use_threads
from triptych.train import OptimizerConfig, PretrainObjective, TrainResult


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A pre-training run.

    Attributes:
        output: folder of the run; the same command again goes on from its last checkpoint.
        tokenizer: `tokenizer.json`.
        sources: token shard folder of each source, by the name that mixtures use.
        model: shape of the model.
        stage: the curriculum, in order.
        seq_len: tokens of a row where a stage does not say.
        micro_batch_rows: rows computed together; changes memory and speed, not results
            beyond rounding.
        z_loss: weight of lse² (PaLM: 1e-4).
        precision: of the matrix products; weights stay fp32.
        seed: of the weights and of the data order.
        threads: CPU threads; None takes all cores.
    """

    output: str
    tokenizer: str
    sources: dict[str, str]
    model: ModelShape
    stage: tuple[StageConfig, ...]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seq_len: int = 512
    micro_batch_rows: int = 8
    z_loss: float = 0.0
    precision: PrecisionName = "auto"
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 2
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        """Checks what no single field can."""
        if not self.stage:
            raise ConfigError("stage: expected at least one [[stage]], found none")
        longest = max(stage.seq_len or self.seq_len for stage in self.stage)
        limit = self.model.max_position_embeddings
        if longest > limit:
            raise ConfigError(
                f"seq_len: expected at most model.max_position_embeddings = {limit}, "
                f"found {longest}"
            )


def pretrain(settings: PretrainConfig, watch: Watch | None = None) -> TrainResult:
    """Trains a base model, or goes on training it.

    Raises:
        ConfigError: for a wrong path or setting, or shards of another tokenizer.
        IntegrityError: if a shard or checkpoint is not as its manifest says.
    """
    use_threads(settings.threads)
    tokenizer = Tokenizer.from_file(settings.tokenizer)
    return train(
        settings.model.build(tokenizer, seed=settings.seed),
        PretrainObjective(z_loss=settings.z_loss),
        order(settings),
        train_config(settings, settings.stage, settings.optimizer),
        tokenizer_path=settings.tokenizer,
        resolved=settings,
        watch=watch or Watch(),
    )


def order(settings: PretrainConfig) -> OrderedRows:
    """The rows of every step of the run."""
    return OrderedRows(
        settings.sources, settings.stage, seed=settings.seed, seq_len=settings.seq_len
    )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(PretrainConfig, options.config, options.overrides)
    return finish(options, settings, pretrain, lambda: order(settings).report())
