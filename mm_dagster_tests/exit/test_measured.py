"""What leaving at a WARNING was measured to be worth: said where it was measured, and nowhere else."""

from __future__ import annotations

from hashlib import sha256
from importlib import resources
from typing import Any

import pytest

from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit import measured
from mm_dagster.exit.measured import worth_of_warning
from mm_dagster.tables.registry import CODE_VERSIONS
from mm_dagster.tables.words import MEASURED
from mm_dagster_tests.exit.synthetic import climb, episode, states

WARNING, LATEST = (
    getattr(ExitConfig().thresholds.break_likely, name) for name in ("warning_on", "latest_acceptable_exit_on")
)
OTHER_LADDERS: list[dict[str, Any]] = [
    {"policy": "literal"},
    {"thresholds": {"break_likely": {"warning_on": WARNING - 0.01}}},
    {"thresholds": {"range_atr": 0.75}},
    {"confirm": {"warning": 0.5}},
    {"persist": {"off_warning": 4}},
]


def advice(values: list[float], config: ExitConfig) -> dict[str, str]:
    """The advice by state at bars with these break probabilities; the close of the last one ends the grid."""
    bars = len(values) + 2
    frame = climb(
        episode(bars, {"p_break_low_24h": values, "close": {bars - 2: 3000.0, bars - 1: 3000.0}}), bars, config
    )
    return dict(zip(states(frame), frame["advice"], strict=True))


def test_by_default_a_warning_says_what_leaving_then_was_worth_and_no_other_state_does() -> None:
    worth = worth_of_warning(ExitConfig(), TouchConfig())
    assert worth is not None
    assert worth_of_warning(ExitConfig(), TouchConfig(continuity=0.0)) is None
    found = advice([0.1, WARNING, LATEST], ExitConfig())
    assert set(found) == {"N", "W", "L", "M"}
    assert found["W"].startswith("Be ready to stop the grid")
    assert found["W"].endswith(f". {worth}")
    assert found["W"].count(MEASURED) == 1
    for state in "NLM":
        assert MEASURED not in found[state]


@pytest.mark.parametrize("change", OTHER_LADDERS, ids=str)
def test_under_another_ladder_nobody_has_measured_it(change: dict[str, Any]) -> None:
    other = ExitConfig.model_validate(change)
    assert worth_of_warning(other, TouchConfig()) is None
    # Two soft triggers, so that the literal policy warns, too.
    frame = climb(
        episode(4, {"p_break_low_24h": 0.55, "transition_probability": 0.45, "efficiency_ratio": {2: 0.4, 3: 0.4}}),
        4,
        other,
    )
    assert "W" in states(frame)
    for said in frame["advice"]:
        assert MEASURED not in said


@pytest.mark.parametrize(
    "change", [{"window_minutes": {"warning": 120}}, {"blindness": {"warning_minutes": 30}}], ids=str
)
def test_what_changes_no_threshold_leaves_it_measured(change: dict[str, Any]) -> None:
    assert worth_of_warning(ExitConfig.model_validate(change), TouchConfig()) == worth_of_warning(
        ExitConfig(), TouchConfig()
    )


def test_who_sees_nothing_is_told_to_look_and_no_figure() -> None:
    frame = climb(episode(12, {"p_break_low_24h": WARNING}, missing=range(2, 12)), 12, ExitConfig())
    blind = [row for row in frame.iter_rows(named=True) if "BLIND" in row["advice"]]
    assert any(row["state"] == "WARNING" for row in blind)
    for row in blind:
        assert MEASURED not in row["advice"]


def test_every_figure_lies_within_its_interval() -> None:
    found = measured.measured()
    assert found.grids > 0
    for value, low, high in (found.mean, found.worst):
        assert low <= value <= high
        for shown in (f"{value:+.2f}", f"({low:+.2f} to {high:+.2f}) %"):
            assert shown in (worth_of_warning(ExitConfig(), TouchConfig()) or "")


def test_a_stored_sentence_and_its_code_version_change_together() -> None:
    # Of the version of exit_state; write both down anew.
    known = {"5": "60c31e96dcee9c89f78f5f2a4a98990a8110be948f63d7925825fcccf0b80df5"}
    text = resources.files("mm_dagster.exit").joinpath(measured.FILE).read_bytes()
    assert known == {CODE_VERSIONS["exit_state"]: sha256(text).hexdigest()}, (
        "the advice is a stored column: whoever changes measured.json raises the code version of exit_state"
    )
