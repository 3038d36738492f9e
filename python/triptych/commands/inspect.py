"""`triptych inspect order`: which documents a training step is made of."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych._core import Order
from triptych.commands.pretrain import order, settings_of
from triptych.commands.shell import StepProgress
from triptych.config import require_numbers
from triptych.data import OrderedRows
from triptych.errors import ConfigError, IntegrityError, shown
from triptych.model.huggingface import CHECKPOINT_FORMAT
from triptych.train import checkpoint
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import read_metrics
from triptych.train.resume import without


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Which step (from 0) of which pre-training run.

    Attributes:
        verify: read the ids of all steps up to this one again, and compare their hashes
            with those that the run wrote down.
    """

    run: str
    step: int
    verify: bool = False

    def __post_init__(self) -> None:
        require_numbers(self)


def inspect(
    settings: InspectConfig, watch: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """The rows of a step: source, id, start and length of each segment, and its hash.

    Args:
        settings: the step, and whether to verify it.
        watch: told the number of steps verified, now and then.

    Raises:
        ConfigError: if there is no such run, or no such step in it.
        IntegrityError: if the run read other ids than its order gives now.
    """
    rows = read_order(Path(settings.run))
    if not 0 <= settings.step < rows.num_steps:
        last, found_step = rows.num_steps - 1, settings.step
        raise ConfigError(f"step: expected 0 to {last}, found {found_step}")
    found: dict[str, Any] = {
        "step": settings.step,
        "data_step": rows.data_step(settings.step),
        "hash": rows.step_hash(settings.step),
        "rows": rows.named_rows(settings.step),
    }
    if settings.verify:
        found |= verify(Path(settings.run), rows, settings.step, watch)
    return found


def read_order(run: Path) -> OrderedRows:
    """The rows of a run: without what it left out, stages as far as they went."""
    configured = order(settings_of(run))
    rows: OrderedRows = without(configured, IncidentLog(run).windows())
    for stage, steps in _ended_early(run).items():
        rows = rows.ended_early(stage, steps)
    return rows


def _ended_early(run: Path) -> dict[int, int]:
    newest = checkpoint.latest(run / "checkpoints")
    if newest is None:
        return {}
    state = json.loads((newest / checkpoint.STATE).read_text(encoding="utf-8"))
    ended = state.get("ended_early", {})
    return {int(stage): steps for stage, steps in ended.items()}


def verify(
    run: Path, rows: OrderedRows, step: int, watch: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Reads steps 0 to `step` again and compares their hashes with the run's.

    Raises:
        ConfigError: the run has not come that far.
        IntegrityError: the first step that read something else.
    """
    written = {line["step"] - 1: line for line in read_metrics(run)}
    missing = next((at for at in range(step + 1) if at not in written), None)
    if missing is not None:
        raise ConfigError(
            f"`{run}`: expected metrics of steps 0 to {step}, found none of {missing}"
        )
    rolling = 0
    for at in range(step + 1):
        ids_hash = rows.batch(at).ids_hash
        rolling = Order.roll(rolling, ids_hash)
        _compare(run, at, "ids_hash", ids_hash, written[at])
        _compare(run, at, "rolling_hash", rolling, written[at])
        if watch is not None:
            watch(at + 1)
    checkpoints = _check_checkpoints(run, written, step)
    return {
        "verified_steps": step + 1,
        "rolling_hash": f"{rolling:016x}",
        "verified_checkpoints": checkpoints,
    }


def _compare(
    run: Path, step: int, key: str, expected: int, line: Mapping[str, Any]
) -> None:
    if line.get(key) != f"{expected:016x}":
        raise IntegrityError(
            f"`{run}`, step {step}: expected {key} {expected:016x}, which its rows have "
            f"now, found {line.get(key)}: the run read other ids, or its shards changed"
        )


def _check_checkpoints(
    run: Path, written: Mapping[int, Mapping[str, Any]], step: int
) -> int:
    """Compares the rolling hashes of checkpoints up to `step`; returns how many."""
    checked = 0
    for folder in checkpoint.steps_in(run / "checkpoints"):
        artefact.verify(folder, CHECKPOINT_FORMAT)
        state = json.loads((folder / checkpoint.STATE).read_text(encoding="utf-8"))
        if not 1 <= state["step"] <= step + 1:
            continue
        found, expected = state.get("rolling_hash", 0), written[state["step"] - 1]
        if f"{found:016x}" != expected["rolling_hash"]:
            raise IntegrityError(
                f"`{folder}`: expected rolling_hash {expected['rolling_hash']}, as in the "
                f"metrics of its step, found {found:016x}"
            )
        checked += 1
    return checked


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = InspectConfig(run=options.run, step=options.step, verify=options.verify)
    found = _with_progress(settings) if options.verify else inspect(settings)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(f"step {found['step']}, hash {found['hash']}")
    if found["data_step"] != found["step"]:
        print(f"data step {found['data_step']}, behind windows that are skipped")
    for number, row in enumerate(found["rows"]):
        for segment in row:
            print(
                f"{number:>5}  {shown(segment['source']):<16} {segment['start']:>8} "
                f"{segment['length']:>6}  {shown(segment['id'])}"
            )
    if options.verify:
        print(
            f"verified: {found['verified_steps']} steps and "
            f"{found['verified_checkpoints']} checkpoints read what they say"
        )
    return 0


def _with_progress(settings: InspectConfig) -> dict[str, Any]:
    total = settings.step + 1
    with StepProgress("verify", total) as progress:
        return inspect(settings, progress.count)
