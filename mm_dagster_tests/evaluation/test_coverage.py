"""Loss figures against what was lost: other programs' tests, cases by hand, and what is right is seldom refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mm_dagster.arrays import Floats
from mm_dagster.evaluation import coverage
from mm_dagster.evaluation.coverage import acerbi_szekely, christoffersen, is_rough, kupiec, measure, z2_p


def figures(paths: Floats, level: float) -> tuple[Floats, Floats]:
    """Value at risk and expected shortfall of each day's paths."""
    worst = math.ceil(level * paths.shape[1])
    ordered = -np.sort(-paths, axis=1)
    return ordered[:, worst - 1], ordered[:, :worst].mean(axis=1)


def days(count: int, paths: int, seed: int = 1, worse: float = 1.0) -> tuple[Floats, Floats]:
    """Losses and paths of one distribution with fat tails; the losses are so many times as large."""
    drawn = np.random.default_rng(seed).standard_t(5, (count, paths + 1))
    return worse * drawn[:, 0], drawn[:, 1:]


# how many hits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "level"), [(100, 0.05), (365, 0.05), (813, 0.01)])
def test_the_number_of_hits_is_judged_as_scipy_s_binomial_says(count: int, level: float) -> None:
    hits = np.arange(count + 1)
    ratio = 2 * (stats.binom.logpmf(hits, count, hits / count) - stats.binom.logpmf(hits, count, level))
    assert [kupiec(one, count, level) for one in hits.tolist()] == pytest.approx(
        stats.chi2.sf(np.maximum(ratio, 0), 1).tolist(), rel=1e-9, abs=1e-12
    )


def test_the_very_number_that_is_expected_is_the_likeliest() -> None:
    assert kupiec(5, 100, 0.05) == 1.0
    found = [kupiec(hits, 100, 0.05) for hits in range(101)]
    assert found[:6] == sorted(found[:6])
    assert found[5:] == sorted(found[5:], reverse=True)


@pytest.mark.parametrize(("level", "least"), [(0.05, 100), (0.01, 500)])
def test_below_five_expected_hits_a_test_is_rough(level: float, least: int) -> None:
    assert is_rough(least - 1, level)
    assert not is_rough(least, level)
    assert kupiec(0, 19, level) is None
    assert kupiec(0, 20, level) == pytest.approx(stats.chi2.sf(-40 * math.log1p(-level), 1))


def test_a_rough_test_refuses_up_to_fifteen_percent() -> None:
    refused = []
    for count in range(200, 500, 10):
        chance = stats.binom.pmf(np.arange(41), count, 0.01)
        p = np.array([kupiec(hits, count, 0.01) for hits in range(41)])
        refused.append(float(chance[p < 0.05].sum()))
    assert 0.08 < max(refused) < 0.16


def test_of_figures_that_are_right_it_refuses_three_to_eight_percent() -> None:
    refused = []
    for level, step in ((0.05, 3), (0.01, 31)):
        for count in range(round(5 / level), round(16 / level), step):
            # More than 40 hits are as good as impossible.
            chance = stats.binom.pmf(np.arange(41), count, level)
            p = np.array([kupiec(hits, count, level) for hits in range(41)])
            refused.append(float(chance[p < 0.05].sum()))
    assert 0.03 < min(refused) < max(refused) < 0.08


# their order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_hits_is_judged_as_statsmodels_regression_on_the_day_before(seed: int) -> None:
    generator = np.random.default_rng(seed)
    hit = np.zeros(400, np.bool_)
    for day in range(1, hit.size):
        hit[day] = generator.random() < (0.25 if hit[day - 1] else 0.08)
    after, before = hit[1:].astype(float), hit[:-1].astype(float)
    with_it = sm.GLM(after, sm.add_constant(before), family=sm.families.Binomial()).fit(tol=1e-14)
    without = sm.GLM(after, np.ones_like(after), family=sm.families.Binomial()).fit(tol=1e-14)
    assert christoffersen(hit) == pytest.approx(stats.chi2.sf(2 * (with_it.llf - without.llf), 1), abs=1e-9)


def test_hits_that_follow_each_other_are_refused_and_scattered_ones_are_not() -> None:
    together, scattered = np.zeros((2, 400), np.bool_)
    together[100:120] = True
    scattered[::20] = True
    assert (christoffersen(together) or 1.0) < 1e-6
    assert (christoffersen(scattered) or 0.0) > 0.1


@pytest.mark.parametrize(
    "hit",
    [
        [],
        [True],
        [False] * 300,
        [True] * 300,
        [False] * 299 + [True],
        [True] + [False] * 299,
    ],
)
def test_an_order_that_says_nothing_is_not_judged(hit: list[bool]) -> None:
    assert christoffersen(np.array(hit, np.bool_)) is None


def test_independent_hits_are_seldom_refused() -> None:
    """4,000 series; at 292 days the test refuses less than it says, at 813 some more."""
    for count, low, high in ((292, 0.005, 0.04), (813, 0.05, 0.1)):
        hits = np.random.default_rng(11).random((2_000, count)) < 0.05
        p = np.array([christoffersen(one) for one in hits], np.float64)
        assert low < np.mean(p < 0.05) < high


# their size -----------------------------------------------------------------------------------------------------------


def test_z2_by_hand() -> None:
    losses, var, es = np.array([3.0, 1.0, -2.0, 2.0]), np.full(4, 1.0), np.array([2.0, 2.0, 2.0, 4.0])
    # Two hits of four days, where two are expected: 3 / 2 and 2 / 4. The loss of exactly the value at risk is none.
    assert acerbi_szekely(losses, var, es, 0.5) == pytest.approx(1 - (1.5 + 0.5) / 2)
    assert acerbi_szekely(2 * losses - var, var, es, 0.5) == pytest.approx(1 - (2.5 + 0.75) / 2)
    assert acerbi_szekely(np.zeros(4), var, es, 0.5) == 1.0
    assert acerbi_szekely(losses, var, np.zeros(4), 0.5) is None
    assert acerbi_szekely(*np.empty((3, 0)), 0.5) is None


@given(st.floats(1e-3, 1e6), st.integers(0, 2**32 - 1))
def test_the_unit_of_money_changes_nothing(unit: float, seed: int) -> None:
    losses, paths = days(20, 40, seed)
    var, es = figures(paths, 0.1)
    assert acerbi_szekely(unit * losses, unit * var, unit * es, 0.1) == pytest.approx(
        acerbi_szekely(losses, var, es, 0.1), abs=1e-12
    )
    assert z2_p(unit * losses, unit * paths, 0.1, 50) == pytest.approx(z2_p(losses, paths, 0.1, 50), abs=0.03)


@pytest.mark.parametrize(("count", "level", "paths"), [(100, 0.05, 100), (100, 0.05, 356), (500, 0.01, 100)])
def test_of_figures_that_are_right_the_simulation_refuses_about_five_percent(
    count: int, level: float, paths: int
) -> None:
    """200 trials of 200 simulations; three standard errors of 5 % are 4.6 points."""
    p = np.array([z2_p(*days(count, paths, seed), level, 200) for seed in range(200)], np.float64)
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.046)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.11)


def test_drawing_from_the_paths_alone_would_refuse_far_more() -> None:
    """Why the loss is exchanged with the paths: 200 trials, 500 days, 100 paths."""
    refused = 0
    for seed in range(200):
        losses, paths = days(500, 100, seed)
        var, es = figures(paths, 0.01)
        drawn = paths[np.arange(500)[:, None], np.random.default_rng(seed).integers(100, size=(500, 200))]
        over = np.where(drawn > var[:, None], drawn, 0.0) / (500 * 0.01 * es[:, None])
        refused += np.mean(1 - over.sum(axis=0) <= acerbi_szekely(losses, var, es, 0.01)) <= 0.05
    assert refused / 200 > 0.3


def test_losses_a_third_larger_are_found_and_smaller_ones_are_not_refused() -> None:
    found = [z2_p(*days(300, 356, seed, worse=1.33), 0.05, 400) or 1.0 for seed in range(40)]
    assert np.mean(np.array(found) <= 0.05) > 0.8
    assert all((z2_p(*days(300, 356, seed, worse=0.75), 0.05, 400) or 0.0) > 0.5 for seed in range(20))


def test_the_simulation_is_the_exact_share_where_it_can_be_counted() -> None:
    """One day: every one of the k + 1 is as likely the loss."""
    paths = np.arange(1.0, 5.0)[None, :]
    for loss, above in ((9.0, 1), (4.5, 1), (3.5, 2), (0.5, 5)):
        pool = np.append(paths, loss)
        z2 = []
        for place in range(5):
            others = np.delete(pool, place)[None, :]
            z2.append(acerbi_szekely(pool[place : place + 1], *figures(others, 0.5), 0.5))
        exact = np.mean(np.array(z2) <= z2[-1] + 1e-12)
        assert exact == pytest.approx(above / 5)
        assert z2_p(np.array([loss]), paths, 0.5) == pytest.approx(exact, abs=0.02)


def test_the_simulation_is_the_same_each_time_and_never_zero() -> None:
    losses, paths = days(300, 356, worse=20.0)
    assert z2_p(losses, paths, 0.05) == z2_p(losses, paths, 0.05) == 1 / (1 + coverage.SIMULATIONS)


def test_paths_that_lose_nothing_have_no_z2() -> None:
    assert z2_p(np.ones(3), np.zeros((3, 50)), 0.05) is None
    assert z2_p(np.zeros(3), np.zeros((3, 50)), 0.05) is None
    assert z2_p(np.zeros(3), np.empty((3, 0)), 0.05) is None


# all of it ------------------------------------------------------------------------------------------------------------


def test_a_level_is_measured_as_a_whole() -> None:
    losses, paths = days(365, 356)
    var, es = figures(paths, 0.05)
    found = measure(losses, var, es, paths, 0.05)
    assert (found.level, found.days, found.hits) == (0.05, 365, int((losses > var).sum()))
    assert found.rate == found.hits / 365
    assert found.kupiec_p == kupiec(found.hits, 365, 0.05)
    assert found.christoffersen_p == christoffersen(losses > var)
    assert found.z2 == acerbi_szekely(losses, var, es, 0.05)
    assert found.z2_p == z2_p(losses, paths, 0.05)


def test_a_loss_of_exactly_the_value_at_risk_is_no_hit() -> None:
    _, paths = days(200, 356)
    var, es = figures(paths, 0.05)
    assert measure(var, var, es, paths, 0.05).hits == 0
    assert measure(np.nextafter(var, np.inf), var, es, paths, 0.05).hits == 200


def test_few_days_are_counted_and_not_judged() -> None:
    losses, paths = days(19, 356)
    found = measure(losses, *figures(paths, 0.05), paths, 0.05)
    assert found.days == 19
    assert found.rate is not None
    assert found[4:] == (None, None, None, None)
    none = measure(*np.empty((3, 0)), np.empty((0, 356)), 0.05)
    assert none == (0.05, 0, 0, None, None, None, None, None)


def test_what_cannot_be_measured_says_why() -> None:
    losses, paths = days(120, 356)
    var, es = figures(paths, 0.05)
    with pytest.raises(ValueError, match="level: 5 is no share"):
        measure(losses, var, es, paths, 5)
    with pytest.raises(ValueError, match="119, 120, 120, 120 days"):
        measure(losses[1:], var, es, paths, 0.05)
    with pytest.raises(ValueError, match="losses: 1 values are not finite"):
        measure(np.append(losses[1:], np.nan), var, es, paths, 0.05)
    with pytest.raises(ValueError, match=r"es: .* on day 3, but of the 18 worst paths"):
        measure(losses, var, np.where(np.arange(120) == 3, 2 * es, es), paths, 0.05)
