"""Several channels as one: all are given each message at once, one that takes it is enough, and it is said who did."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mm_dagster.alerts.channel import Channel, InThread, Message, Refused, Sent, Together, Unavailable, UnknownReceipt

WORDS = Message("title", "words")


class One(Channel):
    def __init__(self, name: str, does: Callable[[], Sent] = Sent) -> None:
        self.name = name
        self._does = does

    def send(self, message: Message) -> Sent:
        assert message is WORDS
        return self._does()


def fails(kind: type[Exception]) -> Callable[[], Sent]:
    def does() -> Sent:
        raise kind("no")

    return does


def test_one_that_takes_it_is_enough_and_it_is_said_who_did():
    both = Together([One("a", fails(Refused)), One("b", lambda: Sent(detail="JSON took it"))])
    assert both.name == "a and b"
    assert both.send(WORDS) == Sent(detail="a did not take it: no; JSON took it")


@pytest.mark.parametrize(
    ("kinds", "together"),
    [((Refused, Refused), Refused), ((Refused, Unavailable), Unavailable), ((Unavailable, Unavailable), Unavailable)],
)
def test_it_is_refused_only_where_all_refused_it(kinds, together):
    with pytest.raises(together) as caught:
        Together([One("a", fails(kinds[0])), One("b", fails(kinds[1]))]).send(WORDS)
    assert (type(caught.value), str(caught.value)) == (together, "a did not take it: no; b did not take it: no")


def test_none_waits_for_another():
    meet = threading.Barrier(2, timeout=10)

    def does() -> Sent:
        meet.wait()
        return Sent()

    assert Together([One("a", does), One("b", does)]).send(WORDS) == Sent(detail="a took it; b took it")


def test_what_is_no_foreseen_error_is_not_swallowed():
    with pytest.raises(RuntimeError, match="no"):
        Together([One("a", fails(RuntimeError)), One("b")]).send(WORDS)
    with pytest.raises(KeyboardInterrupt):
        InThread(fails(KeyboardInterrupt)).result()


def test_one_that_cannot_ring_knows_no_receipt():
    for ask in (One("a").cancel, One("a").receipt):
        with pytest.raises(UnknownReceipt, match="a gives no receipts"):
            ask("r")
