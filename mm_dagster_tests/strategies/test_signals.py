"""The four strategies: what they say, that they never look ahead, and that the start of the candles does not matter."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from benchmarks.planted import planted
from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS
from mm_dagster.config.strategies import Carry, Range, Reversion, Signals, Trend
from mm_dagster.research.study import frame_of
from mm_dagster.strategies.signals import (
    Strategy,
    _folded,
    funding_carry,
    lead_bars,
    mean_reversion,
    range_trading,
    strategies_of,
    trend_following,
)
from mm_dagster_tests.strategies.settings import days_of

SHORT = Signals(
    trend=Trend(days=3, step_hours=7),
    reversion=Reversion(hours=24, memory_hours=36, enter=1.5),
    range=Range(hours=24),
    carry=Carry(payments=5),
)
"""Shorter windows, so that much happens in a few days."""


def candles(days: int = 40, holes: bool = True) -> pl.DataFrame:
    """A market with funding every 8 hours, and some bars of it missing."""
    rows = planted(0.3, days, 1, 7)
    random = np.random.default_rng(3)
    if holes:
        rows = rows.filter(pl.Series(random.random(rows.height) > 0.02))
    days_ = days_of(planted(0.0, days, 1, 7))
    paid = days_.open_times().to_frame().with_row_index().filter(pl.col("index") % 32 == 31)
    rates = pl.DataFrame(
        {
            "symbol": "P00-USDT",
            "open_time": paid["open_time"],
            "funding_rate": 3e-4 * random.standard_normal(paid.height),
        }
    )
    return frame_of(rows, rates, "P00-USDT", days_)


STRATEGIES = strategies_of(SHORT)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_position_is_one_and_something_is_held_on_both_sides(name: str) -> None:
    held = STRATEGIES[name](candles())
    assert held.shape == (40 * DAY_BARS,)
    assert np.isfinite(held).all()
    assert held.max() <= 1.0
    assert held.max() > 0.2
    assert held.min() == 0.0 if name == "range_trading" else held.min() < -0.2
    assert held.min() >= -1.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_comes_later_changes_no_position(name: str) -> None:
    whole = candles()
    held = STRATEGIES[name](whole)
    for cut in (1, 5, DAY_BARS, 1_000, 1_001, 2_222, 3_839):
        assert np.array_equal(STRATEGIES[name](whole.head(cut)), held[:cut]), cut
    since = (pl.int_range(pl.len()) - 2_000).clip(0)
    other = whole.with_columns(
        pl.col(column) * (1 - since / 2_000) for column in ("open", "high", "low", "close", "funding_rate")
    )
    assert np.array_equal(STRATEGIES[name](other)[:2_000], held[:2_000])
    assert not np.array_equal(STRATEGIES[name](other), held)


@pytest.mark.parametrize("name", STRATEGIES)
def test_where_the_candles_start_changes_no_position_after_the_lead(name: str) -> None:
    whole, lead = candles(), lead_bars(SHORT)
    held = STRATEGIES[name](whole)
    for skipped in (1, 37, 500, 1_111):
        later = STRATEGIES[name](whole.tail(whole.height - skipped))
        assert np.array_equal(later[lead:], held[skipped + lead :]), skipped


def test_the_lead_of_the_defaults_suffices() -> None:
    whole, settings = candles(60), Signals()
    lead = lead_bars(settings)
    assert lead < 30 * DAY_BARS
    for strategy in strategies_of(settings).values():
        held = strategy(whole)
        assert np.array_equal(strategy(whole.tail(whole.height - 301))[lead:], held[301 + lead :])
        assert held[lead:].any()


@pytest.mark.parametrize("name", STRATEGIES)
def test_too_few_candles_are_no_error(name: str) -> None:
    for height in (0, 1, 3):
        assert STRATEGIES[name](candles().head(height)).tolist() == [0.0] * height


def test_trend_follows_the_sign_of_the_return_and_changes_at_its_hours_only() -> None:
    frame = candles(holes=False)
    held = trend_following(frame, SHORT.trend)
    close = frame["close"].to_numpy()
    closes = (frame["open_time"] + BAR).dt.epoch("s").to_numpy() // 3600
    for bar in range(4 * DAY_BARS, frame.height, 191):
        decided = next(one for one in range(bar, 0, -1) if (frame["open_time"][one] + BAR).minute == 0
                       and closes[one] % 7 == 0)  # fmt: skip
        assert held[bar] == np.sign(close[decided] - close[decided - 3 * DAY_BARS]), bar


def test_reversion_is_the_plain_fold() -> None:
    def plainly(away: Floats, enter: float, leave: float, memory: int) -> list[float]:
        found = []
        for bar in range(away.size):
            state = 0.0
            for z in away[max(0, bar - memory + 1) : bar + 1]:
                if z >= enter:
                    state = -1.0
                elif z <= -enter:
                    state = 1.0
                elif abs(z) < leave or (z > 0 and state > 0) or (z < 0 and state < 0):
                    state = 0.0
            found.append(0.0 if np.isnan(away[bar]) else state)
        return found

    random = np.random.default_rng(5)
    away = np.cumsum(random.standard_normal(3_000)) / 6
    away[random.random(3_000) < 0.05] = np.nan
    for memory in (1, 7, 200):
        held = _folded(away, 1.5, 0.4, memory)
        assert held.tolist() == plainly(away, 1.5, 0.4, memory)
        assert held.tolist() == _folded.py_func(away, 1.5, 0.4, memory).tolist()  # type: ignore[attr-defined]
        assert len(set(held.tolist())) == 3
    frame = candles(holes=False).with_columns(close=pl.lit(5.0))
    assert not mean_reversion(frame, SHORT.reversion).any(), "a market that does not move is no distance away"


def test_range_holds_more_the_lower_and_nothing_outside() -> None:
    span = 3 * DAY_BARS
    frame = candles(3, holes=False).with_columns(high=pl.lit(110.0), low=pl.lit(100.0), close=pl.lit(100.0))
    for close, wanted in ((100.0, 1.0), (102.0, 0.75), (105.0, 0.5), (110.0, 0.0), (110.1, 0.0), (99.9, 0.0)):
        held = range_trading(frame.with_columns(close=pl.lit(close)), SHORT.range)
        assert held[-1] == wanted, close
        assert held.size == span


def test_carry_is_on_the_side_that_is_paid_and_forgets_after_a_week() -> None:
    frame = candles(20, holes=False).with_columns(
        funding_rate=pl.when(pl.col("funding_rate").is_not_null()).then(pl.lit(0.0001))
    )
    assert set(funding_carry(frame, SHORT.carry)[5 * DAY_BARS :]) == {-0.5}
    paid = frame.with_columns(funding_rate=-3 * pl.col("funding_rate"))
    assert set(funding_carry(paid, SHORT.carry)[5 * DAY_BARS :]) == {1.0}
    ended = frame["open_time"][0] + timedelta(days=6)
    held = funding_carry(paid.with_columns(pl.when(pl.col("open_time") < ended).then("funding_rate")), SHORT.carry)
    assert held[12 * DAY_BARS] == 1.0
    assert not held[14 * DAY_BARS :].any()
    without: Strategy = STRATEGIES["funding_carry"]
    assert not without(frame.with_columns(funding_rate=pl.lit(None, pl.Float64))).any()
