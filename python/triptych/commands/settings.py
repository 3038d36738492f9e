"""What `pretrain`, `sft` and `dpo` may all be told about how they train.

One definition: a command adds what it trains on, and its own defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from triptych.config import require_numbers
from triptych.curriculum import StageConfig
from triptych.device import DeviceName
from triptych.errors import ConfigError
from triptych.train import (
    AverageConfig,
    OptimizerConfig,
    StageExit,
    StageSchedule,
    TrackingConfig,
    TrainConfig,
)
from triptych.train.parallel import ParallelConfig
from triptych.train.train_config import CompileChoice

# Stands for stages that a command may know only later.
_ANY_STAGE = StageConfig(stage="any", learning_rate=1.0, batch_size=1, steps=1)

PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
RecomputeName = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a command trains.

    Attributes:
        output: folder of the run; the same command again goes on from its last checkpoint.
        router_aux_loss_coef: weight of the loss that balances experts; None for that of
            the model, 0 for none.
        average: a running average of the weights, which is then what is evaluated and
            exported.
        micro_batch_rows: rows computed together; changes memory and speed, not results
            beyond rounding.
        precision: of the matrix products; weights stay fp32. `auto` is bf16 on a GPU, and on
            a CPU with AMX or AMD's AVX-512 BF16, else fp32. A run goes on as it began.
        recompute: activations that are computed again to save memory: `none`, `selective` or
            `full`; changes memory and time, not the result.
        compile: layers by torch.compile: `"auto"` where it pays, which is measured before
            the first step; `true` or `false`. A run goes on as it began.
        checkpoint_every_steps: besides the end of every stage.
        keep_checkpoints: newest ones to keep.
        keep_every_steps: checkpoints of steps that it divides are never removed.
        async_checkpoints: write checkpoints beside the training, from a copy in memory.
        seed: of the weights and of the data order; below 2^32.
        clip_norm: largest norm of the gradient; 0 leaves it as it is.
        spike_sigmas: a loss or gradient norm so many deviations above the mean of 128
            steps is not updated by; 0 for no such rule.
        max_bad_steps: so many such steps in a row, and the run goes back to before them.
        max_rewinds: times that it goes back, leaving their data out.
        tensorboard: write event files, where tensorboard is installed.
        tracking: where else metrics are shown; `metrics.jsonl` has them all.
        parallel: how the processes of `torchrun` share the model.
        threads: CPU threads; None takes all cores.
        device: `auto` is a GPU that torch finds, else the CPU; `cpu` or `cuda`.
    """

    output: str
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    router_aux_loss_coef: float | None = None
    average: AverageConfig | None = None
    micro_batch_rows: int = 8
    precision: PrecisionName = "auto"
    recompute: RecomputeName = "none"
    compile: CompileChoice = "auto"
    checkpoint_every_steps: int = TrainConfig.checkpoint_every_steps
    keep_checkpoints: int = TrainConfig.keep_checkpoints
    keep_every_steps: int | None = None
    async_checkpoints: bool = False
    seed: int = 0
    clip_norm: float = TrainConfig.clip_norm or 0.0
    spike_sigmas: float = TrainConfig.spike_sigmas or 0.0
    max_bad_steps: int = TrainConfig.max_bad_steps
    max_rewinds: int = TrainConfig.max_rewinds
    tensorboard: bool = True
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    threads: int | None = None
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        """Checks what is used before there is a Trainer, and what it would refuse itself.

        Else a dry run would pass, and a run read its evaluation sets before it ended.
        """
        require_numbers(self)
        if not self.output:
            raise ConfigError("output: expected a folder, found an empty name")
        for name in ("clip_norm", "spike_sigmas", "router_aux_loss_coef"):
            value = getattr(self, name)
            if value is not None and value < 0.0:
                raise ConfigError(f"{name}: expected at least 0, found {value}")
        # (seed, step) makes one number of 64 bits, see `gradient.step_seed`.
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed: expected from 0 to 2^32 - 1, found {self.seed}")
        train_config(self, (_ANY_STAGE,))


def check_stage(settings: Any) -> None:
    """What says how long a run over one source is, and at which rates and lengths.

    Args:
        settings: of `sft` or `dpo`, whose one stage is known with its data.

    Raises:
        ConfigError: naming what cannot be.
    """
    checks = {
        "epochs": (settings.epochs > 0.0, "above 0"),
        "batch_size": (settings.batch_size >= 1, "at least 1"),
        "warmup_fraction": (0.0 <= settings.warmup_fraction <= 1.0, "in [0, 1]"),
    }
    for name, (good, expected) in checks.items():
        if not good:
            found = getattr(settings, name)
            raise ConfigError(f"{name}: expected {expected}, found {found}")
    names = ("learning_rate", "batch_size", "seq_len", "schedule", "min_lr_ratio")
    StageConfig(stage="any", steps=1, **{x: getattr(settings, x) for x in names})


def train_config(
    settings: TrainingSettings, stages: Sequence[StageConfig]
) -> TrainConfig:
    """The Trainer's own settings, out of a command's."""
    return TrainConfig(
        output=Path(settings.output),
        optimizer=settings.optimizer,
        parallel=settings.parallel,
        average=settings.average,
        stages=tuple(map(_schedule, stages)),
        exits=tuple(map(_exit, stages)),
        micro_batch_rows=settings.micro_batch_rows,
        precision=settings.precision,
        recompute=settings.recompute,
        compile=settings.compile,
        checkpoint_every_steps=settings.checkpoint_every_steps,
        keep_checkpoints=settings.keep_checkpoints,
        keep_every_steps=settings.keep_every_steps,
        async_checkpoints=settings.async_checkpoints,
        seed=settings.seed,
        clip_norm=settings.clip_norm or None,
        spike_sigmas=settings.spike_sigmas or None,
        max_bad_steps=settings.max_bad_steps,
        max_rewinds=settings.max_rewinds,
        tensorboard=settings.tensorboard,
        tracking=settings.tracking,
    )


def _schedule(stage: StageConfig) -> StageSchedule:
    return StageSchedule(
        name=stage.name,
        steps=stage.num_steps,
        max_lr=stage.learning_rate,
        min_lr_ratio=stage.floor_ratio,
        warmup_steps=stage.warmup_steps,
        schedule=stage.schedule,
        decay_ratio=stage.decay_ratio,
    )


def _exit(stage: StageConfig) -> StageExit | None:
    if stage.exit is None:
        return None
    growing = 0 if stage.batch_ramp is None else stage.batch_ramp.steps
    earliest = max(stage.warmup_steps, stage.ramp_steps, growing)
    return StageExit(condition=stage.exit, earliest_steps=earliest)
