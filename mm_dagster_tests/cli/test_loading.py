"""Candles that come in are seen to come: how many of how many, how fast, and how long it takes from here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from rich.console import Console

from mm_dagster.bars import BAR, Span
from mm_dagster.cli import loading
from mm_dagster.cli.loading import Loading, candles_shown
from mm_dagster.config.markets import CandlesConfig, CcxtVenue
from mm_dagster.market import progress
from mm_dagster.market.collect_each import Wanted, collect_each
from mm_dagster.market.exchange import ExchangeVenue
from mm_dagster.market.simulated import simulate
from mm_dagster_tests.kucoin import KucoinServer

END = datetime(2026, 6, 1, tzinfo=UTC)
SPAN = Span(END - 4_000 * BAR, END)


@pytest.fixture
def venue() -> Iterator[ExchangeVenue]:
    with KucoinServer({"ETH-USDT": simulate("ETH-USDT", SPAN)}, END) as server:
        settings = CcxtVenue(kind="ccxt", exchange="kucoin", api_url=server.url, requests_per_second=500)
        yield ExchangeVenue("main", settings)


def fetched(venue: ExchangeVenue) -> None:
    """Asks as a run does."""
    progress.tell().wanted(SPAN.bars)
    for _, got in collect_each([Wanted(venue, "ETH-USDT", SPAN)], CandlesConfig(late_bar_wait_seconds=0)):
        assert getattr(got, "error", got) is None


def test_every_page_counts_and_all_is_all(venue: ExchangeVenue) -> None:
    seen: list[tuple[int, int]] = []
    with progress.heard_by(Loading(lambda one: seen.append((one.done, one.total)))):
        fetched(venue)
    done = [one for one, _ in seen]
    assert {total for _, total in seen} == {SPAN.bars}
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == SPAN.bars
    assert len({one for one in done if 0 < one < SPAN.bars}) >= 2, "pages of 1,500"


def test_nobody_hears_it_afterwards(venue: ExchangeVenue) -> None:
    seen: list[int] = []
    with progress.heard_by(Loading(lambda one: seen.append(one.done))):
        pass
    fetched(venue)
    assert seen == []


def test_the_sentence_has_a_rate_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(loading.time, "monotonic", lambda: clock[0])
    one = Loading(lambda _: None)
    one.wanted(9_000)
    assert one.sentence == "candles: 0 of 9,000"
    clock[0] += 10
    one.came(3_000)
    assert one.sentence == "candles: 3,000 of 9,000, 300/s, 20 s left"
    one.finished(2_000)
    assert one.done == 3_000, "what came does not go back"
    one.came(50_000)
    assert one.sentence == "candles: 9,000 of 9,000", "pages overlap"


@pytest.mark.parametrize(("seconds", "bars", "lines"), [(0.0, 9_000, 2), (60.0, 9_000, 0), (0.0, 9, 0)])
def test_where_nobody_sees_a_bar_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, seconds: float, bars: int, lines: int
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(loading, "err", Console(file=said))
    monkeypatch.setattr(loading, "LINE_SECONDS", seconds)
    with candles_shown("tick") as step:
        progress.tell().wanted(bars)
        progress.tell().came(bars)
        step("grid_risk", 1, 10)
    assert said.getvalue().splitlines() == [f"tick: candles: {done:,} of {bars:,}" for done in (0, bars)][:lines]


def test_a_terminal_has_a_bar_that_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(loading, "err", Console(file=said, force_terminal=True, width=100, _environ={}))
    with candles_shown("ETH-USDT") as step:
        progress.tell().wanted(9_000)
        progress.tell().came(4_500)
        loading.time.sleep(0.3)
        step("grid_risk", 4, 10)
        loading.time.sleep(0.3)
    shown = said.getvalue()
    assert "candles: 4,500 of 9,000" in shown
    assert "grid risk, 5 of 10" in shown
    assert shown.endswith(("\x1b[2K", "\x1b[?25h")), "nothing is left"
