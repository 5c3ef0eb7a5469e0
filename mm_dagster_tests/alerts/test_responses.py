"""What the operator did: which alert it answers, how soon, and whether in time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from mm_dagster import tables
from mm_dagster.alerts.responses import response
from mm_dagster.config import WindowMinutes
from mm_dagster_tests.alerts.given import T0, grid, minutes

GRID, WINDOWS = grid(), WindowMinutes()


def ledger(*rows: tuple[str, datetime, str]) -> pl.DataFrame:
    """Rows of an alert_id, when it was sent, and the state; an alert_id with a dash was not sent."""
    base: dict[str, Any] = {"grid_id": GRID.id, "activated_at": GRID.activated_at, "symbol": GRID.symbol, "as_of": T0}
    told = [
        base
        | {"alert_id": name, "kind": "ESCALATION", "state": state, "state_since": T0, "priority": 0, "created_at": sent}
        | ({"status": "SUPPRESSED"} if name.startswith("-") else {"status": "SENT", "sent_at": sent})
        for name, sent, state in rows
    ]
    return tables.conform(pl.DataFrame(told, infer_schema_length=None), "notification")


def given(action: str, after: float, *rows: tuple[str, datetime, str], note: str | None = None) -> dict[str, Any]:
    found = response(GRID, action, T0 + minutes(after), note, ledger(*rows), WINDOWS)
    assert tables.broken_rules(found, "operator_response") == {}
    return found.row(0, named=True)


@pytest.mark.parametrize(
    ("state", "after", "in_time"),
    [
        ("WARNING", 240, True),
        ("WARNING", 240.1, False),
        ("LATEST_ACCEPTABLE_EXIT", 60, True),
        ("LATEST_ACCEPTABLE_EXIT", 61, False),
        ("MANDATORY_EXIT", 15, True),
        ("MANDATORY_EXIT", 16, False),
    ],
)
def test_a_response_is_in_time_within_the_window_of_its_alert(state: str, after: float, in_time: bool):
    found = given("stopped", after, ("a", T0, state), note="by hand")
    assert (found["alert_id"], found["within_window"], found["note"]) == ("a", in_time, "by hand")
    assert found["seconds_from_alert"] == pytest.approx(60 * after)


def test_it_answers_the_last_alert_that_was_told_before_it():
    told = (("a", T0, "WARNING"), ("b", T0 + minutes(30), "MANDATORY_EXIT"), ("-c", T0 + minutes(31), "WARNING"))
    assert given("kept", 20, *told)["alert_id"] == "a"
    assert given("stopped", 40, *told)["alert_id"] == "b"


def test_the_same_response_twice_is_one():
    told = ("a", T0, "WARNING")
    assert given("kept", 5, told)["response_id"] == given("kept", 5, told, note="again")["response_id"]
    assert given("kept", 5, told)["response_id"] != given("stopped", 5, told)["response_id"]


def test_without_an_alert_there_is_nothing_to_answer():
    with pytest.raises(ValueError, match="eth-v3: no alert was told before 2026-01-10 11:59 UTC"):
        response(GRID, "kept", T0 - timedelta(seconds=1), None, ledger(("a", T0, "WARNING")), WINDOWS)
    with pytest.raises(ValueError, match="nothing to respond to"):
        response(GRID, "kept", T0, None, ledger(), WINDOWS)
