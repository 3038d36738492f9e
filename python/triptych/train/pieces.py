"""A parameter as one process holds it: a box of the whole, in memory that torch shares.

The optimiser updates the boxes as plain tensors; where they lie in the whole is what a
checkpoint needs to know, and all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from triptych.train.parallel import AXES, SHARD, TENSOR
from triptych.train.tensor_parallel import sums_heads


@dataclass(frozen=True)
class Piece:
    """What a process has of one parameter.

    Attributes:
        name: of the parameter.
        parameter: the model's own, which gradients arrive at.
        local: this process's numbers, for an optimiser; the same memory.
        shape: of the whole.
        offset: of `local` in the whole.
        owned: whether this process is the one that speaks for these numbers, of all
            that have them.
        sums_heads: see `tensor_parallel`.
    """

    name: str
    parameter: nn.Parameter
    local: nn.Parameter
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    owned: bool
    sums_heads: bool

    def take_gradient(self) -> None:
        """Gives `local` the gradient that arrived."""
        gradient = self.parameter.grad
        if gradient is None or self.local is self.parameter:
            return
        assert isinstance(gradient, DTensor)
        assert isinstance(self.parameter.data, DTensor)
        # A bias that is added once may come as a sum yet to be made.
        placed = gradient.redistribute(placements=self.parameter.data.placements)
        self.local.grad = placed.to_local()

    def whole(self, local: Tensor) -> Tensor:
        """The whole of what every process has a piece of, shaped as the parameter.

        Every process must call it.
        """
        whole = local.detach()
        for cut in reversed(_cuts(self.parameter.data)):
            whole = cut.joined(whole)
        return whole

    def own(self, whole: Tensor) -> Tensor:
        """This process's piece of `whole`."""
        return whole[self.slices]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where `local` is in the whole."""
        pairs = zip(self.offset, self.local.shape, strict=True)
        return tuple(slice(start, start + length) for start, length in pairs)


def pieces_of(
    named: Sequence[tuple[str, nn.Parameter]], mesh: DeviceMesh
) -> list[Piece]:
    """The pieces of parameters that lie on `mesh`, or on some of its axes."""
    return [_piece(name, parameter, mesh) for name, parameter in named]


def _piece(name: str, parameter: nn.Parameter, mesh: DeviceMesh) -> Piece:
    value = parameter.data
    offset, axes = [0] * value.dim(), list(AXES)
    for cut in _cuts(value):
        offset[cut.dim] += cut.start
        axes.remove(cut.axis)  # left are those along which all have the same
    local = parameter
    if isinstance(value, DTensor):
        local = nn.Parameter(value.to_local())
    shape = tuple(value.shape)
    _check_bounds(name, shape, offset, tuple(local.shape))
    return Piece(
        name=name,
        parameter=parameter,
        local=local,
        shape=shape,
        offset=tuple(offset),
        owned=all(mesh.get_local_rank(axis) == 0 for axis in axes),
        sums_heads=TENSOR in axes and sums_heads(name),
    )


@dataclass(frozen=True)
class _Cut:
    """Runs along a dimension, over an axis of the mesh.

    A run is of ceil(length / processes), the last ones shorter or empty.
    """

    mesh: DeviceMesh
    axis: str
    dim: int
    length: int

    @property
    def run(self) -> int:
        return math.ceil(self.length / self.mesh.size())

    @property
    def start(self) -> int:
        """Where this process's run begins."""
        return min(self.mesh.get_local_rank() * self.run, self.length)

    def joined(self, local: Tensor) -> Tensor:
        """The runs of all processes, one after another."""
        padded = local
        if local.shape[self.dim] < self.run:
            shape = list(local.shape)
            shape[self.dim] = self.run - shape[self.dim]
            padded = torch.cat([local, local.new_zeros(shape)], dim=self.dim)
        parts = [torch.empty_like(padded) for _ in range(self.mesh.size())]
        dist.all_gather(parts, padded.contiguous(), group=self.mesh.get_group())
        return torch.cat(parts, dim=self.dim).narrow(self.dim, 0, self.length)


def _cuts(value: Tensor) -> list[_Cut]:
    """How a tensor is cut: for products first, then what that leaves into shards."""
    if not isinstance(value, DTensor):
        return []
    names = value.device_mesh.mesh_dim_names
    assert names is not None
    pairs = zip(names, value.placements, strict=True)
    dims = {axis: placed.dim for axis, placed in pairs if hasattr(placed, "dim")}
    lengths, cuts = list(value.shape), []
    for axis in (TENSOR, SHARD):
        if axis in dims:
            dim, mesh = dims[axis], value.device_mesh[axis]
            cuts.append(_Cut(mesh, axis, dim, lengths[dim]))
            lengths[dim] = min(cuts[-1].run, lengths[dim] - cuts[-1].start)
    return cuts


def _check_bounds(
    name: str, shape: Sequence[int], offset: Sequence[int], local: Sequence[int]
) -> None:
    """Torch cuts as `_Cut` says, or a checkpoint would hold nonsense."""
    for whole, start, length in zip(shape, offset, local, strict=True):
        assert 0 <= start <= start + length <= whole, (name, shape, offset, local)


def squared_norm(pieces: Sequence[Piece]) -> Tensor:
    """() float64: the sum of squares of the gradients that this process speaks for.

    Of what others speak for it tells only whether it is finite here: NaN if not.
    """
    owned = _sum_of_squares([p for p in pieces if p.owned], pieces[0].local.device)
    others = [p for p in pieces if not p.owned]
    return owned + 0.0 * _sum_of_squares(others, owned.device)


def _sum_of_squares(pieces: Sequence[Piece], device: torch.device) -> Tensor:
    gradients = [p.local.grad for p in pieces if p.local.grad is not None]
    norms = [torch.linalg.vector_norm(x) for x in gradients]
    if not norms:
        return torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack(norms).double().square().sum()
