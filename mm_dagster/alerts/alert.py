"""An alert: one row of `notification` that is to be sent or only noted, and the words and numbers that rank it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

EMERGENCY = 2
"""Pushover's priority that rings until acknowledged."""

HIGH = 1

PLAIN = 0

QUIET = -1

HELD_BACK = "held back"
"""How the reason begins for which something that is still true was not sent yet."""

UNCONFIRMED = "unconfirmed: "
"""How the detail begins of what counts as sent because it may have been taken."""

EVERY_GRID = "all"
"""grid_id and symbol of what concerns no single grid."""

UNKNOWN = "UNKNOWN"

PARTLY_JUDGED = "NOT_FULLY_JUDGED"
"""State of a SETUP: not all that the ladder reads has been known since the activation."""

JUDGED = "JUDGED"
"""State of a SETUP: the set-up that was said to be unfinished is finished."""


@dataclass(frozen=True)
class Alert:
    """One row of `notification` that is to be sent (PENDING) or only noted (SUPPRESSED).

    Attributes:
        alert_id: the same for the same news.
        kind: see words.ALERT_KINDS.
        grid_id: the grid; EVERY_GRID for a limit, a digest, a failure, a test. A limit is of the portfolio, even where
            its subject is one grid: it changes nothing of what the grid's own state says, and outlives its episode.
        symbol: its market; likewise.
        activated_at: its episode; of a limit its evaluation, of a digest the beginning of its day, of a failure or test
            its time.
        as_of: the evaluation that it is about, or the time of the digest, failure, test.
        state: exit state, or the entry advice; UNKNOWN when nothing was ever evaluated. Of a failure the asset and
            the first line of the error, of a test the channel. Of a limit BREACHED or OVER, the quote currency, the
            limit and its subject, as `BREACHED USDT position eth-v3`; of a drawdown that came down, then what still
            stands, as `OVER USDT drawdown_severe all drawdown_mild`.
        state_since: when the state was entered; for a state that only the live run knows, `as_of`.
        priority: Pushover priority.
        before: the state of the message before; None: there was none.
        status: PENDING or SUPPRESSED.
        detail: why it is suppressed.
        attempts: how often sending was tried before.
        created_at: when it was first noted; None: it is new.
        title: the title that was noted; None: it is new.
        message: likewise.
        found_at: the clock at which it was found; None: it is sent again, word for word.
        first_notified_at: of a reminder, when its state was first sent: from then on the operator's time counts.
        reason: of a SETUP, what it waits for.
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
    found_at: datetime | None = None
    first_notified_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Cancellation:
    """An emergency that rings although it is over."""

    alert_id: str
    receipt: str
    reason: str
