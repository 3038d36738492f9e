"""One dial for the shape of a model and its recipe: depth.

Width is 64 times the depth (the aspect of nanochat, Karpathy 2025, and within the flat
range of Kaplan et al. 2020, fig. 5), a head for every 64 of it, a feed-forward layer
of 8/3 the width. So a model of depth L has 12 * L * (64 L)^2 = 49,152 L^3 numbers in
the matrices of its layers, and depth 12 is the shape of GPT-2 small.

Batch and learning rate follow the fits of Step Law (Li et al. 2025, "Predictable
Scale: Part I", eq. 1), from N, those numbers, and D, the tokens: 20 a number where the
user does not say (Hoffmann et al. 2022, table 3).
"""

from __future__ import annotations

from dataclasses import dataclass

from triptych.errors import ConfigError

ASPECT = HEAD_DIM = 64
TOKENS_PER_PARAMETER = 20

# Names that `--size` takes and their depths; docs/models.md shows what follows.
DEPTHS: dict[str, int] = {
    "1m": 3,
    "3m": 4,
    "10m": 6,
    "25m": 8,
    "50m": 10,
    "100m": 13,
    "200m": 16,
    "400m": 20,
    "700m": 24,
    "1b": 28,
    "3b": 40,
}


@dataclass(frozen=True)
class Preset:
    """A model of the dial, and the recipe that goes with it.

    Attributes:
        num_hidden_layers: the dial; `hidden_size` and the rest follow.
        parameters: numbers in the matrices of its layers; embeddings do not count.
        tokens: to train on. batch_tokens: of a step. learning_rate: its peak.
    """

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    parameters: int
    tokens: int
    batch_tokens: int
    learning_rate: float

    @property
    def shape(self) -> dict[str, int]:
        """The fields that `ModelConfig` shares with it."""
        names = (
            "num_hidden_layers",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
        )
        return {name: getattr(self, name) for name in names}


def preset(size: str, tokens: int | None = None) -> Preset:
    """The model of a size like `10m`, or of any depth like `d7`.

    Args:
        size: a key of `DEPTHS`, or `d` and a number of layers from 1 to 128.
        tokens: to train on; None for 20 a parameter of the layers.

    Raises:
        ConfigError: there is no such size.
    """
    depth = _depth(size)
    width = ASPECT * depth
    inner = gated_width(width)
    parameters = depth * (4 * width * width + 3 * width * inner)
    read = tokens or TOKENS_PER_PARAMETER * parameters
    return Preset(
        num_hidden_layers=depth,
        hidden_size=width,
        num_attention_heads=width // HEAD_DIM,
        intermediate_size=inner,
        parameters=parameters,
        tokens=read,
        batch_tokens=round(0.58 * read**0.571),
        learning_rate=float(f"{1.79 * parameters**-0.713 * read**0.307:.3g}"),
    )


def gated_width(hidden_size: int) -> int:
    """8/3 of `hidden_size`, rounded up to 64 (Shazeer 2020: the size of a plain 4x)."""
    return -(-(8 * hidden_size // 3) // 64) * 64


def _depth(size: str) -> int:
    depths = DEPTHS | {f"d{depth}": depth for depth in range(1, 129)}
    if size in depths:
        return depths[size]
    names = ", ".join(f"`{name}`" for name in DEPTHS)
    raise ConfigError(
        f"size: expected one of {names}, or `d1` to `d128` for a depth, found `{size}`"
    )
