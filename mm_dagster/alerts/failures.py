"""Alerts of no single grid: what failed, and the test of a channel.

A failure is sent once for each asset and error, and again when the error changed or 4 hours have passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import EVERY_GRID, HELD_BACK, HIGH, PLAIN, Alert
from mm_dagster.alerts.pending import again, notified_at, retry
from mm_dagster.tables import registry

FAILURE_AGAIN = timedelta(hours=4)
"""The same failure is sent again after so long."""

FAILURE_OVER = timedelta(days=1)
"""A failure that could not be sent for so long is not sent any more."""

OVER = " DONE"
"""Behind an asset: it works again, or came to its end."""

_ERROR_LIMIT = 500


def failure(
    alert_key: str, asset: str, first_line: str, at: datetime, ledger: pl.DataFrame, *, kind: str = "FAILURE"
) -> Alert | None:
    """The alert of a failed run or check; None when the same failure of that asset was noted within FAILURE_AGAIN.

    Args:
        alert_key: names the failure, like the run's id: a sensor that looks twice finds one alert.
        asset: what failed; no colon in it.
        first_line: the first line of the error. It is stored and sent: it must hold no secret.
        at: when it failed, UTC.
        ledger: all rows of `notification`.
        kind: FAILURE; or EXIT, of a plan to leave a grid that ended: its asset is grid and state. What works again
            has DONE behind the asset, as a plan that came to its end has.
    """
    error = " ".join(first_line.split())[:_ERROR_LIMIT] or "no message"
    alert_id = registry.identity(kind, alert_key, asset, error)
    state = f"{asset}: {error}"
    noted = [row for row in _failures(ledger) if _asset(row) == asset]
    if any(row["alert_id"] == alert_id for row in noted):
        return None
    if noted and noted[-1]["state"] == state and at < notified_at(noted[-1]) + FAILURE_AGAIN:
        return None
    return _general(kind, alert_id, state, PLAIN if asset.endswith(OVER) else HIGH, at)


def trial(channel: str, at: datetime, number: int) -> Alert:
    """The alert of `mm alert-test`: one for each channel, asked for by the operator, so never held back.

    Args:
        channel: name of the channel.
        at: when it was asked for, UTC.
        number: how many the ledger holds already: a venue's clock may stand still between two of them.
    """
    name = registry.identity("TEST", channel, at.astimezone(UTC).isoformat(), str(number))
    return _general("TEST", name, channel, PLAIN, at)


def unsent_failures(ledger: pl.DataFrame, clock: datetime) -> list[Alert]:
    """The failures that were noted and not sent, word for word: without an answer, or held back.

    Of those held back it is the newest of each asset, unless a later one was sent, or it is over by then. What is older
    than FAILURE_OVER is suppressed, or left as it is.

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
    held = [row for row in held if not _was_never_heard_of(row, newest)]
    found += [again(row, "PENDING", None) for row in held if clock - row["as_of"] <= FAILURE_OVER]
    return sorted(found, key=lambda one: one.alert_id)


def _was_never_heard_of(row: Mapping[str, Any], newest: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a failure that was held back is over, or an end is one of a failure that was held back."""
    asset = _asset(row)
    end = newest.get(f"{asset}{OVER}")
    began = newest.get(asset.removesuffix(OVER)) if asset.endswith(OVER) else None
    is_over = end is not None and end["as_of"] >= row["as_of"]
    return is_over or (began is not None and began["status"] == "SUPPRESSED")


def _failures(ledger: pl.DataFrame) -> list[dict[str, Any]]:
    """Failures and ended plans, oldest first. When one was noted is kept when it is sent later, so `as_of` decides."""
    return ledger.filter(pl.col("kind").is_in(["FAILURE", "EXIT"])).sort("as_of", "created_at", "alert_id").to_dicts()


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
