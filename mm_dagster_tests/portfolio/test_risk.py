"""What all grids may lose in one night: by hand from the paths, the same bits from wherever it is looked at."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, DAY_BARS, HOUR_BARS, Span, bar_number, bar_numbers
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.grid.replay import replay, terms_of
from mm_dagster.portfolio import risk
from mm_dagster.portfolio.paths import STEP_BARS
from mm_dagster.portfolio.tail import NIGHT, RARE, means_of, tail, vars_of
from mm_dagster_tests.portfolio.synthetic import (
    NOW,
    RISK,
    SETTINGS,
    SPAN,
    Member,
    at,
    days_before,
    forecasts,
    inputs,
    market,
    member,
    several,
)

FOUR, CANDLES = several(4)
"""Four grids on markets that fall together, and these markets."""


@given(
    st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, 0.1, 3e-17, math.nan]), min_size=30, max_size=30)),
    st.sampled_from([NIGHT, RARE, 0.6]),
)
def test_the_worst_of_many_grids_are_those_of_each(drawn: list[list[float]], share: float) -> None:
    losses = np.array(drawn).reshape(len(drawn), 30)
    each = [tail(row, share) for row in losses]
    assert repr(vars_of(losses, share)) == repr([one.var for one in each])
    assert repr(means_of(losses, share)) == repr([one.es for one in each])


def by_hand(one: Member, candles: pl.DataFrame) -> list[float]:
    """The losses of a grid on every path, replayed by `grid.replay` on prices, path by path."""
    rows = candles.filter(pl.col("symbol") == one.grid.symbol).sort("close_time")
    prices = rows.select(risk.PRICES[:4]).to_numpy().T
    sigma = forecasts(candles).filter(pl.col("symbol") == one.grid.symbol)["volatility_forecast"].to_numpy()
    first, now = bar_number(SPAN.start), bar_number(NOW) - 1
    began = (one.grid.first_as_of - SPAN.start) // BAR - 1
    life = prices[:, began:].copy()
    life[:, 0] = life[3, 0]
    terms = terms_of(one.grid, float(life[3, 0]))
    value = replay(terms, *life).liquidation_value[-1]

    def weekend(bar: int) -> float:
        # The bars ahead that open on a Saturday or a Sunday count with .49 of the variance.
        ahead = [(bar + 1 + place) // DAY_BARS for place in range(DAY_BARS)]
        share = sum((day + 3) % 7 in (5, 6) for day in ahead) / DAY_BARS
        return math.sqrt(1 - share + share * 0.49)

    losses = []
    for start in range(now - SETTINGS.window_days * DAY_BARS + 1, now - DAY_BARS + 1):
        if start % STEP_BARS:
            continue
        place = start - first
        stretch = sigma[-1] * weekend(now) / (sigma[place] * weekend(start))
        night = life[3, -1] * (prices[:, place + 1 : place + 1 + DAY_BARS] / prices[3, place]) ** stretch
        losses.append(value - replay(terms, *np.concatenate([life, night], axis=1)).liquidation_value[-1])
    return losses


def test_the_figures_are_those_of_the_paths_by_hand() -> None:
    risks, shares = at(FOUR, CANDLES)
    row = risks.row(0, named=True)
    losses = np.array([by_hand(one, CANDLES) for one in FOUR])
    total = losses.sum(axis=0)
    many = total.size
    assert row["paths"] == many == 30 * 4 - 4
    for level, var, es in ((0.05, "var_5_24h", "es_5_24h"), (0.01, "var_1_24h", "es_1_24h")):
        worst = np.sort(total)[::-1][: math.ceil(level * many)]
        assert row[var] == pytest.approx(worst[-1], abs=1e-6)
        assert row[es] == pytest.approx(worst.mean(), abs=1e-6)
    alone = [np.sort(one)[::-1][math.ceil(0.05 * many) - 1] for one in losses]
    assert row["sum_of_var_5"] == pytest.approx(sum(alone), abs=1e-6)
    assert row["diversification"] == pytest.approx(row["var_5_24h"] / sum(alone))
    assert row["counts_as"] == pytest.approx(1 / row["diversification"] ** 2)
    assert shares["var_5_alone"].to_list() == pytest.approx(alone, abs=1e-6)


def test_contributions_add_up_and_stopping_takes_off_what_it_says() -> None:
    risks, shares = at(FOUR, CANDLES)
    es = risks["es_5_24h"][0]
    assert abs(math.fsum(shares["es_5_contribution"]) - es) < 1e-9
    assert math.fsum(shares["es_5_share"]) == pytest.approx(1.0)
    assert math.fsum(shares["weight"]) == pytest.approx(1.0)
    assert math.fsum(shares["weight_minimum_variance"]) == pytest.approx(1.0)
    for place, one in enumerate(FOUR):
        others = [member for member in FOUR if member is not one]
        without = at(others, CANDLES)[0]["es_5_24h"][0]
        assert shares["stopping_takes_off"][place] == pytest.approx(es - without, abs=1e-9)


def test_together_they_risk_no_more_than_one_by_one_and_alone_they_are_one() -> None:
    apart, candles = several(4, together=0.0)
    risks, _ = at(apart, candles)
    together, _ = at(FOUR, CANDLES)
    alone, _ = at(FOUR[:1], CANDLES)
    assert risks["counts_as"][0] > together["counts_as"][0] > 1
    assert alone["counts_as"][0] == 1
    assert alone["p_half_break_24h"][0] == alone["p_any_break_24h"][0] == alone["expected_breaks_24h"][0]


def test_a_row_has_the_same_bits_alone_among_many_and_from_an_earlier_start() -> None:
    moments = [NOW - place * BAR for place in range(40)][::-1]
    many = at(FOUR, CANDLES, moments)
    for place in (0, 17, 39):
        one = at(FOUR, CANDLES, [moments[place]])
        for alone, among in zip(one, many, strict=True):
            assert_frame_equal(alone, among.filter(pl.col("as_of") == moments[place]), check_exact=True)
    # A history that begins when the window does has the rows of one that began before.
    begins = moments[-1] - risk.lead(SETTINGS) * BAR
    later = CANDLES.filter(pl.col("close_time") > begins)
    for short, whole in zip(at(FOUR, later, [NOW]), at(FOUR, CANDLES, [NOW]), strict=True):
        assert_frame_equal(short, whole, check_exact=True)


def test_the_order_in_which_grids_are_given_changes_no_bit() -> None:
    for one, other in zip(at(FOUR, CANDLES), at(FOUR[::-1], CANDLES), strict=True):
        assert_frame_equal(one, other, check_exact=True)


def test_a_market_that_is_missing_or_too_young_nulls_the_row_and_is_named() -> None:
    name = FOUR[1].grid.symbol
    its = pl.col("symbol") == name
    time = pl.col("close_time")
    young = CANDLES.filter(~its | (time > days_before(29)))
    newest = CANDLES.filter(~its | (time < NOW))
    hole = CANDLES.filter(~its | ~time.is_between(days_before(9), days_before(7.9)))
    for candles, why in (
        (young, f"{name}: its last 30 days are not known without a hole of a day."),
        (hole, f"{name}: its last 30 days are not known without a hole of a day."),
    ):
        risks, shares = risk.compute("USDT", inputs(FOUR, CANDLES)._replace(candles=candles), [NOW], SETTINGS, RISK)
        row = risks.row(0, named=True)
        assert row["reason"] == why
        assert {row[name] for name in ("var_5_24h", "es_5_24h", "drawdown", "ruin", "all_stops", "paths")} == {None}
        assert (row["grids"], row["capital"]) == (4, 4000)
        assert shares.is_empty()
    found = inputs(FOUR, CANDLES)
    rows = found.risk_rows
    gone = (pl.col("grid_id") == "g01") & (pl.col("as_of") == NOW)
    for changed, why in (
        (rows.filter(~gone), "g01: its risk is not computed."),
        (rows.with_columns(price=pl.when(~gone).then("price")), f"{name}: its newest bar is missing."),
        (rows.with_columns(inventory=pl.when(~gone).then("inventory")), "g01: what it holds is not known."),
    ):
        risks, _ = risk.compute("USDT", found._replace(risk_rows=changed), [NOW], SETTINGS, RISK)
        assert risks["reason"][0] == why
        assert risks["var_5_24h"][0] is None
    risks, _ = risk.compute("USDT", found._replace(candles=newest), [NOW], SETTINGS, RISK)
    assert risks["var_5_24h"][0] is None


@pytest.mark.parametrize("bars", [1, 4, 40])
def test_bars_that_are_not_known_never_take_a_bad_night_away(bars: int) -> None:
    """A crash during an outage is between the bars before and after it, and stays in the worst nights."""
    one = FOUR[:1]
    crash = CANDLES.filter(pl.col("symbol") == one[0].grid.symbol)
    at_bar = days_before(12)
    after = pl.col("close_time") > at_bar
    fallen = crash.with_columns(
        pl.when(after).then(pl.col(name) * 0.8).otherwise(pl.col(name)) for name in risk.PRICES[:4]
    )
    # Grids begin after it: only their past has the crash.
    began = member("g00", one[0].grid.symbol, fallen)
    whole = at([began], fallen)[0].row(0, named=True)
    hole = pl.col("close_time").is_between(at_bar - bars * BAR, at_bar + bars * BAR)
    outage = fallen.filter(~hole)
    found = risk.compute("USDT", inputs([began], fallen)._replace(candles=outage), [NOW], SETTINGS, RISK)[0]
    row = found.row(0, named=True)
    assert row["reason"] is None
    assert whole["es_1_24h"] > 50
    assert row["es_1_24h"] > 0.9 * whole["es_1_24h"]


def test_a_stopped_and_a_closed_grid_are_no_part_of_it_and_their_profit_stays_in_the_drawdown() -> None:
    closed = dataclasses.replace(FOUR[0], closed_at=NOW - 8 * BAR)
    risks, shares = at([closed, *FOUR[1:]], CANDLES)
    assert risks["grids"][0] == 3
    assert shares["grid_id"].to_list() == ["g01", "g02", "g03"]
    found = inputs([closed, *FOUR[1:]], CANDLES)
    key = pl.col("grid_id") == "g01"
    stopped = found.risk_rows.with_columns(
        stopped_at=pl.when(key & (pl.col("as_of") >= NOW - BAR)).then(pl.lit(NOW - BAR)).otherwise("stopped_at")
    )
    again, _ = risk.compute("USDT", found._replace(risk_rows=stopped), [NOW], SETTINGS, RISK)
    assert again["grids"][0] == 2
    pnl = found.risk_rows.sort("as_of").pivot("grid_id", index="as_of", values="total_pnl").sort("as_of")
    ended = pl.when(pl.col("as_of") < closed.closed_at).then("g00").forward_fill()
    sums = pnl.select(total=ended + pl.col("g01") + pl.col("g02") + pl.col("g03"))["total"]
    best = max(0.0, sums.max())
    assert risks["drawdown"][0] == pytest.approx(best - sums[-1])
    assert again["drawdown"][0] == pytest.approx(best - sums[-1])


def test_nothing_held_says_so_and_has_no_figure() -> None:
    closed = [dataclasses.replace(one, closed_at=NOW) for one in FOUR]
    risks, shares = at(closed, CANDLES)
    row = risks.row(0, named=True)
    assert row["reason"] == "No grid holds anything: there is nothing to lose."
    assert row["grids"] == 0
    assert row["var_5_24h"] is None
    assert shares.is_empty()


def test_shares_of_the_equity_are_known_where_it_is() -> None:
    unknown = at(FOUR, CANDLES)[0].row(0, named=True)
    assert {unknown[name] for name in ("equity", "live_equity", "drawdown_share", "drawdown_level", "ruin")} == {None}
    typed = PortfolioConfig.model_validate({"window_days": 30, "equity": 1000})
    row = at(FOUR, CANDLES, settings=typed)[0].row(0, named=True)
    live = at(FOUR, CANDLES, equities={NOW: 1000.0})[0].row(0, named=True)
    assert (row["equity"], row["live_equity"]) == (1000, None)
    assert (live["equity"], live["live_equity"]) == (None, 1000)
    for name in ("drawdown_share", "drawdown_level", "ruin"):
        assert row[name] == live[name] is not None
    assert row["drawdown_share"] == row["drawdown"] / 1000
    losses = np.sum([by_hand(one, CANDLES) for one in FOUR], axis=0)
    assert row["ruin"] == pytest.approx(float((row["drawdown"] + losses > 0.2 * 1000).mean()))
    assert 0 < row["ruin"] < 1


def test_new_grids_are_counted_for_a_day() -> None:
    candles = market("AAA-USDT", 3)
    grids = [member("old", "AAA-USDT", candles, 2), member("new", "AAA-USDT", candles, 0.5, capital=300)]
    row = at(grids, candles)[0].row(0, named=True)
    assert (row["capital"], row["session_capital"], row["markets"]) == (1300, 300, 1)
    later = at(grids, candles, [NOW - 13 * HOUR_BARS * BAR])[0].row(0, named=True)
    assert (later["grids"], later["session_capital"]) == (1, 0)


def test_threads_change_no_bit() -> None:
    from concurrent.futures import ThreadPoolExecutor

    whole = at(FOUR, CANDLES)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: at(FOUR, CANDLES), range(8)):
            for one, other in zip(found, whole, strict=True):
                assert_frame_equal(one, other, check_exact=True)


def test_the_window_is_whole_days_of_absolute_bars() -> None:
    """A quarter hour later it is the same nights, until a new one has ended."""
    moments = [NOW - place * BAR for place in range(STEP_BARS + 1)][::-1]
    paths = at(FOUR[:1], CANDLES, moments)[0]["paths"].to_list()
    assert set(paths) == {116}
    assert Span(NOW - BAR, NOW).bars == 1


def test_a_market_that_never_moved_is_like_none_and_stops_nothing() -> None:
    """A token that is delisted: its bars are NO_TRADE, its volatility was forecast before."""
    name = FOUR[1].grid.symbol
    still = pl.col("symbol") == name
    flat = CANDLES.with_columns(
        pl.when(still).then(100.0).otherwise(pl.col(name)).alias(name) for name in risk.PRICES[:4]
    )
    grids = [one if one.grid.symbol != name else member("g01", name, flat) for one in FOUR]
    risks, shares = at(grids, flat)
    row = risks.row(0, named=True)
    assert row["reason"] is None
    assert name not in row["most_correlated"]
    assert shares["weight_minimum_variance"].is_not_null().all()
    alone, _ = at([one for one in grids if one.grid.symbol == name], flat)
    assert alone["highest_correlation"][0] is None
    assert alone["var_5_24h"][0] is not None


def test_the_most_alike_are_those_of_the_returns() -> None:
    row = at(FOUR, CANDLES)[0].row(0, named=True)
    wide = CANDLES.filter(pl.col("close_time") <= NOW).pivot("symbol", index="close_time", values="close")
    numbers = (bar_numbers(wide["close_time"]) - 1) % STEP_BARS == 0
    closes = wide.filter(pl.Series(numbers)).sort("close_time").tail(241).drop("close_time")
    found = np.corrcoef(np.diff(np.log(closes.to_numpy()), axis=0).T)
    np.fill_diagonal(found, -1)
    assert row["highest_correlation"] == pytest.approx(found.max(), abs=1e-12)
    first, second = sorted(divmod(int(found.argmax()), len(found)))
    assert row["most_correlated"] == f"{closes.columns[first]}/{closes.columns[second]}"
