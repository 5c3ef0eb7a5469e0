"""A tape says what the machine knew, on lines that lie and on what real venues sent, and its start cannot matter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mm_dagster.books.checkpoint import CheckpointError
from mm_dagster.books.features import measure
from mm_dagster.books.follow import EXCHANGES, TRADES_KNOWN, BookMarket, Follower, Recent
from mm_dagster.books.kernel import walk
from mm_dagster.books.ladder import Ladder, MessageError, Scale
from mm_dagster.books.lead import mids_of
from mm_dagster.books.sync import Gap, Reason, Rule, open_gap
from mm_dagster.books.tape import Op, Tape, TapeError, tape_of
from mm_dagster_tests.books import recorded
from mm_dagster_tests.books.plain_features import plain_walk, told
from mm_dagster_tests.books.venue import SCALES, Line

Frame = tuple[bool, int, str, bytes]
SECOND_NS = 10**9
MARKET = BookMarket("binance", "M", Scale(2, 3), 1000)
STREAMS = {"socket": "PUSHED 0", "answer": "ANSWER 0", "timeout": "FAILED 0"}


def log_of(line: Line) -> list[Frame]:
    """The log of a trial that ran."""
    exchange = next(name for name, rule in EXCHANGES.items() if rule is line.rule)
    market = BookMarket(exchange, "M", SCALES["M"], line.state.depth)
    frames: list[Frame] = [(True, 10**18, "opened", Follower.begin(market, 10**18).kept())]
    for at_ns, (source, payload) in line.log:
        if source == "line":
            word, _, number = payload.decode().partition(" ")
            frames.append((False, at_ns, ("" if word == "up" else "DIS") + f"CONNECTED {number}", b""))
        else:
            frames.append((False, at_ns, STREAMS[source], payload))
    return frames


def rotated(frames: list[Frame], quarter_ns: int) -> list[Frame]:
    """With a file for each span of so many nanoseconds, as the recorder begins one."""
    follower = Follower.again(frames[0][3])
    follower.trade = lambda *_: None
    found, until_ns = [frames[0]], frames[0][1] // quarter_ns * quarter_ns + quarter_ns
    for frame in frames[1:]:
        if frame[1] >= until_ns:
            found.append((True, frame[1], "rotated", follower.kept()))
            until_ns = frame[1] // quarter_ns * quarter_ns + quarter_ns
        found.append(frame)
        follower.take(frame[2], frame[3], frame[1])
    return found


def same_from_each_file(frames: list[Frame], quarter_ns: int) -> Counter:
    """Holds the features of each window of its own file to those of the whole log."""
    seen: Counter = Counter()
    whole = tape_of(frames, until_ns=frames[-1][1] // quarter_ns * quarter_ns + quarter_ns)
    assert whole.differs == 0
    starts = [place for place, frame in enumerate(frames) if frame[0]]
    assert whole.checkpoints == len(starts) - 1
    for place, after in zip(starts[1:], [*starts[2:], len(frames)], strict=True):
        start_ns = frames[place][1] // quarter_ns * quarter_ns
        end_ns = start_ns + quarter_ns
        own = tape_of(frames[place:after], start_ns, end_ns)
        found, expected = (measure(tape, start_ns, end_ns, 5) for tape in (own, whole))
        assert found == expected, (place, start_ns)
        here, there = (mids_of(tape, start_ns, end_ns) for tape in (own, whole))
        assert (here.at_ns.tolist(), here.moves.tolist()) == (there.at_ns.tolist(), there.moves.tolist())
        seen["moves"] += len(here.at_ns)
        seen["windows"] += 1
        seen["in sync"] += found["in_sync_share"] == 1
        seen["partly"] += 0 < found["in_sync_share"] < 1
    return seen


def held_to_the_machine(frames: list[Frame]) -> Counter:
    """The tape's book is the machine's after each record, in sync as often, with the same gaps."""
    tape = tape_of(frames)
    rows = tape.rows.tolist()
    follower, book, is_in_sync, place = Follower.again(frames[0][3]), Ladder(), False, 0
    far: list[int] = [0, 0]
    gaps: list[Gap] = []
    seen: Counter = Counter()
    for now, (_, at_ns, stream, payload) in enumerate(frames[1:], 1):
        actions = follower.take(stream, payload, at_ns)
        gaps += [action for action in actions if isinstance(action, Gap)]
        if now + 1 < len(frames) and frames[now + 1][1] == at_ns:
            continue
        while place < len(rows) and rows[place][0] <= at_ns:
            _, op, price, lots = rows[place]
            place += 1
            match op:
                case Op.BID | Op.ASK:
                    (book.bids if op == Op.BID else book.asks).put(price, lots)
                case Op.BEGIN:
                    book = Ladder()
                case Op.FAR_BID | Op.FAR_ASK:
                    far[op - Op.FAR_BID] = price
                case _:
                    is_in_sync = op == Op.STANDS
        state = follower.state
        assert is_in_sync == state.is_in_sync, at_ns
        if is_in_sync:
            seen["in sync"] += 1
            assert book.bids.lots == state.book.bids.lots, at_ns
            assert book.asks.lots == state.book.asks.lots, at_ns
            cut = state.book.bids.worst, state.book.asks.worst
            assert far == [price or 0 for price in (cut if state.rule is Rule.KRAKEN else state.reach)]
    last = open_gap(follower.state, frames[-1][1])
    assert tape.gaps == (*gaps, *([last] if last else []))
    seen["lost"] = int((tape.rows[:, 1] == Op.LOST).sum())
    assert len(tape.spans) == seen["lost"] + is_in_sync
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(Rule))
def test_the_tape_is_what_the_machine_knew_behind_a_line_that_lies(rule: Rule) -> None:
    seen: Counter = Counter()
    for seed in range(12):
        line = Line(rule, 5000 + seed)
        line.run()
        frames = log_of(line)
        seen += held_to_the_machine(frames)
        quarter_ns = min((frames[-1][1] - frames[0][1]) // 6, 900 * SECOND_NS)
        seen += same_from_each_file(rotated(frames, quarter_ns), quarter_ns)
    assert seen["in sync"] > 500
    assert seen["lost"] > 15
    assert seen["windows"] > 50
    assert seen["partly"] > 10
    assert seen["moves"] > 1000


@pytest.mark.slow
def test_a_window_of_a_real_market_is_the_same_from_its_own_file(shared_data: Path) -> None:
    frames = recorded.binance_log(shared_data / "l2" / "binance" / "ETH-USDT", "binance")[:25_000]
    seen = same_from_each_file(rotated(frames, 20 * SECOND_NS), 20 * SECOND_NS)
    assert seen["windows"] == seen["in sync"] > 5


@pytest.mark.parametrize(
    ("market", "exchange", "common"),
    [
        ("binance/ETH-USDT", "binance", 1056),
        pytest.param("binance/BTC-USDT", "binance", 1072, marks=pytest.mark.long),
        pytest.param("binance-perp/ETH-USDT", "binance_usdm", 551, marks=pytest.mark.long),
        pytest.param("binance-perp/BTC-USDT", "binance_usdm", 629, marks=pytest.mark.long),
    ],
)
def test_the_venue_says_the_same_best_quotes(shared_data: Path, market: str, exchange: str, common: int) -> None:
    tape = tape_of(recorded.binance_log(shared_data / "l2" / market, exchange))
    assert tape.compared() == (common, 0)
    assert [gap.reasons for gap in tape.gaps] == [(Reason.START,)]
    assert (tape.crossed, tape.turned_back, len(tape.spans)) == (0, 0, 1)
    start_ns, until_ns = int(tape.spans[0, 0]), tape.until_ns
    assert told(walk(tape, start_ns, until_ns, 5))["digest"] == measure(tape, start_ns, until_ns, 5)["book_digest"]


def test_a_quote_that_differs_is_counted(shared_data: Path) -> None:
    frames = recorded.binance_log(shared_data / "l2" / "binance" / "ETH-USDT", "binance")[:20_000]
    tape = tape_of(frames)
    count, differs = tape.compared()
    assert (count > 100, differs) == (True, 0)
    quotes = tape.quotes.copy()
    quotes[:, 3] += 1
    assert replace(tape, quotes=quotes).compared() == (count, count)


def test_kucoin_gives_tapes_without_gaps(shared_data: Path) -> None:
    path = shared_data / "books" / "protocol" / "kucoin_spot_2021-04-25.parquet"
    logs = recorded.numbered_logs(path, "kucoin", 10_000)
    seen = sum((_without_gaps(frames) for frames in logs.values()), Counter())
    assert (len(logs), seen["changes"], seen["trades"] > 10) == (9, 3805, True)


def test_kraken_gives_tapes_without_gaps(shared_data: Path) -> None:
    path = shared_data / "books" / "protocol" / "kraken_spot_v1_2021-04-17.parquet"
    logs = recorded.kraken_logs(path)
    seen = sum((_without_gaps(frames) for frames in logs.values()), Counter())
    assert (len(logs), seen["changes"]) == (10, 4279)


def _without_gaps(frames: list[Frame]) -> Counter:
    tape = tape_of(frames)
    assert [gap.reasons for gap in tape.gaps] == [(Reason.START,)]
    assert len(tape.spans) == 1
    held_to_the_machine(frames)
    _as_plain(tape)
    stood = tape.rows[:, 1] == Op.STANDS
    return Counter(changes=int(tape.rows[stood, 3].sum()), trades=len(tape.trades))


def _as_plain(tape: Tape) -> None:
    start_ns = int(tape.spans[0, 0]) + 1
    end_ns = start_ns + 20 * SECOND_NS
    assert told(walk(tape, start_ns, end_ns, 5)) == told(plain_walk(tape, start_ns, end_ns, 5))


# What the log itself does --------------------------------------------------------------------------------------------

T0 = 1_770_000_300 * SECOND_NS
BOOK = b'{"lastUpdateId":5,"bids":[["99.00","1.000"]],"asks":[["101.00","1.000"]]}'


def delta(number: int, bid: str = "99.00", lots: str = "2.000") -> bytes:
    return f'{{"e":"depthUpdate","s":"M","U":{number},"u":{number},"b":[["{bid}","{lots}"]],"a":[]}}'.encode()


def trade(number: int, lots: str = "1.000") -> bytes:
    return f'{{"e":"aggTrade","s":"M","a":{number},"p":"100.00","q":"{lots}","m":true}}'.encode()


def begun(at_ns: int = T0) -> list[Frame]:
    """A log that is in sync after a second."""
    return [
        (True, at_ns, "opened", Follower.begin(MARKET, at_ns).kept()),
        (False, at_ns, "CONNECTED 1", b""),
        (False, at_ns, "PUSHED 1", delta(5)),
        (False, at_ns, "ANSWER 1", BOOK),
        (False, at_ns + SECOND_NS, "PUSHED 1", delta(6)),
    ]


def kept(frames: list[Frame]) -> bytes:
    follower = Follower.again(frames[0][3])
    for _, at_ns, stream, payload in frames[1:]:
        follower.take(stream, payload, at_ns)
    return follower.kept()


@pytest.mark.parametrize("began", ["opened", "resumed"])
def test_of_the_time_before_a_file_that_nobody_went_on_to_nothing_is_known(began: str) -> None:
    frames = begun()
    again = T0 + 60 * SECOND_NS
    fresh = begun(again) if began == "opened" else [(True, again, "resumed", kept(frames))]
    tape = tape_of([*frames, *fresh], until_ns=T0 + 100 * SECOND_NS)
    first = T0 + SECOND_NS
    expected = [[first, first], [again + SECOND_NS * (began == "opened"), T0 + 100 * SECOND_NS]]
    assert tape.spans.tolist() == expected
    assert (tape.checkpoints, tape.differs) == (0, 0)
    found = measure(tape, T0, T0 + 100 * SECOND_NS, 1)
    assert found["in_sync_share"] == (0.39 if began == "opened" else 0.4)
    # What came before another book is no flow.
    assert found["order_flow_imbalance"] is None
    # A window that begins behind the break knows no more than its own file.
    start = T0 + 50 * SECOND_NS
    own = tape_of(fresh, start, T0 + 100 * SECOND_NS)
    assert measure(own, start, own.until_ns, 1) == measure(tape, start, own.until_ns, 1)


def test_a_book_stands_from_the_quarter_hour_before_its_first_message() -> None:
    frames = begun()
    start = T0 + 900 * SECOND_NS
    own = [
        (True, start + 7, "rotated", kept(frames)),
        (False, start + 9 * SECOND_NS, "PUSHED 1", delta(7, lots="4.000")),
    ]
    found = measure(tape_of(own, start, start + 900 * SECOND_NS), start, start + 900 * SECOND_NS, 1)
    assert (found["in_sync_share"], found["messages"], found["changes"]) == (1.0, 1, 1)
    assert found["order_flow_imbalance"] == 2.0
    # Nobody vouches for the time before the first frame and after the last one.
    alone = measure(tape_of(own), start, start + 900 * SECOND_NS, 1)
    assert alone["in_sync_share"] == (9 * SECOND_NS - 7) / (900 * SECOND_NS)


def test_a_checkpoint_that_says_something_else_is_counted_and_taken() -> None:
    frames = begun()
    start = T0 + 900 * SECOND_NS
    other = [*frames[:-1], (False, T0 + SECOND_NS, "PUSHED 1", delta(6, lots="3.000"))]
    own = [(True, start, "rotated", kept(other)), (False, start + SECOND_NS, "PUSHED 1", delta(7))]
    whole = tape_of([*frames, *own])
    assert (whole.checkpoints, whole.differs) == (1, 1)
    assert tape_of([*frames, (True, start, "rotated", kept(frames)), own[1]]).differs == 0
    end = start + 900 * SECOND_NS
    assert measure(whole, start, end, 1) == measure(tape_of(own, start), start, end, 1)


def test_a_trade_that_two_connections_bring_is_one_also_over_the_border_of_a_file() -> None:
    start = T0 + 900 * SECOND_NS
    frames = [*begun(), (False, T0 + SECOND_NS, "CONNECTED 2", b"")]
    frames += [(False, start - 1, f"PUSHED {one}", trade(7)) for one in (1, 2)]
    frames += [(False, start - 1, "PUSHED 1", trade(8, "3.000"))]
    own = [(True, start, "rotated", kept(frames)), (False, start, "PUSHED 2", trade(8, "3.000"))]
    own += [(False, start, f"PUSHED {one}", trade(9)) for one in (2, 1)]
    whole = tape_of([*frames, *own])
    assert whole.trades.tolist() == [[start - 1, 10000, 1000, 1], [start - 1, 10000, 3000, 1], [start, 10000, 1000, 1]]
    assert whole.differs == 0
    assert tape_of(own).trades.tolist() == [[start, 10000, 1000, 1]]


def test_of_the_trades_the_newest_are_remembered() -> None:
    recent = Recent()
    assert all(recent.is_new(str(number)) for number in range(TRADES_KNOWN + 1))
    assert recent.ids == [str(number) for number in range(1, TRADES_KNOWN + 1)]
    assert not Recent(recent.ids).is_new("1")
    assert recent.is_new("0")


def test_times_never_fall() -> None:
    frames = [*begun(), (False, T0 - 5, "PUSHED 1", delta(7)), (False, T0 + 3, "PUSHED 1", trade(1))]
    tape = tape_of(frames)
    assert tape.turned_back == 2
    assert (np.diff(tape.rows[:, 0]) >= 0).all()
    assert (np.diff(tape.records) >= 0).all()
    assert tape.trades[0, 0] == T0 + SECOND_NS


def test_a_book_that_crossed_is_counted() -> None:
    tape = tape_of([*begun(), (False, T0 + 2 * SECOND_NS, "PUSHED 1", delta(7, bid="101.00"))])
    assert tape.crossed == 1
    assert tape.gaps[-1].reasons == (Reason.CROSSED,)
    assert tape.spans.tolist() == [[T0 + SECOND_NS, T0 + 2 * SECOND_NS]]


def test_what_is_no_log_is_refused() -> None:
    with pytest.raises(TapeError, match="no frames"):
        tape_of([])
    with pytest.raises(TapeError, match="no checkpoint"):
        tape_of(begun()[1:])
    with pytest.raises(CheckpointError):
        tape_of([(True, T0, "opened", b"nothing")])
    for stream in ("LETTERS 1", "CONNECTED one", "CONNECTED", ""):
        with pytest.raises(MessageError, match="no stream of a log"):
            tape_of([*begun(), (False, T0 + 2 * SECOND_NS, stream, b"{}")])
