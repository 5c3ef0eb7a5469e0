"""One faulty answer, of every kind and at every moment: nothing false is stored, and the next healthy tick heals."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.market.connection import milliseconds
from mm_dagster.market.simulated import simulate
from mm_dagster_tests.market.faulty import SYMBOL, Bend, Exchange, Rows, Watch, market, quarter_hours


def times(factor: float, *, last: int | None = None, price: int | None = None) -> Bend:
    """Prices times a factor: of all rows or the last ones, of all prices or one."""

    def bend(rows: Rows, page: Span) -> Rows:
        kept = [] if last is None else rows[: len(rows) - last]
        places = range(1, 5) if price is None else (price,)
        bent = [
            [value * factor if place in places and value is not None else value for place, value in enumerate(row)]
            for row in rows[len(kept) :]
        ]
        return kept + bent

    return bend


def another_market(rows: Rows, page: Span) -> Rows:
    other = simulate("BTC-USDT", page)
    return [[milliseconds(row[0]), *row[1:]] for row in other.iter_rows()]


def double(rows: Rows, page: Span) -> Rows:
    return [row for row in rows for _ in range(2)]


def differing_doubles(rows: Rows, page: Span) -> Rows:
    return rows + [[*row[:5], (row[5] or 0) + 1] for row in rows]


def unreadable(rows: Rows, page: Span) -> Rows:
    return [[None, *row[1:]] if number == len(rows) - 2 else row for number, row in enumerate(rows)]


def no_price(rows: Rows, page: Span) -> Rows:
    return [[*row[:4], None, row[5]] if number == len(rows) - 2 else row for number, row in enumerate(rows)]


def backwards(rows: Rows, page: Span) -> Rows:
    return rows[::-1]


def stale(rows: Rows, page: Span) -> Rows:
    return rows[:-3]


def frozen(rows: Rows, page: Span) -> Rows:
    """The price of two bars ago goes on being said, and that nobody trades."""
    still = rows[-4][4]
    return [*rows[:-3], *([row[0], still, still, still, still, 0.0] for row in rows[-3:])]


FAULTS: dict[str, Bend] = {
    "frozen": frozen,
    "empty": lambda rows, page: [],
    "no answer": lambda rows, page: None,
    "x1000": times(1000),
    "x.001": times(0.001),
    "x1.4": times(1.4),
    "newest x.001": times(0.001, last=2),
    "newest x.6": times(0.6, last=2),
    "in progress x.001": times(0.001, last=1),
    "newest low x.001": times(0.001, last=2, price=3),
    "another market": another_market,
    "double": double,
    "differing doubles": differing_doubles,
    "unreadable row": unreadable,
    "no price": no_price,
    "backwards": backwards,
    "stale": stale,
    "first half": lambda rows, page: rows[: len(rows) // 2],
    "second half": lambda rows, page: rows[len(rows) // 2 :],
    "hole": lambda rows, page: rows[:-6] + rows[-3:],
}
QUICK = ("frozen", "empty", "x1000", "newest x.001", "another market")
"""What is tried in every run of the tests: one of each family."""


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    return market()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, truth: pl.DataFrame) -> Path:
    """A project after one healthy tick."""
    folder = tmp_path_factory.mktemp("begun")
    assert Watch(folder, Exchange({SYMBOL: truth})).tick(quarter_hours(1)[0]) == 4
    return folder


@pytest.fixture
def watch(tmp_path: Path, begun: Path, truth: pl.DataFrame) -> Watch:
    """The same, to be continued."""
    shutil.copytree(begun / "data", tmp_path / "data")
    return Watch(tmp_path, Exchange({SYMBOL: truth}))


def differences(watch: Watch) -> pl.DataFrame:
    """Stored bars that hold other values than the truth; those that are not known are none."""
    both = watch.lake.read("candles").join(watch.exchange.candles[SYMBOL], on="open_time", suffix="_true")
    values = ("open", "high", "low", "close", "volume")
    return both.filter(pl.any_horizontal(pl.col(name) != pl.col(f"{name}_true") for name in values))


def is_whole(watch: Watch, as_of: datetime) -> bool:
    """Whether every bar until then is known, and true."""
    stored = watch.lake.read("candles")
    known = stored.filter(pl.col("status") == "TRADED")
    return known.height == stored.height and known["close_time"].max() == as_of and differences(watch).is_empty()


@pytest.mark.parametrize(
    "fault", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.long) for kind in FAULTS]
)
def test_a_tick_of_faulty_answers_stores_nothing_false_and_the_next_healthy_one_heals(watch: Watch, fault: str) -> None:
    first, second, third = quarter_hours(4)[1:]
    watch.exchange.bend = FAULTS[fault]
    watch.exchange.bends = 1_000
    watch.tick(first)
    assert differences(watch).is_empty(), watch.failures
    watch.exchange.bends = 0
    watch.tick(second)
    assert is_whole(watch, second)
    assert watch.failures == {}
    # One faulty answer alone is asked again at once.
    watch.exchange.bends = 1
    watch.tick(third)
    assert is_whole(watch, third) or fault in ("no answer", "hole", "first half")
    assert differences(watch).is_empty()


def shifted(rows: Rows, page: Span) -> Rows:
    hour = 4 * 900_000
    return [[None if row[0] is None else row[0] + hour, *row[1:]] for row in rows]


@pytest.mark.slow
def test_an_answer_that_is_believed_is_followed_back_no_further_than_there_is_something_stored(watch: Watch) -> None:
    first, second, *_ = quarter_hours(4)[1:]
    before = watch.lake.read("candles")
    watch.exchange.bend, watch.exchange.bends = shifted, 1_000
    watch.tick(first)
    assert watch.lake.read("candles")["open_time"].min() == before["open_time"].min()
    watch.exchange.bends = 0
    watch.tick(second)
    assert is_whole(watch, second)
    assert watch.lake.read("candles").height == before.height + 2


@pytest.mark.slow
def test_where_an_old_hole_is_looked_for_what_is_known_around_it_stays(tmp_path: Path, truth: pl.DataFrame) -> None:
    first, second, *_ = quarter_hours(4)
    hole = [first - 300 * BAR, first - 299 * BAR]
    watch = Watch(tmp_path, Exchange({SYMBOL: truth.filter(~pl.col("open_time").is_in(hole))}))
    watch.tick(first)
    asked = len(watch.exchange.asked)

    def lower(rows: Rows, page: Span) -> Rows:
        old = page.end < first - 96 * BAR
        return [[*row[:3], (row[3] or 0) * 0.999, *row[4:]] if old else row for row in rows]

    watch.exchange.bend, watch.exchange.bends = lower, 1_000
    watch.tick(second)
    assert any(page.start <= hole[0] < page.end < first for page in watch.exchange.asked[asked:])
    assert differences(watch).is_empty()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stale by a day", "x.001 in progress"])
def test_a_first_tick_of_faulty_answers_is_made_good_by_the_next(tmp_path: Path, truth: pl.DataFrame, way: str) -> None:
    """Nothing vouches for the first answer: a bar that was not closed when it was made must not stay."""
    watch = Watch(tmp_path, Exchange({SYMBOL: truth}))
    first, second, *_ = quarter_hours(4)
    torn = truth.with_columns(
        close=pl.when(pl.col("open_time") == first - 97 * BAR).then(pl.col("open") * 1.001).otherwise("close")
    ).with_columns(high=pl.max_horizontal("open", "close", "high"), low=pl.min_horizontal("open", "close", "low"))
    if way == "stale by a day":
        watch.exchange.candles = {SYMBOL: torn.filter(pl.col("open_time") <= first - 97 * BAR)}
    else:
        watch.exchange.bend, watch.exchange.bends = times(0.001, last=1), 1_000
    watch.tick(first)
    watch.exchange.candles, watch.exchange.bends = {SYMBOL: truth}, 0
    watch.tick(second)
    assert is_whole(watch, second)


@pytest.mark.slow
def test_a_healthy_tick_asks_one_question(watch: Watch) -> None:
    assert [watch.tick(as_of) for as_of in quarter_hours(3)[1:]] == [1, 1]
