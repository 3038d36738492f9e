"""A plan: the work of each stage, what it takes here or on named hardware, and advice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych._core import Tokenizer
from triptych.commands.pretrain import PretrainConfig, order
from triptych.curriculum import StageConfig
from triptych.device import local_device
from triptych.errors import ConfigError
from triptych.model.config import ModelConfig
from triptych.planner.advice import Run, by_law, hyperparameters, warnings
from triptych.planner.memory import libraries_here, memory_by_part
from triptych.planner.probe import Probe
from triptych.train.measures import PEAK_TFLOPS, document_flops
from triptych.train.mup import narrow_rates
from triptych.train.parallel import ParallelConfig
from triptych.train.precision import Precision

# Llama 3, section 3.3.4: 466 interruptions in 54 days of 16,384 GPUs.
HOURS_BETWEEN_FAILURES = 54 * 24 * 16_384 / 466
# Beyond any model's; numbers of bytes would not fit into torch's.
MAX_PARAMETERS = 10**15
# A common share of the peak of one H100 at 350M to 1B parameters; to be given better.
ASSUMED_MFU = 0.4


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Hardware to plan for, by the names of `train.measures.PEAK_TFLOPS`.

    Attributes:
        mfu: share of the data sheet's peak that training reaches.
        price: of one device for an hour, in whatever currency; None: not said.
    """

    name: str
    devices: int = 1
    mfu: float = ASSUMED_MFU
    price: float | None = None

    def __post_init__(self) -> None:
        known = [part for part, *_ in PEAK_TFLOPS]
        if self.name not in known:
            expected = ", ".join(f"`{part}`" for part in known)
            raise ConfigError(
                f"hardware: expected one of {expected}, found `{self.name}`"
            )
        if self.devices < 1 or not 0.0 < self.mfu <= 1.0:
            raise ConfigError(
                "hardware: expected at least 1 device and an mfu in (0, 1], found "
                f"{self.devices} and {self.mfu}"
            )
        if self.price is not None and not 0.0 <= self.price < math.inf:
            raise ConfigError(f"price: expected at least 0, found {self.price}")

    def seconds(self, flops: float, precision: str = "auto") -> float:
        """Time for so many operations; those of `auto` are in bf16, as on any GPU here."""
        (peak,) = (
            single if precision == "fp32" else half
            for part, half, single in PEAK_TFLOPS
            if part == self.name
        )
        return flops / (peak * 1e12 * self.devices * self.mfu)


@dataclass(frozen=True)
class Plan:
    """What a run will take; plain numbers, for `--json`.

    Attributes:
        parameters: by part.
        stages: steps, slots, operations, seconds and price of each; None for what is
            not known.
        totals: the same of all.
        memory: MiB by part and in `all`, see `plan.memory`.
        measured: of the first steps here; None if nothing was run.
        checkpoint_seconds: best time between checkpoints (Young 1974); None likewise.
        laws: see `advice.by_law`. hyperparameters: likewise.
        warnings: sentences.
    """

    parameters: dict[str, int]
    stages: list[dict[str, Any]]
    totals: dict[str, float | None]
    memory: dict[str, float]
    measured: dict[str, float] | None
    checkpoint_seconds: float | None
    laws: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]
    warnings: list[str]


def plan_run(
    settings: PretrainConfig, machine: Machine | None = None, probe: Probe | None = None
) -> Plan:
    """Plans a run for a named machine, or by the steps measured here, or without time.

    Raises:
        ConfigError: the model is larger than any.
    """
    model = settings.model.model_config(Tokenizer.from_file(settings.tokenizer))
    if model.num_parameters() > MAX_PARAMETERS:
        raise ConfigError(
            f"model: expected at most {MAX_PARAMETERS:,} parameters, found "
            f"{model.num_parameters():,}"
        )
    report = order(settings).report() if has_data(settings) else None
    alone = dataclasses.replace(settings, parallel=ParallelConfig())
    # Before a grid's own are imported, which the measured process does without.
    kept = _kept(alone, model, libraries_here(alone), probe)
    here = libraries_here(settings)
    stages = [_stage(model, stage, settings) for stage in settings.stages]
    for stage in stages:
        stage["seconds"] = (
            _seconds(stage, stages[0], probe)
            if machine is None
            else machine.seconds(stage["flops"], settings.precision)
        )
        stage["price"] = _price(stage["seconds"], machine)
    run = _run(model, settings, report)
    return Plan(
        parameters=parameters_by_part(model),
        stages=stages,
        totals=_totals(stages, machine),
        memory=_memory(settings, model, None if machine else here, kept),
        measured=None if probe is None else dict(vars(probe)),
        checkpoint_seconds=_interval(probe, 1 if machine is None else machine.devices),
        laws=by_law(run),
        hyperparameters=hyperparameters(run),
        warnings=[
            *warnings(run),
            *_unlike_the_grid(settings, machine),
            *([] if report else [_WITHOUT_DATA]),
        ],
    )


def _unlike_the_grid(settings: PretrainConfig, machine: Machine | None) -> list[str]:
    """A sentence where the run would be refused on so many devices."""
    if machine is None:
        return []
    try:
        settings.parallel.shape(machine.devices)
    except ConfigError as error:
        return [
            f"devices: time and price are of {machine.devices}, memory is not: {error}"
        ]
    return []


_WITHOUT_DATA = (
    "sources: there are no shards yet, so every token is taken for a new one, and nothing "
    "is measured"
)


def has_data(settings: PretrainConfig) -> bool:
    """Whether any source is there; a run whose data is still to be made has none."""
    return any(
        "://" in path or Path(path).exists() for path in settings.sources.values()
    )


def _kept(
    alone: PretrainConfig,
    model: ModelConfig,
    libraries_mib: float,
    probe: Probe | None,
) -> float:
    """MiB that allocators kept in the measured process, which was alone.

    A process of a grid frees pieces of the same sizes, and what FSDP2 gathers besides:
    it keeps as much. Without it a plan of two processes was up to 26 % too low.
    """
    if probe is None or local_device(alone.device).type == "cuda":
        return 0.0
    counted = _memory(alone, model, libraries_mib)
    return max(probe.memory_mib - counted["all"], 0.0)


def _memory(
    settings: PretrainConfig,
    model: ModelConfig,
    libraries_mib: float | None,
    kept_mib: float = 0.0,
) -> dict[str, float]:
    """By part; the libraries' None stands for a GPU of the hardware that is planned for."""
    here = local_device(settings.device)
    on_gpu = libraries_mib is None or here.type == "cuda"
    precision = Precision.choose(settings.precision, here)
    if on_gpu and settings.precision == "auto":
        precision = Precision("bf16", "cpu")  # layers are measured on the CPU
    found = memory_by_part(
        settings,
        model,
        precision=dataclasses.replace(precision, device_type="cpu"),
        libraries_mib=0.0 if on_gpu else libraries_mib or 0.0,
    )
    found = dataclasses.replace(found, allocators=0.0 if on_gpu else kept_mib)
    return {**dataclasses.asdict(found), "all": found.total}


def parameters_by_part(model: ModelConfig) -> dict[str, int]:
    """Trainable numbers: embeddings (tied ones once), layers, and all."""
    tables = 1 if model.tie_word_embeddings else 2
    embeddings = tables * model.vocab_size * model.hidden_size
    total = model.num_parameters()
    return {"embeddings": embeddings, "layers": total - embeddings, "all": total}


def flops_per_slot(model: ModelConfig, seq_len: int) -> float:
    """Operations of a slot of a row that one document fills: the most there can be."""
    return document_flops(model, [seq_len]) / seq_len


def _stage(
    model: ModelConfig, stage: StageConfig, settings: PretrainConfig
) -> dict[str, Any]:
    seq_len = stage.seq_len or settings.seq_len
    slots = stage.num_rows * seq_len
    _, rows = stage.batches()[0]
    return {
        "name": stage.name,
        "steps": stage.num_steps,
        "slots": slots,
        "first_step_slots": rows * seq_len,
        "flops": slots * flops_per_slot(model, seq_len),
    }


def _seconds(
    stage: Mapping[str, Any],
    first: Mapping[str, Any],
    probe: Probe | None,
) -> float | None:
    """By the measured first stage: time goes as operations do."""
    if probe is None:
        return None
    measured = first["flops"] * first["first_step_slots"] / first["slots"]
    return float(stage["flops"] * probe.step_seconds / measured)


def seconds_here(settings: PretrainConfig, probe: Probe) -> float:
    """All stages of a run of which the first steps were measured."""
    model = settings.model.model_config(Tokenizer.from_file(settings.tokenizer))
    stages = [_stage(model, stage, settings) for stage in settings.stages]
    return sum(_seconds(stage, stages[0], probe) or 0.0 for stage in stages)


def _totals(
    stages: list[dict[str, Any]], machine: Machine | None
) -> dict[str, float | None]:
    keys = ("steps", "slots", "flops")
    totals: dict[str, float | None] = {k: sum(s[k] for s in stages) for k in keys}
    known = [s["seconds"] for s in stages if s["seconds"] is not None]
    totals["seconds"] = sum(known) if known else None
    totals["price"] = _price(totals["seconds"], machine)
    return totals


def _price(seconds: float | None, machine: Machine | None) -> float | None:
    """Of so long on all devices of a machine; None where it was not said."""
    if seconds is None or machine is None or machine.price is None:
        return None
    return machine.price * machine.devices * seconds / 3600.0


def _interval(probe: Probe | None, devices: int) -> float | None:
    """Young 1974, eq. 1: sqrt(2 * time to save * mean time between failures)."""
    if probe is None:
        return None
    between = HOURS_BETWEEN_FAILURES * 3600.0 / devices
    return math.sqrt(2.0 * probe.save_seconds * between)


def _run(
    model: ModelConfig, settings: PretrainConfig, report: Mapping[str, Any] | None
) -> Run:
    """As the laws see it; without data, all slots of all stages are read once."""
    stages = settings.stages
    if report is None:
        slots = sum(s.num_rows * (s.seq_len or settings.seq_len) for s in stages)
        draws = [{"source": "all", "tokens": slots}]
        one = {"name": "all", "tokens": slots, "packings": ()}
        report = {"sources": [one], "stages": [{"draws": draws}]}
    read = dict.fromkeys((source["name"] for source in report["sources"]), 0)
    for draw in (draw for stage in report["stages"] for draw in stage["draws"]):
        read[draw["source"]] += draw["tokens"]
    epochs = {
        source["name"]: sum(packing["epochs"] for packing in source["packings"])
        for source in report["sources"]
    }
    seq_lens = [stage.seq_len or settings.seq_len for stage in stages]
    head = model.vocab_size * model.hidden_size
    return Run(
        parameters=model.num_active_parameters(),
        matrix_parameters=model.num_matmul_parameters() - head,
        tokens=sum(read.values()),
        unique_tokens=sum(
            min(read[source["name"]], source["tokens"]) for source in report["sources"]
        ),
        batch_tokens=max(
            stage.rows_per_step * length
            for stage, length in zip(stages, seq_lens, strict=True)
        ),
        learning_rate=_rate_of_matrices(model, settings),
        epochs=epochs,
    )


def _rate_of_matrices(model: ModelConfig, settings: PretrainConfig) -> float | None:
    """What the papers' rates are to be compared with.

    Under muP a stage has the rate of the base width. Muon's `spectral` rates are of
    updates of another size, of which none of the papers speaks.
    """
    rates = settings.optimizer
    if rates.name == "muon" and rates.lr_convention == "spectral":
        return None
    if settings.mup_base_width is not None:
        rates = narrow_rates(rates, model.hidden_size, settings.mup_base_width)
    highest = max(stage.learning_rate for stage in settings.stages)
    return highest * rates.matrix_lr_ratio
