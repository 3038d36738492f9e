"""Smaller models of a model's own kind: the same family, proportions and vocabulary.

The parameters that count are those of matrix products, `num_matmul_parameters`: the
matrices inside layers and the head, not the table of embeddings. A table is looked up
and does no work, so that 6 N D is the work of training; and of a model of 50,000
parameters it is most: counted, all small models would seem alike. nanochat
(Karpathy 2025) found that this way of counting gives the steadiest tokens a parameter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

from triptych._core import Tokenizer
from triptych.errors import ConfigError
from triptych.miniseries.table import WIDTH_BY_LAYERS
from triptych.model import ModelConfig
from triptych.model.presets import preset
from triptych.model.shape import ModelShape

T = TypeVar("T")

# Cost of the five with three durations: 1/12 * 3.5 = 0.3 of the run itself.
SHARES = tuple(1 / 2**power for power in (6, 5, 4, 3, 2))
GRAIN = 16  # widths are its multiples: heads then have an even width
ASPECT_WEIGHT = 0.1  # missing the size by 10 % is as bad as an aspect 2.7 times off


def shape_of(size: str, target: ModelShape, config: ModelConfig) -> ModelShape:
    """The model of a size, in what else it is like `target`, whose config is given.

    Raises:
        ConfigError: the size is neither `WIDTHxLAYERS` nor of the dial.
    """
    match = WIDTH_BY_LAYERS.fullmatch(size)
    if match is not None:
        return _like(target, config, int(match[1]), int(match[2]))
    try:
        found = preset(size)
    except ConfigError as error:
        raise ConfigError(f"{error}, nor `WIDTHxLAYERS`, as `96x3`") from None
    return _like(target, config, found.hidden_size, found.num_hidden_layers)


def default_sizes(
    target: ModelShape, config: ModelConfig, tokenizer: Tokenizer
) -> tuple[str, ...]:
    """The five whose parameters come nearest to `SHARES` of the target's.

    Raises:
        ConfigError: the target is too small for five sizes below it.
    """
    goal = config.num_matmul_parameters()
    counts = {
        (width, layers): _like(target, config, width, layers)
        .model_config(tokenizer)
        .num_matmul_parameters()
        for layers in range(1, config.num_hidden_layers + 1)
        for width in range(GRAIN, config.hidden_size + 1, GRAIN)
    }
    aspect = config.hidden_size / config.num_hidden_layers

    def distance(shape: tuple[int, int], wanted: float) -> float:
        off = abs(math.log(counts[shape] / wanted))
        return off + ASPECT_WEIGHT * abs(math.log(shape[0] / shape[1] / aspect))

    chosen = [min(counts, key=lambda x: distance(x, goal * s)) for s in SHARES]
    names = tuple(f"{width}x{layers}" for width, layers in chosen)
    if len(set(names)) < len(names):
        raise ConfigError(
            f"ladder.sizes: expected sizes, as a model of {goal:,} parameters is too "
            "small to choose five below it, found none"
        )
    return names


def _like(
    target: ModelShape, config: ModelConfig, width: int, layers: int
) -> ModelShape:
    heads = _heads(width, config)
    scale = width / config.hidden_size
    dense = target.mlp_only_layers
    return dataclasses.replace(
        target,
        size=None,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=_key_value_heads(heads, config),
        intermediate_size=_scaled(target.intermediate_size, scale),
        moe_intermediate_size=_scaled(target.moe_intermediate_size, scale),
        mlp_only_layers=None
        if dense is None
        else tuple(x for x in dense if x < layers),
        layer_types=_first(target.layer_types, layers),
        no_rope_layers=_first(target.no_rope_layers, layers),
    )


def _heads(width: int, config: ModelConfig) -> int:
    """As wide as the target's, as nearly as a divisor of the width can be."""
    wanted = width * config.num_attention_heads / config.hidden_size
    even = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
    if not even:
        raise ConfigError(f"ladder.sizes: expected an even width, found {width}")
    return min(even, key=lambda n: abs(math.log(n / wanted)))


def _key_value_heads(heads: int, config: ModelConfig) -> int:
    wanted = heads * config.num_key_value_heads / config.num_attention_heads
    divisors = [n for n in range(1, heads + 1) if heads % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / wanted)))


def _first(values: tuple[T, ...] | None, count: int) -> tuple[T, ...] | None:
    return None if values is None else values[:count]


def _scaled(value: int | None, scale: float) -> int | None:
    return None if value is None else max(GRAIN, round(value * scale / GRAIN) * GRAIN)
