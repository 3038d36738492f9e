"""What makes a run the run it is: what must be the same when it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError
from triptych.model.config import ModelConfig
from triptych.train.batch import DataSource, data_fingerprint
from triptych.train.objective import Objective
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks
from triptych.train.train_config import TrainConfig

DATA = "data"
_ROWS = "data (of the rows: sources, seq_len, batches, mixtures, packing)"
# Where a process finds the run's folder, and what the first one alone shows elsewhere.
_OWN = ("output", "tensorboard", "tracking")


def run_identity(
    config: TrainConfig, objective: Objective, data: DataSource, precision: Precision
) -> dict[str, Any]:
    """Objective, data and settings that change what is computed; anything JSON."""
    return {
        "objective": objective.name,
        **getattr(objective, "settings", {}),
        "seed": config.seed,
        "precision": precision.name,
        "clip_norm": config.clip_norm,
        "spike_sigmas": config.spike_sigmas,
        "optimizer": asdict(config.optimizer),
        "average": config.average and asdict(config.average),
        "stages": [asdict(stage) for stage in config.stages],
        "exits": [ends and asdict(ends) for ends in config.exits],
        # Last, since what is above changes it as well and says more than a hash.
        DATA: data_fingerprint(data),
    }


def require_same_run(
    folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Refuses to go on from the checkpoint of another run.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    for key, value in expected.items():
        if found.get(key) != value:
            what = _ROWS if key == DATA else key
            raise ConfigError(
                f"`{folder}` belongs to another run: {what}: expected {value}, "
                f"found {found.get(key)}; choose another output folder"
            )


def require_alike(
    ranks: Ranks,
    config: TrainConfig,
    objective: Objective,
    data: DataSource,
    model: ModelConfig,
) -> None:
    """Refuses processes that were not started alike: their weights would part unseen.

    Also what is no part of a run is to be the same: who saves waits for the others.

    Raises:
        ConfigError: in every process, naming the first setting that differs.
    """
    if ranks.size == 1:
        return
    settings = {key: x for key, x in asdict(config).items() if key not in _OWN}
    own = {
        "objective": {"name": objective.name, **getattr(objective, "settings", {})},
        "model": asdict(model),
        **settings,
        DATA: data_fingerprint(data),
    }
    first, *others = ranks.gather(dict(_leaves("", own)))
    for number, other in enumerate(others, start=1):
        for key in (
            key for key in {**first, **other} if first.get(key) != other.get(key)
        ):
            raise ConfigError(
                f"{_ROWS if key == DATA else key}: expected the same in all {ranks.size} "
                f"processes, found {first.get(key)} in process 0 and {other.get(key)} in "
                f"process {number}; start all with the same configuration and files"
            )


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each single value in tables and lists, by its path, as text."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _leaves(f"{key}[{number}]", inner)
    else:
        yield key, json.dumps(value, default=str)
