"""The whole recorder in process, against venues on loopback: its books are the truth, and its log gives them again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.books.follow import Follower
from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Gap
from mm_dagster.recorder import market as market_module
from mm_dagster.recorder.frames import Kind
from mm_dagster.recorder.line import Pace
from mm_dagster.recorder.log import Lost, files, quarter_of
from mm_dagster.recorder.market import Recorded
from mm_dagster.recorder.places import PlaceError, alone, place_of
from mm_dagster.recorder.retention import DAY_NS
from mm_dagster.recorder.seal import seal, unsealed
from mm_dagster.recorder.service import Service, World
from mm_dagster.recorder.status import Status, read_book, read_status
from mm_dagster_tests.recorder import venues as venues_module
from mm_dagster_tests.recorder.logs import replay
from mm_dagster_tests.recorder.trials import PACE, VENUES, Clock, config_of, replayed, several
from mm_dagster_tests.recorder.venues import Faults, Loopback

SYMBOLS = ("ETH-USDT",)
SURE = Pace(**vars(PACE) | {"silence": 30.0, "patience": 10.0})
"""Where a connection must not be given up because this computer has other things to do."""


@pytest.fixture(autouse=True)
def aiohttp_says_nothing() -> None:
    """The venues' own server complains of connections that the venues abort."""
    logging.getLogger("aiohttp.server").disabled = True


@dataclass
class Running:
    """A recorder that runs, and the venues that it records."""

    service: Service
    venues: dict[str, Loopback]
    root: Path
    stop: asyncio.Event

    def market(self, exchange: str, symbol: str = "ETH-USDT") -> Recorded:
        found = {(one.market.exchange, one.market.symbol): one for one in self.service.markets()}
        return found[exchange, symbol]

    async def until(self, is_so: Callable[[], bool], seconds: float = 30.0) -> None:
        """Lets the venues go on until something is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.gather(*(venue.go_on(0.05, 60) for venue in self.venues.values()))
            with contextlib.suppress(KeyError):  # one has not begun yet
                if is_so():
                    return
        raise AssertionError(self.service.status())

    async def in_sync(self, *exchanges: str) -> None:
        await self.until(lambda: all(self.market(one).is_settled for one in exchanges or self.venues))


@asynccontextmanager
async def running(
    root: Path, exchanges: tuple[str, ...] = ("kucoin", "binance"), *, symbols: tuple[str, ...] = SYMBOLS,
    asked: tuple[str, ...] | None = None, faults: Faults | None = None, pace: Pace = SURE, speed: float = 1.0,
    clock: Clock | None = None, free: Callable[[Path], int] = lambda path: 10**12,
    say: Callable[[Status], None] = lambda status: None, price_increment: str = "0.01", **more: Any,
) -> AsyncIterator[Running]:  # fmt: skip
    clock = clock or Clock(speed)
    venues = {
        one: await Loopback(one, symbols, 3, faults=faults, clock_ms=clock.milliseconds).begin() for one in exchanges
    }
    for venue in venues.values():
        venue.price_increment = price_increment
    config = config_of(venues, asked or symbols, **more)
    service = Service(config, root, World(clock, pace=pace, free_bytes=free))
    stop = asyncio.Event()
    task = asyncio.create_task(service.run(stop, say))
    try:
        yield Running(service, venues, root, stop)
    finally:
        stop.set()
        await task
        for venue in venues.values():
            await venue.end()


# trials ---------------------------------------------------------------------------------------------------------------


def _hold(trials: range, **more: Any) -> Counter:
    counts: Counter = Counter()
    for seed, result in asyncio.run(several(trials, **more)):
        assert not result.faults, (seed, result.faults)
        counts.update(result.counts)
        counts["replayed"] += result.replayed
    return counts


def test_every_book_is_the_truth_and_each_loss_is_told() -> None:
    counts = _hold(range(3), seconds=1.0)
    # That they were hard, and that there was something to look at.
    assert counts["synced"] > 300
    assert counts["gaps"] > 20
    assert counts["replayed"] == counts["messages"] > 400


@pytest.mark.long
def test_hundreds_of_trials_of_four_venues() -> None:
    counts = _hold(range(1000, 1100), seconds=2.5)
    print(dict(sorted(counts.items())))
    assert not [name for name, count in counts.items() if name.startswith("fault") and count < 20], counts
    reasons = {"DISCONNECTED", "RECONNECTED", "MISSED", "STALE_SNAPSHOT", "SNAPSHOT_FAILED", "UNREADABLE", "CHECKSUM"}
    assert not [reason for reason in reasons if counts[f"reason {reason}"] < 20], counts


def test_behind_a_good_line_nothing_is_lost_and_a_quarter_hour_gets_a_file(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path, VENUES, speed=1500.0) as it:
            await it.until(lambda: all(it.market(one).status().written > 120 for one in VENUES))
            sent = sum(venue.sent for venue in it.venues.values())
            await it.until(lambda: True)
            heard = sum(it.market(one).status().written for one in VENUES)
            assert heard >= sent  # answers and connects are kept, too
            status = it.service.status()
            assert [one.gaps for one in status.markets] == [1, 1, 1, 1]
            assert [one.lost for one in status.markets] == [0, 0, 0, 0]

    asyncio.run(body())
    for exchange in VENUES:
        frames, ends = replay(place_of(tmp_path, exchange, "ETH-USDT").log)
        assert len(ends) > 2
        assert {end.reason for end in ends} == {"CLOSED"}
        assert [frame.stream for frame in frames if frame.kind is Kind.CHECKPOINT][1:] == ["rotated"] * (len(ends) - 1)
        _, gaps, records = replayed(place_of(tmp_path, exchange, "ETH-USDT").log)
        assert [gap.reasons[0] for gap in gaps] == ["START"]
        assert records == sum(frame.kind is Kind.RECORD for frame in frames)


# connections ----------------------------------------------------------------------------------------------------------


def test_binance_is_opened_again_before_it_ends_and_no_book_notices(tmp_path: Path) -> None:
    async def body() -> None:
        pace = Pace(**vars(SURE) | {"lifetime": 0.3})
        async with running(tmp_path, ("binance", "binance_usdm"), pace=pace) as it:
            await it.until(lambda: all(len(venue.connects) >= 5 for venue in it.venues.values()))
            status = it.service.status()
            assert [one.gaps for one in status.markets] == [1, 1]
            assert all(one.reconnects >= 3 for one in status.markets)
            assert all(1 <= len(it.market(one).connections) <= 2 for one in it.venues)

    asyncio.run(body())
    frames, _ = replay(place_of(tmp_path, "binance", "ETH-USDT").log)
    lines = [frame.stream for frame in frames if "CONNECTED" in frame.stream]
    assert lines[:5] == ["CONNECTED 1", "CONNECTED 2", "DISCONNECTED 1", "CONNECTED 3", "DISCONNECTED 2"]


def test_a_connection_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path, VENUES, pace=Pace(**vars(SURE) | {"silence": 2.0})) as it:
            await it.in_sync()
            for venue in it.venues.values():
                for connection in venue._connections:
                    connection.is_silent = True
            await it.until(lambda: all(it.market(one).status().reconnects >= 1 for one in VENUES))
            await it.in_sync()

    asyncio.run(body())
    for exchange in VENUES:
        frames, _ = replay(place_of(tmp_path, exchange, "ETH-USDT").log)
        ended = {frame.payload for frame in frames if frame.stream.startswith("DISCONNECTED")}
        assert b"nothing came for 2 s" in ended


@pytest.mark.parametrize("fault", ["handshake", "greeting", "unconfirmed"])
def test_a_venue_that_lets_nobody_in_is_asked_more_and_more_seldom(tmp_path: Path, fault: str) -> None:
    async def body() -> tuple[list[float], Status]:
        pace = Pace(**vars(PACE) | {"first_pause": 0.1, "most_pause": 60.0, "calm": 600.0, "patience": 0.1})
        async with running(tmp_path, ("kucoin", "binance"), pace=pace) as it:
            it.venues["kucoin"].faults = Faults(**{fault: 1.0})
            await it.in_sync("binance")
            await it.until(lambda: len(it.venues["kucoin"].connects) >= 2)
            end = time.monotonic() + 2.0
            await it.until(lambda: time.monotonic() > end)
            return it.venues["kucoin"].connects, it.service.status()

    connects, status = asyncio.run(body())
    assert 2 <= len(connects) <= 12
    assert status.markets[0].phase in ("DISCONNECTED", "BUFFERING")
    # Without a confirmation it is connected for a while each time.
    assert fault == "unconfirmed" or str(status.markets[0].problem).startswith("kucoin: ")
    assert (status.markets[1].phase, status.markets[1].problem) == ("IN_SYNC", None)


def test_a_venue_that_never_gives_a_book_is_not_hammered(tmp_path: Path) -> None:
    async def body() -> tuple[int, Status]:
        pace = Pace(**vars(SURE) | {"first_pause": 0.1, "most_pause": 60.0, "calm": 600.0})
        async with running(tmp_path, pace=pace) as it:
            await it.in_sync()
            it.venues["kucoin"].faults = Faults(failed=1.0)
            before = len(it.venues["kucoin"].requests)
            for connection in list(it.venues["kucoin"]._connections):
                connection.put("nonsense")
            await it.until(lambda: not it.market("kucoin").is_settled)
            end = time.monotonic() + 3.0
            await it.until(lambda: time.monotonic() > end)
            return len(it.venues["kucoin"].requests) - before, it.service.status()

    asked, status = asyncio.run(body())
    assert 1 <= asked <= 15
    assert "SNAPSHOT_FAILED" in status.markets[0].reasons
    assert status.markets[1].phase == "IN_SYNC"


def test_a_refusal_that_says_how_long_is_obeyed(tmp_path: Path) -> None:
    async def body() -> list[float]:
        async with running(tmp_path, ("binance",)) as it:
            await it.in_sync()
            venue = it.venues["binance"]
            venue.faults = Faults(limited=1.0)
            before = len(venue.requests)
            for connection in list(venue._connections):
                connection.put("nonsense")
            await it.until(lambda: len(venue.requests) - before >= 3)
            return venue.requests[before:]

    requests = asyncio.run(body())
    pauses = [after - before for before, after in pairwise(requests)]
    # Retry-After says one second; where it says nonsense, ten are waited.
    assert min(pauses) >= 0.99


# one market and the others --------------------------------------------------------------------------------------------


def test_a_market_that_nobody_knows_stops_no_other(tmp_path: Path) -> None:
    async def body() -> Status:
        async with running(tmp_path, asked=("ETH-USDT", "ETX-USDT")) as it:
            await it.in_sync()
            return it.service.status()

    markets = {(one.exchange, one.symbol): one for one in asyncio.run(body()).markets}
    assert markets["kucoin", "ETX-USDT"].phase is None
    assert markets["kucoin", "ETX-USDT"].problem == (
        "kucoin has no market ETX-USDT; did you mean ETH-USDT?; see books.yaml"
    )
    assert markets["kucoin", "ETH-USDT"].phase == markets["binance", "ETH-USDT"].phase == "IN_SYNC"


def test_a_market_that_is_listed_later_is_recorded_then(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path, symbols=("ETH-USDT", "BTC-USDT")) as it:
            await it.in_sync()
            assert {one.market.symbol for one in it.service.markets()} == {"ETH-USDT", "BTC-USDT"}

        venue = it.venues["kucoin"]
        gone = venue.markets.pop("BTC-USDT")
        async with running(tmp_path / "later", ("kucoin",), asked=("ETH-USDT", "BTC-USDT")) as it:
            await it.in_sync()
            assert it.service.status().markets[1].phase is None
            it.venues["kucoin"].markets["BTC-USDT"] = gone
            await it.until(lambda: it.market("kucoin", "BTC-USDT").is_settled)
            assert it.market("kucoin").gaps == 1

    asyncio.run(body())


def test_an_error_of_the_program_in_one_book_rests_it_and_keeps_its_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Follower.take
    fails: list[str] = []

    def failing(follower: Follower, stream: str, payload: bytes, at_ns: int) -> Any:
        if fails and follower.market.exchange == fails[0] and stream.startswith("PUSHED"):
            raise ZeroDivisionError("an error of ours")
        return take(follower, stream, payload, at_ns)

    monkeypatch.setattr(Follower, "take", failing)
    monkeypatch.setattr(market_module, "LONGEST_REST_SECONDS", 0.3)

    async def body() -> tuple[Status, int, int]:
        async with running(tmp_path, VENUES) as it:
            await it.in_sync()
            fails.append("kraken")
            await it.until(lambda: it.market("kraken").problem is not None)
            broken, before = it.service.status(), it.market("kraken").status().written
            await it.until(lambda: it.market("kraken").status().written > before + 20)
            fails.clear()
            await it.in_sync()
            assert it.market("kraken").problem is None
            assert it.venues["kraken"].markets["ETH/USDT"].agrees(it.market("kraken").follower.state, Scale(2, 3))
            return broken, it.venues["kraken"].sent, it.market("kraken").status().written

    broken, sent, written = asyncio.run(body())
    markets = {one.exchange: one for one in broken.markets}
    assert "failed by an error of the program, ZeroDivisionError, and begins anew in" in str(markets["kraken"].problem)
    assert [markets[one].problem for one in VENUES[:3]] == [None] * 3
    assert written >= sent
    frames, _ = replay(place_of(tmp_path, "kraken", "ETH-USDT").log)
    opened = [frame for frame in frames if frame.kind is Kind.CHECKPOINT]
    assert opened[0].stream == "opened"
    assert len(opened) >= 2
    # The gap begins where the book was last known to be good, and not where it began anew.
    good = [gap for gap in _gaps(frames) if gap.reasons[0] == "START"][-1]
    assert good.from_ns < opened[1].recv_ns


def _gaps(frames: list) -> list[Gap]:
    follower, found = None, []
    for frame in frames:
        if frame.kind is Kind.CHECKPOINT:
            follower = Follower.again(frame.payload)
        elif frame.kind is Kind.RECORD:
            assert follower is not None
            found += [one for one in follower.take(frame.stream, frame.payload, frame.recv_ns) if isinstance(one, Gap)]
    return found


def test_another_scale_begins_a_book_anew(tmp_path: Path) -> None:
    async def body() -> None:
        pace = Pace(**vars(SURE) | {"instruments": 0.2})
        async with running(tmp_path, ("kucoin",), pace=pace) as it:
            await it.in_sync()
            assert it.market("kucoin").market.scale == Scale(2, 11)
            it.venues["kucoin"].price_increment = "0.0001"
            await it.until(lambda: it.market("kucoin").market.scale == Scale(4, 11))
            await it.in_sync()
            market = it.market("kucoin")
            assert it.venues["kucoin"].markets["ETH-USDT"].agrees(market.follower.state, market.market.scale)

    asyncio.run(body())


def test_a_scale_in_which_a_book_cannot_be_read_is_left_for_one_in_which_it_can(tmp_path: Path) -> None:
    async def body() -> None:
        pace = Pace(**vars(SURE) | {"instruments": 0.2})
        async with running(tmp_path, ("kucoin",), pace=pace, price_increment="1") as it:
            await it.in_sync()
            assert it.market("kucoin").market.scale == Scale(2, 11)
            gaps = it.market("kucoin").gaps
            # What the venue says of its markets does not undo it.
            end = time.monotonic() + 0.7
            await it.until(lambda: time.monotonic() > end)
            assert it.market("kucoin").market.scale == Scale(2, 11)
            assert it.market("kucoin").gaps == gaps == 1

    asyncio.run(body())


# the disk -------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_counted_and_everything_goes_on_when_there_is_room(tmp_path: Path) -> None:
    free = [10**12]

    async def body() -> tuple[Status, Status]:
        async with running(tmp_path, free=lambda path: free[0], free_gib=1.0) as it:
            await it.in_sync()
            free[0] = 5 * 10**8
            await it.until(lambda: all(one.status().lost > 10 for one in it.service.markets()))
            full = it.service.status()
            assert all(one.is_settled for one in it.service.markets())
            free[0] = 10**12
            await it.until(lambda: all(one.problem is None for one in it.service.markets()))
            before = it.market("kucoin").status().written
            await it.until(lambda: it.market("kucoin").status().written > before + 10)
            return full, it.service.status()

    full, after = asyncio.run(body())
    assert all(
        "messages are not kept: less than 1024 MiB are free; make room" in str(one.problem) for one in full.markets
    )
    assert full.free_bytes == 5 * 10**8
    # The book was never lost, and what the log lacks it says itself.
    assert [one.gaps for one in after.markets] == [1, 1]
    frames, _ = replay(place_of(tmp_path, "kucoin", "ETH-USDT").log)
    said = [Lost.of(frame) for frame in frames if frame.kind is Kind.LOSS]
    assert [one.messages for one in said] == [after.markets[0].lost]
    assert [frame.stream for frame in frames if frame.kind is Kind.CHECKPOINT] == ["opened", "resumed"]


def test_a_folder_that_cannot_be_used_stops_one_market_alone_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_module, "OPEN_AGAIN_SECONDS", 0.2)
    place = place_of(tmp_path, "kucoin", "ETH-USDT")
    place.folder.mkdir(parents=True)
    place.log.write_text("in the way")

    async def body() -> Status:
        async with running(tmp_path) as it:
            await it.in_sync()
            await it.until(lambda: it.market("kucoin").status().lost > 10)
            broken = it.service.status()
            place.log.unlink()
            await it.until(lambda: it.market("kucoin").problem is None)
            await it.until(lambda: it.market("kucoin").status().written > 20)
            return broken

    broken = asyncio.run(body())
    assert "cannot be used for a log" in str(broken.markets[0].problem)
    assert (broken.markets[0].phase, broken.markets[0].file) == ("IN_SYNC", None)
    assert (broken.markets[1].problem, broken.markets[1].lost) == (None, 0)


def test_old_files_go_and_what_is_not_sealed_stays(tmp_path: Path) -> None:
    place = place_of(tmp_path, "kucoin", "ETH-USDT")

    async def body(clock: Clock, is_over: Callable[[Running], bool]) -> None:
        async with running(tmp_path, ("kucoin",), clock=clock, log_days=0.01) as it:
            await it.in_sync()
            await it.until(lambda: is_over(it))

    asyncio.run(body(Clock(2000.0), lambda it: len(files(place.log)) > 4))
    first = files(place.log)
    later = Clock(1.0, Clock().start_ns + DAY_NS)
    asyncio.run(body(later, lambda it: it.market("kucoin").status().written > 60))
    assert files(place.log)[: len(first)] == first
    for quarter in unsealed(place.log, place.segments):
        seal("kucoin:ETH-USDT", place.log, place.segments, quarter)
    asyncio.run(body(later, lambda it: files(place.log)[0] != first[0]))
    left = files(place.log)
    assert not set(left) & set(first)
    assert all(file.quarter_ns >= quarter_of(later.start_ns) for file in left)


# what it says ---------------------------------------------------------------------------------------------------------


def test_the_status_and_the_book_are_written_each_second(tmp_path: Path) -> None:
    said: list[Status] = []

    async def body() -> None:
        async with running(tmp_path, VENUES, say=said.append) as it:
            await it.in_sync()
            count = len(said)
            await it.until(lambda: len(said) >= count + 2)
            status = read_status(tmp_path)
            assert status is not None
            assert status == said[-1]
            assert status.is_running
            assert [(one.exchange, one.symbol) for one in status.markets] == [(one, "ETH-USDT") for one in VENUES]
            for market in status.markets:
                assert (market.phase, market.reasons, market.problem) == ("IN_SYNC", (), None)
                assert market.per_second > 10
                assert market.file is not None
                assert market.file_bytes > 1000
                # The venues are on this computer, and their clock is ours.
                assert market.clock_offset_ms is not None
                assert -500 < market.clock_offset_ms <= 1
            for exchange in VENUES:
                book = read_book(place_of(tmp_path, exchange, "ETH-USDT").book)
                assert book is not None
                assert book.is_in_sync
                assert 10 <= len(book.bids) <= 100
                truth = it.venues[exchange].markets[it.market(exchange).market.name].truth
                if book.last_id is not None:
                    assert truth[book.last_id][0][round(float(book.bids[0][0]) * 100)] == float(book.bids[0][1]) * 1000

    asyncio.run(body())
    status = read_status(tmp_path)
    assert status is not None
    assert not status.is_running


def test_nobody_else_records_there(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(tmp_path) as it:
            await it.in_sync()
            with pytest.raises(PlaceError, match=r"another `mm record` writes there; end that one first"):
                await Service(config_of(it.venues, SYMBOLS), tmp_path).run(asyncio.Event())
            await it.in_sync()

    asyncio.run(body())
    with alone(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="cannot be used"), alone(tmp_path / "file"):
        raise AssertionError


@pytest.mark.parametrize("messages", [6_000, pytest.param(300_000, marks=pytest.mark.long)])
def test_memory_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: int) -> None:
    import psutil

    # The venues are in this process, too, and what they remember must not be mistaken for the recorder's.
    monkeypatch.setattr(venues_module, "KEPT", 200)

    async def body() -> list[int]:
        process, sizes = psutil.Process(), []
        async with running(tmp_path) as it:
            await it.in_sync()
            for share in (0.25, 0.5, 0.75, 1.0):
                while _heard(it) < messages * share:
                    for venue in it.venues.values():
                        for _ in range(100):
                            venue.step()
                    sent = sum(venue.sent for venue in it.venues.values())
                    await it.until(lambda sent=sent: _heard(it) >= sent, 30.0)  # type: ignore[misc]
                sizes.append(process.memory_info().rss)
            assert [one.gaps for one in it.service.status().markets] == [1, 1]
        return sizes

    sizes = asyncio.run(body())
    print([size // 1024**2 for size in sizes])
    assert sizes[-1] - sizes[1] < 12 * 1024**2


def _heard(it: Running) -> int:
    return sum(one.status().written for one in it.service.markets())
