"""What makes a run the run it is: what must be the same when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError
from triptych.train.batch import DataSource, data_fingerprint
from triptych.train.objective import Objective
from triptych.train.precision import Precision
from triptych.train.train_config import TrainConfig

DATA = "data"
_ROWS = "data (of the rows: sources, seq_len, batches, mixtures, packing)"


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
