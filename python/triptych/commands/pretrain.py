"""`triptych pretrain`: a base model from token shards, over a curriculum of stages."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych import artefact, config
from triptych._core import Tokenizer
from triptych.bigrams import count_bigrams
from triptych.commands.settings import TrainingSettings, train_config
from triptych.commands.shell import finish
from triptych.commands.training import (
    RUN_FILE,
    Watch,
    require_processes,
    require_run_folder,
    train,
)
from triptych.curriculum import StageConfig, scaled_curriculum
from triptych.data import OrderedRows, TokenShards, require_same_tokenizer
from triptych.device import local_device
from triptych.errors import ConfigError
from triptych.evaluate import ALL, NO_SOURCE, bits_per_byte
from triptych.language_model import use_threads
from triptych.miniseries.table import LadderTable
from triptych.model import Transformer
from triptych.model.families import family_named
from triptych.model.shape import ModelShape
from triptych.train import (
    OptimizerConfig,
    PretrainObjective,
    TrainConfig,
    TrainResult,
    checkpoint,
)
from triptych.train.bigram_start import start_from_bigrams
from triptych.train.metrics import EvaluationLog
from triptych.train.mup import narrow_rates, narrow_start
from triptych.train.ranks import Ranks, is_first_process
from triptych.train.run_lock import only_run_in

logger = logging.getLogger("triptych.train")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingSettings):
    """A pre-training run; how it trains is in `TrainingSettings`.

    Attributes:
        tokenizer: `tokenizer.json`.
        sources: token shard folder of each source, by the name that mixtures use; an
            `s3://`, `gs://` or `https://` address is copied and checked first.
        model: shape of the model; its `size` also sets what the founding four are
            scaled by, where that is not given.
        stage: the curriculum, in order; none for the founding four, scaled to `tokens`.
        tokens: slots of all stages together, which `data_fraction` is a share of.
        batch_tokens: slots a step of the founding four.
        learning_rate: peak of the founding four.
        evaluation: token shard folder of each set read at the start and the ends of stages.
        skip: windows `[first, end)` of data steps to leave out.
        max_epochs: most passes over a source, by name.
        seq_len: tokens of a row where a stage does not say.
        z_loss: weight of lse² (PaLM: 1e-4).
        mup_base_width: `hidden_size` that rates and `initializer_range` are meant for; the
            model's own are derived by muP. None takes them as they are.
        ladder: sizes and durations that `triptych ladder` trains.
    """

    tokenizer: str
    sources: dict[str, str]
    model: ModelShape
    stage: tuple[StageConfig, ...] = ()
    tokens: int | None = None
    batch_tokens: int | None = None
    learning_rate: float | None = None
    evaluation: dict[str, str] = field(default_factory=dict)
    skip: tuple[tuple[int, int], ...] = ()
    max_epochs: dict[str, float] = field(default_factory=dict)
    seq_len: int = 512
    z_loss: float = 0.0
    mup_base_width: int | None = None
    # At one rate 2.157 bits a byte where AdamW has 2.561: docs/training.md.
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="muon")
    )
    checkpoint_every_steps: int = 500
    ladder: LadderTable | None = None

    def __post_init__(self) -> None:
        """Checks what no single field can."""
        super().__post_init__()
        PretrainObjective(z_loss=self.z_loss)
        self._check_scale()
        self._check_mup()
        self._check_names()
        for window in self.skip:
            if len(window) != 2 or not 0 <= window[0] < window[1]:
                raise ConfigError(
                    "skip: expected windows `[first, end)` of data steps, 0 <= first < "
                    f"end, found {list(window)}"
                )
        if ALL in self.evaluation:
            raise ConfigError(f"evaluation.{ALL}: {NO_SOURCE}")
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Rows are as long as the model reads, and hold more than one token."""
        if self.seq_len < 2:
            raise ConfigError(f"seq_len: expected >= 2, found {self.seq_len}")
        limit = self.model.max_position_embeddings
        for number in range(len(self.stages)):
            own = self.stage[number].seq_len if self.stage else None
            key = "seq_len" if own is None else f"stage[{number}].seq_len"
            length = own or self.seq_len
            if length > limit:
                raise ConfigError(
                    f"{key}: expected at most model.max_position_embeddings = {limit}, "
                    f"found {length}"
                )

    def _check_names(self) -> None:
        """Stages have names of their own; the sources and sets that they name are there."""
        for name, most in self.max_epochs.items():
            self._check_source(f"max_epochs.{name}", name)
            if most <= 0:
                raise ConfigError(f"max_epochs.{name}: expected > 0, found {most}")
        for number, stage in enumerate(self.stage):
            for name in stage.mixture:
                self._check_source(f"stage[{number}].mixture.{name}", name)
            self._check_stage(stage, number)

    def _check_source(self, key: str, name: str) -> None:
        if name not in self.sources:
            raise ConfigError(
                f"{key}: expected a name of [sources] ({', '.join(self.sources)}), "
                f"found `{name}`{config.nearest(name, self.sources)}"
            )

    def _check_stage(self, stage: StageConfig, number: int) -> None:
        key = f"stage[{number}]"
        if stage.name in [before.name for before in self.stage[:number]]:
            raise ConfigError(
                f"{key}.stage: expected a name of its own, found `{stage.name}` twice"
            )
        for name in stage.evaluation or ():
            if name not in self.evaluation:
                known = ", ".join(self.evaluation) or "none"
                raise ConfigError(
                    f"{key}.evaluation: expected names of [evaluation] ({known}), "
                    f"found `{name}`"
                )
        if number == 0 and stage.ramp_steps:
            raise ConfigError(
                f"{key}.ramp_steps: expected 0, as no stage is before it, found "
                f"{stage.ramp_steps}"
            )

    def _check_scale(self) -> None:
        """What scales stages is above 0, and not given where it would do nothing."""
        if self.tokens is not None and self.tokens < 1:
            raise ConfigError(f"tokens: expected at least 1, found {self.tokens}")
        if not self.stage:
            return
        self._check_shares()
        unused = ["batch_tokens", "learning_rate"]
        if all(x.steps or x.tokens for x in self.stage):
            unused.append("tokens")
        for name in unused:
            value = getattr(self, name)
            if value is not None:
                raise ConfigError(
                    f"{name}: expected none beside [[stage]], whose tables have their "
                    f"own, found {value}"
                )

    def _check_shares(self) -> None:
        """What stages take of the run's `tokens` is no more than there is."""
        taken = 0.0
        for number, stage in enumerate(self.stage):
            if not stage.steps and not stage.tokens:
                taken += stage.data_fraction or 0.0
            if taken > 1 + 1e-9:  # decimals that sum to 1 may do so not quite
                raise ConfigError(
                    f"stage[{number}].data_fraction: expected shares of `tokens` that "
                    f"sum to at most 1, found {taken:g}"
                )

    def _check_mup(self) -> None:
        if self.mup_base_width is None:
            return
        if self.mup_base_width < 1:
            raise ConfigError(
                f"mup_base_width: expected at least 1, found {self.mup_base_width}"
            )
        if self.model.start != "random" or self.model.tie_word_embeddings:
            raise ConfigError(
                'mup_base_width: expected `start = "random"` and `tie_word_embeddings = '
                "false` in [model], which leave an output matrix to be scaled, found "
                "another"
            )

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """The curriculum with every duration in steps and every batch in rows."""
        if self.stage:
            return tuple(self._resolved(number) for number in range(len(self.stage)))
        wanted = ("tokens", "batch_tokens", "learning_rate")
        values = self.model.recipe(self.tokens)
        for name in wanted:
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        missing = [f"`{name}`" for name in wanted if name not in values]
        if missing:
            raise ConfigError(
                "stage: expected at least one [[stage]], or "
                f"{', '.join(f'`{name}`' for name in wanted)} for the founding four, "
                f"found no stage and no {' and no '.join(missing)}"
            )
        return scaled_curriculum(
            tokens=int(values["tokens"]),
            batch_tokens=int(values["batch_tokens"]),
            learning_rate=values["learning_rate"],
            seq_len=self.seq_len,
        )

    def _resolved(self, number: int) -> StageConfig:
        try:
            return self.stage[number].resolved(self.seq_len, self.tokens)
        except ConfigError as error:  # what does not fit is known from here on
            raise ConfigError(f"stage[{number}]: {error}") from None


def settings_of(run: Path) -> PretrainConfig:
    """The settings of a run, from its folder.

    Raises:
        ConfigError: there is no run, or it is one of another command.
    """
    path = run / RUN_FILE
    if not path.is_file():
        raise ConfigError(f"no run at `{run}`: expected a folder with `{RUN_FILE}`")
    table = artefact.read_json(path)
    if "sources" not in table:
        raise ConfigError(
            f"`{path}`: expected a run of `triptych pretrain`, found keys "
            f"{sorted(table)[:5]}, as of another command"
        )
    return config.from_mapping(PretrainConfig, table, name=str(path))


def pretrain(settings: PretrainConfig, watch: Watch | None = None) -> TrainResult:
    """Trains a base model, or goes on training it.

    Raises:
        ConfigError: for a wrong path or setting, or shards of another tokenizer.
        IntegrityError: if a shard or checkpoint is not as its manifest says.
    """
    require_run_folder(settings.output, "pretrain")
    use_threads(settings.threads)
    tokenizer = Tokenizer.from_file(settings.tokenizer)
    _check_split(settings, tokenizer)
    watch = with_evaluation(settings, tokenizer, watch or Watch())
    data = _data(settings, tokenizer)

    def first_model() -> Transformer:
        model = settings.model.build(tokenizer, seed=settings.seed)
        begin(settings, data, model)
        return model.to(local_device(settings.device))

    model = first_model()
    evaluate_start(settings, tokenizer, model)
    return train(
        model,
        PretrainObjective(z_loss=settings.z_loss),
        data,
        _train_config(settings, model.config.hidden_size),
        tokenizer_path=settings.tokenizer,
        resolved=settings,
        watch=watch,
        begin_again=first_model,
    )


def _check_split(settings: PretrainConfig, tokenizer: Tokenizer) -> None:
    """Refuses a run that begins whose model transformers would feed other ids."""
    named = settings.model.model_type
    split = None if named is None else family_named(named).split
    if split is None or _checkpoints(settings):
        return
    if json.dumps(split) not in json.dumps(json.loads(tokenizer.to_str())):
        raise ConfigError(
            f"model.model_type: expected another than `{named}`, or a tokenizer trained "
            f"with `--pattern {named}`, by which transformers splits the text of all "
            f"these models, found `{settings.tokenizer}`, which splits it otherwise"
        )


def _train_config(settings: PretrainConfig, width: int) -> TrainConfig:
    found = train_config(settings, settings.stages)
    if settings.mup_base_width is None:
        return found
    rates = narrow_rates(found.optimizer, width, settings.mup_base_width)
    return dataclasses.replace(found, optimizer=rates)


def with_evaluation(
    settings: PretrainConfig, tokenizer: Tokenizer, watch: Watch
) -> Watch:
    """The same watch, which also reads the evaluation sets where a stage ends."""
    if not settings.evaluation:
        return watch
    sets = {name: TokenShards(folder) for name, folder in settings.evaluation.items()}
    require_same_tokenizer(settings.evaluation, tokenizer.sha256)
    chosen = {stage.name: stage.evaluation for stage in settings.stages}

    def on_stage_end(stage: str, step: int, model: Transformer) -> None:
        names = chosen[stage]
        wanted = sets if names is None else {name: sets[name] for name in names}
        if wanted:
            _evaluate(
                settings, tokenizer, model, wanted, {"step": step, "stage": stage}
            )
        if watch.on_stage_end is not None:
            watch.on_stage_end(stage, step, model)

    return dataclasses.replace(watch, on_stage_end=on_stage_end)


def begin(settings: PretrainConfig, data: OrderedRows, model: Transformer) -> None:
    """Gives a model that is not trained yet the start that its settings name."""
    if _checkpoints(settings):
        return
    require_processes(settings.parallel, data)
    if not is_first_process():  # which sends its weights to all, before the first step
        return
    if settings.mup_base_width is not None:
        narrow_start(model, settings.mup_base_width)
    if settings.model.start == "bigram":
        _start_from_counts(settings, data, model)


def _start_from_counts(
    settings: PretrainConfig, data: OrderedRows, model: Transformer
) -> None:
    logger.info("start: counting which tokens follow which")
    sources = {name: TokenShards(folder) for name, folder in data.sources.items()}
    size = model.config.vocab_size
    counts = count_bigrams(sources, data.planned_tokens(), size)
    logger.info("start: %d pairs; finding embeddings for them", len(counts.counts))
    start_from_bigrams(model, counts, seed=settings.seed)


def _checkpoints(settings: PretrainConfig) -> bool:
    """Whether the run has gone on before."""
    return bool(checkpoint.steps_in(Path(settings.output) / "checkpoints"))


def evaluate_start(
    settings: PretrainConfig, tokenizer: Tokenizer, model: Transformer
) -> None:
    """Reads the evaluation sets with the weights that a run begins with.

    Until there is a checkpoint, a run may begin again as another one, whose own lines
    take the place of those that stand there. Of copies that come and go none is known to
    be the first yet: they do not.
    """
    if settings.parallel.elastic is not None:
        return
    if not settings.evaluation or not is_first_process():
        return
    sets = {name: TokenShards(path) for name, path in settings.evaluation.items()}
    with only_run_in(Path(settings.output), Ranks()):
        if not _checkpoints(settings):
            _evaluate(settings, tokenizer, model, sets, {"step": 0, "stage": "initial"})


def _evaluate(
    settings: PretrainConfig,
    tokenizer: Tokenizer,
    model: Transformer,
    sets: Mapping[str, TokenShards],
    when: Mapping[str, Any],
) -> None:
    """Enters bits per byte of some sets."""
    bits = bits_per_byte(model, sets, tokenizer, seq_len=settings.seq_len)
    EvaluationLog(Path(settings.output)).write({**when, "bits_per_byte": bits})


def order(settings: PretrainConfig) -> OrderedRows:
    """The rows of every step of the run."""
    return OrderedRows(
        settings.sources,
        settings.stages,
        seed=settings.seed,
        seq_len=settings.seq_len,
        skip=settings.skip,
        max_epochs=settings.max_epochs,
    )


def _data(settings: PretrainConfig, tokenizer: Tokenizer) -> OrderedRows:
    """The same, of tokens that the tokenizer made: known before anything takes long."""
    data = order(settings)
    require_same_tokenizer(data.sources, tokenizer.sha256)
    return data


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(PretrainConfig, options.config, options.overrides)
    return finish(options, settings, pretrain, lambda: plan(settings))


def plan(settings: PretrainConfig) -> dict[str, Any]:
    """Rows, fill and cuts of the run, whose model can be made and whose files are there."""
    require_run_folder(settings.output, "pretrain")
    tokenizer = Tokenizer.from_file(settings.tokenizer)
    _check_split(settings, tokenizer)
    settings.model.model_config(tokenizer)
    with_evaluation(settings, tokenizer, Watch())
    return _data(settings, tokenizer).report()
