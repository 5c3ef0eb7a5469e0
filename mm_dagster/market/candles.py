"""Answers become bars: exactly one row for every closed interval, labelled with what is known of it.

TRADED: the venue sent it. NO_TRADE: the venue answered and had none, for the first bars of a hole; a bar without volume
at the close before is no trade either. MISSING: everything else. A label is a function of the venue's answers for the
bar and the few before it, never of what is stored, so that a backfill in one go, by month or by tick gives the same
rows. What is stored decides only whether an answer is believed: see contradiction.py.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, FIRST_DAY, Span, floor_bar, iso
from mm_dagster.config.markets import CandlesConfig
from mm_dagster.market import contradiction
from mm_dagster.market.venue import ROWS, Answer, Venue, VenueError
from mm_dagster.tables.registry import dtypes

logger = logging.getLogger("mm_dagster")

_PRICES = ("open", "high", "low", "close")
_VALUES = (*_PRICES, "volume")
_CANDLES = {k: v for k, v in dtypes("candles").items() if k not in ("config_hash", "code_version", "source")}
_QUARANTINE = {k: v for k, v in dtypes("quarantine").items() if k != "source"}
_LIVE = timedelta(hours=1)
"""A span that ends within this of the venue's clock is news, and its newest bar may still be on its way."""
_AROUND = timedelta(days=1)
"""How far around an answer the nearest stored bar is looked for."""
_FARTHEST = 70_000
"""Bars that are asked for again at once because what is stored proved wrong: two years."""
_HOLES = {"open_time": ROWS["open_time"], "between": pl.Boolean()}


class Known(Protocol):
    """What was known before: answers are measured by it."""

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        """Stored candles of a span that are not MISSING, ascending."""

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        """Rows of tables.Quarantine of a span."""


class _Nothing:
    """Nothing was known before."""

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        return pl.DataFrame(schema=dtypes("candles"))

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        return pl.DataFrame(schema=_QUARANTINE)


NOTHING: Known = _Nothing()


@dataclass(frozen=True)
class Assembled:
    """One answer as rows of the tables.

    Attributes:
        candles: rows of tables.Candles without config_hash and code_version, one for every closed bar.
        quarantined: rows of tables.Quarantine.
        holes: `open_time` of the bars that were answered without a row that can be used, and `between`: whether there
            is one before and one after it.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame
    holes: pl.DataFrame


@dataclass(frozen=True)
class Collected:
    """What a venue had for a span.

    Attributes:
        candles: rows of tables.Candles without config_hash and code_version, one for every closed bar of the span.
        quarantined: rows of tables.Quarantine.
        error: why some of it was not answered, or is not believed, in one line; None: all was.
        asked_at: when the venue answered, by its own clock.
        holes: as of Assembled.
        kept_from: as of venue.Answer.
    """

    candles: pl.DataFrame
    quarantined: pl.DataFrame
    error: str | None
    asked_at: datetime
    holes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_HOLES))
    kept_from: datetime | None = None


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
    quiet = bars.select(_is_quiet()).to_series().fill_null(False).to_numpy() & answer.has_volume
    traded = sent & ~quiet
    refused = bars["open_time"].is_in(bad["bar"].unique().to_list()).to_numpy()
    asked = _covered(answer.answered, closed)
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
    payloads = pl.Series([_payload(row) for row in bad.iter_rows(named=True)], dtype=pl.String)
    quarantined = pl.concat(
        [
            bad.select(open_time="bar", reason="reason", payload=payloads),
            _unread(answer.unread, closed),
        ]
    ).with_columns(symbol=pl.lit(symbol), venue=pl.lit(venue_name), observed_at=pl.lit(observed_at))
    return Assembled(
        candles.select(pl.col(name).cast(dtype) for name, dtype in _CANDLES.items()),
        quarantined.select(pl.col(name).cast(dtype) for name, dtype in _QUARANTINE.items()).sort(list(_QUARANTINE)),
        holes,
    )


def _is_quiet() -> pl.Expr:
    """Whether nobody traded in a bar that was sent: no volume, and every price is the close before."""
    before = pl.col("close").forward_fill().shift(1)
    return (pl.col("volume") == 0) & pl.all_horizontal(pl.col(name) == before for name in _PRICES)


def _unread(rows: Sequence[tuple[datetime, str]], span: Span) -> pl.DataFrame:
    """Rows that have no time, by the first bar of their page."""
    inside = [(max(start, span.start), "the row cannot be read", payload) for start, payload in rows]
    schema = {name: _QUARANTINE[name] for name in ("open_time", "reason", "payload")}
    return pl.DataFrame([row for row in inside if row[0] < span.end], schema=schema, orient="row").unique(
        maintain_order=True
    )


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
        return Collected(pl.DataFrame(schema=_CANDLES), pl.DataFrame(schema=_QUARANTINE), None, now)
    is_news = now - closed.end <= _LIVE
    answer, seen = _settled(venue, symbol, closed, settings, wait, known, is_news=is_news)
    if seen.is_stale:
        # What lies behind its last row it did not know of; nobody can say that nothing was traded there.
        end: datetime = seen.good["open_time"][-1] + BAR if seen.good.height else closed.start
        parts = (Span(part.start, min(part.end, end)) for part in answer.answered if part.start < end)
        answer = replace(answer, answered=tuple(parts))
    is_told_twice = seen.held.height > 0 and _was_said_before(venue, symbol, seen, known, is_news=is_news)
    if is_told_twice:
        seen = replace(seen, held=seen.held.clear())
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
        if more.error is not None or further == reached or (beside.held.height and not is_told_twice):
            break
        reached, answer, seen = further, more, replace(beside, held=beside.held.clear())
    judged = reached.back(settings.max_no_trade + 2)
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
    error = error or _said_of(answer, seen, assembled.quarantined.filter(inside), f"{venue.name}: {symbol}")
    quarantined = assembled.quarantined.filter(inside)
    doubtful = seen.good.join(seen.held, on="open_time").filter(pl.col("open_time") >= closed.end)
    for row in doubtful.iter_rows(named=True):
        # Of the bar in progress only the open is final: it is what the next answer must agree with.
        opened = {name: row[name] if name == "open" else None for name in _VALUES}
        noted = {"symbol": symbol, "open_time": row["open_time"], "reason": contradiction.UNSURE + row["reason"]}
        noted |= {"payload": _payload(row | opened), "venue": venue.name, "observed_at": asked_at}
        quarantined = pl.concat([quarantined, pl.DataFrame([noted], schema=_QUARANTINE)])
    return Collected(
        candles,
        quarantined,
        error,
        asked_at,
        assembled.holes.filter(inside),
        answer.kept_from,
    )


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
    judged = closed.back(settings.max_no_trade + 2)
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
    judged = closed.back(settings.max_no_trade + 2)
    good, bad = sift(answer.rows, Span(judged.start, closed.end + BAR))
    good, none = good.sort("open_time"), pl.DataFrame(schema={"open_time": ROWS["open_time"], "reason": pl.String()})
    if answer.final:
        # A file is what its owner says it is.
        return _Seen(good, bad.height, good.clear(), none, closed.end)
    stored = known.bars(symbol, Span(judged.start - _AROUND, closed.end + _AROUND))
    rows = said = good.filter(pl.col("open_time") < closed.end)
    if answer.has_volume:
        rows = said.filter(~_is_quiet().fill_null(False))
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


@dataclass(frozen=True)
class Wanted:
    """One thing to ask a venue for, and what is known already."""

    venue: Venue
    symbol: str
    span: Span
    known: Known = NOTHING


class _Task:
    """One thing that a worker is to do, and what came of it: an answer, or whatever else happened."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.begun_at: float | None = None
        self._outcome: queue.SimpleQueue[Collected | BaseException] = queue.SimpleQueue()

    def do(self, settings: CandlesConfig, wait: Callable[[float], object]) -> None:
        """Whatever ends a worker reaches who waits for it: a panic of a library is no Exception."""
        self.begun_at = time.monotonic()
        one = self.wanted
        try:
            self._outcome.put(collect(one.venue, one.symbol, one.span, settings, wait, one.known))
        except BaseException as error:
            self._outcome.put(error)

    def outcome(self, seconds: float) -> Collected | BaseException | None:
        """What came of it; None: it was begun so many seconds ago, and nothing did."""
        while True:
            begun = self.begun_at
            left = _LOOK if begun is None else begun + seconds - time.monotonic()
            if left <= 0:
                return None
            try:
                return self._outcome.get(timeout=min(left, _LOOK))
            except queue.Empty:
                continue


_LOOK = 0.5
"""Seconds after which it is looked at whether a worker has begun, or is overdue."""


def collect_each(
    wanted: Sequence[Wanted], settings: CandlesConfig
) -> Generator[tuple[Wanted, Collected | VenueError], None, None]:
    """Asks for many spans, `at_once` at the same time, and says what came of each in the order in which they are given.

    It runs ahead of who takes the answers by twice that many, so that memory is bounded. When it is closed, or its
    process ends, what is under way is abandoned. Whatever happens to one, the others go on: a worker that dies is a
    line of its market, and so is one that hangs, which another takes the place of.

    Args:
        wanted: what to ask for, the first first.
        settings: as for `collect`, how many to ask for at the same time, and how long one may take.

    Yields:
        What was wanted, and what the venue had, or why there is nothing: it does not know the symbol, say.
    """
    tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    under_way: deque[_Task] = deque()
    abandoned = threading.Event()

    def work() -> None:
        while (task := tasks.get()) is not None and not abandoned.is_set():
            task.do(settings, abandoned.wait)

    def start() -> None:
        # Not those of concurrent.futures: the interpreter would wait for them after Ctrl-C. They only ask, so that
        # nothing is lost with them.
        threading.Thread(target=work, name="candles", daemon=True).start()

    def ask(one: Wanted) -> None:
        under_way.append(_Task(one))
        tasks.put(under_way[-1])

    workers = min(settings.at_once, len(wanted))
    for _ in range(workers):
        start()
    try:
        for one in wanted[: 2 * workers]:
            ask(one)
        for number, one in enumerate(wanted):
            found = under_way[0].outcome(settings.deadline_seconds)
            under_way.popleft()
            if number + 2 * workers < len(wanted):
                ask(wanted[number + 2 * workers])
            if found is None:
                workers += 1
                start()
            yield one, _foreseen(one, found, settings)
    finally:
        abandoned.set()
        for _ in range(workers):
            tasks.put(None)


def _foreseen(one: Wanted, found: Collected | BaseException | None, settings: CandlesConfig) -> Collected | VenueError:
    """What came of a question, as one of two things."""
    if found is None:
        return VenueError(
            f"{one.venue.name}: {one.symbol}: no answer within {settings.deadline_seconds:g} s; it is left alone until "
            "the next time"
        )
    if isinstance(found, Collected | VenueError):
        return found
    said = " ".join(str(found).split())[:200]
    logger.error("%s: %s", one.symbol, said, exc_info=found)
    return VenueError(
        f"{one.venue.name}: {one.symbol}: what it sent cannot be worked with ({type(found).__name__}"
        f"{f': {said}' if said else ''}); nothing of it is used"
    )


def sift(rows: pl.DataFrame, span: Span) -> tuple[pl.DataFrame, pl.DataFrame]:
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
        return replace(answer, rows=pl.concat(rows))
    answered = tuple(Span(part.start, min(part.end, before)) for part in answer.answered)
    return replace(answer, answered=tuple(part for part in answered if part.bars), error=again.error)
