"""The journal of plans and orders: on disk before anything is asked of an exchange, in a file of its own.

SQLite in WAL mode with synchronous=FULL: what `intend` returned from survives a kill and a power cut. Nothing is ever
deleted. A plan goes from state to state by compare and swap, so that a person who halts it and a process that carries
it out cannot overlook each other. Beside the file stands a mark of this copy of it: in a journal that was restored or
copied, the mark is missing or another one, and every plan that was under way is halted. It resumes by a person only.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from mm_dagster.bars import iso, parse_time
from mm_dagster.config.orders import Mode
from mm_dagster.errors import ForeseenError
from mm_dagster.execution import durable
from mm_dagster.execution.machine import FINAL, RUNNING, Order, Plan, PlanState, Terms
from mm_dagster.market.order_venue import MarketRules

FOLDER = "orders"
"""Below the data folder."""
NAME = "journal.sqlite"
MARK = "mark"
"""Names this copy of the journal, and the number of its file. No backup has it."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LENGTH = 8
"""Letters of a plan's id: `mm`, the id, `n` and a number of up to seven digits are 18."""
_DAY = timedelta(hours=24)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mark (value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS plan (
    plan_id TEXT PRIMARY KEY, grid_id TEXT NOT NULL, activated_at TEXT NOT NULL, venue TEXT NOT NULL,
    mode TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT NOT NULL,
    approved_at TEXT, approved_by TEXT, ended_at TEXT, rounds INTEGER NOT NULL DEFAULT 0,
    stops INTEGER NOT NULL DEFAULT 0, from_order INTEGER NOT NULL DEFAULT 0, terms TEXT NOT NULL, forecast TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS placed (
    plan_id TEXT NOT NULL REFERENCES plan, number INTEGER NOT NULL, client_id TEXT NOT NULL UNIQUE,
    lots INTEGER NOT NULL, price TEXT NOT NULL, mid TEXT, state TEXT NOT NULL, filled INTEGER NOT NULL DEFAULT 0,
    proceeds TEXT NOT NULL DEFAULT '0', fee TEXT, intended_at TEXT NOT NULL, closed_at TEXT,
    PRIMARY KEY (plan_id, number)
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, plan_id TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
    said TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS event_is_kept BEFORE DELETE ON event BEGIN SELECT raise(ABORT, 'events are kept'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE UPDATE ON event BEGIN SELECT raise(ABORT, 'events stay'); END;
"""


class JournalError(ForeseenError):
    """The journal cannot be used, or refuses; one line, with the remedy. Nothing was asked of the exchange."""


class Overtaken(JournalError):
    """Somebody else changed the plan meanwhile."""


@dataclass(frozen=True)
class Kept:
    """A plan in the journal.

    Attributes:
        plan: what the machine works with.
        grid_id: the grid.
        activated_at: its episode, UTC.
        venue: name in markets.yaml.
        mode: paper, test or live.
        reason: of the state.
        created_at: UTC, as the three below.
        expires_at: until when it may be approved.
        approved_at: None: it was not.
        approved_by: a person, or `paper`.
        ended_at: None: it goes on, or waits.
        forecast: what it was expected to cost: figures of the proposal.
        intended_at: of the orders, by number.
        closed_at: likewise.
        mids: the mid price that each order's limit was made of.
    """

    plan: Plan
    grid_id: str
    activated_at: datetime
    venue: str
    mode: Mode
    reason: str
    created_at: datetime
    expires_at: datetime
    approved_at: datetime | None
    approved_by: str | None
    ended_at: datetime | None
    forecast: Mapping[str, Any]
    intended_at: Mapping[int, datetime] = field(default_factory=dict)
    closed_at: Mapping[int, datetime] = field(default_factory=dict)
    mids: Mapping[int, Decimal] = field(default_factory=dict)

    @property
    def plan_id(self) -> str:
        """The plan's."""
        return self.plan.terms.plan_id


@dataclass(frozen=True)
class Event:
    """One line of a plan's history.

    Attributes:
        number: in the order of all events.
        plan_id: the plan.
        at: UTC.
        kind: a state that was entered, or INTENDED, CLOSED, ABSENT, CANCEL, STOP, SILENT, CHECKED.
        said: in words.
    """

    number: int
    plan_id: str
    at: datetime
    kind: str
    said: str


def new_plan_id() -> str:
    """An id that no plan has had, wherever the journal was lost: exchanges keep the numbers of our orders."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def exists(data: Path) -> bool:
    """Whether a data folder has a journal: there was a plan once."""
    return (data / FOLDER / NAME).is_file()


class Journal:
    """The journal of one data folder."""

    def __init__(self, data: Path) -> None:
        """
        Args:
            data: the data folder; the journal's own is made below it.

        Raises:
            JournalError: it cannot be used.
        """
        folder = data / FOLDER
        self.path, self._mark = folder / NAME, folder / MARK
        durable.prepare(self.path, _SCHEMA, self._refusal)
        self._recognise()

    # plans ------------------------------------------------------------------------------------------------------------

    def propose(self, kept: Kept) -> None:
        """Writes a new plan down.

        Raises:
            JournalError: it cannot be written.
        """
        with self._turn() as file:
            file.execute(
                "INSERT INTO plan (plan_id, grid_id, activated_at, venue, mode, state, reason, created_at, expires_at, "
                "terms, forecast) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    kept.plan_id, kept.grid_id, iso(kept.activated_at), kept.venue, kept.mode, kept.plan.state,
                    kept.reason, iso(kept.created_at), iso(kept.expires_at), _terms_text(kept.plan.terms),
                    json.dumps(kept.forecast, sort_keys=True),
                ),
            )  # fmt: skip
            _note(file, kept.plan_id, kept.created_at, kept.plan.state, kept.reason)

    def approve(self, plan_id: str, terms: Terms, by: str, at: datetime, most_a_day: int | None) -> None:
        """A person lets a plan be carried out, on terms whose baseline is of this moment.

        Args:
            plan_id: a PROPOSED plan.
            terms: with the baseline.
            by: who.
            at: UTC.
            most_a_day: plans that may be approved within 24 hours; None: any number, on paper.

        Raises:
            Overtaken: it is not PROPOSED any more.
            JournalError: it is over, or there were too many.
        """
        with self._turn() as file:
            row = self._row(file, plan_id)
            if row["state"] == "PROPOSED" and parse_time(row["expires_at"]) <= at:
                raise JournalError(
                    f"plan {plan_id}: its time to be approved ended at {row['expires_at']}; make a new one"
                )
            lately = file.execute(
                "SELECT count(*) FROM plan WHERE mode = ? AND approved_at > ?",
                (row["mode"], iso(at - _DAY)),
            ).fetchone()[0]
            if most_a_day is not None and lately >= most_a_day:
                raise JournalError(f"plan {plan_id}: {lately} were approved in 24 h; max_exits_a_day: {most_a_day}")
            self._refuse_a_second(file, row)
            self._swap(file, plan_id, ("PROPOSED",), "APPROVED", f"approved by {by}", at)
            file.execute(
                "UPDATE plan SET approved_at = ?, approved_by = ?, terms = ? WHERE plan_id = ?",
                (iso(at), by, _terms_text(terms), plan_id),
            )

    def enter(self, plan_id: str, before: Sequence[PlanState], state: PlanState, why: str, at: datetime) -> None:
        """A plan goes on to a state.

        Raises:
            Overtaken: it is in none of the states that it was thought to be in.
        """
        with self._turn() as file:
            self._swap(file, plan_id, before, state, why, at)

    def resume(self, plan_id: str, terms: Terms, by: str, at: datetime) -> None:
        """A person lets a halted plan go on; its orders stay counted.

        Raises:
            Overtaken: it is not halted.
            JournalError: another plan of the grid is under way.
        """
        with self._turn() as file:
            row = self._row(file, plan_id)
            if row["approved_at"] is None:
                raise JournalError(f"plan {plan_id}: it was never approved; make a new one")
            self._refuse_a_second(file, row)
            self._swap(file, plan_id, ("HALTED",), "APPROVED", f"resumed by {by}", at)
            last = file.execute("SELECT max(number) FROM placed WHERE plan_id = ?", (plan_id,)).fetchone()[0] or 0
            file.execute(
                "UPDATE plan SET from_order = ?, rounds = 0, stops = 0, approved_at = ?, ended_at = NULL, terms = ? "
                "WHERE plan_id = ?",
                (last, iso(at), _terms_text(terms), plan_id),
            )

    def kept(self, plan_id: str) -> Kept:
        """A plan.

        Raises:
            JournalError: there is none of that id.
        """
        with self._look() as file:
            return self._kept(file, self._row(file, plan_id))

    def all(self, *states: PlanState, without: Mode | None = None) -> tuple[Kept, ...]:
        """The plans in any of some states, oldest first.

        Args:
            states: none named: all of them.
            without: plans of this mode are left out.
        """
        wanted = states or get_args(PlanState)
        with self._look() as file:
            rows = file.execute(
                f"SELECT * FROM plan WHERE state IN ({_marks(wanted)}) AND mode IS NOT ? ORDER BY created_at, plan_id",
                (*wanted, without),
            ).fetchall()
            return tuple(self._kept(file, row) for row in rows)

    def events(self, plan_id: str | None = None, after: int = 0) -> tuple[Event, ...]:
        """What happened, oldest first.

        Args:
            plan_id: of one plan; None: of all.
            after: number of the last one that is known.
        """
        with self._look() as file:
            rows = file.execute(
                "SELECT * FROM event WHERE number > ? AND (? IS NULL OR plan_id = ?) ORDER BY number",
                (after, plan_id, plan_id),
            ).fetchall()
        return tuple(
            Event(row["number"], row["plan_id"], parse_time(row["at"]), row["kind"], row["said"]) for row in rows
        )

    # orders -----------------------------------------------------------------------------------------------------------

    def intend(self, plan_id: str, order: Order, mid: Decimal, at: datetime) -> None:
        """An order is on disk when this returns; only then it may be sent.

        Raises:
            Overtaken: the plan is not being sold any more, or another process wrote this order.
        """
        with self._turn() as file:
            row = self._row(file, plan_id)
            if row["state"] != "SELLING":
                raise Overtaken(f"plan {plan_id}: it is {row['state']} now")
            try:
                file.execute(
                    "INSERT INTO placed (plan_id, number, client_id, lots, price, mid, state, intended_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        plan_id, order.number, order.client_id, order.lots, str(order.limit), str(mid), "INTENDED",
                        iso(at),
                    ),
                )  # fmt: skip
            except sqlite3.IntegrityError:
                raise Overtaken(f"plan {plan_id}: another process wrote order {order.client_id}") from None
            amount = _rules(row).amount(order.lots)
            _note(file, plan_id, at, "INTENDED", f"{order.client_id}: {amount} at {order.limit} or better")

    def settle(self, plan_id: str, order: Order, at: datetime) -> None:
        """What became of an order; a later look may correct it."""
        with self._turn() as file:
            file.execute(
                "UPDATE placed SET state = ?, filled = ?, proceeds = ?, fee = ?, closed_at = ? "
                "WHERE plan_id = ? AND number = ?",
                (
                    order.state, order.filled, str(order.proceeds), None if order.fee is None else str(order.fee),
                    iso(at), plan_id, order.number,
                ),
            )  # fmt: skip
            rules = _rules(self._row(file, plan_id))
            said = f"{order.client_id}: {rules.amount(order.filled)} of {rules.amount(order.lots)} sold"
            _note(file, plan_id, at, order.state, said)

    def note(self, plan_id: str, kind: str, said: str, at: datetime, *, rounds: int = 0, stops: int = 0) -> None:
        """One line of the history, and what it adds to the counts of the plan."""
        with self._turn() as file:
            file.execute(
                "UPDATE plan SET rounds = rounds + ?, stops = stops + ? WHERE plan_id = ?", (rounds, stops, plan_id)
            )
            _note(file, plan_id, at, kind, said)

    # the file ---------------------------------------------------------------------------------------------------------

    def _turn(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that writes."""
        return durable.turn(self.path, self._refusal)

    def _look(self) -> AbstractContextManager[sqlite3.Connection]:
        """One moment of the file."""
        return durable.look(self.path, self._refusal)

    def _refusal(self, error: Exception) -> JournalError:
        return JournalError(
            f"{self.path}: the journal of orders cannot be used: {error}; nothing is asked of an exchange without it"
        )

    def _recognise(self) -> None:
        """Halts what was under way in a journal that came from elsewhere."""
        with self._turn() as file:
            row = file.execute("SELECT value FROM mark").fetchone()
            mark = None if row is None else row["value"]
            here = self._mark.read_text().strip() if self._mark.is_file() else None
            # With the file's number: a copy of the whole folder has the mark, too, and a file of its own.
            number = self.path.stat().st_ino
            if mark is not None and f"{mark} {number}" == here:
                return
            fresh = secrets.token_hex(16)
            for (plan_id,) in file.execute(
                f"SELECT plan_id FROM plan WHERE state IN ({_marks(RUNNING)})", RUNNING
            ).fetchall():
                said = "the journal was restored or copied: see the exchange before you resume"
                file.execute("UPDATE plan SET state = 'HALTED', reason = ? WHERE plan_id = ?", (said, plan_id))
                at = file.execute("SELECT max(at) FROM event WHERE plan_id = ?", (plan_id,)).fetchone()[0]
                _note(file, plan_id, parse_time(at), "HALTED", said)
            file.execute("DELETE FROM mark")
            file.execute("INSERT INTO mark VALUES (?)", (fresh,))
            self._mark.write_text(f"{fresh} {number}")
            self._mark.chmod(0o600)

    def _row(self, file: sqlite3.Connection, plan_id: str) -> sqlite3.Row:
        row = file.execute("SELECT * FROM plan WHERE plan_id = ?", (plan_id,)).fetchone()
        if row is None:
            raise JournalError(f"plan {plan_id}: there is none; `mm exit status` lists them")
        return row

    def _refuse_a_second(self, file: sqlite3.Connection, row: sqlite3.Row) -> None:
        """One plan at a time sells what a grid holds."""
        other = file.execute(
            "SELECT plan_id FROM plan WHERE grid_id = ? AND mode = ? AND plan_id <> ? "
            f"AND state IN ({_marks(RUNNING)})",
            (row["grid_id"], row["mode"], row["plan_id"], *RUNNING),
        ).fetchone()
        if other is not None:
            raise JournalError(
                f"plan {row['plan_id']}: plan {other[0]} of the same grid is under way; see `mm exit status`"
            )

    def _swap(
        self, file: sqlite3.Connection, plan_id: str, before: Sequence[str], state: PlanState, why: str, at: datetime
    ) -> None:
        is_over = state in FINAL or state == "HALTED"
        changed = file.execute(
            f"UPDATE plan SET state = ?, reason = ?, ended_at = ? WHERE plan_id = ? AND state IN ({_marks(before)})",
            (state, why, iso(at) if is_over else None, plan_id, *before),
        )
        if changed.rowcount != 1:
            raise Overtaken(f"plan {plan_id}: it is {self._row(file, plan_id)['state']} now")
        _note(file, plan_id, at, state, why)

    def _kept(self, file: sqlite3.Connection, row: sqlite3.Row) -> Kept:
        placed = file.execute("SELECT * FROM placed WHERE plan_id = ? ORDER BY number", (row["plan_id"],)).fetchall()
        orders = tuple(
            Order(
                one["number"], one["client_id"], one["lots"], Decimal(one["price"]), one["state"], one["filled"],
                Decimal(one["proceeds"]), None if one["fee"] is None else Decimal(one["fee"]),
            )
            for one in placed
        )  # fmt: skip
        plan = Plan(_terms(row["terms"]), row["state"], orders, row["rounds"], row["stops"], row["from_order"])
        times = {name: None if row[name] is None else parse_time(row[name]) for name in ("approved_at", "ended_at")}
        return Kept(
            plan=plan,
            grid_id=row["grid_id"],
            activated_at=parse_time(row["activated_at"]),
            venue=row["venue"],
            mode=row["mode"],
            reason=row["reason"],
            created_at=parse_time(row["created_at"]),
            expires_at=parse_time(row["expires_at"]),
            approved_by=row["approved_by"],
            forecast=json.loads(row["forecast"]),
            intended_at={one["number"]: parse_time(one["intended_at"]) for one in placed},
            closed_at={one["number"]: parse_time(one["closed_at"]) for one in placed if one["closed_at"]},
            mids={one["number"]: Decimal(one["mid"]) for one in placed if one["mid"]},
            **times,
        )


def _note(file: sqlite3.Connection, plan_id: str, at: datetime, kind: str, said: str) -> None:
    file.execute("INSERT INTO event (plan_id, at, kind, said) VALUES (?, ?, ?, ?)", (plan_id, iso(at), kind, said))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _terms_text(terms: Terms) -> str:
    """As JSON; decimals as text, so that they come back as they were."""
    rules = terms.rules
    return json.dumps(
        {
            "plan_id": terms.plan_id,
            "symbol": terms.symbol,
            "rules": [str(one) for one in (rules.lot, rules.tick, rules.least, rules.least_funds)],
            "inventory": terms.inventory,
            "foreign": str(terms.foreign),
            "own_orders": sorted(terms.own_orders),
            "other_orders": sorted(terms.other_orders),
            "levels": [str(one) for one in terms.levels],
            "stopper": terms.stopper,
            "slices": terms.slices,
            "every_seconds": terms.every_seconds,
            "hard": str(terms.hard),
            "most_quote": str(terms.most_quote),
            "settle_seconds": terms.settle_seconds,
            "approval_seconds": terms.approval_seconds,
            "account": terms.account,
        },
        sort_keys=True,
    )


def _rules(row: sqlite3.Row) -> MarketRules:
    return _terms(row["terms"]).rules


def _terms(text: str) -> Terms:
    found = json.loads(text)
    return Terms(
        **found
        | {
            "rules": MarketRules(*(Decimal(one) for one in found["rules"])),
            "foreign": Decimal(found["foreign"]),
            "own_orders": frozenset(found["own_orders"]),
            "other_orders": frozenset(found["other_orders"]),
            "levels": tuple(Decimal(one) for one in found["levels"]),
            "hard": Decimal(found["hard"]),
            "most_quote": Decimal(found["most_quote"]),
        }
    )
