"""A scaling law fitted to one's own runs, and how far its predictions can be trusted.

L(N, D) = E + A / N^alpha + B / D^beta, by Hoffmann et al. 2022, approach 3 (section
D.2): Huber loss of the logarithm, from a grid of starts. Five unknowns and fifteen
points leave ten degrees of freedom: the constants themselves stay vague, the loss that
they predict nearby does not. So the interval is of the prediction.

The interval comes from a parametric bootstrap. To draw points anew would leave some
sizes or durations of a 5 x 3 table out and with them the exponent; to draw residuals
anew gives too little, as a fit with a Huber loss passes through some of its points and
leaves them none. So each replicate is the fitted curve plus normal noise, whose variance
is itself drawn: the residual sum of squares over a chi-squared of the degrees of
freedom, as in Student's t. A predicted run gets such noise too, since its own loss will
have it. `tests/python/test_ladder_fit.py` counts how often the interval holds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from triptych.errors import InputError
from triptych.miniseries.lbfgs import Array, Index, minimize
from triptych.scaling import ScalingLaw

DELTA = 1e-3  # Hoffmann et al. 2022, section D.2: of the Huber loss, in log loss
UNKNOWNS = 5
MIN_POINTS = 7  # with five unknowns: two degrees of freedom for the noise
REPLICATES = 400  # a 90 % interval's ends vary by a tenth of their distance
# Of the grid: steps, and how many of the best go on after them. All 4,500 to the end
# find no better fit of noisy tables, and take seven times as long.
FUNNEL = ((4, 200), (30, 20), (400, 20))
STEPS = 400
# Twice the grid's steepest, which is four times any published: without an end, sizes that
# the runs do not tell apart send an exponent on until its scale is beyond doubles.
MOST_EXPONENT = 4.0
STEEP_COST = 100.0  # a square unit beyond it; a run that is off by delta costs 0.5
REPLICATE_STARTS = 2  # the fit itself and a rival: one alone misses one in 400
TOLERANCE = 1e-8
FAR_DECADES = 1.0  # of 6 N D beyond the dearest run; OLMo's ladder went 1.6 for 1.9 %

# Their grid, table A2 of section D.2; losses of 0.4 to 2.7 nats for E, and so on.
GRID: dict[str, tuple[float, ...]] = {
    "a": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "b": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "e": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
    "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
}


@dataclass(frozen=True)
class Prediction:
    """The loss of a run that was not trained, in nats a token.

    Attributes:
        low, high: the interval that its loss falls into with `level` probability, if
            the law has the right form.
        warnings: sentences.
    """

    loss: float
    low: float
    high: float
    level: float
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LadderFit:
    """A fitted law with its replicates.

    Attributes:
        law: the constants.
        noise: standard deviation of log loss around the law; about the share by which
            a loss differs from it.
        residuals: (n,) log loss minus the law's.
        points: (n, 2) parameters and tokens that were fitted.
        replicates: (R, 5) ln A, ln B, ln E, alpha, beta of each.
        replicate_noise: (R,) their noise.
        seed: of the replicates.
    """

    law: ScalingLaw
    noise: float
    residuals: Array
    points: Array
    replicates: Array
    replicate_noise: Array
    seed: int

    def predict(
        self, params: float, tokens: float, *, level: float = 0.9
    ) -> Prediction:
        """The loss at a size and a duration, with the noise that a run has."""
        law = self.law.loss(params, tokens)
        logs = _shares(self.replicates, _features([params], [tokens]))[0][:, 0]
        generator = np.random.default_rng((self.seed, 1))
        logs = logs + self.replicate_noise * generator.standard_normal(len(logs))
        low, high = np.exp(_interval(logs, level))
        warnings = [*self._steep(), *self._far(params, tokens)]
        return Prediction(law, float(low), float(high), level, warnings)

    def intervals(self, *, level: float = 0.9) -> dict[str, tuple[float, float]]:
        """Of each constant, by its name in `ScalingLaw`; an end may be infinite."""
        a, b, e, alpha, beta = self.replicates.T
        with np.errstate(over="ignore"):  # a steep exponent has a scale beyond doubles
            columns = {
                "irreducible": np.exp(e),
                "parameter_scale": np.exp(a),
                "token_scale": np.exp(b),
                "parameter_exponent": alpha,
                "token_exponent": beta,
            }
        ends = {name: _interval(column, level) for name, column in columns.items()}
        return {name: (float(x[0]), float(x[1])) for name, x in ends.items()}

    def optimum(
        self, flops: float, *, level: float = 0.9
    ) -> dict[str, tuple[float, float, float]]:
        """Parameters and tokens of least loss for `flops`: value, low and high.

        Replicates whose exponents have no optimum count as an interval without end.

        Raises:
            InputError: the law itself has none, or none that a double holds.
        """
        exponents = (self.law.parameter_exponent, self.law.token_exponent)
        if not min(exponents) > 0.0:
            raise InputError(
                "optimum: expected a law whose loss falls with both size and data, found "
                f"exponents {exponents[0]:.3g} and {exponents[1]:.3g}: train sizes and "
                "durations that lie further apart"
            )
        with np.errstate(all="ignore"):
            params = _optimal_parameters(self.replicates, flops)
        low, high = _interval(params, level)
        try:
            best, tokens = self.law.optimum(flops)
        except (
            ArithmeticError
        ) as error:  # exponents near 0 raise a scale to the hundreds
            raise InputError(
                f"optimum: expected one within doubles, found {self.law}: train sizes "
                "and durations that lie further apart"
            ) from error
        return {
            "parameters": (best, low, high),
            "tokens": (tokens, flops / 6.0 / high, flops / 6.0 / low),
        }

    def _steep(self) -> list[str]:
        """A sentence for each exponent that only its bound has stopped."""
        law = self.law
        exponents = {"size": law.parameter_exponent, "data": law.token_exponent}
        return [
            f"the law's exponent of {name} came to {value:.3g}: expected less than "
            f"{MOST_EXPONENT:g}, so the runs hardly tell what {name} gains; train "
            "longer, and runs that lie further apart"
            for name, value in exponents.items()
            if abs(value) > 0.99 * MOST_EXPONENT
        ]

    def _far(self, params: float, tokens: float) -> list[str]:
        """A sentence where the run is dearer than any that was fitted by far."""
        dearest = float(self.points.prod(1).max())
        decades = math.log10(params * tokens / dearest)
        if decades <= FAR_DECADES:
            return []
        return [
            f"the predicted run takes {10**decades:.0f} times the work of the dearest "
            f"run that was fitted, and the interval supposes that the law holds as far: "
            f"expected at most {10**FAR_DECADES:.0f} times"
        ]


def fit_law(
    params: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> LadderFit:
    """Fits a law to runs of several sizes and durations.

    Args:
        params: of each run, a plain count.
        tokens: that it was trained on, likewise.
        losses: held out, in nats a token.
        seed: of the replicates.
        replicates: fits to noisy copies, from which the intervals come.

    Raises:
        InputError: too few runs, one size or duration only, or numbers that are none.
    """
    points = np.stack([np.asarray(params, float), np.asarray(tokens, float)], axis=1)
    logs = _checked(points, np.asarray(losses, float))
    features = _features(points[:, 0], points[:, 1])
    best, rivals = _best(features, logs)
    fitted = _shares(best[None], features)[0][0]
    freedom = len(logs) - UNKNOWNS
    squares = float(((logs - fitted) ** 2).sum())
    generator = np.random.default_rng((seed, 0))
    noise = np.sqrt(squares / generator.chisquare(freedom, replicates))
    copies = fitted + noise[:, None] * generator.standard_normal(
        (replicates, len(logs))
    )
    return LadderFit(
        law=_law(best),
        noise=math.sqrt(squares / freedom),
        residuals=logs - fitted,
        points=points,
        replicates=_fit_copies(features, copies, rivals),
        replicate_noise=noise,
        seed=seed,
    )


def require_table(points: Array) -> None:
    """Refuses a table that no law can be fitted to, whatever its losses will be.

    Args:
        points: (n, 2) parameters and tokens.

    Raises:
        InputError: too few runs, sizes or durations, or numbers that are no counts.
    """
    if len(points) < MIN_POINTS:
        raise InputError(
            f"ladder: expected at least {MIN_POINTS} runs to fit {UNKNOWNS} constants "
            f"and their noise, found {len(points)}"
        )
    for name, values in (("parameters", points[:, 0]), ("tokens", points[:, 1])):
        _check_positive(name, values)
        distinct = len(np.unique(values))
        if distinct < 3:
            raise InputError(
                f"ladder: expected runs of at least 3 different {name}, to tell an "
                f"exponent from a constant, found {distinct}"
            )


def _checked(points: Array, losses: Array) -> Array:
    """The logarithms of the losses, once the table can be fitted."""
    require_table(points)
    _check_positive("losses", losses)
    logs: Array = np.log(losses)
    return logs


def _check_positive(name: str, values: Array) -> None:
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0.0)))
    if len(bad):
        raise InputError(
            f"ladder: expected {name} above 0, found {values[bad[0]]} in run {bad[0] + 1}"
        )


def _features(
    params: Sequence[float] | Array, tokens: Sequence[float] | Array
) -> Array:
    """(n, 2): ln N and ln D."""
    logs: Array = np.log(np.stack([np.asarray(params), np.asarray(tokens)], axis=1))
    return logs


def _shares(x: Array, features: Array) -> tuple[Array, list[Array]]:
    """(S, n) log losses by log-sum-exp, and how each term shares in the loss.

    The terms are A / N^alpha, B / D^beta and E; (S, n) each, they add up to 1.
    """
    a, b, e, alpha, beta = (column[:, None] for column in x.T)
    log_n, log_d = features.T
    logs = [a - alpha * log_n, b - beta * log_d, e]
    most = np.maximum(np.maximum(logs[0], logs[1]), e)
    shares = [np.exp(term - most) for term in logs]
    total = shares[0] + shares[1] + shares[2]
    return most + np.log(total), [share / total for share in shares]


def _huber(
    x: Array, features: Array, targets: Array, delta: float
) -> tuple[Array, Array]:
    """(S,) sums of Huber losses in units of delta squared, and (S, 5) gradients.

    `targets` is (S, n), or (1, n) for all. An exponent beyond `MOST_EXPONENT` costs.
    """
    logs, shares = _shares(x, features)
    ratio = (logs - targets) / delta
    clipped = np.clip(ratio, -1.0, 1.0)
    value = (clipped * (ratio - 0.5 * clipped)).sum(1)
    slope = clipped / delta
    by_n, by_d, by_e = (slope * share for share in shares)
    log_n, log_d = features.T
    parts = [by_n.sum(1), by_d.sum(1), by_e.sum(1), -(by_n @ log_n), -(by_d @ log_d)]
    gradient = np.stack(parts, axis=1)
    beyond = x[:, 3:] - np.clip(x[:, 3:], -MOST_EXPONENT, MOST_EXPONENT)
    gradient[:, 3:] += 2.0 * STEEP_COST * beyond
    return value + STEEP_COST * (beyond * beyond).sum(1), gradient


def _minimize(
    features: Array, targets: Array, starts: Array, steps: int
) -> tuple[Array, Array]:
    """Fits `targets` (S or 1, n) from `starts` (S, 5).

    With ln N and ln D taken from their means, a constant and its exponent no longer
    stand for each other: a tenth of the steps.
    """
    mean = features.mean(0)
    centred = features - mean

    def objective(x: Array, index: Index) -> tuple[Array, Array]:
        chosen = targets if len(targets) == 1 else targets[index]
        with np.errstate(over="ignore", invalid="ignore"):
            return _huber(x, centred, chosen, DELTA)

    shifted = starts.copy()
    shifted[:, :2] -= starts[:, 3:] * mean
    found, values = minimize(objective, shifted, steps=steps, tolerance=TOLERANCE)
    found[:, :2] += found[:, 3:] * mean
    return found, values


def _best(features: Array, logs: Array) -> tuple[Array, Array]:
    """The best of all starts, and a few that came near: (5,) and (K, 5)."""
    grid = itertools.product(*GRID.values())
    ranked = np.array(list(grid))
    for steps, kept in FUNNEL:
        found, values = _minimize(features, logs[None], ranked, steps)
        ranked = found[np.argsort(values, kind="stable")[:kept]]
    every = max(1, len(ranked) // REPLICATE_STARTS)
    return ranked[0], ranked[::every][:REPLICATE_STARTS]


def _fit_copies(features: Array, copies: Array, starts: Array) -> Array:
    """(R, 5): the best fit of each of (R, n) copies, from each of (K, 5) starts."""
    all_starts = np.repeat(starts, len(copies), axis=0)
    targets = np.tile(copies, (len(starts), 1))
    found, values = _minimize(features, targets, all_starts, STEPS)
    best = values.reshape(len(starts), -1).argmin(0)
    chosen: Array = found.reshape(len(starts), -1, UNKNOWNS)[
        best, np.arange(len(copies))
    ]
    return chosen


def _law(x: Array) -> ScalingLaw:
    a, b, e, alpha, beta = map(float, x)
    return ScalingLaw(
        irreducible=math.exp(e),
        parameter_scale=math.exp(a),
        token_scale=math.exp(b),
        parameter_exponent=alpha,
        token_exponent=beta,
        source="triptych ladder",
    )


def _optimal_parameters(x: Array, flops: float) -> Array:
    """(R,) by Hoffmann et al., eq. 4; infinite where there is no optimum."""
    a, b, _, alpha, beta = x.T
    both = alpha + beta
    log_g = (np.log(alpha) + a - np.log(beta) - b) / both
    params = np.exp(log_g + beta / both * math.log(flops / 6.0))
    return np.where((alpha > 0.0) & (beta > 0.0), params, np.inf)


def _interval(values: Array, level: float) -> Array:
    """Both ends of the middle `level` of the values."""
    tails = (1.0 - level) / 2.0
    ends: Array = np.quantile(values, [tails, 1.0 - tails], method="nearest")
    return ends
