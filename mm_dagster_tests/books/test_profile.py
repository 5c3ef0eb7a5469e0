"""The liquidity profile: medians and tails by hand, and what is too little to be called usual."""

from __future__ import annotations

import random
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, TIME
from mm_dagster.books.profile import DAYS, LEAST_WINDOWS, profiled

END = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = [
    "exchange", "symbol", "as_of", "hour", "days", "windows", "spread_bp", "spread_bp_90", "bid_depth_10bp",
    "bid_depth_10bp_low", "bid_depth_25bp", "bid_depth_25bp_low", "bid_depth_50bp", "bid_depth_50bp_low", "recovery_ms",
]  # fmt: skip


def window(as_of: datetime, **over: Any) -> dict[str, Any]:
    rng = random.Random(as_of.isoformat())
    row = {
        "exchange": "kucoin", "symbol": "ETH-USDT", "as_of": as_of, "in_sync_share": 1.0, "spread_bp": rng.random(),
        "bid_depth_10bp": 1e5 * rng.random(), "bid_depth_25bp": 2e5, "bid_depth_50bp": None, "recovery_ms": None,
    }  # fmt: skip
    return row | over


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = ("in_sync_share", "spread_bp", "bid_depth_10bp", "bid_depth_25bp", "bid_depth_50bp", "recovery_ms")
    keys = {"exchange": pl.String, "symbol": pl.String, "as_of": TIME}
    return pl.DataFrame(rows, schema=keys | dict.fromkeys(names, pl.Float64), orient="row")


def days(count: int, hour: int = 13) -> list[datetime]:
    """The ends of the quarter hours of an hour, of so many days before the end."""
    return [
        END - timedelta(days=day) + timedelta(hours=hour) + quarter * BAR
        for day in range(1, count + 1)
        for quarter in (1, 2, 3, 4)
    ]


def test_a_cell_by_hand() -> None:
    rows = [window(one) for one in days(5)]
    found = profiled(frame(rows), END)
    assert found.columns == COLUMNS
    (row,) = found.iter_rows(named=True)
    spreads = sorted(one["spread_bp"] for one in rows)
    assert (row["exchange"], row["symbol"], row["as_of"]) == ("kucoin", "ETH-USDT", END)
    assert (row["hour"], row["days"], row["windows"]) == (13, 5, 20)
    assert row["spread_bp"] == statistics.median(spreads)
    # 17.1 of 0 to 19
    assert abs(row["spread_bp_90"] - (0.9 * spreads[17] + 0.1 * spreads[18])) < 1e-12
    amounts = sorted(one["bid_depth_10bp"] for one in rows)
    assert row["bid_depth_10bp"] == statistics.median(amounts)
    assert abs(row["bid_depth_10bp_low"] - (0.1 * amounts[1] + 0.9 * amounts[2])) < 1e-6
    assert (row["bid_depth_25bp"], row["bid_depth_50bp"], row["recovery_ms"]) == (2e5, None, None)


def test_a_quarter_hour_is_of_the_hour_in_which_it_began() -> None:
    found = profiled(frame([window(END - timedelta(days=1)), window(END - timedelta(days=1) + BAR)]), END)
    assert found["hour"].to_list() == [0, 23]


def test_too_few_give_no_figure_and_say_how_many_they_are() -> None:
    rows = [window(one, recovery_ms=5.0 if place < LEAST_WINDOWS - 1 else None) for place, one in enumerate(days(2))]
    (row,) = profiled(frame(rows), END).iter_rows(named=True)
    assert row["spread_bp"] is not None
    assert row["recovery_ms"] is None  # seven of the eight know it
    (row,) = profiled(frame(rows[1:]), END).iter_rows(named=True)
    assert (row["windows"], row["days"]) == (7, 2)
    assert {row[name] for name in COLUMNS[6:]} == {None}


def test_what_is_not_of_these_days_or_was_hardly_in_sync_is_left_out() -> None:
    rows = [window(one) for one in days(3)]
    more = [
        window(END + BAR, spread_bp=1e9),
        window(END - timedelta(days=DAYS), spread_bp=1e9),
        window(days(3)[0], symbol="BTC-USDT", in_sync_share=0.49),
        *(window(one, exchange="kraken") for one in days(2)),
    ]
    found = profiled(frame(rows + more), END)
    assert found.select("exchange", "hour").rows() == [("kraken", 13), ("kucoin", 13)]
    assert found.filter(pl.col("exchange") == "kucoin").equals(profiled(frame(rows), END))
    # The first quarter hour of the first day is the first that is taken.
    (first,) = profiled(frame([window(END - timedelta(days=DAYS) + BAR)]), END).iter_rows(named=True)
    assert (first["hour"], first["days"], first["windows"]) == (0, 1, 1)
    assert profiled(frame([]), END).is_empty()
    assert profiled(frame([]), END).columns == COLUMNS
