"""What a grid loses on a path: the same money as the grid's own replay on the same prices."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, EPOCH, Span
from mm_dagster.grid.replay import GridTerms, Replay, replay, terms_of
from mm_dagster.grid.slippage import Traded, taken_off
from mm_dagster.portfolio.loss import Held, Lost, held, lost, lost_at
from mm_dagster.portfolio.paths import Starts, past
from mm_dagster_tests.grid.synthetic import grid

LIVED = 200
"""Bars that a grid has lived when the path begins."""


def walk(generator: np.random.Generator, bars: int, volatility: float, missing: float) -> Floats:
    """Open, high, low, close, shape (4, bars), from 100 on; some are MISSING."""
    steps = generator.normal(0.0, volatility, (bars, 3))
    gaps = generator.normal(0.0, volatility / 2, bars)
    path = 100.0 * np.exp(np.cumsum(np.column_stack([gaps, steps]).ravel()).reshape(bars, 4))
    prices = np.stack([path[:, 0], path.max(axis=1), path.min(axis=1), path[:, 3]])
    prices[:, generator.random(bars) < missing] = np.nan
    prices[:, 0] = 100.0
    return prices


def on_path(terms: GridTerms, life: Floats, night: Floats, scale: float, **market: Any) -> tuple[Lost, Replay, Floats]:
    """The loss of one path, and the replay of the same prices: a life, and the night again at another volatility."""
    known = life[3][~np.isnan(life[3])]
    now = float(known[-1])
    again = now * (night[:, 1:] / night[3, 0]) ** scale
    prices = np.concatenate([life, again], axis=1)
    lived = replay(terms, *prices)
    at = LIVED - 1
    columns = np.concatenate([night, np.full((4, 1), now)], axis=1)
    span = Span(EPOCH, EPOCH + columns.shape[1] * BAR)
    sigma = np.ones((1, columns.shape[1]))
    sigma[0, -1] = scale
    first = past(("A-B",), span, columns[:, None, :], sigma, 1.0)
    cells = held(terms, is_modelled=bool(market)).standing(now, float(lived.inventory[at]), **market)
    assert cells.waiting == lived.waiting[at] or 0 <= lived.stopped <= at
    found = lost(cells, first, 0, Starts(np.array([0]), columns.shape[1] - 1))
    return found, lived, prices


CASES = st.tuples(
    st.integers(0, 10_000), st.floats(0.0005, 0.02), st.floats(0.3, 3.0), st.sampled_from([0.0, 0.05]),
    st.sampled_from(["arithmetic", "geometric"]), st.integers(2, 60), st.sampled_from(["quote", "base"]),
)  # fmt: skip


@settings(max_examples=300)
@given(CASES)
def test_it_is_the_money_of_the_replay(case: tuple[Any, ...]) -> None:
    seed, volatility, scale, missing, spacing, levels, paid_in = case
    generator = np.random.default_rng(seed)
    one = grid(
        lower=92, upper=108, levels=levels, stop=88, spacing=spacing,
        fees={"maker": 0.0001, "taker": 0.001, "slippage": 0.0005, "paid_in": paid_in},
    )  # fmt: skip
    terms = terms_of(one, 100.0)
    life = walk(generator, LIVED, volatility / 4, missing)
    night = walk(generator, DAY_BARS + 1, volatility, missing)
    found, lived, _ = on_path(terms, life, night, scale)
    value = lived.liquidation_value
    if 0 <= lived.stopped < LIVED:
        return
    before, after = value[:LIVED], value[LIVED:]
    expected = before[~np.isnan(before)][-1] - (after[~np.isnan(after)][-1] if (~np.isnan(after)).any() else before[-1])
    assert found.loss[0] == pytest.approx(expected, abs=1e-9 * one.capital)


def test_a_night_breaks_a_grid_by_two_closes_or_by_its_stop() -> None:
    terms = terms_of(grid(lower=95, upper=105, levels=5, stop=90), 100.0)
    life = np.full((4, LIVED), 100.0)

    def night(*closes: float) -> Floats:
        path = np.full((4, DAY_BARS + 1), 100.0)
        path[:, 1 : 1 + len(closes)] = closes
        return path

    broken = {
        (94.0,): False,
        (94.0, 96.0, 94.0): False,
        (94.0, 94.0): True,
        (89.0,): True,
        (106.0, 106.0): False,
    }
    for closes, expected in broken.items():
        found, _, _ = on_path(terms, life, night(*closes), 1.0)
        assert found.broken[0] == expected, closes


def test_what_the_levels_cost_is_lost_at_the_end_and_at_the_stop() -> None:
    one = grid(lower=95, upper=105, levels=5, stop=90, fees={"maker": 0.001, "taker": 0.001, "slippage": None})
    terms = terms_of(one, 100.0, half_spread=0.0002)
    life = np.full((4, LIVED), 100.0)
    for low in (96.0, 85.0):
        night = np.full((4, DAY_BARS + 1), 100.0)
        night[:, 1:] = low
        found, lived, prices = on_path(terms, life, night, 1.0, sigma=0.001, volume=50.0)
        bars = prices.shape[1]
        market = Traded(np.full(bars, 0.001), np.full(bars, 50.0))
        value = taken_off(terms, lived, prices[0], prices[3], market).liquidation_value
        assert found.loss[0] == pytest.approx(value[LIVED - 1] - value[-1], abs=1e-6), low


def test_an_account_that_holds_other_than_its_cells_sells_no_more_than_it_has() -> None:
    terms = terms_of(grid(lower=95, upper=105, levels=5, stop=90), 100.0)
    cells = held(terms, is_modelled=False)
    rise = np.full((4, DAY_BARS + 1), 100.0)
    rise[:, 1:] = 106.0
    full = cells.inventory
    for share in (0.0, 0.5, 1.0, 1.2, 3.0):
        known = past(("A-B",), Span(EPOCH, EPOCH + (DAY_BARS + 1) * BAR), rise[:, None, :], np.ones((1, 97)), 1.0)
        stood = cells.standing(100.0, share * full)
        assert stood.waiting in (terms.waiting, terms.waiting - 1)
        found = lost(stood, known, 0, Starts(np.array([0]), 0))
        # All is sold above the grid: what is gained grows with what was held, and nothing held gains nothing.
        gain = -float(found.loss[0])
        assert gain == 0 if share == 0 else gain > 0
        if share == 0.5:
            half = gain
    assert math.isfinite(half)


def test_a_state_is_counted_from_the_inventory_within_what_the_price_allows() -> None:
    terms = terms_of(grid(lower=95, upper=105, levels=10, stop=90), 100.0)
    cells: Held = held(terms, is_modelled=False)
    prices = np.linspace(95, 105, 11)
    for price in (*prices, 97.3, 103.9, 80.0, 120.0):
        most = int(np.count_nonzero(prices[:-1] < price))
        least = int(np.count_nonzero(prices[1:] <= price))
        for amount in (0.0, 3.4, 1e6):
            waiting = cells.standing(float(price), amount * terms.held).waiting
            assert least <= waiting <= most
            assert most - least <= 1


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.0003, 0.01), st.sampled_from([0.0, 0.1]), st.integers(2, 40))
def test_bars_that_are_passed_over_change_no_bit(seed: int, volatility: float, missing: float, levels: int) -> None:
    generator = np.random.default_rng(seed)
    terms = terms_of(grid(lower=92, upper=108, levels=levels, stop=88), 100.0)
    prices = walk(generator, 3 * DAY_BARS, volatility, missing)[:, None, :]
    known = past(("A-B",), Span(EPOCH, EPOCH + prices.shape[2] * BAR), prices, np.ones((1, prices.shape[2])), 1.0)
    cells = held(terms, is_modelled=False)
    every = dataclasses.replace(
        known, lowest=np.full_like(known.lowest, -np.inf), highest=np.full_like(known.highest, np.inf)
    )
    now = np.flatnonzero(~np.isnan(known.traded[0]))[[-1, -2]]
    places = np.arange(0, 2 * DAY_BARS, 7)
    begins = [Starts(places, int(one)) for one in now]
    stood = cells.standing_at(np.exp(known.close[0][now]), np.full(2, cells.inventory), *[np.full(2, np.nan)] * 2)
    passed, looked = (lost_at(cells, stood, one, 0, begins) for one in (known, every))
    assert passed.loss.tobytes() == looked.loss.tobytes()
    assert passed.broken.tobytes() == looked.broken.tobytes()
    # Several moments at once are those moments one by one.
    for place, begin in enumerate(begins):
        alone = lost(cells.standing(float(np.exp(known.close[0][begin.now])), cells.inventory), known, 0, begin)
        assert alone.loss.tobytes() == passed.loss[place].tobytes()
