"""What leaving costs, over which time: by hand, in the right order, and never less for more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.books.book import Book, parse
from mm_dagster.execution import costs
from mm_dagster.execution.costs import HORIZONS, SPREAD_80, SPREAD_90
from mm_dagster.grid.slippage import COEFFICIENT, POWER, Traded


def of(notional: float, *, volume: float, sigma: float, forecast: float, half_spread: float = 2.5e-4) -> costs.Costs:
    """The costs of one moment; sigma of a minute, forecast of an hour."""
    market = Traded(np.array([sigma]), np.array([volume]))
    return costs.model(np.array([notional]), half_spread, np.array([forecast]), market, 0.001)


def test_every_part_by_hand() -> None:
    found = of(3_000.0, volume=1_000.0, sigma=0.0008, forecast=0.006)
    hourly = 0.0008 * math.sqrt(60)
    mixed = math.sqrt(0.25 * 0.006**2 + 0.75 * hourly**2)
    scores = []
    for column, minutes in enumerate(HORIZONS):
        slices = max(1, minutes)
        levels = COEFFICIENT * 0.0008 * (3.0 / slices) ** POWER
        impact = 0.8 / 3 * mixed * math.sqrt(3.0 / minutes) if minutes else 0.0
        deviation = mixed * math.sqrt(minutes / 60 / 3)
        expected = 2.5e-4 + levels + impact + 0.001
        scores.append(expected + deviation)
        assert found.walk[0, column] == pytest.approx(1e4 * levels)
        assert found.impact[0, column] == pytest.approx(1e4 * impact)
        assert found.fee[0, column] == pytest.approx(10.0)
        assert found.expected[0, column] == pytest.approx(1e4 * expected)
        assert found.deviation[0, column] == pytest.approx(1e4 * deviation)
        for spread, (low, high) in ((SPREAD_80, found.interval(SPREAD_80)), (SPREAD_90, found.interval(SPREAD_90))):
            wide = 1e4 * deviation * spread.get(minutes, 0.0)
            assert (low[0, column], high[0, column]) == pytest.approx((1e4 * expected - wide, 1e4 * expected + wide))
    assert found.chosen[0].tolist() == [score == min(scores) for score in scores]
    assert found.beyond.all()


@given(st.floats(1.0, 1e7), st.floats(1e-3, 1.0), st.floats(1e-5, 0.02), st.floats(1e-4, 0.1), st.floats(0.0, 0.01))
def test_now_is_best_for_whoever_sells_no_more_than_a_minute_trades(
    volume: float, share: float, sigma: float, forecast: float, half_spread: float
) -> None:
    found = of(volume * share, volume=volume, sigma=sigma, forecast=forecast, half_spread=half_spread)
    assert HORIZONS[int(found.chosen[0].argmax())] == 0


@given(st.floats(1.0, 1e6), st.floats(1.0, 100.0), st.floats(10.0, 1e5), st.floats(1e-5, 0.02), st.floats(1e-4, 0.1))
def test_more_never_costs_less_and_nothing_costs_less_than_the_spread_and_the_fee(
    notional: float, times: float, volume: float, sigma: float, forecast: float
) -> None:
    once = of(notional, volume=volume, sigma=sigma, forecast=forecast)
    more = of(notional * times, volume=volume, sigma=sigma, forecast=forecast)
    assert (more.expected >= once.expected - 1e-9).all()
    assert (once.expected >= 12.5 - 1e-9).all()


@pytest.mark.parametrize("unknown", ["volume", "sigma", "forecast"])
def test_what_is_not_known_gives_no_figure_and_no_choice(unknown: str) -> None:
    given_ = {"volume": 1_000.0, "sigma": 0.0008, "forecast": 0.006} | {unknown: math.nan}
    found = of(3_000.0, **given_)
    assert np.isnan(found.score).any()
    assert not found.chosen.any()


def book() -> Book:
    """Mid 100, half a spread of 10 basis points; 1, 2 and 4 base wait at 99.9, 99.8 and 99.5."""
    return parse([[99.9, 1.0], [99.8, 2.0], [99.5, 4.0]], [[100.1, 1.0], [100.2, 5.0]])


def test_the_book_is_walked_for_a_slice_and_shows_what_it_has_for_all() -> None:
    found = costs.at_book(book(), 2.0)
    assert [one.half_spread for one in found] == pytest.approx([10.0] * len(HORIZONS))
    # 1 at 99.9 and 1 at 99.8: 199.7 for 200 at the mid, 15 basis points, of which 10 are the spread.
    assert found[0].walk == pytest.approx(5.0, abs=1e-9)
    assert [one.walk for one in found[1:]] == pytest.approx([0.0] * 3, abs=1e-9)
    assert {one.shown_share for one in found} == {1.0}
    deeper = costs.at_book(book(), 14.0)
    assert deeper[0].walk is None
    assert deeper[0].shown_share == pytest.approx(0.5)
    assert deeper[1].walk is not None
