"""Whether a run resumes bitwise: some of its steps run again, beside what it saved.

From one checkpoint the run is continued in a scratch folder up to the next one that it
kept; then weights, optimiser and state must have the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from triptych import config
from triptych.artefact import read_manifest
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.training import RUN_FILE, Watch
from triptych.errors import ConfigError, Interrupted
from triptych.model.huggingface import CHECKPOINT_FORMAT
from triptych.train import checkpoint, incidents
from triptych.train.metrics import read_metrics


def replay(
    run: str | Path,
    step: int,
    on_step: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Resumes a pre-training run at its checkpoint of `step` and compares the next one.

    Returns:
        `from_step`, `to_step`, and `differing`: names of files whose bytes differ.

    Raises:
        ConfigError: there is no such run, or no checkpoint of `step` with one behind it.
        IntegrityError: a checkpoint is damaged.
    """
    run = Path(run)
    begin, end = _pair(run, step)
    settings = _settings(run)
    _require_alone(run, step, checkpoint.step_of(end))
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "run"
        _copy_start(run, begin, again)
        to_step = checkpoint.step_of(end)
        watch = Watch(on_step=on_step, stop_at_step=to_step)
        try:
            pretrain(dataclasses.replace(settings, output=str(again)), watch)
        except Interrupted:
            pass  # where it was to stop
        found = _hashes(again / "checkpoints" / end.name)
    expected = _hashes(end)
    differing = sorted(
        name
        for name in expected.keys() | found.keys()
        if expected.get(name) != found.get(name)
    )
    return {"from_step": step, "to_step": to_step, "differing": differing}


def _require_alone(run: Path, step: int, to_step: int) -> None:
    """Refuses steps of several processes: one alone rounds otherwise, as is known."""
    steps = [x for x in read_metrics(run) if step < x["step"] <= to_step]
    processes = max((line.get("processes", 1) for line in steps), default=1)
    if processes > 1:
        raise ConfigError(
            f"--resume-at: expected steps of one process, found that {processes} trained "
            f"steps {step + 1} to {to_step}; only what one process did is replayed"
        )


def _pair(run: Path, step: int) -> tuple[Path, Path]:
    """The checkpoint of `step` and the one kept after it."""
    kept = checkpoint.steps_in(run / "checkpoints")
    starts = {
        checkpoint.step_of(x): pair
        for x, *pair in zip(kept, kept, kept[1:], strict=False)
    }
    if step not in starts:
        known = ", ".join(map(str, starts)) or "none, as it kept fewer than two"
        raise ConfigError(
            f"--resume-at: expected a step of a checkpoint in `{run}` with another "
            f"behind it ({known}), found {step}"
        )
    begin, end = starts[step]
    return begin, end


def _settings(run: Path) -> PretrainConfig:
    path = run / RUN_FILE
    if not path.exists():
        raise ConfigError(f"no run at `{run}`: expected a folder with `{RUN_FILE}`")
    table = json.loads(path.read_bytes())
    if "sources" not in table:
        raise ConfigError(
            f"`{path}`: expected a run of `triptych pretrain`, found keys "
            f"{sorted(table)[:5]}; only such runs are replayed"
        )
    found = config.from_mapping(PretrainConfig, table, name=str(path))
    # No checkpoint may go, and nobody reads what an evaluation would say.
    stages = tuple(dataclasses.replace(stage, evaluation=None) for stage in found.stage)
    return dataclasses.replace(
        found, stage=stages, evaluation={}, keep_checkpoints=1_000_000
    )


def _copy_start(run: Path, begin: Path, again: Path) -> None:
    """What a resumed run reads: its checkpoint, and the windows that rewinds left out."""
    shutil.copytree(begin, again / "checkpoints" / begin.name)
    log = run / incidents.FILE_NAME
    if log.exists():
        shutil.copy(log, again)


def _hashes(folder: Path) -> dict[str, str]:
    manifest = read_manifest(folder, CHECKPOINT_FORMAT)
    return {name: file.sha256 for name, file in manifest.files.items()}
