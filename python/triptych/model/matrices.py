"""Weight matrices whose gradients are added in place during a step, see `ops.accumulating`."""

from __future__ import annotations

from torch import Tensor, nn

from triptych import ops


class Embedding(nn.Embedding):
    """Rows by id."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids (...) to rows (..., width)."""
        return ops.embedding(input, self.weight)


class Linear(nn.Linear):
    """A projection."""

    def forward(self, input: Tensor) -> Tensor:
        """Input (..., inputs) to (..., outputs)."""
        if self.bias is not None:
            return super().forward(input)
        return ops.linear(input, self.weight)
