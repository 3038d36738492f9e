"""The runs of a ladder: every size for every duration, and the run that is predicted.

A run differs from the predicted one in its model and its length, and in what has to
follow these. Stages keep their shares and mixtures. By the recipe `step_law` learning
rates and batches move as Step Law (Li et al. 2025, eq. 1), the law of the dial, says that
they move from the predicted run's size and tokens to these: a configuration without rates
gets the law's own, and one whose rate was found by trial keeps its lead.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from triptych import config
from triptych._core import Tokenizer
from triptych.commands.pretrain import PretrainConfig, order
from triptych.curriculum import BatchRamp, StageConfig
from triptych.errors import ConfigError, InputError
from triptych.miniseries.fit import require_table
from triptych.miniseries.shapes import default_sizes, shape_of
from triptych.miniseries.table import LadderTable
from triptych.model import ModelConfig
from triptych.planner.advice import MAX_EPOCHS, Run, hyperparameters
from triptych.planner.planning import flops_per_slot

Trained: TypeAlias = tuple[ModelConfig, float]  # a model and the tokens it reads
Moved: TypeAlias = Callable[[Trained, Trained], dict[str, float]]

TARGET = "target"
DURATION_SHARES = (0.5, 1.0, 2.0)
MIN_WARMUP_STEPS = 10  # as in `curriculum.scaled_curriculum`
# What a run may be told otherwise when it goes on, as where memory did not suffice: none
# changes the result beyond rounding.
FREE = (
    "output",
    "threads",
    "device",
    "checkpoint_every_steps",
    "async_checkpoints",
    "micro_batch_rows",
    "recompute",
    "tensorboard",
    "tracking",
)


@dataclass(frozen=True)
class Point:
    """A run of the ladder.

    Attributes:
        name: of its folder.
        settings: as `triptych pretrain` takes them.
        parameters: those of matrix products, see `ladder.shapes`.
        tokens: of documents, padding left out.
        flops: as `triptych plan` counts.
        epochs: most passes over a source.
    """

    name: str
    settings: PretrainConfig
    parameters: int
    tokens: int
    flops: float
    epochs: float

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.num_steps for stage in self.settings.stages)

    @property
    def batch_tokens(self) -> int:
        """Slots of the largest batch."""
        seq_len = self.settings.seq_len
        stages = self.settings.stages
        return max(x.rows_per_step * (x.seq_len or seq_len) for x in stages)

    @property
    def learning_rate(self) -> float:
        """The highest."""
        return max(stage.learning_rate for stage in self.settings.stages)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a finished run to be this one."""
        mapping = config.to_mapping(self.settings)
        return {key: value for key, value in mapping.items() if key not in FREE}


def plan_points(settings: PretrainConfig) -> tuple[list[Point], Point]:
    """The runs to train, cheapest first, and the one to predict.

    Raises:
        ConfigError: there is nothing held out to measure by, or an impossible size.
    """
    if not settings.evaluation:
        raise ConfigError(
            "evaluation: expected a held-out token shard folder under [evaluation], as "
            "a ladder compares losses on it, found none"
        )
    table = settings.ladder or LadderTable()
    tokenizer = Tokenizer.from_file(settings.tokenizer)
    model = settings.model.model_config(tokenizer)
    target = _target(settings, model)
    sizes = table.sizes or default_sizes(settings.model, model, tokenizer)
    own = target.tokens / target.parameters
    durations = table.durations or tuple(own * share for share in DURATION_SHARES)
    moved = _step_law if _recipe(settings, table) == "step_law" else _same
    points = [
        _point(size, duration, target, model, tokenizer, moved)
        for size, duration in itertools.product(sizes, durations)
    ]
    _require_distinct(points)
    return sorted(points, key=lambda point: point.flops), target


def _require_distinct(points: list[Point]) -> None:
    """Refuses a run that is there twice, which the fit would take for one without noise."""
    seen: dict[str, str] = {}
    for point in points:
        other = seen.setdefault(_what_is_trained(point), point.name)
        if other != point.name:
            raise ConfigError(
                f"ladder: expected every run once, found `{other}` and `{point.name}`, "
                "which are the same model trained as long"
            )


def _what_is_trained(point: Point) -> str:
    mapping = point.identity()
    shape = {**mapping["model"], "size": None}
    return json.dumps({**mapping, "model": shape}, sort_keys=True, default=str)


def too_few(points: list[Point]) -> str:
    """Why no law could be fitted to these runs, as a sentence; empty where one could."""
    table = np.array([[point.parameters, point.tokens] for point in points], float)
    try:
        require_table(table)
    except InputError as error:
        return f"{error}: name more sizes or durations under [ladder]"
    return ""


def _recipe(settings: PretrainConfig, table: LadderTable) -> str:
    if settings.mup_base_width is None:
        return table.recipe or "step_law"
    if table.recipe == "step_law":
        raise ConfigError(
            'ladder.recipe: expected "same" beside `mup_base_width`, which moves rates '
            "with width itself, found `step_law`"
        )
    return "same"


def warnings(points: list[Point], target: Point) -> list[str]:
    """What a fit cannot know, as sentences."""
    found = [
        f"run `{point.name}`: {point.epochs:.1f} passes over a source; the law knows "
        f"no repetition, which costs beyond {MAX_EPOCHS:.0f} (Muennighoff et al. 2023)"
        for point in [*points, target]
        if point.epochs > MAX_EPOCHS
    ]
    found += [sentence] if (sentence := too_few(points)) else []
    largest = max(point.parameters for point in points)
    if largest >= target.parameters:
        found.append(
            f"the largest model of the ladder has {largest:,} parameters and the "
            f"predicted one {target.parameters:,}: nothing is predicted beyond it"
        )
    return found


def _target(settings: PretrainConfig, model: ModelConfig) -> Point:
    output = str(Path(settings.output) / TARGET)
    stages = tuple(
        dataclasses.replace(stage, exit=None) for stage in _measured(settings.stages)
    )
    settings = _by_stages(settings, output=output, stage=stages, ladder=None)
    return _counted(TARGET, settings, model)


def _by_stages(settings: PretrainConfig, **changes: Any) -> PretrainConfig:
    """Settings whose stages say themselves how long, how large and how fast they are."""
    return dataclasses.replace(
        settings, tokens=None, batch_tokens=None, learning_rate=None, **changes
    )


def _point(
    size: str,
    duration: float,
    target: Point,
    model: ModelConfig,
    tokenizer: Tokenizer,
    moved: Moved,
) -> Point:
    whole = target.settings
    shape = shape_of(size, whole.model, model)
    own = shape.model_config(tokenizer)
    tokens = duration * own.num_matmul_parameters()
    ratios = moved((own, tokens), (model, target.tokens))
    length = tokens / target.tokens
    stages = [_stage(stage, whole.seq_len, length, **ratios) for stage in whole.stages]
    name = f"{size}-{duration:g}"
    settings = _by_stages(
        whole,
        output=str(Path(whole.output).parent / "points" / name),
        model=shape,
        stage=tuple(stages),
        keep_checkpoints=1,
        keep_every_steps=None,
    )
    return _counted(name, settings, own)


def _stage(
    stage: StageConfig,
    seq_len: int,
    length: float,
    *,
    learning_rate: float,
    batch_tokens: float,
) -> StageConfig:
    """A stage of the predicted run, so many times as long, with scaled rate and batch."""
    row = stage.seq_len or seq_len
    first, batch_size = _batch(stage, batch_tokens)
    slots = stage.num_steps * stage.rows_per_step * row * length
    steps = max(1, round(slots / (batch_size * row)))
    share = steps / stage.num_steps
    warmup = max(round(stage.warmup_steps * share), MIN_WARMUP_STEPS)
    growing = _growing(stage, first, batch_size, steps)
    rises = [] if growing is None else [x for x, _ in growing.begins(batch_size)][1:]
    return dataclasses.replace(
        stage,
        steps=steps,
        data_fraction=None,
        batch_size=batch_size,
        batch_ramp=growing,
        learning_rate=stage.learning_rate * learning_rate,
        warmup_steps=min(warmup, steps) if stage.warmup_steps else 0,
        ramp_steps=min(round(stage.ramp_steps * share), *rises[:1], steps),
    )


def _batch(stage: StageConfig, ratio: float) -> tuple[int, int]:
    """Rows of a stage's first steps and of its last, both so many times as many.

    A batch that grows does so in as many levels as the predicted run's, or as it has rows:
    its mean stays the same share of the whole, and so do the data of the stage.
    """
    rows = max(1, round(stage.rows_per_step * ratio))
    if stage.batch_ramp is None:
        return rows, rows
    levels = min(stage.rows_per_step // stage.batch_ramp.first, rows)
    first = round(rows / levels)
    return first, first * levels


def _growing(stage: StageConfig, first: int, rows: int, steps: int) -> BatchRamp | None:
    """The stage's ramp over the same share of `steps`; None where nothing grows."""
    if stage.batch_ramp is None or first == rows:
        return None
    share = stage.batch_ramp.steps / stage.num_steps
    return BatchRamp(first=first, steps=min(max(round(share * steps), 1), steps))


def _measured(stages: tuple[StageConfig, ...]) -> list[StageConfig]:
    """The stages, of which the last one's end alone is measured, on every set."""
    quiet = [dataclasses.replace(stage, evaluation=()) for stage in stages[:-1]]
    return [*quiet, dataclasses.replace(stages[-1], evaluation=None)]


def _same(here: Trained, there: Trained) -> dict[str, float]:
    """By what rate and batch of one training are those of another: 1."""
    return {"learning_rate": 1.0, "batch_tokens": 1.0}


def _step_law(here: Trained, there: Trained) -> dict[str, float]:
    law, other = _law(*here), _law(*there)
    return {key: law[key] / other[key] for key in law}


def _law(model: ModelConfig, tokens: float) -> dict[str, float]:
    """Learning rate and batch in tokens that Step Law gives."""
    head = model.vocab_size * model.hidden_size
    run = Run(
        parameters=model.num_parameters(),
        matrix_parameters=model.num_matmul_parameters() - head,
        tokens=round(tokens),
        unique_tokens=round(tokens),
        batch_tokens=0,
        learning_rate=None,
        epochs={},
    )
    found = hyperparameters(run)["step_law2025"]
    return {name: found[name] for name in ("learning_rate", "batch_tokens")}


def _counted(name: str, settings: PretrainConfig, model: ModelConfig) -> Point:
    rows = order(settings)
    sources = rows.report()["sources"]
    flops = sum(
        stage.num_rows
        * (stage.seq_len or settings.seq_len)
        * flops_per_slot(model, stage.seq_len or settings.seq_len)
        for stage in settings.stages
    )
    return Point(
        name=name,
        settings=settings,
        parameters=model.num_matmul_parameters(),
        tokens=sum(rows.planned_tokens().values()),
        flops=flops,
        epochs=max(sum(x["epochs"] for x in source["packings"]) for source in sources),
    )
