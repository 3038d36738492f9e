"""How to train, and how a training ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from triptych.config import require_numbers
from triptych.errors import ConfigError
from triptych.train.averaging import AverageConfig
from triptych.train.early_exit import StageExit
from triptych.train.optimizer import LR_RATIOS, OptimizerConfig
from triptych.train.parallel import ParallelConfig
from triptych.train.schedule import StageSchedule
from triptych.train.tracking import TrackingConfig

FLOAT32_MAX = 3.4028234663852886e38
# Counts below these would train, save or keep nothing.
LEAST = {
    "micro_batch_rows": 1,
    "checkpoint_every_steps": 1,
    "keep_checkpoints": 1,
    "keep_every_steps": 1,
    "max_bad_steps": 1,
    "max_rewinds": 0,
}

Metrics = dict[str, Any]
CompileChoice = Literal["auto", True, False]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; the objective brings its own settings.

    Attributes:
        output: folder of the run.
        stages: learning rates by stage; their steps add up to the data's.
        exits: of each stage, when it ends before its last step; empty for never.
        micro_batch_rows: rows computed at once; changes memory, not the result.
        precision: `auto`, `fp32`, `bf16` or `fp16`. `auto` goes on as the run began; at first
            it is bf16 (on old GPUs fp16), on a CPU only with AMX or AMD's AVX-512 BF16.
        recompute: what the backward pass computes again instead of keeping it: `none`,
            `selective` (all but matrix products and attention) or `full` (layers);
            changes memory and time, not the result.
        compile: layers by torch.compile: `auto`, True or False; see `train.compiling`.
        checkpoint_every_steps: besides the end of every stage.
        keep_checkpoints: newest ones to keep.
        keep_every_steps: checkpoints of steps that it divides stay for good; None for
            none. It takes effect where `checkpoint_every_steps` saves.
        async_checkpoints: write them in a thread while training goes on; takes a copy
            of weights and optimiser in memory.
        seed: whatever is random at a step derives from (seed, step).
        clip_norm: largest norm of the gradient; None leaves it as it is.
        spike_sigmas: a loss or gradient norm so many deviations above the mean of the
            128 steps before is a fault like one that is not finite; None for none.
        max_bad_steps: so many faulty steps in a row send the run back to its last
            checkpoint before them, or its beginning, from where their data is left out.
        max_rewinds: how often; once more ends the run.
        parallel: how the processes share the model.
        tensorboard: write event files, if tensorboard is installed.
        tracking: where else metrics are shown; not part of what a run is.
        average: average the weights while training; what is evaluated and exported is
            then the average. None for none.
    """

    output: Path
    stages: Sequence[StageSchedule]
    exits: Sequence[StageExit | None] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    micro_batch_rows: int = 8
    precision: str = "auto"
    recompute: str = "none"
    compile: CompileChoice = "auto"
    checkpoint_every_steps: int = 200
    keep_checkpoints: int = 2
    keep_every_steps: int | None = None
    async_checkpoints: bool = False
    seed: int = 0
    clip_norm: float | None = 1.0  # Brown et al. 2020, appendix B
    spike_sigmas: float | None = 6.0  # OLMo 2's skip-step optimiser
    max_bad_steps: int = 20
    max_rewinds: int = 2
    tensorboard: bool = True
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    average: AverageConfig | None = None

    def __post_init__(self) -> None:
        require_numbers(self)
        self._check_stages()
        self._check_numbers()
        self._check_pairs()
        self._check_rates()

    def _check_stages(self) -> None:
        if not self.stages:
            raise ConfigError("stages: expected at least one, found none")
        if self.exits and len(self.exits) != len(self.stages):
            expected, found = len(self.stages), len(self.exits)
            raise ConfigError(f"exits: expected {expected}, one a stage, found {found}")

    def _check_numbers(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: expected at least {least}, found {value!r}")
        for name in ("clip_norm", "spike_sigmas"):
            value = getattr(self, name)
            if value is not None and value <= 0.0:
                raise ConfigError(f"{name}: expected above 0, found {value!r}")
        if self.compile not in ("auto", True, False):
            raise ConfigError(
                f"compile: expected `auto`, True or False, found {self.compile!r}"
            )

    def _check_pairs(self) -> None:
        """Settings that are good alone and not beside others."""
        if self.max_rewinds and self.parallel.elastic is not None:
            raise ConfigError(
                "max_rewinds: expected 0 with `parallel.elastic`, found "
                f"{self.max_rewinds}: copies do not go back together"
            )
        if self.optimizer.state_bits == 8 and self.parallel.is_sharded:
            raise ConfigError(
                "optimizer.state_bits: expected 32 with `parallel.shard` or "
                "`parallel.tensor`, found 8: numbers that share a scale would tie a "
                "checkpoint to its grid"
            )

    def _check_rates(self) -> None:
        """An update is computed in float32, which has no larger number."""
        settings = self.optimizer
        highest = max(stage.max_lr for stage in self.stages)
        decay = max(1.0, settings.weight_decay)
        factors = {"eps": 1.0, "weight_decay": highest}
        factors |= {name: highest * decay for name in LR_RATIOS}
        for name, factor in factors.items():
            value = getattr(settings, name)
            if value is not None and value * factor > FLOAT32_MAX:
                raise ConfigError(
                    f"optimizer.{name}: expected an update that float32 holds, at most "
                    f"{FLOAT32_MAX:.2g}, at a learning rate of {highest:g}, found "
                    f"{value!r}"
                )

    @property
    def num_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: steps done, in all.
        checkpoint_folder: the last checkpoint.
        tokens: tokens read, in all.
        skipped_steps: steps without an update, for a loss or gradient not trusted.
        metrics: those of the last step run; empty if there was nothing left to do.
        source_tokens: tokens read, in all, of each source.
    """

    step: int
    checkpoint_folder: Path
    tokens: int
    skipped_steps: int
    metrics: Metrics
    source_tokens: dict[str, int] = field(default_factory=dict)
