"""Frequencies of rotary positions, plain and stretched to longer contexts.

What Hugging Face's config.json calls `rope_scaling` or `rope_parameters`, in the same
float32 arithmetic as transformers, so that a checkpoint turns as it was trained to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.errors import ConfigError


def rotary_frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> tuple[Tensor, float]:
    """Angle a position of each pair of dimensions, and the factor of cos and sin.

    Args:
        head_dim: even; pair i turns by theta ** (-2 i / head_dim) (Su et al. 2021).
        theta: base of the frequencies. A `rope_theta` in `scaling` is not read.
        scaling: `rope_scaling` or `rope_parameters` of a config.json; its `rope_type`
            (in old files `type`) is default, linear, llama3 or yarn. None is default.

    Returns:
        (head_dim / 2,) float32 frequencies on the CPU, and the attention factor by
        which cosines and sines are multiplied: 1 but for yarn.

    Raises:
        ConfigError: the type is not one of these, or a field of it is not there.
    """
    if head_dim < 2 or head_dim % 2:
        raise ConfigError(f"head_dim: expected an even number, found {head_dim}")
    if not theta > 1.0:
        raise ConfigError(f"rope_theta: expected above 1, found {theta}")
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in SCALINGS:
        raise ConfigError(
            f"rope_type: expected one of {', '.join(SCALINGS)}, found `{kind}`"
        )
    if (scaling.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ConfigError(
            "partial_rotary_factor: expected 1, as all of a head turns, found "
            f"{scaling['partial_rotary_factor']}"
        )
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu")
    return SCALINGS[kind](theta ** (exponents / head_dim), theta, scaling)


def _default(
    periods: Tensor, theta: float, scaling: Mapping[str, Any]
) -> tuple[Tensor, float]:
    return 1.0 / periods, 1.0


def _linear(
    periods: Tensor, theta: float, scaling: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """Positions divided by `factor` (Chen et al. 2023)."""
    return 1.0 / periods / _number(scaling, "factor"), 1.0


def _llama3(
    periods: Tensor, theta: float, scaling: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """Slow pairs divided by `factor`, fast ones kept, a ramp between (Llama 3.1).

    Slow and fast by the number of turns within the original context: fewer than
    `low_freq_factor`, more than `high_freq_factor`.
    """
    factor = _number(scaling, "factor")
    low, high = (_number(scaling, f"{name}_freq_factor") for name in ("low", "high"))
    if low >= high:
        raise ConfigError(
            f"low_freq_factor: expected below high_freq_factor ({high}), found {low}"
        )
    frequencies = 1.0 / periods
    wavelengths = 2 * math.pi / frequencies
    turns = _number(scaling, "original_max_position_embeddings") / wavelengths
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1.0 - kept) * frequencies / factor + kept * frequencies, 1.0


def _yarn(
    periods: Tensor, theta: float, scaling: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """YaRN (Peng et al. 2023): as llama3, but the ramp is linear in the pair's index.

    Pairs that make more than `beta_fast` turns in the original context are kept, those
    with fewer than `beta_slow` are divided by `factor`.
    """
    factor = _number(scaling, "factor")
    context = _number(scaling, "original_max_position_embeddings")
    fast = _number(scaling, "beta_fast", 32.0)
    slow = _number(scaling, "beta_slow", 1.0)
    pairs = periods.numel()
    first, last = (
        _pair_that_turns(turns, context, pairs, theta) for turns in (fast, slow)
    )
    if _is_truncated(scaling):
        first, last = math.floor(first), math.ceil(last)
    # As in transformers the upper bound is head_dim - 1, though pairs end at half that.
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    width = last - first or 0.001
    index = torch.arange(pairs, dtype=torch.float32, device="cpu")
    stretched = ((index - first) / width).clamp(0.0, 1.0)
    kept = 1.0 - stretched
    frequencies = 1.0 / (factor * periods) * (1.0 - kept) + 1.0 / periods * kept
    return frequencies, _yarn_attention_factor(factor, scaling)


def _is_truncated(scaling: Mapping[str, Any]) -> bool:
    """Whether the ramp begins and ends at whole pairs; so it does unless told."""
    truncate = scaling.get("truncate", True)
    if truncate is None or isinstance(truncate, bool):
        return bool(truncate)
    raise ConfigError(
        f"truncate: rope_type yarn expected true or false, found {truncate!r:.80}"
    )


def _pair_that_turns(turns: float, context: float, pairs: int, theta: float) -> float:
    """Index, not whole, of the pair that makes `turns` full turns in `context`."""
    return pairs * math.log(context / (turns * 2 * math.pi)) / math.log(theta)


def _yarn_attention_factor(factor: float, scaling: Mapping[str, Any]) -> float:
    """Factor of cos and sin, so its square is that of scores (YaRN, eq. 22).

    DeepSeek's `mscale` and `mscale_all_dim` give it as a ratio of two.
    """
    if scaling.get("attention_factor") is not None:
        return _number(scaling, "attention_factor")

    def temperature(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        numerator = temperature(_number(scaling, "mscale"))
        return numerator / temperature(_number(scaling, "mscale_all_dim"))
    return temperature(1.0)


def _number(
    scaling: Mapping[str, Any], field: str, default: float | None = None
) -> float:
    """A positive number of the mapping; absent, null and 0 are the default."""
    value = scaling.get(field) or default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 < value < math.inf:
            return float(value)
    kind = scaling.get("rope_type", scaling.get("type"))
    raise ConfigError(
        f"{field}: rope_type {kind} expected a positive number, found "
        f"{scaling.get(field)}"
    )


SCALINGS = {"default": _default, "linear": _linear, "llama3": _llama3, "yarn": _yarn}
