"""Whether a run resumes bitwise: some of its steps run again, beside what it saved.

From one checkpoint the run is continued in a scratch folder up to the next one that it
kept; then weights, optimiser and state must have the same bytes. What several processes
trained, as many train again.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triptych.artefact import verify
from triptych.commands.pretrain import PretrainConfig, pretrain, settings_of
from triptych.commands.training import Watch
from triptych.errors import ConfigError, Interrupted
from triptych.model.huggingface import CHECKPOINT_FORMAT
from triptych.train import checkpoint
from triptych.train.metrics import read_metrics
from triptych.train.ranks import Ranks, joined, num_processes
from triptych.train.tracking import TrackingConfig


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
    expected = _hashes(end)
    settings = _settings(run, end)
    to_step = checkpoint.step_of(end)
    _require_as_many(run, step, to_step)
    with joined(), _copied_start(run, begin, Ranks.current()) as again:
        watch = Watch(on_step=on_step, stop_at_step=to_step)
        try:
            pretrain(dataclasses.replace(settings, output=str(again)), watch)
        except Interrupted:
            pass  # where it was to stop
        found = _hashes(again / "checkpoints" / end.name)
    differing = sorted(
        name
        for name in expected.keys() | found.keys()
        if expected.get(name) != found.get(name)
    )
    return {"from_step": step, "to_step": to_step, "differing": differing}


def _require_as_many(run: Path, step: int, to_step: int) -> None:
    """Refuses steps of another number of processes, which round otherwise."""
    steps = [x for x in read_metrics(run) if step < x["step"] <= to_step]
    trained = sorted({line.get("processes", 1) for line in steps})
    if trained not in ([], [num_processes()]):
        numbers = " and ".join(map(str, trained))
        raise ConfigError(
            f"--resume-at: expected to run in as many processes as trained steps "
            f"{step + 1} to {to_step}, which are {numbers}, found {num_processes()}; "
            "`torchrun --nproc-per-node N -m triptych verify …` starts N"
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


def _settings(run: Path, end: Path) -> PretrainConfig:
    found = settings_of(run)
    # The windows that it left out by then; one that came later is in no state before it.
    skip = tuple((first, behind) for first, behind in checkpoint.read_state(end).skip)
    # No checkpoint may go, and nobody reads what an evaluation would say.
    stages = tuple(dataclasses.replace(stage, evaluation=None) for stage in found.stage)
    fixed = dataclasses.replace(found.parallel, elastic=None)
    return dataclasses.replace(
        found,
        stage=stages,
        skip=skip,
        evaluation={},
        keep_checkpoints=1_000_000,
        parallel=fixed,
        tracking=TrackingConfig(),
    )


@contextmanager
def _copied_start(run: Path, begin: Path, ranks: Ranks) -> Iterator[Path]:
    """A folder with the checkpoint to go on from, which all processes use, for a while."""
    if not ranks.is_first:
        yield Path(ranks.gather(None)[0])
        ranks.gather(None)
        return
    # Several machines share the run's folder, and perhaps no other.
    place = run if ranks.size > 1 else None
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=place) as scratch:
        again = Path(scratch) / "run"
        shutil.copytree(begin, again / "checkpoints" / begin.name)
        ranks.gather(str(again))
        yield again
        ranks.gather(None)  # all have read


def _hashes(folder: Path) -> dict[str, str]:
    manifest = verify(folder, CHECKPOINT_FORMAT)
    return {name: file.sha256 for name, file in manifest.files.items()}
