"""The paper year leaves by the product's own machine, and counts what the limit left."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.orders import leave
from mm_dagster.bars import BAR
from mm_dagster.execution.modelled_book import Candles
from mm_dagster.grid.slippage import Traded, walked

START = datetime(2026, 6, 1, tzinfo=UTC)
AS_OF = START + 48 * BAR
BARS, VOLUME = 96, 20_000.0


def falling(each: float, sigma: float = 1e-3) -> Candles:
    """A market at 100 that falls by so much in each bar from AS_OF on."""
    close = np.full(BARS, 100.0)
    close[48:] = 100.0 * (1.0 - each) ** np.arange(1, BARS - 47)
    mean = (np.concatenate([[100.0], close[:-1]]) + close) / 2.0
    return Candles("X-USDT", START, close, mean, Traded(np.full(BARS, sigma), np.full(BARS, VOLUME)), 2.5e-4)


def said(notional: float, sigma: float = 1e-3) -> float:
    """Basis points, at once."""
    market = Traded(np.array([sigma]), np.array([VOLUME]))
    return 1e4 * (2.5e-4 + float(walked(np.array([notional]), market)[0]) + 1e-3)


@pytest.mark.parametrize("notional", [100.0, 1_000.0, 10_000.0])
def test_at_once_costs_what_the_model_says(notional: float) -> None:
    came = leave(falling(0.01), AS_OF, notional, 0, 0.0, 0.0)
    assert (came.done, came.sold) == (True, 1.0)
    assert came.cost == pytest.approx(said(notional), abs=0.2)
    assert came.minutes < 2


def test_over_a_quarter_hour_a_fall_of_the_price_is_paid_and_slices_walk_less() -> None:
    still, fell = (leave(falling(each), AS_OF, 10_000.0, 15, 0.0, 0.0) for each in (0.0, 0.01))
    assert still.cost == pytest.approx(said(10_000.0 / 15), abs=0.2)
    # The first slice sells at the close, fourteen at the mean of the bar, half of its fall lower.
    assert fell.cost - still.cost == pytest.approx(50.0 * 14 / 15, abs=1.0)
    assert 13 < fell.minutes < 17


def test_the_impact_that_was_forecast_is_paid() -> None:
    without, with_it = (leave(falling(0.0), AS_OF, 1_000.0, 5, impact, 0.0) for impact in (0.0, 1e-3))
    assert with_it.cost - without.cost == pytest.approx(10.0, abs=0.1)


def test_what_the_limit_leaves_unsold_is_counted_and_valued_at_what_was_said() -> None:
    sigma = 4e-3
    came = leave(falling(0.0, sigma), AS_OF, 40_000.0, 0, 0.0, 0.02)
    assert not came.done
    assert 0.1 < came.sold < 0.9
    # The part that was sold cost less than the limit and the fee, the rest is thought to cost 200.
    assert came.cost == pytest.approx(200.0 * (1 - came.sold) + 45.0 * came.sold, abs=15.0)


def test_where_no_candle_is_known_nothing_is_told() -> None:
    candles = falling(0.0)
    candles.close[47:] = np.nan
    candles.mean[47:] = np.nan
    with pytest.raises((ValueError, ArithmeticError)):
        leave(candles, AS_OF, 1_000.0, 0, 0.0, 0.0)
