"""Delivery: noted before and after, once, through crashes, refusals and silence; never from a simulated market."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mm_dagster.alerts import dispatch, policy
from mm_dagster.alerts.channel import Unreachable
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster_tests.alerts.given import (
    BELOW,
    CONFIG,
    T0,
    Listener,
    entries,
    grid,
    minutes,
    state,
    states,
)
from mm_dagster_tests.alerts.ledgers import EventLedger, Other, run, silent
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


def only_row(ledger: EventLedger) -> dict:
    (row,) = ledger.rows.values()
    return row


def test_the_row_is_noted_before_sending_and_after():
    ledger = EventLedger()
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
        ledger = EventLedger()
        with pytest.raises(crash):
            run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
        assert (ledger.status(), len(channel.sent)) == ({"PENDING": 1}, arrived)
        healthy = Listener()
        for _ in range(3):
            run(ledger, T0, [GRID], exit_states=MANDATORY, channel=healthy)
        assert len(healthy.sent) == 1
        assert ledger.status() == {"SENT": 1}


def test_a_crash_before_the_first_note_sends_once():
    class Unwritable(EventLedger):
        def write(self, rows, events) -> None:
            raise SystemExit

    channel = Listener()
    with pytest.raises(SystemExit):
        run(Unwritable(), T0, [GRID], exit_states=MANDATORY, channel=channel)
    assert channel.sent == []
    ledger = EventLedger()
    for _ in range(3):
        run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
    assert len(channel.sent) == 1


def test_a_crash_in_the_middle_leaves_the_others_due():
    grids = [grid(id=f"g{number}") for number in range(3)]
    rows = states(*(state(one, T0, "MANDATORY_EXIT") for one in grids))
    ledger = EventLedger()
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
    ledger = EventLedger()
    for _ in range(3):
        run(ledger, T0, [GRID], exit_states=MANDATORY, channel=None)
    row = only_row(ledger)
    assert (row["status"], row["channel"], row["receipt"]) == ("SENT", "log", None)
    assert row["detail"] == "no channel is set up: written to the ledger and the log"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{row['title']}\n{row['message']}"


def test_a_simulated_market_never_reaches_pushover_although_there_are_credentials(server: PushoverServer):
    ledger = EventLedger()
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
    ledger = EventLedger()
    server.fail("400")
    for _ in range(3):
        run(ledger, T0, grids, exit_states=rows, channel=client(server))
    assert ledger.status() == {"FAILED": 1, "SENT": 1}
    assert len(server.requests) == 2
    (failed,) = (row for row in ledger.rows.values() if row["status"] == "FAILED")
    assert failed["detail"].endswith("is not welcome")


def test_an_outage_in_which_nothing_can_be_reached_is_sat_out_and_the_message_arrives_once(server: PushoverServer):
    ledger, mended = EventLedger(), client(server)
    broken = Listener(before=unreachable)
    for minute in range(25):
        clock = T0 + minutes(minute)
        run(ledger, clock, [GRID], exit_states=MANDATORY, channel=broken if minute < 5 else mended)
        if minute == 2:
            assert only_row(ledger)["detail"] == "to be sent again: not taken: no connection"
            assert only_row(ledger)["attempts"] == 3
    row = only_row(ledger)
    assert (row["status"], row["attempts"], row["sent_at"]) == ("SENT", 4, T0 + minutes(5))
    assert len(server.messages) == 1
    assert row["receipt"] in server.receipts


def test_what_is_never_answered_is_offered_twice_and_then_counts_as_sent_but_not_confirmed(server: PushoverServer):
    ledger = EventLedger()
    server.fail(*["lost answer"] * 9)
    for minute in range(25):
        run(ledger, T0 + minutes(minute), [GRID], exit_states=MANDATORY, channel=client(server))
    row = only_row(ledger)
    assert (row["status"], row["attempts"], row["receipt"]) == ("SENT", 2, None)
    assert row["detail"].startswith("unconfirmed: pushover may have taken it 2 times and never answered; no second")
    assert len(server.messages) == 2


def unreachable() -> None:
    raise Unreachable("no connection")


def test_what_another_run_has_settled_is_not_sent_again():
    ledger, channel = EventLedger(), Listener()
    found = policy.due(MANDATORY, entries(), ledger.read(), T0, CONFIG, [GRID], {})
    outgoing = [dispatch.Outgoing(alert, "title", "words", "ccxt") for alert in found]
    for _ in range(2):
        dispatch.dispatch(outgoing, ledger=ledger, channel=channel, clock=lambda: T0)
    assert len(channel.sent) == 1


def test_nothing_to_do_commits_nothing():
    ledger = EventLedger()
    rows = dispatch.dispatch([], ledger=ledger, channel=None, clock=lambda: T0)
    assert rows.is_empty()
    assert ledger.commits == 0


def test_an_emergency_that_is_over_is_cancelled_once(server: PushoverServer):
    ledger = EventLedger()
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
    ledger = EventLedger()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=client(server))
    server.fail("500", "500", "500")
    run(ledger, T0 + minutes(1), [], channel=client(server))
    assert only_row(ledger)["detail"].startswith("not cancelled yet, though its episode has ended: Pushover at")
    assert only_row(ledger)["expired_at"] is None
    run(ledger, T0 + minutes(2), [], channel=client(server))
    assert server.cancelled == [only_row(ledger)["receipt"]]


def test_an_emergency_whose_receipt_is_refused_counts_as_silent(server: PushoverServer):
    ledger = EventLedger()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=client(server))
    server.receipts.clear()
    for minute in (1, 2):
        run(ledger, T0 + minutes(minute), [], channel=client(server))
    assert "receipt not found" in only_row(ledger)["detail"]
    assert only_row(ledger)["expired_at"] == T0 + minutes(1)
    assert len(server.requests) == 2


def test_an_emergency_that_another_run_has_cancelled_is_left_alone():
    ledger, channel = EventLedger(), Listener()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel)
    over = policy.cancellations(states(), ledger.read(), T0 + minutes(1), CONFIG, [])
    for _ in range(2):
        dispatch.dispatch([], over, ledger=ledger, channel=channel, clock=lambda: T0 + minutes(1))
    assert channel.cancelled == ["receipt-1"]


def test_every_step_is_an_event_with_channel_and_detail():
    ledger, channel = EventLedger(), Listener()
    live = states(state(GRID, T0, live_state="MANDATORY_EXIT"))
    run(ledger, T0, [GRID], exit_states=live, channel=channel)
    run(ledger, T0 + minutes(15), [GRID], exit_states=states(state(GRID, T0 + minutes(15))), channel=channel)
    assert ledger.steps(of="ESCALATION") == [("NOTED", None), ("SENT", "pushover"), ("CANCELLED", "pushover")]
    assert ledger.steps(of="DEESCALATION") == [("NOTED", None), ("SENT", "pushover")]
    (cancelled,) = (one for one in ledger.noted.values() if one["event"] == "CANCELLED")
    assert (cancelled["at"], cancelled["detail"]) == (T0 + minutes(15), "cancelled: the state is NORMAL by now")


def test_every_attempt_is_an_event_of_its_own(server: PushoverServer):
    ledger = EventLedger()
    server.fail("500", "400")
    for minute in range(8):
        run(ledger, T0 + minutes(minute), [GRID], exit_states=MANDATORY, channel=client(server))
    assert ledger.steps() == [("NOTED", None), ("UNANSWERED", "pushover"), ("REFUSED", "pushover")]
    assert all(one["detail"] for one in ledger.noted.values() if one["event"] not in ("NOTED", "TRYING"))


@pytest.mark.parametrize("at_commit", range(4))
@pytest.mark.parametrize("where", ["before", "amid", "after"])
def test_a_crash_at_any_commit_leaves_no_event_out_and_none_double(where: str, at_commit: int):
    seen: list[str] = []

    def crash(place: str) -> None:
        seen.append(place)
        if place == where and seen.count(where) == at_commit + 1:
            raise SystemExit

    ledger, channel, other = EventLedger(crash), Listener(), Other()
    for _ in range(4):
        try:
            run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel, second=other)
        except SystemExit:
            assert len(ledger.rows) <= 1
    assert sorted(ledger.steps(), key=str) == [("NOTED", None), ("SENT", "apprise"), ("SENT", "pushover")]
    assert (len(channel.sent) in (1, 2), len(other.sent) in (1, 2)) == (True, True)
    assert ledger.status() == {"SENT": 1}


def test_every_reason_for_which_an_alert_is_held_back_is_an_event_and_the_same_reason_only_one():
    ledger = EventLedger()
    (found,) = policy.due(MANDATORY, entries(), ledger.read(), T0, CONFIG, [GRID], {})
    for reason in ("held back: quiet hours", "held back: no more than 4", "held back: quiet hours"):
        held = dispatch.Outgoing(replace(found, status="SUPPRESSED", detail=reason), "title", "words", "ccxt")
        dispatch.dispatch([held], ledger=ledger, channel=None, clock=lambda: T0)
    assert ledger.steps() == [("NOTED", None), ("SUPPRESSED", None), ("SUPPRESSED", None)]


def test_an_old_ledger_without_events_gets_them():
    ledger = EventLedger()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=Listener())
    before = {name: one for name, one in ledger.noted.items() if one["event"] != "TRYING"}
    ledger.noted.clear()
    run(ledger, T0 + minutes(1), [GRID], exit_states=MANDATORY, channel=Listener())
    assert ledger.noted == before


def test_an_emergency_goes_to_both_channels_at_once():
    ledger, order = EventLedger(), []
    other = Other(fault=lambda: order.append("other"))
    started = Listener(before=lambda: wait_for(lambda: bool(order)))
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=started, second=other)
    assert (len(started.sent), len(other.sent)) == (1, 1)
    assert (only_row(ledger)["channel"], only_row(ledger)["receipt"]) == ("pushover", "receipt-1")


def test_what_is_no_emergency_goes_to_the_second_channel_only_if_the_first_fails(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    warning = states(state(GRID, T0, "WARNING"))
    run(ledger, T0, [GRID], exit_states=warning, channel=client(server), second=other)
    assert other.sent == []
    for number, fault in enumerate(("500", "400"), start=1):
        server.fail(*[fault] * 3)
        one = grid(id=f"g{number}")
        run(ledger, T0, [one], exit_states=states(state(one, T0, "WARNING")), channel=client(server), second=other)
        assert len(other.sent) == number
        server.heal()
    assert ledger.status() == {"SENT": 3}
    details = [row["detail"] for row in ledger.rows.values() if row["channel"] == "apprise"]
    begins = ("instead of pushover: not taken: Pushover at 127.0.0.1 ", "instead of pushover: Pushover at 127.0.0.1 ")
    assert [detail.startswith(begin) for detail, begin in zip(details, begins, strict=True)] == [True, True], details
    assert ledger.steps().count(("REFUSED", "pushover")) == ledger.steps().count(("UNANSWERED", "pushover")) == 1


def test_an_emergency_that_only_the_second_channel_took_still_rings_when_the_first_is_back(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    server.fail(*["500"] * 3)
    for minute in range(6):
        run(ledger, T0 + minutes(minute), [GRID], exit_states=MANDATORY, channel=client(server), second=other)
    assert (len(server.messages), len(other.sent)) == (1, 1)
    assert only_row(ledger)["receipt"] in server.receipts


def test_while_the_first_channel_is_down_the_second_gets_an_emergency_every_half_an_hour(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    server.fail(*["500"] * 30)
    for minute in range(0, 61, 5):
        clock = T0 + minutes(minute)
        rows = states(state(GRID, clock, "MANDATORY_EXIT"))
        run(ledger, clock, [GRID], exit_states=rows, channel=client(server), second=other)
    assert 2 <= len(other.sent) <= 3
    assert ledger.status() == {"PENDING": 1}


def test_what_the_first_refused_is_tried_on_the_second_five_times_and_never_on_the_first_again(server: PushoverServer):
    ledger = EventLedger()
    server.fail("400")
    for minute in range(60):
        run(ledger, T0 + minutes(minute), [GRID], exit_states=MANDATORY, channel=client(server), second=Other(silent))
        if only_row(ledger)["status"] == "FAILED":
            break
    assert only_row(ledger)["attempts"] == 5
    assert only_row(ledger)["detail"].endswith("JSON did not take it within 1 s; given up after 5 attempts")
    assert len(server.requests) == 1


def test_with_only_a_second_channel_it_takes_everything():
    ledger, other = EventLedger(), Other()
    for _ in range(2):
        run(ledger, T0, [GRID], exit_states=MANDATORY, second=other)
    assert (only_row(ledger)["channel"], len(other.sent)) == ("apprise", 1)


def test_a_simulated_market_reaches_no_second_channel_either():
    ledger, other = EventLedger(), Other()
    run(ledger, T0, [GRID], exit_states=MANDATORY, second=other, simulated=True)
    assert (only_row(ledger)["channel"], other.sent) == ("log", [])


def test_what_a_crash_kept_from_the_second_channel_is_made_up_for_once():
    ledger, other = EventLedger(), Other()
    run(ledger, T0, [GRID], exit_states=MANDATORY, channel=Listener())
    for minute in (1, 2):
        run(ledger, T0 + minutes(minute), [GRID], exit_states=MANDATORY, channel=Listener(), second=other)
    assert len(other.sent) == 1


def test_an_error_of_the_second_channel_that_is_none_of_ours_is_not_swallowed():
    def broken() -> None:
        raise RuntimeError("broken")

    ledger, channel = EventLedger(), Listener()
    with pytest.raises(RuntimeError, match="broken"):
        run(ledger, T0, [GRID], exit_states=MANDATORY, channel=channel, second=Other(broken))
    assert (len(channel.sent), only_row(ledger)["status"]) == (1, "SENT")


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)
