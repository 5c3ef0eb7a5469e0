"""What the operator did: which alert it answers, how soon, and whether in time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from mm_dagster.alerts.responses import answers_of, is_over, response
from mm_dagster.config.exit import WindowMinutes
from mm_dagster.tables import registry
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
    return registry.conform(pl.DataFrame(told, infer_schema_length=None), "notification")


NOBODY = registry.empty("operator_response")


def answer(
    action: str,
    at: datetime,
    told: pl.DataFrame,
    *,
    note: str | None = None,
    episodes: tuple[datetime, ...] = (GRID.activated_at,),
    before: pl.DataFrame = NOBODY,
    to: str | None = None,
    key: str | None = None,
) -> pl.DataFrame:
    return response(GRID.id, action, at, note, told, WINDOWS, episodes, before, to=to, key=key)


def given(action: str, after: float, *rows: tuple[str, datetime, str], note: str | None = None) -> dict[str, Any]:
    found = answer(action, T0 + minutes(after), ledger(*rows), note=note)
    assert registry.broken_rules(found, "operator_response") == {}
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
    with pytest.raises(ValueError, match="eth-v3: no alert was sent before 2026-01-10 11:59 UTC"):
        answer("kept", T0 - timedelta(seconds=1), ledger(("a", T0, "WARNING")))
    with pytest.raises(ValueError, match="nothing to respond to"):
        answer("kept", T0, ledger())


def test_a_grid_may_be_stopped_or_reduced_without_any_alert():
    for action in ("stopped", "reduced"):
        row = answer(action, T0, ledger()).row(0, named=True)
        assert (row["alert_id"], row["seconds_from_alert"], row["within_window"]) == (None, None, None)
        assert row["activated_at"] == GRID.activated_at


def test_an_answer_is_of_the_episode_that_ran_at_the_time():
    later = T0 + minutes(60)
    both = (GRID.activated_at, later)
    told = ledger(("a", T0, "WARNING"))
    assert answer("stopped", T0 + minutes(5), told, episodes=both)["activated_at"].item() == GRID.activated_at
    now = answer("stopped", later + minutes(5), told, episodes=both).row(0, named=True)
    assert (now["activated_at"], now["alert_id"]) == (later, None)
    with pytest.raises(ValueError, match="it did not run at 2026-01-09T00:00:00Z; its first activation is of"):
        answer("stopped", GRID.activated_at - timedelta(days=1), told)


def test_what_would_change_nothing_is_refused():
    told = ledger(("a", T0, "WARNING"))
    stopped = answer("stopped", T0 + minutes(5), told)
    for action in ("stopped", "kept", "reduced"):
        with pytest.raises(ValueError, match="you noted at 2026-01-10T12:05:00Z that it was stopped; `mm respond"):
            answer(action, T0 + minutes(9), told, before=stopped)
    with pytest.raises(ValueError, match="nothing to reopen"):
        answer("reopened", T0 + minutes(9), told)
    with pytest.raises(ValueError, match="write when it was reopened"):
        answer("reopened", T0 + minutes(4), told, before=stopped)
    again = pl.concat([stopped, answer("reopened", T0 + minutes(9), told, before=stopped)])
    assert answer("stopped", T0 + minutes(20), told, before=again)["action"].item() == "stopped"


def test_the_newest_answer_of_each_episode_counts_and_an_old_row_has_that_of_its_alert():
    told = ledger(("a", T0, "WARNING"))
    stopped = answer("stopped", T0 + minutes(5), told)
    nameless = stopped.with_columns(activated_at=pl.lit(None, pl.Datetime("us", "UTC")))
    for rows in (stopped, nameless):
        found = answers_of(rows, told)
        assert is_over(found, GRID.id, GRID.activated_at)
        assert not is_over(found, GRID.id, T0)
    reopened = answer("reopened", T0 + minutes(9), told, before=stopped)
    assert not is_over(answers_of(pl.concat([reopened, stopped]), told), GRID.id, GRID.activated_at)


def test_what_has_a_key_is_one_response_however_often_it_comes_in_and_the_same_said_again_is_none():
    told = ledger(("a", T0, "LATEST_ACCEPTABLE_EXIT"))
    kept = answer("kept", T0 + minutes(5), told, key="tap 1")
    for key, minute in (("tap 1", 6), ("tap 2", 6), ("tap 1", 90)):
        assert answer("kept", T0 + minutes(minute), told, before=kept, key=key).equals(kept)
    reduced = pl.concat([kept, answer("reduced", T0 + minutes(7), told, before=kept, key="tap 3")])
    assert reduced.height == 2
    # In whatever order they come in.
    assert answer("kept", T0 + minutes(8), told, before=reduced, key="tap 4").equals(kept)
    stopped = pl.concat([reduced, answer("stopped", T0 + minutes(9), told, before=reduced, key="tap 5")])
    assert answer("stopped", T0 + minutes(10), told, before=stopped, key="tap 5").equals(stopped[2:])
    reopened = pl.concat([stopped, answer("reopened", T0 + minutes(11), told, before=stopped)])
    assert not answer("kept", T0 + minutes(12), told, before=reopened, key="tap 6").equals(kept), "taken back"


def test_a_snooze_answers_no_alert_and_can_be_said_again_when_it_is_over():
    told = ledger(("a", T0, "LATEST_ACCEPTABLE_EXIT"))
    first = answer("snoozed", T0 + minutes(5), told, key="1")
    row = first.row(0, named=True)
    assert (row["alert_id"], row["seconds_from_alert"], row["within_window"]) == (None, None, None)
    assert answer("snoozed", T0 + minutes(200), told, before=first, key="2").equals(first)
    assert answer("snoozed", T0 + minutes(246), told, before=first, key="3")["at"].item() == T0 + minutes(246)
    for state, instead in (("WARNING", "nothing reminds of it"), ("MANDATORY_EXIT", "stopped, reduced or kept")):
        with pytest.raises(ValueError, match=f"{state} cannot be snoozed: .*{instead}"):
            answer("snoozed", T0 + minutes(5), ledger(("a", T0, state)))
    with pytest.raises(ValueError, match="no alert was sent before"):
        answer("snoozed", T0, ledger())


def test_an_answer_to_a_message_counts_for_what_that_message_said():
    told = ledger(("a", T0, "WARNING"), ("b", T0 + minutes(30), "MANDATORY_EXIT"))
    assert answer("kept", T0 + minutes(40), told, to="b")["alert_id"].item() == "b"
    with pytest.raises(ValueError, match="it has been MANDATORY_EXIT since; answer the newer message"):
        answer("kept", T0 + minutes(40), told, to="a")
    assert answer("reduced", T0 + minutes(40), told, to="a")["alert_id"].item() == "b"
    later = (GRID.activated_at, T0 + minutes(35))
    with pytest.raises(ValueError, match="of an episode that has ended"):
        answer("stopped", T0 + minutes(40), told, to="b", episodes=later)
    with pytest.raises(ValueError, match="not in the ledger"):
        answer("stopped", T0 + minutes(40), told, to="c")


def test_a_message_that_is_answered_was_sent_whatever_the_ledger_knows():
    told = ledger(("a", T0, "WARNING")).with_columns(
        status=pl.lit("PENDING"), sent_at=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    row = answer("kept", T0 + minutes(5), told, to="a").row(0, named=True)
    assert (row["alert_id"], row["seconds_from_alert"], row["within_window"]) == ("a", 300, True)
    with pytest.raises(ValueError, match="no alert was sent before"):
        answer("kept", T0 + minutes(5), told)
