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
    return _Reading(span, believed, ask).to_the_end()


class _Page:
    """What was sent for a span that was asked for by one request.

    Attributes:
        span: what was asked for.
        rows: those with a time, each with when its candle opens.
        unread: those without.
        inside: when the candles open that were asked for.
        news: those of them that were not there in the page before.
        is_before: whether some open before the span.
        is_after: whether some open after it.
    """

    def __init__(self, span: Span, sent: list[Row], *, overlaps: bool) -> None:
        """
        Args:
            span: what was asked for.
            sent: what came.
            overlaps: whether its first bar was there in the page before.
        """
        self.span = span
        self.rows = [(time, row) for row in sent if (time := opened(row)) is not None]
        self.unread = [row for row in sent if opened(row) is None]
        self.inside = [time for time, _ in self.rows if span.start <= time < span.end]
        self.news = [time for time in self.inside if not overlaps or floor_bar(time) != span.start]
        self.is_before = any(time < span.start for time, _ in self.rows)
        self.is_after = any(time >= span.end for time, _ in self.rows)


class _Reading:
    """A span that is being read."""

    def __init__(self, span: Span, believed: int, ask: Callable[[Span], list[Row] | None]) -> None:
        self._ask = ask
        self._believed = believed
        self._end = span.end
        self._got = Read()
        self._todo = deque([span])
        self._size = believed
        self._requests_left = 16 + span.bars // 10
        self._first: datetime | None = None
        """When the first candle of all opens that came."""
        self._again: set[datetime] = set()
        """Bars that were the last of a page, and are asked for once more."""

    def to_the_end(self) -> Read:
        """All that the exchange sends of it, or as much as few enough requests bring."""
        while self._todo:
            part = self._todo.popleft()
            if not part.bars:
                continue
            if self._requests_left <= 0:
                self._got.whole = False
                break
            span = Span(part.start, min(part.end, part.start + self._size * BAR))
            rest = Span(span.end, part.end)
            page = self._page(span)
            if page is None:
                self._todo.appendleft(rest)
                continue
            self._got.unread += [(span.start, json.dumps(row, default=str)[:_LONGEST_PAYLOAD]) for row in page.unread]
            if page.inside and span.start in self._again:
                self._replace_first_bar(page)
            if page.news:
                self._take(page, part.end)
            else:
                self._go_past(page, rest)
        self._got.answered = _joined(self._got.answered)
        return self._got

    def _page(self, span: Span) -> _Page | None:
        """The answer for one page; a whole one without news may be a fault, and is worth a second question."""
        page = self._asked(span)
        if page is not None and span.bars > NEVER_CUT and not page.news:
            page = self._asked(span)
        return page

    def _asked(self, span: Span) -> _Page | None:
        self._requests_left -= 1
        sent = self._ask(span)
        return None if sent is None else _Page(span, sent, overlaps=span.start in self._again)

    def _replace_first_bar(self, page: _Page) -> None:
        """Of two answers for one bar the newer one counts."""
        start = page.span.start
        self._got.rows = [row for row in self._got.rows if floor_bar(opened(row)) != start]  # type: ignore[arg-type]
        self._got.rows += [row for time, row in page.rows if floor_bar(time) == start]

    def _take(self, page: _Page, end_of_part: datetime) -> None:
        """Takes the rows of a page, and notes what of it was answered and what is to be asked for next."""
        span, inside = page.span, page.inside
        self._got.rows += [row for time, row in page.rows if time in page.news]
        is_small = span.bars <= NEVER_CUT
        self._first = min(self._first or min(inside), *inside)
        # Rows that nobody asked for betray an exchange which sends its newest ones, whatever is asked.
        start = span.start if page.is_before or (is_small and not page.is_after) else floor_bar(min(inside))
        last = floor_bar(max(inside)) + BAR
        # The last bar of all is mostly the one in progress, in which nobody may have traded yet.
        end = span.end if is_small or page.is_after or last == self._end - BAR else last
        # A row that cannot be read may be any of those that are missing.
        self._got.answered += [Span(start, end)] if not page.unread else []
        if 2 * len(set(inside)) <= span.bars:
            self._size = max(NEVER_CUT, len(set(inside)))
        if end == last < span.end:
            self._again.add(last - BAR)
            end = last - BAR
        self._todo.appendleft(Span(end, end_of_part))
        self._todo.appendleft(Span(span.start, start))

    def _go_past(self, page: _Page, rest: Span) -> None:
        """Nothing new came of a page: there is none of it, or the exchange keeps none so old."""
        self._size = self._believed
        if page.is_after and not page.is_before and (self._first is None or self._first >= page.span.end):
            self._start_where_it_begins(page, rest)
            return
        if not page.unread:
            self._got.answered.append(page.span)
        self._todo.appendleft(rest)

    def _start_where_it_begins(self, page: _Page, rest: Span) -> None:
        """Only newer rows came: the exchange keeps none of the page. It must show that twice to be believed for good.

        The bars just before the oldest row that it sent show whether it does.
        """
        oldest = ceil_bar(min(time for time, _ in page.rows))
        before = Span(max(page.span.start, oldest - self._size * BAR), oldest)
        self._requests_left -= 1
        times = [time for row in self._ask(before) or [] if (time := opened(row)) is not None]
        if any(time < before.end for time in times):
            # The first answer was a fault: nothing is known of the page.
            self._todo.appendleft(rest)
            return
        if times:
            self._got.kept_from = oldest
        spans = [rest, *self._todo]
        end = min(oldest, max(page.span.end, *(span.end for span in spans)))
        self._got.answered.append(Span(page.span.start, end))
        self._todo = deque(Span(max(span.start, oldest), span.end) for span in spans if span.end > oldest)


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
