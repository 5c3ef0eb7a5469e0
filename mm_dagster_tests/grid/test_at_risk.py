"""What is at stake, against the replay of the very fall that it speaks of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.config.grid import FeeCurrency, Fees, prices
from mm_dagster.grid import at_risk as stakes
from mm_dagster.grid.replay import GridTerms, quantity_per_cell, replay, terms
from mm_dagster_tests.grid.cells import Case, cases, replayed


def closes_of(case: Case) -> np.ndarray:
    return np.array([candle[3] for candle in case.candles])


def after_a_fall(case: Case, bars: int, level: float) -> float:
    """Liquidation value when a candle goes straight from the last of the first `bars` closes down to `level`."""
    last = case.candles[bars - 1][3]
    found = replayed(case.book, [*case.candles[:bars], (last, last, level, level)])
    return float(found.liquidation_value[-1])


@given(cases())
@settings(deadline=None)
def test_capital_at_risk_is_what_a_straight_fall_to_the_stop_loses(case: Case) -> None:
    found = replayed(case.book, case.candles)
    at_risk = stakes.capital_at_risk(case.book, found, closes_of(case))
    for bar, now in enumerate(found.liquidation_value.tolist()):
        if 0 <= found.stopped <= bar:
            assert at_risk[bar] == 0.0
        elif math.isnan(now):
            assert math.isnan(at_risk[bar])
        else:
            lost = now - after_a_fall(case, bar + 1, case.stop)
            assert at_risk[bar] == pytest.approx(lost, rel=1e-9, abs=1e-9 * case.capital)


@given(cases(), st.one_of(st.just(0.0), st.floats(1e-4, 0.3)), st.floats(0.25, 24))
@settings(deadline=None)
def test_giveback_is_what_a_straight_fall_over_the_response_time_loses(case: Case, sigma: float, hours: float) -> None:
    found, closes = replayed(case.book, case.candles), closes_of(case)
    giveback = stakes.profit_giveback(case.book, found, closes, np.full(closes.size, sigma), hours)
    for bar, now in enumerate(found.liquidation_value.tolist()):
        if 0 <= found.stopped <= bar:
            assert giveback[bar] == 0.0
        elif math.isnan(now):
            assert math.isnan(giveback[bar])
        else:
            level = max(case.stop, closes[bar] * math.exp(-1.645 * sigma * math.sqrt(hours)))
            lost = now - after_a_fall(case, bar + 1, level)
            assert giveback[bar] == pytest.approx(lost, rel=1e-9, abs=1e-9 * case.capital)


@pytest.mark.parametrize("paid_in", ["quote", "base"])
def test_figures_by_hand(paid_in: FeeCurrency) -> None:
    # Levels 100, 110, 120, 130, 140, 1 base a cell, stop at 90, activated at 115, then a fall to 110: three cells are
    # held, and 100 waits. Fees of 1 % and 2 %, slippage .5 %: a base sold at market yields .995 x .98 = .9751.
    # In quote three are worth 3 x 113 x .9751 = 330.5589 at 113, four 4 x 90 x .9751 = 351.0360 at the stop, and the
    # fourth costs 101. In base a cell holds .99: 327.253311, 347.52564, and the fourth costs 100.
    fees = Fees(maker=0.01, taker=0.02, slippage=0.005, paid_in=paid_in)
    ours = terms(prices(100, 140, 5, "levels", "arithmetic"), 1.0, 115.0, 1000.0, 90.0, fees)
    found = replayed(ours, [(115, 116, 112, 114), (114, 115, 110, 113)])
    closes = np.array([114.0, 113.0])
    in_quote = paid_in == "quote"
    at_risk = 330.5589 + 101 - 351.0360 if in_quote else 327.253311 + 100 - 347.52564
    assert stakes.capital_at_risk(ours, found, closes)[1] == pytest.approx(at_risk, abs=1e-9)
    required = [101 + 111.10, 101] if in_quote else [210, 100]
    assert stakes.required_cash(ours, found).tolist() == pytest.approx(required, abs=1e-9)
    # The log price moves by ln(113 / 105) in the hour: to 105, which fills nothing and costs 8 a base.
    sigma = np.array([math.nan, math.log(113 / 105) / 1.645])
    giveback = stakes.profit_giveback(ours, found, closes, sigma, 1.0)
    assert math.isnan(giveback[0])
    assert giveback[1] == pytest.approx(8 * 3 * 0.9751 * (1 if in_quote else 0.99), abs=1e-9)


def test_fall_that_ends_on_a_level_fills_it() -> None:
    levels = prices(100, 400, 3, "intervals", "arithmetic")
    case = Case(levels.tolist(), 250.0, 1000.0, 90.0, Fees(), [(250, 250, 200, 200)])
    found = replayed(case.book, case.candles)
    # exp(-ln 2) is one half, exactly.
    giveback = stakes.profit_giveback(case.book, found, np.array([200.0]), np.array([math.log(2)]), 1.0, sigmas=1.0)
    lost = found.liquidation_value[0] - after_a_fall(case, 1, 100.0)
    assert math.exp(-math.log(2)) == 0.5
    assert giveback[0] == pytest.approx(lost, rel=1e-12)


@given(cases(), st.floats(1e-4, 0.1))
@settings(deadline=None)
def test_longer_response_never_costs_less_and_the_stop_bounds_it(case: Case, sigma: float) -> None:
    found, closes = replayed(case.book, case.candles), closes_of(case)
    sigmas = np.full(closes.size, sigma)
    at_risk = stakes.capital_at_risk(case.book, found, closes)
    sooner = stakes.profit_giveback(case.book, found, closes, sigmas, 1.0)
    later = stakes.profit_giveback(case.book, found, closes, sigmas, 4.0)
    known = ~np.isnan(at_risk)
    slack = 1e-9 * case.capital
    assert (sooner[known] >= -slack).all()
    assert (later[known] >= sooner[known] - slack).all()
    assert (at_risk[known] >= later[known] - slack).all()


def test_share_of_profit_is_unknown_until_something_was_earned() -> None:
    share = stakes.share_of_profit(np.array([5.0, 5.0, 5.0, np.nan]), np.array([-1.0, 0.0, 20.0, 20.0]))
    assert np.isnan(share).tolist() == [True, True, False, True]
    assert share[2] == 0.25


@given(cases(worst_fee=0.005))
@settings(deadline=None)
def test_required_cash_is_there_when_steps_earn_their_fees(case: Case) -> None:
    found = replayed(case.book, case.candles)
    needed = stakes.required_cash(case.book, found)
    assert (needed >= 0).all()
    assert (found.cash - needed >= -1e-9 * case.capital).all()


def test_after_the_stop_nothing_is_at_stake_whatever_is_unknown() -> None:
    ours = stopped_at_once()
    candle = [np.array([value, math.nan]) for value in (100.0, 100.0, 80.0, 85.0)]
    found = replay(ours, *candle)
    assert found.stopped == 0
    unknown = np.full(2, math.nan)
    assert stakes.capital_at_risk(ours, found, candle[3]).tolist() == [0.0, 0.0]
    assert stakes.profit_giveback(ours, found, candle[3], unknown, 1.0).tolist() == [0.0, 0.0]
    assert stakes.required_cash(ours, found).tolist() == [0.0, 0.0]


def stopped_at_once() -> GridTerms:
    levels = prices(95, 120, 5, "intervals", "arithmetic")
    return terms(levels, quantity_per_cell(levels, 100.0, 1000.0, Fees()), 100.0, 1000.0, 90.0, Fees())


def test_row_has_the_same_bits_alone_and_among_others() -> None:
    levels = prices(1500, 4500, 100, "intervals", "geometric")
    ours = terms(levels, 0.01, 3000.0, 100_000.0, 1400.0, Fees())
    closes = 3000 + 400 * np.sin(np.arange(301) / 7.0)
    found = replay(ours, closes, closes, closes, closes)
    sigma = np.linspace(0.001, 0.05, 301)
    whole = stakes.profit_giveback(ours, found, closes, sigma, 1.0)
    for bars in (1, 2, 3, 8, 100):
        part = replay(ours, *[closes[:bars].copy()] * 4)
        assert stakes.profit_giveback(ours, part, closes[:bars], sigma[:bars], 1.0).tobytes() == whole[:bars].tobytes()
