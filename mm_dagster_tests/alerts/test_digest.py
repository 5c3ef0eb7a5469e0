"""One digest a local day, whatever the machine and the clock do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from mm_dagster.alerts import budget, digest, dispatch
from mm_dagster.alerts.alert import Alert
from mm_dagster.alerts.digest_words import Day
from mm_dagster.config.alerts import AlertsConfig, Budget
from mm_dagster.tables import registry
from mm_dagster_tests.alerts.given import T0, MemoryLedger, grid, minutes, state, states

GRID = grid()
OTHER = grid(id="btc-v1", symbol="BTC-USDT")
THIRD = grid(id="sol-1", symbol="SOL-USDT")
BERLIN = AlertsConfig(timezone="Europe/Berlin", digest_at="08:00")
NONE = registry.empty("notification")


def look(ledger: MemoryLedger, clock: datetime, config: AlertsConfig = BERLIN) -> list[Alert]:
    """One run of the sender that knows of nothing but the digest."""
    found = digest.due(states(), ledger.read(), clock, config, [], False)
    found = budget.admit(found, ledger.read(), clock, config)
    outgoing = [dispatch.Outgoing(one, one.title or "", one.message or "", "ccxt") for one in found]
    dispatch.dispatch(outgoing, ledger=ledger, channel=None, clock=lambda: clock)
    return found


def days(ledger: MemoryLedger) -> list[str]:
    return [f"{row['sent_at']:%d %H:%M}" for row in ledger.rows.values() if row["status"] == "SENT"]


def test_a_digest_comes_once_a_day_at_its_local_time():
    ledger = MemoryLedger()
    for number in range(4 * 24 * 2):
        look(ledger, T0 + minutes(15 * number))
    assert days(ledger) == ["10 12:00", "11 07:00", "12 07:00"]
    assert {row["priority"] for row in ledger.rows.values()} == {-1}


def test_a_digest_that_was_missed_comes_later_on_the_same_local_day_and_no_other():
    def found(hour: float) -> bool:
        return bool(look(MemoryLedger(), datetime(2026, 1, 10, tzinfo=UTC) + timedelta(hours=hour)))

    assert [found(hour) for hour in (0, 6.99, 7, 22.99, 23, 24, 31)] == [False, False, True, True, False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("at", ["01:30", "02:00", "02:30", "03:00", "23:30", "00:00"])
@pytest.mark.parametrize("day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_a_day_on_which_the_clock_changes_has_one_digest(day: datetime, at: str):
    config = AlertsConfig(timezone="Europe/Berlin", digest_at=at)
    ledger = MemoryLedger()
    for number in range(48 * 3):
        look(ledger, day + minutes(30 * number), config)
    zone = ZoneInfo("Europe/Berlin")
    told = [row["sent_at"].astimezone(zone) for row in ledger.rows.values()]
    dates = [time.date().day - day.day for time in told]
    assert dates == sorted(set(dates))
    assert set(dates) >= {0, 1, 2}
    (changed,) = (time for time in told if time.date().day == day.day + 1)
    assert f"{changed:%H:%M}" == ({"02:00": "03:00", "02:30": "03:30"}.get(at, at) if day.month == 3 else at)


def test_a_digest_without_an_answer_is_tried_again_that_day_and_given_up_after_it():
    ledger = MemoryLedger()
    (first,) = look(ledger, T0)
    ledger.update("DIGEST", status="PENDING", sent_at=None, attempts=1, created_at=T0)

    def found(clock: datetime) -> list[tuple[str, str | None]]:
        alerts = digest.due(states(), ledger.read(), clock, BERLIN, [], False)
        return [(one.status, one.message) for one in alerts]

    assert found(T0) == []
    assert found(T0 + minutes(1)) == [("PENDING", first.message)]
    assert found(T0 + timedelta(hours=11)) == [("SUPPRESSED", first.message)]
    assert [status for status, _ in found(T0 + timedelta(hours=20))] == ["PENDING", "SUPPRESSED"]


def test_a_digest_that_found_no_room_in_the_month_is_noted_once_and_told_when_there_is():
    full = BERLIN.model_copy(update={"budget": Budget(monthly=1, reserve=1)})
    ledger = MemoryLedger()
    assert [one.status for one in look(ledger, T0, full)] == ["SUPPRESSED"]
    assert look(ledger, T0 + minutes(15), full) == []
    assert [one.status for one in look(ledger, T0 + minutes(30))] == ["PENDING"]
    assert ledger.status() == {"SENT": 1}


def test_a_digest_tells_where_the_enabled_grids_stand_what_was_told_and_what_is_not_seen():
    def note(name: str, status: str, age: float, **changes: Any) -> dict[str, Any]:
        at = T0 - timedelta(hours=age)
        return {
            "alert_id": name,
            "grid_id": GRID.id,
            "kind": "REMINDER",
            "status": status,
            "created_at": at,
            "sent_at": at if status == "SENT" else None,
        } | changes

    rows = [note("a", "SENT", 1), note("b", "SENT", 25), note("c", "SUPPRESSED", 2), note("d", "FAILED", 3)]
    ledger = pl.DataFrame(rows, schema=registry.dtypes("notification"), orient="row")
    seen = states(state(GRID, T0, "MANDATORY_EXIT"), state(OTHER, T0 - minutes(45)), state(THIRD, T0, "WARNING"))
    grids = [grid(id="off", enabled=False), OTHER, GRID, THIRD]
    day = Day(stopped=frozenset({"sol-1"}))
    (alert,) = digest.due(seen, ledger, T0, BERLIN, grids, False, day)
    assert alert.title == (
        "Digest: 1 MANDATORY EXIT, 1 not seen, 1 message refused in 24 h, 0 of 2 grids fine, 1 stopped by you"
    )
    assert (alert.message or "").splitlines() == [
        "MANDATORY EXIT: eth-v3. Not seen (see `mm doctor`): btc-v1. 1 message refused in 24 h.",
        "0 of 2 grids fine, 1 stopped by you.",
        "In 24 h: 1 message sent, 1 held back.",
        "As of 10 Jan 13:00 CET. More: `mm status`.",
    ]
    linked = BERLIN.model_copy(update={"link": "https://mm.example"})
    (alert,) = digest.due(seen, ledger, T0, linked, grids, False, day)
    assert (alert.message or "").endswith("As of 10 Jan 13:00 CET.")
    assert not budget.is_mandatory(alert)


def test_there_is_one_unless_its_time_is_taken_away_or_nothing_ran_when_it_was_due():
    assert AlertsConfig().digest_at == "08:00"
    assert len(digest.due(states(), NONE, T0, AlertsConfig(), [GRID], False)) == 1
    assert digest.due(states(), NONE, T0, AlertsConfig(digest_at=None), [GRID], False) == []
    assert digest.due(states(), NONE, T0, AlertsConfig(), [GRID], False, None) == []
