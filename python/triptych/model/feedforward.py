"""Feed-forward layers: dense, or a mixture of experts that every token finds whole.

No expert has a capacity: a token goes to all the experts its router chooses, whatever
its company, so results depend neither on the batch nor on packing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import ops
from triptych.model.config import ModelConfig
from triptych.model.matrices import Linear


def gated(activation: str, gate: Tensor, up: Tensor) -> Tensor:
    """act(gate) * up (Shazeer 2020, eq. 6) for a `hidden_act` of `config.json`."""
    if activation in ("silu", "swish"):
        return ops.swiglu(gate, up)
    if activation == "relu":
        return F.relu(gate) * up
    approximate = "none" if activation == "gelu" else "tanh"
    return ops.geglu(gate, up, approximate=approximate)


class MLP(nn.Module):
    """A gated feed-forward layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, bias = (
            config.hidden_size,
            config.intermediate_size,
            config.mlp_bias,
        )
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)
        self.activation = config.hidden_act

    def forward(self, x: Tensor) -> Tensor:
        """X (..., hidden_size) to the same shape."""
        inner = gated(self.activation, self.gate_proj(x), self.up_proj(x))
        output: Tensor = self.down_proj(inner)
        return output


class Expert(nn.Module):
    """An expert: an `MLP` whose matrices have the names of its family's files."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        names = config.family.experts
        assert names is not None
        width = config.hidden_size
        inner = config.moe_intermediate_size or config.intermediate_size
        self.add_module(names.gate, Linear(width, inner, bias=False))
        self.add_module(names.up, Linear(width, inner, bias=False))
        self.add_module(names.down, Linear(inner, width, bias=False))
        self.names, self.activation = names, config.hidden_act

    def forward(self, x: Tensor) -> Tensor:
        """X (tokens, hidden_size) to the same shape."""
        names = self.names
        gate, up, down = (
            getattr(self, name) for name in (names.gate, names.up, names.down)
        )
        output: Tensor = down(gated(self.activation, gate(x), up(x)))
        return output


class Experts(nn.Module):
    """A sparse layer: each token goes to its `num_experts_per_tok` likeliest experts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.num_experts is not None
        assert config.num_experts_per_tok is not None
        self.num_chosen = config.num_experts_per_tok
        self.normalised = config.norm_topk_prob
        self.gate = Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.num_experts))

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and ids (tokens, num_experts_per_tok) of experts of x (tokens, …)."""
        probabilities = torch.softmax(self.gate(x).float(), dim=-1)
        weights, chosen = torch.topk(probabilities, self.num_chosen, dim=-1)
        if self.normalised:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights.to(x.dtype), chosen

    def forward(self, x: Tensor) -> Tensor:
        """X (..., hidden_size) to the same shape.

        Tokens are sorted by expert, so each expert is one product over its own.
        """
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.route(flat)
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        pieces = torch.split(flat[order // self.num_chosen], counts)
        # In training an idle expert's gradient is zero, not absent, so that an optimiser
        # treats it alike whatever the batch; of no tokens all are idle.
        every = torch.is_grad_enabled() or not flat.shape[0]
        outputs = torch.cat(
            [
                expert(piece)
                for expert, piece in zip(self.experts, pieces, strict=True)
                if every or piece.shape[0]
            ]
        )
        returned = outputs[order.argsort()].view(*weights.shape, flat.shape[1])
        mixed = (returned * weights[..., None]).sum(dim=1)
        return mixed.view(x.shape)
