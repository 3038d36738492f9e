"""Weight matrices that are multiplied as `ops` does it within `accumulating` and `decoding`."""

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
        return ops.linear(input, self.weight, self.bias)
