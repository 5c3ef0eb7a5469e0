"""Limits of portfolio.yaml: what is breached, since when, and how much room is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, DAY_BARS, TIME, Span
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.portfolio import limits
from mm_dagster.portfolio.limits import LEAD_BARS, breaches, compute, thresholds
from mm_dagster.tables.words import LIMITS

END = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAYS = Span(END - 2 * DAY_BARS * BAR, END)
BEGAN = END - 20 * DAY_BARS * BAR
SETTINGS = PortfolioConfig.model_validate({"equity": 10_000})
WIDE, WIDER = DAYS.back(LEAD_BARS), DAYS.back(LEAD_BARS + DAY_BARS)
MAKERS = {"a": 0.001, "b": 0.001}


def times(span: Span = DAYS) -> pl.Series:
    return (span.open_times() + BAR).alias("as_of")


def risks(span: Span = WIDE, **changes: Any) -> pl.DataFrame:
    values: dict[str, Any] = {
        "quote": "USDT", "capital": 2_000.0, "session_capital": 0.0, "equity": 10_000.0, "live_equity": None,
        "es_5_24h": 100.0, "drawdown_share": 0.01, "highest_correlation": 0.8,
    }  # fmt: skip
    columns = [
        value.alias(name) if isinstance(value, pl.Series) else pl.lit(value, dtype=None).alias(name)
        for name, value in (values | changes).items()
    ]
    return times(span).to_frame().with_columns(columns).with_columns(pl.col("live_equity").cast(pl.Float64))


def shares(span: Span = WIDE, capital: float = 1_000.0) -> pl.DataFrame:
    parts = [
        times(span).to_frame().with_columns(
            quote=pl.lit("USDT"), grid_id=pl.lit(name), activated_at=pl.lit(BEGAN, dtype=TIME),
            symbol=pl.lit("ETH-USDT"), capital=pl.lit(capital),
        )
        for name in ("a", "b")
    ]  # fmt: skip
    return pl.concat(parts)


def filled(span: Span = WIDER, a_bar: float = 0.5, **changes: float) -> pl.DataFrame:
    values = {"fees_paid": 10.0, "grid_profit": 30.0, "inventory": 0.0, "average_cost": 100.0} | changes
    parts = []
    for name in ("a", "b"):
        frame = times(span).to_frame().with_row_index("place")
        parts.append(
            frame.select(
                "as_of",
                pl.lit(name).alias("grid_id"),
                pl.lit(BEGAN, dtype=TIME).alias("activated_at"),
                (100 + pl.col("place") * a_bar).alias("fills"),
                *(pl.lit(value).alias(key) for key, value in values.items()),
            )
        )
    return pl.concat(parts)


def rows(settings: PortfolioConfig = SETTINGS, span: Span = DAYS, **given: pl.DataFrame) -> pl.DataFrame:
    found = {"risk_rows": risks(), "contributions": shares(), "grid_rows": filled()} | given
    return compute("USDT", **found, makers=MAKERS, span=span, settings=settings)


def one(found: pl.DataFrame, limit: str, subject: str = "all", at: datetime = END) -> dict[str, Any]:
    return found.row(
        by_predicate=(pl.col("limit") == limit) & (pl.col("subject") == subject) & (pl.col("as_of") == at), named=True
    )


def test_every_limit_has_a_row_at_every_bar_and_every_threshold_is_that_of_the_file() -> None:
    found = rows()
    assert set(found["limit"]) == set(LIMITS) == set(thresholds(SETTINGS))
    subjects = found.filter(pl.col("as_of") == END).select("limit", "subject").rows()
    assert sorted(subjects) == sorted(
        [
            *((name, "all") for name in LIMITS if name not in ("pair", "position", "fills_per_day", "fee_share")),
            ("pair", "ETH-USDT"),
            *((name, grid) for name in ("position", "fills_per_day", "fee_share") for grid in "ab"),
        ]
    )
    assert found.height == DAYS.bars * len(subjects)
    assert one(found, "portfolio")["threshold"] == 0.8


def test_values_are_shares_of_the_equity_or_counts() -> None:
    found = rows()
    assert one(found, "portfolio")["value"] == 0.2
    assert one(found, "pair", "ETH-USDT")["value"] == 0.2
    assert one(found, "position", "a")["value"] == 0.1
    assert one(found, "position", "a")["room"] == pytest.approx(0.05)
    assert one(found, "es_5_24h")["value"] == 0.01
    assert one(found, "drawdown_mild")["value"] == one(found, "drawdown_severe")["value"] == 0.01
    assert one(found, "fills_per_day", "b")["value"] == 48
    assert one(found, "fee_share", "b")["value"] == 10 / 40
    correlation = one(found, "correlation")
    assert (correlation["value"], correlation["threshold"], correlation["breached"]) == (0.8, None, None)
    assert not found.filter(pl.col("breached") & (pl.col("limit") != "pair")).height
    # A share of exactly the limit is within it.
    assert one(found, "pair", "ETH-USDT")["breached"] is False


def test_without_an_equity_its_shares_are_unknown_and_with_a_live_one_they_are_not() -> None:
    unknown = rows(
        risk_rows=risks(equity=None, drawdown_share=None).cast({"equity": pl.Float64, "drawdown_share": pl.Float64})
    )
    for name in limits.OF_EQUITY:
        for row in unknown.filter(pl.col("limit") == name).iter_rows(named=True):
            assert (row["value"], row["breached"], row["since"], row["room"]) == (None, None, None, None)
    assert one(unknown, "fills_per_day", "a")["breached"] is False
    live = risks(equity=None).cast({"equity": pl.Float64}).with_columns(live_equity=pl.lit(5_000.0))
    assert one(rows(risk_rows=live), "portfolio")["value"] == 0.4


def test_fees_of_what_is_still_held_are_no_fees_of_sells_and_few_fills_say_nothing() -> None:
    held = filled(inventory=20.0, average_cost=100.1)
    row = one(rows(grid_rows=held), "fee_share", "a")
    fees = 10.0 - 20.0 * 100.1 * 0.001 / 1.001
    assert row["value"] == pytest.approx(fees / (30.0 + fees))
    few = filled(a_bar=0.0).with_columns(fills=pl.lit(19.0))
    assert one(rows(grid_rows=few), "fee_share", "a")["value"] is None
    assert one(rows(grid_rows=few.with_columns(fills=pl.lit(20.0))), "fee_share", "a")["value"] == 0.25


def test_a_grid_that_is_younger_than_a_day_has_begun_with_none() -> None:
    begun = END - 10 * BAR
    young = pl.col("as_of") >= begun
    grids = filled().filter(young).with_columns(activated_at=pl.lit(begun, dtype=TIME), fills=pl.lit(250.0))
    mine = shares().filter(young).with_columns(activated_at=pl.lit(begun, dtype=TIME))
    row = one(rows(grid_rows=grids, contributions=mine), "fills_per_day", "a")
    assert (row["value"], row["breached"], row["since"], row["room"]) == (250, True, begun, -50)


def test_a_row_that_is_not_there_a_day_before_is_no_beginning() -> None:
    hole = filled().filter(pl.col("as_of") != END - DAY_BARS * BAR)
    row = one(rows(grid_rows=hole), "fills_per_day", "a")
    assert (row["value"], row["breached"]) == (None, None)
    assert one(rows(grid_rows=hole), "fills_per_day", "a", END - BAR)["value"] == 48


def test_it_is_breached_above_the_limit_and_until_it_is_a_tenth_below() -> None:
    value = np.array([0.1, 0.21, 0.19, 0.2, 0.22, 0.181, 0.179, 0.19, 0.2, np.nan, 0.19, 0.21, np.nan, 0.19])
    state, begun = breaches(value, 0.2)
    assert state.tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0, -1, 0, 1, -1, 1]
    assert begun[1:6].tolist() == [1] * 5
    assert begun[[11, 13]].tolist() == [11, 11]
    assert breaches(value, None)[0].tolist() == [-1] * 14


def test_a_value_that_stands_between_for_a_week_is_over() -> None:
    value = np.concatenate([[0.25], np.full(LEAD_BARS + 5, 0.19)])
    state, _ = breaches(value, 0.2)
    assert state[LEAD_BARS] == 1
    assert state[LEAD_BARS + 1] == 0
    # One that stays above has no beginning before that.
    above, begun = breaches(np.full(2 * LEAD_BARS, 0.3), 0.2)
    assert above.all()
    assert begun[-1] == 2 * LEAD_BARS - 1 - LEAD_BARS


@given(
    st.lists(st.sampled_from([0.1, 0.17, 0.185, 0.2, 0.21, float("nan")]), min_size=1, max_size=60), st.integers(0, 59)
)
def test_what_lies_a_week_back_changes_nothing(values: list[float], cut: int) -> None:
    value = np.array(values)
    whole, begun = breaches(value, 0.2)
    before = np.concatenate([np.full(7, 0.1), value])
    again, later = breaches(before, 0.2)
    assert again[7:].tolist() == whole.tolist()
    assert (later[7:] - 7)[whole == 1].tolist() == begun[whole == 1].tolist()
    shorter, _ = breaches(value[: cut + 1], 0.2)
    assert shorter.tolist() == whole[: cut + 1].tolist()


def test_a_row_has_the_same_bits_alone_and_in_a_longer_span() -> None:
    wave = pl.Series(0.05 + 0.04 * np.sin(np.arange(DAYS.bars + LEAD_BARS) / 37.0)) * 10_000
    wide = risks(es_5_24h=wave)
    whole = rows(risk_rows=wide)
    assert set(whole.filter(pl.col("limit") == "es_5_24h")["breached"]) == {True, False}
    last = Span(END - BAR, END)
    short = last.back(LEAD_BARS)
    alone = rows(
        span=last,
        risk_rows=wide.filter(short.closes()),
        contributions=shares(short),
        grid_rows=filled().filter(short.back(DAY_BARS).closes()),
    )
    assert_frame_equal(alone, whole.filter(pl.col("as_of") == END), check_exact=True)


def test_where_nothing_can_be_told_capital_still_can() -> None:
    """The row of a bar at which a market is missing has its capital, and no loss."""
    lost = risks().with_columns(es_5_24h=pl.when(pl.col("as_of") < END).then(100.0))
    found = rows(risk_rows=lost, contributions=shares().filter(pl.col("as_of") < END))
    assert one(found, "portfolio")["breached"] is False
    assert one(found, "es_5_24h")["breached"] is None
    at_end = found.filter(pl.col("as_of") == END)["limit"].to_list()
    assert "position" not in at_end
    assert one(found, "position", "a", END - BAR)["breached"] is False


def test_drawdowns_rise_in_order() -> None:
    with pytest.raises(ValueError, match=r"must rise in this order, and are 0\.05, 0\.05, 0\.2"):
        PortfolioConfig.model_validate({"drawdown": {"moderate": 0.05}})
    assert timedelta(days=7) == LEAD_BARS * BAR
