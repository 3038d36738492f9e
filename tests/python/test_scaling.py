from __future__ import annotations

import pytest

from triptych import chinchilla_loss
from triptych.scaling import LAWS

# (law, FLOPs, parameters, tokens, tokens a parameter): published constants, solved by
# eq. 4 of Hoffmann et al. 2022; the last row is the budget of their 70B model
OPTIMA = [
    ("hoffmann2022", 1e21, 1.8e9, 91e9, 50.1),
    ("hoffmann2022_source", 1e21, 2.2e9, 75e9, 34.0),
    ("besiroglu2024", 1e21, 2.8e9, 60e9, 21.6),
    ("hoffmann2022", 5.76e23, 32e9, 3.0e12, 92.6),
    ("besiroglu2024", 5.76e23, 72e9, 1.33e12, 18.4),
]


@pytest.mark.parametrize(("law", "flops", "params", "tokens", "ratio"), OPTIMA)
def test_the_optimum_is_the_published_one(law, flops, params, tokens, ratio):
    found_params, found_tokens = LAWS[law].optimum(flops)
    assert found_params == pytest.approx(params, rel=0.02)
    assert found_tokens == pytest.approx(tokens, rel=0.02)
    assert found_tokens / found_params == pytest.approx(ratio, rel=0.005)


@pytest.mark.parametrize("law", LAWS)
def test_the_optimum_is_a_minimum_along_its_budget(law):
    params, tokens = LAWS[law].optimum(1e20)
    best = LAWS[law].loss(params, tokens)
    for factor in (0.9, 1.1):
        assert LAWS[law].loss(params * factor, tokens / factor) > best


def test_the_loss_falls_with_size_and_with_data_to_the_irreducible():
    assert chinchilla_loss(7e9, 140e9) < chinchilla_loss(1e9, 140e9)
    assert chinchilla_loss(7e9, 1.4e12) < chinchilla_loss(7e9, 140e9)
    assert chinchilla_loss(1e30, 1e30) == pytest.approx(1.8172, abs=1e-6)


def test_chinchilla_itself_has_the_loss_of_its_law():
    # 1.8172 + 482.01 / 70e9**.3478 + 2085.43 / 1.4e12**.3658
    assert chinchilla_loss(70e9, 1.4e12) == pytest.approx(1.9739, abs=1e-4)


def test_four_epochs_are_nearly_worth_fresh_data_and_forty_are_not():
    law = LAWS["muennighoff2023"]
    assert law.effective_tokens(4e9, 1e9) > 0.9 * 4e9
    assert law.effective_tokens(40e9, 1e9) < 0.5 * 40e9
    assert law.effective_tokens(1e9, 2e9) == 1e9


def test_parameters_that_the_data_cannot_fill_count_less_and_less():
    law = LAWS["muennighoff2023"]
    optimal = 1e9 * (521 / 1488) ** (1 / 0.353)  # eq. 6 with both exponents alike
    assert law.effective_parameters(optimal, 1e9) == pytest.approx(optimal)
    # 1 + 5.31 * (1 - exp(-9 / 5.31))
    assert law.effective_parameters(10 * optimal, 1e9) == pytest.approx(
        5.335 * optimal, rel=1e-3
    )
    assert LAWS["besiroglu2024"].effective_parameters(1e12, 1e9) == 1e12


def test_the_loss_of_repeated_data_is_the_one_its_authors_compute():
    # N = 2.8e9, U = 1e9, D = 55e9 by the four equations of section 3.1, by hand:
    # U_N = 5.115e7, N' = 3.228e8, D' = 1.5928e10
    loss = LAWS["muennighoff2023"].repeated_loss(2.8e9, 55e9, 1e9)
    by_hand = 1.87 + 521 / 3.228e8**0.353 + 1488 / 1.5928e10**0.353
    assert loss == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_without_repetition_nothing_is_discounted(law):
    assert law.repeated_loss(1e10, 1e9, 1e9) == law.loss(1e10, 1e9)


@pytest.mark.parametrize("bad", [(0, 1e9), (1e9, -1), (float("nan"), 1e9)])
def test_counts_that_are_not_positive_are_refused(bad):
    with pytest.raises(ValueError, match="expected a count > 0"):
        chinchilla_loss(*bad)


def test_an_unknown_law_names_the_known_ones():
    with pytest.raises(ValueError, match="besiroglu2024"):
        chinchilla_loss(1e9, 1e9, law="chinchila")


# FLOPs, and of each law parameters, tokens and tokens a parameter, to three digits: the
# printed constants, minimised along the budget by ternary search in 40 decimal digits.
COMPUTED = [
    (
        1e18,
        "8.06e+07 2.07e+09 25.7",
        "9.46e+07 1.76e+09 18.6",
        "8.05e+07 2.07e+09 25.7",
    ),
    (
        4e19,
        "4.26e+08 1.56e+10 36.7",
        "5.09e+08 1.31e+10 25.7",
        "5.34e+08 1.25e+10 23.4",
    ),
    (1e21, "1.82e+09 9.14e+10 50.1", "2.21e+09 7.53e+10 34", "2.78e+09 6e+10 21.6"),
    (
        5.76e23,
        "3.22e+10 2.98e+12 92.6",
        "4.03e+10 2.38e+12 59.1",
        "7.22e+10 1.33e+12 18.4",
    ),
]
TABLE_LAWS = ("hoffmann2022", "hoffmann2022_source", "besiroglu2024")


@pytest.mark.parametrize("row", COMPUTED, ids=lambda row: f"{row[0]:g}")
def test_optima_are_those_of_a_search_to_three_digits(row):
    flops, *columns = row
    for law, column in zip(TABLE_LAWS, columns, strict=True):
        params, tokens = LAWS[law].optimum(flops)
        found = " ".join(f"{x:.3g}" for x in (params, tokens, tokens / params))
        assert found == column, law
