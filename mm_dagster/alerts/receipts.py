"""Receipts: what became of the emergencies that rang, and one repetition of those that nobody heard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts import drill
from mm_dagster.alerts.alert import EMERGENCY, Alert
from mm_dagster.alerts.channel import Channel, Refused, Unavailable, UnknownReceipt
from mm_dagster.alerts.dispatch import Outgoing, dispatch
from mm_dagster.alerts.ledger import KnownLedger, Ledger, repeat_id
from mm_dagster.alerts.pending import is_answered
from mm_dagster.alerts.responses import answers_of
from mm_dagster.tables import registry

logger = logging.getLogger(__name__)

LIFE = timedelta(days=7)
"""Pushover forgets a receipt after so long."""
LONGEST = timedelta(hours=3)
"""No emergency rings longer."""
NEWS = timedelta(minutes=30)
"""An expiry that is found later is noted, but not news: the policy's own reminders have said what is true since."""


def open_receipts(ledger: pl.DataFrame) -> pl.DataFrame:
    """The rows of `notification` whose emergency has not come to an end yet, as far as is known."""
    ended = pl.col("acknowledged_at").is_not_null() | pl.col("expired_at").is_not_null()
    return ledger.filter(pl.col("receipt").is_not_null() & ~ended).sort("alert_id")


def poll(
    ledger: Ledger,
    channel: Channel,
    clock: Callable[[], datetime],
    second: Channel | None = None,
    responses: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Asks for every open receipt, notes what came of it, and repeats an emergency that has just expired.

    The caller holds the sender's lock. An emergency that expired is repeated once: on the second channel, and where
    there is none, or it does not answer, on the first. It is not when something else of its episode was sent since,
    or when the expiry is found so late that it is no news. The repetition is an alert of its own, noted together
    with the expiry, so no crash can lose it: `policy.due` finds it like every other that is PENDING.

    A receipt that is not known any more counts as expired. When there is no answer, the rest waits for the next turn.

    Args:
        ledger: where rows and events are kept.
        channel: the first channel; receipts of another are left alone.
        clock: tells the time, UTC.
        second: the other channel; None: there is none.
        responses: all rows of `operator_response`: what was answered is not repeated; None: there are none.

    Returns:
        The rows of `notification` that have changed, by alert_id.
    """
    book = KnownLedger(ledger, clock())
    everything = ledger.read()
    answers = answers_of(responses, everything)
    repeats: list[Outgoing] = []
    changed: list[str] = []
    for row in open_receipts(everything).filter(pl.col("channel") == channel.name).to_dicts():
        now = clock()
        try:
            found = _outcome(row, channel, now)
        except (Refused, Unavailable) as error:
            logger.error("it is not known what became of %s and other emergencies: %s", row["alert_id"], error)
            break
        if found is None:
            continue
        rows = [row | found]
        answer = answers.get((row["grid_id"], row["activated_at"]))
        answered = answer is not None and is_answered(row, answer, now)
        if found.get("expired_at") and not answered and _is_news(rows[0], book, now):
            repeats.append(_repeat(rows[0], now))
            rows.append(_noted(repeats[-1]))
        book.commit(rows, now)
        changed += [one["alert_id"] for one in rows]
    if repeats:
        dispatch(repeats, ledger=ledger, channel=channel, second=second, clock=clock)
    return ledger.read().filter(pl.col("alert_id").is_in(changed)).sort("alert_id")


def _outcome(row: dict[str, Any], channel: Channel, now: datetime) -> dict[str, Any] | None:
    """What changes in a row; None: nothing yet."""
    silent = min(now, row["sent_at"] + LONGEST)
    if now - row["sent_at"] > LIFE:
        return {
            "expired_at": silent,
            "detail": "never acknowledged, as far as is known: its receipt is over a week old",
        }
    try:
        receipt = channel.receipt(row["receipt"])
    except UnknownReceipt as error:
        return {"expired_at": silent, "detail": f"not known to be acknowledged: {error}"}
    if receipt.acknowledged:
        return {"acknowledged_at": receipt.acknowledged_at or now, "acknowledged_by_device": receipt.device}
    if receipt.expired:
        return {"expired_at": min(now, receipt.expires_at or silent), "detail": "nobody acknowledged it while it rang"}
    return None


def _is_news(row: dict[str, Any], book: KnownLedger, now: datetime) -> bool:
    others = (one for one in book.rows.values() if one["alert_id"] != row["alert_id"])
    repeated = {repeat_id(one["alert_id"]) for one in book.rows.values() if one["receipt"]}
    return (
        # A drill that nobody heard is no news: it says so itself.
        row["kind"] != drill.KIND
        and now - row["expired_at"] <= NEWS
        and row["alert_id"] not in repeated
        and repeat_id(row["alert_id"]) not in book.rows
        and not any(
            (one["grid_id"], one["activated_at"]) == (row["grid_id"], row["activated_at"])
            and one["status"] in ("PENDING", "SENT")
            and one["created_at"] >= row["expired_at"]
            for one in others
        )
    )


def _repeat(row: dict[str, Any], now: datetime) -> Outgoing:
    """The same words as an alert of its own. Only a real market's emergency has a receipt."""
    alert = Alert(
        alert_id=repeat_id(row["alert_id"]),
        kind="REMINDER",
        grid_id=row["grid_id"],
        symbol=row["symbol"],
        activated_at=row["activated_at"],
        as_of=row["as_of"],
        state=row["state"],
        state_since=row["state_since"],
        priority=EMERGENCY,
        created_at=now,
        title=row["title"],
        message=row["message"],
    )
    return Outgoing(alert, row["title"], row["message"], row["source"] or "ccxt")


def _noted(one: Outgoing) -> dict[str, Any]:
    alert = one.alert
    kept = {name: getattr(alert, name, None) for name in registry.dtypes("notification")}
    return kept | {"title": one.title, "message": one.message, "status": "PENDING", "attempts": 0}
