"""A decoder-only transformer that reads packed documents.

One model for all families: what they do differently is in `families`, and each part
reads it there. The modules are named so that the state dict *is* what Hugging Face's
model of the family has on disk: export translates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import ops
from triptych.errors import ConfigError
from triptych.model.attention import Attention, Rotary, Tables
from triptych.model.cache import KVCache
from triptych.model.config import ModelConfig
from triptych.model.feedforward import MLP, Experts
from triptych.model.matrices import Embedding, Linear
from triptych.model.norm import RMSNorm
from triptych.model.recompute import layer_call


class Layer(nn.Module):
    """One block: attention, then feed-forward, each added to the residual.

    Norms bear Hugging Face's names, which differ by where a family normalises.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        family = config.family
        self.self_attn = Attention(config, layer)
        sparse = config.is_sparse(layer)
        self.block = family.experts.block if sparse and family.experts else "mlp"
        self.add_module(self.block, Experts(config) if sparse else MLP(config))
        self.before, self.after = _NORMS[family.norms]
        for name in (*self.before, *self.after):
            self.add_module(name, RMSNorm(config, config.hidden_size))

    def forward(self, x: Tensor, tables: Tables | None, cu_seqlens: Tensor) -> Tensor:
        """Packed x (tokens, hidden_size) to the same shape."""
        x = self._add(x, 0, lambda y: self.self_attn(y, tables, cu_seqlens))
        return self._add(x, 1, getattr(self, self.block))

    def enter(self, x: Tensor, tables: Tables | None) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` does before attention: queries, keys and values of x."""
        y = self._before(x, 0)
        return self.self_attn.project(y, tables)

    def leave(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What it does after: mixed is (tokens, heads, head_dim) out of attention."""
        x = self._joined(x, 0, self.self_attn.merge(mixed))
        return self._add(x, 1, getattr(self, self.block))

    def decode(
        self,
        x: Tensor,
        tables: Tables | None,
        cache: KVCache,
        layer: int,
        positions: Tensor,
    ) -> Tensor:
        """`forward` for new tokens x (B, S, hidden_size) with a cache."""
        x = self._add(
            x, 0, lambda y: self.self_attn.decode(y, tables, cache, layer, positions)
        )
        return self._add(x, 1, getattr(self, self.block))

    def _add(self, x: Tensor, half: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """X plus what a half of the block makes of it, normed as the family does."""
        return self._joined(x, half, compute(self._before(x, half)))

    def _before(self, x: Tensor, half: int) -> Tensor:
        """What a half of the block reads; experts weigh by it, so it stays as wide."""
        if not self.before:
            return x
        narrow = half == 0 or self.block == "mlp"
        output: Tensor = getattr(self, self.before[half])(x, narrow)
        return output

    def _joined(self, x: Tensor, half: int, y: Tensor) -> Tensor:
        return x + (getattr(self, self.after[half])(y) if self.after else y)


# Names of the norms before and after attention and feed-forward.
_NORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pre": (("input_layernorm", "post_attention_layernorm"), ()),
    "post": ((), ("post_attention_layernorm", "post_feedforward_layernorm")),
    "both": (
        ("input_layernorm", "pre_feedforward_layernorm"),
        ("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
}


class Decoder(nn.Module):
    """Embedding, layers and final norm; `model.` in the state dict."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config, config.hidden_size)


# Projections that write to the residual: of attention, of dense layers, of experts.
_WRITES_RESIDUAL = ("o_proj.weight", "down_proj.weight", "w2.weight")


class Transformer(nn.Module):
    """A causal language model over packed documents; weights are float32.

    Weights start as normal(0, `initializer_range`), drawn from torch's global
    generator; with `scale_residual` the projections that write to the residual are
    scaled by 1/sqrt(2 * layers), so that its variance does not grow with depth
    (Radford et al. 2019, section 2.3).
    """

    def __init__(self, config: ModelConfig, *, scale_residual: bool = True) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        scaling = None if config.rope_scaling is None else dict(config.rope_scaling)
        self.rotary = Rotary(config.head_dim, config.rope_theta, scaling)
        local = config.rope_local_base_freq
        self.local_rotary = None if local is None else Rotary(config.head_dim, local)
        layers = range(config.num_hidden_layers)
        self._turns = [(config.window(i) is not None, config.turns(i)) for i in layers]
        self.call_layer = layer_call("none")
        # Losses from hidden states and output matrix; processes may share the work.
        self.cross_entropy: Callable[..., Tensor] = ops.linear_cross_entropy
        # Of what is given for each token, that of the tokens computed here: of all.
        self.own_tokens: Callable[[Tensor], Tensor] = _all
        self._initialize(scale_residual)

    def _initialize(self, scale_residual: bool) -> None:
        deviation = self.config.initializer_range
        depth = 2 * self.config.num_hidden_layers if scale_residual else 1
        writers = {id(parameter) for parameter in self.residual_writers()}
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                share = math.sqrt(depth) if id(parameter) in writers else 1.0
                nn.init.normal_(parameter, std=deviation / share)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def residual_writers(self) -> list[Tensor]:
        """The projections of all layers whose results are added to the residual."""
        parameters = self.named_parameters()
        return [p for name, p in parameters if name.endswith(_WRITES_RESIDUAL)]

    @property
    def logit_softcap(self) -> float | None:
        """Cap of the logits, which losses must apply as well; None for none."""
        return self.config.final_logit_softcapping

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
            (tokens, hidden_size), of those computed here. No document sees another.
        """
        x = self._embed(self.own_tokens(input_ids))
        tables = self._tables(self.own_tokens(position_ids))
        for layer, turn in zip(self.model.layers, tables, strict=True):
            x = self.call_layer(layer, x, turn, cu_seqlens)
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
        logits = self._capped(F.linear(hidden, self.output_weight))
        return logits.view(*input_ids.shape, -1)

    forward = logits

    def new_cache(self, batch_size: int, capacity: int) -> KVCache:
        """An empty cache for `batch_size` sequences of at most `capacity` tokens."""
        weight = self.output_weight
        return KVCache(
            self.config, batch_size, capacity, device=weight.device, dtype=weight.dtype
        )

    @ops.decoding()
    def decode(
        self, input_ids: Tensor, cache: KVCache, lengths: Tensor | None = None
    ) -> Tensor:
        """Reads new tokens and gives the logits after the last one of each sequence.

        Args:
            input_ids: (B, S) next tokens, on any device: a whole prompt, or one each.
            cache: what was read before; it grows by the tokens read.
            lengths: (B,) int64 on the CPU, tokens that count in each row of
                `input_ids`, which is then padded on the right; by default all S.

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
        x = self._embed(input_ids.to(positions.device))
        tables = self._tables(positions)
        for index, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            x = layer.decode(x, tables[index], cache, index, positions)
        cache.lengths = cache.lengths + lengths
        rows = torch.arange(batch_size, device=x.device)
        last = self.model.norm(x[rows, lengths.to(x.device) - 1])
        return self._capped(ops.linear(last, self.output_weight))

    def _tables(self, position_ids: Tensor) -> list[Tables | None]:
        """What each layer turns by: None for those that do not turn."""
        plain = self.rotary(position_ids)
        local = plain if self.local_rotary is None else self.local_rotary(position_ids)
        return [
            (local if windowed else plain) if turns else None
            for windowed, turns in self._turns
        ]

    def _embed(self, input_ids: Tensor) -> Tensor:
        x: Tensor = self.model.embed_tokens(input_ids)
        if self.config.family.scale_embeddings:
            x = x * math.sqrt(self.config.hidden_size)
        return x

    def _capped(self, logits: Tensor) -> Tensor:
        cap = self.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


def _all(x: Tensor) -> Tensor:
    return x


def positions_of(cu_seqlens: Tensor) -> Tensor:
    """(tokens,) int64 positions that restart at every boundary of `cu_seqlens`."""
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    total = int(cu_seqlens[-1])
    counted = torch.arange(total, device=cu_seqlens.device)
    return counted - torch.repeat_interleave(starts, lengths, output_size=total)
