"""Delivery: noted before and after, once, through crashes, refusals and silence; never from a simulated market."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from mm_dagster.alerts import ledger as delivery
from mm_dagster.alerts import policy
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.config import PushoverConfig
from mm_dagster_tests.alerts.given import (
    BELOW,
    CONFIG,
    T0,
    Listener,
    MemoryLedger,
    entries,
    grid,
    minutes,
    run,
    state,
    states,
)
from mm_dagster_tests.pushover import PushoverServer

GRID = grid()
MANDATORY = states(state(GRID, T0, "MANDATORY_EXIT"))


@pytest.fixture
def server() -> Iterator[PushoverServer]:
    with PushoverServer() as running:
        yield running


def client(server: PushoverServer) -> Pushover:
    config = PushoverConfig(api_url=server.api_url, timeout_seconds=0.3)
    return Pushover(server.token, server.user, config, wait_seconds=0.01)


def only_row(ledger: MemoryLedger) -> dict:
    (row,) = ledger.rows.values()
    return row


def test_the_row_is_noted_before_sending_and_after():
    ledger = MemoryLedger()
    before: list[str] = []
    channel = Listener(before=lambda: before.append(only_row(ledger)["status"]))
    run(ledger, T0 + minutes(1), [GRID], exit_states=MANDATORY, channel=channel)
    row = only_row(ledger)
    assert before == ["PENDING"]
    assert (row["status"], row["channel"], row["attempts"], row["receipt"]) == ("SENT", "pushover", 1, "receipt-1")
    assert (row["created_at"], row["sent_at"], row["as_of"]) == (T0 + minutes(1), T0 + minutes(1), T0)
    assert (row["title"], row["message"], row["priority"]) == channel.sent[0]


@pytest.mark.parametrize("crash", [SystemExit, KeyboardInterrupt, MemoryError])
def test_a_crash_before_or_after_sending_sends_again_exactly_once(crash: type[BaseException]):
    def die() -> None:
        raise crash

    for channel, arrived in ((Listener(before=die), 0), (Listener(after=die), 1)):
        ledger = MemoryLedger()
        with pytest.raises(crash):
            run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
        assert (ledger.status(), len(channel.sent)) == ({"PENDING": 1}, arrived)
        healthy = Listener()
        for _ in range(3):
            run(ledger, T0, [GRID], exit_states=MANDATORY, channel=healthy)
        assert len(healthy.sent) == 1
        assert ledger.status() == {"SENT": 1}


def test_a_crash_before_the_first_note_sends_once():
    class Unwritable(MemoryLedger):
        def write(self, rows) -> None:
            raise SystemExit

    channel = Listener()
    with pytest.raises(SystemExit):
        run(Unwritable(), T0, [GRID], exit_states=MANDATORY, channel=channel)
    assert channel.sent == []
    ledger = MemoryLedger()
    for _ in range(3):
        run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
    assert len(channel.sent) == 1


def test_a_crash_in_the_middle_leaves_the_others_due():
    grids = [grid(id=f"g{number}") for number in range(3)]
    rows = states(*(state(one, T0, "MANDATORY_EXIT") for one in grids))
    ledger = MemoryLedger()
    sent: list[int] = []

    def die_at_the_second() -> None:
        sent.append(1)
        if len(sent) == 2:
            raise SystemExit

    with pytest.raises(SystemExit):
        run(ledger, T0, grids, exit_states=rows, channel=Listener(before=die_at_the_second))
    assert ledger.status() == {"PENDING": 2, "SENT": 1}
    healthy = Listener()
    run(ledger, T0, grids, exit_states=rows, channel=healthy)
    assert len(healthy.sent) == 2


def test_without_credentials_the_message_is_in_the_ledger_and_the_log_and_not_due_again(
    caplog: pytest.LogCaptureFixture,
):
    ledger = MemoryLedger()
    for _ in range(3):
        run(ledger, T0, [GRID], exit_states=MANDATORY, channel=None)
    row = only_row(ledger)
    assert (row["status"], row["channel"], row["receipt"]) == ("SENT", "log", None)
    assert row["detail"] == "there are no Pushover credentials: written to the ledger and the log"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{row['title']}\n{row['message']}"


def test_a_simulated_market_never_reaches_pushover_although_there_are_credentials(server: PushoverServer):
    ledger = MemoryLedger()
    for number in range(40):
        clock = T0 + minutes(15 * number)
        rows = states(state(GRID, clock, "MANDATORY_EXIT" if number < 20 else "NORMAL"))
        run(ledger, clock, [GRID], exit_states=rows, price=BELOW, channel=client(server), simulated=True)
    assert server.requests == []
    assert {row["channel"] for row in ledger.rows.values()} == {"log"}
    assert all(row["title"].startswith("SIMULATED ") for row in ledger.rows.values())
    assert {kind for kind, *_ in ledger.told()} == {"ESCALATION", "REMINDER", "DEESCALATION"}


def test_a_refusal_is_noted_once_and_does_not_hold_up_the_next(server: PushoverServer):
    grids = [grid(id=f"g{number}") for number in range(2)]
    rows = states(*(state(one, T0, "MANDATORY_EXIT") for one in grids))
    ledger = MemoryLedger()
    server.fail("429")
    for _ in range(3):
        run(ledger, T0, grids, exit_states=rows, channel=client(server))
    assert ledger.status() == {"FAILED": 1, "SENT": 1}
    assert len(server.requests) == 2
    (failed,) = (row for row in ledger.rows.values() if row["status"] == "FAILED")
    assert failed["detail"].endswith("the application's messages of this month are spent (429)")


def test_an_outage_is_sat_out_and_the_message_arrives_once(server: PushoverServer):
    ledger = MemoryLedger()
    server.fail(*["500"] * 9)
    for minute in range(25):
        clock = T0 + minutes(minute)
        run(ledger, clock, [GRID], exit_states=MANDATORY, channel=client(server))
        if minute == 2:
            assert only_row(ledger)["detail"] == "to be sent again: Pushover at 127.0.0.1 is out of order (500)"
            assert only_row(ledger)["attempts"] == 3
    row = only_row(ledger)
    assert (row["status"], row["attempts"], row["sent_at"]) == ("SENT", 4, T0 + minutes(5))
    assert len(server.messages) == 1
    assert row["receipt"] in server.receipts


def test_what_another_run_has_settled_is_not_sent_again():
    ledger, channel = MemoryLedger(), Listener()
    found = policy.due(MANDATORY, entries(), ledger.read(), T0, CONFIG, [GRID], {})
    outgoing = [delivery.Outgoing(alert, "title", "words", simulated=False) for alert in found]
    for _ in range(2):
        delivery.dispatch(outgoing, ledger=ledger, channel=channel, clock=lambda: T0)
    assert len(channel.sent) == 1


def test_nothing_to_do_commits_nothing():
    ledger = MemoryLedger()
    rows = delivery.dispatch([], ledger=ledger, channel=None, clock=lambda: T0)
    assert rows.is_empty()
    assert ledger.commits == 0


def test_an_emergency_that_is_over_is_cancelled_once(server: PushoverServer):
    ledger = MemoryLedger()
    live = states(state(GRID, T0, live_state="MANDATORY_EXIT"))
    run(ledger, T0, [GRID], exit_states=live, channel=client(server))
    for minute in (15, 16):
        clock = T0 + minutes(minute)
        run(ledger, clock, [GRID], exit_states=states(state(GRID, clock)), channel=client(server))
    (receipt,) = server.receipts
    assert server.cancelled == [receipt]
    (row,) = (row for row in ledger.rows.values() if row["kind"] == "ESCALATION")
    assert (row["status"], row["detail"]) == ("SENT", "cancelled: the state is NORMAL by now")
    assert row["expired_at"] == T0 + minutes(15)


def test_an_emergency_that_cannot_be_cancelled_is_noted_and_tried_again(server: PushoverServer):
    ledger = MemoryLedger()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=client(server))
    server.fail("500", "500", "500")
    run(ledger, T0 + minutes(1), [], channel=client(server))
    assert only_row(ledger)["detail"].startswith("not cancelled yet, though its episode has ended: Pushover at")
    assert only_row(ledger)["expired_at"] is None
    run(ledger, T0 + minutes(2), [], channel=client(server))
    assert server.cancelled == [only_row(ledger)["receipt"]]


def test_an_emergency_whose_receipt_is_refused_counts_as_silent(server: PushoverServer):
    ledger = MemoryLedger()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=client(server))
    server.receipts.clear()
    for minute in (1, 2):
        run(ledger, T0 + minutes(minute), [], channel=client(server))
    assert "receipt not found" in only_row(ledger)["detail"]
    assert only_row(ledger)["expired_at"] == T0 + minutes(1)
    assert len(server.requests) == 2


def test_an_emergency_that_another_run_has_cancelled_is_left_alone():
    ledger, channel = MemoryLedger(), Listener()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
    over = policy.over(states(), ledger.read(), T0 + minutes(1), CONFIG, [])
    for _ in range(2):
        delivery.dispatch([], over, ledger=ledger, channel=channel, clock=lambda: T0 + minutes(1))
    assert channel.cancelled == ["receipt-1"]
