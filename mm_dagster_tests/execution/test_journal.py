"""The journal: durable, told apart from its copies, and never at odds with a person who halts a plan."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from mm_dagster.execution import journal as journals
from mm_dagster.execution.journal import Journal, JournalError, Overtaken
from mm_dagster.execution.locks import AccountLocked, account_lock
from mm_dagster.execution.machine import Order, Terms
from mm_dagster_tests.execution.trials import RULES, START, propose

TERMS = Terms(
    "abcdefgh", "SOL-USDT", RULES, 5_000, Decimal("2.5"), frozenset({"x1"}), frozenset({"x2"}),
    (Decimal("95"), Decimal("105")), "orders", 3, 60.0, Decimal("0.005"), Decimal(1_000), 15.0,
)  # fmt: skip
ORDER = Order(1, "mmabcdefghn1", 2_000, Decimal("99.50"))


def approved(folder: Path, mode: str = "live") -> Journal:
    journal = Journal(folder)
    propose(journal, TERMS, START, mode=mode)
    journal.approve("abcdefgh", TERMS, "anna", START + timedelta(minutes=1), 3)
    return journal


def selling(folder: Path) -> Journal:
    journal = approved(folder)
    journal.enter("abcdefgh", ("APPROVED",), "CANCELLING", "a test", START)
    journal.enter("abcdefgh", ("CANCELLING",), "SELLING", "a test", START)
    return journal


def test_what_is_written_comes_back_to_the_digit(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    journal.intend("abcdefgh", ORDER, Decimal("100.003"), START)
    found = Journal(tmp_path).kept("abcdefgh")
    assert found.plan.terms == TERMS
    assert found.plan.orders == (ORDER,)
    assert (found.approved_by, found.mids[1]) == ("anna", Decimal("100.003"))


def test_an_intent_is_refused_once_a_person_halted_the_plan(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    Journal(tmp_path).enter("abcdefgh", ("SELLING",), "HALTED", "halted by anna", START)
    with pytest.raises(Overtaken, match="HALTED"):
        journal.intend("abcdefgh", ORDER, Decimal(100), START)
    assert journal.kept("abcdefgh").plan.orders == ()


def test_a_second_process_cannot_write_the_same_order(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    journal.intend("abcdefgh", ORDER, Decimal(100), START)
    with pytest.raises(Overtaken, match="another process"):
        Journal(tmp_path).intend("abcdefgh", ORDER, Decimal(100), START)


def test_a_copied_journal_halts_what_was_under_way_and_the_original_goes_on(tmp_path: Path) -> None:
    selling(tmp_path / "here")
    there = tmp_path / "there" / journals.FOLDER
    there.mkdir(parents=True)
    shutil.copy(tmp_path / "here" / journals.FOLDER / journals.NAME, there)
    assert Journal(tmp_path / "there").kept("abcdefgh").plan.state == "HALTED"
    assert "restored or copied" in Journal(tmp_path / "there").kept("abcdefgh").reason
    assert Journal(tmp_path / "here").kept("abcdefgh").plan.state == "SELLING"


def test_an_older_journal_put_back_in_its_place_halts_too(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    old = tmp_path / "old.sqlite"
    with sqlite3.connect(journal.path) as file, sqlite3.connect(old) as copy:
        file.backup(copy)
    (tmp_path / journals.FOLDER / journals.MARK).unlink()
    for path in journal.path.parent.glob(f"{journals.NAME}-*"):
        path.unlink()
    shutil.copy(old, journal.path)
    assert Journal(tmp_path).kept("abcdefgh").plan.state == "HALTED"


def test_a_copy_of_the_whole_folder_halts_too(tmp_path: Path) -> None:
    selling(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert Journal(tmp_path / "there").kept("abcdefgh").plan.state == "HALTED"
    assert Journal(tmp_path / "here").kept("abcdefgh").plan.state == "SELLING"
    (tmp_path / "here").rename(tmp_path / "moved")
    assert Journal(tmp_path / "moved").kept("abcdefgh").plan.state == "SELLING", "what is moved is no copy"


def test_an_approval_comes_in_time_once_and_not_too_often(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    propose(journal, TERMS, START)
    with pytest.raises(JournalError, match="its time to be approved ended"):
        journal.approve("abcdefgh", TERMS, "anna", START + timedelta(minutes=11), 3)
    with pytest.raises(JournalError, match="max_exits_a_day"):
        journal.approve("abcdefgh", TERMS, "anna", START, 0)
    journal.approve("abcdefgh", TERMS, "anna", START, 3)
    with pytest.raises(Overtaken):
        journal.approve("abcdefgh", TERMS, "ben", START, 3)


def test_one_plan_at_a_time_sells_what_a_grid_holds(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    second = Terms(**{**TERMS.__dict__, "plan_id": "zzzzzzzz"})
    propose(journal, second, START)
    with pytest.raises(JournalError, match="plan abcdefgh of the same grid is under way"):
        journal.approve("zzzzzzzz", second, "anna", START, 3)


def test_a_resumed_plan_counts_what_was_sold_and_never_begins_without_an_approval(tmp_path: Path) -> None:
    journal = selling(tmp_path)
    journal.intend("abcdefgh", ORDER, Decimal(100), START)
    journal.enter("abcdefgh", ("SELLING",), "HALTED", "a test", START)
    journal.resume("abcdefgh", TERMS, "anna", START)
    kept = journal.kept("abcdefgh")
    assert (kept.plan.state, kept.plan.from_order, kept.plan.orders) == ("APPROVED", 1, (ORDER,))
    propose(journal, Terms(**{**TERMS.__dict__, "plan_id": "zzzzzzzz"}), START)
    journal.enter("zzzzzzzz", ("PROPOSED",), "HALTED", "a test", START)
    with pytest.raises(JournalError, match="never approved"):
        journal.resume("zzzzzzzz", TERMS, "anna", START)


def test_events_cannot_be_changed_or_taken_away(tmp_path: Path) -> None:
    journal = approved(tmp_path)
    with sqlite3.connect(journal.path) as file:
        for statement in ("DELETE FROM event", "UPDATE event SET said = 'nothing'"):
            with pytest.raises(sqlite3.IntegrityError):
                file.execute(statement)
    assert [event.kind for event in journal.events("abcdefgh")] == ["PROPOSED", "APPROVED"]


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    journal = approved(tmp_path)
    journal.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match="nothing is asked of an exchange without it"):
        Journal(tmp_path)
    with pytest.raises(JournalError):
        journal.note("abcdefgh", "STOP", "a test", START)


def test_one_at_a_time_sells_at_an_account_and_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    code = (
        "import sys, time; from pathlib import Path; from mm_dagster.execution.locks import account_lock\n"
        "with account_lock(Path(sys.argv[1]), 'a1'):\n print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(AccountLocked, match="another process leaves a grid at this account"),
            account_lock(folder, "a1"),
        ):
            pytest.fail("two processes have it")
        with account_lock(folder, "another"):
            process.kill()
            process.wait()
    with account_lock(folder, "a1"):
        assert (folder / "orders-a1.lock").stat().st_mode & 0o077 == 0


def test_without_a_lock_nothing_is_sold(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="nothing is sold without a lock"), account_lock(tmp_path / "file", "a1"):
        pytest.fail("there is no lock")
