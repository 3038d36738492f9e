"""L-BFGS over many small problems at once (Nocedal & Wright 2006, algorithms 7.4, 3.1).

A scaling law has five unknowns and is fitted from thousands of starts, to hundreds of
resampled tables: one problem at a time spends its time in the interpreter. Here a row of
an array is a problem, and all rows step together until each has converged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]
# (S, P) points and the (S,) numbers of their problems -> (S,) values, (S, P) gradients
Objective: TypeAlias = Callable[[Array, Index], tuple[Array, Array]]

MEMORY = 10  # pairs kept; there are five unknowns, so it is all but full BFGS
DECREASE = 1e-4  # Nocedal & Wright, after eq. 3.4
TRIES = 10  # each a quarter of the one before: below 4e-6 of a step rounding decides


def minimize(
    objective: Objective, starts: Array, *, steps: int, tolerance: float
) -> tuple[Array, Array]:
    """Least values and where they are, of each problem on its own.

    Args:
        objective: smooth; what is not finite is never stepped to.
        starts: (S, P), one problem a row.
        steps: most iterations of a problem.
        tolerance: a problem is done when an iteration gains less than this share of
            its value, or when no step down its gradient gains anything.

    Returns:
        (S, P) points and their (S,) values.
    """
    found, values = starts.copy(), np.full(len(starts), np.inf)
    open_: Index = np.arange(len(starts))
    state = _Problems(objective, starts, open_)
    for _ in range(steps):
        gain = state.step()
        found[state.index], values[state.index] = state.x, state.value
        going = gain > tolerance * np.abs(state.value)
        if not going.any():
            break
        state.keep(going)
    return found, values


class _Problems:
    """Those that have not converged: where they stand and what they remember."""

    def __init__(self, objective: Objective, x: Array, index: Index) -> None:
        self.objective, self.index, self.x = objective, index, x.copy()
        self.value, self.gradient = objective(self.x, index)
        self.pairs: list[tuple[Array, Array, Array]] = []  # s, y, 1 / (s . y) or 0

    def step(self) -> Array:
        """One iteration; returns what each problem gained."""
        direction = self._direction()
        slope = (direction * self.gradient).sum(1)
        uphill = ~(slope < 0.0)
        direction[uphill] = -self.gradient[uphill]
        slope = (direction * self.gradient).sum(1)
        moved, value, gradient = self._search(direction, slope)
        gain = self.value - value
        self._remember(moved - self.x, gradient - self.gradient)
        self.x, self.value, self.gradient = moved, value, gradient
        return np.nan_to_num(gain, nan=0.0, posinf=0.0)

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        """Drops the problems that are done."""
        if which.all():
            return
        self.x, self.value = self.x[which], self.value[which]
        self.gradient, self.index = self.gradient[which], self.index[which]
        self.pairs = [(s[which], y[which], r[which]) for s, y, r in self.pairs]

    def _direction(self) -> Array:
        """Minus the inverse Hessian's estimate times the gradient: algorithm 7.4."""
        q, weights = self.gradient.copy(), []
        for s, y, rho in reversed(self.pairs):
            weight = rho * (s * q).sum(1)
            q -= weight[:, None] * y
            weights.append(weight)
        q *= self._scale()[:, None]
        for (s, y, rho), weight in zip(self.pairs, reversed(weights), strict=True):
            q += (weight - rho * (y * q).sum(1))[:, None] * s
        direction: Array = -q
        return direction

    def _scale(self) -> Array:
        """Eq. 7.20; at first a step of length 1 at most."""
        scale: Array = 1.0 / np.maximum(np.linalg.norm(self.gradient, axis=1), 1.0)
        for _, y, rho in self.pairs:
            good = rho > 0.0
            size = (y * y).sum(1)
            scale[good] = 1.0 / (rho[good] * size[good])
        return scale

    def _remember(self, s: Array, y: Array) -> None:
        """Keeps a pair; where its curvature is not positive it counts for nothing."""
        curvature, size = (s * y).sum(1), (y * y).sum(1)
        good = (curvature > 1e-12 * size) & (size > 1e-100)  # no 1 / 0 in `_scale`
        rho = np.where(good, 1.0 / np.where(good, curvature, 1.0), 0.0)
        self.pairs = [*self.pairs[-MEMORY + 1 :], (s, y, rho)]

    def _search(self, direction: Array, slope: Array) -> tuple[Array, Array, Array]:
        """Shortens the step until it gains enough; a problem that never does stays."""
        x, value = self.x.copy(), self.value.copy()
        gradient = self.gradient.copy()
        left: Index = np.arange(len(x))
        length = 1.0
        for _ in range(TRIES):
            tried = self.x[left] + length * direction[left]
            new, new_gradient = self.objective(tried, self.index[left])
            enough = new <= self.value[left] + DECREASE * length * slope[left]
            enough &= np.isfinite(new_gradient).all(1)
            done = left[enough]
            x[done], value[done] = tried[enough], new[enough]
            gradient[done] = new_gradient[enough]
            left, length = left[~enough], length / 4.0
            if not len(left):
                break
        return x, value, gradient
