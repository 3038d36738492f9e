"""Attention of every family: grouped heads, turned by position, windowed, capped.

Which of these a layer does is decided once, from the configuration and its index.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import ops
from triptych.model.cache import KVCache
from triptych.model.config import ModelConfig
from triptych.model.matrices import Linear
from triptych.model.norm import RMSNorm

# cos and sin, each (..., 1, head_dim / 2) float32.
Tables = tuple[Tensor, Tensor]


class Rotary(nn.Module):
    """Cosines and sines of positions (Su et al. 2021), for one base of frequencies."""

    frequencies: Tensor

    def __init__(self, head_dim: int, theta: float, scaling: object = None) -> None:
        super().__init__()
        assert scaling is None or isinstance(scaling, dict)
        frequencies, self.factor = ops.rotary_frequencies(head_dim, theta, scaling)
        # Follows the model to its device, and is no part of the state dict.
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, position_ids: Tensor) -> Tables:
        """Tables (..., 1, head_dim / 2) float32 of position_ids (...)."""
        angles = position_ids[..., None].float() * self.frequencies.float()
        cos, sin = angles.cos()[..., None, :], angles.sin()[..., None, :]
        if self.factor == 1.0:
            return cos, sin
        return cos * self.factor, sin * self.factor


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023) of one layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.head_dim, self.scale = config.head_dim, config.score_scale
        self.window, self.softcap = config.window(layer), config.attn_logit_softcapping
        width, bias = config.hidden_size, config.attention_bias
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(width, queries, bias=bias)
        self.k_proj = Linear(width, keys, bias=bias)
        self.v_proj = Linear(width, keys, bias=bias)
        self.o_proj = Linear(queries, width, bias=bias and config.family.output_bias)
        # What tokens take up from each other; processes may share the work.
        self.mix: Callable[..., Tensor] = ops.attention
        self.qk_norm = config.family.qk_norm
        if self.qk_norm is not None:
            by_head = self.qk_norm == "head"
            self.q_norm = RMSNorm(config, config.head_dim if by_head else queries)
            self.k_norm = RMSNorm(config, config.head_dim if by_head else keys)

    def project(
        self, x: Tensor, tables: Tables | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (..., heads, head_dim) of x (..., hidden_size)."""
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.qk_norm == "width":
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (
            y.unflatten(-1, (-1, self.head_dim)) for y in (query, key, value)
        )
        if self.qk_norm == "head":
            query, key = self.q_norm(query), self.k_norm(key)
        if tables is not None:
            query, key = ops.rope(query, key, *tables)
        return query, key, value

    def forward(self, x: Tensor, tables: Tables | None, cu_seqlens: Tensor) -> Tensor:
        """Packed x (tokens, hidden_size) to the same shape."""
        mixed = self.attend(*self.project(x, tables), cu_seqlens)
        return self.merge(mixed)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor
    ) -> Tensor:
        """What each token of packed documents takes up: as query, of values."""
        return self.mix(
            query,
            key,
            value,
            cu_seqlens=cu_seqlens,
            window=self.window,
            softcap=self.softcap,
            scale=self.scale,
        )

    def merge(self, mixed: Tensor) -> Tensor:
        """Heads (..., heads, head_dim) back to (..., hidden_size)."""
        output: Tensor = self.o_proj(mixed.flatten(-2))
        return output

    def decode(
        self,
        x: Tensor,
        tables: Tables | None,
        cache: KVCache,
        layer: int,
        positions: Tensor,
    ) -> Tensor:
        """New tokens x (B, S, hidden_size) against all that `cache` holds."""
        query, key, value = self.project(x, tables)
        keys, values = (
            x.to(query.dtype) for x in cache.store(layer, positions, key, value)
        )
        if positions.shape[1] == 1:
            mixed = self._newest(query, keys, values, positions)
        elif cache.is_empty:
            mixed = self._first(query, key, value)
        else:
            visible = cache.visible(positions, self.window)
            mixed = self._mix(query.transpose(1, 2), keys, values, visible)
            mixed = mixed.transpose(1, 2)
        return self.merge(mixed)

    def _first(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of prompts (B, S, heads, head_dim) before which nothing was read."""
        batch_size, num_new = query.shape[:2]
        edges = torch.arange(batch_size + 1, dtype=torch.int32) * num_new
        query_rows, key_rows, value_rows = (
            x.flatten(0, 1) for x in (query, key, value)
        )
        edges = edges.to(query.device)
        mixed = self.attend(query_rows, key_rows, value_rows, edges)
        return mixed.reshape(query.shape)

    def _newest(
        self, query: Tensor, keys: Tensor, values: Tensor, positions: Tensor
    ) -> Tensor:
        """Attention of one new token a sequence, query (B, 1, heads, head_dim)."""
        mixed = ops.decode_attention(
            query[:, 0],
            keys.transpose(1, 2),
            values.transpose(1, 2),
            positions[:, 0] + 1,
            window=self.window,
            softcap=self.softcap,
            scale=self.scale,
        )
        return mixed[:, None]

    def _mix(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of query (B, heads, S, head_dim) where mask (B, 1, S, T) is true."""
        grouped = query.shape[1] != keys.shape[1]
        if self.softcap is None:
            return F.scaled_dot_product_attention(
                query,
                keys,
                values,
                attn_mask=mask,
                scale=self.scale,
                enable_gqa=grouped,
            )
        repeats = query.shape[1] // keys.shape[1]
        keys, values = (x.repeat_interleave(repeats, dim=1) for x in (keys, values))
        scores = (query.float() @ keys.float().transpose(-1, -2)) * self.scale
        scores = self.softcap * torch.tanh(scores / self.softcap)
        weights = scores.masked_fill(~mask, -math.inf).softmax(-1)
        return weights.to(values.dtype) @ values
