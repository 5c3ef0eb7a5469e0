"""What is due is gathered from the lake, sent, and noted again."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import polars as pl

from mm_dagster import environment
from mm_dagster.alerts import budget, digest, drill, failures, limits, message, newcomers, policy, receipts
from mm_dagster.alerts.alert import EVERY_GRID, Alert, Cancellation
from mm_dagster.alerts.dispatch import Outgoing, dispatch
from mm_dagster.alerts.heartbeat import beat
from mm_dagster.alerts.responses import Answers, answers_of
from mm_dagster.bars import BAR, TIME, Span, ceil_bar, floor_bar, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.sources import is_real, kind_of
from mm_dagster.exit.reasons import reasons_of
from mm_dagster.pipeline.access import Access
from mm_dagster.pipeline.channels import LakeLedger, each_channel, two_channels
from mm_dagster.pipeline.costs import costs_at
from mm_dagster.pipeline.digest import day_of
from mm_dagster.pipeline.episodes import price_ticks
from mm_dagster.pipeline.exhibits import grid_picture
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.setup import unfinished
from mm_dagster.pipeline.together import added_by
from mm_dagster.tables.registry import empty

logger = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=2)
"""How old a row may be and still count as the newest that is known of a grid."""


def send_due(project: Project, run_id: str, at: datetime | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Notes and sends what is due.

    Args:
        project: where the ledger is.
        run_id: the run that sends.
        at: sets the clock of simulated markets; None: the present.

    Returns:
        The rows of `notification` that were touched, and all of them.
    """
    ledger = LakeLedger(project, run_id)
    channel, second = two_channels(project)
    rows = []
    with project.locks.of("alerts"):
        if channel is not None and receipts.open_receipts(ledger.read()).height:
            # Before anything is cancelled, lest an acknowledgement is missed.
            receipts.poll(ledger, channel, project.venues.real_clock, second, project.lake.read("operator_response"))
        for part in news(project, at):
            due = [outgoing(project, part, alert) for alert in part.alerts]
            rows.append(
                dispatch(due, part.cancellations, ledger=ledger, channel=channel, second=second, clock=part.clock_now)
            )
    everything = ledger.read()
    return pl.concat(rows) if rows else everything.clear(), everything


def count_due(project: Project, at: datetime | None = None) -> int:
    """How many alerts and cancellations wait to be sent; `at` sets the clock of simulated markets."""
    return sum(len(part.alerts) + len(part.cancellations) for part in news(project, at))


@dataclass(frozen=True)
class News:
    """What is due on the markets of one venue, or of all of them together, by its clock.

    Attributes:
        alerts: what is due, admitted or held back.
        cancellations: emergencies that are over.
        states: newest exit states.
        entries: newest entry assessments.
        risks: newest risks.
        answers: the operator's newest answer in each episode.
        project: where they are kept.
        symbol: one of the markets; None: of no single one.
        source: where their candles come from; of all of them together the kind of the realest.
        at: the clock of simulated markets; None: the present.
    """

    alerts: list[Alert]
    cancellations: list[Cancellation]
    states: pl.DataFrame
    entries: pl.DataFrame
    risks: pl.DataFrame
    answers: Answers
    project: Project
    symbol: str | None
    source: str
    at: datetime | None

    def clock_now(self) -> datetime:
        """The time on which these markets run."""
        return self.at or (self.project.venues.clock(self.symbol) if self.symbol else self.project.venues.real_clock())


def news(project: Project, at: datetime | None) -> Iterator[News]:
    """What is due, venue by venue, since each has a clock of its own; then what concerns all of them.

    Args:
        project: where the rows are.
        at: the clock of simulated markets; None: the present. A real market's clock is never set.
    """
    config = project.config
    # Nothing that was recorded is news, not even that it ends.
    followed = [grid for grid in config.grids if config.market(grid.symbol).kind != "recorded"]
    by_venue = sorted(followed, key=lambda grid: config.market(grid.symbol).venue)
    configured = {grid.id for grid in config.grids}
    for _, group in groupby(by_venue, key=lambda grid: config.market(grid.symbol).venue):
        grids = list(group)
        symbol = grids[0].symbol
        set_to = at if project.config.market(symbol).is_simulated else None
        clock = set_to or project.venues.clock(symbol)
        ids = [grid.id for grid in grids]
        # Read anew, since what was sent meanwhile for another venue counts.
        ledger = _counted(project, project.config.market(symbol).is_real)
        recent = Span(floor_bar(clock - LOOK_BACK), ceil_bar(clock))
        entries, risks = (
            _newest(project.lake.read(table, span=recent, grids=ids)) for table in ("entry_assessment", "grid_risk")
        )
        states = judged(project, grids, recent)
        responses = project.lake.read("operator_response")
        # An assessment without a price is no news: the market is not seen, which concerns running grids only.
        entries = entries.filter(pl.col("price").is_not_null())
        prices = dict(zip(risks["grid_id"], risks["price"], strict=True))
        # An emergency of a grid that is no longer configured must be stopped, too: any venue's turn may do it.
        mine = ledger.filter(pl.col("grid_id").is_in(ids) | ~pl.col("grid_id").is_in(sorted(configured)))
        waits_for = unfinished(project, grids, states, clock)
        sources = {grid.symbol: config.market(grid.symbol).source for grid in grids}
        due = policy.due(states, entries, mine, clock, config.alerts, grids, prices, waits_for, responses, sources)
        yield News(
            alerts=budget.admit(due, ledger, clock, config.alerts),
            cancellations=policy.cancellations(states, mine, clock, config.alerts, config.grids, responses),
            states=states,
            entries=entries,
            risks=risks,
            answers=answers_of(responses, ledger),
            project=project,
            symbol=symbol,
            source=config.market(symbol).source,
            at=set_to,
        )
    yield _of_all(project, followed, at)


def _of_all(project: Project, followed: Sequence[GridConfig], at: datetime | None) -> News:
    """The limits of all grids together, the digest, and the failures that were noted and not sent yet."""
    config = project.config
    simulated = not project.config.is_real
    grids = [grid for grid in followed if simulated or project.config.market(grid.symbol).is_real]
    set_to = at if simulated else None
    clock = set_to or project.venues.real_clock()
    ids = [grid.id for grid in grids]
    recent = Span(floor_bar(clock - LOOK_BACK), ceil_bar(clock))
    states, risks = judged(project, grids, recent), _newest(project.lake.read("grid_risk", span=recent, grids=ids))
    ledger = _counted(project, not simulated)
    due = failures.unsent_failures(ledger, clock)
    due += _limits(project, ledger, clock) + _newcomers(project, ledger, clock)
    if grids:
        told = pl.col("kind").is_in(["DIGEST", limits.KIND])
        mine = ledger.filter(pl.col("grid_id").is_in(ids) | told)
        # A sensor asks every few seconds, and only a new digest says more than the states.
        day = None
        if digest.is_wanted(mine, clock, config.alerts, simulated):
            day = day_of(project, clock, grids, answers_of(project.lake.read("operator_response"), ledger))
        due += digest.due(states, mine, clock, config.alerts, grids, simulated, day)
    return News(
        alerts=budget.admit(due, ledger, clock, config.alerts),
        cancellations=[],
        states=states,
        entries=states.clear(),
        risks=risks,
        answers={},
        project=project,
        symbol=None,
        source=project.config.kind,
        at=set_to,
    )


def _limits(project: Project, ledger: pl.DataFrame, clock: datetime) -> list[Alert]:
    """The limits that are breached and over, of the kind of market that is added up; of what was recorded none is."""
    config, lake = project.config, project.lake
    if config.kind == "recorded":
        return []
    oldest = clock - timedelta(minutes=config.alerts.max_age_minutes)
    recent = Span(floor_bar(oldest) - BAR, ceil_bar(clock))
    running = {
        grid.symbol.partition("-")[2] for grid in config.grids if grid.enabled and config.in_portfolio(grid.symbol)
    }
    try:
        return limits.due(
            lake.read("limit_state", span=recent),
            lake.read("portfolio_risk", span=recent),
            lake.read("portfolio_contribution", span=recent),
            ledger,
            clock,
            config.alerts,
            running,
            config.kind,
        )
    except Exception:
        # A limit advises. Whatever is wrong with its rows must not keep the exit of a grid from being sent.
        logger.exception("no limit could be looked at")
        return []


def _newcomers(project: Project, ledger: pl.DataFrame, clock: datetime) -> list[Alert]:
    """The bots that run where a key reads them, and that no file watches."""
    config = project.config
    if not any(getattr(venue, "account", None) for venue in config.markets.venues.values()):
        return []
    bots = project.lake.read("grid_bot", span=Span(floor_bar(clock - newcomers.FRESH) - BAR, ceil_bar(clock)))
    return newcomers.due(bots, config.grids, ledger, clock, config.alerts.timezone)


def _counted(project: Project, real: bool) -> pl.DataFrame:
    """The rows of the ledger that count against the same limits: of real markets, or of those that are none."""
    unreal = [grid.id for grid in project.config.grids if not project.config.market(grid.symbol).is_real]
    made_up = pl.col("grid_id").is_in(unreal)
    # A drill eats no budget, holds nothing back, and ends by itself.
    ledger = project.lake.read("notification").filter(pl.col("kind") != drill.KIND)
    return ledger.filter(~made_up if real else made_up | (pl.col("grid_id") == EVERY_GRID))


def judged(project: Project, grids: Sequence[GridConfig], recent: Span) -> pl.DataFrame:
    """The newest exit state of each grid in its present episode, however old: an old one is not one never judged."""
    lake, running = project.lake, {grid.id: grid.activated_at for grid in grids if grid.enabled}
    if not running:
        return empty("exit_state")
    found = lake.read("exit_state", span=recent, grids=list(running))
    found = found.filter(
        pl.col("activated_at") == pl.col("grid_id").replace_strict(running, default=None, return_dtype=TIME)
    )
    absent = [grid_id for grid_id in running if grid_id not in set(found["grid_id"])]
    if absent:
        times = lake.sql(
            "SELECT grid_id, activated_at, max(as_of) AS as_of FROM exit_state "
            f"WHERE as_of <= '{iso(recent.end)}' GROUP BY grid_id, activated_at"
        )
        for grid_id, activated_at, as_of in times.iter_rows():
            if grid_id in absent and activated_at == running[grid_id]:
                rows = lake.read("exit_state", span=Span(as_of - BAR, as_of), grids=[grid_id])
                found = pl.concat([found, rows.filter(pl.col("activated_at") == activated_at)])
    return _newest(found)


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("as_of").group_by("grid_id", maintain_order=True).last().select(rows.columns)


def outgoing(project: Project, news: News, alert: Alert) -> Outgoing:
    """An alert with its words, its link and its picture; a retried one keeps the words that were noted."""
    source, simulated = news.source, not is_real(news.source)
    link = _link(project, alert, source)
    if alert.title is not None and alert.message is not None:
        return Outgoing(alert, alert.title, alert.message, source, link)
    grid = next(grid for grid in project.config.grids if grid.id == alert.grid_id)
    row = _of(news.entries if alert.kind == "ENTRY" else news.states, alert.grid_id)
    answer = news.answers.get((grid.id, grid.activated_at))
    reasons = reasons_of(row["triggers"], row["state"]) if row and alert.kind != "ENTRY" else []
    title, text = message.render(
        alert,
        row,
        _of(news.risks, alert.grid_id),
        grid,
        reasons,
        simulated,
        answer,
        project.config.alerts.timezone,
        price_ticks(project.lake).get((grid.id, grid.activated_at)),
        _costs(project, grid, row) if row and alert.kind != "ENTRY" else [],
        _added(project, grid, row) if row and alert.kind == "ENTRY" else "",
        linked=link is not None and project.config.alerts.is_linked,
    )
    return Outgoing(alert, title, text, source, link, _image(project, grid, alert, simulated))


LINK_SECONDS = 86_400.0
"""How long the link of a message lets somebody in."""


def _link(project: Project, alert: Alert, source: str) -> str | None:
    """Where to read on, with what lets whoever opens it first in. Never worth losing the message for."""
    address, code = project.config.alerts.link, None
    # What is held back, or only goes to the log, is opened by nobody.
    if address is not None and alert.status == "PENDING" and is_real(source):
        try:
            code = Access(project.data).new_code(None, LINK_SECONDS)
        except Exception:
            logger.exception("the link of an alert lets nobody in")
    return message.url(alert.kind, address, alert.grid_id, code)


def _of(rows: pl.DataFrame, grid_id: str) -> dict[str, Any] | None:
    mine = rows.filter(pl.col("grid_id") == grid_id)
    return mine.row(0, named=True) if mine.height else None


def _costs(project: Project, grid: GridConfig, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What leaving costs at the bar that is told of. Never worth losing the message for."""
    try:
        return costs_at(project, grid, row["as_of"])
    except Exception:
        logger.exception("%s: no cost of leaving for the alert", grid.id)
        return []


def _added(project: Project, grid: GridConfig, row: dict[str, Any]) -> str:
    """What a waiting grid would add to the bad night. Never worth losing the message for."""
    try:
        return added_by(project, row["as_of"], [grid.id]).get(grid.id, "")
    except Exception:
        logger.exception("%s: what it would add is not known for the alert", grid.id)
        return ""


def _image(project: Project, grid: GridConfig, alert: Alert, simulated: bool) -> bytes | None:
    """The picture for the phone. Never worth losing the message for."""
    if simulated or alert.status != "PENDING":
        return None
    try:
        return grid_picture(project, grid, floor_bar(alert.as_of))
    except Exception:
        logger.exception("%s: no picture for the alert", grid.id)
        return None


def notify_failures(
    project: Project, failed: Sequence[tuple[str, str]], key: str, symbols: Sequence[str] = (), *, kind: str = "FAILURE"
) -> int:
    """Notes and sends that assets have failed, or that a plan to leave a grid ended, each once.

    Args:
        project: where the ledger is.
        failed: asset and the first line of the error.
        key: names the failure, like the run's id.
        symbols: the markets that the run was narrowed to; none named: all of the configuration.
        kind: FAILURE or EXIT.

    Returns:
        How many alerts were noted.
    """
    concerning = []
    for asset, line in failed:
        if project.config.is_real and _concerns_no_exchange(project, line, symbols):
            # Beside real markets it is worth a line of the log, and no row that a real channel could ever be given.
            logger.error("%s failed, which concerns no exchange: %s", asset, line)
        else:
            concerning.append((asset, line))
    ledger = LakeLedger(project, key)
    source, at = project.config.kind, project.venues.real_clock()
    with project.locks.of("alerts"):
        found = []
        for asset, line in concerning:
            alert = failures.failure(key, asset, line, at, ledger.read(), kind=kind)
            if alert is not None:
                found.append(alert)
        admitted = budget.admit(found, _counted(project, is_real(source)), at, project.config.alerts)
        prefix = "" if is_real(source) else f"{kind_of(source).upper()} "
        outgoing = []
        for alert in admitted:
            title, text = message.failure(alert, project.config.alerts.timezone)
            outgoing.append(Outgoing(alert, f"{prefix}{title}", text, source, _link(project, alert, source)))
        channel, second = two_channels(project)
        dispatch(outgoing, ledger=ledger, channel=channel, second=second, clock=project.venues.real_clock)
    return len(admitted)


def _concerns_no_exchange(project: Project, line: str, symbols: Sequence[str]) -> bool:
    """Whether a failure is one of simulated or recorded markets only: of the run's, or of those that it names."""
    config = project.config
    real = {symbol for symbol in config.symbols if project.config.market(symbol).is_real}
    if symbols:
        return real.isdisjoint(symbols)
    found = re.split(r"[^\w./-]+", line)
    words = {*found, *(word.rstrip(".") for word in found), *(word.rpartition("/")[2] for word in found)}
    named = {symbol for symbol in config.symbols if symbol in words}
    named |= {grid.symbol for grid in config.grids if grid.id in words}
    named |= {symbol for symbol in config.symbols if config.market(symbol).venue in words}
    return bool(named) and real.isdisjoint(named)


def notify_troubles(project: Project, lasted: timedelta = timedelta(0)) -> int:
    """Notes and sends what is wrong with the configuration and the environment, each once.

    Args:
        project: what is wrong with it.
        lasted: how long a trouble of the folder must have been there.

    Returns:
        How many alerts were noted.
    """
    now, notified = project.now(), 0
    for trouble in project.troubles:
        if trouble.since is None or now - trouble.since >= lasted:
            # The same trouble has one name for all processes: who looks twice finds one alert.
            name = f"{trouble.part} {iso(trouble.since) if trouble.since else ''}"
            notified += notify_failures(project, [(trouble.part, trouble.sentence)], name)
    return notified


NOTIFIED_BY_ITSELF = "configuration_is_valid"
"""The check whose reasons are sent even when no tick runs; see `notify_troubles`."""


def notify_checks(
    project: Project, failed: Sequence[tuple[str, str, str]], key: str, symbols: Sequence[str] = ()
) -> int:
    """Notes and sends that checks did not pass, each failure once, and what is wrong with the configuration.

    Args:
        project: where the ledger is.
        failed: asset, check, and what it says.
        key: names the failure, like the run's id.
        symbols: the markets that the run was narrowed to; none named: all of the configuration.

    Returns:
        How many alerts were noted.
    """
    notified = notify_troubles(project)
    # Details in brackets change from tick to tick; the same failure is sent once.
    lines = [
        (f"{asset}, {check}", says.partition(" (")[0]) for asset, check, says in failed if check != NOTIFIED_BY_ITSELF
    ]
    return notified + (notify_failures(project, lines, key, symbols) if lines else 0)


def give_sign_of_life(project: Project) -> str | None:
    """Calls the heartbeat's address, if there is one; what went wrong in a sentence, since it never fails a tick."""
    heart = project.config.alerts.heartbeat
    if heart is None:
        return None
    url = environment.secret(heart.url_env)
    missed = beat(url) if url else f"the variable {heart.url_env} is not set"
    return f"alerts.yaml: heartbeat: {missed}" if missed else None


def try_channels(project: Project) -> pl.DataFrame:
    """Sends a test message to each channel that there are credentials for, and says what came back.

    Returns:
        Rows of `notification`, one for each channel.
    """
    ledger, now = LakeLedger(project, "alert-test"), project.venues.real_clock()
    tried = []
    with project.locks.of("alerts"):
        for one in each_channel(project):
            before = ledger.read().filter(pl.col("kind") == "TEST").height
            alert = failures.trial(one.name, now, before)
            outgoing = Outgoing(alert, *message.trial(alert, project.config.alerts.timezone), "ccxt")
            tried.append(dispatch([outgoing], ledger=ledger, channel=one, clock=project.venues.real_clock))
    return pl.concat(tried) if tried else empty("notification")


def follow_receipts(project: Project) -> int:
    """Asks what became of the emergencies that may still ring; returns how many there are."""
    (channel, second), ledger = two_channels(project), LakeLedger(project, "receipts")
    waiting = receipts.open_receipts(ledger.read()).height
    if channel is not None and waiting:
        with project.locks.of("alerts"):
            said = project.lake.read("operator_response")
            receipts.poll(ledger, channel, project.venues.real_clock, second, said)
    return waiting
