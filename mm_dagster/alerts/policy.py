"""What must be told now: a pure function of the newest states, the ledger of what was told, and the clock.

Where METHOD leaves room, this is what holds:

- **Told** is every row of the ledger that is not SUPPRESSED. What was last told of an episode is its last ESCALATION
  or DEESCALATION; a higher state escalates, a lower one de-escalates.
- **Once.** An alert is named by what it is about and by the news before it, never by when it was found. So the same
  escalation alerts once, and again only after an all-clear was told. MANDATORY_EXIT latches: its name leaves out
  `since`, which a recomputed history may move.
- **PENDING** rows were not noted as sent: a crash may lie between. They are due again as they are, at once after a
  crash, with growing pauses (`RETRY_MINUTES`) after a channel that did not answer. They are suppressed when the
  episode has ended, when a higher state is told instead, or when they are older than `max_age_minutes` and the state
  is another by now. **FAILED** rows were refused and are never sent again; reminders go on beside them.
- **Reminders** count from the message that brought the state. One that comes due while the one before is still
  PENDING is left out, so that a channel that comes back is not flooded.
- **A WARNING that stands** is not repeated; one that comes again too soon is noted once as SUPPRESSED, and told under
  the same alert_id if it still stands when its time has come.
- **Above and below.** MANDATORY_EXIT with the price above the grid holds no inventory and is no emergency. If the
  price then falls below the grid in the same episode, that escalates once more, as an emergency.
- **An unknown price** counts as one below the grid: the worse of both.
- **What `budget.admit` holds back** was not told, so it is found again for as long as it is true, under the same
  alert_id. A state that came down unheard and is back is a new escalation, not the old one.
- **A failure** is told once for each asset and error, and again when the error changed or 4 hours have passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import polars as pl

from mm_dagster import tables
from mm_dagster.bars import iso
from mm_dagster.config import AlertsConfig, GridConfig
from mm_dagster.tables import STATES

RETRY_MINUTES = (1, 2, 5, 10)
"""After the first, second, ... attempt without an answer, minutes from `created_at` to the next; then every last."""

EMERGENCY = 2
"""Pushover's priority that rings until acknowledged."""
HIGH = 1
PLAIN = 0
QUIET = -1

_STATE_PRIORITY = {"NORMAL": QUIET, "WARNING": PLAIN, "LATEST_ACCEPTABLE_EXIT": HIGH, "MANDATORY_EXIT": EMERGENCY}
HELD_BACK = "held back"
"""How the reason begins for which something that is still true was not told yet."""

EVERY_GRID = "all"
"""grid_id and symbol of what concerns no single grid."""

FAILURE_AGAIN = timedelta(hours=4)
"""The same failure is told again after so long."""
FAILURE_OVER = timedelta(days=1)
"""A failure that could not be told for so long is not told any more."""
_ERROR_LIMIT = 500

_LADDER = ("ESCALATION", "REMINDER", "DEESCALATION")
_UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Alert:
    """One row of `notification` that is to be sent (PENDING) or only noted (SUPPRESSED).

    Attributes:
        alert_id: the same for the same news.
        kind: see tables.ALERT_KINDS.
        grid_id: the grid; EVERY_GRID for a digest, a failure, a test.
        symbol: its market; likewise.
        activated_at: its episode; of a digest the beginning of its day, of a failure or test its time.
        as_of: the evaluation that it tells of, or the time of the digest, failure, test.
        state: exit state, or the entry advice; UNKNOWN when nothing was ever evaluated. Of a failure the asset and
            the first line of the error, of a test the channel.
        state_since: when the state was entered; for a state that only the live run knows, `as_of`.
        priority: Pushover priority.
        before: the state that was told before; None: none was.
        status: PENDING or SUPPRESSED.
        detail: why it is suppressed.
        attempts: how often sending was tried before.
        created_at: when it was first noted; None: it is new.
        title: the title that was noted; None: it is new.
        message: likewise.
    """

    alert_id: str
    kind: str
    grid_id: str
    symbol: str
    activated_at: datetime
    as_of: datetime
    state: str
    state_since: datetime
    priority: int
    before: str | None = None
    status: str = "PENDING"
    detail: str | None = None
    attempts: int = 0
    created_at: datetime | None = None
    title: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Cancellation:
    """An emergency that rings although it is over."""

    alert_id: str
    receipt: str
    reason: str


@dataclass(frozen=True)
class Seen:
    """What is known of an enabled grid at the clock.

    Attributes:
        as_of: its newest evaluation, or, without one, the first that there should have been.
        state: the higher of `state` and `live_state`; None: never evaluated.
        since: when it was entered; of a state that only the live run knows, `as_of`.
        live: whether only the live run knows it.
        fresh: whether the evaluation is news.
        blind: whether it is so old, or missing for so long, that nobody is watching.
        source: where its market's candles come from; the same news from elsewhere is another alert.
    """

    as_of: datetime
    state: str | None
    since: datetime
    live: bool
    fresh: bool
    blind: bool
    source: str = ""

    @property
    def news(self) -> str | None:
        """The state, if it is news."""
        return self.state if self.fresh else None


def due(
    exit_states: pl.DataFrame,
    entries: pl.DataFrame,
    ledger: pl.DataFrame,
    clock: datetime,
    alerts: AlertsConfig,
    grids: Sequence[GridConfig],
    prices: Mapping[str, float | None],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> list[Alert]:
    """What must be told, or noted as suppressed, at the clock.

    Args:
        exit_states: rows of `exit_state`, at least the newest of each enabled grid.
        entries: rows of `entry_assessment`, at least the newest of each disabled grid.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        alerts: ages and repetitions.
        grids: the grids to look at; rows of others are left alone.
        prices: last known price by grid_id, quote currency; a grid that it lacks has none.
        sources: where the candles of each market come from, by symbol.

    Returns:
        The highest priority first, suppressed ones last. Empty when there is nothing to tell.
    """
    found: list[Alert] = []
    for grid in grids:
        past = ledger.filter(pl.col("grid_id") == grid.id).sort("created_at", "as_of", "alert_id").to_dicts()
        if grid.enabled:
            seen = replace(look(grid, exit_states, clock, alerts), source=sources.get(grid.symbol, ""))
            resent, told = _pending(past, grid, seen.news, seen.blind, clock, alerts)
            found += resent
            found += _ladder(grid, seen, past, told, clock, alerts, prices.get(grid.id))
            found += _watch(grid, seen, past, told)
        else:
            newest = _newest(entries, pl.col("grid_id") == grid.id)
            if newest and clock - newest["as_of"] > timedelta(minutes=alerts.max_age_minutes):
                newest = None
            resent, told = _pending(past, grid, newest["advice"] if newest else None, False, clock, alerts)
            found += resent
            source = sources.get(grid.symbol, "")
            found += _entry(grid, newest, told, clock, alerts, source) if newest else []
    return sorted(
        found, key=lambda one: (one.status == "SUPPRESSED", -one.priority, one.grid_id, one.kind, one.alert_id)
    )


def over(
    exit_states: pl.DataFrame, ledger: pl.DataFrame, clock: datetime, alerts: AlertsConfig, grids: Sequence[GridConfig]
) -> list[Cancellation]:
    """The emergencies that may still ring although their episode has ended or MANDATORY_EXIT no longer holds.

    Args:
        exit_states: rows of `exit_state`, at least the newest of each enabled grid.
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
        alerts: how long an emergency rings, and how old news may be.
        grids: every configured grid: one that is not here is taken to be removed.

    Returns:
        In the order of alert_id.
    """
    configured = {(grid.id, grid.activated_at): grid for grid in grids if grid.enabled}
    found = []
    for row in ledger.filter(pl.col("receipt").is_not_null()).sort("alert_id").to_dicts():
        if not _rings(row, clock, alerts):
            continue
        grid = configured.get((row["grid_id"], row["activated_at"]))
        state = look(grid, exit_states, clock, alerts).news if grid else None
        if grid is None:
            reason = "its episode has ended"
        elif state is not None and _rank(state) < _rank("MANDATORY_EXIT"):
            reason = f"the state is {state} by now"
        else:
            continue
        found.append(Cancellation(row["alert_id"], row["receipt"], reason))
    return found


def failure(alert_key: str, asset: str, first_line: str, at: datetime, ledger: pl.DataFrame) -> Alert | None:
    """The alert of a failed run or check; None when the same failure of that asset was noted within FAILURE_AGAIN.

    Args:
        alert_key: names the failure, like the run's id: a sensor that looks twice finds one alert.
        asset: what failed; no colon in it.
        first_line: the first line of the error. It is stored and sent: it must hold no secret.
        at: when it failed, UTC.
        ledger: all rows of `notification`.
    """
    error = " ".join(first_line.split())[:_ERROR_LIMIT] or "no message"
    alert_id = tables.identity("FAILURE", alert_key, asset, error)
    state = f"{asset}: {error}"
    noted = [row for row in _failures(ledger) if _asset(row) == asset]
    if any(row["alert_id"] == alert_id for row in noted):
        return None
    if noted and noted[-1]["state"] == state and at < _told_at(noted[-1]) + FAILURE_AGAIN:
        return None
    return _general("FAILURE", alert_id, state, HIGH, at)


def trial(channel: str, at: datetime, number: int) -> Alert:
    """The alert of `mm alert-test`: one for each channel, asked for by the operator, so never held back.

    Args:
        channel: name of the channel.
        at: when it was asked for, UTC.
        number: how many the ledger holds already: a venue's clock may stand still between two of them.
    """
    name = tables.identity("TEST", channel, at.astimezone(UTC).isoformat(), str(number))
    return _general("TEST", name, channel, PLAIN, at)


def untold_failures(ledger: pl.DataFrame, clock: datetime) -> list[Alert]:
    """The failures that were noted and not told, word for word: without an answer, or held back.

    Of those held back it is the newest of each asset, unless a later one was told. What is older than FAILURE_OVER
    is suppressed, or left as it is.

    Args:
        ledger: all rows of `notification`.
        clock: the tick's clock, UTC.
    """
    found: list[Alert] = []
    newest: dict[str, dict[str, Any]] = {}
    for row in _failures(ledger):
        newest[_asset(row)] = row
        if row["status"] == "PENDING":
            if clock - row["as_of"] > FAILURE_OVER:
                found.append(again(row, "SUPPRESSED", "not sent: it is older than a day"))
            else:
                found += retry(row, clock)
    held = [row for row in newest.values() if row["status"] == "SUPPRESSED" and row["detail"].startswith(HELD_BACK)]
    found += [again(row, "PENDING", None) for row in held if clock - row["as_of"] <= FAILURE_OVER]
    return sorted(found, key=lambda one: one.alert_id)


def _failures(ledger: pl.DataFrame) -> list[dict[str, Any]]:
    """Failures, oldest first. When they were noted is kept when they are told later, so `as_of` decides."""
    return ledger.filter(pl.col("kind") == "FAILURE").sort("as_of", "created_at", "alert_id").to_dicts()


def _asset(row: Mapping[str, Any]) -> str:
    return str(row["state"]).partition(": ")[0]


def _general(kind: str, alert_id: str, state: str, priority: int, at: datetime) -> Alert:
    return Alert(
        alert_id=alert_id,
        kind=kind,
        grid_id=EVERY_GRID,
        symbol=EVERY_GRID,
        activated_at=at,
        as_of=at,
        state=state,
        state_since=at,
        priority=priority,
    )


def look(grid: GridConfig, exit_states: pl.DataFrame, clock: datetime, alerts: AlertsConfig) -> Seen:
    """What is known of an enabled grid at the clock.

    Args:
        grid: the grid.
        exit_states: rows of `exit_state`, at least its newest.
        clock: the tick's clock, UTC.
        alerts: how old news may be.
    """
    row = _newest(exit_states, (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at))
    as_of = row["as_of"] if row else grid.first_as_of
    state, since, higher = None, as_of, False
    if row:
        live = row["live_state"]
        higher = live is not None and _rank(live) > _rank(row["state"])
        state, since = (live, as_of) if higher else (row["state"], row["since"])
    age = clock - as_of
    return Seen(
        as_of=as_of,
        state=state,
        since=since,
        live=higher,
        fresh=row is not None and age <= timedelta(minutes=alerts.max_age_minutes),
        blind=age >= timedelta(minutes=alerts.blind_after_minutes),
    )


def _pending(
    past: Sequence[dict[str, Any]],
    grid: GridConfig,
    news: str | None,
    blind: bool,
    clock: datetime,
    alerts: AlertsConfig,
) -> tuple[list[Alert], list[dict[str, Any]]]:
    """Settles what was noted but not noted as sent.

    Args:
        past: the grid's rows of the ledger, oldest first.
        grid: the grid.
        news: its state or entry advice; None: not known now.
        blind: whether nobody is watching it.
        clock: the tick's clock, UTC.
        alerts: how old news may be.

    Returns:
        What to send again or to suppress, and the rows of the present episode that count as told.
    """
    resent, told = [], []
    for row in past:
        if row["status"] == "PENDING":
            reason = _superseded(row, grid, news, blind, clock, alerts)
            if reason:
                resent.append(again(row, "SUPPRESSED", reason))
                continue
            resent += retry(row, clock)
        if row["status"] != "SUPPRESSED" and row["activated_at"] == grid.activated_at:
            told.append(row)
    return resent, told


def _superseded(
    row: Mapping[str, Any], grid: GridConfig, news: str | None, blind: bool, clock: datetime, alerts: AlertsConfig
) -> str | None:
    """Why a PENDING row is no news any more; None: it still is."""
    if row["activated_at"] != grid.activated_at or (row["kind"] == "ENTRY") == grid.enabled:
        return "not sent: its episode has ended"
    if row["kind"] == "BLIND":
        return None if blind else "not sent: evaluations are back"
    if row["kind"] == "RECOVERED":
        return "not sent: blind again" if blind else None
    if news is None or news == row["state"]:
        return None
    raised = row["kind"] in _LADDER and _rank(news) > _rank(row["state"])
    old = clock - row["as_of"] > timedelta(minutes=alerts.max_age_minutes)
    return f"not sent: it is {news} by now" if raised or old else None


def _next_attempt(row: Mapping[str, Any]) -> datetime:
    """When a PENDING row that was tried before is tried again."""
    attempts = int(row["attempts"])
    minutes = RETRY_MINUTES[:attempts][-1] + RETRY_MINUTES[-1] * max(0, attempts - len(RETRY_MINUTES))
    return row["created_at"] + timedelta(minutes=minutes)


def retry(row: Mapping[str, Any], clock: datetime) -> list[Alert]:
    """A PENDING row of the ledger, word for word, if it is due again.

    What a crash left behind is due whatever the clock says, even one that was set back meanwhile.
    """
    return [again(row, "PENDING", None)] if row["attempts"] == 0 or clock >= _next_attempt(row) else []


def again(row: Mapping[str, Any], status: str, detail: str | None) -> Alert:
    """The alert that a row of the ledger notes, word for word.

    Args:
        row: the row of `notification`.
        status: PENDING or SUPPRESSED.
        detail: why it is suppressed.
    """
    kept = (
        "alert_id",
        "kind",
        "grid_id",
        "symbol",
        "activated_at",
        "as_of",
        "state",
        "state_since",
        "priority",
        "attempts",
        "created_at",
        "title",
        "message",
    )
    return Alert(**{name: row[name] for name in kept}, status=status, detail=detail)


def _ladder(
    grid: GridConfig,
    seen: Seen,
    past: Sequence[Mapping[str, Any]],
    told: Sequence[Mapping[str, Any]],
    clock: datetime,
    alerts: AlertsConfig,
    price: float | None,
) -> list[Alert]:
    """Escalation, reminder or de-escalation of one enabled grid: one of them at most."""
    state = seen.news
    if state is None:
        return []
    moves = [row for row in told if row["kind"] in ("ESCALATION", "DEESCALATION")]
    last = moves[-1] if moves else None
    rank, last_rank = _rank(state), _rank(last["state"]) if last else 0
    above = price is not None and price > grid.upper
    below = price is not None and price < grid.lower
    name = [grid.id, grid.activated_at, state, last["alert_id"] if last else ""]

    if rank > last_rank or (last and 0 < rank == last_rank and _unheard(past, "DEESCALATION", last)):
        if state != "MANDATORY_EXIT":
            name.append("live" if seen.live else seen.since)
        priority = HIGH if state == "MANDATORY_EXIT" and above else _STATE_PRIORITY[state]
        new = _new("ESCALATION", name, grid, seen, priority, last)
        return _spaced_warning(new, past, clock, alerts) if state == "WARNING" else [new]
    if last is None or last["status"] == "PENDING":
        return []
    if rank < last_rank:
        return [_new("DEESCALATION", name, grid, seen, QUIET, last)]
    if state == "MANDATORY_EXIT" and last["priority"] < EMERGENCY and below:
        return [_new("ESCALATION", name, grid, seen, EMERGENCY, last)]
    if rank >= _rank("LATEST_ACCEPTABLE_EXIT"):
        return _reminder(grid, seen, last, told, clock, alerts, above)
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
    detail = f"held back until {iso(again)}: a WARNING of this grid was told at {iso(max(sent))}"
    return [replace(new, status="SUPPRESSED", detail=detail)]


def _unheard(past: Sequence[Mapping[str, Any]], kind: str, last: Mapping[str, Any]) -> bool:
    """Whether an end of what was last told was held back: then its return is news."""
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
    told: Sequence[Mapping[str, Any]],
    clock: datetime,
    alerts: AlertsConfig,
    above: bool,
) -> list[Alert]:
    """The same state again, when its time has come and nobody has acknowledged it."""
    reminders = [row for row in told if row["kind"] == "REMINDER" and row["state"] == last["state"]]
    messages = [last, *(row for row in reminders if row["created_at"] >= last["created_at"])]
    if any(row["acknowledged_at"] is not None or row["status"] == "PENDING" for row in messages):
        return []
    count, after = _reminders_passed(clock - _told_at(last), alerts.reminder_minutes)
    if count == 0 or max(_told_at(row) for row in messages) >= _told_at(last) + after:
        return []
    if last["state"] != "MANDATORY_EXIT" or above or any(_rings(row, clock, alerts) for row in told):
        priority = HIGH
    else:
        priority = last["priority"]
    name = [grid.id, grid.activated_at, last["state"], last["alert_id"], count]
    return [_new("REMINDER", name, grid, seen, priority, last)]


def _reminders_passed(elapsed: timedelta, minutes: Sequence[int]) -> tuple[int, timedelta]:
    """How many reminders were due by then, and how long after the alert the last of them was."""
    steps = [timedelta(minutes=step) for step in sorted(minutes)]
    passed = [step for step in steps if step <= elapsed]
    if not passed:
        return 0, timedelta(0)
    more = (elapsed - steps[-1]) // steps[-1] if len(passed) == len(steps) else 0
    return len(passed) + more, passed[-1] + more * steps[-1]


def _watch(
    grid: GridConfig, seen: Seen, past: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]
) -> list[Alert]:
    """BLIND once when evaluations stop, RECOVERED once when they are back."""
    watch = [row for row in told if row["kind"] in ("BLIND", "RECOVERED")]
    last = watch[-1] if watch else None
    told_blind = last is not None and last["kind"] == "BLIND"
    if seen.blind and (not told_blind or (last is not None and _unheard(past, "RECOVERED", last))):
        name = [grid.id, grid.activated_at, seen.as_of, last["alert_id"] if last else ""]
        return [_new("BLIND", name, grid, seen, HIGH, None)]
    if last is not None and told_blind and not seen.blind:
        return [_new("RECOVERED", [grid.id, grid.activated_at, last["alert_id"]], grid, seen, QUIET, None)]
    return []


def _entry(
    grid: GridConfig,
    newest: Mapping[str, Any],
    told: Sequence[Mapping[str, Any]],
    clock: datetime,
    alerts: AlertsConfig,
    source: str,
) -> list[Alert]:
    """The entry advice of a disabled grid, when it has changed and the last one is long enough ago."""
    entries = [row for row in told if row["kind"] == "ENTRY"]
    last = entries[-1] if entries else None
    if last is not None and (
        last["state"] == newest["advice"] or clock < _told_at(last) + timedelta(minutes=alerts.entry_repeat_minutes)
    ):
        return []
    seen = Seen(newest["as_of"], newest["advice"], newest["as_of"], live=False, fresh=True, blind=False, source=source)
    name = [grid.id, grid.activated_at, newest["advice"], last["alert_id"] if last else ""]
    return [_new("ENTRY", name, grid, seen, PLAIN if newest["advice"] == "ENTER" else QUIET, last)]


def _new(
    kind: str, name: Sequence[object], grid: GridConfig, seen: Seen, priority: int, last: Mapping[str, Any] | None
) -> Alert:
    parts = [part.astimezone(UTC).isoformat() if isinstance(part, datetime) else part for part in name]
    return Alert(
        alert_id=tables.identity(kind, *parts, *([seen.source] if seen.source else [])),
        kind=kind,
        grid_id=grid.id,
        symbol=grid.symbol,
        activated_at=grid.activated_at,
        as_of=seen.as_of,
        state=seen.state or _UNKNOWN,
        state_since=seen.since,
        priority=priority,
        before=last["state"] if last else None,
    )


def _rings(row: Mapping[str, Any], clock: datetime, alerts: AlertsConfig) -> bool:
    """Whether an emergency may still be ringing."""
    return (
        row["priority"] == EMERGENCY
        and row["sent_at"] is not None
        and row["acknowledged_at"] is None
        and row["expired_at"] is None
        and row["sent_at"] + timedelta(seconds=alerts.pushover.emergency_expire_seconds) > clock
    )


def _told_at(row: Mapping[str, Any]) -> datetime:
    """When a row was told, or at least noted."""
    return row["sent_at"] or row["created_at"]


def _rank(state: str) -> int:
    return STATES.index(state)


def _newest(frame: pl.DataFrame, mine: pl.Expr) -> dict[str, Any] | None:
    rows = frame.filter(mine).sort("as_of").tail(1).to_dicts()
    return rows[0] if rows else None
