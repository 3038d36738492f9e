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


@pytest.mark.parametrize("bad", [(0, 1e9), (1e9, -1), (float("nan"), 1e9)])
def test_counts_that_are_not_positive_are_refused(bad):
    with pytest.raises(ValueError, match="expected a count > 0"):
        chinchilla_loss(*bad)


def test_an_unknown_law_names_the_known_ones():
    with pytest.raises(ValueError, match="besiroglu2024"):
        chinchilla_loss(1e9, 1e9, law="chinchila")


# FLOPs, and of each law parameters, tokens and tokens a parameter: computed from the
# printed constants apart from this code, and rounded as here.
COMPUTED = [
    (1e18, "81M 2.1B 25.7", "95M 1.8B 18.6", "80M 2.1B 25.7"),
    (4e19, "426M 15.6B 36.7", "509M 13.1B 25.7", "534M 12.5B 23.4"),
    (1e21, "1.8B 91B 50.1", "2.2B 75B 34.0", "2.8B 60B 21.6"),
    (5.76e23, "32B 3.0T 92.6", "40B 2.4T 59.1", "72B 1.33T 18.4"),
]
TABLE_LAWS = ("hoffmann2022", "hoffmann2022_source", "besiroglu2024")


@pytest.mark.parametrize("row", COMPUTED, ids=lambda row: f"{row[0]:g}")
def test_optima_are_the_computed_ones_to_the_last_digit(row):
    flops, *columns = row
    for law, column in zip(TABLE_LAWS, columns, strict=True):
        *sizes, ratio = column.split()
        params, tokens = LAWS[law].optimum(flops)
        assert f"{tokens / params:.1f}" == ratio, law
        for found, printed in zip((params, tokens), sizes, strict=True):
            assert rounded_like(found, printed) == printed, law


def rounded_like(number, printed):
    """A count with as many decimals and the unit of another."""
    unit = {"M": 1e6, "B": 1e9, "T": 1e12}[printed[-1]]
    decimals = len(printed[:-1].partition(".")[2])
    return f"{number / unit:.{decimals}f}{printed[-1]}"
