"""Receipts: acknowledged, expired, unknown or without an answer; an emergency nobody heard is repeated once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from mm_dagster.alerts import pushover, receipts
from mm_dagster.alerts.channel import Message, Refused, Unavailable, UnknownReceipt
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster_tests.alerts.given import BELOW, T0, grid, minutes, state, states
from mm_dagster_tests.alerts.ledgers import EventLedger, Other, run, silent
from mm_dagster_tests.pushover import Fault, PushoverServer

GRID = grid()
END = T0 + minutes(50)


@pytest.fixture
def server() -> Iterator[PushoverServer]:
    with PushoverServer() as running:
        yield running


def client(server: PushoverServer) -> Pushover:
    config = PushoverConfig(api_url=server.api_url, timeout_seconds=0.3)
    return Pushover(server.token, server.user, config, wait_seconds=0.01)


def unix(time: datetime) -> int:
    return int(time.timestamp())


def ring(server: PushoverServer, ledger: EventLedger, second: Other | None = None, clock: datetime = T0) -> str:
    """Sends an emergency; its receipt."""
    rows = states(state(GRID, clock, "MANDATORY_EXIT"))
    run(ledger, clock, [GRID], exit_states=rows, price=BELOW, channel=client(server), second=second)
    return list(server.receipts)[-1]


def poll(server: PushoverServer, ledger: EventLedger, clock: datetime, second: Other | None = None) -> list[dict]:
    return receipts.poll(ledger, client(server), lambda: clock, second).to_dicts()


def first(ledger: EventLedger) -> dict:
    (row,) = (row for row in ledger.rows.values() if row["kind"] == "ESCALATION")
    return row


def test_an_acknowledgement_is_noted_with_time_and_device_and_not_asked_for_again(server: PushoverServer):
    ledger = EventLedger()
    receipt = ring(server, ledger)
    assert poll(server, ledger, T0 + minutes(1)) == []
    server.acknowledge(receipt, "phone", unix(T0 + minutes(2)))
    (row,) = poll(server, ledger, T0 + minutes(3))
    assert (row["acknowledged_at"], row["acknowledged_by_device"]) == (T0 + minutes(2), "phone")
    assert (row["expired_at"], row["status"]) == (None, "SENT")
    (event,) = (one for one in ledger.noted.values() if one["event"] == "ACKNOWLEDGED")
    assert (event["at"], event["channel"], event["detail"]) == (T0 + minutes(2), "pushover", "on phone")
    asked = len(server.requests)
    assert poll(server, ledger, T0 + minutes(4)) == []
    assert len(server.requests) == asked


def test_an_expired_emergency_is_sent_once_more_by_the_other_channel(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    server.expire(ring(server, ledger, other), unix(END))
    assert len(other.sent) == 1
    for minute in (51, 52, 53):
        poll(server, ledger, T0 + minutes(minute), other)
    assert first(ledger)["expired_at"] == END
    assert (len(other.sent), len(server.messages)) == (2, 1)
    assert other.sent[0] == other.sent[1]
    assert ledger.steps(of="REMINDER") == [("NOTED", None), ("SENT", "apprise")]
    assert ("EXPIRED", "pushover") in ledger.steps(of="ESCALATION")


@pytest.mark.parametrize("second", [None, Other(silent)])
def test_without_another_channel_that_answers_pushover_rings_once_more(server: PushoverServer, second: Other | None):
    ledger = EventLedger()
    server.expire(ring(server, ledger), unix(END))
    poll(server, ledger, T0 + minutes(51), second)
    assert [one["priority"] for one in server.messages] == ["2", "2"]
    server.expire(list(server.receipts)[-1], unix(END + minutes(51)))
    poll(server, ledger, T0 + minutes(102), second)
    poll(server, ledger, T0 + minutes(103), second)
    assert len(server.messages) == 2
    assert [row["expired_at"] for row in ledger.rows.values()] == [END, END + minutes(51)]


def test_a_repetition_that_a_crash_left_is_sent_by_the_next_run_on_the_other_channel(server: PushoverServer):
    def crash() -> None:
        raise SystemExit

    ledger, other = EventLedger(), Other()
    server.expire(ring(server, ledger, other), unix(END))
    with pytest.raises(SystemExit):
        poll(server, ledger, T0 + minutes(51), Other(crash))
    assert ledger.status() == {"PENDING": 1, "SENT": 1}
    clock = T0 + minutes(52)
    for _ in range(2):
        rows = states(state(GRID, clock, "MANDATORY_EXIT", since=T0))
        run(ledger, clock, [GRID], exit_states=rows, price=BELOW, channel=client(server), second=other)
    assert (len(other.sent), len(server.messages)) == (2, 1)
    assert ledger.status() == {"SENT": 2}


def test_an_expiry_that_is_found_late_or_after_newer_news_is_noted_and_no_more(server: PushoverServer):
    late, other = EventLedger(), Other()
    server.expire(ring(server, late), unix(END))
    poll(server, late, END + minutes(31), other)
    assert (first(late)["expired_at"], other.sent) == (END, [])

    told, other = EventLedger(), Other()
    server.expire(ring(server, told), unix(END))
    ring(server, told, clock=T0 + minutes(60))
    sent = len(server.messages)
    poll(server, told, T0 + minutes(61), other)
    assert (other.sent, len(server.messages)) == ([], sent)


def test_a_receipt_that_is_not_known_any_more_counts_as_expired(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    ring(server, ledger)
    server.receipts.clear()
    poll(server, ledger, T0 + minutes(55), other)
    assert first(ledger)["expired_at"] == T0 + minutes(55)
    assert first(ledger)["detail"].startswith("not known to be acknowledged: Pushover at 127.0.0.1 refused (404)")
    assert len(other.sent) == 1


def test_after_a_week_nobody_asks_any_more(server: PushoverServer):
    ledger, other = EventLedger(), Other()
    ring(server, ledger)
    asked = len(server.requests)
    poll(server, ledger, T0 + minutes(7 * 1440 + 1), other)
    assert (len(server.requests), other.sent) == (asked, [])
    assert first(ledger)["expired_at"] == T0 + minutes(180)


@pytest.mark.parametrize("fault", ["500", "429", "400", "empty", "closed", "slow"])
def test_without_an_answer_nothing_changes_and_the_next_turn_asks_again(server: PushoverServer, fault: Fault):
    ledger = EventLedger()
    server.acknowledge(ring(server, ledger))
    server.fail(*[fault] * (1 if fault == "400" else 3))
    assert poll(server, ledger, T0 + minutes(1)) == []
    (row,) = poll(server, ledger, T0 + minutes(2))
    assert row["acknowledged_by_device"] == "phone"


def test_a_receipt_is_asked_for_at_most_every_five_seconds(server: PushoverServer, monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    channel = client(server)
    receipt = channel.send(Message("title", "words", 2, T0)).receipt
    assert receipt
    monkeypatch.setattr(pushover.time, "monotonic", lambda: now[0])
    asked = []
    for second in range(11):
        now[0] = 100.0 + second
        channel.receipt(receipt)
        asked.append(sum("GET" in one for one in server.requests))
    assert asked == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]


def test_the_states_of_a_receipt_can_be_told_apart(server: PushoverServer):
    receipt = client(server).send(Message("title", "words", 2, T0)).receipt
    assert receipt
    fresh = client(server).receipt(receipt)
    assert (fresh.acknowledged, fresh.expired, fresh.acknowledged_at, fresh.device) == (False, False, None, None)
    server.expire(receipt, unix(END))
    assert (client(server).receipt(receipt).expired, client(server).receipt(receipt).expires_at) == (True, END)
    with pytest.raises(UnknownReceipt, match="receipt not found"):
        client(server).receipt("r-nothing")
    server.fail("500", "500", "500", "400")
    with pytest.raises(Unavailable):
        client(server).receipt(receipt)
    with pytest.raises(Refused) as caught:
        client(server).receipt(receipt)
    assert not isinstance(caught.value, UnknownReceipt)
