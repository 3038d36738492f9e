"""Direct preference optimisation: alignment without a reward model.

A batch holds pairs: segment 2i is the chosen reply to a prompt, 2i + 1 the rejected
one. What the reference model thinks of each is computed once, before training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from triptych import ops
from triptych.artefact import FILE_NAME, Draft, verify
from triptych.config import require_numbers
from triptych.errors import ConfigError, InputError
from triptych.model.shards import write_tensors
from triptych.model.transformer import Transformer
from triptych.train.batch import Batch, DataSource
from triptych.train.objective import LossSum
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks
from triptych.train.sft import segment_sums

REFERENCE_FORMAT = "triptych-reference/1"
TABLE = "logps.safetensors"


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Direct preference optimisation loss (Rafailov et al. 2023, eq. 7).

    Args:
        policy_chosen_logps: (B,) summed log-probability, in nats, of each chosen
            response under the policy. The other three are alike.
        policy_rejected_logps: of each rejected response.
        reference_chosen_logps: under the reference.
        reference_rejected_logps: under the reference.
        beta: strength of the KL penalty; larger keeps closer to the reference.
        label_smoothing: probability in [0, 0.5) that a preference is the wrong way
            round (conservative DPO, Mitchell 2023, eq. 3).

    Returns:
        (B,) loss of each pair; ln 2 where policy and reference agree.
    """
    chosen_log_ratio = policy_chosen_logps - reference_chosen_logps
    rejected_log_ratio = policy_rejected_logps - reference_rejected_logps
    margin = beta * (chosen_log_ratio - rejected_log_ratio)
    right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return (1.0 - label_smoothing) * right + label_smoothing * wrong


def response_logps(model: Transformer, batch: Batch) -> Tensor:
    """(segments,) float32 summed log-probability of each segment's supervised labels.

    Weights count as a mask: a label is in if its weight is above 0.
    """
    hidden = model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    labels = batch.labels.masked_fill(batch.weights <= 0, ops.IGNORE_INDEX)
    logps = ops.linear_logprobs(
        hidden, model.output_weight, labels, softcap=model.logit_softcap
    )
    return segment_sums(logps, batch)


@dataclass
class ReferenceLogps:
    """Log-probability of each response under the reference, by (source, document)."""

    table: dict[tuple[int, int], float] = field(default_factory=dict)

    def missing(self, batch: Batch) -> bool:
        """Whether any segment of the batch has no entry."""
        return any(key not in self.table for key in _keys(batch))

    def add(self, batch: Batch, logps: Tensor) -> None:
        """Enters (segments,) log-probabilities of a batch."""
        self.table.update(zip(_keys(batch), logps.tolist(), strict=True))

    def of(self, batch: Batch) -> Tensor:
        """(segments,) float32 entries of a batch, on its device.

        Raises:
            InputError: a document has no entry.
        """
        try:
            found = [self.table[key] for key in _keys(batch)]
        except KeyError as error:
            raise InputError(
                "reference log-probabilities: expected one for every document, found "
                f"none for (source, document) {error}"
            ) from None
        return torch.tensor(found, dtype=torch.float32, device=batch.input_ids.device)

    def save(self, folder: Path, made_from: Mapping[str, str]) -> None:
        """Commits the table, naming the model and the data it was made from."""
        keys = torch.tensor(list(self.table), dtype=torch.int64).reshape(-1, 2)
        logps = torch.tensor(list(self.table.values()), dtype=torch.float32)
        with Draft(folder) as draft:
            write_tensors(draft.path(TABLE), {"keys": keys, "logps": logps})
            draft.commit(REFERENCE_FORMAT, made_from, {"documents": len(self.table)})

    @classmethod
    def load(cls, folder: Path, made_from: Mapping[str, str]) -> ReferenceLogps:
        """Reads a table, verified.

        Raises:
            ConfigError: it was made from another model or other data.
            IntegrityError: a file is not as its manifest says.
        """
        found = verify(folder, REFERENCE_FORMAT).made_from
        if found != dict(made_from):
            raise ConfigError(
                f"reference log-probabilities at `{folder}` are of another model or "
                f"other data: expected {dict(made_from)}, found {found}"
            )
        tensors = load_file(folder / TABLE)
        keys = [(source, document) for source, document in tensors["keys"].tolist()]
        return cls(dict(zip(keys, tensors["logps"].tolist(), strict=True)))


def reference_logps(
    model: Transformer,
    data: DataSource,
    *,
    cache: Path | None = None,
    made_from: Mapping[str, str] | None = None,
    micro_batch_rows: int = 8,
    precision: str = "auto",
    on_step: Callable[[int], None] | None = None,
) -> ReferenceLogps:
    """Log-probabilities of every document of `data` under `model`, computed once.

    Of several processes each computes those of every so many-th step; all get the table.

    Args:
        model: the reference; usually the policy before its first step.
        data: the rows that will be trained on.
        cache: folder to keep the table in; read if it is there already.
        made_from: hashes of weights and data, which a cache must have been made from.
        micro_batch_rows: rows at once; take those of training, and its precision,
            for a loss of exactly ln 2 at the start.
        precision: as in `TrainConfig`.
        on_step: called with each step done.
    """
    ranks = Ranks.current()
    if ranks.gather(cache is not None and (cache / FILE_NAME).exists())[0]:
        assert cache is not None
        return ReferenceLogps.load(cache, made_from or {})
    table = ReferenceLogps()
    device = model.output_weight.device
    cast = Precision.choose(precision, device)
    for step in range(ranks.rank, data.num_steps, ranks.size):
        num_rows = data.rows_per_step(step)
        for first in range(0, num_rows, micro_batch_rows):
            batch = data.batch(step, first, min(micro_batch_rows, num_rows - first))
            if table.missing(batch):
                with torch.no_grad(), cast.autocast():
                    table.add(batch, response_logps(model, batch.to(device)))
        if on_step is not None:
            on_step(step)
    parts = ranks.gather([[*key, logp] for key, logp in table.table.items()])
    table = ReferenceLogps({(s, d): logp for part in parts for s, d, logp in part})
    if cache is not None and ranks.is_first:
        table.save(cache, made_from or {})
    return table


@dataclass(frozen=True)
class DpoObjective:
    """`dpo_loss` summed over the pairs of a batch.

    Metrics are means over pairs: `accuracy` (chosen reward above rejected, ties
    half), `margin` (of rewards, which are beta times the log-ratio), `chosen_logps`,
    `rejected_logps`.
    """

    reference: ReferenceLogps
    beta: float = 0.1  # Rafailov et al. 2023, appendix B
    label_smoothing: float = 0.0
    name: str = "dpo"

    def __post_init__(self) -> None:
        require_numbers(self)
        if self.beta <= 0.0:
            raise ConfigError(f"beta: expected above 0, found {self.beta!r}")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"label_smoothing: expected in [0, 0.5), found {self.label_smoothing!r}"
            )

    @property
    def settings(self) -> dict[str, float]:
        """What must be the same when a run goes on."""
        return {"beta": self.beta, "label_smoothing": self.label_smoothing}

    def count(self, batch: Batch) -> float:
        """Pairs in the batch."""
        _check_pairs(batch.host)
        return batch.num_segments / 2

    def loss(self, model: Transformer, batch: Batch) -> LossSum:
        """Sum over pairs."""
        count = self.count(batch)
        policy = response_logps(model, batch).view(-1, 2)
        reference = self.reference.of(batch).view(-1, 2)
        losses = dpo_loss(
            policy[:, 0],
            policy[:, 1],
            reference[:, 0],
            reference[:, 1],
            beta=self.beta,
            label_smoothing=self.label_smoothing,
        )
        rewards = self.beta * (policy.detach() - reference)
        return LossSum(losses.sum(), count, _pair_metrics(policy.detach(), rewards))


def _pair_metrics(logps: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Sums over (pairs, 2) log-probabilities and rewards, chosen first."""
    margins = rewards[:, 0] - rewards[:, 1]
    return {
        "accuracy": ((margins > 0).float() + 0.5 * (margins == 0).float()).sum(),
        "margin": margins.sum(),
        "chosen_logps": logps[:, 0].sum(),
        "rejected_logps": logps[:, 1].sum(),
    }


def _keys(batch: Batch) -> list[tuple[int, int]]:
    host = batch.host
    return list(zip(host.sources.tolist(), host.documents.tolist(), strict=True))


def _check_pairs(batch: Batch) -> None:
    """Chosen and rejected stand side by side and come from one source."""
    sources, documents = batch.sources, batch.documents.long()
    even = batch.num_segments % 2 == 0
    if even and bool((sources[::2] == sources[1::2]).all()):
        if bool((documents[1::2] == documents[::2] + 1).all()):
            return
    raise InputError(
        "preference pairs: expected chosen and rejected as neighbouring documents, "
        f"found documents {batch.documents[:6].tolist()} ..."
    )
