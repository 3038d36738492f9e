"""The `[ladder]` table of a pre-training configuration."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from triptych.errors import ConfigError

WIDTH_BY_LAYERS = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class LadderTable:
    """Which small runs `triptych ladder` trains; nothing else reads it.

    Attributes:
        sizes: `WIDTHxLAYERS`, as `96x3`, or names of the dial, as `d2` or `3m`; none
            for five from 1/64 to 1/4 of the run's own model.
        durations: tokens a parameter; none for half, once and twice the run's own.
        recipe: how rates and batches follow from the run's own: by `step_law` (Li et
            al. 2025), meant for models of millions, or the `same`; None for the `same`
            under muP, which moves rates with width itself, and else `step_law`.
    """

    sizes: tuple[str, ...] = ()
    durations: tuple[float, ...] = ()
    recipe: Literal["step_law", "same"] | None = None

    def __post_init__(self) -> None:
        """Checks every bound once, at birth."""
        # As folders of runs are named.
        durations = tuple(f"{value:g}" for value in self.durations)
        for name, values in (("sizes", self.sizes), ("durations", durations)):
            if len(set(values)) != len(values):
                raise ConfigError(
                    f"{name}: expected each once, found {', '.join(values)}"
                )
        for value in self.durations:
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"durations: expected numbers > 0, found {value}")
