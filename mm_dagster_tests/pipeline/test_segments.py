"""What the recorder finished: sealed, replayed and noted once, whatever dies, is damaged or is asked for again."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span, midnight, time_of_ns
from mm_dagster.books import sync
from mm_dagster.pipeline import segments
from mm_dagster.pipeline.book_features import LEAST_QUARTERS, keep_features
from mm_dagster.pipeline.book_findings import AGREE, COMPLETE, CROSSED, SAME, of_segments
from mm_dagster.pipeline.book_places import recorded_markets
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.segments import keep_segments
from mm_dagster.recorder.frames import Reader
from mm_dagster.recorder.log import QUARTER_NS, SECOND_NS, files
from mm_dagster.recorder.seal import manifest
from mm_dagster.tables.words import GAP_KINDS, RECORDS_BEGAN
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.pipeline.recorder import Recording, ns

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
DAY = Span(midnight(NOON.date()), midnight(NOON.date()) + timedelta(days=1))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for until it is on the disk, which tests of the log are about."""
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda file: None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    configure(tmp_path)
    return Project(str(tmp_path / "configuration"), str(tmp_path / "data"))


def begin(project: Project, name: str = "binance:ETH-USDT", at: datetime = NOON + timedelta(minutes=1)) -> Recording:
    exchange, _, symbol = name.partition(":")
    return Recording(project.data, exchange, symbol, ns(at))


def rows(project: Project, table: str) -> list[dict[str, object]]:
    return project.lake.read(table).to_dicts()


def found(project: Project, check: str) -> tuple[bool, str]:
    one = next(one for one in of_segments(project, DAY) if one.check == check)
    return one.passed, one.sentence


def test_words_of_gaps_are_those_of_the_log_and_of_the_machine() -> None:
    from typing import get_args

    from mm_dagster.recorder.frames import Reason
    from mm_dagster.recorder.log import Began

    of_log = {"OPENED", "RESUMED", "LOST", "MISSING", *get_args(Reason)} - {"CLOSED"}
    assert {*GAP_KINDS} == of_log | {reason.value for reason in sync.Reason}
    assert {*RECORDS_BEGAN} == {word.upper() for word in get_args(Began)}


@pytest.mark.slow
def test_each_quarter_hour_is_sealed_replayed_and_noted_once(project: Project) -> None:
    for name in ("binance:ETH-USDT", "binance_usdm:ETH-USDT", "kucoin:SOL-USDT", "kraken:ETH-USDT"):
        recording = begin(project, name)
        recording.quarters(3)
        recording.stop()
    done = keep_segments(project, "first")
    # The newest quarter hour, which nothing was recorded in yet, is not finished.
    assert (done.sealed, done.replayed, done.problems) == (12, 12, {})
    kept = project.lake.read("book_segment")
    assert kept.group_by("exchange").len()["len"].to_list() == [3] * 4
    assert kept["refused"].null_count() == kept.height
    assert kept.filter(pl.col("is_followed")).height == 12
    passed, said = found(project, SAME)
    assert (passed, said) == (True, "12 states of the recorder came out of the replays, byte for byte.")
    assert found(project, CROSSED) == (True, "No book was crossed.")
    passed, said = found(project, AGREE)
    assert passed
    assert not said.startswith("0 of")
    stamp = project.lake.stamp()
    assert keep_segments(project, "again").replayed == 0
    assert project.lake.stamp() == stamp


def test_a_market_that_is_no_longer_in_books_yaml_is_sealed_too(project: Project) -> None:
    recording = begin(project, "kucoin:XYZ-USDT")
    recording.quarters(1)
    recording.stop()
    assert project.config.books.recorded == ()
    assert keep_segments(project, "run").sealed == 1
    assert [row["symbol"] for row in rows(project, "book_segment")] == ["XYZ-USDT"]


@pytest.mark.slow
def test_gaps_of_log_and_book_have_a_beginning_an_end_and_a_reason(project: Project) -> None:
    recording = begin(project)
    recording.quarters(1)
    before = recording.follower.state.good_ns
    recording.disconnect()
    # Over the end of the quarter hour: it is open in the one, and ends in the other.
    recording.until(recording.now + QUARTER_NS, each=1000)
    recording.now += 10 * SECOND_NS
    recording.connect()
    recording.push()
    keep_segments(project, "while it is open")
    (open_gap,) = [row for row in rows(project, "book_gap") if row["kind"] == "DISCONNECTED"]
    assert open_gap["to_time"] is None
    recording.quarters(1)
    recording.kill()
    keep_segments(project, "when it is over")
    (over,) = [row for row in rows(project, "book_gap") if row["kind"] == "DISCONNECTED"]
    assert (over["from_time"], over["part"]) == (time_of_ns(before), "BOOK")
    assert over["to_time"] is not None
    assert over["to_time"] - over["from_time"] >= timedelta(minutes=15)
    # A kill is a gap of the log, from the last message to the first of the next recorder.
    last = recording.follower.state.good_ns
    recording.now += 3 * QUARTER_NS
    recording.start()
    recording.quarters(2)
    keep_segments(project, "after the kill")
    of_log = [row for row in rows(project, "book_gap") if row["part"] == "LOG" and row["from_time"] > NOON + BAR]
    assert {row["kind"] for row in of_log} == {"NO_END", "OPENED"}
    for row in of_log:
        assert time_of_ns(last) <= row["from_time"] < row["to_time"]  # type: ignore[operator]
        assert row["to_time"] - row["from_time"] >= timedelta(minutes=45)  # type: ignore[operator]
    assert all(row["to_time"] is not None for row in rows(project, "book_gap"))
    recording.stop()


@pytest.mark.slow
def test_gaps_are_the_same_however_often_somebody_looks(project: Project, tmp_path: Path) -> None:
    recording = begin(project)
    for number in range(6):
        recording.quarters(1)
        if number % 2:
            recording.disconnect()
            recording.until(recording.now + 20 * SECOND_NS, each=1000)
            recording.connect()
        keep_segments(project, f"run {number}")
    recording.stop()
    keep_segments(project, "last")
    other = tmp_path / "other"
    shutil.copytree(project.data / "books", other / "books")
    at_once = Project(project.config_dir, str(other))
    keep_segments(at_once, "at once")
    for table in ("book_gap", "book_segment"):
        drop = [name for name in ("sealed_at",) if name in project.lake.read(table).columns]
        assert project.lake.read(table).drop(drop).equals(at_once.lake.read(table).drop(drop))


def test_what_is_damaged_stops_no_other_market_and_is_said(project: Project) -> None:
    for name in ("binance:ETH-USDT", "kucoin:SOL-USDT"):
        recording = begin(project, name)
        recording.quarters(2)
        recording.stop()
    log = recorded_markets(project.data)[0].place.log
    whole = files(log)[0].path.read_bytes()
    files(log)[0].path.write_bytes(whole[:2000] + b"\xff" + whole[2001:])
    keep_segments(project, "run")
    kept = project.lake.read("book_segment")
    assert kept.height == 4
    assert kept.filter(~pl.col("is_complete")).select("exchange", "as_of").rows() == [("binance", NOON + BAR)]
    passed, said = found(project, COMPLETE)
    assert not passed
    assert "binance%3AETH-USDT" in said
    assert "CHECKSUM" in {row["kind"] for row in rows(project, "book_gap")}


def test_a_segment_that_was_changed_is_found_within_a_day_and_told_until_it_is_back(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = begin(project)
    recording.quarters(2)
    recording.stop()
    keep_segments(project, "run")
    place = recorded_markets(project.data)[0].place
    first = manifest(place.segments)[0]
    path = place.segments / first.file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    clock = [NOON + timedelta(days=3)]
    monkeypatch.setattr(segments, "now_here", lambda: clock[0])
    # Another quarter hour of the day than its own: it is not its turn.
    assert keep_segments(project, "not its turn").changed == []
    clock[0] = segments.ended(first) + timedelta(days=3, minutes=4)
    (said,) = keep_segments(project, "its turn").changed
    assert first.file in said
    passed, sentence = found(project, COMPLETE)
    assert (passed, said in sentence) == (False, True)
    path.write_bytes(whole)
    assert keep_segments(project, "its turn", looks_at_all=True).changed == []
    assert found(project, COMPLETE)[0]


def test_a_replay_that_is_not_the_recorders_is_an_error(project: Project) -> None:
    recording = begin(project)
    recording.quarters(1)
    # What was applied and is not in the log: as if the recorder had another book than its log.
    recording.follower.state.book.bids.put(1, 1)
    recording.quarters(1)
    recording.stop()
    keep_segments(project, "run")
    one = next(one for one in of_segments(project, DAY) if one.check == SAME)
    assert (one.passed, one.is_error) == (False, True)
    assert "1 of 1 state differ" in one.sentence


def test_over_nothing_no_check_passes(project: Project) -> None:
    for check in (COMPLETE, AGREE, CROSSED, SAME):
        assert not found(project, check)[0], check


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped": lambda data, rng: _with(data, rng.randrange(len(data)), rng.randrange(1, 256)),
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "longer": lambda data, rng: data + rng.randbytes(rng.randrange(1, 200)),
    "empty": lambda data, rng: b"",
    "gone": lambda data, rng: b"GONE",
}


def _with(data: bytes, place: int, bits: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def damage(path: Path, how: str, rng: random.Random) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[how](data, rng))


@pytest.mark.long
def test_whatever_is_damaged_no_run_fails_and_no_damage_passes_for_whole(project: Project, tmp_path: Path) -> None:
    for name in ("binance:ETH-USDT", "kucoin:SOL-USDT"):
        recording = begin(project, name)
        recording.quarters(3, each=20)
        recording.stop()
    trials = 0
    for seed in range(60):
        rng = random.Random(seed)
        data = tmp_path / f"trial{seed}"
        shutil.copytree(project.data / "books", data / "books")
        trial = Project(project.config_dir, str(data))
        is_late = seed % 2 == 1
        if is_late:
            keep_segments(trial, "before")
        every = [path for path in sorted((data / "books").rglob("*")) if path.suffix in (".log", ".parquet", ".json")]
        damaged = rng.choice([path for path in every if "binance" in str(path)])
        damage(damaged, rng.choice(sorted(DAMAGES)), rng)
        done = keep_segments(trial, "run", looks_at_all=True)
        keep_features(trial, "run", DAY)
        kept = trial.lake.read("book_segment")
        assert kept.filter(pl.col("exchange") == "kucoin")["is_complete"].to_list() == [True] * 3
        untouched = damaged.exists() and damaged.suffix == ".json"  # a row of the manifest that still can be read
        is_newest = damaged.suffix == ".log" and damaged == max(damaged.parent.glob("*.log"), default=None)
        if not untouched and not is_newest and not (is_late and damaged.suffix != ".parquet"):
            one = next(one for one in of_segments(trial, DAY, done) if one.check == COMPLETE)
            binance = kept.filter(pl.col("exchange") == "binance")
            # What is cut off looks like a kill: no more than the frame under way is lost, and it is a gap.
            gaps = trial.lake.read("book_gap").filter((pl.col("exchange") == "binance") & (pl.col("part") == "LOG"))
            is_told = not one.passed or binance.height < 3 or gaps.filter(pl.col("kind") != "OPENED").height > 0
            assert is_told, (seed, damaged)
        trials += 1
        shutil.rmtree(data)
    assert trials == 60


@pytest.mark.long
def test_features_are_made_once_and_a_late_one_is_the_live_one_bit_for_bit(project: Project, tmp_path: Path) -> None:
    books = "{feeds: [{exchange: binance, markets: [ETH-USDT]}, {exchange: binance_usdm, markets: [ETH-USDT]}], lead: "
    books += "[{spot: 'binance:ETH-USDT', perpetual: 'binance_usdm:ETH-USDT'}]}"
    (Path(project.config_dir) / "books.yaml").write_text(books)
    project = Project(project.config_dir, project.data_dir)
    # A whole day before, so that there is a volume clock.
    begins = NOON - timedelta(hours=31)
    recordings = [begin(project, f"{name}:ETH-USDT", begins) for name in ("binance", "binance_usdm")]
    for hours in range(38):
        for recording in recordings:
            recording.quarters(4, each=20)
        keep_segments(project, f"hour {hours}")
        now = time_of_ns(recordings[0].now)
        keep_features(project, f"hour {hours}", Span(midnight(now.date()) - timedelta(days=1), now))
    for recording in recordings:
        recording.stop()
    live = project.lake.read("book_features")
    assert live.height == 2 * 38 * 4
    today = live.filter((pl.col("exchange") == "binance") & DAY.closes())
    assert today["vpin"].drop_nulls().len() > 20
    assert today["lead_ms"].drop_nulls().len() + today["lead_ms"].null_count() == today.height
    assert live.filter(pl.col("as_of") <= DAY.start)["bucket_lots"].null_count() == live.height - 2 * today.height
    other = tmp_path / "other"
    shutil.copytree(project.data / "books", other / "books")
    for log in other.rglob("*.log"):  # as years later: the segments alone are left, and the newest file of the log
        if log != max(log.parent.glob("*.log")):
            log.unlink()
    late = Project(project.config_dir, str(other))
    assert keep_segments(late, "late").replayed == live.height
    assert keep_features(late, "late", DAY).rows == live.height
    assert late.lake.read("book_features").equals(live)
    stamp = late.lake.stamp()
    assert keep_features(late, "again", DAY).rows == 0
    assert late.lake.stamp() == stamp
    assert LEAST_QUARTERS == 72
    # Another setting makes those of the window anew, and them alone.
    (Path(project.config_dir) / "books.yaml").write_text(books[:-1] + ", levels: 3}")
    late = Project(project.config_dir, str(other))
    assert keep_features(late, "three levels", DAY).rows == 2 * today.height


def test_a_frame_of_the_log_is_read_by_the_same_reader(project: Project) -> None:
    recording = begin(project)
    recording.quarters(1)
    recording.stop()
    (first, *_) = files(recorded_markets(project.data)[0].place.log)
    with first.path.open("rb") as opened:
        assert next(iter(Reader(opened, first.head))).stream == "opened"
