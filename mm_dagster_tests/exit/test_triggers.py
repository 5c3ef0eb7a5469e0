"""Every trigger at hand-made bars: it fires, it just does not, it cannot be known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mm_dagster.bars import BAR
from mm_dagster.config.exit import ExitConfig, Thresholds
from mm_dagster.exit.triggers import TRIGGERS
from mm_dagster_tests.exit.synthetic import START, episode, evaluate, grid

INF = math.inf
LAST = 20
"""The evaluation that is looked at; 4 hours before it is evaluation 4, one hour before 19 - 3 = 16."""


def at(name: str, values: dict[str, Any], missing: tuple[int, ...] = ()) -> tuple[Any, Any, Any]:
    frame = evaluate(episode(LAST + 1, values, missing=missing), LAST + 1)
    row = frame.row(LAST, named=True)
    return row[f"{name}.value"], row[f"{name}.threshold"], row[f"{name}.fired"]


CASES: list[tuple[str, dict[str, Any], bool | None]] = [
    ("STOP_BREACHED", {"low": {LAST: 2990.0}}, True),
    ("STOP_BREACHED", {"low": {LAST: 2990.01}}, False),
    ("STOP_BREACHED", {"low": {LAST - 1: 2980.0}}, False),
    ("CLOSES_OUTSIDE", {"close": {LAST - 1: 3069.9, LAST: 3069.9}}, True),
    ("CLOSES_OUTSIDE", {"close": {LAST - 1: 3185.1, LAST: 3190.0}}, True),
    ("CLOSES_OUTSIDE", {"close": {LAST - 1: 3070.0, LAST: 3069.9}}, False),
    ("CLOSES_OUTSIDE", {"close": {LAST - 1: 3190.0, LAST: 3060.0}}, False),
    ("CLOSES_OUTSIDE", {"close": {LAST - 2: 3060.0, LAST: 3060.0}}, False),
    ("REGIME_TREND", {"verdict": {LAST: "TREND"}}, True),
    ("REGIME_TREND", {"verdict": {LAST: "TRANSITION"}}, False),
    ("REGIME_TREND", {"verdict": {LAST: None}}, None),
    ("RANGE_INVALIDATED", {"close": {LAST: 3185.01}}, True),
    ("RANGE_INVALIDATED", {"close": {LAST: 3185.0}}, False),
    ("RANGE_INVALIDATED", {"close": {LAST: 3069.99}}, True),
    ("RANGE_INVALIDATED", {"close": {LAST: 3070.0}}, False),
    ("RANGE_INVALIDATED", {"close": {3: 3060.0}}, True),
    ("RANGE_INVALIDATED", {"range_low": {0: None}, "close": {LAST: 3000.0}}, None),
    ("RANGE_INVALIDATED", {"atr": {0: 0.0}, "close": {LAST: 3000.0}}, None),
    ("TRANSITION_PERSISTS", {"verdict": {20: "TRANSITION", 16: "TREND", 12: "TRANSITION", 8: "TRANSITION"}}, True),
    ("TRANSITION_PERSISTS", {"verdict": {20: "TRANSITION", 4: "TRANSITION"}}, True),
    ("TRANSITION_PERSISTS", {"verdict": {20: "TRANSITION", 16: "TREND", 12: "TRANSITION"}}, False),
    ("TRANSITION_PERSISTS", {"verdict": {16: "TREND", 12: "TREND", 8: "TREND", 4: "TREND"}}, False),
    ("TRANSITION_PERSISTS", {"verdict": {20: "TRANSITION", 4: "TRANSITION", 12: None}}, None),
    ("REVERSION_LOST", {"half_life": {LAST: 20.0}}, True),
    ("REVERSION_LOST", {"half_life": {LAST: 19.9}}, False),
    ("REVERSION_LOST", {"half_life": {LAST: INF}}, True),
    ("REVERSION_LOST", {"half_life": {LAST: 7.9}, "half_life_baseline": {LAST: 1.0}}, False),
    ("REVERSION_LOST", {"half_life": {LAST: 8.0}, "half_life_baseline": {LAST: 1.0}}, True),
    ("REVERSION_LOST", {"half_life": {LAST: INF}, "half_life_baseline": {LAST: INF}}, None),
    ("REVERSION_LOST", {"half_life_baseline": {LAST: None}}, None),
    ("REVERSION_LOST", {"half_life": {LAST: None}}, None),
    ("VOLATILITY_EXPANDED", {"atr_expansion": {LAST: 1.26}}, True),
    ("VOLATILITY_EXPANDED", {"atr_expansion": {LAST: 1.25}}, False),
    ("VOLATILITY_EXPANDED", {"atr_expansion": {LAST: None}}, None),
    ("TRANSITION_LIKELY", {"transition_probability": {LAST: 0.4}}, True),
    ("TRANSITION_LIKELY", {"transition_probability": {LAST: 0.39}}, False),
    ("TRANSITION_LIKELY", {"transition_probability": {LAST: None}}, None),
    ("CONFIDENCE_FALLING", {"confidence": {LAST: 0.375}}, True),
    ("CONFIDENCE_FALLING", {"confidence": {LAST: 0.4375}}, False),
    ("CONFIDENCE_FALLING", {"confidence": {LAST: 0.375}, "verdict": {4: "RANGE_WEAK"}}, True),
    ("CONFIDENCE_FALLING", {"confidence": {LAST: 0.375}, "verdict": {4: "TRANSITION"}}, False),
    ("CONFIDENCE_FALLING", {"confidence": {LAST: 0.375}, "verdict": {4: None}}, None),
    ("CONFIDENCE_FALLING", {"confidence": {4: None}}, None),
    ("EFFICIENCY_RISING", {"efficiency_ratio": {LAST: 0.3125}}, True),
    ("EFFICIENCY_RISING", {"efficiency_ratio": {LAST: 0.28125}}, False),
    ("EFFICIENCY_RISING", {"efficiency_ratio": {4: None}}, None),
    ("REVERSION_SLOWING", {"half_life": {4: 5.0, LAST: 6.0}}, True),
    ("REVERSION_SLOWING", {"half_life": {4: 5.0, LAST: 5.99}}, False),
    ("REVERSION_SLOWING", {"half_life": {4: 1.0, LAST: 3.9}}, False),
    ("REVERSION_SLOWING", {"half_life": {4: 1.0, LAST: 4.0}}, True),
    ("REVERSION_SLOWING", {"half_life": {LAST: INF}}, True),
    ("REVERSION_SLOWING", {"half_life": {4: INF, LAST: INF}}, None),
    ("REVERSION_SLOWING", {"half_life": {4: None}}, None),
    ("BREAK_LIKELY", {"p_break_low_24h": {LAST: 0.35}}, True),
    ("BREAK_LIKELY", {"p_break_low_24h": {LAST: 0.34}}, False),
    ("BREAK_LIKELY", {"p_break_low_24h": {LAST: None}}, None),
]


@pytest.mark.parametrize(("name", "values", "fired"), CASES)
def test_trigger_fires_as_defined(name: str, values: dict[str, Any], fired: bool | None) -> None:
    assert at(name, values)[2] is fired


def test_every_trigger_has_a_case_that_fires_and_one_that_does_not() -> None:
    for trigger in TRIGGERS:
        assert {fired for name, _, fired in CASES if name == trigger.name} >= {True, False}


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
def test_nothing_fires_in_a_quiet_episode_and_all_is_known(trigger: Any) -> None:
    assert at(trigger.name, {})[2] is False


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.name)
def test_at_a_missing_bar_nothing_is_known(trigger: Any) -> None:
    value, _, fired = at(trigger.name, {}, missing=(LAST,))
    assert fired is None
    assert value is None


def test_two_closes_around_a_missing_bar_are_not_consecutive() -> None:
    below = {"close": {18: 3060.0, 19: 3060.0, 20: 3060.0}}
    assert at("CLOSES_OUTSIDE", below, missing=(19,)) == (-1.0, -2.0, None)


@pytest.mark.parametrize(
    ("closes", "fired"),
    [
        ([3060.0, None, 3100.0], False),  # inside: whatever the hole hides, it is no run
        ([3060.0, None, 3060.0, 3060.0, 3190.0], False),  # the run on the other side began in sight
        ([3100.0, None, 3060.0, 3060.0], None),
        ([3100.0, None, 3060.0, 3060.0, 3060.0], True),
        ([3060.0, 3060.0, None], None),
    ],
)
def test_a_hole_makes_closes_outside_unknown_only_where_it_could_hide_a_run(closes: Any, fired: Any) -> None:
    config = ExitConfig(thresholds=Thresholds(closes_outside=3))
    holes = [bar for bar, close in enumerate(closes) if close is None]
    frame = evaluate(episode(len(closes), {"close": closes}, missing=holes), len(closes), config)
    assert frame["CLOSES_OUTSIDE.fired"][-1] is fired


def test_a_low_from_before_the_activation_breaches_no_stop() -> None:
    lows = {"low": {0: 2900.0}}
    assert evaluate(episode(2, lows), 2)["STOP_BREACHED.fired"].to_list() == [False, False]
    assert evaluate(episode(2, lows), 2)["STOP_BREACHED.value"].to_list() == [3127.0, 3120.0]
    # What closed at the stop at the activation was there, and of a bar in which it began nobody knows what came first.
    assert evaluate(episode(1, {"close": {0: 2990.0}}), 1)["STOP_BREACHED.fired"].to_list() == [True]
    within = grid(activated_at=START - BAR / 3)
    frames = episode(2, lows, of=within)
    assert evaluate(frames, 1, of=within)["STOP_BREACHED.fired"].to_list() == [True]


def test_closes_outside_keep_their_side_and_count_since_the_activation_only() -> None:
    assert at("CLOSES_OUTSIDE", {"close": {18: 3060.0, 19: 3050.0, 20: 3040.0}}) == (-3.0, -2.0, True)
    assert at("CLOSES_OUTSIDE", {"close": {19: 3190.0, 20: 3191.0}}) == (2.0, 2.0, True)
    frame = evaluate(episode(2, {"close": {-2: 3060.0, -1: 3060.0, 0: 3060.0, 1: 3060.0}}), 2)
    assert frame["CLOSES_OUTSIDE.fired"].to_list() == [False, True]


def test_the_prices_beyond_which_a_close_leaves_the_frozen_range_are_told() -> None:
    frame = evaluate(episode(2, {"range_low": {1: 3000.0}, "atr": {1: 99.0}}), 2)
    assert frame["range_fires_below"].to_list() == [3070.0, 3070.0]
    assert frame["range_fires_above"].to_list() == [3185.0, 3185.0]
    unknown = evaluate(episode(2, {"atr": {0: None}}), 2)
    assert unknown["range_fires_below"].to_list() == unknown["range_fires_above"].to_list() == [None, None]


def test_the_range_is_frozen_at_activation_and_stays_left() -> None:
    later = {"range_low": dict.fromkeys(range(1, 30), 3000.0), "close": {18: 3060.0}}
    frame = evaluate(episode(LAST + 1, later, missing=(20,)), LAST + 1)
    assert frame["RANGE_INVALIDATED.fired"].to_list()[16:] == [False, False, True, True, True]
    assert frame["RANGE_INVALIDATED.value"].to_list()[17:] == [-5.2, 1.5, -5.2, None]
    assert frame["complete"].all()


@pytest.mark.parametrize("column", ["range_high", "range_low", "atr"])
def test_without_the_frozen_range_the_episode_is_not_complete(column: str) -> None:
    frame = evaluate(episode(3, {column: {0: None}}), 3)
    assert frame["complete"].to_list() == [False] * 3
    assert frame["RANGE_INVALIDATED.fired"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("p", "threshold", "variants"),
    [
        (0.24, 0.35, (False, False, False, False)),
        (0.25, 0.35, (False, True, False, False)),
        (0.34, 0.35, (False, True, False, False)),
        (0.35, 0.35, (True, True, False, False)),
        (0.45, 0.35, (True, True, False, True)),
        (0.60, 0.60, (True, True, True, True)),
        (None, 0.35, (None, None, None, None)),
    ],
)
def test_break_likely_has_thresholds_for_both_ways(p: float | None, threshold: float, variants: Any) -> None:
    row = evaluate(episode(1, {"p_break_low_24h": [p]}), 1).row(0, named=True)
    names = ("warning_on", "warning_off", "latest_acceptable_exit_on", "latest_acceptable_exit_off")
    assert tuple(row[f"BREAK_LIKELY.{name}"] for name in names) == variants
    assert row["BREAK_LIKELY.threshold"] == threshold


def test_thresholds_come_from_the_configuration() -> None:
    config = ExitConfig(thresholds=Thresholds(closes_outside=3, volatility_expansion=0.9, range_atr=20))
    frame = evaluate(episode(3, {"close": 3060.0, "range_low": 3075.0}), 3, config)
    assert frame["CLOSES_OUTSIDE.fired"].to_list() == [False, False, True]
    assert frame["VOLATILITY_EXPANDED.fired"].to_list() == [True] * 3
    assert frame["RANGE_INVALIDATED.fired"].to_list() == [False] * 3


def test_age_is_that_of_the_newest_known_bar() -> None:
    frame = evaluate(episode(5, missing=(1, 2), absent=(3,)), 5)
    assert frame["age_minutes"].to_list() == [0, 15, 30, 45, 0]
    nothing = evaluate(episode(2, missing=range(-16, 2)), 2)
    assert nothing["age_minutes"].to_list() == [INF, INF]


def test_an_end_before_the_activation_gives_no_rows() -> None:
    assert evaluate(episode(1), -30).is_empty()
    assert evaluate(episode(3), 2)["as_of"].to_list() == [START, START + BAR]
