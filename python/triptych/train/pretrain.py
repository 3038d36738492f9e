"""Pre-training: next-token prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, float64

from triptych.errors import ConfigError
from triptych.model.transformer import Transformer
from triptych.train.batch import Batch
from triptych.train.objective import LossSum


@dataclass(frozen=True)
class PretrainObjective:
    """Negative log-likelihood of each next token, in nats, weighted by the batch.

    Attributes:
        z_loss: weight of lse ** 2 (1e-4 in PaLM, Chowdhery et al. 2022, section 5).
        label_smoothing: share of each target spread over the vocabulary.
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    name: str = "pretrain"

    def __post_init__(self) -> None:
        if not 0.0 <= self.z_loss < math.inf:
            raise ConfigError(f"z_loss: expected at least 0, found {self.z_loss!r}")
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ConfigError(
                f"label_smoothing: expected in [0, 1], found {self.label_smoothing!r}"
            )

    @property
    def settings(self) -> dict[str, float]:
        """What must be the same when a run goes on."""
        return {"z_loss": self.z_loss, "label_smoothing": self.label_smoothing}

    def count(self, batch: Batch) -> float:
        """Sum of the weights: supervised tokens, where weights are 0 and 1."""
        return float(batch.host.weights.sum(dtype=float64))

    def loss(self, model: Transformer, batch: Batch) -> LossSum:
        """Weighted sum over supervised tokens."""
        return LossSum(self.loss_sum(model, batch), self.count(batch))

    def loss_sum(self, model: Transformer, batch: Batch) -> Tensor:
        """() float32, the same by itself."""
        hidden = model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
        return model.cross_entropy(
            hidden,
            model.output_weight,
            batch.labels,
            weights=batch.weights,
            z_loss=self.z_loss,
            label_smoothing=self.label_smoothing,
            softcap=model.logit_softcap,
            reduction="sum",
        )
