"""Where a model's numbers are while it trains: whole in every process, or in pieces.

The Trainer asks a placement for what depends on that: adding gradients up, their norm,
the whole model, and what a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from triptych.model.transformer import Transformer
from triptych.train import checkpoint
from triptych.train.averaging import AverageConfig, WeightAverage
from triptych.train.checkpoint import TrainState
from triptych.train.health import all_finite
from triptych.train.moments8bit import parts_of
from triptych.train.parallel import ParallelConfig
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks

# Folder, `tokenizer.json`, and which checkpoints stay: see `checkpoint.write`.
Write = Callable[[Path, Path | None, int, int | None], object]


class Whole:
    """Every process holds the whole model; one that is alone does."""

    # Whether a process may pass over rows from which nothing is learnt.
    may_skip = True
    # Whether its layers can be compiled.
    compiles = True
    # Whether a narrow copy of a weight may serve all batches of a step.
    casts_once = True
    # Whether gradients may be added to `grad` past autograd, see `ops.accumulating`.
    adds_gradients = True

    def __init__(self, model: Transformer, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks
        self.average: WeightAverage | None = None

    def held(self) -> dict[str, nn.Parameter]:
        """What this process updates, by name."""
        return dict(self.model.named_parameters())

    def average_by(self, config: AverageConfig | None) -> None:
        """Averages what this process holds from now on, if it is to be."""
        if config is not None:
            self.average = WeightAverage(self.held(), config)

    def adopt(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets a new optimiser update what this process holds."""

    def start_together(self) -> None:
        """Gives all processes the same weights, before the first step."""
        self.ranks.same_start(self.model.parameters())

    @torch.no_grad()
    def begin_again(self, model: Transformer) -> None:
        """Gives what this process holds the numbers of the first one's `model`."""
        self.ranks.same_start(model.parameters())
        weights = dict(model.named_parameters())
        for name, parameter in self.held().items():
            parameter.copy_(self.own(name, weights[name]))
        if self.average is not None:
            self.average.restore(self.held())

    def own(self, name: str, whole: Tensor) -> Tensor:
        """This process's part of a whole parameter: all of it."""
        return whole

    def zero_grad(self) -> None:
        """No parameter has a gradient afterwards."""
        self.model.zero_grad(set_to_none=True)

    def sum_gradients(self) -> None:
        """Adds up the gradients of all processes."""
        self.ranks.sum_gradients(self.model.parameters())

    def clip(self, limit: float) -> float:
        """The norm of the whole gradient, which is scaled down to `limit` if above."""
        return self.clip_on_device(limit).item()

    def clip_on_device(self, limit: float) -> Tensor:
        """The same, as a scalar of the device that nobody waits for."""
        parameters = list(self.model.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = self.ranks.agreed(torch.nn.utils.get_total_norm(gradients))
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm

    def is_finite(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether this process's weights, average and moments hold finite numbers only."""
        average = {} if self.average is None else self.average.weights
        states = [x for values in optimizer.state.values() for x in values.items()]
        moments = [part for x in states for part in parts_of(*x).values()]
        return all_finite([*self.held().values(), *average.values(), *moments])

    def whole_model(self) -> Transformer | None:
        """The model for the first process to read; every process must call it."""
        return self.model

    def take(
        self, optimizer: torch.optim.Optimizer, state: TrainState, *, copied: bool
    ) -> Write:
        """What writes a checkpoint of the run as it stands.

        If it is `copied`, training may go on before that is called.
        """
        if not self.ranks.is_first:
            return lambda *_: None
        found = checkpoint.take(
            self.model, optimizer, state, copied=copied, average=self.average
        )
        return lambda folder, *rest: checkpoint.write(folder, found, *rest)

    def load(self, folder: Path, optimizer: torch.optim.Optimizer) -> TrainState:
        """Restores model and optimiser from a checkpoint of any placement.

        Raises:
            IntegrityError: a file is not as the manifest says.
            ConfigError: the checkpoint is of another model.
        """
        return checkpoint.load(folder, self.model, optimizer, self.average)


def place(
    model: Transformer, ranks: Ranks, config: ParallelConfig, precision: Precision
) -> Whole:
    """Puts a model where the configuration wants it.

    Raises:
        ConfigError: the grid has not as many places as there are processes, or does
            not go with the model.
    """
    config.shape(ranks.size)
    placement = _placement(model, ranks, config, precision)
    if config.context > 1:
        from triptych.train.context_parallel import spread_tokens

        device_type = model.output_weight.device.type
        group = config.context_group(ranks.size, device_type)
        spread_tokens(model, group, config.tensor)
    return placement


def _placement(
    model: Transformer, ranks: Ranks, config: ParallelConfig, precision: Precision
) -> Whole:
    # Here, since importing DTensor takes as long as importing torch.
    if config.is_sharded:
        from triptych.train.sharding import Sharded

        return Sharded(model, ranks, config, precision)
    if config.context > 1:
        from triptych.train.context_parallel import SpreadTokens

        return SpreadTokens(model, ranks)
    return Whole(model, ranks)
