"""What the three training commands share: from settings to a Trainer that runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch.overrides import TorchFunctionMode

from triptych import artefact, config
from triptych._core import Tokenizer
from triptych.commands.settings import TrainingSettings
from triptych.commands.stopping import TerminationNotice
from triptych.curriculum import ScheduleName, StageConfig
from triptych.data import OrderedRows, require_same_tokenizer
from triptych.errors import ConfigError, IntegrityError
from triptych.model import ModelConfig, Transformer
from triptych.model.presets import gated_width, preset
from triptych.train import Objective, TrainConfig, TrainResult, trainer_for
from triptych.train.checkpoint import steps_in
from triptych.train.metrics import EVALUATIONS
from triptych.train.parallel import ParallelConfig
from triptych.train.ranks import Ranks, is_first_process, joined, num_processes
from triptych.train.router_balance import balanced

logger = logging.getLogger("triptych.train")

Schedule = ScheduleName
RUN_FILE = "run.json"
TOKENS_FILE = "tokens.json"


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer texts; names as in `config.json`.

    Attributes:
        rope_type: `linear` (Chen et al. 2023), `llama3` (Llama 3.1) or `yarn` (Peng et
            al. 2023); which of the others each reads is in docs/models.md.
        factor: how many times longer.
        original_max_position_embeddings: tokens before; None for the model's
            `max_position_embeddings`.
        low_freq_factor: of `llama3`: pairs that turn fewer times than this within the
            original length are stretched whole.
        high_freq_factor: pairs that turn more often than this are left as they are.
        beta_fast: of `yarn`, as `high_freq_factor`; None for 32.
        beta_slow: of `yarn`, as `low_freq_factor`; None for 1.
        attention_factor: multiplies cosines and sines; None for 0.1 ln(factor) + 1.
        mscale: with `mscale_all_dim`, DeepSeek's way to say that factor.
        mscale_all_dim: see `mscale`.
        truncate: the ramp begins and ends at whole pairs; None for true.
    """

    rope_type: Literal["linear", "llama3", "yarn"]
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None

    def __post_init__(self) -> None:
        """Checks that what the type needs is there, and nothing it does not read."""
        config.require_numbers(self)
        needed, optional = _ROPE_KEYS[self.rope_type]
        given = set(config.to_mapping(self)) - {"rope_type"}
        missing, foreign = needed - given, given - needed - optional
        if missing or foreign:
            expected = (
                ", ".join(f"`{name}`" for name in sorted(needed)) or "nothing else"
            )
            found = ", ".join(f"`{name}`" for name in sorted(given)) or "nothing"
            raise ConfigError(
                f"rope_type: expected {expected} with `{self.rope_type}`, found {found}"
            )


# Keys that a `rope_type` needs, and those that it may have.
_ROPE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "linear": ({"factor"}, set()),
    "llama3": (
        {"factor", "low_freq_factor", "high_freq_factor"},
        {"original_max_position_embeddings"},
    ),
    "yarn": (
        {"factor"},
        {
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The shape of a model; names as in `config.json`, the rest follows the tokenizer.

    What is None is left to its family, see docs/models.md. What is not said here is as in
    `ModelConfig`.

    Attributes:
        size: `10m`, `100m`, ... or `d7` for a depth of 7: sets the next four, which
            may still be given.
        num_key_value_heads: None for as many as `num_attention_heads`.
        intermediate_size: None for 8/3 of `hidden_size`, rounded up to 64 (Shazeer
            2020 keeps the parameters of a plain 4x layer so).
        head_dim: None for `hidden_size / num_attention_heads`.
        max_position_embeddings: most tokens read together.
        qk_norm: queries and keys are normalized before they turn.
        model_type: family; None for Qwen3 or, without `qk_norm`, Llama.
        scale_residual_init: projections that write to the residual start smaller, by
            the root of twice the layers.
        start: `random`, or `bigram` for embeddings and an output matrix that know from
            counts which token follows which; it needs `tie_word_embeddings = false`.
    """

    described_by: ClassVar[type] = ModelConfig

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    size: str | None = None
    num_key_value_heads: int | None = None
    intermediate_size: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    qk_norm: bool = True
    initializer_range: float = 0.02
    scale_residual_init: bool = True
    start: Literal["random", "bigram"] = "random"
    model_type: str | None = None
    hidden_act: str | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None
    no_rope_layers: tuple[int, ...] | None = None
    rope_local_base_freq: float | None = None
    query_pre_attn_scalar: int | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    num_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    norm_topk_prob: bool | None = None
    decoder_sparse_step: int | None = None
    mlp_only_layers: tuple[int, ...] | None = None
    router_aux_loss_coef: float | None = None

    def __post_init__(self) -> None:
        """Checks the size, or that the shape is given without one."""
        config.require_numbers(self)
        needed = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.size is not None:
            preset(self.size)
        elif missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise ConfigError(f"model: expected `size`, or else {names}, found neither")
        if self.start == "bigram" and self.tie_word_embeddings:
            raise ConfigError(
                "model.start: expected `random`, or `tie_word_embeddings = false`, found "
                "`bigram` with tied embeddings"
            )

    def build(self, tokenizer: Tokenizer, *, seed: int) -> Transformer:
        """A new model with weights drawn from `seed`, whatever other threads draw."""
        shape = self.model_config(tokenizer)
        with _DrawingFrom(torch.Generator().manual_seed(seed)):
            return Transformer(shape, scale_residual=self.scale_residual_init)

    def recipe(self, tokens: int | None) -> dict[str, int | float]:
        """`tokens`, `batch_tokens` and `learning_rate` of the size; none without one."""
        if self.size is None:
            return {}
        found = preset(self.size, tokens)
        names = ("tokens", "batch_tokens", "learning_rate")
        return {name: getattr(found, name) for name in names}

    def model_config(self, tokenizer: Tokenizer) -> ModelConfig:
        """The complete shape, vocabulary and marker ids included."""
        given = config.to_mapping(self)
        shape: dict[str, Any] = {}
        if self.size is not None:
            shape |= preset(self.size).shape
        if "hidden_size" in given:
            shape.pop("intermediate_size", None)
        shape |= given
        for name in ("size", "scale_residual_init", "start"):
            shape.pop(name, None)
        if self.model_type is not None:
            del shape["qk_norm"]
        shape.setdefault("intermediate_size", gated_width(shape["hidden_size"]))
        shape.setdefault("num_key_value_heads", shape["num_attention_heads"])
        shape.setdefault("head_dim", None)
        if self.sliding_window is not None and self.layer_types is None:
            # In all layers: in a config.json of Qwen it is from the 28th on.
            shape |= {"use_sliding_window": True, "max_window_layers": 0}
        markers = {
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
            "pad_token_id": _pad_id(tokenizer),
        }
        return ModelConfig.from_dict(
            {"vocab_size": tokenizer.vocab_size, **shape, **markers}
        )


class _DrawingFrom(TorchFunctionMode):
    """What this thread draws comes from a generator of its own.

    The modules of torch draw from the process's, which another run beside this one
    begins anew at each of its steps.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `func`, with the generator where it may be given one."""
        given = dict(kwargs or {})
        if "generator" in given:  # all of torch.nn.init that draw come with it
            given["generator"] = self.generator
        return func(*args, **given)


def _pad_id(tokenizer: Tokenizer) -> int | None:
    """Those of Llama 2 and Mistral have none; nothing here is padded."""
    try:
        return tokenizer.pad_id
    except ConfigError:
        return None


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told while a Trainer runs, and how far it is to go.

    At `stop_at_step` it saves a checkpoint and raises `Interrupted`.
    """

    on_step: Callable[[Mapping[str, Any]], None] | None = None
    on_stage_end: Callable[[str, int, Transformer], None] | None = None
    stop_at_step: int | None = None

    def stops_at(self, step: int) -> bool:
        """Whether a run that has done `step` steps is to stop."""
        return self.stop_at_step is not None and step >= self.stop_at_step


def train(
    model: Transformer,
    objective: Objective,
    data: OrderedRows,
    settings: TrainConfig,
    *,
    tokenizer_path: str | Path,
    resolved: TrainingSettings,
    watch: Watch,
) -> TrainResult:
    """Writes the resolved settings into the run, then trains or goes on training.

    Raises:
        Interrupted: SIGTERM came; a checkpoint is saved, the same call goes on.
    """
    check_data(data, tokenizer_path)
    output = Path(settings.output)
    several = settings.parallel.elastic is not None
    table = config.to_mapping(resolved)
    with joined(), TerminationNotice() as notice:
        trainer = trainer_for(settings)(
            model,
            balanced(objective, model, resolved.router_aux_loss_coef),
            data,
            settings,
            tokenizer_path=tokenizer_path,
            on_start=lambda: _start(output, table, by_several=several),
            on_step=watch.on_step,
            on_stage_end=watch.on_stage_end,
            should_stop=lambda: notice.received() or watch.stops_at(trainer.state.step),
        )
        result = trainer.run()
    skip = [(first, end) for first, end in trainer.state.skip]
    planned = data if skip == list(data.skip) else data.skipping(skip)
    read = planned
    for stage, steps in trainer.state.ended_early.items():
        read = read.ended_early(int(stage), steps)
    tokens = account(planned, read, result)
    _write_json(output / TOKENS_FILE, tokens, by_several=several)
    return result


def _start(output: Path, table: Any, *, by_several: bool) -> None:
    """Writes the settings of a run that goes on here, or begins.

    What one that was killed before its first checkpoint left of evaluations is of another
    model; where a run has its own, its first line has taken their place already.
    """
    begins = not steps_in(output / "checkpoints")
    if is_first_process() and begins and not table.get("evaluation"):
        (output / EVALUATIONS).unlink(missing_ok=True)
    _write_json(output / RUN_FILE, table, by_several=by_several)


def _write_json(path: Path, values: Any, *, by_several: bool) -> None:
    """Writes a file of the run, in the process that writes for all, or in every copy."""
    if is_first_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(values, indent=2) + "\n"
        artefact.write_text(path, text, by_several=by_several)


# A key that the settings of each command alone have.
_OWN_KEYS = {"pretrain": "sources", "sft": "conversations", "dpo": "preferences"}


def require_no_file_at(folder: Path) -> None:
    """Refuses a folder in whose place, or in one that it would lie in, there is a file.

    Raises:
        ConfigError: naming the file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(
                f"output: expected a folder, or a place for a new one, found "
                f"`{place}`, a file; choose another folder"
            )


def require_run_folder(output: str, command: str) -> None:
    """Refuses what is no folder for a run: a file, an artefact, or another command's run.

    A run beside the shards that it reads, say, is no longer told from them; and what `sft`
    renders has no place in a run of `pretrain`, which it cannot go on with.

    Raises:
        ConfigError: naming what is there.
    """
    folder = Path(output)
    require_no_file_at(folder)
    other = _other_command(folder, command)
    if (folder / artefact.FILE_NAME).exists():
        found = f"an artefact, with a `{artefact.FILE_NAME}`"
    elif other is not None:
        found = f"a run of `triptych {other}`"
    else:
        return
    raise ConfigError(
        f"output: expected a new folder, or that of a run of `triptych {command}`, found "
        f"`{output}`, {found}; choose another folder"
    )


def require_processes(
    parallel: ParallelConfig, data: OrderedRows | None = None
) -> None:
    """Refuses processes that do not go with the grid, or with the rows of each step.

    The trainer does too, but after what takes time: rendering, a start from counts.

    Raises:
        ConfigError: naming the nearest numbers.
    """
    size = num_processes()
    parallel.shape(size)
    if data is not None and parallel.elastic is None:
        rows = {data.rows_per_step(step) for step in range(data.num_steps)}
        Ranks(size=size, readers=parallel.readers).require_shares(rows)


def _other_command(folder: Path, command: str) -> str | None:
    """Which other command's run has checkpoints in a folder; None for none."""
    if not (folder / RUN_FILE).is_file() or not steps_in(folder / "checkpoints"):
        return None
    keys = artefact.read_json(folder / RUN_FILE)
    names = [name for name, key in _OWN_KEYS.items() if key in keys]
    return names[0] if names and command not in names else None


def require_one_process(command: str) -> None:
    """Refuses what one process is to do alone.

    Raises:
        ConfigError: `torchrun` started more than one.
    """
    if num_processes() > 1:
        raise ConfigError(
            f"processes: expected 1 for `triptych {command}`, found {num_processes()}: "
            "`triptych pretrain`, `sft` and `dpo` train in several"
        )


def require_fixed(parallel: ParallelConfig, command: str) -> None:
    """Refuses copies that come and go.

    Raises:
        ConfigError: `parallel.elastic` is set.
    """
    if parallel.elastic is not None:
        raise ConfigError(
            f"parallel.elastic: expected none for `triptych {command}`, found "
            f'"{parallel.elastic}": only the copies of `triptych pretrain` may come and go'
        )


def account(
    planned: OrderedRows, read: OrderedRows, result: TrainResult
) -> dict[str, Any]:
    """Tokens of each source: planned, left out by stages that ended early, consumed.

    Raises:
        IntegrityError: if a source's do not add up.
    """
    at_first, at_last = planned.planned_tokens(), read.planned_tokens()
    sources = {
        name: {
            "planned": tokens,
            "left_out": tokens - at_last[name],
            "consumed": result.source_tokens.get(name, 0),
        }
        for name, tokens in at_first.items()
    }
    for name, counts in sources.items():
        expected = counts["planned"] - counts["left_out"]
        if counts["consumed"] != expected:
            raise IntegrityError(
                f"source `{name}`: expected {expected} tokens to be consumed, as planned, "
                f"found {counts['consumed']}"
            )
    return {"steps": result.step, "sources": sources}


def check_data(data: OrderedRows, tokenizer_path: str | Path) -> None:
    """Refuses sources whose tokens another tokenizer made."""
    sha256 = Tokenizer.from_file(str(tokenizer_path)).sha256
    require_same_tokenizer(data.sources, sha256)


def steps_for(
    folder: str | Path, *, epochs: float, batch_size: int, seq_len: int
) -> int:
    """Steps of `batch_size` rows that read a shard folder `epochs` times; at least 1.

    Steps are whole, so epochs are rounded; where one step alone reads more than twice
    what was asked for, that is said.
    """
    probe = StageConfig(stage="probe", learning_rate=1.0, batch_size=1, steps=1)
    order = OrderedRows({"data": folder}, [probe], seed=0, seq_len=seq_len)
    (source,) = order.report()["sources"]
    rows: int = source["packings"][0]["rows"]
    steps = max(1, round(epochs * rows / batch_size))
    read = steps * batch_size / rows
    if read > 2 * epochs and is_first_process():
        logger.warning(
            "batch_size: %d rows a step are more than the %d that %g epochs of %d rows "
            "have: the run's one step reads %.4g epochs; a batch_size of at most %d "
            "reads as many as asked for",
            batch_size,
            epochs * rows,
            epochs,
            rows,
            read,
            max(1, epochs * rows),
        )
    return steps
