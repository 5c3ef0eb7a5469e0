"""What the operator must be notified of now: a pure function of the newest states, the ledger, and the clock.

Where METHOD leaves room, this is what holds:

- **Notified** of are the rows of the ledger that are not SUPPRESSED. The state of an episode that the operator was last
  notified of is that of its last ESCALATION or DEESCALATION; a higher one escalates, a lower one de-escalates.
- **Once.** An alert is named by what it is about and by the news before it, never by when it was found. So the same
  escalation alerts once, and again only after an all-clear. MANDATORY_EXIT latches: its name leaves out
  `since`, which a recomputed history may move.
- **Reminders** count from the message that brought the state. One that comes due while the one before is still
  PENDING is left out, so that a channel that comes back is not flooded.
- **A WARNING that stands** is not repeated; one that comes again too soon is noted once as SUPPRESSED, and sent under
  the same alert_id if it still stands when its time has come.
- **Above and below.** MANDATORY_EXIT with the price above the grid holds no inventory and is no emergency. If the
  price then falls below the grid in the same episode, that escalates once more, as an emergency.
- **An unknown price** counts as one below the grid: the worse of both.
- **What `budget.admit` holds back** was not sent, so it is found again for as long as it is true, under the same
  alert_id. A state that came down while that was held back, and is back is a new escalation, not the old one.
- **A set-up that is not finished** is no danger: it is said once an episode, plainly. When such a grid is judged for
  the first time and calm, one quiet line says so; otherwise its escalation does.
- **An answer** (`mm respond`) counts like an acknowledgement, for every channel and whatever was sent before it: it
  ends reminders and the ringing, and holds back nothing that comes later. `stopped` ends the episode; after `reopened`
  it goes on as if nobody had answered. `snoozed` puts the reminders of LATEST_ACCEPTABLE_EXIT off for four hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import (
    EMERGENCY,
    HELD_BACK,
    HIGH,
    JUDGED,
    PARTLY_JUDGED,
    PLAIN,
    QUIET,
    UNCONFIRMED,
    UNKNOWN,
    Alert,
    Cancellation,
)
from mm_dagster.alerts.pending import LADDER, is_answered, notified_at, settled
from mm_dagster.alerts.responses import Answers, answers_of, is_over
from mm_dagster.alerts.seen import Seen, look, newest, rank
from mm_dagster.bars import iso
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry
from mm_dagster.tables.words import NOT_JUDGED_YET

_STATE_PRIORITY = {"NORMAL": QUIET, "WARNING": PLAIN, "LATEST_ACCEPTABLE_EXIT": HIGH, "MANDATORY_EXIT": EMERGENCY}

NONE: Mapping[str, str] = {}


def due(
    exit_states: pl.DataFrame,
    entries: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    grids: Sequence[GridConfig],
    prices: Mapping[str, float | None],
    unfinished: Mapping[str, str] = NONE,
    responses: pl.DataFrame | None = None,
    sources: Mapping[str, str] = NONE,
) -> list[Alert]:
    """What must be sent, or noted as suppressed, at the clock.

    Args:
        exit_states: rows of `exit_state`, at least the newest of each enabled grid.
        entries: rows of `entry_assessment`, at least the newest of each disabled grid.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        alerts: ages and repetitions.
        grids: the grids to look at; rows of others are left alone.
        prices: last known price by grid_id, quote currency; a grid that it lacks has none.
        unfinished: what the set-up of a grid waits for, in a sentence, by grid_id.
        responses: all rows of `operator_response`; None: there are none.
        sources: where the candles of each market come from, by symbol.

    Returns:
        The highest priority first, suppressed ones last. Empty when there is nothing to send.
    """
    found: list[Alert] = []
    answers = answers_of(responses, ledger)
    for grid in grids:
        past = ledger.filter(pl.col("grid_id") == grid.id).sort("created_at", "as_of", "alert_id").to_dicts()
        if grid.enabled:
            seen = replace(look(grid, exit_states, clock, alerts), source=sources.get(grid.symbol, ""))
            waits_for = unfinished.get(grid.id)
            resent, notified = settled(past, grid, seen, clock, alerts, answers)
            found += resent
            if not is_over(answers, grid.id, grid.activated_at):
                found += _ladder(grid, seen, past, notified, clock, alerts, prices.get(grid.id), answers)
                found += _watch(grid, seen, past, notified)
                found += _setup(grid, seen, notified, waits_for)
        else:
            row = newest(entries, pl.col("grid_id") == grid.id)
            if row and clock - row["as_of"] > timedelta(minutes=alerts.max_age_minutes):
                row = None
            seen = replace(_advised(grid, row, clock), source=sources.get(grid.symbol, ""))
            resent, notified = settled(past, grid, seen, clock, alerts, answers)
            found += resent
            found += _entry(grid, seen, notified, alerts) if row else []
    return sorted(
        found, key=lambda one: (one.status == "SUPPRESSED", -one.priority, one.grid_id, one.kind, one.alert_id)
    )


def cancellations(
    exit_states: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    grids: Sequence[GridConfig],
    responses: pl.DataFrame | None = None,
) -> list[Cancellation]:
    """The emergencies that may still ring although somebody has answered, or their episode or state is over.

    Args:
        exit_states: rows of `exit_state`, at least the newest of each enabled grid.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        alerts: how long an emergency rings, and how old news may be.
        grids: every configured grid: one that is not here is taken to be removed.
        responses: all rows of `operator_response`; None: there are none.

    Returns:
        In the order of alert_id.
    """
    configured = {(grid.id, grid.activated_at): grid for grid in grids if grid.enabled}
    answers = answers_of(responses, ledger)
    acknowledged = ledger.filter(pl.col("acknowledged_at").is_not_null()).to_dicts()
    found = []
    for row in ledger.filter(pl.col("receipt").is_not_null()).sort("alert_id").to_dicts():
        if not _rings(row, clock, alerts):
            continue
        grid = configured.get((row["grid_id"], row["activated_at"]))
        state = look(grid, exit_states, clock, alerts).news if grid else None
        answer = answers.get((row["grid_id"], row["activated_at"]))
        if grid is None:
            reason = "its episode has ended"
        elif answer is not None and is_answered(row, answer, clock):
            reason = f"you noted at {iso(answer['at'])}: {answer['action']}"
        elif any(_acknowledges(one, row) for one in acknowledged):
            reason = "another message of the same state was acknowledged"
        elif state is not None and rank(state) < rank("MANDATORY_EXIT"):
            reason = f"the state is {state} by now"
        else:
            continue
        found.append(Cancellation(row["alert_id"], row["receipt"], reason))
    return found


def _acknowledges(one: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether the acknowledgement of one message is one of another, too: of the same state, after it was sent."""
    same = all(one[name] == row[name] for name in ("grid_id", "activated_at", "state"))
    return same and one["acknowledged_at"] >= row["sent_at"]


def _ladder(
    grid: GridConfig,
    seen: Seen,
    past: Sequence[Mapping[str, Any]],
    notified: Sequence[Mapping[str, Any]],
    clock: datetime,
    alerts: AlertsConfig,
    price: float | None,
    answers: Answers,
) -> list[Alert]:
    """Escalation, reminder or de-escalation of one enabled grid: one of them at most."""
    state = seen.news
    if state is None:
        return []
    moves = [row for row in notified if row["kind"] in ("ESCALATION", "DEESCALATION")]
    last = moves[-1] if moves else None
    place, last_place = rank(state), rank(last["state"]) if last else 0
    above = price is not None and price > grid.upper
    below = price is not None and price < grid.lower
    name = [grid.id, grid.activated_at, state, last["alert_id"] if last else ""]

    if place > last_place or (last and 0 < place == last_place and _end_was_held_back(past, "DEESCALATION", last)):
        if state != "MANDATORY_EXIT":
            name.append("live" if seen.live else seen.since)
        priority = HIGH if state == "MANDATORY_EXIT" and above else _STATE_PRIORITY[state]
        new = _new("ESCALATION", name, grid, seen, priority, last)
        return _spaced_warning(new, past, clock, alerts) if state == "WARNING" else [new]
    if last is None or last["status"] == "PENDING":
        return []
    if place < last_place:
        return [_new("DEESCALATION", name, grid, seen, QUIET, last)]
    if state == "MANDATORY_EXIT" and last["priority"] < EMERGENCY and below:
        return [_new("ESCALATION", name, grid, seen, EMERGENCY, last)]
    if place >= rank("LATEST_ACCEPTABLE_EXIT"):
        answer = answers.get((grid.id, grid.activated_at))
        return (
            [] if answer and is_answered(last, answer, clock) else _reminder(grid, seen, last, notified, alerts, above)
        )
    return []


def _spaced_warning(
    new: Alert, past: Sequence[Mapping[str, Any]], clock: datetime, alerts: AlertsConfig
) -> list[Alert]:
    """The WARNING, or, too soon after the grid's last one, a note that it is held back; nothing if that is noted."""
    sent = [
        row["sent_at"]
        for row in past
        if row["kind"] == "ESCALATION" and row["state"] == "WARNING" and row["status"] == "SENT"
    ]
    again = max(sent) + timedelta(minutes=alerts.warning_repeat_minutes) if sent else clock
    if clock >= again:
        return [new]
    if any(row["alert_id"] == new.alert_id for row in past):
        return []
    detail = f"held back until {iso(again)}: a WARNING of this grid was sent at {iso(max(sent))}"
    return [replace(new, status="SUPPRESSED", detail=detail)]


def _end_was_held_back(past: Sequence[Mapping[str, Any]], kind: str, last: Mapping[str, Any]) -> bool:
    """Whether an end of what the operator was last notified of was held back: then its return is news."""
    return any(
        row["kind"] == kind
        and row["activated_at"] == last["activated_at"]
        and row["status"] == "SUPPRESSED"
        and (row["detail"] or "").startswith(HELD_BACK)
        and row["created_at"] >= last["created_at"]
        for row in past
    )


def _reminder(
    grid: GridConfig,
    seen: Seen,
    last: Mapping[str, Any],
    notified: Sequence[Mapping[str, Any]],
    alerts: AlertsConfig,
    above: bool,
) -> list[Alert]:
    """The same state again, when its time has come and nobody has acknowledged it."""
    reminders = [row for row in notified if row["kind"] == "REMINDER" and row["state"] == last["state"]]
    messages = [last, *(row for row in reminders if row["created_at"] >= last["created_at"])]
    if any(row["acknowledged_at"] is not None or row["status"] == "PENDING" for row in messages):
        return []
    count, after = _reminders_passed(seen.clock - notified_at(last), alerts.reminder_minutes)
    if count == 0 or max(notified_at(row) for row in messages) >= notified_at(last) + after:
        return []
    if last["state"] != "MANDATORY_EXIT" or above or any(_rings(row, seen.clock, alerts) for row in notified):
        priority = HIGH
    else:
        priority = last["priority"]
    name = [grid.id, grid.activated_at, last["state"], last["alert_id"], count]
    return [replace(_new("REMINDER", name, grid, seen, priority, last), first_notified_at=notified_at(last))]


def _reminders_passed(elapsed: timedelta, minutes: Sequence[int]) -> tuple[int, timedelta]:
    """How many reminders were due by then, and how long after the alert the last of them was."""
    steps = [timedelta(minutes=step) for step in sorted(minutes)]
    passed = [step for step in steps if step <= elapsed]
    if not passed:
        return 0, timedelta(0)
    more = (elapsed - steps[-1]) // steps[-1] if len(passed) == len(steps) else 0
    return len(passed) + more, passed[-1] + more * steps[-1]


def _watch(
    grid: GridConfig, seen: Seen, past: Sequence[Mapping[str, Any]], notified: Sequence[Mapping[str, Any]]
) -> list[Alert]:
    """BLIND once when evaluations stop, RECOVERED once when they are back."""
    watch = [row for row in notified if row["kind"] in ("BLIND", "RECOVERED")]
    last = watch[-1] if watch else None
    notified_blind = last is not None and last["kind"] == "BLIND"
    if seen.blind and (not notified_blind or (last is not None and _end_was_held_back(past, "RECOVERED", last))):
        name = [grid.id, grid.activated_at, seen.as_of, last["alert_id"] if last else ""]
        return [_new("BLIND", name, grid, seen, HIGH, None)]
    # Of a grid that was never judged nobody was told to look, or wrongly: it does not come back.
    if last is not None and notified_blind and not seen.blind and seen.state is not None and last["state"] != UNKNOWN:
        return [_new("RECOVERED", [grid.id, grid.activated_at, last["alert_id"]], grid, seen, QUIET, None)]
    return []


def _setup(grid: GridConfig, seen: Seen, notified: Sequence[Mapping[str, Any]], waits_for: str | None) -> list[Alert]:
    """That the set-up is not finished, once an episode; and then, quietly, that it is."""
    noted = {row["state"] for row in notified if row["kind"] == "SETUP"}
    climbed = any(row["kind"] in LADDER for row in notified)
    if seen.state is None:
        state, priority = NOT_JUDGED_YET, PLAIN
        wanted = waits_for is not None and not noted
    elif noted == {NOT_JUDGED_YET}:
        state, priority = JUDGED, QUIET
        wanted = seen.news == "NORMAL" and not climbed
    else:
        state, priority = PARTLY_JUDGED, PLAIN
        wanted = waits_for is not None and not noted and seen.fresh
    if not wanted:
        return []
    new = _new("SETUP", [grid.id, grid.activated_at, state], grid, seen, priority, None)
    return [replace(new, state=state, reason=waits_for)]


def _advised(grid: GridConfig, row: Mapping[str, Any] | None, clock: datetime) -> Seen:
    """A grid that does not run, by its newest entry assessment; None: there is none that is news."""
    as_of = row["as_of"] if row else grid.first_as_of
    advice = row["advice"] if row else None
    return Seen(clock, as_of, advice, as_of, live=False, fresh=row is not None, blind=False)


def _entry(grid: GridConfig, seen: Seen, notified: Sequence[Mapping[str, Any]], alerts: AlertsConfig) -> list[Alert]:
    """The entry advice of a disabled grid, when it has changed and the last one is long enough ago."""
    entries = [row for row in notified if row["kind"] == "ENTRY"]
    last = entries[-1] if entries else None
    if last is not None and (
        last["state"] == seen.state or seen.clock < notified_at(last) + timedelta(minutes=alerts.entry_repeat_minutes)
    ):
        return []
    name = [grid.id, grid.activated_at, seen.state, last["alert_id"] if last else ""]
    return [_new("ENTRY", name, grid, seen, PLAIN if seen.state == "ENTER" else QUIET, last)]


def _new(
    kind: str, name: Sequence[object], grid: GridConfig, seen: Seen, priority: int, last: Mapping[str, Any] | None
) -> Alert:
    parts = [part.astimezone(UTC).isoformat() if isinstance(part, datetime) else part for part in name]
    return Alert(
        alert_id=registry.identity(kind, *parts, *([seen.source] if seen.source else [])),
        kind=kind,
        grid_id=grid.id,
        symbol=grid.symbol,
        activated_at=grid.activated_at,
        as_of=seen.as_of,
        state=seen.state or UNKNOWN,
        state_since=seen.since,
        priority=priority,
        before=last["state"] if last else None,
        found_at=seen.clock,
    )


def _rings(row: Mapping[str, Any], clock: datetime, alerts: AlertsConfig) -> bool:
    """Whether an emergency may still be ringing."""
    return (
        row["priority"] == EMERGENCY
        # Nobody knows whether it rings, so what follows it does.
        and not (row["detail"] or "").startswith(UNCONFIRMED)
        and row["sent_at"] is not None
        and row["acknowledged_at"] is None
        and row["expired_at"] is None
        and row["sent_at"] + timedelta(seconds=alerts.pushover.emergency_expire_seconds) > clock
    )
