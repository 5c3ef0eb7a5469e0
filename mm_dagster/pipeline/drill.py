"""A drill of the whole chain: ledger, picture, channels, receipt, reminder, response, end, audit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mm_dagster.alerts import drill, message, receipts
from mm_dagster.alerts.alert import Cancellation
from mm_dagster.alerts.channel import Channel
from mm_dagster.alerts.dispatch import Outgoing, dispatch
from mm_dagster.alerts.pushover import POLL_SECONDS
from mm_dagster.alerts.responses import NOW_MINUTES
from mm_dagster.bars import floor_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.history.lake import Commit
from mm_dagster.history.locks import Lock
from mm_dagster.pipeline.channels import LakeLedger, two_channels
from mm_dagster.pipeline.exhibits import grid_picture
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.telegram import listen
from mm_dagster.text import number_text

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a drill will do.

    Attributes:
        grid: the grid that is played.
        is_real: whether its market is live; if not, nothing reaches a channel.
        channels: where it goes, the first one first, or log.
    """

    grid: GridConfig
    is_real: bool
    channels: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What will ring where, in sentences."""
        if not self.is_real:
            yield f"{self.grid.id}: its market is simulated or recorded, so nothing rings: it goes to the log."
        elif self.channels == ("log",):
            yield "There are no credentials of a channel, so nothing rings: it goes to the log."
        if "pushover" in self.channels:
            yield (
                "Pushover: an emergency (priority 2) on every device of the user, with sound, every "
                f"{drill.RETRY_SECONDS} s for {drill.EXPIRE_SECONDS} s at most; one reminder if nobody acknowledges it."
            )
        if self.has("telegram"):
            yield "Telegram: the same message, with buttons: one of them is the answer. Nothing rings there."
        if self.has("apprise"):
            yield "What apprise reaches: the same message, once to each address."
        yield "No decision, limit, budget or statistic knows of it."

    def has(self, channel: str) -> bool:
        """Whether it goes there: the second channel may be several in one."""
        return any(channel in name for name in self.channels)


def plan(project: Project, grid: GridConfig) -> Plan:
    """What a drill of a grid will do."""
    is_real = project.config.market(grid.symbol).kind == "ccxt"
    found = [one.name for one in two_channels(project) if one is not None] if is_real else []
    return Plan(grid, is_real, tuple(found) or ("log",))


@dataclass(frozen=True)
class Held:
    """What came of a drill: its steps, and what did not work, a sentence each."""

    steps: list[dict[str, Any]]
    failures: list[str]


def hold(project: Project, planned: Plan, *, wait_seconds: float, answer: Callable[[], str | None], say: Say) -> Held:
    """Sends the emergency, follows it, reminds once, takes the answer, ends it, and reads the audit.

    Args:
        project: where the ledger is.
        planned: see `plan`.
        wait_seconds: how long an acknowledgement is waited for.
        answer: asks the operator what they did, one of words.RESPONSES; None: the acknowledgement is the answer.
        say: is told of each step.
    """
    ledger = LakeLedger(project, "drill")

    def now() -> datetime:
        return project.now()

    grid, start = planned.grid, now()
    quiet = project.config.alerts.pushover.model_copy(
        update={"emergency_retry_seconds": drill.RETRY_SECONDS, "emergency_expire_seconds": drill.EXPIRE_SECONDS}
    )
    channel, second = two_channels(project, quiet) if planned.is_real else (None, None)
    lock = project.locks.of("alerts")
    number = ledger.read().filter(pl.col("kind") == drill.KIND).height
    link = message.url(drill.KIND, project.config.alerts.link)

    def send(*, reminds: bool) -> str:
        alert = drill.alert(grid.id, start, number, reminds=reminds)
        words = drill.words(
            grid.id, start, reminds=reminds, simulated=not planned.is_real, timezone=project.config.alerts.timezone
        )
        image = _picture(project, grid) if planned.is_real and not reminds else None
        with lock:
            sent = dispatch(
                # Its row is of no single market; that of one that is none has no channel to go to, see above.
                [Outgoing(alert, *words, project.config.kind, link, image)],
                ledger=ledger, channel=channel, second=second, clock=now,
            )  # fmt: skip
        row = sent.row(0, named=True)
        say(f"{'reminder' if reminds else 'emergency'}: {row['status']} by {row['channel']}")
        return alert.alert_id

    ids = [send(reminds=False)]
    try:
        row = _row(ledger, ids[0])
        can_be_answered = row["receipt"] is not None or (planned.has("telegram") and row["status"] == "SENT")
        waits = channel is not None and can_be_answered and wait_seconds > 0
        if waits:
            _follow(project, ledger, channel, ids, wait_seconds, lambda: ids.append(send(reminds=True)), lock, say)
        responded = _responded(project, _row(ledger, ids[0]), ids, answer, now(), say)
    finally:
        _end(ledger, channel, ids[0], lock, now, say)
    steps = drill.audit(ledger.events(), ids, start, responded)
    return Held(steps, drill.failures(steps, planned.channels, waits))


def _follow(
    project: Project, ledger: LakeLedger, channel: Channel | None, ids: list[str], seconds: float,
    remind: Callable[[], object], lock: Lock, say: Say,
) -> None:  # fmt: skip
    """Waits until somebody acknowledges or answers, or the time is over; half way there is one reminder."""
    assert channel is not None
    begin = time.monotonic()
    say(f"waiting up to {number_text(seconds)} s for somebody to acknowledge it")
    while True:
        with lock:
            receipts.poll(ledger, channel, lambda: datetime.now(UTC))
        row = _row(ledger, ids[0])
        if row["acknowledged_at"] is not None:
            device = row["acknowledged_by_device"]
            say(f"acknowledged{f' on {device}' if device else ''}")
            return
        listen(project)
        if _answers(project, ids).height:
            return
        passed = time.monotonic() - begin
        if len(ids) == 1 and passed >= seconds / 2:
            remind()
        if row["expired_at"] is not None or passed >= seconds:
            return
        time.sleep(max(0.05, min(POLL_SECONDS, seconds - passed, seconds / 4)))


def _answers(project: Project, ids: list[str]) -> pl.DataFrame:
    """What was answered by a button."""
    return project.lake.read("operator_response").filter(pl.col("alert_id").is_in(ids))


def _responded(
    project: Project, row: dict[str, Any], ids: list[str], answer: Callable[[], str | None], at: datetime, say: Say
) -> pl.DataFrame | None:
    """Notes what the operator did, unless a button has; without an answer the acknowledgement counts as `kept`."""
    tapped = _answers(project, ids)
    if tapped.height:
        say(f"response: {tapped['action'][0]}")
        return tapped
    action, note = answer(), "answered in the terminal"
    if action is None and row["acknowledged_at"] is not None:
        action, at, note = "kept", row["acknowledged_at"], "acknowledged on a device"
    if action is None or row["sent_at"] is None:
        return None
    found = drill.response(row["alert_id"], row["sent_at"], action, at, note, NOW_MINUTES)
    project.lake.upsert("operator_response", found, commit=Commit("drill", "operator_response", ""))
    say(f"response: {action}")
    return found


def _end(
    ledger: LakeLedger, channel: Channel | None, alert_id: str, lock: Lock, now: Callable[[], datetime], say: Say
) -> None:
    """Stops the emergency, whatever happened, unless it is over."""
    row = _row(ledger, alert_id)
    if channel is None or row["receipt"] is None or row["acknowledged_at"] is not None or row["expired_at"] is not None:
        return
    with lock:
        over = Cancellation(alert_id, row["receipt"], "the drill is over")
        dispatch([], [over], ledger=ledger, channel=channel, clock=now)
    say("the emergency is cancelled")


def _row(ledger: LakeLedger, alert_id: str) -> dict[str, Any]:
    return ledger.read().filter(pl.col("alert_id") == alert_id).row(0, named=True)


def _picture(project: Project, grid: GridConfig) -> bytes | None:
    """The grid's picture of now, as a real alert has it; none before its first evaluation."""
    try:
        return grid_picture(project, grid, floor_bar(project.venues.clock(grid.symbol)))
    except Exception as error:
        logger.warning("%s: no picture for the drill: %s", grid.id, error)
        return None
