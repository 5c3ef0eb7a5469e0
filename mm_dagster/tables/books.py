"""What the order books say at each tick: what leaving would cost at that moment. No decision reads any of it."""

from __future__ import annotations

import polars as pl

from mm_dagster.tables.columns import count, number, one_of, source_of_candles, structs, text, time
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import BOOK_ORIGINS


def _depth(side: str, bp: int) -> dy.Float64:
    what = f"{side} within {bp} basis points of the mid, quote currency; null: the levels end before."
    return number(f"What waits in the {what}", low=0.0)


class BookSnapshot(dy.Schema):
    """The public order book of each market with a running grid, as it was asked for after the exit states of a tick.

    Live-only: a backfill has no rows, and a tick of the past has none either. Where there is no book that can be
    believed, `refused` says why, and every figure is null.
    """

    symbol = text("Market.", key=True)
    as_of = time("The tick after whose exit states it was asked for;", key=True)
    venue = text("Name of the venue in markets.yaml.")
    asked_at = time("When it was asked for, by the venue's clock;")
    observed_at = time("The time of the book as the venue says it; null: it does not.", nullable=True)
    mid = number("Middle between the best prices, quote currency.", low=0.0)
    half_spread_bp = number("Half of the way between the best prices, basis points of the mid.", low=0.0)
    bid_depth_5bp = _depth("bids", 5)
    bid_depth_10bp = _depth("bids", 10)
    bid_depth_25bp = _depth("bids", 25)
    bid_depth_50bp = _depth("bids", 50)
    ask_depth_5bp = _depth("asks", 5)
    ask_depth_10bp = _depth("asks", 10)
    ask_depth_25bp = _depth("asks", 25)
    ask_depth_50bp = _depth("asks", 50)
    depth_reach_bp = number(
        "How far from the mid the nearer end of the levels lies, basis points: farther out nothing is known.", low=0.0
    )
    bid_levels = count("Levels of the bids, 100 at most.")
    ask_levels = count("Levels of the asks, 100 at most.")
    update_id = text("The exchange's number of the book; null: it has none.", nullable=True)
    bids = structs(
        "Who buys, the best price first.",
        nullable=True,
        price=number("Quote currency."),
        amount=number("Base currency."),
    )
    asks = structs(
        "Who sells, the best price first.",
        nullable=True,
        price=number("Quote currency."),
        amount=number("Base currency."),
    )
    origin = one_of(BOOK_ORIGINS, "Who had the book; null: ASKED, before this was noted.", nullable=True)
    refused = text("Why there is no book, in one line; null: there is one.", nullable=True)
    source = source_of_candles()

    @dy.rule()
    def a_book_or_why_not(cls) -> pl.Expr:
        figures = ("mid", "half_spread_bp", "depth_reach_bp", "bid_levels", "ask_levels", "bids", "asks")
        missing = [pl.col(name).is_null() for name in figures]
        depths = [pl.col(f"{side}_depth_{bp}bp").is_null() for side in ("bid", "ask") for bp in (5, 10, 25, 50)]
        return (
            pl.when(pl.col("refused").is_null())
            .then(~pl.any_horizontal(missing))
            .otherwise(pl.all_horizontal(*missing, *depths))
        )


STAGES = (Stage("book_snapshot", BookSnapshot, group="books"),)
