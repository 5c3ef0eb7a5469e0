"""What the operator was notified of, and did."""

from __future__ import annotations

from mm_dagster.tables.columns import count, flag, number, one_of, source_of_candles, text, time
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import ALERT_EVENTS, ALERT_KINDS, ALERT_STATUS, RESPONSES


class Notification(dy.Schema):
    """The ledger of alerts: a row before anything is sent, updated with what became of it."""

    alert_id = text("The same for the same news, so that it is sent once.", key=True)
    grid_id = text("Grid; `all` for a limit, a digest, a failure, a test.")
    activated_at = time("Episode;")
    symbol = text("Market; `all` likewise.")
    as_of = time("The evaluation that it tells of;")
    kind = one_of(ALERT_KINDS, "What kind of news.")
    state = text(
        "Exit state, or the entry advice; of a failure the asset and the error; of a limit BREACHED or OVER, its quote "
        "currency, its name, its subject, and the step of a drawdown that still stands."
    )
    state_since = time("When the state was entered;")
    priority = dy.Int64(min=-2, max=2, description="Pushover priority; 2 is an emergency.")
    title = text("Title as sent.")
    message = text("Text as sent.")
    status = one_of(ALERT_STATUS, "What became of it.")
    detail = text("Why it was suppressed, or what the last attempt met.", nullable=True)
    channel = text("Where it went: pushover, telegram, apprise or log.", nullable=True)
    attempts = count("How often sending was tried.", nullable=False)
    created_at = time("When it was noted;")
    sent_at = time("When the channel took it;", nullable=True)
    receipt = text("Pushover's receipt of an emergency.", nullable=True)
    acknowledged_at = time("When the operator acknowledged it;", nullable=True)
    acknowledged_by_device = text("On which device.", nullable=True)
    expired_at = time("When the emergency stopped ringing unacknowledged;", nullable=True)
    source = source_of_candles()


class AlertEvent(dy.Schema):
    """What became of each alert, step by step; rows are only ever added."""

    event_id = text("One event.", key=True)
    alert_id = text("The alert.")
    at = time("When it happened;")
    event = one_of(ALERT_EVENTS, "What happened.")
    channel = text("On which channel.", nullable=True)
    detail = text("In a sentence.", nullable=True)


class OperatorResponse(dy.Schema):
    """What the operator did, and how long after the alert."""

    response_id = text("One response.", key=True)
    alert_id = text("The alert that it answers.", nullable=True)
    grid_id = text("Grid.")
    activated_at = time("Episode; null in rows of before this was noted;", nullable=True)
    at = time("When it was done;")
    action = one_of(RESPONSES, "What was done.")
    note = text("In the operator's words.", nullable=True)
    told_by = text("The venue that told of it; null: the operator did.", nullable=True)
    person = text("Whose answer it is, by the name in the configuration; null: not said.", nullable=True)
    through = text(
        "Where it came in: mm, page, telegram, api or exchange; null in rows of before this was noted.", nullable=True
    )
    seconds_from_alert = number("Seconds.")
    within_window = flag("Whether it was within the recommended window.")


STAGES = (
    Stage("notification", Notification, group="alerts", after=("exit_state", "entry_assessment", "limit_state")),
    Stage("alert_event", AlertEvent, group="alerts"),
    Stage("operator_response", OperatorResponse, group="alerts"),
)
