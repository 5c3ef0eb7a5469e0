"""The page as a whole: grids, markets, alerts and what is not as it should be, of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import polars as pl

from mm_dagster.alerts.alert import HELD_BACK
from mm_dagster.bars import iso
from mm_dagster.pages.grid import AT_RISK, MONEY, GridOnPage, Row
from mm_dagster.text import counted, spoken, words

DAY = timedelta(days=1)


@dataclass(frozen=True)
class MarketOnPage:
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
class Line:
    """One line of the page.

    Attributes:
        label: what it is about, in a word of at most seven letters.
        text: what it says.
        amounts: whether it names money, which a page to share leaves out.
    """

    label: str
    text: str
    amounts: bool = False


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
        lines: what else there is to say of the whole; see lines.py.
        waiting: commits that the git remote does not have, or what is wrong with it; None: there is no remote.
        config_error: why the configuration in the folder is not in force.
        vanished: files and grids that are gone from the folder and still count, in sentences.
        timezone: the reader's. What the page says of times is UTC, as `bars.iso` writes it; whoever shows it puts in
            the local ones, see `text.in_local_time`.
    """

    clock: datetime
    looked_up: bool
    days: int
    stale_after: timedelta
    grids: tuple[GridOnPage, ...]
    markets: tuple[MarketOnPage, ...]
    tick: Row | None = None
    alerts: tuple[Row, ...] = ()
    lines: tuple[Line, ...] = ()
    waiting: int | str | None = None
    config_error: str | None = None
    vanished: tuple[str, ...] = ()
    timezone: str = "UTC"

    @property
    def running(self) -> list[GridOnPage]:
        """The grids that are enabled."""
        return [one for one in self.grids if one.grid.enabled]

    @property
    def as_of(self) -> datetime | None:
        """The newest decision of any grid."""
        return max((one.as_of for one in self.grids if one.as_of), default=None)

    @property
    def worst(self) -> GridOnPage | None:
        """The grid that most needs a look; None: none is running."""
        return next(iter(self.running), None)

    @property
    def alike(self) -> int:
        """How many more grids are in the state of the worst."""
        worst = self.worst
        return sum(one.headline == worst.headline for one in self.running if one is not worst) if worst else 0

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
        if not times and self.looked_up:
            return f"{who} judged by then."
        if not times:
            return f"{who} ever judged; `mm doctor` says what is missing."
        never = "" if len(times) == len(old) else f" ({len(old) - len(times)} never)"
        if self.looked_up:
            return f"{who} judged since {iso(max(times))}, {spoken(self.clock - max(times))} before that{never}."
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
        if self.tick is None and self.looked_up:
            later = ": what stands here was computed later" if self.as_of else ""
            found.append(f"No tick had run by then{later}.")
        elif self.tick is None:
            found.append("No tick has run yet: `mm tick` runs one, `mm up` starts the schedule.")
        elif self.clock - self.tick["as_of"] >= self.stale_after and self.looked_up:
            ago = spoken(self.clock - self.tick["as_of"])
            found.append(
                f"The schedule did not run then: the last tick was of {iso(self.tick['as_of'])}, {ago} before."
            )
        elif self.clock - self.tick["as_of"] >= self.stale_after:
            ago = spoken(self.clock - self.tick["as_of"])
            found.append(f"The schedule does not run: the last tick was of {iso(self.tick['as_of'])}, {ago} ago.")
        if self.tick and self.tick["finished_at"] is None:
            found.append(f"The tick of {iso(self.tick['as_of'])} has not finished.")
        if self.tick and self.tick["reason"]:
            found.append(f"The last tick failed: {self.tick['reason']}")
        # What failed at a market was said above.
        failed = self.tick["symbols_failed"] if self.tick and self.tick["reason"] else ()
        waiting = (one for one in self.running if one.waits_for and not one.stopped and one.grid.symbol not in failed)
        found += [f"{one.grid.id}: {one.waits_for}" for one in waiting]
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


def without_money(page: Page) -> Page:
    """The page without amounts, and without words that may hold some: of messages, notes and errors.

    Prices, probabilities, states and times stay.
    """
    amounts = dict.fromkeys(name for name in (*MONEY, *AT_RISK) if name != "source")
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
        lines=tuple(line for line in page.lines if not line.amounts),
    )


def _without_words(row: Row) -> Row:
    """A message of the ledger by its kind and state; why it was held back is ours, what a channel said is not."""
    # The state of a failure is the asset and the error.
    what = row["state"].partition(":")[0] if row["kind"] in ("FAILURE", "EXIT") else row["state"]
    detail = row["detail"] if row["status"] == "SUPPRESSED" else None
    title = f"{words(row['kind'])} {words(what)}"
    return {**row, "state": what, "title": title, "message": "", "detail": detail, "note": None}


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
