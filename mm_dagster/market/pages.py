"""How a span is read page by page, whatever an exchange takes for a page, and what of it was answered.

Exchanges send fewer rows than ccxt believes, the oldest or the newest of what was asked, rows from outside of it, or
nothing. So an interval counts as answered only between the first row of a page and its last, or where it was asked for
by itself; the next page starts from the last row received, which it must hold again, since the last row of a page that
some cache kept was in progress when that was made; and it always ends.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mm_dagster.bars import BAR, EPOCH, Span, ceil_bar, floor_bar

NEVER_CUT = 32
"""Bars that every exchange sends in one page: what is missing of so few is not sent because there is none."""
_LONGEST_PAYLOAD = 300

Row = list[Any]


@dataclass
class Read:
    """What came of a span.

    Attributes:
        rows: as ccxt gives them, of bars inside the span.
        answered: as of venue.Answer.
        unread: rows without a time, as JSON, each with the first bar of its page.
        kept_from: the first bar that the exchange keeps, if it showed that it keeps none before.
        whole: false: it was given up, since the pages hold too little.
    """

    rows: list[Row] = field(default_factory=list)
    answered: list[Span] = field(default_factory=list)
    unread: list[tuple[datetime, str]] = field(default_factory=list)
    kept_from: datetime | None = None
    whole: bool = True


def read(span: Span, believed: int, ask: Callable[[Span], list[Row] | None]) -> Read:
    """Asks for a span, piece by piece.

    Args:
        span: what is wanted.
        believed: how many rows a page is said to hold.
        ask: sends one request for a page; None: it was not answered, which the caller has noted.
    """
    got = Read()
    todo = deque([span])
    size = believed
    left = 16 + span.bars // 10
    first: datetime | None = None
    again: set[datetime] = set()
    while todo:
        part = todo.popleft()
        if not part.bars:
            continue
        if left <= 0:
            got.whole = False
            break
        page = Span(part.start, min(part.end, part.start + size * BAR))
        rest = Span(page.end, part.end)
        sent = ask(page)
        left -= 1
        if sent is not None and page.bars > NEVER_CUT and not _news(sent, page, again):
            # Of a whole page that may be a fault; it is worth a second question.
            sent = ask(page)
            left -= 1
        if sent is None:
            todo.appendleft(rest)
            continue
        times = [time for row in sent if (time := opened(row)) is not None]
        inside = [time for time in times if page.start <= time < page.end]
        news = _news(sent, page, again)
        unread = [row for row in sent if opened(row) is None]
        got.unread += [(page.start, json.dumps(row, default=str)[:_LONGEST_PAYLOAD]) for row in unread]
        is_before, is_after = any(time < page.start for time in times), any(time >= page.end for time in times)
        if inside and page.start in again:
            # The newer answer of the two counts.
            got.rows = [row for row in got.rows if floor_bar(opened(row)) != page.start]  # type: ignore[arg-type]
            got.rows += [row for row in sent if (time := opened(row)) is not None and floor_bar(time) == page.start]
        if not news:
            size = believed
            if is_after and not is_before and (first is None or first >= page.end):
                left -= 1
                _start_where_it_begins(got, page, ceil_bar(min(times)), size, ask, todo, rest)
                continue
            if not unread:
                got.answered.append(page)
            todo.appendleft(rest)
            continue
        got.rows += [row for row in sent if opened(row) in news]
        is_small = page.bars <= NEVER_CUT
        first = min(first or min(inside), *inside)
        # Rows that nobody asked for betray an exchange which sends its newest ones, whatever is asked.
        start = page.start if is_before or (is_small and not is_after) else floor_bar(min(inside))
        last = floor_bar(max(inside)) + BAR
        # The last bar of all is mostly the one in progress, in which nobody may have traded yet.
        end = page.end if is_small or is_after or last == span.end - BAR else last
        # A row that cannot be read may be any of those that are missing.
        got.answered += [Span(start, end)] if not unread else []
        if 2 * len(set(inside)) <= page.bars:
            size = max(NEVER_CUT, len(set(inside)))
        if end == last < page.end:
            again.add(last - BAR)
            end = last - BAR
        todo.appendleft(Span(end, part.end))
        todo.appendleft(Span(page.start, start))
    got.answered = _joined(got.answered)
    return got


def _news(sent: list[Row], page: Span, again: set[datetime]) -> list[datetime]:
    """When the candles of a page open that were not there in the page before it."""
    times = [time for row in sent if (time := opened(row)) is not None and page.start <= time < page.end]
    return [time for time in times if page.start not in again or floor_bar(time) != page.start]


def _start_where_it_begins(
    got: Read,
    page: Span,
    oldest: datetime,
    size: int,
    ask: Callable[[Span], list[Row] | None],
    todo: deque[Span],
    rest: Span,
) -> None:
    """Only newer rows came: the exchange keeps none of the page. It must show that twice to be believed for good."""
    before = Span(max(page.start, oldest - size * BAR), oldest)
    again = ask(before) or []
    times = [time for row in again if (time := opened(row)) is not None]
    if any(time < before.end for time in times):
        # The first answer was a fault: nothing is known of the page.
        todo.appendleft(rest)
        return
    if times:
        got.kept_from = oldest
    spans = [rest, *todo]
    got.answered.append(Span(page.start, min(oldest, max(page.end, *(span.end for span in spans)))))
    todo.clear()
    todo.extend(Span(max(span.start, oldest), span.end) for span in spans if span.end > oldest)


def opened(row: Any) -> datetime | None:
    """When the candle of a row opens; None where that cannot be read."""
    time = row[0] if isinstance(row, list) and len(row) >= 6 else None
    if not isinstance(time, int) or isinstance(time, bool):
        return None
    try:
        return EPOCH + timedelta(milliseconds=time)
    except OverflowError:
        return None


def _joined(spans: list[Span]) -> list[Span]:
    """The same bars as ascending spans, with those joined that touch and those left out that are empty."""
    joined: list[Span] = []
    for span in sorted((span for span in spans if span.bars), key=lambda span: span.start):
        if joined and joined[-1].end >= span.start:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined
