"""How the processes of a run share a model: copies, shards of a copy, parts of a product.

The processes stand in a grid of `replicate` x `shard` x `tensor`, the last running
fastest, so that those that talk most are neighbours, on one machine where they fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from triptych.config import require_numbers
from triptych.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

REPLICATE, SHARD, TENSOR = "replicate", "shard", "tensor"
AXES = (REPLICATE, SHARD, TENSOR)

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """The grid of processes; its default is data parallel, whatever their number.

    Attributes:
        replicate: copies of the model, which read different rows; None for as many as
            the processes allow.
        shard: processes that a copy's weights, gradients and optimiser are spread
            over, and which read different rows (FSDP2).
        tensor: processes that every layer's matrix products are spread over, and
            which read the same rows.
        context: neighbours among copies and shards that read the same rows and each
            compute a run of their tokens. It says nothing of where weights are, so it
            divides `replicate` x `shard`.
        elastic: `"torchft"` where copies may die and join while the run goes on: each is
            a process that is started alone, and torchft says who takes part in a step.
            None for the processes of `torchrun`, which end together.
    """

    replicate: int | None = None
    shard: int = 1
    tensor: int = 1
    context: int = 1
    elastic: Literal["torchft"] | None = None

    def __post_init__(self) -> None:
        require_numbers(self)
        for name in (*AXES, "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, found {value!r}")
        if self.elastic is not None:
            self._check_elastic()

    def _check_elastic(self) -> None:
        if self.elastic != "torchft":
            raise ConfigError(
                f'parallel.elastic: expected "torchft", found {self.elastic!r}'
            )
        if self.replicate is not None:
            raise ConfigError(
                "parallel.replicate: expected none with `parallel.elastic`, found "
                f"{self.replicate}: copies are those that are there"
            )
        for name in (SHARD, TENSOR, "context"):
            if getattr(self, name) > 1:
                raise ConfigError(
                    f"parallel.{name}: expected 1 with `parallel.elastic`, found "
                    f"{getattr(self, name)}: every copy is one process"
                )

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds only a part of the model."""
        return self.shard > 1 or self.tensor > 1

    def shape(self, size: int) -> Shape:
        """The grid of `size` processes: `replicate`, `shard`, `tensor`.

        Raises:
            ConfigError: it has another number of places; the nearest grids are named.
        """
        inner = self.shard * self.tensor
        replicate = self.replicate or max(1, size // inner)
        found = (replicate, self.shard, self.tensor)
        if math.prod(found) == size:
            self._check_context(replicate * self.shard)
            return found
        near = " or ".join(map(_said, nearest_shapes(size, found)))
        raise ConfigError(
            f"parallel: expected replicate x shard x tensor to be the {size} processes "
            f"that train, found {' x '.join(map(str, found))} = {math.prod(found)}; "
            f"the nearest for {size} are {near}"
        )

    def _check_context(self, size: int) -> None:
        if size % self.context:
            near = " and ".join(map(str, nearest_divisors(size, self.context)))
            raise ConfigError(
                "parallel.context: expected a number that divides replicate x shard = "
                f"{size}, found {self.context}; the nearest are {near}"
            )

    @property
    def readers(self) -> int:
        """Neighbours that read the same rows."""
        return self.context * self.tensor

    def context_group(self, size: int, device_type: str) -> ProcessGroup:
        """The processes that this one shares tokens with; every process must call it."""
        from torch.distributed.device_mesh import init_device_mesh

        shape = (size // self.readers, self.context, self.tensor)
        names = ("rows", "context", "tensor")
        mesh = init_device_mesh(device_type, shape, mesh_dim_names=names)
        return mesh["context"].get_group()

    def mesh(self, size: int, device_type: str) -> DeviceMesh:
        """The grid as torch has it; every process must call this."""
        # Here, since a process that is alone needs none of it.
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(device_type, self.shape(size), mesh_dim_names=AXES)


def nearest_divisors(number: int, wanted: int) -> list[int]:
    """The divisors of `number` next to `wanted`: below, then above."""
    divisors = [n for n in range(1, number + 1) if number % n == 0]
    below = [n for n in divisors if n <= wanted][-1:]
    return below + [n for n in divisors if n > wanted][:1]


def nearest_shapes(size: int, wanted: Shape) -> list[Shape]:
    """The grids of `size` places, at most two, that differ from `wanted` the least.

    That is by the factors along the axes; of equals, the one with fewer parts a copy.
    """
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    shapes = [
        (size // (shard * tensor), shard, tensor)
        for shard in divisors
        for tensor in divisors
        if size % (shard * tensor) == 0
    ]

    def distance(shape: Shape) -> tuple[float, int]:
        factors = (abs(math.log(a / b)) for a, b in zip(shape, wanted, strict=True))
        return round(sum(factors), 9), shape[1] * shape[2]

    return sorted(shapes, key=distance)[:2]


def _said(shape: Shape) -> str:
    pairs = zip(AXES, shape, strict=True)
    return "(" + ", ".join(f"{axis} = {number}" for axis, number in pairs) + ")"
