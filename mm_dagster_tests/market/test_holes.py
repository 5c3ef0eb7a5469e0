"""What was asked for and not sent: when it is asked for again, and when it is believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from mm_dagster.bars import BAR, TIME
from mm_dagster.pipeline.holes import WAITS, bars_of, noted, resting
from mm_dagster.tables.registry import broken_rules, empty

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 5, 12, 1, tzinfo=UTC)


def opened(*numbers: int, kept: bool = True) -> pl.DataFrame:
    times = pl.Series([START + number * BAR for number in numbers], dtype=TIME)
    return pl.DataFrame(
        {"open_time": times, "kept": [kept] * len(numbers)}, schema={"open_time": TIME, "kept": pl.Boolean}
    )


def after(was: pl.DataFrame, holes: pl.DataFrame, now: datetime, known: tuple[int, ...] = ()) -> pl.DataFrame:
    times = pl.Series([START + number * BAR for number in known], dtype=TIME)
    found = noted("ETH-USDT", "main", was, times, holes, now)
    assert not broken_rules(found, "candle_hole")
    return found


def test_the_wait_grows_from_answer_to_answer_and_stays_at_a_week() -> None:
    holes, now = empty("candle_hole"), NOW
    for count, wait in enumerate([*WAITS, WAITS[-1]], start=1):
        holes = after(holes, opened(3, 4), now)
        assert holes.select("asked", "due_at", "until").rows() == [(count, now + wait, START + 5 * BAR)]
        now += wait


def test_the_same_answer_within_minutes_is_no_second_one() -> None:
    first = after(empty("candle_hole"), opened(3), NOW)
    assert after(first, opened(3), NOW + timedelta(minutes=1)).equals(first)


def test_bars_that_came_are_holes_no_more_and_the_rest_is_cut() -> None:
    first = after(empty("candle_hole"), opened(*range(10)), NOW)
    assert first.height == 1
    left = after(first, opened(), NOW + BAR, known=(4, 5))
    assert bars_of(left)["open_time"].to_list() == [START + n * BAR for n in (0, 1, 2, 3, 6, 7, 8, 9)]
    assert left["asked"].to_list() == [1, 1]
    assert after(left, opened(), NOW, known=tuple(range(10))).is_empty()


def test_what_a_venue_does_not_keep_rests_for_ever_and_other_holes_until_their_turn() -> None:
    holes = pl.concat(
        [after(empty("candle_hole"), opened(1, 2, kept=False), NOW), after(empty("candle_hole"), opened(9), NOW)]
    )
    tick = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def rests(now: datetime | None) -> list[int]:
        return [(time - START) // BAR for time in resting(holes, now)["open_time"]]

    assert rests(tick) == [1, 2, 9]
    assert rests(tick + BAR) == [1, 2]
    assert rests(None) == [1, 2]
