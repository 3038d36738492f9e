"""What a run tells while it goes: a line and a status a step, by one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.train.health import finite
from triptych.train.measures import Goodput
from triptych.train.metrics import MetricsLog, read_metrics
from triptych.train.tracking import Trackers
from triptych.train.train_config import Metrics, TrainConfig


class RunLog:
    """Nothing is written where `writes` is false: another process does.

    Args:
        config: of the run; its folder and trackers.
        step: steps done; lines of later ones are cut off.
        identity: of the run, for trackers.
    """

    def __init__(
        self,
        config: TrainConfig,
        step: int,
        identity: Mapping[str, Any],
        *,
        writes: bool,
    ) -> None:
        self._log: MetricsLog | None = None
        if not writes:
            return
        output = Path(config.output)
        shown = Trackers(config.tracking, output, identity)
        self._log = MetricsLog(
            output, step, tensorboard=config.tensorboard, trackers=shown
        )
        self._goodput = Goodput(output, read_metrics(output))

    def report(self, metrics: Metrics, num_steps: int, last: Path | None) -> None:
        """Writes a step's metrics, which get `goodput`, and what the run has come to."""
        metrics["loss"] = finite(metrics["loss"])
        if self._log is None:
            return
        metrics["goodput"] = self._goodput.share(metrics)
        self._log.write(metrics)
        self._log.status(
            {
                **metrics,
                "num_steps": num_steps,
                "checkpoint": None if last is None else str(last),
                "state": "running" if metrics["step"] < num_steps else "finished",
            }
        )

    def close(self) -> None:
        """Flushes and closes what is open."""
        if self._log is not None:
            self._log.close()
