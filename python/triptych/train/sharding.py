"""A model in pieces: FSDP2 (`fully_shard`), HSDP, and tensor parallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from triptych.model.huggingface import model_with
from triptych.model.transformer import Transformer
from triptych.train import sharded_checkpoint
from triptych.train.checkpoint import TrainState
from triptych.train.muon import Muon
from triptych.train.parallel import REPLICATE, SHARD, TENSOR, ParallelConfig
from triptych.train.pieces import pieces_of, squared_norm
from triptych.train.placement import Whole, Write
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks, sum_over
from triptych.train.tensor_parallel import split_products


class Sharded(Whole):
    """Every process holds pieces: FSDP2, HSDP, tensor parallel, or two of them.

    Gradients are sums over the processes that read different rows, never means: the
    loss has been divided by the count of the whole step.

    Raises:
        ConfigError: model and grid do not go together.
    """

    # All must take part in the exchanges of a backward pass.
    may_skip = False
    # Layers gather their pieces in hooks, which compiled pieces of a layer would not call.
    compiles = False
    # The gradient of an earlier batch's copy comes when a layer has sent its gradients.
    casts_once = False
    adds_gradients = False  # torch moves them between processes

    def __init__(
        self,
        model: Transformer,
        ranks: Ranks,
        config: ParallelConfig,
        precision: Precision,
    ) -> None:
        super().__init__(model, ranks)
        device = model.output_weight.device
        ranks.same_start(model.parameters())
        self.mesh = config.mesh(ranks.size, device.type)
        if self._size(TENSOR) > 1:
            split_products(model, self.mesh[TENSOR])
        if self._size(SHARD) > 1:
            _shard(model, self.mesh, precision)
        self.pieces = pieces_of(list(model.named_parameters()), self.mesh)
        self.line = ranks.apart()  # checkpoints may be written beside the training

    def _size(self, axis: str) -> int:
        return self.mesh[axis].size()

    def adopt(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets it update the pieces, and Muon the matrices that they are of."""
        pieces = {id(piece.parameter): piece for piece in self.pieces}
        for group in optimizer.param_groups:
            group["params"] = [pieces[id(p)].local for p in group["params"]]
        if isinstance(optimizer, Muon):
            optimizer.pieces = {piece.local: piece for piece in self.pieces}

    def held(self) -> dict[str, nn.Parameter]:
        """The same, in pieces."""
        return {piece.name: piece.local for piece in self.pieces}

    def own(self, name: str, whole: Tensor) -> Tensor:
        """Its piece."""
        (piece,) = (piece for piece in self.pieces if piece.name == name)
        return piece.own(whole)

    def start_together(self) -> None:
        """They do: the constructor has sent the first one's weights to all."""

    def zero_grad(self) -> None:
        """The same, of the pieces too."""
        super().zero_grad()
        for piece in self.pieces:
            piece.local.grad = None

    def sum_gradients(self) -> None:
        """Adds up what torch has not: it does so for shards, while going backward."""
        for piece in self.pieces:
            piece.take_gradient()
        if self._size(TENSOR) > 1:
            heads = [piece.local for piece in self.pieces if piece.sums_heads]
            sum_over(heads, self._adding(TENSOR))
        if self._size(SHARD) == 1 and self._size(REPLICATE) > 1:
            every = [piece.local for piece in self.pieces]
            sum_over(every, self._adding(REPLICATE))

    def _adding(self, axis: str) -> Callable[[Tensor], object]:
        return partial(dist.all_reduce, group=self.mesh.get_group(axis))

    def clip_on_device(self, limit: float) -> Tensor:
        """The same, every number counted by one process; not finite where one's is not."""
        total = squared_norm(self.pieces)
        dist.all_reduce(total)
        norm = total.sqrt()
        kept = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch clips
        for piece in self.pieces:
            if piece.local.grad is not None:
                piece.local.grad.mul_(kept)
        return norm

    def whole_model(self) -> Transformer | None:
        """A copy, gathered; None in all processes but the first."""
        weights: dict[str, Tensor] = {}
        for piece in self.pieces:
            whole = piece.whole(piece.local)
            if self.ranks.is_first:
                weights[piece.name] = whole.detach().clone()
        return model_with(self.model.config, weights) if self.ranks.is_first else None

    def take(
        self, optimizer: torch.optim.Optimizer, state: TrainState, *, copied: bool
    ) -> Write:
        """The same, of the pieces that this process speaks for; all write."""
        found = sharded_checkpoint.take(
            self.model.config,
            self.pieces,
            optimizer,
            state,
            is_first=self.ranks.is_first,
            copied=copied,
            average=self.average,
        )
        line, write = self.line, sharded_checkpoint.write
        return lambda folder, *rest: write(folder, found, line, *rest)

    def load(self, folder: Path, optimizer: torch.optim.Optimizer) -> TrainState:
        """The same, of this process's pieces."""
        config = self.model.config
        return sharded_checkpoint.load(
            folder, config, self.pieces, optimizer, self.average
        )


def _shard(model: Transformer, mesh: DeviceMesh, precision: Precision) -> None:
    """FSDP2 (Zhao et al. 2023): a unit a layer, and one for all that is outside.

    So a tied embedding is one parameter of one unit, there from the lookup to the loss.
    With more than one copy, shards are exchanged within a copy and their sums between
    copies (HSDP).
    """
    axes = (REPLICATE, SHARD) if mesh[REPLICATE].size() > 1 else SHARD
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh[axes], mp_policy=_policy(precision))
    fully_shard(model, mesh=mesh[axes])
    # The objective calls this, not `forward`; what it needs of the root's parameters
    # after it is still there, since torch keeps those of the root up to its backward.
    register_fsdp_forward_method(model, "hidden")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def _policy(precision: Precision) -> MixedPrecisionPolicy:
    """Sends matrices in the type that autocast would give them anyway.

    Half the bytes for the same bits; norms and biases are few and stay float32. Inputs
    are left to autocast as well. Gradients are added up in float32.
    """
    if precision.dtype == torch.float32:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(
        param_dtype=precision.dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
        param_dtype_override_fn=_kept_wide,
    )


def _kept_wide(parameter: nn.Parameter) -> torch.dtype | None:
    return parameter.dtype if parameter.dim() == 1 else None
