"""The views of a scripted week of alerts and responses, against numbers computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mm_dagster import tables
from mm_dagster.history import views as module
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.history.views import View

COMMIT = Commit("test", "test", "")
MONDAY = datetime(2026, 6, 29, 8, tzinfo=UTC)
ALERTS = {
    # Number: day, state, seconds to the acknowledgement, whether it expired.
    1: (0, "WARNING", None, False),
    2: (0, "WARNING", 120, False),
    3: (1, "WARNING", None, False),
    4: (2, "MANDATORY_EXIT", 30, False),
    5: (3, "MANDATORY_EXIT", None, True),
    6: (4, "LATEST_ACCEPTABLE_EXIT", None, False),
}
RESPONSES = [
    # Alert, seconds after it, action, in time.
    (1, 600, "kept", True),
    (1, 900, "stopped", True),
    (2, 20_000, "reduced", False),
    (4, 90, "stopped", True),
    (6, 1_800, "stopped", True),
]


def sent_at(number: int) -> datetime:
    return MONDAY + timedelta(days=ALERTS[number][0], hours=number)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("views") / "history")
    notes: list[dict[str, Any]] = []
    for number, (_, state, acknowledged, expired) in ALERTS.items():
        sent = sent_at(number)
        note: dict[str, Any] = dict.fromkeys(tables.dtypes("notification")) | {
            "alert_id": f"a{number}", "grid_id": "eth", "activated_at": MONDAY, "symbol": "ETH-USDT", "as_of": sent,
            "kind": "ESCALATION", "state": state, "state_since": sent, "priority": 0, "title": "t", "message": "m",
            "status": "SENT", "attempts": 1, "created_at": sent, "sent_at": sent,
        }  # fmt: skip
        if acknowledged is not None:
            note["acknowledged_at"] = sent + timedelta(seconds=acknowledged)
        if expired:
            note["expired_at"] = sent + timedelta(seconds=3_000)
        notes.append(note)
    # Reminders, and what was never sent, are no alerts to answer.
    notes.append(notes[0] | {"alert_id": "r1", "kind": "REMINDER"})
    notes.append(notes[0] | {"alert_id": "s1", "status": "SUPPRESSED", "sent_at": None})
    answers = [
        {
            "response_id": f"{number}-{seconds}",
            "alert_id": f"a{number}",
            "grid_id": "eth",
            "at": sent_at(number) + timedelta(seconds=seconds),
            "action": action,
            "note": None,
            "seconds_from_alert": float(seconds),
            "within_window": in_time,
        }
        for number, seconds, action, in_time in RESPONSES
    ]
    lake.upsert("notification", pl.DataFrame(notes, schema=tables.dtypes("notification")), commit=COMMIT)
    lake.upsert("operator_response", pl.DataFrame(answers, schema=tables.dtypes("operator_response")), commit=COMMIT)
    return lake


def test_the_kpis_of_the_week_are_those_computed_by_hand(lake: Lake) -> None:
    found = {(row["month"], row["state"]): row for row in lake.sql("FROM response_kpis").to_dicts()}
    june = ("2026-06", "WARNING")
    mandatory, latest = ("2026-07", "MANDATORY_EXIT"), ("2026-07", "LATEST_ACCEPTABLE_EXIT")
    assert set(found) == {june, mandatory, latest}
    # The first answer to each counts: 600 and 20,000 s; the third was missed. Half-way 10,300; 95 % of the way 19,030.
    row = found[june]
    assert (row["alerts"], row["responses"], row["missed"], row["within_window"]) == (3, 2, 1, 1)
    assert (row["p50_seconds"], row["p95_seconds"]) == (10_300.0, 19_030.0)
    assert (row["acknowledged"], row["expired"], row["acted_without_acknowledging"]) == (1, 0, 1)
    row = found[mandatory]
    assert (row["alerts"], row["responses"], row["missed"], row["expired"]) == (2, 1, 1, 1)
    assert (row["p50_seconds"], row["acted_without_acknowledging"]) == (90.0, 0)
    row = found[latest]
    assert (row["responses"], row["within_window"], row["acted_without_acknowledging"]) == (1, 1, 1)


def test_each_escalation_stands_beside_its_first_answer(lake: Lake) -> None:
    rows = lake.sql("SELECT alert_id, action, within_window FROM alert_responses ORDER BY alert_id").rows()
    assert rows == [
        ("a1", "kept", True),
        ("a2", "reduced", False),
        ("a3", None, None),
        ("a4", "stopped", True),
        ("a5", None, None),
        ("a6", "stopped", True),
    ]


def test_a_lake_without_the_views_or_with_old_ones_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(module, "VIEWS", {"response_kpis": View("Old.", {"old": "One."}, "SELECT 1 AS old")})
        assert Lake(tmp_path / "history").sql("FROM response_kpis").rows() == [(1,)]
    assert "p50_seconds" in Lake(tmp_path / "history").sql("FROM response_kpis").columns
