"""Heads of the first layer that begin by looking at the token just before, and its like.

What stands one to three tokens back is the first thing that a model learns to look for, and
rotary positions can say it at once: turned by its position t, a constant query q scores a
constant key at s by sum_f a_f^2 cos(w_f (t - s) + phase_f), which is largest at
t - s = distance where phase_f = -w_f * distance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from triptych.model.attention import Attention
from triptych.model.config import ModelConfig

DISTANCES = (1, 2, 3)  # at 150,000 tokens 1.895 bits a byte, without them 1.914
# Fastest pairs of a head that tell distances apart: weights 0.49 at the distance, 0.07 on
# either side of it, 0.001 beyond (head_dim 64). The slower ones hardly differ over 3 tokens.
PAIRS = 4
SHARPNESS = 8.0  # the largest score where no norm sets it, as one of width 64 does


@torch.no_grad()
def look_back(
    attention: Attention, config: ModelConfig, frequencies: Tensor, level: float
) -> None:
    """Turns the first heads of a layer to `DISTANCES`; at least one stays as it is.

    Their values begin as the components 1 to head_dim of the layer's input.

    Args:
        attention: of the first layer, whose input has a component 0 that is much alike,
            and above 0, for all tokens.
        config: of the model.
        frequencies: (head_dim / 2,) radians a token, fastest first.
        level: of component 0, in the mean.
    """
    largest = SHARPNESS / config.score_scale / level**2
    group = config.num_attention_heads // config.num_key_value_heads
    for head, distance in enumerate(DISTANCES[: config.num_attention_heads - 1]):
        query, key = _pair(frequencies, distance, config.head_dim, largest)
        _constant(attention.q_proj.weight, head, query)
        _constant(attention.k_proj.weight, head // group, key)
        _pick(attention.v_proj.weight, head // group, config.head_dim)


def _pair(
    frequencies: Tensor, distance: int, head_dim: int, largest: float
) -> tuple[Tensor, Tensor]:
    """Query and key (head_dim,): their product is `largest`, `distance` tokens apart."""
    half, pairs = head_dim // 2, min(PAIRS, head_dim // 2)
    length = math.sqrt(largest / pairs)
    angles = -frequencies[:pairs].float() * distance
    query, key = torch.zeros(2, head_dim)
    key[:pairs] = length
    query[:pairs] = length * angles.cos()
    query[half : half + pairs] = length * angles.sin()
    return query, key


def _constant(weight: Tensor, head: int, vector: Tensor) -> None:
    """Makes a head's rows of weight (heads * head_dim, width) read component 0 alone."""
    rows = weight[head * len(vector) : (head + 1) * len(vector)]
    rows.zero_()
    rows[:, 0] = vector


def _pick(weight: Tensor, head: int, head_dim: int) -> None:
    """Makes a head's rows read the components from 1 on, one each."""
    rows = weight[head * head_dim : (head + 1) * head_dim]
    rows.zero_()
    count = min(head_dim, weight.shape[1] - 1)
    rows[:count, 1 : 1 + count] = torch.eye(count)
