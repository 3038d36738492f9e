"""The auxiliary loss that keeps a router from sending all tokens to few experts.

Fedus et al. 2022 (Switch Transformer), equations 4 to 6, as transformers computes it for
Mixtral and Qwen3-MoE: experts * sum over experts of (share of tokens sent to it) * (mean
of its probability), both over all tokens of all sparse layers together.

It is a product of two means over the tokens of a *step*, not of a micro-batch. The
shares are counts and have no gradient; once they are known for the whole step, the rest
is a sum over tokens. So where a step has several micro-batches or processes, a first
pass without gradients counts (about a quarter more time), and the gradient depends on
neither, nor on packing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from triptych.errors import ConfigError
from triptych.model.feedforward import Experts
from triptych.model.transformer import Transformer
from triptych.train.batch import Batch
from triptych.train.objective import LossSum, Objective


@dataclass(frozen=True)
class StepRouting:
    """Where the tokens of a step went.

    Attributes:
        sent: (experts,) float64 number of tokens sent to each expert, over all sparse
            layers.
        tokens: of the step, times sparse layers.
        count: what the objective counts in the step.
    """

    sent: Tensor
    tokens: float
    count: float


class RouterBalance:
    """An objective with `coefficient` times the auxiliary loss added to its mean.

    Its metric `router_aux_loss` is 1 times the experts a token for an even router.
    """

    def __init__(self, objective: Objective, coefficient: float) -> None:
        if not (math.isfinite(coefficient) and coefficient > 0.0):
            raise ConfigError(
                f"router_aux_loss_coef: expected above 0, found {coefficient!r}"
            )
        self.objective, self.coefficient = objective, coefficient
        self.name = f"{objective.name} with {coefficient:g} of router_aux_loss"
        self._step: StepRouting | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the objective; the coefficient is in the name."""
        return getattr(self.objective, "settings", {})

    def count(self, batch: Batch) -> float:
        """What the objective counts."""
        return self.objective.count(batch)

    def prepare(
        self,
        model: Transformer,
        batches: Sequence[Batch],
        count: float,
        gather: Callable[[Any], list[Any]],
    ) -> None:
        """Counts where the tokens of a step go, those of other processes among them.

        Args:
            model: as it is before the step.
            batches: of this process, on the model's device; those that `loss` is
                called with.
            count: of the whole step.
            gather: gives what every process has; anything that is JSON.
        """
        self._step = None
        if sum(gather(len(batches))) <= 1:
            return  # the batch that is the step counts for itself
        sent = torch.zeros(_num_experts(model), dtype=torch.float64)
        tokens = 0
        with torch.no_grad():
            for batch in batches:
                with routed(model) as logits:
                    model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
                sent += _sent(model, logits).cpu()
                tokens += sum(len(x) for x in logits)
        parts = gather([tokens, *sent.tolist()])
        total = torch.tensor(parts, dtype=torch.float64).sum(0)
        self._step = StepRouting(total[1:], float(total[0]), count)

    def loss(self, model: Transformer, batch: Batch) -> LossSum:
        """The objective's sum, and the batch's part of the auxiliary loss.

        Without `prepare` the batch is taken for the whole step.
        """
        with routed(model) as logits:
            part = self.objective.loss(model, batch)
        step = self._step or StepRouting(
            _sent(model, logits), float(sum(len(x) for x in logits)), part.count
        )
        shares = step.sent.to(logits[0].device, torch.float32) / step.tokens
        probability = sum(torch.softmax(x.float(), -1).sum(0) for x in logits)
        auxiliary = len(shares) * (shares * probability).sum() / step.tokens
        auxiliary_sum = auxiliary * step.count
        return LossSum(
            part.loss_sum + self.coefficient * auxiliary_sum,
            part.count,
            {**part.metrics, "router_aux_loss": auxiliary_sum.detach()},
        )


def balanced(
    objective: Objective, model: Transformer, coefficient: float | None
) -> Objective:
    """The objective, with the auxiliary loss where the model has experts.

    Args:
        objective: what to minimise otherwise.
        model: to be trained.
        coefficient: 0 for no such loss; None for that of the model's config.json.
    """
    if coefficient is None:
        coefficient = model.config.router_aux_loss_coef
    if coefficient == 0.0 or not _sparse(model):
        return objective
    return RouterBalance(objective, coefficient)


@contextmanager
def routed(model: Transformer) -> Iterator[list[Tensor]]:
    """Within it, a forward pass leaves (tokens, experts) logits of each sparse layer."""
    logits: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        logits.append(output)

    layers = _sparse(model)
    handles = [layer.gate.register_forward_hook(keep) for layer in layers]
    try:
        yield logits
    finally:
        for handle in handles:
            handle.remove()
    assert len(logits) == len(layers), "a layer did not call its router, or did twice"


def _sparse(model: Transformer) -> list[Experts]:
    return [module for module in model.modules() if isinstance(module, Experts)]


def _num_experts(model: Transformer) -> int:
    assert model.config.num_experts is not None
    return model.config.num_experts


def _sent(model: Transformer, logits: Sequence[Tensor]) -> Tensor:
    """(experts,) float64 tokens that each expert gets, as `Experts.route` chooses."""
    chosen = model.config.num_experts_per_tok or 0
    sent = torch.zeros(
        _num_experts(model), dtype=torch.float64, device=logits[0].device
    )
    for layer in logits:
        probabilities = torch.softmax(layer.detach().float(), dim=-1)
        experts = torch.topk(probabilities, chosen, dim=-1).indices.flatten()
        sent += experts.bincount(minlength=len(sent))
    return sent
