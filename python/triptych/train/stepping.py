"""One step: rows, sums and counts of an objective, one update.

It takes its rows from a pure function, adds up gradients over micro-batches, divides once
by the count of the whole step, clips, and updates if the gradient is to be trusted. So the
result depends neither on micro-batches nor on interruptions.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from triptych._core import Order
from triptych.model.transformer import Transformer
from triptych.train import gradient
from triptych.train.batch import Batch, DataSource, read_by
from triptych.train.checkpoint import TrainState
from triptych.train.gradient import Launched, Launcher, Numbers
from triptych.train.health import Reading, SpikeWatch, finite
from triptych.train.incidents import IncidentLog, documents_of
from triptych.train.measures import peak_memory_mib, step_flops
from triptych.train.objective import Objective
from triptych.train.optimizer import set_lr
from triptych.train.placement import Whole
from triptych.train.ranks import Ranks, add_sums
from triptych.train.schedule import StageSchedule, stage_at
from triptych.train.train_config import Metrics, TrainConfig

# Of a step without anything to learn, as where all of its rows are a long question: it is
# left out, but no sign of a run that has gone wrong.
NOTHING = "nothing_supervised"


class Stepping(ABC):
    """What a step needs, which the Trainer puts in place, and the step."""

    model: Transformer
    objective: Objective
    data: DataSource
    config: TrainConfig
    stages: list[StageSchedule]
    state: TrainState
    device: torch.device
    ranks: Ranks
    placement: Whole
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    launcher: Launcher
    looks_ahead: bool
    _ahead: Launched | None  # the next step, if it is launched already
    spike_watch: SpikeWatch
    incidents: IncidentLog
    peak_flops: float

    @property
    def num_steps(self) -> int:
        """Steps of all stages, those that ended early counted as far as they went."""
        return sum(stage.steps for stage in self.stages)

    @abstractmethod
    def _check_bad_steps(self, step: int, reading: Reading) -> None:
        """Ends the run, or leads it back, after too many steps that were left out."""

    def _may_look_ahead(self) -> bool:
        """Whether a step may be launched before it is known what the last one gave."""
        return (
            self.device.type in gradient.ASYNCHRONOUS
            and not self.scaler.is_enabled()
            and gradient.can_leave_out(self.optimizer)
            and not hasattr(self.objective, "prepare")  # it reads the device itself
        )

    def _step(self, step: int) -> Metrics:
        """One update; returns its metrics."""
        started = time.perf_counter()
        index, step_in_stage = stage_at(self.stages, step)
        stage = self.stages[index]
        lr = stage.lr(step_in_stage + 1)
        set_lr(self.optimizer, lr)
        launched, self._ahead = self._ahead or self._launch(step), None
        sums, reading, fault = self._update(launched)
        self._count_step(reading, fault)
        if launched.count:
            self.scaler.update()
        self._check_bad_steps(step, reading)
        tokens, flops, ids_hash = self._account(launched.read)
        self.state.step = step + 1
        ended = time.perf_counter()
        return {
            "step": step + 1,
            "stage": stage.name,
            **sums,
            "lr": lr,
            "grad_norm": finite(reading.grad_norm),
            **({} if fault is None else {"fault": fault}),
            "count": launched.count,
            "tokens": self.state.tokens,
            "tokens_per_second": tokens / (ended - started),
            "processes": self.ranks.size,
            "step_seconds": ended - started,
            "data_seconds": launched.data_seconds,
            "mfu": flops / (ended - started) / self.peak_flops / self.ranks.size,
            "memory_mib": peak_memory_mib(self.device),
            "skipped_steps": self.state.skipped_steps,
            "ids_hash": f"{ids_hash:016x}",
            "rolling_hash": f"{self.state.rolling_hash:016x}",
        }

    def _account(self, parts: Sequence[Any]) -> tuple[int, int, int]:
        """Enters what each process has read in a step into the state.

        Returns its tokens, its operations and the hash of its ids.
        """
        names = list(getattr(self.data, "sources", ()))
        tokens = self.state.add_read([read for (read, _), _ in parts], names)
        ids_hash = sum(part_hash for (_, part_hash), _ in parts) % 2**64
        self.state.rolling_hash = Order.roll(self.state.rolling_hash, ids_hash)
        return tokens, sum(flops for _, flops in parts), ids_hash

    def _micro_batches(self, step: int) -> list[Batch]:
        rows, size = (
            self.ranks.share(self.data.rows_per_step(step)),
            self.config.micro_batch_rows,
        )
        return [
            self.data.batch(step, first, min(size, rows.stop - first))
            for first in rows[::size]
        ]

    def _prefetch(self) -> None:
        """Lets the data make batches ahead, if it can."""
        prefetch = getattr(self.data, "prefetch", None)
        if prefetch is not None and self.state.step < self.num_steps:
            step, rows = self.state.step, self.config.micro_batch_rows
            prefetch(step, rows, self.ranks.place)

    def _launch(self, step: int) -> Launched:
        """Reads the rows of a step and has its gradient computed."""
        started = time.perf_counter()
        batches = self._micro_batches(step)
        waited = time.perf_counter() - started
        own_count = sum(self.objective.count(batch) for batch in batches)
        read = (read_by(batches), step_flops(self.model.config, batches))
        # All that a step tells but its sums, before them: after the update there is
        # nothing left to wait for.
        counts, parts = zip(*self.ranks.gather_shares((own_count, read)), strict=True)
        return self.launcher.launch(step, batches, math.fsum(counts), parts, waited)

    def _update(
        self, launched: Launched
    ) -> tuple[dict[str, float], Reading, str | None]:
        """Updates by a gradient that can be trusted; what was read, and its fault."""
        looked_ahead = bool(launched.count) and self.looks_ahead
        read = self._update_ahead if looked_ahead else self._read
        sums, reading = read(launched)
        fault = self._fault(reading) if launched.count else NOTHING
        if fault is None and looked_ahead:
            return sums, reading, fault  # the device has updated
        # The next gradient, if it is launched, stands in this one's place.
        ahead, self._ahead = self._ahead, None
        if fault is not None and launched.count:
            sums, reading, fault = self._examine(launched, sums, reading, fault)
        self._conclude(fault)
        if ahead is not None:
            self._ahead = self.launcher.again(ahead)
        return sums, reading, fault

    def _conclude(self, fault: str | None) -> None:
        """Updates, unless the step is at fault; from here on it is done."""
        if fault is None:
            self.optimizer.step()  # unscaled, and finite

    def _update_ahead(self, launched: Launched) -> tuple[dict[str, float], Reading]:
        """The update, the next step's gradient, and then what this one gave.

        The device compares loss and norm with the limits that `_fault` has, and leaves
        the update out where they are above.
        """
        self.placement.sum_gradients()
        totals = self.ranks.add_totals(launched.totals, self.device)
        grad_norm = self.placement.clip_on_device(self._clip_norm)
        sums = {key: x / launched.count for key, x in totals.items()}
        limits = self.spike_watch.limits(self.config.spike_sigmas)
        faulty = gradient.exceeds(sums["loss"], grad_norm, limits)
        gradient.step_unless(faulty, self.optimizer)
        numbers = Numbers({**sums, " norm": grad_norm})
        if launched.step + 1 < self.num_steps:
            self._ahead = self._launch(launched.step + 1)
        read = numbers.read()
        norm = read.pop(" norm")
        return read, Reading(read["loss"], norm)

    def _read(self, launched: Launched) -> tuple[dict[str, float], Reading]:
        """Sums of a step, its gradient being left, clipped, in the parameters."""
        own = {key: total.item() for key, total in launched.totals.items()}
        added = add_sums(self.ranks.gather_sums(own))
        self.placement.sum_gradients()
        sums = {key: total / launched.count for key, total in added.items()}
        sums = sums or {"loss": math.nan}  # nothing to learn: the step is skipped
        if launched.count:
            self.scaler.unscale_(self.optimizer)
        return sums, Reading(sums["loss"], self.placement.clip(self._clip_norm))

    def _examine(
        self,
        launched: Launched,
        sums: dict[str, float],
        reading: Reading,
        fault: str,
    ) -> tuple[dict[str, float], Reading, str | None]:
        """What a step that looks wrong gives in the end, and its fault if that remains.

        Under fp16 a gradient that overflows is routine, and a step is not computed
        again: its scale is for the next one.
        """
        if not self.scaler.is_enabled():
            return self._repeat(launched, reading, fault)
        if fault != "not_finite" or not math.isfinite(reading.loss):
            self._enter(self._incident(launched.step, fault, reading, None, fault))
        return sums, reading, fault

    def _repeat(
        self, launched: Launched, reading: Reading, fault: str
    ) -> tuple[dict[str, float], Reading, str | None]:
        """Computes a step that looks wrong once more; returns what it gives then.

        A fault that is gone the second time was the machine's, one that stays is the
        data's or the weights'.
        """
        sums, again = self._read(self.launcher.again(launched))
        remains = self._fault(again)
        self._enter(self._incident(launched.step, fault, reading, again, remains))
        return sums, again, remains

    def _incident(
        self,
        step: int,
        fault: str,
        reading: Reading,
        again: Reading | None,
        remains: str | None,
    ) -> Metrics:
        return {
            "step": step + 1,
            "action": "updated" if remains is None else "skipped",
            "fault": fault,
            **reading.as_json(),
            "again": None if again is None else again.as_json(),
            # NaN is not equal to itself
            "repeated": None if again is None else repr(reading) == repr(again),
            "documents": documents_of(self.data, step),
        }

    @property
    def _clip_norm(self) -> float:
        return self.config.clip_norm or math.inf

    def _fault(self, reading: Reading) -> str | None:
        return self.spike_watch.fault(reading, self.config.spike_sigmas)

    def _count_step(self, reading: Reading, fault: str | None) -> None:
        """Enters a step that updated, or one that was left out because of a fault."""
        if fault is None:
            self.state.bad_steps = 0
            if self.placement.average is not None:
                updates = self.placement.average.update(self.state.averaged_updates)
                self.state.averaged_updates = updates
        else:
            self.state.skipped_steps += 1
            if fault != NOTHING:
                self.state.add_bad()
        self.spike_watch.add(reading)

    def _enter(self, incident: Metrics) -> None:
        """Writes an incident, once, before any process goes on."""
        if self.ranks.is_first:
            self.incidents.write(incident)
        self.ranks.gather(None)
