"""Answers become bars: exactly one row for every closed interval, labelled with what is known of it.

TRADED: the venue sent it. NO_TRADE: the venue answered and had none, for the first bars of a hole. MISSING: everything
else. A label is a function of the venue's answers for the bar and the few before it, never of what is stored, so that
a backfill in one go, by month or by tick gives the same rows.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config import CandlesConfig
from mm_dagster.market.venue import ROWS, Answer, Venue, VenueError
from mm_dagster.tables import dtypes

_PRICES = ("open", "high", "low", "close")
_VALUES = (*_PRICES, "volume")
_CANDLES = {k: v for k, v in dtypes("candles").items() if k not in ("config_hash", "code_version", "source")}
_QUARANTINE = {k: v for k, v in dtypes("quarantine").items() if k != "source"}
_LIVE = timedelta(hours=1)
"""A span that ends within this of the venue's clock is news, and its newest bar may still be on its way."""


@dataclass(frozen=True)
class Assembled:
    """One answer as rows of the tables.

    Attributes:
        candles: rows of tables.Candles without config_hash and code_version, one for every closed bar.
        quarantined: rows of tables.Quarantine.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame


@dataclass(frozen=True)
class Collected:
    """What a venue had for a span.

    Attributes:
        candles: rows of tables.Candles without config_hash and code_version, one for every closed bar of the span.
        quarantined: rows of tables.Quarantine.
        error: why some of it was not answered, in one line; None: all was.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame
    error: str | None


def assemble(
    symbol: str,
    venue_name: str,
    answer: Answer,
    span: Span,
    closed_until: datetime,
    observed_at: datetime,
    max_no_trade: int,
) -> Assembled:
    """Makes one labelled row for every bar of the span that is closed.

    A row that cannot be true goes into quarantine, and its bar is MISSING. An interval that was answered without a row
    is NO_TRADE (open = high = low = close = the close before, volume 0) while it is one of the first `max_no_trade`
    bars after a TRADED one; a bar that is MISSING ends that. Rows outside the span were not asked for, and rows of a
    bar in progress are not final: both are ignored.

    Args:
        symbol: market.
        venue_name: name of the venue in markets.yaml.
        answer: what the venue said; nothing in its rows is trusted.
        span: the bars that are wanted.
        closed_until: the venue's time: a bar that closes later is still open.
        observed_at: when the venue answered.
        max_no_trade: how many bars of a hole may carry the last close forward.
    """
    closed = Span(span.start, max(span.start, min(span.end, floor_bar(closed_until))))
    good, bad = _judge(answer.rows, closed)
    bars = closed.open_times().to_frame().join(good, on="open_time", how="left", maintain_order="left")
    number = np.arange(bars.height)
    traded = bars["close"].is_not_null().to_numpy()
    refused = bars["open_time"].is_in(bad["bar"].unique().to_list()).to_numpy()
    answered = _covered(answer.answered, closed) | traded | refused
    hole = answered & ~traded & ~refused
    last_traded = _last(traded, number)
    carried = hole & (last_traded > _last(~traded & ~hole, number)) & (number - last_traded <= max_no_trade)

    status = np.where(traded, "TRADED", np.where(carried, "NO_TRADE", "MISSING"))
    close_before = pl.col("close").forward_fill()
    is_carried = pl.lit(pl.Series(carried))
    candles = bars.with_columns(
        *(pl.when(is_carried).then(close_before).otherwise(pl.col(name)).alias(name) for name in _PRICES),
        volume=pl.when(is_carried).then(0.0).otherwise("volume"),
        symbol=pl.lit(symbol),
        close_time=pl.col("open_time") + BAR,
        status=pl.Series(status, dtype=pl.String),
        venue=pl.lit(venue_name),
        observed_at=pl.when(pl.lit(pl.Series(answered))).then(pl.lit(observed_at)),
    )
    quarantined = bad.with_columns(
        symbol=pl.lit(symbol),
        payload=pl.Series([_payload(row) for row in bad.iter_rows(named=True)], dtype=pl.String),
        open_time="bar",
        venue=pl.lit(venue_name),
        observed_at=pl.lit(observed_at),
    )
    return Assembled(
        candles.select(pl.col(name).cast(dtype) for name, dtype in _CANDLES.items()),
        quarantined.select(pl.col(name).cast(dtype) for name, dtype in _QUARANTINE.items()).sort(
            "open_time", "reason", "payload"
        ),
    )


def collect(
    venue: Venue,
    symbol: str,
    span: Span,
    settings: CandlesConfig,
    wait: Callable[[float], object] = time.sleep,
) -> Collected:
    """Asks a venue for a span and labels what it says; a few bars before it are asked for too, to judge its first ones.

    Where the newest bar just closed and neither it nor a later one is in the answer, the venue may only be slow: it is
    asked again. A span that reaches into the future ends with the last closed bar. A venue that does not tell its time
    is asked for nothing, since what is open could not be told from what is closed: all is MISSING then.

    Args:
        venue: where to ask.
        symbol: market.
        span: the bars that are wanted.
        settings: how long a hole may be carried, and how often a late bar is asked for.
        wait: sleeps for that many seconds.

    Raises:
        VenueError: the venue does not know the symbol.
    """
    try:
        now = venue.now()
    except VenueError as failure:
        now = datetime.now(UTC)
        silence = Answer(ROWS.to_frame(), (), str(failure))
        nothing = assemble(symbol, venue.name, silence, span, now, now, settings.max_no_trade)
        return Collected(nothing.candles, nothing.quarantined, silence.error)
    closed = Span(span.start, max(span.start, min(span.end, floor_bar(now))))
    if not closed.bars:
        return Collected(pl.DataFrame(schema=_CANDLES), pl.DataFrame(schema=_QUARANTINE), None)
    judged = closed.back(settings.max_no_trade + 1)
    is_news = now - closed.end <= _LIVE
    # The bar in progress is asked for as well: once it is there, the one before it is final.
    asked = Span(judged.start, closed.end + BAR) if is_news else judged
    answer = venue.fetch(symbol, asked)
    newest = Span(closed.end - BAR, asked.end)
    for _ in range(settings.late_bar_attempts - 1):
        if not is_news or not _answers_newest(answer, closed) or answer.rows.filter(newest.opens()).height:
            break
        wait(settings.late_bar_wait_seconds)
        answer = _renewed(answer, venue.fetch(symbol, newest), closed)
    assembled = assemble(symbol, venue.name, answer, judged, now, venue.now(), settings.max_no_trade)
    candles = assembled.candles.filter(closed.opens())
    # What was not answered before the span or after it is not the caller's concern.
    error = answer.error if candles["observed_at"].has_nulls() else None
    return Collected(candles, assembled.quarantined.filter(closed.opens()), error)


@dataclass(frozen=True)
class Wanted:
    """One thing to ask a venue for."""

    venue: Venue
    symbol: str
    span: Span


def collect_each(
    wanted: Sequence[Wanted], settings: CandlesConfig
) -> Generator[tuple[Wanted, Collected | VenueError], None, None]:
    """Asks for many spans, `at_once` at the same time, and says what came of each in the order in which they are given.

    It runs ahead of who takes the answers by twice that many, so that memory is bounded. When it is closed, or its
    process ends, what is under way is abandoned.

    Args:
        wanted: what to ask for, the first first.
        settings: as for `collect`, and how many to ask for at the same time.

    Yields:
        What was wanted, and what the venue had, or why it does not know the symbol.
    """
    tasks: queue.SimpleQueue[tuple[Wanted, queue.SimpleQueue[Collected | Exception]] | None] = queue.SimpleQueue()
    under_way: list[queue.SimpleQueue[Collected | Exception]] = []
    abandoned = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not abandoned.is_set():
            one, answer = task
            try:
                answer.put(collect(one.venue, one.symbol, one.span, settings, abandoned.wait))
            except Exception as error:
                answer.put(error)

    def ask(one: Wanted) -> None:
        under_way.append(queue.SimpleQueue())
        tasks.put((one, under_way[-1]))

    workers = min(settings.at_once, len(wanted))
    for _ in range(workers):
        # Not those of concurrent.futures: the interpreter would wait for them after Ctrl-C. They only ask, so that
        # nothing is lost with them.
        threading.Thread(target=work, name="candles", daemon=True).start()
    try:
        for one in wanted[: 2 * workers]:
            ask(one)
        for number, one in enumerate(wanted):
            found = under_way.pop(0).get()
            if number + 2 * workers < len(wanted):
                ask(wanted[number + 2 * workers])
            if isinstance(found, Exception) and not isinstance(found, VenueError):
                raise found
            yield one, found
    finally:
        abandoned.set()
        for _ in range(workers):
            tasks.put(None)


def _judge(rows: pl.DataFrame, span: Span) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of a span that can be true, at most one a bar, and those that cannot, with `bar` and `reason`."""
    sent = (
        rows.select(pl.col(name).cast(dtype) for name, dtype in ROWS.items())
        .filter(span.opens())
        .unique()
        .with_columns(bar=pl.col("open_time").dt.truncate("15m"))
    )
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in _VALUES)
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


def _covered(answered: tuple[Span, ...], span: Span) -> np.ndarray:
    """For every bar of a span, whether it lies in one of the answered ones."""
    covered = np.zeros(span.bars, dtype=bool)
    for part in answered:
        covered[max(0, (part.start - span.start) // BAR) : max(0, (part.end - span.start) // BAR)] = True
    return covered


def _last(flags: np.ndarray, number: np.ndarray) -> np.ndarray:
    """For every bar, the number of the newest one until then that is flagged; -1 where there is none."""
    return np.maximum.accumulate(np.where(flags, number, -1)) if number.size else number


def _payload(row: dict[str, Any]) -> str:
    """The row as sent, in JSON that every parser reads: what is no finite number is written as text."""
    values = {name: row[name] for name in _VALUES}
    safe = {k: v if v is None or math.isfinite(v) else str(v) for k, v in values.items()}
    return json.dumps({"open_time": row["open_time"].isoformat(), **safe}, allow_nan=False)


def _answers_newest(answer: Answer, closed: Span) -> bool:
    return bool(_covered(answer.answered, Span(closed.end - BAR, closed.end)).all())


def _renewed(answer: Answer, again: Answer, closed: Span) -> Answer:
    """The answer, with what was said of the newest bar the second time; where that failed, it is not known."""
    before = closed.end - BAR
    if _answers_newest(again, closed):
        rows = [answer.rows.filter(pl.col("open_time") < before), again.rows.filter(pl.col("open_time") >= before)]
        return Answer(pl.concat(rows), answer.answered, answer.error)
    answered = tuple(Span(part.start, min(part.end, before)) for part in answer.answered)
    return Answer(answer.rows, tuple(part for part in answered if part.bars), again.error)
