"""Answers become bars: the same ones however the span is cut, and whatever a venue sends."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, EPOCH, TIME, Span
from mm_dagster.config.markets import CandlesConfig
from mm_dagster.market.candles import Assembled, assemble
from mm_dagster.market.collect import collect
from mm_dagster.market.venue import ROWS, Answer, VenueError
from mm_dagster.tables.registry import broken_rules, conform, dtypes
from mm_dagster_tests.examples import examples

START = datetime(2025, 3, 1, tzinfo=UTC)
NOW = datetime(2025, 4, 1, 0, 1, tzinfo=UTC)
CANDLE_COLUMNS = [name for name in dtypes("candles") if name not in ("config_hash", "code_version", "source")]


def rows(*bars: tuple[datetime, float, float, float, float, float]) -> pl.DataFrame:
    return pl.DataFrame(list(bars), schema=ROWS, orient="row")


def bar(number: int, price: float = 100.0, volume: float = 1.0) -> tuple[datetime, float, float, float, float, float]:
    return (START + number * BAR, price, price + 1, price - 1, price + 0.5, volume)


def made(frame: pl.DataFrame, bars: int, answered: tuple[Span, ...] | None = None, max_no_trade: int = 4) -> Assembled:
    span = Span(START, START + bars * BAR)
    answer = Answer(frame, (span,) if answered is None else answered, final=True)
    return assemble("ETH-USDT", "main", answer, span, NOW, NOW, max_no_trade)


def statuses(frame: pl.DataFrame) -> str:
    """T traded, N no trade, M missing and answered, - not answered."""
    letters = {"TRADED": "T", "NO_TRADE": "N", "MISSING": "M"}
    return "".join("-" if row["observed_at"] is None else letters[row["status"]] for row in frame.iter_rows(named=True))


def contract_is_kept(assembled: Assembled) -> bool:
    stamped = assembled.candles.with_columns(config_hash=pl.lit("x"), code_version=pl.lit("1"), source=pl.lit("ccxt:x"))
    apart = assembled.quarantined.with_columns(source=pl.lit("ccxt:x"))
    return not broken_rules(conform(stamped, "candles"), "candles") and not broken_rules(apart, "quarantine")


class Script:
    """A venue that plays a string: T traded, N nothing traded, ? not answered, X a row that cannot be true."""

    name = "main"
    simulated = False

    def __init__(self, play: str, now: datetime = NOW, *, final: bool = True) -> None:
        self.play = play
        self.final = final
        self.time = now
        self.asked: list[Span] = []

    def now(self) -> datetime:
        return self.time

    def fetch(self, symbol: str, span: Span) -> Answer:
        self.asked.append(span)
        sent, answered = [], []
        for number, what in enumerate(self.play):
            here = Span(START + number * BAR, START + (number + 1) * BAR)
            if not span.start <= here.start < span.end:
                continue
            if what in "TX":
                sent.append(bar(number, price=100.0 + number, volume=-1.0 if what == "X" else 1.0))
            if what != "?":
                answered.append(here)
        error = "not all" if len(answered) < span.bars else None
        return Answer(rows(*sent[::-1]), tuple(answered), error, final=self.final)

    def last_prices(self, symbols: Sequence[str]) -> dict[str, float | None]:
        return dict.fromkeys(symbols)

    def check(self) -> str:
        return "a script"


class Silent(Script):
    def now(self) -> datetime:
        raise VenueError("main: no answer")


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        ("TTTT", "TTTT"),
        ("TNNNNNNT", "TNNNNMMT"),
        ("NNT", "MMT"),
        ("TN?NT", "TN-MT"),
        ("T?NT", "T-MT"),
        ("TNXNT", "TNMMT"),
        ("XNT", "MMT"),
        ("TNNTNNNNN", "TNNTNNNNM"),
    ],
)
def test_a_hole_is_carried_for_four_bars_after_a_traded_one_and_only_while_all_is_answered(
    play: str, expected: str
) -> None:
    span = Span(START, START + len(play) * BAR)
    got = collect(Script(play), "ETH-USDT", span, CandlesConfig())
    assert statuses(got.candles) == expected


def test_a_bar_without_a_trade_carries_the_close_and_no_volume() -> None:
    row = made(rows(bar(0)), 2).candles.row(1, named=True)
    assert [row[name] for name in ("open", "high", "low", "close", "volume")] == [100.5, 100.5, 100.5, 100.5, 0.0]
    assert row["close_time"] == row["open_time"] + BAR
    assert row["venue"] == "main"


@settings(max_examples=examples(80))
@given(
    play=st.text(alphabet="TTTNNNN?X", min_size=1, max_size=60),
    cuts=st.sets(st.integers(1, 59), max_size=8),
    max_no_trade=st.integers(0, 6),
)
def test_the_rows_are_the_same_in_one_run_or_in_any_pieces(play: str, cuts: set[int], max_no_trade: int) -> None:
    config = CandlesConfig(max_no_trade=max_no_trade)
    whole = Span(START, START + len(play) * BAR)
    borders = [START, *(START + cut * BAR for cut in sorted(cuts) if cut < len(play)), whole.end]
    pieces = [Span(a, b) for a, b in pairwise(borders)]
    venue = Script(play)
    at_once = collect(venue, "ETH-USDT", whole, config)
    in_pieces = [collect(venue, "ETH-USDT", piece, config) for piece in pieces]
    assert at_once.candles.equals(pl.concat([piece.candles for piece in in_pieces]))
    assert at_once.quarantined.equals(pl.concat([piece.quarantined for piece in in_pieces]))
    assert at_once.candles["open_time"].equals(whole.open_times())


absurd_times = st.one_of(
    st.integers(0, 12).map(lambda n: START + n * BAR),
    st.integers(0, 12 * 900).map(lambda n: START + timedelta(seconds=n)),
    st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC), EPOCH]),
    st.none(),
)
absurd_numbers = st.one_of(st.floats(), st.sampled_from([1.0, 2.0, 1e308, 5e-324, -0.0]), st.none())


@settings(max_examples=examples(150))
@given(st.lists(st.tuples(absurd_times, *[absurd_numbers] * 5), max_size=12))
def test_no_row_however_absurd_breaks_anything_or_gets_through(sent) -> None:
    result = made(rows(*sent), 8)
    assert result.candles.height == 8
    assert result.candles.columns == CANDLE_COLUMNS
    assert contract_is_kept(result)
    for payload in result.quarantined["payload"]:
        assert set(json.loads(payload, parse_constant=pytest.fail)) == set(ROWS)
    bad = result.candles.filter(pl.col("open_time").is_in(result.quarantined["open_time"].to_list()))
    assert set(bad["status"]) <= {"MISSING"}
    assert bad["observed_at"].null_count() == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"open_time": START + BAR + timedelta(seconds=1)}, "does not open on a quarter hour"),
        ({"close": math.nan}, "not a finite number"),
        ({"volume": None}, "not a finite number"),
        ({"high": math.inf}, "not a finite number"),
        ({"low": 0.0}, "not above zero"),
        ({"volume": -1.0}, "volume is below zero"),
        ({"low": 100.2}, "low is above"),
        ({"high": 100.2}, "high is below"),
    ],
)
def test_a_row_that_cannot_be_true_is_quarantined_with_the_reason_and_its_bar_is_missing(changed, reason: str) -> None:
    sent = dict(zip(ROWS, bar(1), strict=True)) | changed
    result = made(rows(bar(0), tuple(sent.values()), bar(2)), 3)
    assert statuses(result.candles) == "TMT"
    (row,) = result.quarantined.rows(named=True)
    assert reason in row["reason"]
    assert row["open_time"] == START + BAR
    assert json.loads(row["payload"])["open_time"] == sent["open_time"].isoformat()


def test_identical_duplicates_are_one_row_and_conflicting_ones_are_none() -> None:
    same = made(rows(bar(0), bar(1), bar(1)), 2)
    assert statuses(same.candles) == "TT"
    assert same.quarantined.is_empty()
    conflict = made(rows(bar(0), bar(1), bar(1, volume=2.0)), 2)
    assert statuses(conflict.candles) == "TM"
    assert conflict.quarantined.height == 2
    assert contract_is_kept(conflict)


def test_the_order_of_the_rows_does_not_matter() -> None:
    sent = [bar(n, price=100.0 + n) for n in (3, 0, 2)]
    assert made(rows(*sent), 4).candles.equals(made(rows(*sent[::-1]), 4).candles)


def test_an_open_bar_is_neither_stored_nor_judged() -> None:
    span = Span(START, START + 3 * BAR)
    frame = rows(bar(0), bar(1, volume=-1.0))
    result = assemble("ETH-USDT", "main", Answer(frame, (span,)), span, START + 2 * BAR - timedelta(seconds=1), NOW, 4)
    assert result.candles["open_time"].to_list() == [START]
    assert result.quarantined.is_empty()


def test_a_span_in_the_future_is_empty_and_asks_for_nothing() -> None:
    venue = Script("TTTT", now=START + timedelta(minutes=7))
    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig())
    assert got.candles.is_empty()
    assert got.candles.columns == CANDLE_COLUMNS
    assert got.candles.schema["open_time"] == TIME
    assert venue.asked == []


def test_a_late_newest_bar_is_asked_for_three_times_and_then_believed() -> None:
    venue = Script("TTTNN", now=START + 4 * BAR + timedelta(minutes=1))
    waits: list[float] = []
    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig(), wait=waits.append)
    assert statuses(got.candles) == "TTTN"
    assert waits == [5.0, 5.0]
    assert len(venue.asked) == 3


def test_a_late_bar_is_taken_when_it_comes_and_what_else_was_not_answered_stays_so() -> None:
    venue = Script("T?TNN", now=START + 4 * BAR + timedelta(minutes=1))

    def arrive(_: float) -> None:
        venue.play = "???TT"

    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig(), wait=arrive)
    assert statuses(got.candles) == "T-TT"
    assert got.error == "not all"
    assert venue.asked[1] == Span(START + 3 * BAR, START + 5 * BAR)


def test_no_one_waits_for_a_bar_once_a_later_one_is_there() -> None:
    venue = Script("TTTNT", now=START + 4 * BAR + timedelta(minutes=1))
    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig(), wait=pytest.fail)
    assert statuses(got.candles) == "TTTN"


def test_no_one_waits_for_a_bar_of_long_ago() -> None:
    got = collect(Script("TTTN"), "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig(), wait=pytest.fail)
    assert statuses(got.candles) == "TTTN"


def test_when_asking_again_fails_the_newest_bar_is_not_known() -> None:
    venue = Script("TTTNN", now=START + 4 * BAR + timedelta(minutes=1))

    def cut_off(_: float) -> None:
        venue.play = "?????"

    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig(), wait=cut_off)
    assert statuses(got.candles) == "TTT-"
    assert got.error == "not all"


def test_what_was_not_answered_before_the_span_is_no_error() -> None:
    venue = Script("?TTT")
    assert collect(venue, "ETH-USDT", Span(START + BAR, START + 4 * BAR), CandlesConfig()).error is None
    assert collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig()).error == "not all"


def test_a_venue_without_a_clock_is_asked_for_nothing() -> None:
    venue = Silent("TTTT")
    got = collect(venue, "ETH-USDT", Span(START, START + 4 * BAR), CandlesConfig())
    assert statuses(got.candles) == "----"
    assert got.error == "main: no answer"
    assert venue.asked == []


# a market in which nobody trades, and files -------------------------------------------------------------------------


def frozen(count: int, price: float = 100.5) -> list[tuple[datetime, float, float, float, float, float]]:
    """Bars 1 to count that repeat a price, with no volume."""
    return [(START + n * BAR, price, price, price, price, 0.0) for n in range(1, count + 1)]


def test_a_bar_without_volume_at_the_close_before_is_no_trade_whatever_the_venue_calls_it() -> None:
    result = made(rows(bar(0), *frozen(6), bar(7)), 8)
    assert statuses(result.candles) == "TNNNNMMT"
    assert result.candles["close"].to_list() == [100.5] * 5 + [None, None, 100.5]
    assert contract_is_kept(result)


@pytest.mark.parametrize(
    "row",
    [(100.5, 100.5, 100.5, 100.5, 0.1), (100.4, 100.5, 100.4, 100.5, 0.0), (100.4, 100.4, 100.4, 100.4, 0.0)],
    ids=["volume", "a range", "another price"],
)
def test_a_bar_in_which_anything_happened_is_traded(row: tuple[float, ...]) -> None:
    assert statuses(made(rows(bar(0), (START + BAR, *row)), 2).candles) == "TT"  # type: ignore[arg-type]


def test_a_file_without_any_volume_is_exempt() -> None:
    span = Span(START, START + 7 * BAR)
    answer = Answer(rows(bar(0, volume=0.0), *frozen(6)), (span,), final=True, has_volume=False)
    made_of_it = assemble("ETH-USDT", "main", answer, span, NOW, NOW, 4)
    assert statuses(made_of_it.candles) == "TTTTTTT"


class Frozen(Script):
    """The same, Z: a row without volume that repeats the close before; Y: one at another price."""

    def fetch(self, symbol: str, span: Span) -> Answer:
        answer = super().fetch(symbol, span)
        before, sent = 100.0, []
        for number, what in enumerate(self.play):
            if what == "T":
                before = bar(number, price=100.0 + number)[4]
            time = START + number * BAR
            if what == "Y":
                before += 0.5
            if what in "ZY" and span.start <= time < span.end:
                sent.append((time, before, before, before, before, 0.0))
        return Answer(pl.concat([answer.rows, rows(*sent)]), answer.answered, answer.error, final=self.final)


@pytest.mark.slow
@settings(max_examples=examples(200))
@example(play="NNNNNNZN", cuts={7})
@example(play="NNZZ", cuts={3})
@given(play=st.text(alphabet="TTNNZZZY", min_size=1, max_size=40), cuts=st.sets(st.integers(1, 39), max_size=6))
def test_the_labels_do_not_depend_on_where_an_answer_begins(play: str, cuts: set[int]) -> None:
    whole = Span(START, START + len(play) * BAR)
    borders = [START, *(START + cut * BAR for cut in sorted(cuts) if cut < len(play)), whole.end]
    for final in (True, False):
        venue = Frozen("T" + play, final=final)
        at_once = collect(venue, "ETH-USDT", whole, CandlesConfig())
        pieces = [collect(venue, "ETH-USDT", Span(a, b), CandlesConfig()) for a, b in pairwise(borders)]
        decisive = [name for name in at_once.candles.columns if name != "observed_at"]
        assert at_once.candles.select(decisive).equals(pl.concat([piece.candles.select(decisive) for piece in pieces]))


def test_a_hole_is_labelled_at_once_and_noted_until_it_is_said_again() -> None:
    venue = Script("TTNNNNNNT", final=False)
    got = collect(venue, "ETH-USDT", Span(START, START + 9 * BAR), CandlesConfig())
    assert got.candles["status"].to_list() == ["TRADED"] * 2 + ["NO_TRADE"] * 4 + ["MISSING"] * 2 + ["TRADED"]
    assert statuses(got.candles) == "TT------T"
    assert got.holes["open_time"].to_list() == [START + number * BAR for number in range(2, 8)]
    assert got.holes["between"].all()
