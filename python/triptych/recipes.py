"""Settings of whole runs, as functions that return complete configurations.

The comments do the arithmetic. `scale` is the share of the ten-minute demo that is
wanted: steps and epochs grow with it, nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.curriculum import CURRICULUM, StageConfig, TrainingStage

if TYPE_CHECKING:
    from triptych.commands.dpo import DpoConfig
    from triptych.commands.pretrain import PretrainConfig
    from triptych.commands.sft import SftConfig

SOURCES = ("novels", "government", "peps", "manuals", "arithmetic")
VOCAB_SIZE = (
    4096  # of 7 MB of text: 3.3 bytes a token; the embeddings stay a third of the model
)
MIN_WORDS = (
    32  # a school problem with its answer has about 100 words, under the usual 128
)
MAX_WORDS = 8192  # a chapter of a novel may be longer than the usual 4096

# Every source stays in every stage, so that nothing learnt is lost on the way.
MIXTURES: Mapping[TrainingStage, Mapping[str, float]] = {
    TrainingStage.FOUNDATION: dict(
        zip(SOURCES, (0.40, 0.25, 0.15, 0.10, 0.10), strict=True)
    ),
    TrainingStage.KNOWLEDGE: dict(
        zip(SOURCES, (0.20, 0.30, 0.25, 0.15, 0.10), strict=True)
    ),
    TrainingStage.REASONING: dict(
        zip(SOURCES, (0.20, 0.20, 0.25, 0.10, 0.25), strict=True)
    ),
    TrainingStage.SYNTHESIS: dict(
        zip(SOURCES, (0.30, 0.25, 0.25, 0.10, 0.10), strict=True)
    ),
}

SEQ_LEN = 256
PRETRAIN_STEPS = 800  # 1,000 took 9 min 47 s in all on a slow day of two cores
# Muon's, of the first stage; the others keep the founding ratios. After 300 steps 2.064 bits a
# byte, 2.070 at twice the rate, in 245 CPU seconds; 2.691 in 195 with AdamW at 5e-3, tied
# embeddings and a random start.
PEAK_LEARNING_RATE = 1e-2


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What all runs of a demo share."""

    output: Path
    seed: int
    threads: int
    scale: float


def scaled(count: int, scale: float) -> int:
    """`count` times `scale`, at least 1."""
    return max(1, round(count * scale))


def demo_stages(scale: float) -> tuple[StageConfig, ...]:
    """The founding curriculum at the demo's size: same shares, same ratios of rates."""
    peak = CURRICULUM[0].learning_rate
    founding_steps = sum(stage.num_steps for stage in CURRICULUM)
    return tuple(
        StageConfig(
            stage=stage.stage,
            data_fraction=stage.data_fraction,
            learning_rate=PEAK_LEARNING_RATE * stage.learning_rate / peak,
            batch_size=4,  # 4 rows * 256 = 1,024 tokens a step; 8 learn less a minute
            steps=scaled(
                round(PRETRAIN_STEPS * stage.num_steps / founding_steps), scale
            ),
            mixture=MIXTURES[TrainingStage(stage.stage)],
            schedule="linear",
            warmup_steps=scaled(30, scale) if index == 0 else 0,
            min_lr_ratio=_next_rate(index) / stage.learning_rate,
        )
        for index, stage in enumerate(CURRICULUM)
    )


def _next_rate(index: int) -> float:
    """Where a stage's rate goes: to the next one's start, the last one's to a tenth."""
    if index + 1 < len(CURRICULUM):
        return CURRICULUM[index + 1].learning_rate
    return CURRICULUM[index].learning_rate / 10


def demo_pretrain(run: RunSettings, sources: Mapping[str, Path]) -> PretrainConfig:
    """3.2 M parameters: 4 layers * 0.41 M + 2 * 4,096 * 192 outside.

    The recipe of docs/training.md for much in little time.
    """
    from triptych.commands.pretrain import PretrainConfig
    from triptych.model.shape import ModelShape
    from triptych.train import OptimizerConfig

    return PretrainConfig(
        output=str(run.output / "pretrain"),
        tokenizer=str(run.output / "tokenizer" / "tokenizer.json"),
        sources={name: str(folder) for name, folder in sources.items()},
        model=ModelShape(
            hidden_size=192,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
            start="bigram",
            initializer_range=192**-0.5,
            max_position_embeddings=2048,  # pairs of preferences are longer than rows
        ),
        stage=demo_stages(run.scale),
        optimizer=OptimizerConfig(
            name="muon",
            lr_convention="spectral",
            # Embeddings and output matrix begin near to where they stay.
            embedding_lr_ratio=0.15,
            head_lr_ratio=0.075,
            weight_decay=0.0,
            eps=1e-10,
        ),
        seq_len=SEQ_LEN,
        micro_batch_rows=4,
        checkpoint_every_steps=100,
        seed=run.seed,
        threads=run.threads,
    )


def demo_sft(run: RunSettings, model: Path, shards: Path) -> SftConfig:
    """About 900 conversations of 90 tokens, three times: 240,000 tokens."""
    from triptych.commands.sft import SftConfig

    return SftConfig(
        output=str(run.output / "sft"),
        model=str(model),
        conversations=(str(shards),),
        epochs=3.0 * run.scale,
        batch_size=8,
        seq_len=256,
        learning_rate=1e-3,
        checkpoint_every_steps=50,
        seed=run.seed,
        threads=run.threads,
    )


def demo_dpo(run: RunSettings, model: Path, shards: Path) -> DpoConfig:
    """About 350 pairs that fit 1,024 tokens, once."""
    from triptych.commands.dpo import DpoConfig

    return DpoConfig(
        output=str(run.output / "dpo"),
        model=str(model),
        preferences=(str(shards),),
        epochs=1.0 * run.scale,
        batch_size=8,
        seq_len=1024,
        learning_rate=1e-4,
        micro_batch_rows=4,
        checkpoint_every_steps=20,
        seed=run.seed,
        threads=run.threads,
    )
