"""`triptych average`: the last checkpoints of a run, merged into one model.

Of a run at a constant learning rate this takes the place of the rate's decay: Tian et
al. 2025, WSM (warm-up, stable, merge).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.artefact import require_named, verify
from triptych.commands.export import write
from triptych.config import require_numbers
from triptych.errors import ConfigError
from triptych.language_model import LanguageModel, load_model
from triptych.model.huggingface import CHECKPOINT_FORMAT, load_weights
from triptych.train import checkpoint
from triptych.train.averaging import merge_weights, merged
from triptych.train.metrics import read_metrics

logger = logging.getLogger("triptych.average")

DecayName = Literal["linear", "sqrt", "cosine"]


@dataclass(frozen=True, kw_only=True)
class AverageRunConfig:
    """Which checkpoints to merge, how, and where to write the model.

    Attributes:
        run: a training run that kept several checkpoints (`keep_checkpoints`,
            `keep_every_steps`).
        output: folder of the model, in Hugging Face layout.
        last: how many; None for all that the run has kept.
        decay: of the learning rate, which the merge emulates.
    """

    run: str
    output: str
    last: int | None = None
    decay: DecayName = "linear"

    def __post_init__(self) -> None:
        require_numbers(self)
        if self.last is not None and self.last < 1:
            raise ConfigError(f"last: expected at least 1, found {self.last!r}")


def average(settings: AverageRunConfig) -> Path:
    """Merges checkpoints, oldest counted first, and exports the result, verified.

    Raises:
        ConfigError: the run has not kept so many checkpoints.
        IntegrityError: a checkpoint is damaged.
    """
    folders = _chosen(settings)
    steps = [checkpoint.step_of(folder) for folder in folders]
    _warn_of_decay(Path(settings.run), steps)
    for folder in folders:
        require_named(folder, verify(folder, CHECKPOINT_FORMAT))
    shares = merge_weights(steps, settings.decay)
    opened = load_model(folders[-1])
    weights = merged(map(checkpoint.trained_weights, folders), shares)
    load_weights(opened.model, weights, folders[-1])
    made_from = {
        "decay": settings.decay,
        "checkpoints": {
            folder.name: {"share": share, "weights": checkpoint.weights_hash(folder)}
            for folder, share in zip(folders, shares, strict=True)
        },
    }
    write(LanguageModel(opened.model, opened.folder), settings.output, made_from)
    return Path(settings.output)


def _chosen(settings: AverageRunConfig) -> list[Path]:
    folder = Path(settings.run) / "checkpoints"
    kept = checkpoint.steps_in(folder)
    if not kept:
        raise ConfigError(
            f"no run at `{settings.run}`: expected checkpoints in `{folder}`, found none"
        )
    wanted = len(kept) if settings.last is None else settings.last
    if wanted > len(kept):
        raise ConfigError(
            f"last: expected at most the {len(kept)} checkpoints that `{settings.run}` "
            f"has kept, found {wanted}; `keep_checkpoints` and `keep_every_steps` say how "
            "many stay"
        )
    return kept[-wanted:]


def _warn_of_decay(run: Path, steps: Sequence[int]) -> None:
    """Says so where the rate fell between the checkpoints: it would decay twice."""
    rates = [x["lr"] for x in read_metrics(run) if steps[0] < x["step"] <= steps[-1]]
    if rates and min(rates) < 0.99 * max(rates):
        logger.warning(
            "the learning rate moved from %.3g to %.3g between the checkpoints: a merge "
            "stands for a decay of a constant one",
            rates[0],
            rates[-1],
        )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = AverageRunConfig(
        run=options.run, output=options.output, last=options.last, decay=options.decay
    )
    print(average(settings))
    return 0
