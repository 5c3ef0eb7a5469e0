"""A venue is asked for a span, again where its answer is late or doubtful, further back where the stored was wrong.

What is stored decides only whether an answer is believed: see contradiction.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import polars as pl

from mm_dagster.bars import BAR, FIRST_DAY, Span, floor_bar, iso
from mm_dagster.config.markets import CandlesConfig
from mm_dagster.market import contradiction
from mm_dagster.market.candles import (
    CANDLES,
    HOLES,
    QUARANTINE,
    SEEN_BEFORE,
    VALUES,
    assemble,
    covered,
    is_quiet,
    payload,
    sift,
)
from mm_dagster.market.venue import ROWS, Answer, Venue, VenueError
from mm_dagster.tables.registry import dtypes

_LIVE = timedelta(hours=1)
"""A span that ends within this of the venue's clock is news, and its newest bar may still be on its way."""

_AROUND = timedelta(days=1)
"""How far around an answer the nearest stored bar is looked for."""

_FARTHEST = 70_000
"""Bars that are asked for again at once because what is stored proved wrong: two years."""


class Known(Protocol):
    """What was known before: answers are measured by it."""

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        """Stored candles of a span that are not MISSING, ascending."""

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        """Rows of `quarantine` of a span."""


class _Nothing:
    """Nothing was known before."""

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        return pl.DataFrame(schema=dtypes("candles"))

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        return pl.DataFrame(schema=QUARANTINE)


NOTHING: Known = _Nothing()


@dataclass(frozen=True)
class Collected:
    """What a venue had for a span.

    Attributes:
        candles: rows of `candles` without config_hash and code_version, one for every closed bar of the span.
        quarantined: rows of `quarantine`.
        error: why some of it was not answered, or is not believed, in one line; None: all was.
        asked_at: when the venue answered, by its own clock.
        holes: as of Assembled.
        kept_from: as of venue.Answer.
        note: as of venue.Answer.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame
    error: str | None
    asked_at: datetime
    holes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=HOLES))
    kept_from: datetime | None = None
    note: str | None = None


def collect(
    venue: Venue,
    symbol: str,
    span: Span,
    settings: CandlesConfig,
    wait: Callable[[float], object] = time.sleep,
    known: Known = NOTHING,
) -> Collected:
    """Asks a venue for a span and labels what it says; a few bars before it are asked for too, to judge its first ones.

    Where the newest bar just closed and neither it nor a later one is in the answer, the venue may only be slow: it is
    asked again. So it is once where a row cannot be true, or contradicts what is known. What still does is quarantined
    and not used, until the venue has said it twice; then what was known before is asked for again as far back as it
    was wrong. A span that reaches into the future ends with the last closed bar. A venue that does not tell its time
    is asked for nothing, since what is open could not be told from what is closed: all is MISSING then.

    Args:
        venue: where to ask.
        symbol: market.
        span: the bars that are wanted.
        settings: how long a hole may be carried, and how often a late bar is asked for.
        wait: sleeps for that many seconds.
        known: what is stored.

    Returns:
        Rows of the span; of more than that where what was known before it proved wrong.

    Raises:
        VenueError: the venue does not know the symbol.
    """
    try:
        now = venue.now()
    except VenueError as failure:
        now = datetime.now(UTC)
        silence = Answer(ROWS.to_frame(), (), str(failure))
        nothing = assemble(symbol, venue.name, silence, span, now, now, settings.max_no_trade)
        return Collected(nothing.candles, nothing.quarantined, silence.error, now)
    closed = Span(span.start, max(span.start, min(span.end, floor_bar(now))))
    if not closed.bars:
        return Collected(pl.DataFrame(schema=CANDLES), pl.DataFrame(schema=QUARANTINE), None, now)
    is_news = now - closed.end <= _LIVE
    answer, seen = _settled(venue, symbol, closed, settings, wait, known, is_news=is_news)
    if seen.is_stale:
        # What lies behind its last row it did not know of; nobody can say that nothing was traded there.
        end: datetime = seen.good["open_time"][-1] + BAR if seen.good.height else closed.start
        parts = (Span(part.start, min(part.end, end)) for part in answer.answered if part.start < end)
        answer = replace(answer, answered=tuple(parts))
    is_said_twice = seen.held.height > 0 and _was_said_before(venue, symbol, seen, known, is_news=is_news)
    if is_said_twice:
        seen = replace(seen, held=seen.held.clear())
    reached, answer, seen = _followed_back(
        venue, symbol, closed, answer, seen, settings, known, is_news=is_news, is_said_twice=is_said_twice
    )
    judged = reached.back(settings.max_no_trade + SEEN_BEFORE)
    # A row without a time is kept at the first bar of the span that it may be of.
    answer = replace(answer, unread=tuple((max(start, reached.start), row) for start, row in answer.unread))
    asked_at = venue.now()
    assembled = assemble(symbol, venue.name, answer, judged, now, asked_at, settings.max_no_trade, seen.held)
    inside = reached.opens()
    candles = assembled.candles.filter(inside)
    # What was not answered before the span or after it is not the caller's concern.
    error = answer.error if candles["observed_at"].has_nulls() else None
    if not seen.held.is_empty():
        error = contradiction.in_words(seen.held, venue.name, symbol)
    quarantined = assembled.quarantined.filter(inside)
    error = error or _said_of(answer, seen, quarantined, f"{venue.name}: {symbol}")
    opens = _doubtful_opens(symbol, venue.name, seen, closed, asked_at)
    return Collected(
        candles,
        pl.concat([quarantined, *opens]),
        error,
        asked_at,
        assembled.holes.filter(inside),
        answer.kept_from,
        answer.note,
    )


def _followed_back(
    venue: Venue,
    symbol: str,
    closed: Span,
    answer: Answer,
    seen: _Seen,
    settings: CandlesConfig,
    known: Known,
    *,
    is_news: bool,
    is_said_twice: bool,
) -> tuple[Span, Answer, _Seen]:
    """The span as far back as what is stored proves wrong, and the answer for all of it."""
    reached = closed
    # Where the oldest bars are other ones than stored, what lies before them may be wrong as well.
    while _goes_on_before(answer, seen, reached):
        bars = (reached.end - reached.start) // BAR
        further = Span(max(FIRST_DAY, reached.end - 2 * bars * BAR), reached.end)
        before = known.bars(symbol, Span(further.start, reached.start))["open_time"]
        if before.is_empty():
            # What is not stored cannot be wrong.
            break
        further = Span(before[0], reached.end)
        more = venue.fetch(symbol, _asked(further, settings, is_news=is_news))
        beside = _seen(more, further, settings, symbol, known)
        if more.error is not None or further == reached or (beside.held.height and not is_said_twice):
            break
        reached, answer, seen = further, more, replace(beside, held=beside.held.clear())
    return reached, answer, seen


def _doubtful_opens(
    symbol: str, venue_name: str, seen: _Seen, closed: Span, asked_at: datetime
) -> Iterator[pl.DataFrame]:
    """Of a bar in progress that is held back only the open is final: it is what the next answer must agree with."""
    doubtful = seen.good.join(seen.held, on="open_time").filter(pl.col("open_time") >= closed.end)
    for row in doubtful.iter_rows(named=True):
        opened = {name: row[name] if name == "open" else None for name in VALUES}
        noted = {"symbol": symbol, "open_time": row["open_time"], "reason": contradiction.UNSURE + row["reason"]}
        noted |= {"payload": payload(row | opened), "venue": venue_name, "observed_at": asked_at}
        yield pl.DataFrame([noted], schema=QUARANTINE)


def _said_of(answer: Answer, seen: _Seen, quarantined: pl.DataFrame, label: str) -> str | None:
    """What is wrong with an answer that came, in one line; None: nothing."""
    if quarantined.height:
        row = quarantined.row(0, named=True)
        return (
            f"{label}: it sent {quarantined.height} rows that cannot be used, the first of {iso(row['open_time'])}: "
            f"{row['reason']}; they stand in the table quarantine, and are asked for again"
        )
    if seen.is_stale and answer.error is None:
        return (
            f"{label}: its answer lacks the newest bars that are known, it is stale; it is asked again at the next tick"
        )
    return None


@dataclass(frozen=True)
class _Seen:
    """An answer beside what is stored.

    Attributes:
        good: its sound rows, ascending, of closed bars and the one in progress.
        doubtful: how many rows cannot be true.
        stored: known bars of the span and around it.
        held: `open_time` and `reason` of the rows that contradict them.
        closed: end of the last closed bar.
        is_stale: whether it ends before a bar that is known to have been traded.
    """

    good: pl.DataFrame
    doubtful: int
    stored: pl.DataFrame
    held: pl.DataFrame
    closed: datetime
    is_stale: bool = False

    @property
    def worth(self) -> tuple[int, int]:
        """Of two answers the one with less to doubt, then the one with more rows."""
        return -self.doubtful - self.held.height - self.is_stale, self.good.height


def _asked(closed: Span, settings: CandlesConfig, *, is_news: bool) -> Span:
    """What is asked for, so that closed bars can be judged; of now the one in progress, too: it proves the last."""
    judged = closed.back(settings.max_no_trade + SEEN_BEFORE)
    return Span(judged.start, closed.end + BAR) if is_news else judged


def _settled(
    venue: Venue,
    symbol: str,
    closed: Span,
    settings: CandlesConfig,
    wait: Callable[[float], object],
    known: Known,
    *,
    is_news: bool,
) -> tuple[Answer, _Seen]:
    """The answer for a span, after all that is asked a second time."""
    asked = _asked(closed, settings, is_news=is_news)
    answer = venue.fetch(symbol, asked)
    newest = Span(closed.end - BAR, asked.end)
    for _ in range(settings.late_bar_attempts - 1):
        if not is_news or not _answers_newest(answer, closed) or answer.rows.filter(newest.opens()).height:
            break
        wait(settings.late_bar_wait_seconds)
        answer = _renewed(answer, venue.fetch(symbol, newest), closed)
    seen = _seen(answer, closed, settings, symbol, known)
    if not answer.final and _is_alone(seen, known, symbol, is_news=is_news):
        seen = _checked_by_price(venue, symbol, seen)
    if not answer.final and (seen.doubtful or seen.held.height or answer.unread or seen.is_stale):
        other = venue.fetch(symbol, asked)
        again = _seen(other, closed, settings, symbol, known)
        if _is_alone(again, known, symbol, is_news=is_news):
            again = _checked_by_price(venue, symbol, again)
        if other.error is None and again.worth >= seen.worth:
            return other, again
    return answer, seen


def _seen(answer: Answer, closed: Span, settings: CandlesConfig, symbol: str, known: Known) -> _Seen:
    judged = closed.back(settings.max_no_trade + SEEN_BEFORE)
    good, bad = sift(answer.rows, Span(judged.start, closed.end + BAR))
    good, none = good.sort("open_time"), pl.DataFrame(schema={"open_time": ROWS["open_time"], "reason": pl.String()})
    if answer.final:
        # A file is what its owner says it is.
        return _Seen(good, bad.height, good.clear(), none, closed.end)
    stored = known.bars(symbol, Span(judged.start - _AROUND, closed.end + _AROUND))
    rows = said = good.filter(pl.col("open_time") < closed.end)
    if answer.has_volume:
        rows = said.filter(~is_quiet().fill_null(False))
    traded = stored.filter(pl.col("status") == "TRADED").select("open_time", "open", "close")
    quiet = said.join(rows, on="open_time", how="anti")["open_time"]
    if why := contradiction.silenced(quiet, traded.join(said, on="open_time", how="semi")):
        held = said.select("open_time", reason=pl.lit(why))
    else:
        held = contradiction.held_back(rows, traded, good.filter(pl.col("open_time") >= closed.end))
    again = traded.filter(Span(judged.start, closed.end).opens())["open_time"]
    is_stale = again.len() > 0 and (good.is_empty() or bool(good["open_time"][-1] < again[-1]))
    return _Seen(good, bad.filter(pl.col("bar") < closed.end).height, stored, held, closed.end, is_stale)


def _is_alone(seen: _Seen, known: Known, symbol: str, *, is_news: bool) -> bool:
    """Whether nothing stored vouches for an answer of now."""
    return is_news and seen.stored.is_empty() and seen.good.height > 0


def _checked_by_price(venue: Venue, symbol: str, seen: _Seen) -> _Seen:
    """With all of it held where the venue's last price is another one than the newest bar's; else as it is."""
    newest = seen.good.row(-1, named=True)
    price = venue.last_prices([symbol]).get(symbol)
    why = price is not None and contradiction.ticker_doubt(price, newest["low"], newest["high"], "its newest bar")
    if not why:
        return seen
    closed = seen.good.filter(pl.col("open_time") < seen.closed)
    return replace(seen, held=closed.select("open_time", reason=pl.lit(why)))


def _was_said_before(venue: Venue, symbol: str, seen: _Seen, known: Known, *, is_news: bool) -> bool:
    """Whether an answer that is held back was given before, and the venue's last price agrees with it."""
    held = seen.good.join(seen.held, on="open_time", how="semi")
    first, last = held["open_time"][0], held["open_time"][-1]
    since = seen.stored["observed_at"].max() if is_news else None
    noted = known.doubts(symbol, Span(first, last + BAR))
    if not contradiction.agrees(held, noted, since, venue.now()):  # type: ignore[arg-type]
        return False
    if not is_news:
        return True
    newest = held.row(-1, named=True)
    price = venue.last_prices([symbol]).get(symbol)
    return contradiction.ticker_doubt(price, newest["low"], newest["high"], "") is None


def _goes_on_before(answer: Answer, seen: _Seen, reached: Span) -> bool:
    """Whether what is stored of the oldest bars of an answer that is believed, look-back and all, is something else."""
    if answer.final or answer.error is not None or not seen.held.is_empty() or reached.bars >= _FARTHEST:
        return False
    return contradiction.walks_back(seen.good.filter(pl.col("open_time") < reached.end), seen.stored, reached.start)


def _answers_newest(answer: Answer, closed: Span) -> bool:
    return bool(covered(answer.answered, Span(closed.end - BAR, closed.end)).all())


def _renewed(answer: Answer, again: Answer, closed: Span) -> Answer:
    """The answer, with what was said of the newest bar the second time; where that failed, it is not known."""
    before = closed.end - BAR
    if _answers_newest(again, closed):
        rows = [answer.rows.filter(pl.col("open_time") < before), again.rows.filter(pl.col("open_time") >= before)]
        return replace(answer, rows=pl.concat(rows))
    answered = tuple(Span(part.start, min(part.end, before)) for part in answer.answered)
    return replace(answer, answered=tuple(part for part in answered if part.bars), error=again.error)
