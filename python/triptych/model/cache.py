"""Keys and values of the tokens already seen, for generation."""

from __future__ import annotations

import torch
from torch import Tensor

from triptych.errors import ConfigError
from triptych.model.config import ModelConfig


class KVCache:
    """Keys and values of a batch of sequences, each aligned at slot 0.

    Attributes:
        lengths: (B,) int64 on the CPU, tokens stored of each sequence. Slots past a
            length hold leftovers of padding; they are masked, and overwritten in time.
        keys: (layers, B, kv_heads, capacity, head_dim); `values` is alike.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (
            config.num_hidden_layers,
            batch_size,
            config.num_key_value_heads,
            capacity,
            config.head_dim,
        )
        self.capacity = capacity
        # On the CPU, so that no layer waits for a GPU to say how long they are.
        self.lengths = torch.zeros(batch_size, dtype=torch.int64)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet."""
        return not bool(self.lengths.any())

    def positions(self, num_new: int) -> Tensor:
        """(B, num_new) slot, which is also the position, of each coming token."""
        return (self.lengths[:, None] + torch.arange(num_new)).to(self.keys.device)

    def longest(self, num_new: int) -> int:
        """Slots of the longest sequence once `num_new` more tokens are stored."""
        return int(self.lengths.max()) + num_new

    def check_room(self, num_new: int) -> None:
        """Raises `ConfigError` unless `num_new` more tokens fit every sequence."""
        needed = self.longest(num_new)
        if needed > self.capacity:
            raise ConfigError(
                f"the cache is full: expected at most {self.capacity} tokens a "
                f"sequence, found {needed}"
            )

    def store(
        self, layer: int, positions: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Writes a layer's new keys and values; returns all it can see.

        Args:
            layer: which layer.
            positions: (B, S) slots to write.
            key: (B, S, kv_heads, head_dim).
            value: alike.

        Returns:
            Keys and values (B, kv_heads, longest, head_dim), views of the cache.
        """
        rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = key.to(self.keys.dtype)
        self.values[layer][rows, :, positions] = value.to(self.values.dtype)
        longest = self.longest(positions.shape[1])
        return self.keys[layer][:, :, :longest], self.values[layer][:, :, :longest]

    def visible(self, positions: Tensor, window: int | None = None) -> Tensor:
        """(B, 1, S, longest) True where a token at `positions` (B, S) may look.

        With a window it sees only so many keys, its own among them.
        """
        slots = torch.arange(self.longest(positions.shape[1]), device=positions.device)
        distances = positions[..., None] - slots
        seen = distances >= 0
        if window is not None:
            seen &= distances < window
        return seen[:, None]

    def keep(self, rows: Tensor) -> None:
        """Keeps only the sequences `rows` (int64, CPU): finished ones leave."""
        self.lengths = self.lengths[rows]
        rows = rows.to(self.keys.device)
        self.keys = self.keys[:, rows]
        self.values = self.values[:, rows]
