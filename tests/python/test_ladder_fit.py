"""A law is found again from runs that follow it, and its intervals hold what they say."""

import numpy as np
import pytest

from triptych.errors import InputError
from triptych.miniseries.fit import fit_law
from triptych.miniseries.lbfgs import minimize
from triptych.scaling import LAWS

TRUE = LAWS["besiroglu2024"]
SIZES = np.repeat([5e4, 1e5, 2e5, 4e5, 8e5], 3)
TOKENS = SIZES * np.tile([10.0, 20.0, 40.0], 5)
LOSSES = np.array([TRUE.loss(n, d) for n, d in zip(SIZES, TOKENS, strict=True)])
LARGER = (3.2e6, 6.4e7)


def noisy(seed, share=0.005):
    return LOSSES * np.exp(share * np.random.default_rng(seed).normal(size=15))


def test_the_minimum_of_every_problem_is_found():
    def rosenbrock(x, _):
        a, b = x.T
        slope = b - a * a
        gradient = [-2 * (1 - a) - 400 * a * slope, 200 * slope]
        return (1 - a) ** 2 + 100 * slope**2, np.stack(gradient, axis=1)

    starts = np.random.default_rng(0).normal(size=(50, 2)) * 2
    found, values = minimize(rosenbrock, starts, steps=500, tolerance=1e-12)
    assert np.allclose(found, 1.0)
    assert values.max() < 1e-12


def test_runs_without_noise_give_their_constants_back():
    fit = fit_law(SIZES, TOKENS, LOSSES, replicates=20)
    assert fit.law.irreducible == pytest.approx(TRUE.irreducible, rel=1e-4)
    assert fit.law.parameter_scale == pytest.approx(TRUE.parameter_scale, rel=1e-3)
    assert fit.law.token_scale == pytest.approx(TRUE.token_scale, rel=1e-3)
    assert fit.law.parameter_exponent == pytest.approx(0.3478, rel=1e-4)
    assert fit.law.token_exponent == pytest.approx(0.3658, rel=1e-4)
    params, tokens = TRUE.optimum(1e15)
    optimum = fit.optimum(1e15)
    assert optimum["parameters"][0] == pytest.approx(params, rel=1e-3)
    assert optimum["tokens"][0] == pytest.approx(tokens, rel=1e-3)


def test_noise_is_estimated_and_a_run_that_went_wrong_moves_little():
    losses = noisy(0)
    fit = fit_law(SIZES, TOKENS, losses, replicates=20)
    assert 0.003 < fit.noise < 0.008
    losses[7] *= 1.3
    spoilt = fit_law(SIZES, TOKENS, losses, replicates=20)
    assert spoilt.residuals[7] == pytest.approx(np.log(1.3), abs=0.02)
    ratio = spoilt.law.loss(*LARGER) / fit.law.loss(*LARGER)
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_nine_intervals_in_ten_hold_the_loss_of_a_larger_run():
    generator = np.random.default_rng(0)
    held = []
    for trial in range(20):
        fit = fit_law(SIZES, TOKENS, noisy(trial), replicates=60)
        found = fit.predict(*LARGER)
        loss = TRUE.loss(*LARGER) * np.exp(0.005 * generator.normal())
        held.append(found.low <= loss <= found.high)
        assert found.high - found.low < 0.15 * found.loss
    assert 0.8 <= np.mean(held) <= 1.0


def test_the_same_runs_and_seed_give_the_same_interval():
    first, again = (fit_law(SIZES, TOKENS, noisy(3), replicates=40) for _ in range(2))
    other = fit_law(SIZES, TOKENS, noisy(3), replicates=40, seed=1)
    assert first.law == again.law == other.law
    assert first.predict(*LARGER) == again.predict(*LARGER) != other.predict(*LARGER)
    assert first.intervals() == again.intervals()


def test_an_interval_widens_with_distance_and_level_and_far_is_a_warning():
    fit = fit_law(SIZES, TOKENS, noisy(4), replicates=100)

    def width(params, tokens, level=0.9):
        found = fit.predict(params, tokens, level=level)
        return (found.high - found.low) / found.loss

    assert width(1e6, 2e7) < width(1e8, 2e9)
    assert width(1e6, 2e7, level=0.5) < width(1e6, 2e7)
    assert fit.predict(1e6, 2e7).warnings == []
    (sentence,) = fit.predict(1e8, 2e9).warnings
    assert "times the work of the dearest run" in sentence


def test_constants_lie_within_their_intervals():
    fit = fit_law(SIZES, TOKENS, noisy(5), replicates=100)
    for name, (low, high) in fit.intervals().items():
        assert low <= getattr(fit.law, name) <= high


def test_sizes_that_only_the_smallest_tells_apart_get_a_finite_law_and_a_warning():
    by_size = np.where(SIZES == SIZES.min(), 5.0, 2.0)
    losses = by_size + 2e3 / TOKENS**0.5
    fit = fit_law(SIZES, TOKENS, losses, replicates=20)
    assert 3.9 < fit.law.parameter_exponent < 5.0
    assert np.isfinite(list(fit.intervals().values())).all()
    (sentence,) = fit.predict(8e5, 3e7).warnings
    assert "exponent of size came to" in sentence
    assert (
        fit_law(SIZES, TOKENS, noisy(6), replicates=20).predict(8e5, 3e7).warnings == []
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, d, x: (n[:6], d[:6], x[:6]), "at least 7 runs .* found 6"),
        (lambda n, d, x: (n * 0 + 1e5, d, x), "3 different parameters.* found 1"),
        (lambda n, d, x: (n, d * 0 + 1e6, x), "3 different tokens.* found 1"),
        (lambda n, d, x: (n, d, x * np.nan), "losses above 0, found nan in run 1"),
        (lambda n, d, x: (n, d - d[2], x), "tokens above 0, found .* in run 1"),
    ],
)
def test_runs_that_no_law_can_be_fitted_to_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        fit_law(*change(SIZES, TOKENS, LOSSES))


def test_a_law_that_does_not_fall_has_no_optimum():
    fit = fit_law(SIZES, TOKENS, 3.0 + 1e-4 * np.log(SIZES), replicates=20)
    with pytest.raises(InputError, match="whose loss falls with both"):
        fit.optimum(1e15)
