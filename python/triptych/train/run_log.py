"""What a run tells while it goes: a line and a status a step, by one process.

A thread writes them while the next step is computed: they take some 5 milliseconds, in
which a GPU would stand still.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from triptych.train.health import finite
from triptych.train.measures import Goodput
from triptych.train.metrics import MetricsLog, read_metrics
from triptych.train.tracking import Trackers
from triptych.train.train_config import Metrics, TrainConfig


class RunLog:
    """Nothing is written before it is opened: another process does.

    Args:
        config: of the run; its folder and trackers.
        identity: of the run, for trackers.
    """

    def __init__(self, config: TrainConfig, identity: Mapping[str, Any]) -> None:
        self.config, self.identity = config, identity
        self._log: MetricsLog | None = None
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._writing: Future[None] | None = None
        self._last: Metrics = {}  # the last step's, whoever reported it
        self._told: Metrics | None = None  # the last status of this process

    def open(self, step: int) -> int:
        """Begins to write, behind `step`: lines of later ones are cut off.

        Returns the step of the last line that stands; 0 for none.
        """
        config, output = self.config, Path(self.config.output)
        shown = Trackers(config.tracking, output, self.identity)
        self._log = MetricsLog(
            output, step, tensorboard=config.tensorboard, trackers=shown
        )
        lines = read_metrics(output)
        self._goodput = Goodput(output, lines)
        self._last = lines[-1] if lines else {}
        return int(lines[-1]["step"]) if lines else 0

    @property
    def is_open(self) -> bool:
        """Whether this is the process that writes."""
        return self._log is not None

    def report(self, metrics: Metrics, num_steps: int, last: Path | None) -> None:
        """Has a step's metrics written, which get `goodput`, and how far the run is.

        Raises:
            OSError: those of the step before could not be written.
        """
        # Whatever an objective counts: JSON has no NaN.
        numbers = {k: v for k, v in metrics.items() if isinstance(v, float)}
        metrics.update((key, finite(value)) for key, value in numbers.items())
        if self._log is None:
            return
        metrics["goodput"] = self._goodput.share(metrics)
        self._last = dict(metrics)
        status = self._status(num_steps, last, "running")
        self.wait()
        self._told = status
        self._writing = self._thread.submit(self._write, self._log, self._last, status)

    @staticmethod
    def _write(log: MetricsLog, metrics: Metrics, status: Metrics) -> None:
        log.write(metrics)
        log.status(status)

    def ended(self, num_steps: int, last: Path, state: str) -> None:
        """Says how a run that goes no further stands: where it saved, and a word."""
        if self._log is not None:
            self.wait()
            self._log.status(self._status(num_steps, last, state))

    def broken_off(self, state: str) -> None:
        """Says that a run goes no further which could not save where it was.

        What ends the run is told, and not that this could not be written, as on a full disk.
        """
        if self._log is None or self._told is None:
            return
        with suppress(OSError):
            self.wait()
            self._log.status({**self._told, "state": state})

    def _status(self, num_steps: int, last: Path | None, state: str) -> Metrics:
        checkpoint = None if last is None else str(last)
        how_far = {"num_steps": num_steps, "checkpoint": checkpoint, "state": state}
        return {**self._last, **how_far}

    def wait(self) -> None:
        """Returns when all that was reported is written.

        Raises:
            OSError: it could not be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def leave(self) -> None:
        """Flushes and closes what is open, so that another process may open it."""
        try:
            self.wait()
        finally:
            log, self._log = self._log, None
            if log is not None:
                log.close()

    def close(self) -> None:
        """The same, for good."""
        try:
            self.leave()
        finally:
            self._thread.shutdown()
