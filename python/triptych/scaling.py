"""Scaling laws: expected loss of a model from its size and its data.

`L(N, D) = E + A / N^alpha + B / D^beta` in nats a token (Hoffmann et al. 2022,
"Training Compute-Optimal Large Language Models", eq. 2), N parameters and D tokens as
plain counts. The laws differ in their fits, not in their form.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from numbers import Real

FLOPS_PER_PARAMETER_TOKEN = 6.0  # forward 2, backward 4 (Kaplan et al. 2020, sec. 2.1)


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """Constants of one fit.

    Attributes:
        irreducible: E, nats a token.
        parameter_scale: A. parameter_exponent: alpha.
        token_scale: B. token_exponent: beta.
        repetition_half_life: R*_D, the number of repetitions after which data has lost
            most of its value (Muennighoff et al. 2023, eq. 5), or None: no discount.
        parameter_half_life: R*_N, the same for parameters beyond the optimum (eq. 6).
        source: where the constants are printed.
    """

    irreducible: float
    parameter_scale: float
    token_scale: float
    parameter_exponent: float
    token_exponent: float
    repetition_half_life: float | None = None
    parameter_half_life: float | None = None
    source: str

    def loss(self, params: float, tokens: float) -> float:
        """Expected loss in nats a token at `params` parameters and `tokens` tokens."""
        of_params: float = self.parameter_scale / params**self.parameter_exponent
        of_tokens: float = self.token_scale / tokens**self.token_exponent
        return self.irreducible + of_params + of_tokens

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of least loss for `flops` (Hoffmann et al., eq. 4)."""
        a, b = self.parameter_exponent, self.token_exponent
        params = self._balance * (flops / FLOPS_PER_PARAMETER_TOKEN) ** (b / (a + b))
        return params, flops / FLOPS_PER_PARAMETER_TOKEN / params

    @property
    def _balance(self) -> float:
        """G of Hoffmann et al., eq. 4."""
        a, b = self.parameter_exponent, self.token_exponent
        scales = a * self.parameter_scale / (b * self.token_scale)
        return float(scales ** (1 / (a + b)))

    def effective_tokens(self, tokens: float, unique_tokens: float) -> float:
        """Tokens that fresh data would need for the same gain (Muennighoff eq. 5).

        Without a half-life, or without repetition, `tokens` itself.
        """
        return _worth(tokens, unique_tokens, self.repetition_half_life)

    def effective_parameters(self, params: float, unique_tokens: float) -> float:
        """Parameters that would do as much if data were no bound (Muennighoff eq. 6).

        Those up to the optimum for `unique_tokens` count in full, all without a half-life.
        """
        a, b = self.parameter_exponent, self.token_exponent
        optimal = (unique_tokens * self._balance) ** (b / a) * self._balance
        return _worth(params, optimal, self.parameter_half_life)

    def repeated_loss(
        self, params: float, tokens: float, unique_tokens: float
    ) -> float:
        """Expected loss where only `unique_tokens` of the tokens differ.

        Where all do, it is `loss`: data that are not repeated bound no model.
        """
        if tokens <= unique_tokens:
            return self.loss(params, tokens)
        return self.loss(
            self.effective_parameters(params, unique_tokens),
            self.effective_tokens(tokens, unique_tokens),
        )


def _worth(count: float, full: float, half_life: float | None) -> float:
    """`count`, of which what exceeds `full` counts ever less."""
    if half_life is None or count <= full:
        return count
    surplus = count / full - 1
    return full * (1 + half_life * (1 - math.exp(-surplus / half_life)))


LAWS: dict[str, ScalingLaw] = {
    "hoffmann2022": ScalingLaw(
        irreducible=1.69,
        parameter_scale=406.4,
        token_scale=410.7,
        parameter_exponent=0.34,
        token_exponent=0.28,
        source="Hoffmann et al. 2022, eq. 10, as printed (rounded)",
    ),
    "hoffmann2022_source": ScalingLaw(
        irreducible=1.6934,
        parameter_scale=406.4,
        token_scale=410.7,
        parameter_exponent=0.3392,
        token_exponent=0.2849,
        source="Hoffmann et al. 2022, TeX source",
    ),
    "besiroglu2024": ScalingLaw(
        irreducible=1.8172,
        parameter_scale=482.01,
        token_scale=2085.43,
        parameter_exponent=0.3478,
        token_exponent=0.3658,
        source="Besiroglu et al. 2024, arXiv 2404.10102, table 1",
    ),
    "muennighoff2023": ScalingLaw(
        irreducible=1.87,
        parameter_scale=521.0,
        token_scale=1488.0,
        parameter_exponent=0.353,
        token_exponent=0.353,
        repetition_half_life=15.388,
        parameter_half_life=5.310,
        source="Muennighoff et al. 2023, arXiv 2305.16264, appendix A",
    ),
}

# The refit agrees with the paper's own approaches 1 and 2; the printed one does not.
DEFAULT_LAW = "besiroglu2024"


def chinchilla_loss(params: float, tokens: float, *, law: str = DEFAULT_LAW) -> float:
    """Expected loss in nats a token of a model trained once over its data.

    Args:
        params: number of parameters, a plain count (7e9, not 7).
        tokens: number of training tokens, a plain count.
        law: a name in `LAWS`.

    Raises:
        ValueError: for an unknown law, or counts that are not positive numbers.
    """
    if law not in LAWS:
        raise ValueError(
            f"law: expected one of {', '.join(map(repr, LAWS))}, found {law!r}"
        )
    for name, value in (("params", params), ("tokens", tokens)):
        if not (isinstance(value, Real) and 0 < value <= sys.float_info.max):
            raise ValueError(f"{name}: expected a count > 0, found {value!r:.60}")
    return LAWS[law].loss(params, tokens)
