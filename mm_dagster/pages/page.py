from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.alerts.alert import HELD_BACK
from mm_dagster.alerts.happened import CLEAR, SELL, happened, holds_nothing
from mm_dagster.alerts.seen import look
from mm_dagster.bars import iso
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.exit.reasons import why
from mm_dagster.tables.registry import empty
from mm_dagster.tables.words import ENTRY_ADVICE, NOT_JUDGED_YET, STATES
from mm_dagster.text import counted, spoken, words

DAY = timedelta(days=1)

STOPPED = "STOPPED"
"""What is said of a grid that the operator stopped, whatever its file and its rows say."""

MONEY = ("source", "liquidation_value", "grid_profit", "exit_pnl", "unrealised_pnl", "total_pnl", "capital_at_risk")
"""Columns of grid_risk that stand beside a decision; the profits add up to the total."""

STAKES = ("capital_at_risk_weighted", "profit_giveback", "profit_giveback_share")
"""Columns of grid_risk that say what waiting may cost."""

DISTANCES = (
    "distance_stop_percent", "distance_lower_percent", "distance_upper_percent", "p_break_low_6h", "p_break_low_12h",
    "p_break_low_24h", "p_break_high_24h", "p_stop_24h",
)  # fmt: skip

Row = Mapping[str, Any]


@dataclass(frozen=True)
class GridStanding:
    """One grid at a moment.

    Attributes:
        grid: its configuration.
        simulated: whether its market is synthetic.
        as_of: its newest decision; None: it was never judged.
        stale: whether that is so old that nobody is watching.
        state: the higher of `state` and `live_state`; NOT_JUDGED_YET; STOPPED, when the operator says so; of a grid
            that is not running the entry advice.
        since: when that was entered; None: not known, or not running.
        seen_live: whether only the live run knows the state.
        decided: the row of `exit_state`, of a grid that is not running the one of `entry_assessment`.
        risk: the row of `grid_risk` of the same time.
        verdict: the row of `regime_verdict` of the same time.
        alert: its newest message, sent or not.
        response: what the operator did about its last escalation.
        answer: the newest row of `operator_response` of its episode.
        heard_at: when its state was told first; None: it was not.
        waits_for: what its set-up waits for, in a sentence; None: nothing, or not known.
    """

    grid: GridConfig
    simulated: bool
    as_of: datetime | None
    stale: bool
    state: str | None
    since: datetime | None = None
    seen_live: bool = False
    decided: Row | None = None
    risk: Row | None = None
    verdict: Row | None = None
    alert: Row | None = None
    response: Row | None = None
    answer: Row | None = None
    heard_at: datetime | None = None
    waits_for: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether the operator says that they stopped it."""
        return self.grid.enabled and self.state == STOPPED

    @property
    def judged(self) -> bool:
        """Whether it has a state of the ladder."""
        return self.grid.enabled and self.state in STATES

    @property
    def happened(self) -> str | None:
        """What happened to it, which goes before everything else; None: it runs, and nobody has answered."""
        return happened(self.risk, self.grid, self.answer) if self.grid.enabled else None

    @property
    def urgency(self) -> int:
        """From 0, nothing to do, to 4, MANDATORY_EXIT; stale or never judged is 2, below LATEST_ACCEPTABLE_EXIT."""
        if not self.grid.enabled or self.stopped:
            return 0
        known = {"NORMAL": 0, "WARNING": 1, "LATEST_ACCEPTABLE_EXIT": 3, "MANDATORY_EXIT": 4}.get(self.state or "", 2)
        return max(known, 2) if self.stale else known

    @property
    def price(self) -> float | None:
        """The close of the newest decision, quote currency."""
        return self.risk["price"] if self.risk else None

    @property
    def quote(self) -> str:
        """The currency of its money."""
        return self.grid.symbol.partition("-")[2]

    @property
    def why(self) -> list[str]:
        """What speaks for the decision, in sentences."""
        if self.decided is None:
            return []
        if not self.grid.enabled:
            return list(self.decided["reasons"])
        return why(self.decided["triggers"], self.decided["state"])

    @property
    def live_reason(self) -> str | None:
        """What only the live run knew, in words."""
        return self.decided["live_reason"] if self.decided and self.grid.enabled else None

    @property
    def headline(self) -> str:
        """Its state in words; `was` stands before one that is old."""
        named = words(self.state or "not judged")
        if self.stopped:
            return named
        return f"was {named}" if self.stale and self.as_of else named

    @property
    def is_decisive(self) -> bool:
        """Whether the reasons decide; in NORMAL a trigger may fire and yet decide nothing: nothing confirms it."""
        return self.decided is None or not self.grid.enabled or self.decided["state"] not in (None, "NORMAL")

    @property
    def next(self) -> list[str]:
        """What would fire next, nearest first; nothing where all has fired."""
        if self.decided is None or not self.judged or self.state == STATES[-1]:
            return []
        return list(self.decided["nearest"] or [])

    @property
    def window_minutes(self) -> int | None:
        """Minutes to act from `since` on; None: there is nothing to act on, or only the live run knows."""
        if self.decided is None or not self.judged or self.seen_live:
            return None
        minutes: int | None = self.decided["recommended_window_minutes"]
        return minutes

    @property
    def act_by(self) -> datetime | None:
        """When the recommended window ends. It begins when the state was told first; else with the state.

        A state that was never told, and that a history says is old, is not overdue: then it begins with what is read.
        """
        if self.decided is None or self.since is None or self.window_minutes is None:
            return None
        window = timedelta(minutes=self.window_minutes)
        if self.heard_at is not None:
            return max(self.since, self.heard_at) + window
        as_of: datetime = self.decided["as_of"]
        return (self.since if self.since + window > as_of else as_of) + window

    @property
    def advice(self) -> str | None:
        """What to do, in one sentence; None: nothing was advised."""
        if not self.grid.enabled or self.state is None:
            return None
        if self.stopped and self.answer is not None:
            return (
                f"Stopped by you at {iso(self.answer['at'])}. Its file still reads `enabled: true`: set it to false, "
                "or give it a new activated_at when it runs again."
            )
        if self.state == NOT_JUDGED_YET or self.decided is None:
            return f"Set-up is not finished: {self.waits_for or 'no tick has judged it yet; `mm doctor` says more.'}"
        if self.seen_live:
            now = f"Stop the grid now and {SELL}."
            advice = now if self.state == STATES[-1] else "Be ready to stop the grid."
        else:
            advice = str(self.decided["advice"])
        if SELL in advice and holds_nothing(self.risk, self.grid):
            advice = CLEAR
        if not self.stale:
            return f"Look at the exchange yourself now. {advice}" if self.seen_live else advice
        # What an old row allows it does not allow now; what it asks for may still be to do.
        last = f" What was advised last: {advice}" if self.urgency > 2 else ""
        return f"Look at the exchange yourself: nobody has judged this grid since {iso(self.decided['as_of'])}.{last}"


@dataclass(frozen=True)
class MarketStanding:
    """One market at a moment.

    Attributes:
        symbol: the market.
        simulated: whether it is synthetic.
        newest: when its newest known bar closed; None: none is known.
        stale: whether that is so long ago that nobody sees it.
        missing: bars that are not known, of the 24 hours before its newest row.
        quarantined: rows that its venue sent in the last 24 hours and that cannot be true.
        verdict: the newest row of `regime_verdict`.
        quiet_since: since when nobody trades there, if that is an hour or more; None: somebody does, or it is unknown.
        kept_from: the first bar that its venue keeps, if what is needed reaches further back.
        judged_from: when all inputs are known from then on.
        shares: share of the bars of the page's days by verdict; None: not known.
    """

    symbol: str
    simulated: bool
    newest: datetime | None
    stale: bool
    missing: int
    quarantined: int
    verdict: Row | None = None
    shares: Mapping[str | None, float] = field(default_factory=dict)
    quiet_since: datetime | None = None
    kept_from: datetime | None = None
    judged_from: datetime | None = None

    @property
    def remarks(self) -> list[str]:
        """What must be known of it to read the rest, in sentences."""
        found = []
        if self.quiet_since is not None:
            found.append(f"Nobody has traded {self.symbol} since {iso(self.quiet_since)}.")
        if self.kept_from is not None and self.judged_from is not None:
            found.append(
                f"The venue of {self.symbol} keeps no candles before {iso(self.kept_from)}: it is fully judged from "
                f"{iso(self.judged_from)}; `mm import` takes older ones from a file."
            )
        return found


@dataclass(frozen=True)
class Page:
    """All of it at a moment.

    Attributes:
        clock: the moment, UTC.
        looked_up: whether it is a moment of the past that was asked for.
        days: how far alerts and shares reach back.
        stale_after: without a fresh decision for so long nobody is watching.
        grids: the most urgent first.
        markets: in the order of markets.yaml.
        tick: the newest row of `tick`.
        alerts: messages of the days, newest first, each with its `responded_at`, `action` and `note`.
        quiet_until: end of the quiet hours that hold; None: none do.
        digest_at: the next daily summary; None: there is none.
        waiting: commits that the git remote does not have, or what is wrong with it; None: there is no remote.
        config_error: why the configuration in the folder is not in force.
        vanished: files and grids that are gone from the folder and still count, in sentences.
    """

    clock: datetime
    looked_up: bool
    days: int
    stale_after: timedelta
    grids: tuple[GridStanding, ...]
    markets: tuple[MarketStanding, ...]
    tick: Row | None = None
    alerts: tuple[Row, ...] = ()
    quiet_until: datetime | None = None
    digest_at: datetime | None = None
    waiting: int | str | None = None
    config_error: str | None = None
    vanished: tuple[str, ...] = ()

    @property
    def running(self) -> list[GridStanding]:
        """The grids that are enabled."""
        return [one for one in self.grids if one.grid.enabled]

    @property
    def as_of(self) -> datetime | None:
        """The newest decision of any grid."""
        return max((one.as_of for one in self.grids if one.as_of), default=None)

    @property
    def worst(self) -> GridStanding | None:
        """The grid that most needs a look; None: none is running."""
        return next(iter(self.running), None)

    @property
    def simulated(self) -> bool:
        """Whether any of the markets is synthetic."""
        return any(one.simulated for one in self.markets)

    @property
    def stale(self) -> str | None:
        """In one sentence, that what stands here is old; None: it is not."""
        old = [one for one in self.grids if one.stale]
        if not old:
            return None
        times = [one.as_of for one in old if one.as_of]
        all_old = len(old) == len(self.grids)
        who = "no grid was" if all_old else f"{len(old)} of {len(self.grids)} grids not"
        if not times:
            return f"{who} ever judged; `mm doctor` says what is missing."
        never = "" if len(times) == len(old) else f" ({len(old) - len(times)} never)"
        return (
            f"{who} judged since {iso(max(times))}, {spoken(self.clock - max(times))} ago{never}. What stands here was "
            "true then, and says nothing about now; `mm doctor` says what is wrong."
        )

    @property
    def problems(self) -> list[str]:
        """What else is not as it should be, in sentences."""
        found = []
        if self.config_error:
            found.append(f"The last valid configuration stays in force: {self.config_error}")
        found += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in self.vanished]
        if self.tick is None:
            found.append("No tick has run yet: `mm tick` runs one, `make up` starts the schedule.")
        elif self.clock - self.tick["as_of"] >= self.stale_after:
            ago = spoken(self.clock - self.tick["as_of"])
            found.append(f"The schedule does not run: the last tick was of {iso(self.tick['as_of'])}, {ago} ago.")
        if self.tick and self.tick["finished_at"] is None:
            found.append(f"The tick of {iso(self.tick['as_of'])} has not finished.")
        if self.tick and self.tick["reason"]:
            found.append(f"The last tick failed: {self.tick['reason']}")
        found += [f"{one.grid.id}: {one.waits_for}" for one in self.running if one.waits_for and not one.stopped]
        unknown = [one.symbol for one in self.markets if one.newest is None]
        if unknown:
            found.append(f"No candle is known of {', '.join(unknown)}.")
        old = {one.symbol: one.newest for one in self.markets if one.newest and one.stale}
        if old:
            newest = max(old.values())
            found.append(
                f"The bars of {', '.join(old)} are old: the newest closed {iso(newest)}, "
                f"{spoken(self.clock - newest)} ago."
            )
        found += [remark for one in self.markets for remark in one.remarks]
        ahead = [one.newest for one in self.markets if one.newest and one.newest > self.clock]
        if ahead:
            found.append(f"This computer's clock is behind: a bar is known that closes at {iso(max(ahead))}.")
        lately = [row for row in self.alerts if row["created_at"] > self.clock - DAY]
        refused = sum(row["status"] == "FAILED" for row in lately)
        if refused:
            found.append(f"{counted(refused, 'message')} refused in 24 h: `mm alert-test` tries each channel.")
        pending = sum(row["status"] == "PENDING" for row in self.alerts)
        if pending:
            found.append(f"{counted(pending, 'message')} not taken by any channel yet.")
        if isinstance(self.waiting, str):
            found.append(f"The git mirror: {self.waiting}")
        elif self.waiting:
            found.append(f"{counted(self.waiting, 'commit')} not pushed to the git remote yet.")
        return found

    @property
    def alerts_24h(self) -> dict[str, int]:
        """How many messages of the last 24 hours there are by status, and of them `held_back`."""
        lately = [row for row in self.alerts if row["created_at"] > self.clock - DAY]
        counts = {status: sum(row["status"] == status for row in lately) for status in ("SENT", "PENDING", "FAILED")}
        return counts | {"held_back": sum(is_held_back(row) for row in lately)}


def stand(
    grid: GridConfig,
    simulated: bool,
    decisions: pl.DataFrame,
    risks: pl.DataFrame,
    verdicts: pl.DataFrame,
    alerts: Sequence[Row],
    clock: datetime,
    config: AlertsConfig,
    answer: Row | None = None,
    waits_for: str | None = None,
) -> GridStanding:
    """Where one grid stands.

    Args:
        grid: the grid; rows of others and of its earlier episodes are ignored.
        simulated: whether its market is synthetic.
        decisions: rows of `exit_state`; of a grid that is not running of `entry_assessment`.
        risks: rows of `grid_risk`.
        verdicts: rows of `regime_verdict`.
        alerts: rows like those of `Page.alerts`, of any grid, newest first.
        clock: the moment, UTC.
        config: after how long without a decision nobody is watching.
        answer: the newest row of `operator_response` of its episode by then.
        waits_for: what its set-up waits for, in a sentence.
    """
    mine = pl.col("grid_id") == grid.id
    if grid.enabled:
        mine &= pl.col("activated_at") == grid.activated_at
    decided = _newest(decisions.filter(mine))
    episode = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
    until = pl.col("as_of") == decided["as_of"] if decided else pl.lit(True)
    risk = _newest(risks.filter(episode & until))
    as_of = decided["as_of"] if decided else risk["as_of"] if risk else None
    verdict = (
        _newest(verdicts.filter((pl.col("symbol") == grid.symbol) & (pl.col("as_of") == as_of))) if as_of else None
    )
    told = [row for row in alerts if row["grid_id"] == grid.id and row["activated_at"] == grid.activated_at]
    escalation = next((row for row in told if row["kind"] == "ESCALATION" and row["status"] == "SENT"), None)
    response = escalation if escalation and escalation["responded_at"] else None
    if not grid.enabled:
        stale = as_of is None or clock - as_of >= timedelta(minutes=config.blind_after_minutes)
        state, since, seen_live = (decided["advice"] if decided else None), None, False
    else:
        seen = look(grid, decisions if grid.enabled and decisions.height else empty("exit_state"), clock, config)
        stale, seen_live = seen.blind, seen.live
        state, since = seen.state or NOT_JUDGED_YET, seen.since if seen.state else None
        if answer is not None and answer["action"] == "stopped":
            stale, seen_live, state, since = False, False, STOPPED, answer["at"]
    alert = next(iter(told), None)
    heard_at = escalation["sent_at"] if escalation and escalation["state"] == state else None
    return GridStanding(
        grid,
        simulated,
        as_of,
        stale,
        state,
        since,
        seen_live,
        decided,
        risk,
        verdict,
        alert,
        response,
        answer if grid.enabled else None,
        heard_at,
        waits_for,
    )


def without_money(page: Page) -> Page:
    """The page without amounts, and without words that may hold some: of messages, notes and errors.

    Prices, probabilities, states and times stay.
    """
    amounts = dict.fromkeys(name for name in (*MONEY, *STAKES) if name != "source")
    left_out = "its words are left out of this page"
    grids = (
        replace(
            one,
            decided={**one.decided, "live_reason": left_out} if one.decided and one.live_reason else one.decided,
            risk={**one.risk, **amounts} if one.risk else None,
            alert=_without_words(one.alert) if one.alert else None,
            response=_without_words(one.response) if one.response else None,
            answer={**one.answer, "note": None} if one.answer else None,
        )
        for one in page.grids
    )
    tick = page.tick
    return replace(
        page,
        grids=tuple(grids),
        alerts=tuple(_without_words(row) for row in page.alerts),
        tick={**tick, "reason": left_out} if tick and tick["reason"] else tick,
        waiting=left_out if isinstance(page.waiting, str) else page.waiting,
        config_error=left_out if page.config_error else None,
    )


def _without_words(row: Row) -> Row:
    """A message of the ledger by its kind and state; why it was held back is ours, what a channel said is not."""
    # The state of a failure is the asset and the error.
    what = row["state"].partition(":")[0] if row["kind"] == "FAILURE" else row["state"]
    detail = row["detail"] if row["status"] == "SUPPRESSED" else None
    title = f"{words(row['kind'])} {words(what)}"
    return {**row, "state": what, "title": title, "message": "", "detail": detail, "note": None}


def in_order(grids: Sequence[GridStanding]) -> tuple[GridStanding, ...]:
    """The most urgent first; of the calm ones those that run, then by what is advised, then by name."""

    def place(one: GridStanding) -> tuple[object, ...]:
        advised = -ENTRY_ADVICE.index(one.state) if one.state in ENTRY_ADVICE else 0
        return (-one.urgency, not one.grid.enabled, advised, one.grid.id)

    return tuple(sorted(grids, key=place))


def is_held_back(row: Row) -> bool:
    """Whether a message is still true and was not told yet: quiet hours, or too many."""
    return row["status"] == "SUPPRESSED" and str(row["detail"] or "").startswith(HELD_BACK)


def with_responses(alerts: pl.DataFrame, responses: pl.DataFrame, clock: datetime) -> tuple[Row, ...]:
    """The messages that were noted by then, newest first, each with the first response to it.

    Args:
        alerts: rows of `notification`.
        responses: rows of `operator_response`.
        clock: the moment, UTC; what became known later is left out.
    """
    first = (
        responses.filter(pl.col("at") <= clock)
        .sort("at", "response_id")
        .unique("alert_id", keep="first", maintain_order=True)
        .select("alert_id", "action", "note", "seconds_from_alert", "within_window", responded_at="at")
    )
    known = alerts.filter(pl.col("created_at") <= clock).with_columns(
        pl.when(pl.col(name) <= clock).then(pl.col(name)).alias(name) for name in ("acknowledged_at", "expired_at")
    )
    joined = known.join(first, on="alert_id", how="left", maintain_order="left")
    return tuple(joined.sort("created_at", "priority", "alert_id", descending=[True, True, False]).to_dicts())


def _newest(rows: pl.DataFrame) -> dict[str, Any] | None:
    return rows.sort("as_of").row(-1, named=True) if rows.height else None
