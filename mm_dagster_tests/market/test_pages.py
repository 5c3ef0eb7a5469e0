"""Pages as exchanges send them: all that they have is read, and only what they covered counts as answered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import BAR, Span
from mm_dagster.market.connection import milliseconds
from mm_dagster.market.pages import Read, Row, read

START = datetime(2026, 1, 1, tzinfo=UTC)


class Exchange:
    """Bars by number, in pages of so many rows.

    Attributes:
        limit: most rows of a page.
        newest_first: whether the newest of what was asked are sent where they are too many.
        ignores_since: whether the newest of all are sent, whatever was asked.
        ignores_until: whether rows from after the page are sent, too.
        empty: how many of the next pages are empty.
    """

    def __init__(self, bars: set[int], limit: int, **whims: bool) -> None:
        self.bars = sorted(bars)
        self.limit = limit
        self.newest_first = whims.get("newest_first", False)
        self.ignores_since = whims.get("ignores_since", False)
        self.ignores_until = whims.get("ignores_until", False)
        self.empty = 0
        self.asked: list[Span] = []

    def ask(self, page: Span) -> list[Row]:
        self.asked.append(page)
        if self.empty:
            self.empty -= 1
            return []
        first, end = ((time - START) // BAR for time in (page.start, page.end))
        if self.ignores_since:
            sent = self.bars[-self.limit :]
        else:
            sent = [bar for bar in self.bars if bar >= first and (self.ignores_until or bar < end)]
            sent = sent[-self.limit :] if self.newest_first else sent[: self.limit]
        return [[milliseconds(START + bar * BAR), 1.0, 1.0, 1.0, 1.0, 1.0] for bar in sent]


def span(first: int, end: int) -> Span:
    return Span(START + first * BAR, START + end * BAR)


def bars_of(got: Read) -> list[int]:
    return sorted({(row[0] - milliseconds(START)) // 900_000 for row in got.rows})


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("ignores_until", [False, True])
@pytest.mark.parametrize("limit", [100, 200, 300, 720, 1_500])
def test_a_page_that_holds_less_than_is_believed_loses_nothing(
    limit: int, newest_first: bool, ignores_until: bool
) -> None:
    if newest_first and ignores_until:
        pytest.skip("that is an exchange which sends its newest rows whatever is asked")
    exchange = Exchange(set(range(6_596)), limit, newest_first=newest_first, ignores_until=ignores_until)
    got = read(span(0, 6_596), 1_500, exchange.ask)
    assert bars_of(got) == list(range(6_596))
    assert got.answered == [span(0, 6_596)]
    assert len(exchange.asked) <= 6_596 // limit + 8
    assert got.whole


def test_an_exchange_that_keeps_its_newest_rows_only_says_so_once_and_is_believed() -> None:
    exchange = Exchange(set(range(6_000)), 720, ignores_since=True)
    got = read(span(0, 6_000), 720, exchange.ask)
    assert bars_of(got) == list(range(5_280, 6_000))
    assert got.kept_from == START + 5_280 * BAR
    assert len(exchange.asked) <= 4


def test_an_empty_page_is_asked_for_again_at_once() -> None:
    exchange = Exchange(set(range(3_000)), 1_500)
    exchange.empty = 1
    got = read(span(0, 3_000), 1_500, exchange.ask)
    assert bars_of(got) == list(range(3_000))
    assert len(exchange.asked) == 3


def test_a_page_that_fails_is_not_answered_and_the_next_is() -> None:
    exchange = Exchange(set(range(3_000)), 1_500)
    got = read(span(0, 3_000), 1_500, lambda page: None if page.start == START else exchange.ask(page))
    assert got.answered == [span(1_500, 3_000)]


def test_a_row_without_a_time_leaves_the_holes_of_its_page_unanswered() -> None:
    exchange = Exchange({0, 1, 3, 4}, 1_500)
    got = read(span(0, 5), 1_500, lambda page: [*exchange.ask(page), [None, "soon"]])
    assert got.answered == []
    assert bars_of(got) == [0, 1, 3, 4]
    assert got.unread == [(START, '[null, "soon"]')]


@given(
    st.sets(st.integers(0, 399), max_size=400),
    st.integers(1, 60),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_whatever_an_exchange_sends_it_ends_and_what_counts_as_answered_was_sent(
    bars: set[int], limit: int, newest_first: bool, ignores_since: bool, ignores_until: bool, empty: int
) -> None:
    exchange = Exchange(
        bars, limit, newest_first=newest_first, ignores_since=ignores_since, ignores_until=ignores_until
    )
    exchange.empty = empty
    got = read(span(0, 400), 100, exchange.ask)
    assert len(exchange.asked) <= 2 * (16 + 400 // 10) + 4
    found = set(bars_of(got))
    assert found <= bars
    if not ignores_since and not empty and limit >= 32 and not (newest_first and ignores_until):
        answered = {
            bar for part in got.answered for bar in range(*((t - START) // BAR for t in (part.start, part.end)))
        }
        assert answered & bars == found == bars
    assert all(a.end < b.start for a, b in zip(got.answered, got.answered[1:], strict=False))


def test_times_that_no_calendar_has_are_no_times() -> None:
    absurd = [[10**30, 1, 1, 1, 1, 1], [True, 1, 1, 1, 1, 1], [], "x", None, [1.5, 1, 1, 1, 1, 1]]
    got = read(span(0, 5), 1_500, lambda page: absurd)  # type: ignore[arg-type,return-value]
    assert len(got.unread) == len(absurd)
    assert got.rows == []


@pytest.mark.parametrize("stale", [40, 97, 150])
def test_the_last_row_of_a_page_that_a_cache_kept_is_the_one_of_the_next_page(stale: int) -> None:
    """It was in progress when that page was made, and nothing in it says so."""
    world = Exchange(set(range(200)), 1_500)
    sent: list[int] = []

    def ask(page: Span) -> list[Row]:
        rows = world.ask(page)
        if not sent:
            rows = rows[: stale + 1]
            rows[-1] = [rows[-1][0], 1.0, 1.0, 1.0, 1.0, 0.25]
        sent.append(len(rows))
        return rows

    got = read(span(0, 200), 1_500, ask)
    assert bars_of(got) == list(range(200))
    assert [row for row in got.rows if row[5] != 1.0] == []
    assert len(got.rows) == 200
    assert got.answered == [span(0, 200)]
    assert len(sent) <= 6
