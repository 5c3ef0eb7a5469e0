"""A plan of mode test: the exchange checks each of its orders, and not one is placed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mm_dagster.books.book import Book, parse
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.execution.drive import World
from mm_dagster.execution.journal import Journal, Kept
from mm_dagster.market.orders import AccountOrders
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline.rehearsal import rehearse
from mm_dagster_tests.execution.exchange import Exchange
from mm_dagster_tests.execution.loopback import DIALECTS, Loopback
from mm_dagster_tests.execution.trials import RULES, propose, terms_of

NOW = datetime(2026, 6, 29, 12, tzinfo=UTC)
TEST_PATH = {"kucoin": "/api/v1/hf/orders/test", "kraken": "/0/private/AddOrder"}


def book() -> Book:
    return parse([(99.99, 5.0)], [(100.01, 5.0)])


class Case:
    """A plan of mode test at an exchange on loopback."""

    def __init__(self, folder: Path, server: Loopback, **terms: Any) -> None:
        self.journal, self.said = Journal(folder), list[tuple[str, str]]()
        found = replace(terms_of(RULES.lots(Decimal(3)), "operator"), **terms)
        propose(self.journal, found, NOW, mode="test")
        self.journal.approve(found.plan_id, found, "a test", NOW, None)
        self.plan_id = found.plan_id
        settings = CcxtVenue(kind="ccxt", exchange=server.name, api_url=server.url, requests_per_second=1_000)
        self.venue = AccountOrders("mine", settings, server.key, test=True)

    def run(self, **changes: Any) -> Kept:
        known: dict[str, Any] = {
            "book": book, "seconds": time.monotonic, "sleep": lambda seconds: None, "utc": lambda: NOW,
            "is_killed": lambda: False, "say": lambda kind, text: self.said.append((kind, text)),
        }  # fmt: skip
        return rehearse(self.journal, self.plan_id, World(venue=self.venue, stop=None, **(known | changes)), self.venue)


def server_of(name: str) -> Loopback:
    return DIALECTS[name](Exchange(time.monotonic, RULES, Decimal(3), name=DIALECTS[name].order_name))


@pytest.mark.parametrize("name", sorted(TEST_PATH))
def test_each_slice_is_checked_once_and_none_is_placed(name: str, tmp_path: Path) -> None:
    with server_of(name) as server:
        case = Case(tmp_path, server, slices=3)
        kept = case.run()
        asked = [one for one in server.requests if one.path == TEST_PATH[name]]
    assert (kept.plan.state, kept.reason) == ("DONE", "orders checked by the exchange: 3; none was placed")
    assert len(asked) == 3
    assert kept.plan.orders == ()
    assert server.exchange.sold == 0
    assert [kind for kind, _ in case.said] == ["SELLING", "CHECKED", "CHECKED", "CHECKED", "DONE"]
    checked = [one.said for one in case.journal.events(case.plan_id) if one.kind == "CHECKED"]
    assert checked[0] == f"mm{case.plan_id}n1: the exchange would take an order to sell 1.000 at 99.50 or better"


def test_a_plan_that_died_is_checked_anew_and_one_that_is_over_stays_so(tmp_path: Path) -> None:
    with server_of("kucoin") as server:
        case = Case(tmp_path, server)
        case.journal.enter(case.plan_id, ("APPROVED",), "SELLING", "it died here", NOW)
        assert case.run().plan.state == "DONE"
        before = len(server.requests)
        assert case.run().plan.state == "DONE"
        assert len(server.requests) == before


def _no_book() -> Book:
    raise VenueError("no book")


@pytest.mark.parametrize(
    ("changes", "terms", "state", "said"),
    [
        ({"is_killed": lambda: True}, {}, "HALTED", "the kill file is there"),
        ({"book": _no_book}, {}, "HALTED", "was not checked: no book"),
        ({}, {"inventory": 5}, "HALTED", "too little for an order there"),
        ({"utc": lambda: NOW + timedelta(minutes=11)}, {}, "EXPIRED", "older than it may be"),
    ],
)
def test_what_stands_against_it_is_told_and_nothing_is_asked(
    changes: dict[str, Callable[[], Any]], terms: dict[str, Any], state: str, said: str, tmp_path: Path
) -> None:
    with server_of("kucoin") as server:
        kept = Case(tmp_path, server, **terms).run(**changes)
        assert kept.plan.state == state
        assert said in kept.reason
        assert not [one for one in server.requests if one.path == TEST_PATH["kucoin"]]


def test_the_first_no_of_the_exchange_halts_it(tmp_path: Path) -> None:
    with server_of("kucoin") as server:
        case = Case(tmp_path, server, slices=3)
        server.answers[TEST_PATH["kucoin"]] = [
            (200, '{"code":"200000","data":{"orderId":"6"}}'),
            server.error("denied"),
        ]
        kept = case.run()
        assert kept.plan.state == "HALTED"
        assert f"order mm{case.plan_id}n2 was not checked" in kept.reason
        assert "Balance insufficient" in kept.reason


def test_a_person_who_halts_it_is_heard(tmp_path: Path) -> None:
    with server_of("kucoin") as server:
        case = Case(tmp_path, server, slices=2)

        def halted() -> Book:
            if case.journal.kept(case.plan_id).plan.state == "SELLING":
                case.journal.enter(case.plan_id, ("SELLING",), "HALTED", "halted by a person", NOW)
            return book()

        kept = case.run(book=halted)
        assert (kept.plan.state, kept.reason) == ("HALTED", "halted by a person")
