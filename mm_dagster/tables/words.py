"""The words that tables hold: every value that a text column with a fixed vocabulary may have."""

from __future__ import annotations

VERDICTS = ("RANGE_OK", "RANGE_WEAK", "TRANSITION", "TREND")
"""From the least to the most dangerous."""

OUTCOMES = ("OPEN", "BROKE", "STOPPED", "HELD", "LATE", "UNKNOWN")
"""What came after an alert; see tables/evaluation.py."""

STATES = ("NORMAL", "WARNING", "LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT")
"""From the least to the most urgent."""

MEASURED = "Measured on "
"""Begins the sentence that goes after the advice of a WARNING: what leaving then was measured to be worth."""

NOT_JUDGED_YET = "NOT_JUDGED_YET"
"""What is said of a running grid of which no bar since its activation was known yet. No state: there it is null."""

CANDLE_STATUS = ("TRADED", "NO_TRADE", "MISSING")

POSITION_HEALTH = ("BELOW_GRID", "IN_GRID", "ABOVE_GRID")

STOP_LOSS_RISK = ("SAFE", "NEAR", "CRITICAL", "BREACHED")

RISK_LEVEL = ("LOW", "MEDIUM", "HIGH", "CRITICAL")

DRAWDOWNS = ("NONE", "MILD", "MODERATE", "SEVERE")
"""From the least to the worst."""

LIMITS = (
    "portfolio", "pair", "position", "session", "es_5_24h", "correlation", "fills_per_day", "fee_share",
    "drawdown_mild", "drawdown_moderate", "drawdown_severe",
)  # fmt: skip
"""What is watched of all grids together; see portfolio.yaml."""

ALERT_KINDS = (
    "ESCALATION", "REMINDER", "DEESCALATION", "ENTRY", "BLIND", "RECOVERED", "SETUP", "LIMIT", "DIGEST", "FAILURE",
    "EXIT", "TEST", "DRILL",
)  # fmt: skip

ALERT_EVENTS = (
    "NOTED", "TRYING", "SENT", "UNANSWERED", "REFUSED", "SUPPRESSED", "CANCELLED", "ACKNOWLEDGED", "EXPIRED"
)  # fmt: skip

ALERT_STATUS = ("PENDING", "SENT", "FAILED", "SUPPRESSED")

SIDES = ("buy", "sell")

ORDER_MODES = ("paper", "test", "live")

PLAN_STATES = (
    "PROPOSED", "APPROVED", "STOPPING", "CANCELLING", "SELLING", "SETTLING", "DONE", "HALTED", "EXPIRED", "REFUSED",
)  # fmt: skip
"""Of a plan to leave a grid; see execution/machine.py."""

SESSION_STATES = ("RUNNING", "STOPPING", "ENDED")
"""Of a paper operator; STOPPING: it makes no new plan, and those that it made come to an end."""

PAPER_PRICES = ("BOOKS", "CANDLES")
"""What is sold into on paper: the order books of now, or books that are modelled from stored candles."""

ORDER_STATES = ("INTENDED", "CLOSED", "ABSENT")

STOPPERS = ("bot", "bot_sells", "orders", "operator")
"""Who stops a grid that is left: its bot on request, which keeps or sells; its orders are cancelled; a person did."""

BOOK_ORIGINS = ("ASKED", "RECORDER")
"""Where the book of a tick comes from: its exchange was asked for it, or `mm record` had it."""

RECORDS_BEGAN = ("OPENED", "ROTATED", "RESUMED")
"""Why a file of a recorder's log was begun: it started; a quarter hour or a file was full; the disk was full before."""

GAP_PARTS = ("LOG", "BOOK")
"""What lacks something: the log of what was received, or the book that is made of it."""

GAP_KINDS = (
    "OPENED", "RESUMED", "LOST", "MISSING", "NO_END", "TORN", "LENGTH", "CHECKSUM", "CONTENT", "COUNT", "AFTER_END",
    "FOREIGN", "VERSION", "UNREADABLE", "START", "DISCONNECTED", "RECONNECTED", "MISSED", "STALE_SNAPSHOT",
    "SNAPSHOT_FAILED", "CROSSED", "OVERFLOW", "OUT_OF_REACH", "DISAGREED", "UNTRUSTED",
)  # fmt: skip
"""Of a log: see recorder/seal.py and recorder/frames.py; of a book: see books/sync.py."""

BOT_STATES = ("starting", "running", "stopping", "stopped", "unknown")
"""What a grid does at its exchange; `unknown`: its word for it is a new one."""

RESPONSES = ("stopped", "reduced", "kept", "snoozed", "reopened")
"""What an operator says about a grid. `snoozed` is no decision: it puts off reminders for a while."""

ENTRY_ADVICE = ("WAIT", "WATCH", "ENTER")

METRICS: dict[str, tuple[str, str]] = {
    "base_rate": ("share", "how often two closes below the grid followed within 24 hours"),
    "auc": ("share", "how often a moment with a break was given a higher probability than one without; .5 is chance"),
    "brier_skill": ("fraction", "1 - Brier score over that of the base rate; 0 is what the base rate alone says"),
    "ece": ("probability", "mean distance between predicted and observed, over ten bins; 0 is honest"),
    "log_loss_gain": ("nats", "what the log loss is less than that of the position between the bounds alone"),
    "precision": ("share", "alarms that a break below, or the stop, followed within 24 hours"),
    "recall": ("share", "breaks at which an alarm stood that had been raised before"),
    "misses": ("count", "breaks at which none did"),
    "false_alarms_per_grid_week": ("alarms", "raised in a week of a grid's life with no break after them"),
    "lead_p25_hours": ("hours", "from the alarm to the break: a quarter of those that were warned of had less"),
    "lead_p50_hours": ("hours", "from the alarm to the break: half of those that were warned of had less"),
    "lead_1h_share": ("share", "breaks of which the alarm warned at least an hour before"),
    "mean_equity": ("percent of the capital", "what was left when each grid was left at the first alarm"),
    "shortfall_5pct": ("percent of the capital", "mean of the worst 5 % of that"),
    "hours_held": ("hours", "mean time until a grid was left"),
    "gain_vs_hold": ("percent of the capital", "mean_equity less what holding to the stop or the end left"),
    "shortfall_vs_hold": ("percent of the capital", "shortfall_5pct less that of holding"),
    "gain_vs_null": ("percent of the capital", "mean_equity less what the same exits left at other dates"),
    "shortfall_vs_null": ("percent of the capital", "shortfall_5pct less that of the same exits at other dates"),
    "gain_vs_position": ("percent of the capital", "mean_equity less that of leaving in the lowest fifth of the grid"),
    "shortfall_vs_position": ("percent of the capital", "the same of shortfall_5pct"),
    "gain_vs_position_as_long": (
        "percent of the capital",
        "mean_equity less that of leaving at the place in the grid with which grids are held as long",
    ),
    "shortfall_vs_position_as_long": ("percent of the capital", "the same of shortfall_5pct"),
    "gain_vs_next_level": ("percent of the capital", "mean_equity less that of waiting for the next state"),
    "shortfall_vs_next_level": ("percent of the capital", "the same of shortfall_5pct"),
    "p_null": ("probability", "of doing as well with the same exits at other dates"),
    "p_random": ("probability", "of doing as well with the same exits dealt at random among a market's grids"),
    "alerts": ("count", "escalations that the operator was notified of"),
    "acknowledged_share": ("share", "emergencies that were acknowledged; nothing else asks for it"),
    "acknowledge_p50_seconds": ("seconds", "half of them within"),
    "answered_share": ("share", "alerts that `mm respond` noted an action for"),
    "response_p50_seconds": ("seconds", "half of them within"),
    "within_window_share": ("share", "alerts answered within the recommended window; one without an answer is not"),
}
"""Every metric of `signal_quality`: its unit, and what it means."""
