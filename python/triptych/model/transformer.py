"""A decoder-only transformer that reads packed documents.

The modules are named so that the state dict *is* the Hugging Face state dict of
`LlamaForCausalLM` (or `Qwen3ForCausalLM` with QK-norm): export translates nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import ops
from triptych.errors import ConfigError
from triptych.model.cache import KVCache
from triptych.model.config import ModelConfig


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019), in float32 inside."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension of x (..., size); keeps its dtype."""
        return ops.rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023) with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (..., heads, head_dim) of x (..., hidden_size)."""
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        return ops.rotate(query, *rotary), ops.rotate(key, *rotary), value

    def forward(self, x: Tensor, rotary: Rotary, cu_seqlens: Tensor) -> Tensor:
        """Packed x (tokens, hidden_size) to the same shape."""
        query, key, value = self.project(x, rotary)
        mixed = ops.attention(query, key, value, cu_seqlens=cu_seqlens)
        output: Tensor = self.o_proj(mixed.flatten(-2))
        return output

    def decode(
        self, x: Tensor, rotary: Rotary, cache: KVCache, layer: int, positions: Tensor
    ) -> Tensor:
        """New tokens x (B, S, hidden_size) against all that `cache` holds."""
        query, key, value = self.project(x, rotary)
        keys, values = cache.store(layer, positions, key, value)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            keys.to(query.dtype),
            values.to(query.dtype),
            attn_mask=cache.visible(positions),
            enable_gqa=query.shape[2] != keys.shape[1],
        )
        output: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(-2))
        return output


class MLP(nn.Module):
    """Feed-forward layer with SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """X (..., hidden_size) to the same shape."""
        gated = ops.swiglu(self.gate_proj(x), self.up_proj(x))
        output: Tensor = self.down_proj(gated)
        return output


class Layer(nn.Module):
    """One pre-norm block: attention, then feed-forward, each on the residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, rotary: Rotary, cu_seqlens: Tensor) -> Tensor:
        """Packed x (tokens, hidden_size) to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), rotary, cu_seqlens)
        output: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return output

    def decode(
        self, x: Tensor, rotary: Rotary, cache: KVCache, layer: int, positions: Tensor
    ) -> Tensor:
        """`forward` for new tokens x (B, S, hidden_size) with a cache."""
        normed = self.input_layernorm(x)
        x = x + self.self_attn.decode(normed, rotary, cache, layer, positions)
        output: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return output


class Decoder(nn.Module):
    """Embedding, layers and final norm; `model.` in the state dict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A causal language model over packed documents; weights are float32.

    Weights start as normal(0, `initializer_range`), drawn from torch's global
    generator; the projections that write to the residual are scaled by
    1/sqrt(2 * layers), so that its variance does not grow with depth (Radford et
    al. 2019, section 2.3).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialize()

    def _initialize(self) -> None:
        deviation = self.config.initializer_range
        residual = deviation / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                continue
            writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=residual if writes_residual else deviation)

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, hidden_size) matrix that turns hidden states into logits."""
        return self.lm_head.weight

    def hidden(
        self, input_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor
    ) -> Tensor:
        """Hidden states of packed documents, after the final norm.

        Args:
            input_ids: (tokens,) int64.
            position_ids: (tokens,) int64, restarting with every document.
            cu_seqlens: (documents + 1,) int32, 0 and the end of each document.

        Returns:
            (tokens, hidden_size). No document sees another.
        """
        rotary = self._rotary(position_ids)
        x = self.model.embed_tokens(input_ids)
        for layer in self.model.layers:
            x = layer(x, rotary, cu_seqlens)
        output: Tensor = self.model.norm(x)
        return output

    def logits(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Logits of every position; for evaluation, since training never builds them.

        Args:
            input_ids: (B, S) sequences, or (tokens,) packed documents (one document
                unless `cu_seqlens` says otherwise).
            position_ids: (tokens,); by default counted from each document's start.
            cu_seqlens: (documents + 1,) int32, for packed input only.

        Returns:
            (B, S, vocab_size) or (tokens, vocab_size).
        """
        flat = input_ids.reshape(-1)
        if cu_seqlens is None:
            length = max(input_ids.shape[-1], 1)
            cu_seqlens = torch.arange(
                0, flat.numel() + 1, length, dtype=torch.int32, device=flat.device
            )
        if position_ids is None:
            position_ids = positions_of(cu_seqlens)
        hidden = self.hidden(flat, position_ids, cu_seqlens)
        return F.linear(hidden, self.output_weight).view(*input_ids.shape, -1)

    forward = logits

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """An empty cache for `batch_size` sequences of at most `capacity` tokens."""
        weight = self.output_weight
        return KVCache(
            self.config, batch_size, capacity, device=weight.device, dtype=weight.dtype
        )

    @torch.no_grad()
    def decode(
        self, input_ids: Tensor, cache: KVCache, lengths: Tensor | None = None
    ) -> Tensor:
        """Reads new tokens and gives the logits after the last one of each sequence.

        Args:
            input_ids: (B, S) next tokens: a whole prompt, or one token each.
            cache: what was read before; it grows by the tokens read.
            lengths: (B,) int64 tokens that count in each row of `input_ids`, which
                is then padded on the right; by default all S.

        Returns:
            (B, vocab_size).
        """
        batch_size, num_new = input_ids.shape
        if lengths is None:
            lengths = torch.full_like(cache.lengths, num_new)
        if int(lengths.min()) < 1:
            raise ConfigError("lengths: expected at least 1 token a row, found 0")
        cache.check_room(num_new)
        positions = cache.positions(num_new)
        rotary = self._rotary(positions)
        x = self.model.embed_tokens(input_ids)
        for index, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            x = layer.decode(x, rotary, cache, index, positions)
        cache.lengths = cache.lengths + lengths
        rows = torch.arange(batch_size, device=x.device)
        last = self.model.norm(x[rows, lengths - 1])
        return F.linear(last, self.output_weight)

    def _rotary(self, position_ids: Tensor) -> Rotary:
        return ops.rotary_tables(
            position_ids, self.config.head_dim, self.config.rope_theta
        )


# cos and sin, each (..., 1, head_dim / 2) float32.
Rotary = tuple[Tensor, Tensor]


def positions_of(cu_seqlens: Tensor) -> Tensor:
    """(tokens,) int64 positions that restart at every boundary of `cu_seqlens`."""
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    total = int(cu_seqlens[-1])
    counted = torch.arange(total, device=cu_seqlens.device)
    return counted - torch.repeat_interleave(starts, lengths, output_size=total)
