"""What the loop asks of an objective: sums and counts, never means.

The Trainer divides once, by the count of the whole step. So the gradient depends
neither on micro-batches nor on packing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from triptych.model.transformer import Transformer
from triptych.train.batch import Batch


@dataclass(frozen=True)
class LossSum:
    """Loss of a batch, before any division.

    Attributes:
        loss_sum: scalar float32 that gradients flow from.
        count: what the sum is to be divided by, summed over the step.
        metrics: detached scalar sums over the same things that `count` counts.
    """

    loss_sum: Tensor
    count: float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """A stage of training, in a few dozen lines.

    It may also have `prepare(model, batches, count, gather)`, called before the first
    `loss` of a step: see `RouterBalance`. And `settings`, values by their configuration
    keys: a run goes on with the same ones only.
    """

    @property
    def name(self) -> str:
        """Name in metrics and checkpoints."""

    def count(self, batch: Batch) -> float:
        """What `loss` of this batch will count; known before any computing."""

    def loss(self, model: Transformer, batch: Batch) -> LossSum:
        """Sum of the losses of a batch."""
