"""Checkpoints: everything a run needs to go on bitwise, committed by rename.

`step-00000120/` holds the model in Hugging Face layout, the optimiser as safetensors
(never a pickle), and `state.json`. Of a run that averages its weights, the model is the
average, and `raw.safetensors` the weights that training goes on from. There is no
generator state to keep: whatever is random at a step is derived from (seed, step).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.artefact import (
    FILE_NAME,
    Draft,
    FileEntry,
    damaged,
    read_json,
    read_manifest,
    remove,
    require_named,
    sha256_file,
    verify,
    write_json,
)
from triptych.errors import ConfigError, IntegrityError, shown
from triptych.model.config import ModelConfig
from triptych.model.huggingface import (
    CHECKPOINT_FORMAT,
    WEIGHTS,
    copy_surroundings,
    declared_format,
    load_weights,
    model_facts,
    read_config,
    read_weights,
    weight_files,
    weights_of,
    write_surroundings,
    write_weights,
)
from triptych.model.shards import INDEX, Shards, write_tensors
from triptych.model.transformer import Transformer
from triptych.train import moments8bit
from triptych.train.averaging import WeightAverage
from triptych.train.optimizer import parameter_names

OPTIMIZER = "optimizer.safetensors"
RAW_GROUP = "raw"
RAW = f"{RAW_GROUP}.safetensors"
STATE = "state.json"
_NAME = re.compile(r"step-[0-9]+")

logger = logging.getLogger("triptych.train")


@dataclass
class TrainState:
    """Where a run stands.

    Attributes:
        step: updates done, skipped ones included.
        tokens: tokens read so far.
        skipped_steps: steps without an update, for a loss that was not finite.
        bad_steps: how many of them in a row just now.
        first_bad_step: the first of these, counted from 0.
        run: what must not change when the run goes on: data, seed, stages and so on.
        scaler: state of the fp16 gradient scaler; empty otherwise.
        rolling_hash: of the ids of all steps so far, in order (see `Order.roll`).
        source_tokens: tokens read so far of each source, by its number or name.
        ended_early: steps of each stage, by its number, that met its exit condition.
        exit_watch: the losses that the present stage's exit condition looks at.
        spike_watch: the losses and norms that a spike is told from.
        skip: windows of data steps that were left out, as first step and end.
        averaged_updates: updates that the average of the weights has taken in.
    """

    step: int = 0
    tokens: int = 0
    skipped_steps: int = 0
    bad_steps: int = 0
    first_bad_step: int = 0
    run: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    rolling_hash: int = 0
    source_tokens: dict[str, int] = field(default_factory=dict)
    ended_early: dict[str, int] = field(default_factory=dict)
    exit_watch: dict[str, Any] = field(default_factory=dict)
    spike_watch: dict[str, Any] = field(default_factory=dict)
    skip: list[list[int]] = field(default_factory=list)
    averaged_updates: int = 0

    def add_bad(self) -> None:
        """Counts the present step as a bad one."""
        if self.bad_steps == 0:
            self.first_bad_step = self.step
        self.bad_steps += 1

    def add_read(
        self, parts: Iterable[Iterable[tuple[int, int]]], names: Sequence[str]
    ) -> int:
        """Counts the tokens of each source that processes read; returns their sum."""
        added = 0
        for number, count in (pair for part in parts for pair in part):
            name = names[number] if number < len(names) else str(number)
            self.source_tokens[name] = self.source_tokens.get(name, 0) + count
            added += count
        self.tokens += added
        return added


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint will hold: by name, the model's and the optimiser's tensors.

    Attributes:
        raw: weights that training goes on from, where `weights` is their average.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: dict[str, Any]
    raw: Mapping[str, Tensor] = field(default_factory=dict)


def take(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    copied: bool,
    average: WeightAverage | None = None,
) -> Snapshot:
    """A run as it stands; `copied` to the CPU, so that training may go on."""
    own = weights_of(model)
    weights, raw = (own, {}) if average is None else (average.weights, own)
    parts = [weights, _optimizer_tensors(model, optimizer), raw]
    weights, moments, raw = map(_copies, parts) if copied else parts
    return Snapshot(model.config, weights, moments, asdict(state), raw)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.to("cpu", copy=True) for name, x in tensors.items()}


def write(
    folder: Path,
    snapshot: Snapshot,
    tokenizer_path: Path | None = None,
    keep: int = 2,
    keep_every_steps: int | None = None,
) -> Path:
    """Writes `folder/step-NNNNNNNN` and removes all before but the newest `keep`.

    Those of steps that `keep_every_steps` divides stay for good.
    """
    target = folder / f"step-{snapshot.state['step']:08d}"
    with Draft(target) as draft:
        write_weights(snapshot.weights, draft)
        write_tensors(draft.path(OPTIMIZER), snapshot.optimizer)
        if snapshot.raw:
            write_tensors(draft.path(RAW), snapshot.raw)
        finish(draft, snapshot.config, snapshot.state, tokenizer_path)
    remove_old(target, keep, keep_every_steps, snapshot.state)
    return target


def finish(
    draft: Draft,
    config: ModelConfig,
    state: Mapping[str, Any],
    tokenizer_path: Path | None,
    synced: Mapping[str, FileEntry] | None = None,
) -> None:
    """Writes what is not tensors, and commits."""
    write_surroundings(config, draft, tokenizer_path)
    if tokenizer_path is not None and (tokenizer_path.parent / "config.json").is_file():
        # Of a model that is tuned: its template, and all ids that end its texts.
        copy_surroundings(tokenizer_path.parent, draft)
    write_json(draft.path(STATE), {**state, "torch": torch.__version__})
    facts = {"step": state["step"], **model_facts(config)}
    draft.commit(CHECKPOINT_FORMAT, state["run"], facts, synced)


def remove_old(
    newest: Path, keep: int, keep_every_steps: int | None, state: Mapping[str, Any]
) -> None:
    """Removes all up to `newest`, just written, but the last `keep` of them.

    Those of steps that the other number divides stay, and the last from before the steps
    that were left out just now: the run may yet have to go back to it. One behind
    `newest` was damaged when the run went on, and must not count for one that is whole.
    """
    present = [x for x in steps_in(newest.parent) if step_of(x) <= step_of(newest)]
    before = [x for x in present if step_of(x) <= state["first_bad_step"]]
    way_back = before[-1:] if state["bad_steps"] else []
    for old in present[:-keep]:
        if old in way_back:
            continue
        if keep_every_steps is None or step_of(old) % keep_every_steps:
            remove(old)


def load(
    folder: Path,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> TrainState:
    """Restores weights, optimiser and average in place from a checkpoint, verified first.

    Raises:
        IntegrityError: a file is not as the manifest says.
        ConfigError: the checkpoint is of another model.
    """
    verify(folder, CHECKPOINT_FORMAT)
    require_same_model(folder, model.config)
    load_weights(model, trained_weights(folder), folder)
    if average is not None:
        average.restore(read_weights(folder))
    _restore_optimizer(folder, model, optimizer)
    return read_state(folder)


def require_same_model(folder: Path, config: ModelConfig) -> None:
    """Refuses a checkpoint of another model.

    Raises:
        ConfigError: with the fields that differ.
    """
    found = read_config(folder)
    if found != config:
        names = [x.name for x in fields(config)]
        names = [x for x in names if getattr(config, x) != getattr(found, x)]
        expected, other = (
            ", ".join(f"{name}={getattr(values, name)!r}" for name in names)
            for values in (config, found)
        )
        raise ConfigError(
            f"`{folder}` holds another model: expected {expected}, found {other}"
        )


def is_sharded(folder: Path) -> bool:
    """Whether a checkpoint is in the parts of several processes."""
    return (folder / INDEX).is_file()


def stored_weights(folder: Path) -> Shards:
    """Weights of a checkpoint, to be read box by box."""
    if is_sharded(folder):
        return Shards.indexed(folder, "weights")
    return Shards.of_file(folder / WEIGHTS)


def stored_optimizer(folder: Path) -> Shards:
    """The optimiser's tensors of a checkpoint, to be read box by box."""
    if is_sharded(folder):
        return Shards.indexed(folder, "optimizer")
    return Shards.of_file(folder / OPTIMIZER)


def stored_trained(folder: Path) -> Shards:
    """The weights that training goes on from, to be read box by box.

    They are the model's where nothing is averaged.
    """
    if is_sharded(folder):
        averages = RAW_GROUP in read_json(folder / INDEX)
        return Shards.indexed(folder, RAW_GROUP if averages else "weights")
    raw = folder / RAW
    return Shards.of_file(raw if raw.is_file() else folder / WEIGHTS)


def trained_weights(folder: Path) -> dict[str, Tensor]:
    """The same, all of them."""
    return stored_trained(folder).all()


def read_state(folder: Path) -> TrainState:
    """Where the run of a checkpoint stands."""
    values = read_json(folder / STATE)
    values.pop("torch", None)
    return TrainState(**values)


def abandon(folder: Path) -> None:
    """Takes a checkpoint out of its run without deleting it: `abandoned-step-…`."""
    target = folder.with_name(f"abandoned-{folder.name}")
    if target.exists():
        remove(target)
    folder.rename(target)


def steps_in(folder: Path) -> list[Path]:
    """Committed checkpoints, oldest first; a copy by another name is none of the run's."""
    found = [x for x in folder.glob("step-*") if _NAME.fullmatch(x.name)]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(folder.name.removeprefix("step-"))


def latest(folder: Path) -> Path | None:
    """Newest checkpoint that verifies; None where there is none at all.

    Damaged ones that are newer are named in a warning and passed over.

    Raises:
        IntegrityError: there are checkpoints, and every one is damaged.
    """
    return next(whole(folder), None)


def whole(folder: Path) -> Iterator[Path]:
    """Checkpoints that verify, newest first; damaged ones are named in a warning.

    One that is not of the step that its name says is none.

    Raises:
        IntegrityError: there are checkpoints, and every one is damaged.
    """
    failures: list[IntegrityError | ConfigError] = []
    candidates = steps_in(folder)
    for candidate in reversed(candidates):
        try:
            require_named(candidate, verify(candidate, CHECKPOINT_FORMAT))
        except (IntegrityError, ConfigError) as error:
            logger.warning("checkpoint passed over: %s", shown(error))
            failures.append(error)
        else:
            yield candidate
    if failures and len(failures) == len(candidates):
        raise IntegrityError(
            f"no checkpoint in `{folder}` is whole: expected one of "
            f"{len(failures)}, found: {failures[0]}"
        )


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's weights, as its manifest has it; without one, of the files.

    Of weights in parts, that of the list of their hashes and of a checkpoint's index.
    """
    hashes = _weight_hashes(folder)
    if WEIGHTS in hashes:
        return hashes[WEIGHTS]
    lines = [f"{sha256}  {name}\n" for name, sha256 in hashes.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _weight_hashes(folder: Path) -> dict[str, str]:
    if not (folder / FILE_NAME).is_file():
        return {name: sha256_file(folder / name) for name in weight_files(folder)}
    files = read_manifest(folder, declared_format(folder)).files
    parts = sorted(name for name in files if name.startswith("weights-"))
    names = [WEIGHTS] if WEIGHTS in files else [*parts, INDEX]
    return {name: files[name].sha256 for name in names}


def _optimizer_tensors(
    model: Transformer, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """`<kind>:<parameter>` for every plain tensor of the optimiser's state."""
    names = parameter_names(model)
    return {
        f"{kind}:{names[id(parameter)]}": part.detach().contiguous()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        for kind, part in moments8bit.parts_of(key, value).items()
    }


def _restore_optimizer(
    folder: Path, model: Transformer, optimizer: torch.optim.Optimizer
) -> None:
    path, tensors = folder / OPTIMIZER, stored_optimizer(folder).all()
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, name = key.split(":", 1)
        states.setdefault(name, {})[kind] = value
    check_states(path, states, set(parameter_names(model).values()))
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, values in states.items():
        parameter = parameters[name]
        optimizer.state[parameter] = moments8bit.joined(optimizer, parameter, values)


def check_states(path: Path, states: Mapping[str, Any], names: set[str]) -> None:
    """All parameters have a state, or, before the first update, none has."""
    if states and set(states) != names:
        differing = sorted(set(states) ^ names)[:3]
        raise damaged(path, f"a state for {len(names)} parameters", str(differing))
