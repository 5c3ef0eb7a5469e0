"""Of several one has the lease: the next one can have it soon after the first is gone, however that went."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_dagster.cli import daemon, lease
from mm_dagster.cli.lease import FileLease, Keeper, LeaseError, Place, PostgresLease, own_name
from mm_dagster_tests.postgres import Postgres


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> float:
    """Returns when the condition holds, with the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "it never came to that"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def address(postgres: Postgres) -> str:
    """As Dagster has it, with a driver and a password full of what must be quoted."""
    return postgres.database().replace("://", "+psycopg2://")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes tenths, in the same proportions."""
    for name, seconds in {"ASK_SECONDS": 0.1, "GIVE_UP_SECONDS": 0.5, "LEASE_SECONDS": 1.0}.items():
        monkeypatch.setattr(lease, name, seconds)


def test_of_two_one_has_it_and_the_other_waits_in_sight(address: str) -> None:
    first, second = PostgresLease(address), PostgresLease(address)
    assert first.places() == []
    assert first.take()
    assert not second.take()
    active, standby = PostgresLease(address).places()
    assert [active.is_active, standby.is_active] == [True, False]
    assert [active.name, standby.name] == [own_name()[: len(active.name)]] * 2
    assert daemon.in_words([active, standby]).startswith(f"{active.name} is active since 20")
    first.confirm()
    first.release()
    wait_until(second.take, 10)
    wait_until(lambda: len(second.places()) == 1, 10)
    [left] = second.places()
    assert left.is_active
    second.release()
    wait_until(lambda: second.places() == [], 10)


@pytest.mark.parametrize(
    ("found", "stands_by"),
    [
        ([], False),
        ([("1@alpha", True)], False),
        ([("1@other", True), ("2@alpha", False)], True),
        # The server cuts long names.
        ([("1@other", True), ("2@al", False)], True),
        ([("1@alpha", True), ("2@alpha", False)], False),
        ([("1@other", True), ("2@another", False)], False),
    ],
)
def test_a_host_stands_by_where_another_is_active(
    monkeypatch: pytest.MonkeyPatch, found: list[tuple[str, bool]], stands_by: bool
) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(daemon, "places", lambda: [Place(name, is_active, since) for name, is_active in found])
    monkeypatch.setattr("socket.gethostname", lambda: "alpha")
    assert daemon.stands_by() is stands_by


def test_a_session_that_the_server_ended_is_lost_at_once_and_can_be_had_again(
    address: str, postgres: Postgres, quick: None
) -> None:
    first, second = PostgresLease(address), PostgresLease(address)
    assert first.take()
    with Keeper(first) as keeper:
        assert keeper.lost() is None
        postgres.end_sessions()
        wait_until(lambda: keeper.lost() is not None, 5)
        assert str(keeper.lost()).startswith("the session in PostgreSQL is lost: ")
        assert second.take()
    keeper.release()
    with pytest.raises(LeaseError, match="is lost"):
        first.confirm()
    second.confirm()
    second.release()


def backend(postgres: Postgres) -> int:
    """The process of the server that holds the lock."""
    said = postgres.run("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
    return int(next(line for line in said.splitlines() if line.strip().isdigit()))


def test_a_server_that_answers_nothing_counts_as_lost(address: str, postgres: Postgres, quick: None) -> None:
    first = PostgresLease(address)
    assert first.take()
    server = backend(postgres)
    with Keeper(first) as keeper:
        os.kill(server, signal.SIGSTOP)
        try:
            wait_until(lambda: keeper.lost() is not None, 5)
            assert "has not answered for" in str(keeper.lost())
            # It does not wait for an answer either.
            began = time.monotonic()
            keeper.release()
            assert time.monotonic() - began < 1
        finally:
            os.kill(server, signal.SIGCONT)
    first.release()


def test_a_host_that_says_nothing_more_loses_it_though_it_holds_its_session(address: str, quick: None) -> None:
    first, second = PostgresLease(address), PostgresLease(address)
    assert first.take()
    assert not second.take()
    # Nobody asks for the first: as if its host slept. The second asks all the while.
    assert wait_until(second.take, 10) > 0.4
    with pytest.raises(LeaseError, match="is lost"):
        first.confirm()
    second.release()


def test_a_pooler_that_changes_the_session_is_refused(address: str) -> None:
    first = PostgresLease(address)
    assert first.take()
    first._number = -1
    with pytest.raises(LeaseError, match="name the server itself, not a pooler"):
        first.confirm()
    first.release()


def test_an_address_that_is_none_is_said_without_what_it_holds() -> None:
    with pytest.raises(LeaseError, match="the address of Dagster's storage must be an address like") as found:
        PostgresLease("mysql://mm:geheim@127.0.0.1/dagster")
    assert "geheim" not in str(found.value)


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    absent = PostgresLease("postgresql+psycopg2://mm:geheim@127.0.0.1:1/dagster")
    for ask in (absent.take, absent.places):
        with pytest.raises(
            LeaseError, match=r"PostgreSQL at 127\.0\.0\.1 cannot be asked who is active: Connection refused"
        ) as found:
            ask()
        assert "geheim" not in str(found.value)


def _hold(path: Path, taken: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    FileLease(path).take()
    taken.set()  # type: ignore[attr-defined]
    time.sleep(600)


def test_without_a_server_it_is_a_file_and_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    other = context.Process(target=_hold, args=(path, taken))
    other.start()
    try:
        assert taken.wait(60)
        mine = FileLease(path)
        assert not mine.take()
        [active] = mine.places()
        assert active.name.startswith(f"{other.pid}@")
        other.kill()
        other.join()
        assert mine.places() == []
        assert mine.take()
        mine.confirm()
        assert mine.places()[0].name == own_name()
        mine.release()
        assert mine.places() == []
    finally:
        other.kill()
