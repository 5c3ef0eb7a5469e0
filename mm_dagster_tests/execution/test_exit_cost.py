"""The rows of exit_cost: the same wherever the history begins, with a book beside and without."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.books.book import parse
from mm_dagster.config.risk import RiskConfig
from mm_dagster.execution import exit_cost
from mm_dagster.execution.costs import HORIZONS
from mm_dagster.execution.exit_cost import LEAD_BARS, LIVE
from mm_dagster.tables import registry
from mm_dagster_tests.grid.synthetic import START, grid

GRID = grid(activated_at=START)
WHOLE = Span(START - (LEAD_BARS + 40) * BAR, START + 200 * BAR)


def candles(gap: int | None = None) -> pl.DataFrame:
    generator = np.random.default_rng(3)
    closes = 3120 * np.exp(np.cumsum(generator.normal(0, 0.003, WHOLE.bars)))
    frame = pl.DataFrame(
        {
            "symbol": GRID.symbol,
            "close_time": WHOLE.open_times().cast(TIME) + BAR,
            "close": closes,
            "volume": generator.uniform(0.0, 30.0, WHOLE.bars),
        }
    )
    if gap is None:
        return frame
    missing = pl.int_range(pl.len()) == gap
    return frame.with_columns(pl.when(~missing).then(pl.col(name)).alias(name) for name in ("close", "volume"))


def features() -> pl.DataFrame:
    times = WHOLE.open_times().cast(TIME) + BAR
    return pl.DataFrame({"symbol": GRID.symbol, "as_of": times, "volatility_forecast": 0.006})


def held(amount: float = 0.4) -> pl.DataFrame:
    times = Span(GRID.first_as_of - BAR, WHOLE.end).open_times().cast(TIME) + BAR
    return pl.DataFrame(
        {"grid_id": GRID.id, "activated_at": GRID.activated_at, "as_of": times, "inventory": amount},
        schema_overrides={"activated_at": TIME},
    )


def rows(span: Span, bars: pl.DataFrame, holds: pl.DataFrame, books: exit_cost.Books | None = None) -> pl.DataFrame:
    return exit_cost.compute([GRID], bars, features(), holds, span, RiskConfig(), books or {})


def test_there_is_a_row_for_every_bar_and_horizon_since_the_activation() -> None:
    found = rows(Span(START - 20 * BAR, START + 50 * BAR), candles(), held())
    assert found.height == 51 * len(HORIZONS)
    assert found["as_of"].min() == GRID.first_as_of
    stamped = found.with_columns(config_hash=pl.lit("0" * 12), code_version=pl.lit("1"), source=pl.lit(None, pl.String))
    assert registry.broken_rules(stamped, "exit_cost") == {}
    assert found.group_by("as_of").agg(pl.col("chosen").sum())["chosen"].to_list() == [1] * 51
    assert found.filter(pl.any_horizontal(pl.col(LIVE).is_not_null())).is_empty()


def test_a_row_has_the_same_bits_alone_and_with_a_history_that_begins_elsewhere() -> None:
    whole = rows(Span(START, WHOLE.end), candles(), held())
    for first in (1, 60, 177):
        span = Span(START + first * BAR, START + (first + 3) * BAR)
        seen = candles().filter(pl.col("close_time") > span.start - LEAD_BARS * BAR)
        alone = rows(span, seen, held().filter(span.closes("as_of")))
        assert alone.equals(whole.filter(span.closes("as_of")))


def test_what_nobody_holds_and_what_nobody_knows_has_no_figure() -> None:
    nothing = rows(Span(START, START + 4 * BAR), candles(), held(0.0))
    assert nothing["notional"].to_list() == [0.0] * nothing.height
    for name in ("expected_bp", "low_80_bp", "walk_bp"):
        assert nothing[name].null_count() == nothing.height
    assert not nothing["chosen"].any()
    unknown = rows(Span(START, START + 4 * BAR), candles(), held().clear())
    assert unknown["amount"].null_count() == unknown.height
    assert not unknown["chosen"].any()
    gap = LEAD_BARS + 40 + 2
    missing = rows(Span(START, START + 4 * BAR), candles(gap), held())
    at = START + 3 * BAR
    assert missing.filter(pl.col("as_of") == at)["expected_bp"].null_count() == len(HORIZONS)
    assert missing.filter(pl.col("as_of") != at)["expected_bp"].null_count() == 0


def test_a_book_fills_the_live_columns_of_its_bar_and_no_other_column() -> None:
    span = Span(START, START + 4 * BAR)
    at = START + 2 * BAR
    book = parse([[3119.0, 0.3], [3110.0, 5.0]], [[3121.0, 1.0]])
    plain, with_book = (rows(span, candles(), held(), books) for books in ({}, {(GRID.symbol, at): book}))
    assert with_book.drop(LIVE).equals(plain.drop(LIVE))
    live = with_book.filter(pl.col("as_of") == at).sort("horizon_minutes")
    # .3 at 3,119 and .1 at 3,110 for .4 at the mid of 3,120.
    cost = 1e4 * (1 - (0.3 * 3119 + 0.1 * 3110) / (0.4 * 3120))
    half = 1e4 / 3120
    assert live["live_half_spread_bp"].to_list() == pytest.approx([half] * 4)
    assert live["live_walk_bp"][0] == pytest.approx(cost - half)
    assert live["live_expected_bp"][0] == pytest.approx(cost + 10.0)
    assert live["shown_share"].to_list() == [1.0] * 4
    others = with_book.filter(pl.col("as_of") != at)
    assert all(others[name].null_count() == others.height for name in LIVE)
    assert set(LIVE) <= registry.LIVE_ONLY


def test_before_it_begins_there_is_nothing() -> None:
    assert rows(Span(START - timedelta(days=1), START - BAR), candles(), held()).is_empty()
