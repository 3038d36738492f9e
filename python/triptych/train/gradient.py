"""The gradient of a step: launched on a device, and read where the host must know.

On a GPU the host only hands work over. So a step's update is launched with a number that
the device itself sets, 1 where the step is at fault and the update is to be left out; the
next step's gradient is launched behind it; and only then does the host wait for what the
first one gave. The device always has work, and weights see the same updates.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from triptych import ops
from triptych.model.transformer import Transformer
from triptych.train.adamw import AdamW
from triptych.train.batch import Batch
from triptych.train.health import Reading
from triptych.train.muon import Muon
from triptych.train.objective import Objective
from triptych.train.placement import Whole
from triptych.train.precision import Precision

# Kinds of devices that compute while the host goes on.
ASYNCHRONOUS = ("cuda",)


@dataclass(frozen=True)
class Launched:
    """A step whose gradient a device is computing, or has computed.

    Attributes:
        step: counted from 0.
        batches: what this process reads in it.
        count: what the whole step's sums are divided by; 0 leaves nothing to compute.
        totals: `loss` and metrics summed over the batches, float64 scalars on the device.
        read: what each process reads in it, see `batch.read_by`, and its operations.
        data_seconds: how long its batches were waited for.
    """

    step: int
    batches: Sequence[Batch]
    count: float
    totals: Mapping[str, Tensor]
    read: Sequence[Any]
    data_seconds: float


class Launcher:
    """Runs forward and backward passes over the batches of a step."""

    def __init__(
        self,
        model: Transformer,
        objective: Objective,
        precision: Precision,
        scaler: torch.amp.GradScaler,
        placement: Whole,
        seed: int,
    ) -> None:
        self.model, self.objective, self.precision = model, objective, precision
        self.scaler, self.placement, self.seed = scaler, placement, seed

    def launch(
        self,
        step: int,
        batches: Sequence[Batch],
        count: float,
        read: Sequence[Any] = (),
        data_seconds: float = 0.0,
    ) -> Launched:
        """Adds up the gradient of a step in the parameters, from none."""
        torch.manual_seed(step_seed(self.seed, step))
        self.placement.zero_grad()
        totals: dict[str, Tensor] = {}
        device = self.model.output_weight.device
        used = [b for b in batches if count and self._uses(b)]
        self._prepare(used, count)
        with self._casting(), self._accumulating():
            for batch in used:
                self._add(totals, self._pass(batch.to(device), count))
        return Launched(step, batches, count, totals, read, data_seconds)

    def _uses(self, batch: Batch) -> bool:
        """Whether a batch is computed: one without a target may change a whole step."""
        every = not self.placement.may_skip or hasattr(self.objective, "prepare")
        return every or bool(self.objective.count(batch))

    def _casting(self) -> AbstractContextManager[None]:
        once = self.placement.casts_once
        return self.precision.weights_cast_once() if once else nullcontext()

    def _accumulating(self) -> AbstractContextManager[None]:
        return ops.accumulating() if self.placement.adds_gradients else nullcontext()

    def _pass(self, batch: Batch, count: float) -> dict[str, Tensor]:
        """Forward and backward; the loss sum and metrics."""
        with self.precision.autocast():
            part = self.objective.loss(self.model, batch)
        self.scaler.scale(part.loss_sum / count).backward()  # type: ignore[no-untyped-call]
        return {"loss": part.loss_sum, **part.metrics}

    @staticmethod
    def _add(totals: dict[str, Tensor], found: Mapping[str, Tensor]) -> None:
        for key, value in found.items():
            value = value.detach().double()
            totals[key] = totals[key] + value if key in totals else value

    def again(self, launched: Launched) -> Launched:
        """The same gradient, over whatever stands in the parameters."""
        found = launched
        return self.launch(
            found.step, found.batches, found.count, found.read, found.data_seconds
        )

    def _prepare(self, batches: Sequence[Batch], count: float) -> None:
        """Shows an objective that looks at the whole step its batches, if it does."""
        prepare = getattr(self.objective, "prepare", None)
        if prepare is not None:
            device = self.model.output_weight.device
            moved = [batch.to(device) for batch in batches]
            with self.precision.autocast():
                prepare(self.model, moved, count, self.placement.ranks.gather_sums)


def step_seed(seed: int, step: int) -> int:
    """Seed of whatever is random at a step; distinct below 2**32 steps."""
    return (seed << 32) + step


class Numbers:
    """Scalars of a device on their way to the host, which may do other things meanwhile."""

    def __init__(self, scalars: Mapping[str, Tensor]) -> None:
        self.names = list(scalars)
        stacked = torch.stack([x.detach().double() for x in scalars.values()])
        self.copied = stacked.to("cpu", non_blocking=True)
        self.arrived: torch.cuda.Event | None = None
        if stacked.is_cuda:
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.arrived.record()

    def read(self) -> dict[str, float]:
        """Waits for them."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.copied.tolist(), strict=True))


def can_leave_out(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step_unless` works with it."""
    fused = bool(optimizer.defaults.get("fused"))
    return isinstance(optimizer, Muon) or (isinstance(optimizer, AdamW) and fused)


def step_unless(faulty: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """An update that leaves everything as it is if `faulty`, a () bool, is true."""
    # What torch's fused kernels are told of an overflow by, see torch.amp.GradScaler.
    optimizer.found_inf = faulty.float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def exceeds(loss: Tensor, grad_norm: Tensor, limits: Reading) -> Tensor:
    """() bool: whether a reading on the device is above its limits, or not finite."""
    largest = sys.float_info.max
    trusted = loss.double().abs() <= largest
    trusted &= loss.double() <= limits.loss
    trusted &= grad_norm.double() <= min(limits.grad_norm, largest)
    return ~trusted
