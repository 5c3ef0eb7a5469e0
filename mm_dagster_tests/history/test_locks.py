"""Locks by name: the same sentences for files and for a real PostgreSQL, then what only one of them can."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mm_dagster.history import advisory, locks
from mm_dagster.history.lake import Lake, LakeError
from mm_dagster.history.locks import FileLock, LockError, Locks, Lost, Taken
from mm_dagster_tests.history.test_lake import COMMIT, verdicts
from mm_dagster_tests.postgres import PASSWORD, Postgres

PATIENCE = 60


@pytest.fixture(scope="module")
def address(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture(params=["files", "server"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Locks]:
    """Makes the locks of another host each time, or of another process on the one host."""
    if request.param == "files":
        return lambda: Locks(tmp_path)
    address = request.getfixturevalue("address")
    return lambda: Locks.at(address)


def test_a_lock_is_had_by_one_and_then_by_the_next(make: Callable[[], Locks]) -> None:
    first, second = make().of("tick"), make().of("tick")
    assert not first.held()
    assert first.try_acquire()
    assert first.held()
    assert not second.try_acquire()
    assert not second.held()
    assert make().of("other").try_acquire()
    with pytest.raises(Taken, match="tick"):
        second.acquire(0.1)
    first.release()
    assert not first.held()
    first.release()
    with second:
        assert second.held()
        assert not first.try_acquire()
    assert first.try_acquire()
    first.release()


def test_who_share_a_lock_keep_out_whom_has_it_alone(make: Callable[[], Locks]) -> None:
    one, other = make().of("market A", shared=["turn"]), make().of("market B", shared=["turn"])
    alone, same = make().of("turn"), make().of("market A", shared=["turn"])
    assert one.try_acquire()
    assert other.try_acquire()
    assert not alone.try_acquire()
    assert not same.try_acquire()
    one.release()
    other.release()
    assert alone.try_acquire()
    assert not one.try_acquire()
    alone.release()
    # What could not be had as a whole is not held in part.
    assert one.try_acquire()
    assert not same.try_acquire()
    one.release()
    assert alone.try_acquire()
    alone.release()


def test_who_waits_gets_it_when_it_is_free_and_the_wait_is_counted(make: Callable[[], Locks]) -> None:
    holder, waiter = make().of("slow"), make().of("slow")
    holder.acquire()
    before = locks.waited().get("slow", 0.0)
    threading.Timer(0.3, holder.release).start()
    began = time.monotonic()
    with waiter:
        assert 0.2 < time.monotonic() - began < 10
    assert 0.2 < locks.waited()["slow"] - before < 10


def test_threads_exclude_each_other(make: Callable[[], Locks]) -> None:
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(20):
            with make().of("threads"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                done += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (most, done) == (1, 120)


def test_ctrl_c_ends_the_wait_at_once(make: Callable[[], Locks]) -> None:
    with make().of("busy"):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            make().of("busy").acquire()
        assert time.monotonic() - began < 2
    # On a server the session that waited may be granted it once more, and ends by that.
    later = make().of("busy")
    later.acquire(5)
    later.release()


def hold(place: str, is_server: bool, begun: mp.synchronize.Event) -> None:
    """A process that holds a lock until it is killed; a child that it forked outlives it."""
    lock = (Locks.at(place) if is_server else Locks(Path(place))).of("mortal")
    lock.acquire()
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    begun.set()
    time.sleep(PATIENCE)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["files", "server"])
def test_a_killed_holder_holds_nothing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path) if kind == "files" else request.getfixturevalue("address")
    spawn = mp.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=hold, args=(place, kind == "server", begun))
    process.start()
    assert begun.wait(PATIENCE)
    lock = (Locks.at(place) if kind == "server" else Locks(Path(place))).of("mortal")
    assert not lock.try_acquire()
    process.kill()
    # With a limit it would wait for the child, too.
    process.join()
    lock.acquire(5)
    assert lock.held()
    lock.release()


# files ----------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match=r"tick\.lock: cannot be locked") as raised:
        FileLock(tmp_path / "file", ["tick"]).acquire()
    assert "\n" not in str(raised.value)


def test_a_forked_child_of_a_file_s_holder_gives_nothing_away(tmp_path: Path) -> None:
    lock = FileLock(tmp_path, ["tick"])
    with lock:
        child = os.fork()
        if child == 0:
            lock.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert not FileLock(tmp_path, ["tick"]).try_acquire()


# a server -------------------------------------------------------------------------------------------------------------


def test_a_lock_that_the_server_ended_is_noticed_and_can_be_had_again(address: str, postgres: Postgres) -> None:
    lock = Locks.at(address).of("tick")
    lock.acquire()
    lock.check()
    postgres.end_sessions()
    assert not lock.held()
    with pytest.raises(Lost, match="'tick'"):
        lock.check()
    other = Locks.at(address).of("tick")
    assert other.try_acquire()
    lock.release()
    assert other.held()
    other.release()
    # Those that were kept for the next one were ended, too.
    postgres.end_sessions()
    assert lock.try_acquire()
    lock.release()


def test_the_holder_is_named(address: str) -> None:
    lock = Locks.at(address).of("named")
    assert lock.holder() is None
    with lock:
        assert str(os.getpid()) in str(lock.holder())
        with pytest.raises(Taken, match=f"mm_dagster .* {os.getpid()}"):
            Locks.at(address).of("named").acquire(0)


def test_the_password_is_in_no_error(postgres: Postgres) -> None:
    for wrong in (postgres.address("nowhere"), postgres.address("postgres", PASSWORD + "2")):
        with pytest.raises(LockError) as raised:
            Locks.at(wrong).of("tick").acquire(1)
        assert "pässword" not in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(LockError, match="the address of the locks must be") as raised:
        Locks.at("mysql://mm:hunter2@here/lake")
    assert "hunter2" not in str(raised.value)


def test_a_session_tells_the_server_when_it_is_gone(address: str) -> None:
    """A host that lost its network: the server ends what does not answer, for which it is told the limits."""
    lock = Locks.at(address).of("tick")
    with lock:
        shown = {
            name: advisory.ask(lock._session, f"SELECT setting FROM pg_settings WHERE name = '{name}'", (), 5)[0][0]  # type: ignore[attr-defined]
            for name in ("statement_timeout", "lock_timeout", "idle_session_timeout")
        }
        options = lock._session.info.options  # type: ignore[attr-defined]
    assert set(shown.values()) == {"0"}
    assert "tcp_keepalives_idle=10" in options
    assert "tcp_user_timeout=30000" in options
    known = {f"-c {name}" for name in ("tcp_keepalives_interval=5", "tcp_keepalives_count=4")}
    assert all(one in options for one in known)


def test_a_forked_child_neither_holds_nor_ends_its_parent_s_lock(address: str) -> None:
    lock = Locks.at(address).of("forked")
    with lock:
        child = os.fork()
        if child == 0:
            is_wrong = lock.held()
            lock.release()
            other = Locks.at(address).of("of the child")
            is_wrong |= not other.try_acquire()
            os._exit(int(is_wrong))
        assert os.waitpid(child, 0)[1] == 0
        assert lock.held()
    with lock:
        assert lock.held()


def test_a_commit_is_refused_when_the_writers_lock_was_lost_before_it(
    address: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "history", address)
    lake.upsert("regime_verdict", verdicts(0, 4), commit=COMMIT)
    real = advisory.ServerLock.check

    def lose(lock: advisory.ServerLock) -> None:
        pid = lock._session.info.backend_pid
        postgres.run(f"SELECT pg_terminate_backend({pid}, 5000)")
        real(lock)

    with monkeypatch.context() as patch:
        patch.setattr(advisory.ServerLock, "check", lose)
        with pytest.raises(LakeError, match="was lost while it was held"):
            lake.upsert("regime_verdict", verdicts(0, 8), commit=COMMIT)
    assert lake.read("regime_verdict").height == 4
    assert lake.upsert("regime_verdict", verdicts(0, 8), commit=COMMIT).inserted == 4


def test_a_server_that_does_not_answer_is_no_lock(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Locks.at(address).of("tick")
    lock.acquire()
    monkeypatch.setattr(advisory, "_ANSWER_SECONDS", 0.2)
    pid = lock._session.info.backend_pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert not lock.held()
        assert time.monotonic() - began < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    lock.release()
