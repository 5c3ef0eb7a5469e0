"""What is nearest to firing, in the operator's words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.arrays import log_ratio
from mm_dagster.config.exit import BreakLikely, Confirm, ExitConfig, Thresholds
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.next_triggers import offset_of, price_of_probability
from mm_dagster.exit.triggers import TRIGGERS
from mm_dagster.grid import touch
from mm_dagster_tests.exit.synthetic import LITERAL, climb, episode

SCALES = TouchConfig()
LAST = 20
"""The evaluation that is looked at; 4 hours before it is evaluation 4."""


def told(values: dict[str, Any], config: ExitConfig | None = None, missing: tuple[int, ...] = ()) -> list[str]:
    frame = climb(episode(LAST + 1, values, missing), LAST + 1, config)
    sentences: list[str] = frame["nearest"][LAST].to_list()
    return sentences


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"p_break_low_24h": 0.47, "close": 3090.0},
            "Break below the grid within 24 h: 47 % (fires at 60 %, at a price",
        ),
        (
            {"p_break_low_24h": 0.3499, "close": 3090.0},
            "Break below the grid within 24 h: 34 % (fires at 35 %, at a pri",
        ),
        ({"close": 3127.0, "low": 3000.0}, "Stop 2,990: 4.3 % below"),
        ({"close": {LAST: 3069.0}}, "Closes below the grid: 1 of 2 (below 3,070)"),
        ({"close": {LAST: 3186.0}}, "Closes above the grid: 1 of 2 (above 3,185)"),
        ({"close": {LAST: 3075.0}}, "Closes below the grid: 0 of 2 (below 3,070, 0.1 % away)"),
        ({"close": {LAST: 3160.0}}, "Closes above the grid: 0 of 2 (above 3,185, 0.7 % away)"),
        ({"close": {LAST: 3160.0}}, "Range of the activation: inside (left at a close above 3,185, 0.7 % away)"),
        ({"close": {LAST: 3090.0}}, "Range of the activation: inside (left at a close below 3,070, 0.6 % away)"),
        ({"verdict": {LAST: "TRANSITION"}}, "Verdict: TRANSITION (fires at TREND)"),
        ({"verdict": "RANGE_WEAK"}, "Mildest verdict of the last hours: RANGE_WEAK (fires at TRANSITION)"),
        ({"half_life": 19.96}, "Half-life of the reversion: 19.9 h (fires at 20.0 h, from its baseline)"),
        ({"half_life": {LAST: 9.5}}, "Half-life of the reversion: 9.5 h (fires at 9.6 h, from 4 h before)"),
        ({"atr_expansion": 1.25}, "True range against its week: 1.25 (fires above 1.25)"),
        ({"transition_probability": 0.399}, "Transition or trend: 39 % (fires at 40 %)"),
        ({"confidence": {LAST: 0.42}}, "Confidence in the range fell within 4 h by 0.08 (fires at 0.10)"),
        ({"efficiency_ratio": {LAST: 0.2899}}, "Efficiency ratio rose within 4 h by 0.03 (fires at 0.05)"),
    ],
)
def test_every_trigger_says_where_it_stands_and_what_would_fire_it(values: dict[str, Any], sentence: str) -> None:
    said = told(values, LITERAL)
    assert any(one.startswith(sentence) for one in said), said


def test_the_nearest_comes_first_and_there_are_three_at_most() -> None:
    # Shares of their ways: .90, 8.0 of 9.6 hours, .08 of .10, 20 of 35 %.
    said = told({"transition_probability": 0.36, "confidence": {LAST: 0.42}, "p_break_low_24h": 0.2}, LITERAL)
    assert [one.split(":")[0].split(" (")[0] for one in said] == [
        "Transition or trend",
        "Half-life of the reversion",
        "Confidence in the range fell within 4 h by 0.08",
    ]


def test_under_confirmed_a_soft_trigger_is_as_far_as_its_confirmation_makes_it_and_says_so() -> None:
    values = {"transition_probability": 0.36, "p_break_low_24h": 0.15, "close": 3110.0}
    said = told(values)
    assert said[0] == "Transition or trend: 36 % (fires at 40 %; counts only with a break below at 30 %)"
    assert said[1].startswith("Break below the grid within 24 h: 15 % (fires at 35 %, at a price of")
    assert told(values | {"p_break_low_24h": 0.3})[0] == "Transition or trend: 36 % (fires at 40 %)"


def test_what_has_fired_is_not_near_anymore() -> None:
    everything = {
        "close": 3060.0,
        "low": 2980.0,
        "verdict": "TREND",
        "transition_probability": 0.9,
        "half_life": [8.0] * 5 + [30.0] * 16,
        "atr_expansion": 2.0,
        "efficiency_ratio": {LAST: 0.9},
        "confidence": {LAST: 0.1},
        "p_break_low_24h": 1.0,
    }
    assert told(everything) == []


def test_a_fall_of_the_confidence_that_cannot_fire_is_not_near() -> None:
    values = {"confidence": {LAST: 0.3}, "verdict": {4: "TRANSITION"}}
    assert not any("Confidence" in one for one in told(values, LITERAL))


def test_the_unknown_is_told_last() -> None:
    values = {"verdict": {LAST: None}, "transition_probability": {LAST: None}, "p_break_low_24h": 0.2, "close": 3100.0}
    said = told(values)
    assert len(said) == 3
    assert said[2] == ("Cannot be known: the verdict, the verdict of the last hours, the probability of a transition")
    assert told({"p_break_low_24h": {LAST: None}})[-1] == "Cannot be known: a break below the grid within 24 h"
    assert told({}, missing=(LAST,)) == ["12 of 12 triggers cannot be known"]


def test_a_price_is_told_only_where_it_can_be_known() -> None:
    assert "Break below the grid within 24 h: 30 % (fires at 35 %)" in told(
        {"p_break_low_24h": 0.3, "close": {LAST: None}}
    )


def test_thresholds_come_from_the_configuration() -> None:
    limits = Thresholds(
        transition_likely=0.8,
        volatility_expansion=0.9,
        closes_outside=4,
        break_likely=BreakLikely(warning_on=0.5, latest_acceptable_exit_on=0.8),
    )
    config = ExitConfig(policy="literal", thresholds=limits)
    assert "Transition or trend: 70 % (fires at 80 %)" in told({"transition_probability": 0.7}, config)
    assert "Closes below the grid: 3 of 4 (below 3,070)" in told({"close": {18: 3069, 19: 3069, LAST: 3069}}, config)
    said = told({"p_break_low_24h": 0.45, "close": 3090.0}, config)
    assert any(one.startswith("Break below the grid within 24 h: 45 % (fires at 50 %") for one in said)
    # A limit below where it rests is always exceeded: nothing is left to fire, and nothing divides by zero.
    assert not any("week" in one for one in told({"atr_expansion": 1.0}, config))


def test_a_threshold_of_nothing_is_always_exceeded_and_divides_by_nothing() -> None:
    none = BreakLikely(warning_on=0.0, warning_off=0.0, latest_acceptable_exit_on=0.0, latest_acceptable_exit_off=0.0)
    zero = ExitConfig(
        confirm=Confirm(warning=0, latest_acceptable_exit=0.55, mandatory=0.6),
        thresholds=Thresholds(break_likely=none, transition_likely=0, confidence_fall=0, efficiency_rise=0),
    )
    with np.errstate(all="raise"):
        said = told({"p_break_low_24h": 0.0, "efficiency_ratio": {LAST: 0.1}}, zero)
    assert not any(one.startswith(("Break", "Transition", "Efficiency")) for one in said)


def test_there_are_words_for_every_trigger_that_is_not_known() -> None:
    for trigger in TRIGGERS:
        gone = {
            "STOP_BREACHED": {"close": {LAST: None}},
            "CLOSES_OUTSIDE": {"close": {LAST: None}},
            "REGIME_TREND": {"verdict": {LAST: None}},
            "RANGE_INVALIDATED": {"atr": {0: None}},
            "TRANSITION_PERSISTS": {"verdict": {LAST: None}},
            "REVERSION_LOST": {"half_life_baseline": {LAST: None}},
            "VOLATILITY_EXPANDED": {"atr_expansion": {LAST: None}},
            "TRANSITION_LIKELY": {"transition_probability": {LAST: None}},
            "CONFIDENCE_FALLING": {"confidence": {LAST: None}},
            "EFFICIENCY_RISING": {"efficiency_ratio": {LAST: None}},
            "REVERSION_SLOWING": {"half_life": {4: None}},
            "BREAK_LIKELY": {"p_break_low_24h": {LAST: None}},
        }[trigger.name]
        assert told(gone)[-1].startswith("Cannot be known: ")


@given(
    st.floats(1e-3, 0.2), st.floats(100.0, 100_000.0), st.floats(0.0005, 0.4), st.sampled_from([0.25, 0.35, 0.6, 0.9])
)
def test_at_the_price_that_is_told_the_touch_probability_is_the_threshold(
    sigma: float, lower: float, away: float, target: float
) -> None:
    sigmas, price = np.array([sigma]), np.array([lower * math.exp(away)])

    def p_at(price: Any) -> Any:
        distance = log_ratio(price, np.array([lower]))
        return touch.probability(distance, sigmas, 24, SCALES.k_break.h24, SCALES.continuity)

    told_price = price_of_probability(p_at(price), price, np.array([lower]), np.array([target]), offset_of(SCALES))
    assert p_at(told_price)[0] == pytest.approx(target, abs=1e-9)


def test_without_a_distance_there_is_no_price() -> None:
    p = np.array([1.0, 0.0, math.nan, 0.5, 0.5])
    price = np.array([90.0, 110.0, 110.0, math.nan, 100.0])
    assert np.isnan(price_of_probability(p, price, np.full(5, 100.0), np.full(5, 0.6), 0.0)).all()
    # The highest probability of all is that at the bound: what is above it is reached at no price.
    offset = offset_of(SCALES)
    most = float(touch.probability(np.zeros(1), np.ones(1), 24, SCALES.k_break.h24, SCALES.continuity)[0])
    near, beyond = np.array([most - 1e-3]), np.array([most + 1e-3])
    of = (np.array([0.5]), np.array([110.0]), np.array([100.0]))
    assert 100.0 < price_of_probability(*of, near, offset)[0] < 100.1
    assert np.isnan(price_of_probability(*of, beyond, offset)[0])
