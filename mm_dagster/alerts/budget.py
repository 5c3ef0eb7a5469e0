"""What of all that is due may be sent now: quiet hours, limits an hour, a monthly budget.

A message too many teaches the operator to mute them all. What is held back is noted as SUPPRESSED with the reason, and
is found again by `policy.due` for as long as it is true; so it is sent once, under the same alert_id, when it may be,
and never when it is over by then. Where METHOD leaves room, this is what holds:

- **MANDATORY_EXIT is never held back**: its escalation, its reminders, its end (somebody may be selling), and that a
  grid in it is not seen any more. It alone may use the reserve; when that is spent, too, it is sent all the same.
- **LATEST_ACCEPTABLE_EXIT in quiet hours** goes out at once, but without a sound. Held until the morning it would be
  worth nothing, since the time to act is an hour; with a sound it would break what quiet hours promise. Its reminders
  wait, so that the first after the quiet hours rings if it still stands and nobody has acknowledged it.
- **BLIND waits** in quiet hours: the last known state was not MANDATORY_EXIT.
- **A LIMIT waits**, too, even a severe drawdown: it stops nothing, and the exit of each grid has a voice of its own.
- **The digest** has a time of its own and makes no sound: quiet hours do not hold it.
- **What was let through once** and got no answer is not counted twice and meets no limit again. Only quiet hours that
  have begun since hold it back.
- **A local time** that the clock skips in spring comes as much later; of one that comes twice in autumn the first
  counts. Quiet hours that begin when they end are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from mm_dagster.alerts.alert import HELD_BACK, HIGH, QUIET, Alert
from mm_dagster.bars import iso
from mm_dagster.config.alerts import AlertsConfig

HOUR = timedelta(hours=1)


def admit(alerts: Sequence[Alert], ledger: pl.DataFrame, clock: datetime, config: AlertsConfig) -> list[Alert]:
    """What of the due alerts is sent now, and what is noted as held back.

    Args:
        alerts: all that is due, of `policy.due`, `limits.due`, `failures.unsent_failures`, `failures.failure` and
            `digest.due`; tests do not come here.
        ledger: all rows of `notification` that count: of real markets, or of simulated ones on the same clock.
        clock: the tick's clock, UTC.
        config: the limits.

    Returns:
        The highest priority first, suppressed ones last. What is noted already as held back for the same reason is
        left out, so a second look finds nothing.
    """
    known = {row["alert_id"]: row for row in _rows_of(ledger, alerts)}
    ended = {alert.alert_id for alert in alerts if alert.status == "SUPPRESSED"}
    hour, month = _used(ledger.filter(~pl.col("alert_id").is_in(sorted(ended))), clock)
    admitted = [alert for alert in alerts if alert.status == "SUPPRESSED"]
    for alert in sorted((one for one in alerts if one.status == "PENDING"), key=lambda one: _turn(one, known, clock)):
        row = known.get(alert.alert_id)
        counted = row is not None and row["status"] == "PENDING"
        reason = None
        if is_mandatory(alert):
            if not counted and month >= config.budget.monthly:
                spent = f"sent although all {config.budget.monthly} messages of {_month(clock)} are used up"
                alert = replace(alert, detail=spent)
        else:
            reason = _too_quiet(alert, row if counted else None, clock, config)
            if reason is None and not counted:
                reason = _too_many(alert, hour, month, clock, config)
            alert = _voice(alert, clock, config)
        if reason is None:
            admitted.append(alert)
            if not counted:
                hour[_limited_as(alert)] += alert.state != "MANDATORY_EXIT"
                month += 1
        elif row is None or (row["status"], row["detail"]) != ("SUPPRESSED", reason):
            admitted.append(replace(alert, status="SUPPRESSED", detail=reason))
    return sorted(
        admitted, key=lambda one: (one.status == "SUPPRESSED", -one.priority, one.grid_id, one.kind, one.alert_id)
    )


def is_mandatory(alert: Alert) -> bool:
    """Whether an alert tells of MANDATORY_EXIT, or of its end."""
    return "MANDATORY_EXIT" in (alert.state, alert.before if alert.kind == "DEESCALATION" else None)


def quiet_hours(clock: datetime, config: AlertsConfig) -> tuple[datetime, datetime] | None:
    """Beginning and end, UTC, of the quiet hours that hold at the clock; None: none do.

    Args:
        clock: the tick's clock, UTC.
        config: the hours and their time zone.
    """
    quiet = config.quiet_hours
    if quiet is None or quiet.start == quiet.end:
        return None
    today = clock.astimezone(ZoneInfo(config.timezone)).date()
    for day in (today - timedelta(days=1), today):
        start = moment(day, quiet.start, config.timezone)
        end = moment(day + timedelta(days=quiet.end < quiet.start), quiet.end, config.timezone)
        if start <= clock < end:
            return start, end
    return None


def moment(day: date, local: str, timezone: str) -> datetime:
    """When it is that local time on that day, UTC.

    Args:
        day: the local day.
        local: the local time, like 07:00.
        timezone: like Europe/Berlin.
    """
    return datetime.combine(day, time.fromisoformat(local), ZoneInfo(timezone)).astimezone(UTC)


def _too_quiet(alert: Alert, pending: Mapping[str, Any] | None, clock: datetime, config: AlertsConfig) -> str | None:
    """Why the quiet hours hold an alert back; None: they do not."""
    hours = quiet_hours(clock, config)
    if hours is None or alert.kind == "DIGEST" or _is_latest(alert):
        return None
    if pending is not None and pending["created_at"] >= hours[0]:
        return None
    return f"{HELD_BACK} until {iso(hours[1])}: quiet hours"


def _too_many(alert: Alert, hour: Counter[str], month: int, clock: datetime, config: AlertsConfig) -> str | None:
    """Why there is no room for an alert; None: there is."""
    name = _limited_as(alert)
    limit = config.budget.per_hour.get(name)
    if limit is not None and hour[name] >= limit:
        return f"{HELD_BACK}: no more than {limit} {name} messages an hour"
    room = max(0, config.budget.monthly - config.budget.reserve)
    if month >= room:
        return f"{HELD_BACK}: the {room} messages of {_month(clock)} are used up, the rest is for MANDATORY_EXIT"
    return None


def _voice(alert: Alert, clock: datetime, config: AlertsConfig) -> Alert:
    """LATEST_ACCEPTABLE_EXIT makes no sound in quiet hours; one that is sent again after them does."""
    if not _is_latest(alert):
        return alert
    return replace(alert, priority=QUIET if quiet_hours(clock, config) else HIGH)


def _is_latest(alert: Alert) -> bool:
    return (alert.kind, alert.state) == ("ESCALATION", "LATEST_ACCEPTABLE_EXIT")


def _limited_as(alert: Alert) -> str:
    return alert.state if alert.kind == "ESCALATION" else alert.kind


def _used(ledger: pl.DataFrame, clock: datetime) -> tuple[Counter[str], int]:
    """How many messages there were in the hour, by limit, and in the calendar month; PENDING ones are in both.

    What tells of MANDATORY_EXIT has no limit an hour and takes no room there; its end, which is never held back
    either, does: a row does not say what it came down from. A clock that was set back must not
    hold anything back for long: what was sent after it does not count in the hour.
    """
    pending = pl.col("status") == "PENDING"
    sent = pl.col("status") == "SENT"
    start = clock.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = (start + timedelta(days=32)).replace(day=1)
    in_month = pending | (sent & (pl.col("sent_at") >= start) & (pl.col("sent_at") < after))
    in_hour = pending | (sent & (pl.col("sent_at") > clock - HOUR) & (pl.col("sent_at") <= clock))
    recent = ledger.filter(in_hour & (pl.col("state") != "MANDATORY_EXIT"))
    names = recent.select(
        pl.when(pl.col("kind") == "ESCALATION").then(pl.col("state")).otherwise(pl.col("kind"))
    ).to_series()
    return Counter(names.to_list()), ledger.filter(in_month).height


def _rows_of(ledger: pl.DataFrame, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    return ledger.filter(pl.col("alert_id").is_in(sorted(alert.alert_id for alert in alerts))).to_dicts()


def _turn(alert: Alert, known: Mapping[str, Mapping[str, Any]], clock: datetime) -> tuple[object, ...]:
    """The most urgent first; among equals what was noted first, so that no grid is always the last."""
    row = known.get(alert.alert_id)
    noted = row["created_at"] if row is not None else clock
    return (not is_mandatory(alert), -alert.priority, noted, alert.grid_id, alert.kind, alert.alert_id)


def _month(clock: datetime) -> str:
    return clock.astimezone(UTC).strftime("%Y-%m")
