"""The simulated market: labelled, the same for everybody, and shaped like a market."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, DAY_BARS, EPOCH, Span
from mm_dagster.config.markets import CandlesConfig, SimulatedVenue
from mm_dagster.market.collect import collect
from mm_dagster.market.open import open_venue
from mm_dagster.market.simulated import SimulatedMarket, simulate

START = datetime(2026, 3, 1, tzinfo=UTC)
SEASON = Span(START, START + timedelta(days=120))
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
FIRST_BARS = {
    "BTC-USDT": (58514.0, 58541.0, 58410.0, 58410.0, 34.156),
    "ETH-USDT": (3078.9, 3086.6, 3078.9, 3086.6, 594.09),
    "SOL-USDT": (152.64, 152.64, 152.24, 152.43, 12291.0),
}


@pytest.fixture(scope="module")
def season() -> dict[str, pl.DataFrame]:
    return {symbol: simulate(symbol, SEASON) for symbol in SYMBOLS}


def test_it_says_that_it_is_simulated(tmp_path: Path) -> None:
    venue = open_venue("main", SimulatedVenue(kind="simulated"), tmp_path)
    assert venue.simulated
    assert "SIMULATED" in venue.check()


@settings(max_examples=40)
@given(first=st.integers(0, 120 * DAY_BARS - 1), bars=st.integers(1, 1_500))
def test_any_part_of_it_is_the_same_bits_as_the_whole(season, first: int, bars: int) -> None:
    part = Span(START + first * BAR, min(SEASON.end, START + (first + bars) * BAR))
    assert simulate("ETH-USDT", part).equals(season["ETH-USDT"].filter(part.opens()))


def test_it_has_not_changed() -> None:
    """What the demonstration prints is fixed; who changes these figures changes it for everybody."""
    first = {symbol: simulate(symbol, Span(START, START + BAR)).row(0)[1:] for symbol in SYMBOLS}
    assert first == FIRST_BARS


def test_every_bar_follows_from_the_one_before_and_encloses_its_path(season) -> None:
    for bars in season.values():
        assert bars["open_time"].equals(SEASON.open_times())
        assert bars["open"][1:].equals(bars["close"][:-1].alias("open"))
        assert bars.filter(
            (pl.col("low") > pl.min_horizontal("open", "close"))
            | (pl.col("high") < pl.max_horizontal("open", "close"))
            | (pl.col("low") <= 0)
            | (pl.col("volume") <= 0)
        ).is_empty()


def test_it_looks_like_a_market(season) -> None:
    for bars in season.values():
        close = bars["close"].to_numpy()
        returns = np.diff(np.log(close))
        assert 0.002 < returns.std() < 0.006
        assert np.mean((returns / returns.std()) ** 4) > 4, "the tails are no fatter than the normal ones"
        volatility = bars.select((pl.col("high") / pl.col("low")).log()).to_series()
        assert np.corrcoef(volatility, bars["volume"])[0, 1] > 0.5
        four_days = bars.group_by_dynamic("open_time", every="4d", start_by="datapoint").agg(
            width=pl.col("high").max() / pl.col("low").min() - 1,
            move=pl.col("close").last() / pl.col("open").first() - 1,
        )
        assert four_days.filter(pl.col("width").is_between(0.03, 0.09)).height >= 8
        assert four_days["move"].max() > 0.08
        assert four_days["move"].min() < -0.08
        assert close.max() / close.min() < 2.2


def test_a_crash_takes_ten_to_twenty_five_percent_in_three_hours(season) -> None:
    falls = [(bars["close"] / bars["close"].shift(12) - 1).min() for bars in season.values()]
    assert -0.30 < min(falls) < -0.10


def test_prices_keep_their_tick_and_their_bounds_for_decades() -> None:
    bars = simulate("ETH-USDT", Span(EPOCH - timedelta(days=400), EPOCH + timedelta(days=4_000)))
    assert (bars["close"] * 10 - (bars["close"] * 10).round()).abs().max() < 1e-6
    assert 2_000 < bars["low"].min() < bars["high"].max() < 4_500


def test_every_symbol_has_a_market_of_its_own(season) -> None:
    other = simulate("ABC-XYZ", SEASON)
    assert other["close"].min() > 0
    returns = [np.diff(np.log(bars["close"].to_numpy())) for bars in [*season.values(), other]]
    correlations = np.corrcoef(returns) - np.eye(len(returns))
    assert np.abs(correlations).max() < 0.1


def test_a_season_takes_less_than_a_second() -> None:
    begun = time.perf_counter()
    simulate("BTC-USDT", SEASON)
    assert time.perf_counter() - begun < 1.0


def test_what_is_not_closed_yet_is_not_known_even_here() -> None:
    now = START + timedelta(hours=5, minutes=7)
    venue = SimulatedMarket("main", clock=lambda: now)
    span = Span(START, START + timedelta(days=1))
    answer = venue.fetch("ETH-USDT", span)
    assert answer.answered == (Span(START, START + 20 * BAR),)
    got = collect(venue, "ETH-USDT", span, CandlesConfig(), wait=pytest.fail)
    assert got.error is None
    assert got.candles["status"].to_list() == ["TRADED"] * 20
    assert got.candles["observed_at"].unique().to_list() == [now]
    present = simulate("ETH-USDT", Span(START + 20 * BAR, START + 21 * BAR)).row(0, named=True)
    assert present["low"] <= venue.last_prices(["ETH-USDT"])["ETH-USDT"] <= present["high"]
