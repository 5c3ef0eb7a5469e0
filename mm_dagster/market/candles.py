"""Answers become bars: exactly one row for every closed interval, labelled with what is known of it.

TRADED: the venue sent it. NO_TRADE: the venue answered and had none, for the first bars of a hole; a bar without volume
at the close before is no trade either. MISSING: everything else. A label is a function of the venue's answers for the
bar and the few before it, never of what is stored, so that a backfill in one go, by month or by tick gives the same
rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.market import contradiction
from mm_dagster.market.venue import ROWS, Answer
from mm_dagster.tables.registry import dtypes

_PRICES = ("open", "high", "low", "close")

VALUES = (*_PRICES, "volume")

SEEN_BEFORE = 2
"""How many bars before one the close before is looked for; as many more than a hole's are asked for in any answer."""

CANDLES = {k: v for k, v in dtypes("candles").items() if k not in ("config_hash", "code_version", "source")}

QUARANTINE = {k: v for k, v in dtypes("quarantine").items() if k != "source"}

HOLES = {"open_time": ROWS["open_time"], "between": pl.Boolean()}


@dataclass(frozen=True)
class Assembled:
    """One answer as rows of the tables.

    Attributes:
        candles: rows of `candles` without config_hash and code_version, one for every closed bar.
        quarantined: rows of `quarantine`.
        holes: `open_time` of the bars that were answered without a row that can be used, and `between`: whether there
            is one before and one after it.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame
    holes: pl.DataFrame


def assemble(
    symbol: str,
    venue_name: str,
    answer: Answer,
    span: Span,
    closed_until: datetime,
    observed_at: datetime,
    max_no_trade: int,
    held: pl.DataFrame | None = None,
) -> Assembled:
    """Makes one labelled row for every bar of the span that is closed.

    A row that cannot be true goes into quarantine, and its bar is MISSING. An interval that was answered without a row,
    or with one in which nobody traded, is NO_TRADE (open = high = low = close = the close before, volume 0) while it is
    one of the first `max_no_trade` bars after a TRADED one; a bar that is MISSING ends that. Before the first row of an
    answer nothing is known to have been traded or not. Rows outside the span were not asked for, and rows of a bar in
    progress are not final: both are ignored.

    `observed_at` is there for what was sent. That nothing was sent is only noted as a hole, but for an answer that
    would be the same again.

    Args:
        symbol: market.
        venue_name: name of the venue in markets.yaml.
        answer: what the venue said; nothing in its rows is trusted.
        span: the bars that are wanted.
        closed_until: the venue's time: a bar that closes later is still open.
        observed_at: when the venue answered.
        max_no_trade: how many bars of a hole may carry the last close forward.
        held: `open_time` and `reason` of rows that are not believed.
    """
    closed = Span(span.start, max(span.start, min(span.end, floor_bar(closed_until))))
    good, bad = sift(answer.rows, closed)
    if held is not None and held.height:
        doubted = good.join(held, on="open_time", how="inner").with_columns(
            bar="open_time", reason=contradiction.UNSURE + pl.col("reason")
        )
        good = good.join(held, on="open_time", how="anti")
        bad = pl.concat([bad, doubted.select(bad.columns)])
    bars = closed.open_times().to_frame().join(good, on="open_time", how="left", maintain_order="left")
    number = np.arange(bars.height)
    sent = bars["close"].is_not_null().to_numpy()
    quiet = bars.select(_is_quiet_bar()).to_series().fill_null(False).to_numpy() & answer.has_volume
    traded = sent & ~quiet
    refused = bars["open_time"].is_in(bad["bar"].unique().to_list()).to_numpy()
    asked = covered(answer.answered, closed)
    answered = asked if answer.final else asked & (_last(sent, number) >= 0)
    hole = (answered & ~sent & ~refused) | quiet
    last_traded = _last(traded, number)
    carried = hole & (last_traded > _last(~traded & ~hole, number)) & (number - last_traded <= max_no_trade)

    status = np.where(traded, "TRADED", np.where(carried, "NO_TRADE", "MISSING"))
    close_before = pl.col("close").forward_fill()
    is_carried, is_traded = pl.lit(pl.Series(carried)), pl.lit(pl.Series(traded))
    observed = asked | sent | refused if answer.final else sent
    candles = bars.with_columns(
        *(pl.when(is_carried).then(close_before).when(is_traded).then(pl.col(name)).alias(name) for name in _PRICES),
        volume=pl.when(is_carried).then(0.0).when(is_traded).then("volume"),
        symbol=pl.lit(symbol),
        close_time=pl.col("open_time") + BAR,
        status=pl.Series(status, dtype=pl.String),
        venue=pl.lit(venue_name),
        observed_at=pl.when(pl.lit(pl.Series(observed))).then(pl.lit(observed_at)),
    )
    between = (_last(sent, number) >= 0) & (_last(sent[::-1], number) >= 0)[::-1] & ~refused
    holes = bars.select("open_time", between=pl.Series(between, dtype=pl.Boolean)).filter(
        pl.Series((asked | refused) & ~observed, dtype=pl.Boolean)
    )
    if held is not None:
        # What contradicts is no hole: it is asked for at the next tick, all of it at once.
        holes = holes.join(held, on="open_time", how="anti", maintain_order="left")
    payloads = pl.Series([payload(row) for row in bad.iter_rows(named=True)], dtype=pl.String)
    quarantined = pl.concat(
        [
            bad.select(open_time="bar", reason="reason", payload=payloads),
            _unread(answer.unread, closed),
        ]
    ).with_columns(symbol=pl.lit(symbol), venue=pl.lit(venue_name), observed_at=pl.lit(observed_at))
    return Assembled(
        candles.select(pl.col(name).cast(dtype) for name, dtype in CANDLES.items()),
        quarantined.select(pl.col(name).cast(dtype) for name, dtype in QUARANTINE.items()).sort(list(QUARANTINE)),
        holes,
    )


def is_quiet() -> pl.Expr:
    """Whether nobody traded in a row, as the row before it shows: no volume, and every price is the close before."""
    return _repeats(pl.col("close").shift(1))


def _is_quiet_bar() -> pl.Expr:
    """Likewise of bars, which may not have been sent.

    The close before is that of the last `SEEN_BEFORE` bars. Where none of these was sent it counts as the same: an
    older one may or may not be in an answer, and a label must not depend on where an answer begins.
    """
    return _repeats(pl.col("close").forward_fill(limit=SEEN_BEFORE - 1).shift(1).fill_null(pl.col("open")))


def _repeats(close_before: pl.Expr) -> pl.Expr:
    return (pl.col("volume") == 0) & pl.all_horizontal(pl.col(name) == close_before for name in _PRICES)


def _unread(rows: Sequence[tuple[datetime, str]], span: Span) -> pl.DataFrame:
    """Rows that have no time, by the first bar of their page."""
    inside = [(max(start, span.start), "the row cannot be read", payload) for start, payload in rows]
    schema = {name: QUARANTINE[name] for name in ("open_time", "reason", "payload")}
    return pl.DataFrame([row for row in inside if row[0] < span.end], schema=schema, orient="row").unique(
        maintain_order=True
    )


def sift(rows: pl.DataFrame, span: Span) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of a span that can be true, at most one a bar, and those that cannot, with `bar` and `reason`."""
    sent = (
        rows.select(pl.col(name).cast(dtype) for name, dtype in ROWS.items())
        .filter(span.opens())
        .unique()
        .with_columns(bar=pl.col("open_time").dt.truncate("15m"))
    )
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in VALUES)
    wrong = {
        "does not open on a quarter hour": pl.col("open_time") != pl.col("bar"),
        "a value is not a finite number": ~finite,
        "a price is not above zero": pl.any_horizontal(pl.col(name) <= 0 for name in _PRICES),
        "the volume is below zero": pl.col("volume") < 0,
        "the low is above the open or close": pl.col("low") > pl.min_horizontal("open", "close"),
        "the high is below the open or close": pl.col("high") < pl.max_horizontal("open", "close"),
        "the venue sent different rows for this bar": pl.len().over("bar") > 1,
    }
    judged = sent.with_columns(
        reason=pl.concat_list(
            pl.when(is_wrong.fill_null(False)).then(pl.lit(reason, dtype=pl.String))
            for reason, is_wrong in wrong.items()
        )
        .list.drop_nulls()
        .list.join("; ")
    )
    return judged.filter(pl.col("reason") == "").select(ROWS.names()), judged.filter(pl.col("reason") != "")


def covered(answered: tuple[Span, ...], span: Span) -> np.ndarray:
    """For every bar of a span, whether it lies in one of the answered ones."""
    covered = np.zeros(span.bars, dtype=bool)
    for part in answered:
        covered[max(0, (part.start - span.start) // BAR) : max(0, (part.end - span.start) // BAR)] = True
    return covered


def _last(flags: np.ndarray, number: np.ndarray) -> np.ndarray:
    """For every bar, the number of the newest one until then that is flagged; -1 where there is none."""
    return np.maximum.accumulate(np.where(flags, number, -1)) if number.size else number


def payload(row: dict[str, Any]) -> str:
    """The row as sent, in JSON that every parser reads: what is no finite number is written as text."""
    values = {name: row[name] for name in VALUES}
    safe = {k: v if v is None or math.isfinite(v) else str(v) for k, v in values.items()}
    return json.dumps({"open_time": row["open_time"].isoformat(), **safe}, allow_nan=False)
