"""What a sale loses where no book is at hand: by hand, the same alone as among thousands, dearer for more."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.arrays import Floats
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import position
from mm_dagster.grid.replay import replay, terms_of
from mm_dagster.grid.slippage import (
    COEFFICIENT,
    MOST,
    POWER,
    WINDOW_BARS,
    Traded,
    capacity,
    lost,
    taken_off,
    traded,
    walked,
)
from mm_dagster.tables.market import NO_RULES
from mm_dagster_tests.grid.synthetic import grid


def sold(notional: float, volume: float, sigma: float = 0.001) -> float:
    return float(walked(np.array([notional]), Traded(np.array([sigma]), np.array([volume])))[0])


def test_the_volume_of_a_minute_costs_its_share_of_a_minutes_move() -> None:
    assert sold(5_000.0, 5_000.0) == pytest.approx(COEFFICIENT * 0.001)
    assert sold(500.0, 5_000.0) == pytest.approx(COEFFICIENT * 0.001 * 0.1**POWER)
    assert sold(0.0, 5_000.0) == 0
    assert sold(1.0, 0.0) == sold(1e9, 1.0) == pytest.approx(COEFFICIENT * 0.001 * MOST**POWER)
    assert math.isnan(sold(1.0, math.nan))
    assert math.isnan(sold(1.0, 5_000.0, math.nan))


@given(st.floats(1e-3, 1e7), st.floats(1.0, 1e3), st.floats(1.0, 1e6), st.floats(1e-5, 0.05))
def test_more_costs_no_less_and_nothing_costs_less_than_nothing(
    notional: float, times: float, volume: float, sigma: float
) -> None:
    once, more = sold(notional, volume, sigma), sold(notional * times, volume, sigma)
    assert 0 <= once <= more


def test_sigma_and_volume_are_those_of_the_last_bars_by_hand() -> None:
    closes = np.array([100.0, 101.0, np.nan, 99.0, 99.0, 100.0])
    volumes = np.array([9.0, 6.0, np.nan, 3.0, 0.0, 12.0])
    found = traded(closes, volumes)
    # Known returns: 100 -> 101 at bar 1, 0 at bar 4, 99 -> 100 at bar 5; half of the weight after four bars.
    moves = {1: math.log(1.01), 4: 0.0, 5: math.log(100 / 99)}
    weights = {bar: 0.5 ** ((5 - bar) / 4) for bar in moves}
    square = sum(weights[bar] * moves[bar] ** 2 for bar in moves) / sum(weights.values())
    assert found.sigma[5] == pytest.approx(math.sqrt(square / 15), rel=1e-12)
    assert np.isnan(found.sigma[0])
    assert found.volume[5] == pytest.approx((3 * 99 + 0 + 12 * 100) / 3 / 15)
    assert found.volume[0] == pytest.approx(900 / 15)


def test_a_row_has_the_same_bits_wherever_the_history_begins() -> None:
    generator = np.random.default_rng(1)
    closes = 100 * np.exp(np.cumsum(generator.normal(0, 0.004, 500)))
    volumes = generator.uniform(0, 50, 500)
    closes[generator.choice(500, 20)] = np.nan
    whole = traded(closes, volumes)
    for first in (1, 77, 300):
        part = traded(closes[first:], volumes[first:])
        for one, other in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one[WINDOW_BARS:], other[first + WINDOW_BARS :])
    notional = generator.uniform(0, 1e5, 500)
    together = walked(notional, whole)
    alone = [walked(notional[[bar]], Traded(whole.sigma[[bar]], whole.volume[[bar]]))[0] for bar in range(500)]
    np.testing.assert_array_equal(together, alone)


def path(closes: list[float]) -> tuple[Floats, Floats, Floats, Floats]:
    ends = np.array(closes)
    opens = np.concatenate([ends[:1], ends[:-1]])
    return opens, np.maximum(opens, ends), np.minimum(opens, ends), ends


def test_what_is_held_and_what_the_stop_sells_cost_what_the_model_says() -> None:
    mine = grid(fees={"slippage": None})
    opens, highs, lows, closes = path([3120.0, 3100.0, 3080.0, 3110.0, 2950.0, 3000.0])
    volumes = np.array([1.0, 2.0, 0.5, 3.0, 1.0, 4.0])
    book = terms_of(mine, 3120.0)
    plain = replay(book, opens, highs, lows, closes)
    market = traded(closes, volumes)
    found = taken_off(book, plain, opens, closes, market)
    kept = 1.0 - mine.fees.taker
    for bar in range(4):
        now = plain.inventory[bar] * closes[bar]
        fraction = 0.0 if bar == 0 else sold(now, market.volume[bar], market.sigma[bar])
        less = now * fraction * kept
        assert plain.liquidation_value[bar] - found.liquidation_value[bar] == pytest.approx(less, abs=1e-12)
        assert plain.unrealised_pnl[bar] - found.unrealised_pnl[bar] == pytest.approx(less, abs=1e-12)
        assert found.cash[bar] == plain.cash[bar]
    assert plain.stopped == 4
    everything = book.cells * book.held * mine.stop
    less = everything * sold(everything, market.volume[4], market.sigma[4]) * kept
    assert less > 0
    for bar in (4, 5):
        assert plain.exit_pnl[bar] - found.exit_pnl[bar] == pytest.approx(less)
        assert found.unrealised_pnl[bar] == 0
        assert found.liquidation_value[bar] == found.cash[bar]
    whole = found.grid_profit + found.exit_pnl + found.unrealised_pnl
    np.testing.assert_allclose(found.total_pnl, whole, atol=1e-9)
    np.testing.assert_allclose(found.liquidation_value, mine.capital + found.total_pnl, atol=1e-9)


def test_a_number_overrides_the_model_and_a_market_its_half_spread() -> None:
    opens, highs, lows, closes = path([3120.0, 3100.0, 3080.0, 3110.0])
    prices = np.array([opens, highs, lows, closes, np.full(4, 0.2)])
    sigma = np.full(4, 0.01)

    def held(one: GridConfig, risk: RiskConfig) -> dict[str, Floats]:
        return dict(position.compute(one, prices, sigma, risk, NO_RULES).numbers)

    modelled, fixed = (grid(fees={"slippage": value}) for value in (None, 0.0005))
    plain, dear = RiskConfig(), RiskConfig(half_spread_bp={"ETH-USDT": 40.0})
    for name in ("liquidation_value", "unrealised_pnl"):
        assert (held(modelled, plain)[name][1:] > held(modelled, dear)[name][1:]).all()
        np.testing.assert_array_equal(held(fixed, plain)[name], held(fixed, dear)[name])
    assert (held(modelled, plain)["capital_at_risk"][1:] != held(fixed, plain)["capital_at_risk"][1:]).all()
    assert RiskConfig().half_spread("XYZ-USDT") == pytest.approx(2.5e-4)


def test_at_risk_is_the_difference_of_two_liquidation_values_at_the_bars_own_market() -> None:
    mine = grid(fees={"slippage": None})
    opens, highs, lows, closes = path([3120.0, 3100.0, 3080.0])
    volumes = np.full(3, 0.3)
    book = terms_of(mine, 3120.0)
    market = traded(closes, volumes)
    risk = position.compute(
        mine, np.array([opens, highs, lows, closes, volumes]), np.full(3, 0.01), RiskConfig(), NO_RULES
    )
    value = risk.numbers["liquidation_value"][2]
    waiting = int(replay(book, opens, highs, lows, closes).waiting[2])
    everything = book.cells * book.held
    at = Traded(market.sigma[[2]], market.volume[[2]])
    fallen = risk.numbers["cash"][2] - book.cost[waiting] + everything * mine.stop * book.sold_for
    fallen -= float(lost(book, np.array([everything * mine.stop]), at)[0])
    assert risk.numbers["capital_at_risk"][2] == pytest.approx(value - fallen)


def test_on_real_small_markets_the_model_is_of_the_right_order(shared_data: object) -> None:
    """10,000 quote on the smallest market of the recording costs tens of basis points, on the largest less than one."""
    folder = shared_data / "candles" / "kucoin"  # type: ignore[operator]
    costs = {}
    for path in sorted(folder.glob("*/15m.parquet")):
        bars = pl.read_parquet(path).sort("open_time").tail(96 * 30)
        market = traded(bars["close"].to_numpy(), bars["volume"].to_numpy())
        fraction = walked(np.full(bars.height, 10_000.0), market)
        costs[path.parent.name] = 1e4 * float(np.nanmedian(fraction))
    assert costs["BTC-USDT"] < 2
    assert costs["BTC-USDT"] == min(costs.values())
    assert max(costs.values()) > 10, costs


@given(st.floats(1e-5, 0.02), st.floats(1.0, 1e6), st.floats(0.0, 0.002))
def test_what_a_market_takes_costs_just_that_much(sigma: float, volume: float, half_spread: float) -> None:
    most = capacity(0.001, half_spread, sigma, volume)
    if half_spread >= 0.001:
        assert most == 0
        return
    cost = half_spread + sold(most, volume, sigma)
    assert cost <= 0.001 * (1 + 1e-9)
    assert most <= volume
    if most < volume:
        assert cost == pytest.approx(0.001)
