"""Supervised fine-tuning: next-token prediction on the assistant's tokens alone.

The supervision mask arrives as the weights of the batch, so what differs from
pre-training is only what a count is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from triptych.errors import ConfigError
from triptych.model.transformer import Transformer
from triptych.train.batch import Batch
from triptych.train.objective import LossSum
from triptych.train.pretrain import PretrainObjective


@dataclass(frozen=True)
class SftObjective:
    """Negative log-likelihood of supervised tokens, in nats.

    Attributes:
        per: `token`: each supervised token counts 1, so long replies weigh more;
            `conversation`: each conversation counts 1, however long its replies.
        label_smoothing: share of each target spread over the vocabulary.
    """

    per: str = "token"
    label_smoothing: float = 0.0
    name: str = "sft"

    def __post_init__(self) -> None:
        if self.per not in ("token", "conversation"):
            raise ConfigError(
                f"per: expected `token` or `conversation`, found `{self.per}`"
            )
        PretrainObjective(label_smoothing=self.label_smoothing)

    @property
    def settings(self) -> dict[str, str | float]:
        """What must be the same when a run goes on."""
        return {"per": self.per, "label_smoothing": self.label_smoothing}

    def count(self, batch: Batch) -> float:
        """Supervised tokens, or conversations that have some."""
        if self.per == "token":
            return PretrainObjective().count(batch)
        host = batch.host
        return float((segment_sums(host.weights, host) > 0).sum())

    def loss(self, model: Transformer, batch: Batch) -> LossSum:
        """Weighted sum over supervised tokens."""
        count = self.count(batch)
        if self.per == "conversation":
            batch = replace(batch, weights=_equalized(batch))
        nll = PretrainObjective(label_smoothing=self.label_smoothing)
        return LossSum(nll.loss_sum(model, batch), count)


def segment_sums(values: Tensor, batch: Batch) -> Tensor:
    """(segments,) sum of per-token values (tokens,) within each segment."""
    sums = torch.zeros(batch.num_segments, dtype=values.dtype, device=values.device)
    return sums.index_add(0, batch.segment_ids(), values)


def _equalized(batch: Batch) -> Tensor:
    """(tokens,) weights that sum to 1 in each segment that has any."""
    sums = segment_sums(batch.weights, batch)
    shares = torch.where(sums > 0, 1.0 / sums, 0.0)
    return batch.weights * shares[batch.segment_ids()]
