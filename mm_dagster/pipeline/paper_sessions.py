"""The paper operator: leaves each grid on paper as soon as it reaches a level, and says what that was worth.

A session is a row of the table `session`, its plans are in the journal: nothing is kept in memory, so that any process
goes on where another one ended. Of a live market a plan is carried out like a person's, by the daemon on the books of
now; on stored candles it is carried out in their time as soon as they are there, and one may begin in the past.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, iso, parse_time
from mm_dagster.config.grid import GridConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.evaluation.outcomes import MONEY_AFTER
from mm_dagster.execution.journal import FOLDER, Journal, JournalError, Kept, exists
from mm_dagster.execution.locks import AccountLocked, account_lock
from mm_dagster.execution.machine import RUNNING
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline import exit_ledger, exits
from mm_dagster.pipeline.exit_refusals import ExitRefused
from mm_dagster.pipeline.leave import NoPlan
from mm_dagster.pipeline.paper import LONGEST, OF_THE_PAST, reconcile
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.registry import dtypes
from mm_dagster.tables.words import STATES
from mm_dagster.text import did_you_mean

logger = logging.getLogger("mm_dagster")

BY = "paper"
"""Who approves its plans."""
FRESH = timedelta(minutes=30)
"""A state that is older is no reason to leave on the books of now."""

Row = dict[str, Any]


class SessionRefused(ForeseenError):
    """A session is not started or stopped; one line, with what would be needed."""


@dataclass(frozen=True)
class Moment:
    """A grid that is to be left.

    Attributes:
        grid: which.
        as_of: the bar with which it had reached the level.
        state: which it was then.
    """

    grid: GridConfig
    as_of: datetime
    state: str


# started and stopped --------------------------------------------------------------------------------------------------


def start(
    project: Project,
    *,
    level: str,
    grids: Sequence[str] = (),
    over: int | None = None,
    since: datetime | None = None,
    on_candles: bool = False,
    by: str,
) -> Row:
    """A session begins; one at a time.

    Args:
        project: configuration and lake.
        level: a grid in this state or a higher one is left.
        grids: their ids; none: all that run.
        over: minutes; None: as each plan proposes.
        since: states from then on count, on stored candles; None: from now on.
        on_candles: whether stored candles are sold into although there are books.
        by: who.

    Returns:
        Its row of `session`.

    Raises:
        SessionRefused: orders.yaml allows no plan on paper, another session runs, or a grid is not known.
    """
    if not project.config.orders.allows("paper"):
        raise SessionRefused(
            f"orders.yaml: mode: {project.config.orders.mode} allows no plan on paper; write `mode: paper` into it"
        )
    if level not in STATES[1:]:
        raise SessionRefused(f"{level}: is no level{did_you_mean(level, STATES[1:])}; one of {', '.join(STATES[1:])}")
    known = [grid.id for grid in project.config.grids if grid.enabled]
    for name in grids:
        if name not in known:
            raise SessionRefused(f"{name}: there is no such running grid{did_you_mean(name, known)}")
    if not known:
        raise SessionRefused("no grid runs: there is nothing to leave")
    now = project.now().replace(microsecond=0)
    if since is not None and since > now:
        raise SessionRefused(f"{iso(since)} is in the future: nothing is known of it")
    row: Row = {
        "session_id": f"{now:%Y%m%d}-{secrets.token_hex(3)}",
        "started_at": now,
        "started_by": by,
        "level": level,
        "grids": sorted(set(grids)) or None,
        "over_minutes": over,
        "prices": "CANDLES" if on_candles or since is not None else "BOOKS",
        "since": ceil_bar(since) if since is not None else floor_bar(now),
        "state": "RUNNING",
        "stopped_at": None,
        "stopped_by": None,
        "ended_at": None,
    }
    with project.turn_lock():
        running = _open(project)
        if running is not None:
            raise SessionRefused(
                f"session {running['session_id']} is {running['state']} since {iso(running['started_at'])}; "
                "`mm paper stop` ends it"
            )
        _write(project, row)
    return row


def stop(project: Project, by: str, *, let_go: bool = False) -> Row:
    """A session ends gracefully: no new plan, and those under way come to an end, or are let go.

    Args:
        project: configuration and lake.
        by: who.
        let_go: whether plans under way are halted where they are.

    Raises:
        SessionRefused: none runs.
    """
    with project.turn_lock():
        row = _open(project)
        if row is None:
            raise SessionRefused("no session runs; `mm paper start` begins one")
        if row["state"] == "RUNNING":
            now = project.now().replace(microsecond=0)
            row = row | {"state": "STOPPING", "stopped_at": now, "stopped_by": by}
            _write(project, row)
    if let_go:
        for kept in under_way(project, row["session_id"]):
            exits.halt(project, kept.plan_id, f"{by}: the session was stopped, and its plans were let go")
    act(project)
    return newest(project) or row


def newest(project: Project) -> Row | None:
    """The session that was started last; None: there was none."""
    rows = project.lake.read("session").sort("started_at", "session_id")
    return rows.row(-1, named=True) if rows.height else None


def one(project: Project, session_id: str) -> Row | None:
    """A session; None: there is none of that id."""
    rows = project.lake.read("session").filter(pl.col("session_id") == session_id)
    return rows.row(0, named=True) if rows.height else None


def _open(project: Project) -> Row | None:
    row = newest(project)
    return None if row is None or row["state"] == "ENDED" else row


def _write(project: Project, row: Row) -> None:
    frame = pl.DataFrame([row], schema=dtypes("session"), orient="row")
    project.lake.upsert("session", frame, commit=Commit("paper", "session", ""))


# what it does ---------------------------------------------------------------------------------------------------------


def is_due(project: Project) -> bool:
    """Whether `act` would do something now."""
    row = _open(project)
    if row is None or not project.config.orders.allows("paper"):
        return False
    if row["state"] == "STOPPING":
        return not under_way(project, row["session_id"])
    return any(True for _ in due(project, row))


def moment(project: Project) -> str | None:
    """What `act` would look at, in a word that changes with it; None: no session runs."""
    row = _open(project)
    if row is None:
        return None
    newest_state = max(project.lake.newest("exit_state").values(), default=None)
    left = len(under_way(project, row["session_id"])) if row["state"] == "STOPPING" else 0
    return f"{row['session_id']} {row['state']} {left} {newest_state}"


def act(project: Project, say: Callable[[str], None] = logger.info) -> list[Kept]:
    """Makes the plans that are due; carries those of the past out, and ends a session that is being stopped.

    May be called at any time, by any process: what has a plan gets no second one.

    Args:
        project: configuration, lake and venues.
        say: is told what came of each, and why there is none.

    Returns:
        The plans that it made or carried out.
    """
    if not project.config.orders.allows("paper"):
        return []
    try:
        with account_lock(project.data / FOLDER, "paper-session"):
            return _act(project, say)
    except AccountLocked:
        # Another process does it just now: two would leave a grid twice.
        return []


def _act(project: Project, say: Callable[[str], None]) -> list[Kept]:
    row = _open(project)
    if row is None:
        return []
    made: list[Kept] = []
    for kept in under_way(project, row["session_id"]):
        # Somebody was killed amid a plan of the past.
        if kept.forecast.get(OF_THE_PAST):
            made.append(_carry_out(project, kept, say))
    if row["state"] == "RUNNING":
        for moment in list(due(project, row)):
            try:
                made.append(_leave(project, row, moment, say))
            except (ExitRefused, NoPlan, JournalError) as error:
                say(f"{moment.grid.id} at {iso(moment.as_of)}: no plan: {error}")
    if row["state"] == "STOPPING" and not under_way(project, row["session_id"]):
        with project.turn_lock():
            _write(project, row | {"state": "ENDED", "ended_at": project.now().replace(microsecond=0)})
    if made:
        exit_ledger.keep(project)
    return made


def due(project: Project, row: Row) -> Iterator[Moment]:
    """The grids that have reached the level, and of which the session has no plan yet.

    Args:
        project: configuration and lake.
        row: of `session`.
    """
    # Of one that was only proposed somebody was killed, or it was refused.
    made = [kept for kept in plans(project, row["session_id"]) if kept.approved_at is not None]
    left = {(kept.grid_id, kept.activated_at) for kept in made}
    high = STATES[STATES.index(row["level"]) :]
    now = project.now()
    for grid in project.config.grids:
        if not grid.enabled or (row["grids"] is not None and grid.id not in row["grids"]):
            continue
        if (grid.id, grid.activated_at) in left:
            continue
        begins = max(row["since"], grid.first_as_of) - BAR
        if begins >= now:
            continue
        states = project.lake.read(
            "exit_state", span=Span(begins, ceil_bar(now)), grids=[grid.id], columns=["activated_at", "as_of", "state"]
        )
        states = states.filter(pl.col("activated_at") == grid.activated_at).sort("as_of")
        if row["prices"] == "BOOKS":
            states = states.tail(1).filter(pl.col("as_of") > now - FRESH)
        reached = _holding(project, grid, states.filter(pl.col("state").is_in(high)))
        if reached.is_empty():
            continue
        first = reached.row(0, named=True)
        if row["prices"] == "CANDLES":
            stored = project.lake.newest("candles").get(grid.symbol)
            if stored is None or stored + BAR < first["as_of"] + LONGEST:
                # What it would have fetched the candles do not tell yet.
                continue
        yield Moment(grid, first["as_of"], first["state"])


def _holding(project: Project, grid: GridConfig, reached: pl.DataFrame) -> pl.DataFrame:
    """The bars at which a grid held something to be sold."""
    if reached.is_empty():
        return reached
    first, last = reached["as_of"][0], reached["as_of"][-1]
    held = project.lake.read(
        "grid_risk", span=Span(first - BAR, last), grids=[grid.id], columns=["activated_at", "as_of", "inventory"]
    )
    held = held.filter((pl.col("activated_at") == grid.activated_at) & (pl.col("inventory") > 0))
    return reached.join(held.select("as_of"), on="as_of", how="semi", maintain_order="left")


def _leave(project: Project, row: Row, moment: Moment, say: Callable[[str], None]) -> Kept:
    past = row["prices"] == "CANDLES"
    grid, as_of = moment.grid, moment.as_of if past else None
    noted: Row = {"session_id": row["session_id"], "state": moment.state, "as_of": iso(moment.as_of)}
    if past:
        noted |= {OF_THE_PAST: True}
    kept = exits.propose(
        project, grid.id, "paper", over=row["over_minutes"], accept=True, as_of=as_of, noted=noted
    )  # fmt: skip
    kept = exits.approve(project, kept.plan_id, BY, at=as_of)
    say(f"{grid.id}: {moment.state} at {iso(moment.as_of)}: plan {kept.plan_id}")
    return _carry_out(project, kept, say) if past else kept


def _carry_out(project: Project, kept: Kept, say: Callable[[str], None]) -> Kept:
    after = exits.carry_out(project, kept.plan_id, keeps=False)
    say(f"{after.grid_id}: plan {after.plan_id} is {after.plan.state}: {after.reason}")
    return after


def plans(project: Project, session_id: str) -> list[Kept]:
    """All plans of a session, oldest first."""
    if not exists(project.data):
        return []
    return [kept for kept in Journal(project.data).all() if kept.forecast.get("session_id") == session_id]


def under_way(project: Project, session_id: str) -> list[Kept]:
    """Those that are not over."""
    return [kept for kept in plans(project, session_id) if kept.plan.state in RUNNING]


# what came of it ------------------------------------------------------------------------------------------------------


def report(project: Project, session_id: str) -> Row:
    """A session with its plans, see `settlement`, and what they add up to.

    Raises:
        SessionRefused: there is none of that id.
    """
    row = one(project, session_id)
    if row is None:
        raise SessionRefused(f"{session_id}: there is no such session")
    settled = settlement(project, session_id)
    done = [plan for plan in settled if plan["state"] == "DONE"]
    known = [plan for plan in settled if plan["within_80"] is not None]
    return row | {
        "plans": settled,
        "done": len(done),
        "halted": sum(plan["state"] == "HALTED" for plan in settled),
        "under_way": sum(plan["state"] in RUNNING for plan in settled),
        "faults": sum(len(plan["faults"]) for plan in settled),
        "mean_slippage_bp": _mean(settled, "slippage_bp"),
        "within_80_share": sum(plan["within_80"] for plan in known) / len(known) if known else None,
        "gain_vs_nothing": _sum(settled, "gain_vs_nothing"),
        "gain_vs_own": _sum(settled, "gain_vs_own"),
    }


def _mean(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) / len(known) if known else None


def _sum(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def settlement(project: Project, session_id: str) -> list[Row]:
    """What each plan of a session was to sell and sold, and where journal and ledger do not agree.

    Returns:
        The columns of `exit_plan`, and `as_of`, `level`, `slippage_bp` (what it cost more than was forecast),
        `within_80`, `faults`, and what it was worth: see `worth`.
    """
    found = []
    for kept in plans(project, session_id):
        row = exit_ledger.plan_row(kept)
        cost, said = row["shortfall_bp"], row["expected_bp"]
        known = cost is not None and said is not None
        within = None
        low, high = row["low_80_bp"], row["high_80_bp"]
        # At once one figure is said, and no interval.
        if cost is not None and low is not None and high is not None and low < high:
            within = bool(low <= cost <= high)
        found.append(
            row
            | {
                "as_of": kept.forecast.get("as_of"),
                "level": kept.forecast.get("state"),
                "slippage_bp": cost - said if known else None,
                "within_80": within,
                "faults": reconcile(project, kept),
            }
            | worth(project, kept)
        )
    return found


def worth(project: Project, kept: Kept) -> Row:
    """What leaving on paper was worth beside doing nothing and beside what the operator did, quote currency.

    Doing nothing is what the grid would fetch MONEY_AFTER later, or at the newest bar where that is not there yet
    (`is_open`). What the operator did counts where they stopped the grid after it had been left on paper, by what it
    would have fetched then.

    Returns:
        `value`: what paper has of the grid: its cash, what was sold, and the rest at the price of the first order;
        `gain_vs_nothing`, `gain_vs_own`: None where it is not known, or they did not stop it; `is_open`.
    """
    empty: Row = {"value": None, "gain_vs_nothing": None, "gain_vs_own": None, "is_open": True}
    at = kept.forecast.get("as_of")
    start = floor_bar(kept.created_at) if at is None else parse_time(at)
    columns = ["activated_at", "as_of", "cash", "liquidation_value"]
    span = Span(start - BAR, start + MONEY_AFTER)
    rows = project.lake.read("grid_risk", span=span, grids=[kept.grid_id], columns=columns)
    rows = rows.filter(pl.col("activated_at") == kept.activated_at).drop_nulls("liquidation_value").sort("as_of")
    if rows.is_empty() or rows["as_of"][0] != start or kept.plan.state in RUNNING:
        return empty
    row = exit_ledger.plan_row(kept)
    if row["arrival_mid"] is None:
        return empty
    value = rows["cash"][0] + row["proceeds"] - (row["fee"] or 0.0) + row["dust"] * row["arrival_mid"]
    values = dict(rows.select("as_of", "liquidation_value").iter_rows())
    own = _stopped_at(project, kept, start)
    later = None if own is None else values.get(ceil_bar(own))
    last = rows["as_of"][-1]
    return {
        "value": value,
        "gain_vs_nothing": value - values[last] if last > start else None,
        "gain_vs_own": None if later is None else value - later,
        "is_open": last < start + MONEY_AFTER,
    }


def _stopped_at(project: Project, kept: Kept, since: datetime) -> datetime | None:
    """When the operator stopped the grid after a time; None: they did not."""
    said = project.lake.read("operator_response").filter(
        (pl.col("grid_id") == kept.grid_id) & (pl.col("action") == "stopped") & (pl.col("at") >= since)
    )
    first: datetime | None = said["at"].min()  # type: ignore[assignment]
    return first
