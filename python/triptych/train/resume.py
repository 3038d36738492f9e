"""Where a run goes on: the data it has left, and the checkpoint that agrees with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.artefact import read_json
from triptych.errors import ConfigError, IntegrityError
from triptych.train import checkpoint
from triptych.train.batch import DataSource
from triptych.train.checkpoint import TrainState
from triptych.train.incidents import Window, before, merged
from triptych.train.precision import DTYPES, Precision
from triptych.train.ranks import Ranks


def without(data: Any, windows: Sequence[Window]) -> Any:
    """The same data with these windows of data steps left out as well."""
    return data.skipping(merged([*data.skip, *windows])) if windows else data


def settled_precision(
    name: str, device: torch.device, folder: Path, ranks: Ranks
) -> Precision:
    """`name`; with `auto` what the run in `folder` began with, as its bits depend on it.

    A run that begins takes the fastest type, and fp32 where processes differ in that.
    """
    if name == "auto":
        own = _begun_in(folder) or Precision.choose(name, device).name
        first, *others = ranks.gather(own)
        name = first if all(other == first for other in others) else "fp32"
    return Precision.choose(name, device)


def _begun_in(folder: Path) -> str | None:
    """Precision of the newest checkpoint that can be read; it is verified later."""
    for candidate in reversed(checkpoint.steps_in(folder)):
        try:
            run = read_json(candidate / checkpoint.STATE).get("run")
        except (IntegrityError, OSError):
            continue
        name = run.get("precision") if isinstance(run, dict) else None
        if name in DTYPES:
            return str(name)
    return None


def newest_checkpoint(folder: Path, data: DataSource) -> tuple[Path | None, list[Path]]:
    """The newest that is whole and has read what `data` gives; None for none at all.

    The newer ones come with it: they have read what is to be skipped, and must leave
    the run before it saves again.

    Raises:
        ConfigError: every one has read data that is to be skipped.
        IntegrityError: every one is damaged.
    """
    newer: list[Path] = []
    for candidate in checkpoint.whole(folder):
        if has_read_the_same(data, checkpoint.read_state(candidate)):
            return candidate, newer
        newer.append(candidate)
    if newer:
        raise ConfigError(
            f"skip: expected windows behind what the oldest checkpoint has read, "
            f"`{newer[-1]}`, found {list(getattr(data, 'skip', ()))}; choose another "
            "output folder to begin again without them"
        )
    return None, []


def has_read_the_same(data: Any, state: TrainState) -> bool:
    """Whether the steps behind `state` are those that `data` gives."""
    skip = getattr(data, "skip", ())
    past = [(first, end) for first, end in state.skip]
    if state.step == 0 or list(skip) == past or state.step > data.num_steps:
        return True  # one with more steps is another run, which is said later
    end = data.data_step(state.step - 1) + 1
    return before(skip, end) == before(past, end)
