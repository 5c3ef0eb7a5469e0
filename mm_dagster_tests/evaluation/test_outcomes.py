"""What came after an alert: as a count by hand says, and never before its time has passed."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from mm_dagster.bars import BAR, parse_time
from mm_dagster.evaluation.outcomes import MONEY_AFTER, Life, escalations, follow, hit_rate
from mm_dagster.tables.words import STATES

START = parse_time("2026-01-05T00:00:00Z")
DAY = timedelta(days=1)


def life(closes: list[float | None], *, lows: dict[int, float] | None = None, **changes: Any) -> Life:
    """A grid from 100 upwards with its stop at 90; the value of what it holds is its close."""
    times = [START + number * BAR for number in range(len(closes))]
    bars = {
        time: (None, None) if close is None else ((lows or {}).get(number, close), close)
        for number, (time, close) in enumerate(zip(times, closes, strict=True))
    }
    values = {time: close for time, close in zip(times, closes, strict=True) if close is not None}
    return replace(Life(100.0, 90.0, 1000.0, START, bars, values, {}, times[-1]), **changes)


FLAT = [105.0] * (15 * 96)
AT = START + 10 * BAR


def with_closes(**at: float | None) -> list[float | None]:
    closes: list[float | None] = list(FLAT)
    for number, close in at.items():
        closes[int(number.removeprefix("n"))] = close
    return closes


@pytest.mark.parametrize(
    ("closes", "lows", "outcome", "hours"),
    [
        (FLAT, {}, "HELD", None),
        (with_closes(n14=99.0, n15=99.0), {}, "BROKE", 1.25),
        (with_closes(n14=99.0, n16=99.0), {}, "HELD", None),
        (with_closes(n10=99.0, n11=99.0), {}, "BROKE", 0.25),
        (with_closes(n105=99.0, n106=99.0), {}, "BROKE", 24.0),
        (with_closes(n106=99.0, n107=99.0), {}, "HELD", None),
        (FLAT, {18: 90.0}, "STOPPED", 2.0),
        (with_closes(n14=99.0, n15=99.0), {18: 89.0}, "BROKE", 1.25),
        (with_closes(n4=99.0, n5=99.0), {}, "LATE", None),
        (with_closes(n9=99.0, n10=99.0), {}, "LATE", None),
        (FLAT, {4: 89.0}, "LATE", None),
        (with_closes(n50=None), {}, "UNKNOWN", None),
        (with_closes(n14=99.0, n15=99.0, n50=None), {}, "UNKNOWN", None),
    ],
)
def test_what_came_is_counted_from_the_bar_of_the_alert(
    closes: list[float | None], lows: dict[int, float], outcome: str, hours: float | None
) -> None:
    found = follow(life(closes, lows=lows), AT, "WARNING")
    assert (found["outcome"], found["hours"]) == (outcome, hours)


@pytest.mark.parametrize("bars", [1, 5, 40, 95])
def test_an_outcome_is_open_until_its_day_has_passed_whatever_came(bars: int) -> None:
    for closes in (FLAT, with_closes(n11=99.0, n12=99.0)):
        known = life(list(closes[: 10 + bars + 1]))
        found = follow(known, AT, "WARNING")
        assert (found["outcome"], found["hours"]) == ("OPEN", None)


def test_money_is_compared_when_14_days_have_passed() -> None:
    closes = [105.0 - 0.001 * number for number in range(15 * 96)]
    whole = life(
        list(closes), entered={AT: "WARNING", AT + 8 * BAR: "LATEST_ACCEPTABLE_EXIT", AT + DAY: "MANDATORY_EXIT"}
    )
    found = follow(whole, AT, "WARNING")
    assert found["gain_vs_hold"] == pytest.approx(0.001 * 14 * 96)
    assert found["gain_vs_hold_percent"] == pytest.approx(0.0001 * 14 * 96)
    assert found["gain_vs_next_level"] == pytest.approx(0.008)
    assert follow(whole, AT + 8 * BAR, "LATEST_ACCEPTABLE_EXIT")["gain_vs_next_level"] == pytest.approx(0.088)
    early = replace(whole, known_until=AT + MONEY_AFTER - BAR)
    found = follow(early, AT, "WARNING")
    assert (found["gain_vs_hold"], found["gain_vs_next_level"]) == (None, None)
    # A grid that its operator stopped has no value any more, and nobody invents one.
    stopped = replace(whole, values={time: value for time, value in whole.values.items() if time < AT + DAY})
    assert follow(stopped, AT, "WARNING")["gain_vs_hold"] is None


def by_hand(closes: list[float], at: int) -> str:
    """Without a loop that the code has, too."""
    pairs = [n for n in range(1, len(closes)) if closes[n] < 100 and closes[n - 1] < 100]
    stops = [n for n in range(1, len(closes)) if closes[n] <= 90]
    first = min(pairs + stops, default=None)
    if first is not None and first <= at:
        return "LATE"
    if at + 96 >= len(closes):
        return "OPEN"
    if first is None or first > at + 96:
        return "HELD"
    return "STOPPED" if first in stops else "BROKE"


def test_two_hundred_alerts_of_random_years_are_as_counted_by_hand() -> None:
    chance, counted = random.Random(17), []
    while len(counted) < 200:
        level, closes = 106.0, []
        for _ in range(chance.randint(150, 900)):
            level += chance.gauss(0, 0.4)
            closes.append(level)
        known = life(list(closes))
        for at in chance.sample(range(len(closes)), 5):
            expected = by_hand(closes, at)
            assert follow(known, START + at * BAR, "WARNING")["outcome"] == expected
            counted.append(expected)
    assert {"OPEN", "BROKE", "HELD", "LATE"} <= set(counted)


def test_a_state_is_entered_when_it_is_higher_than_before() -> None:
    names = [
        "NORMAL",
        "WARNING",
        "WARNING",
        None,
        "LATEST_ACCEPTABLE_EXIT",
        "WARNING",
        "LATEST_ACCEPTABLE_EXIT",
        "NORMAL",
    ]
    states = pl.DataFrame({"as_of": [START + n * BAR for n in range(8)], "state": names})
    assert escalations(states) == {
        START + BAR: STATES[1], START + 4 * BAR: STATES[2], START + 6 * BAR: STATES[2],
    }  # fmt: skip


def test_a_hit_rate_has_wilson_s_interval_and_leaves_out_what_is_not_known() -> None:
    """Newcombe (1998), table I: 81 of 263 is .2553 to .3662, 15 of 148 .0624 to .1605, 0 of 20 0 to .1611."""
    for hits, known, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        outcomes = pl.Series(["BROKE"] * hits + ["HELD"] * (known - hits) + ["OPEN", "LATE", "UNKNOWN"] * 9)
        found = hit_rate(outcomes)
        assert (found.hits, found.known) == (hits, known)
        assert found.low == pytest.approx(low, abs=5e-5)
        assert found.high == pytest.approx(high, abs=5e-5)
    assert hit_rate(pl.Series(["OPEN", "LATE"])) == (0, 0, None, None, None)
