"""Order books in the tick of twenty grids: after everything that decides, and never in its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from mm_dagster.bars import BAR, TIME, Span, iso
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Lake
from mm_dagster.market.simulated import simulate
from mm_dagster.pipeline.notify import count_due
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.defs.live import Live
from mm_dagster_tests.kucoin import BOOK, TOO_MANY_REQUESTS, Fault, KucoinServer, Request, book
from mm_dagster_tests.pushover import PushoverServer

AS_OF = datetime(2026, 2, 3, 12, tzinfo=UTC)
SYMBOLS = tuple(f"C{number:02d}-USDT" for number in range(20))


class Watchful(KucoinServer):
    """A KuCoin that looks, whenever a book is asked for, at what is committed by then.

    Attributes:
        seen: the tick that was judged by then, and how many grids at it, of each such question.
        due: how many alerts could be sent by then, at the first such question; None: there was none.
    """

    project: Callable[[], Project]
    lake: Lake
    seen: list[tuple[datetime | None, int]]
    due: int | None = None
    _is_looking = False

    def _fault(self, request: Request) -> Fault | None:
        if request.path == BOOK:
            if self.due is None:
                # What the sensor of alerts asks in a process of its own, and what that asks the exchange.
                self.due, self._is_looking = 0, True
                self.due = count_due(self.project())
                self._is_looking = False
            states = self.lake.read("exit_state", columns=["grid_id", "as_of"])
            newest = states["as_of"].max()
            self.seen.append((newest, states.filter(pl.col("as_of") == newest).height))  # type: ignore[arg-type]
        elif self._is_looking:
            return None
        return super()._fault(request)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("books")
    span = Span(AS_OF - timedelta(days=60), AS_OF + timedelta(days=1))
    candles = {symbol: simulate(symbol, span).with_columns(pl.col("open_time").cast(TIME)) for symbol in SYMBOLS}
    with Watchful(candles, AS_OF) as exchange, PushoverServer() as pushover:
        live = Live(folder, exchange, pushover, SYMBOLS)
        exchange.lake, exchange.seen = live.lake(), []
        exchange.project = lambda: Project(str(live.config_dir), str(folder / "data"))
        grids: list[dict[str, object]] = []
        for symbol, frame in candles.items():
            price = float(frame.filter(pl.col("open_time") == AS_OF)["open"][0])
            grids.append({
                "id": symbol.lower(), "symbol": symbol, "activated_at": iso(AS_OF - 8 * BAR), "lower": price * 0.9,
                "upper": price * 1.1, "levels": 10, "stop": price * 0.8, "capital": 1000,
            })  # fmt: skip
        # One that fell through its stop: it must be told at once.
        grids[0] |= {key: float(grids[0][key]) * 1.3 for key in ("lower", "upper", "stop")}  # type: ignore[arg-type]
        live.configure(grids)
        yield live


def tick(live: Live, as_of: datetime) -> dg.ExecuteInProcessResult:
    live.exchange.now = as_of + timedelta(minutes=1)
    live.exchange.requests.clear()
    live.exchange.seen.clear()  # type: ignore[attr-defined]
    live.exchange.due = None  # type: ignore[attr-defined]
    config = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}}
    return live.run("tick", partition_key=partition_of(as_of), run_config=config)


def check(done: dg.ExecuteInProcessResult) -> tuple[bool, dg.AssetCheckSeverity, str]:
    (found,) = [one for one in done.get_asset_check_evaluations() if one.check_name == "books_are_read"]
    return found.passed, found.severity, found.description or ""


@pytest.mark.slow
def test_every_state_is_committed_before_the_first_book_is_asked_for(live: Live) -> None:
    done = tick(live, AS_OF)
    assert done.success
    asked = [request.path for request in live.exchange.requests]
    assert asked.count(BOOK) == 20
    # Nothing else is asked for from then on, and all that decides stands in the lake.
    assert asked[asked.index(BOOK) :] == [BOOK] * 20
    assert live.exchange.seen == [(AS_OF, 20)] * 20  # type: ignore[attr-defined]
    ended = [event.step_key for event in done.all_events if event.is_step_success]
    assert ended[-2:] == ["book_snapshot", "exit_cost"]
    assert ended.index("exit_state") < ended.index("snapshot") < ended.index("book_snapshot")
    commits = live.lake().snapshots().filter(pl.col("commit_message").is_not_null()).sort("snapshot_id")
    order = [str(message).split(maxsplit=1)[0].rstrip(":") for message in commits["commit_message"]]
    assert max(i for i, name in enumerate(order) if name == "exit_state") < order.index("book_snapshot")
    assert check(done) == (True, dg.AssetCheckSeverity.WARN, "20 order books read.")
    rows = live.lake().read("book_snapshot")
    assert rows["symbol"].to_list() == list(SYMBOLS)
    assert rows["mid"].null_count() == 0
    # The tick was over before them: its row says when.
    (row,) = live.lake().read("tick").to_dicts()
    assert row["finished_at"] is not None
    # And what is urgent could be sent before the first of them.
    assert live.exchange.due  # type: ignore[attr-defined]


@pytest.mark.long
def test_refusals_and_faults_of_books_change_no_state_and_end_no_tick(live: Live) -> None:
    torn, crossed = '{"code":"200000","data":{"bids":[["1', book(1.0, 0)
    crossed["bids"], crossed["asks"] = crossed["asks"], crossed["bids"]
    body = str({"code": "200000", "data": crossed}).replace("'", '"')
    live.exchange.faults = [
        Fault(200, torn, BOOK),
        Fault(200, body, BOOK),
        Fault(200, body, BOOK, stall_seconds=60),
        Fault(TOO_MANY_REQUESTS.status, TOO_MANY_REQUESTS.body, BOOK),
    ]
    as_of = AS_OF + BAR
    done = tick(live, as_of)
    assert done.success
    assert {judged for judged, _ in live.exchange.seen} == {as_of}  # type: ignore[attr-defined]
    states = live.lake().read("exit_state").filter(pl.col("as_of") == as_of)
    assert states.height == 20
    assert states["state"].null_count() == 0
    # Of the one below its stop that is said, of the others nothing.
    (reason,) = states["live_reason"].drop_nulls()
    assert "at or below" in reason
    rows = live.lake().read("book_snapshot").filter(pl.col("as_of") == as_of)
    assert rows.height == 20
    refused = "; ".join(rows["refused"].drop_nulls())
    for said in ("an answer without content", "it is crossed", "no answer within 5 s", "too many requests (HTTP 429)"):
        assert said in refused
    passed, severity, sentence = check(done)
    assert (passed, severity) == (False, dg.AssetCheckSeverity.WARN)
    assert sentence == refused
    # The candles of the next tick are asked for as ever.
    assert tick(live, as_of + BAR).success
    ticks = live.lake().read("tick")
    assert ticks["as_of"].to_list()[-2:] == [as_of, as_of + BAR]
    assert set(ticks["symbols_failed"].list.len()) == {0}


@pytest.mark.long
def test_a_backfill_asks_for_no_book(live: Live) -> None:
    live.exchange.requests.clear()
    before = live.lake().read("book_snapshot")
    live.backfill("2026-02-03", "2026-02-03")
    assert live.exchange.count(BOOK) == 0
    assert live.lake().read("book_snapshot").equals(before)
