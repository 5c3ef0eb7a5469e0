"""The sentences that people read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mm_dagster.exit.reasons import reasons_of, sentence
from mm_dagster.exit.triggers import TRIGGERS
from mm_dagster_tests.exit.synthetic import climb, episode


@pytest.mark.parametrize(
    ("name", "value", "threshold", "expected"),
    [
        ("STOP_BREACHED", 2980.5, 2990.0, "Low 2,980.5 at or below the stop 2,990"),
        ("CLOSES_OUTSIDE", -2.0, -2.0, "Closes in a row below the grid: 2 (limit 2)"),
        ("CLOSES_OUTSIDE", 3.0, 2.0, "Closes in a row above the grid: 3 (limit 2)"),
        ("REGIME_TREND", 3.0, 3.0, "Verdict: TREND"),
        ("RANGE_INVALIDATED", 0.8, 0.5, "Range of the activation left by more than 0.5 ATR, now 0.80 ATR outside"),
        ("RANGE_INVALIDATED", -2.0, 0.5, "Range of the activation left by more than 0.5 ATR, now inside"),
        ("RANGE_INVALIDATED", None, 0.5, "Range of the activation left by more than 0.5 ATR"),
        ("TRANSITION_PERSISTS", 2.0, 2.0, "Verdict: TRANSITION or TREND, now and hours before"),
        ("REVERSION_LOST", math.inf, 20.0, "Half-life of the reversion: none, no reversion (limit 20.0 h, from its "),
        ("VOLATILITY_EXPANDED", 1.4, 1.25, "True range against its week: 1.40 (limit 1.25)"),
        ("TRANSITION_LIKELY", 0.55, 0.4, "Transition or trend: 55 % (limit 40 %)"),
        ("CONFIDENCE_FALLING", 0.15, 0.1, "Confidence in the range fell within 4 h by 0.15 (limit 0.10)"),
        ("EFFICIENCY_RISING", 0.08, 0.05, "Efficiency ratio rose within 4 h by 0.08 (limit 0.05)"),
        ("REVERSION_SLOWING", 12.0, 9.6, "Half-life of the reversion: 12.0 h (limit 9.6 h, from 4 h before)"),
        ("BREAK_LIKELY", 0.71, 0.6, "Break below the grid within 24 h: 71 % (limit 60 %)"),
    ],
)
def test_a_sentence_has_value_and_threshold(name: str, value: Any, threshold: float, expected: str) -> None:
    assert sentence({"name": name, "value": value, "threshold": threshold}).startswith(expected)


def test_every_trigger_has_a_sentence() -> None:
    for trigger in TRIGGERS:
        assert sentence({"name": trigger.name, "value": 1.0, "threshold": 0.5})
    with pytest.raises(ValueError, match="'MOON' is no trigger"):
        sentence({"name": "MOON", "value": 1.0, "threshold": 0.5})


def test_the_most_urgent_comes_first_and_what_is_measured_before_what_is_read_into_it() -> None:
    frame = climb(episode(2, {"atr_expansion": 1.3, "verdict": ["TREND"] * 2, "p_break_low_24h": 0.71}), 2)
    row = frame.row(1, named=True)
    assert reasons_of(row["triggers"], row["state"]) == [
        "Verdict: TREND",
        "Break below the grid within 24 h: 71 % (limit 60 %)",
        "True range against its week: 1.30 (limit 1.25)",
    ]
    latest = climb(episode(2, {"atr_expansion": 1.3, "p_break_low_24h": 0.71}), 2)
    assert latest["advice"][1] == (
        "Stop the grid within 1 h: Break below the grid within 24 h: 71 % (limit 60 %); "
        "True range against its week: 1.30 (limit 1.25)."
    )


def test_an_unknown_probability_is_told_where_it_may_be_the_reason() -> None:
    row = climb(episode(2, {"p_break_low_24h": [0.1, None]}), 2).row(1, named=True)
    assert reasons_of(row["triggers"], row["state"]) == ["The probability of a break below the grid cannot be known"]
    assert reasons_of(row["triggers"], "NORMAL") == []


def test_silence_is_explained_where_the_state_is_not_normal() -> None:
    frame = climb(episode(4, {"p_break_low_24h": [0.4, 0.4]}), 4)
    row = frame.row(3, named=True)
    assert reasons_of(row["triggers"], row["state"]) == [
        "No trigger fires at this bar; WARNING stays until nothing has counted for some time"
    ]
    assert reasons_of(row["triggers"], "NORMAL") == []
    blind = climb(episode(5, missing=range(1, 5)), 5).row(4, named=True)
    assert reasons_of(blind["triggers"], blind["state"]) == ["12 of 12 triggers cannot be known"]
