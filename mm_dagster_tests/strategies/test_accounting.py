"""What positions earn: against a plain loop, over holes, and begun on other days."""

from __future__ import annotations

import numpy as np
import pytest

from mm_dagster.arrays import Floats
from mm_dagster.bars import DAY_BARS
from mm_dagster.config.portfolio import Limits
from mm_dagster.config.strategies import Sizing
from mm_dagster.strategies import matrix, sizing
from mm_dagster.strategies.accounting import Prices, at_other_days, by_day, earned, prices_of, shifted

COST = 0.00125
DAYS = 30


def market(seed: int = 1, holes: float = 0.0) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.003 * random.standard_normal(DAYS * DAY_BARS)))
    opens = np.append(100.0, close[:-1]) * np.exp(0.0002 * random.standard_normal(close.size))
    missing = random.random(close.size) < holes
    opens[missing] = close[missing] = np.nan
    funding = np.where(np.arange(close.size) % 32 == 31, 1e-4 * random.standard_normal(close.size), np.nan)
    return opens, close, funding


def positions(seed: int = 2) -> Floats:
    random = np.random.default_rng(seed)
    return np.repeat(random.uniform(-1, 1, DAYS * 8), DAY_BARS // 8)


def plainly(position: Floats, opens: Floats, closes: Floats, funding: Floats) -> Floats:
    """Bar by bar: fill at the open, hold to the next known price."""
    held, net, known = 0.0, np.zeros(opens.size), np.nan
    for bar in range(opens.size):
        start = opens[bar] if np.isfinite(opens[bar]) else known
        if np.isfinite(opens[bar]):
            wanted = position[bar - 1] if bar else 0.0
            # What was wanted last, however long ago it was decided.
            net[bar] -= COST * abs(wanted - held)
            held = wanted
        known = closes[bar] if np.isfinite(closes[bar]) else start
        following = opens[bar + 1] if bar + 1 < opens.size and np.isfinite(opens[bar + 1]) else known
        if np.isfinite(start) and np.isfinite(following):
            net[bar] += held * (following / start - 1)
        net[bar] -= held * (funding[bar] if np.isfinite(funding[bar]) else 0.0)
    return net


@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_it_is_the_plain_loop(holes: float) -> None:
    opens, closes, funding = market(holes=holes)
    found = earned(positions(), prices_of(opens, closes, funding), COST)
    np.testing.assert_allclose(found.net, plainly(positions(), opens, closes, funding), atol=1e-12)
    assert found.cost.sum() > 0
    assert found.funding.any()


def test_a_position_earns_nothing_in_the_bar_in_which_it_is_decided() -> None:
    opens = np.full(DAY_BARS, 100.0)
    closes = opens.copy()
    closes[10], opens[11:], closes[11:] = 110.0, 110.0, 110.0
    at = np.zeros(DAY_BARS)
    at[10] = 1.0
    assert earned(at, prices_of(opens, closes, np.full(DAY_BARS, np.nan)), 0.0).net.sum() == 0.0
    at[9] = 1.0
    assert earned(at, prices_of(opens, closes, np.full(DAY_BARS, np.nan)), 0.0).net.sum() == pytest.approx(0.1)


def test_the_last_bar_is_valued_at_its_close_and_unknown_days_are_told() -> None:
    opens, closes, funding = market()
    opens[: 2 * DAY_BARS] = closes[: 2 * DAY_BARS] = np.nan
    found = prices_of(opens, closes, funding)
    assert found.known.tolist() == [False, False, *[True] * (DAYS - 2)]
    assert not found.returns[: 2 * DAY_BARS].any()
    assert found.returns[-1] == pytest.approx(closes[-1] / opens[-1] - 1)
    assert np.isfinite(found.returns).all()


def test_a_schedule_begun_on_other_days_earns_what_a_replay_says() -> None:
    opens, closes, funding = market()
    prices = prices_of(opens, closes, funding)
    own = earned(positions(), prices, COST)
    moved = at_other_days(own, prices)
    np.testing.assert_allclose(np.diagonal(moved), by_day(own.net), atol=1e-12)
    every = shifted(moved, 7)
    assert every.shape == (DAYS - 13, DAYS)
    for place, shift in enumerate(range(7, DAYS - 6)):
        later = np.roll(own.held, shift * DAY_BARS)
        plain = by_day(later * (prices.returns - prices.funding)) - np.roll(by_day(own.cost), shift)
        np.testing.assert_allclose(every[place], plain, atol=1e-12)


def test_nothing_is_earned_on_a_market_that_was_never_known() -> None:
    unknown = np.full(DAY_BARS, np.nan)
    found = earned(np.ones(DAY_BARS), prices_of(unknown, unknown, unknown), COST)
    assert not found.net.any()
    assert not found.held.any()


# the matrix -----------------------------------------------------------------------------------------------------------


def test_the_matrix_takes_of_each_scenario_the_best_and_none_that_lost() -> None:
    cell = np.repeat(np.arange(8), 200)
    after = np.zeros((2, cell.size))
    after[0, cell == 0], after[1, cell == 0] = 0.01, 0.02
    after[0, cell == 3], after[1, cell == 3] = 0.03, -1.0
    after[:, cell == 5] = -0.01
    inside = np.ones(cell.size, np.bool_)
    chosen = matrix.choose([(cell, after, inside)], 2)
    assert chosen.tolist() == [1, -1, -1, 0, -1, -1, -1, -1]
    few = inside & (np.arange(cell.size) % 200 < 90)
    assert (matrix.choose([(cell, after, few)], 2) == matrix.FLAT).all(), "90 bars are too few"
    assert matrix.choose([(cell, after, few)] * 2, 2).tolist() == chosen.tolist(), "of all markets together"
    held = matrix.held(
        np.append(cell, -1), np.vstack([np.full(cell.size + 1, 0.5), np.full(cell.size + 1, -1.0)]), chosen
    )
    assert [float(held[200 * one]) for one in range(8)] == [-1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert held[-1] == 0.0


def test_a_scenario_is_known_only_where_both_of_its_parts_are() -> None:
    verdict, sigma = np.array([0, 3, -1, 2, 1]), np.array([1.0, 3.0, 3.0, np.nan, 2.0])
    assert matrix.cells(verdict, sigma, 2.0).tolist() == [0, 7, -1, -1, 2]
    assert (matrix.cells(verdict, sigma, np.nan) == matrix.NOWHERE).all()
    assert [matrix.CELLS[one] for one in (0, 7, 2)] == ["RANGE_OK/low", "TREND/high", "RANGE_WEAK/low"]


# sizes ----------------------------------------------------------------------------------------------------------------


def test_a_size_is_the_least_of_all_rules_and_nothing_where_one_is_not_known() -> None:
    rules = Sizing(risk_per_trade=0.01, stop_atr=2.0, var_5_24h=0.02, kelly=0.5)
    atr = np.array([0.01, 0.5, 0.01, 0.01, 0.01, np.nan])
    sigma = np.array([0.0001, 0.0001, 0.01, 0.0001, 0.0001, 0.0001])
    kelly = np.array([np.inf, np.inf, np.inf, 0.2, 0.0, np.inf])
    night = 0.02 / (1.6448536269514722 * np.sqrt(24) * 0.01)
    wanted = [0.15, 0.01, min(night, 0.15), 0.1, 0.0, 0.0]
    np.testing.assert_allclose(sizing.size(atr, sigma, kelly, rules, 0.15), wanted)
    assert sizing.size(np.array([0.01]), np.array([0.01]), np.array([np.inf]), rules, 1.0) == pytest.approx(night)


def test_the_limits_of_the_portfolio_cap_a_position() -> None:
    assert sizing.most(Limits(), 1) == 0.15
    assert sizing.most(Limits(), 14) == pytest.approx(0.8 / 14)
    assert sizing.most(Limits(position=None), 1) == 0.2
    assert sizing.most(Limits(position=None, pair=None, portfolio=None), 4) == 0.25


def test_prices_are_what_the_type_says() -> None:
    assert isinstance(prices_of(*market()), Prices)
