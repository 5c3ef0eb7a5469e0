"""What terminal, report and live page show, gathered from the lake: all say the same of the same moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mm_dagster.alerts.responses import answers_of
from mm_dagster.bars import BAR, DAY_BARS, FIRST_DAY, Span, floor_bar, iso
from mm_dagster.history.lake import Lake
from mm_dagster.pages.grid import GridOnPage, Row, by_urgency, grid_on_page
from mm_dagster.pages.lines import lines
from mm_dagster.pages.page import DAY, MarketOnPage, Page, with_responses
from mm_dagster.pages.portfolio import NightOnPage, night_on_page
from mm_dagster.pictures.extent import stretches
from mm_dagster.pipeline.episodes import price_ticks
from mm_dagster.pipeline.setup import unfinished
from mm_dagster.pipeline.together import added_by, limit_of_the_night, together, weeks
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster.tables.registry import empty
from mm_dagster.tables.words import ENTRY_ADVICE

if TYPE_CHECKING:
    from mm_dagster.pictures.drawings import Drawing
    from mm_dagster.pipeline.project import Project


def page(project: Project, clock: datetime, *, looked_up: bool = False, days: int = 7) -> Page:
    """Where everything stands at a moment.

    Args:
        project: the configuration and the lake.
        clock: the moment, UTC.
        looked_up: whether it was asked for; else it is the present.
        days: how far alerts and the shares of the verdicts reach back from the newest decision.
    """
    config, lake = project.config, project.lake
    alerts = with_responses(lake.read("notification"), lake.read("operator_response"), clock)
    grids = by_urgency(_grids(project, clock, alerts, Span(FIRST_DAY, floor_bar(clock)), looked_up=looked_up))
    newest = max((one.as_of for one in grids if one.as_of), default=clock)
    # Bars close at quarter hours: a question that names the last one is the same question for all of a quarter hour.
    ticks = lake.sql(f"SELECT max(as_of) AS newest FROM tick WHERE as_of <= '{iso(floor_bar(clock))}'")["newest"][0]
    tick = lake.read("tick", span=Span(ticks - BAR, ticks)).row(0, named=True) if ticks else None
    return Page(
        clock=clock,
        looked_up=looked_up,
        days=days,
        stale_after=timedelta(minutes=config.alerts.blind_after_minutes),
        grids=grids,
        markets=_markets(project, clock, newest, days),
        tick=tick,
        alerts=tuple(row for row in alerts if row["created_at"] > newest - days * DAY or row["status"] == "PENDING"),
        lines=lines(project, clock),
        waiting=_waiting(project),
        config_error=project.config_error,
        vanished=tuple(project.vanished),
        timezone=config.alerts.timezone,
    )


def at_bar(project: Project, as_of: datetime) -> tuple[GridOnPage, ...]:
    """What one quarter hour decided of each grid, in the order of the configuration, and nothing older."""
    alerts = with_responses(project.lake.read("notification"), project.lake.read("operator_response"), as_of)
    return tuple(_grids(project, as_of, alerts, Span(as_of - BAR, as_of)))


def _grids(
    project: Project, clock: datetime, alerts: Sequence[Any], window: Span, *, looked_up: bool = False
) -> list[GridOnPage]:
    """Each grid by its newest decision within a window."""
    lake, grids = project.lake, project.config.grids
    decisions = {
        table: _last(lake, table, [grid.id for grid in grids if grid.enabled == enabled], window)
        for table, enabled in (("exit_state", True), ("entry_assessment", False))
    }
    judged = {name for rows in decisions.values() for name in rows["grid_id"]}
    times = sorted({time for rows in decisions.values() for time in rows["as_of"]})
    spans = [Span(time - BAR, time) for time in times]
    risks = [lake.read("grid_risk", span=span) for span in spans]
    # Where the decision itself is missing its figures may be there.
    left = _last(lake, "grid_risk", [grid.id for grid in grids if grid.id not in judged], window)
    spans += [Span(time - BAR, time) for time in sorted(set(left["as_of"]) - set(times))]
    verdicts = [lake.read("regime_verdict", span=span) for span in spans]
    costs = pl.concat([*(lake.read("exit_cost", span=span) for span in spans), empty("exit_cost")])
    done = lake.read("operator_response").filter(pl.col("at") <= clock)
    answers = answers_of(done, lake.read("notification"))
    running = [grid for grid in grids if grid.enabled]
    ticks = price_ticks(lake)
    waits_for = unfinished(project, running, decisions["exit_state"], clock, looked_up=looked_up)
    found = [
        grid_on_page(
            grid,
            project.config.market(grid.symbol).is_simulated,
            decisions["exit_state" if grid.enabled else "entry_assessment"],
            pl.concat([*risks, left]) if grid.id in judged else left,
            pl.concat([*verdicts, empty("regime_verdict")]),
            alerts,
            clock,
            project.config.alerts,
            answers.get((grid.id, grid.activated_at)),
            waits_for.get(grid.id),
            ticks.get((grid.id, grid.activated_at)),
            costs,
        )
        for grid in grids
    ]
    return _with_additions(project, found)


def _with_additions(project: Project, found: list[GridOnPage]) -> list[GridOnPage]:
    """The grids that are advised to be started or watched with what they would add to the bad night."""
    advised = [one for one in found if not one.grid.enabled and not one.stale and one.state in ENTRY_ADVICE[1:]]
    said: dict[str, str] = {}
    for time in sorted({one.as_of for one in advised if one.as_of}):
        said |= added_by(project, time, [one.grid.id for one in advised if one.as_of == time])
    return [replace(one, added=said.get(one.grid.id)) for one in found]


def _last(lake: Lake, table: str, grids: Sequence[str], window: Span) -> pl.DataFrame:
    """The newest row of each of these grids within a window; only the bars at which there is one are read."""
    if not grids:
        return empty(table)
    newest = lake.sql(
        f"SELECT grid_id, max(as_of) AS as_of FROM {table} "
        f"WHERE {lake.in_force(table)} "
        f"AND as_of > '{iso(window.start)}' AND as_of <= '{iso(window.end)}' GROUP BY grid_id"
    ).filter(pl.col("grid_id").is_in(list(grids)))
    found = [empty(table)]
    for time in sorted(set(newest["as_of"])):
        names = newest.filter(pl.col("as_of") == time)["grid_id"].to_list()
        found.append(lake.read(table, span=Span(time - BAR, time), grids=names))
    return pl.concat(found)


def _markets(project: Project, clock: datetime, newest: datetime, days: int) -> tuple[MarketOnPage, ...]:
    lake, config = project.lake, project.config
    until = iso(floor_bar(clock))
    bars = lake.sql(
        f"WITH seen AS (FROM candles WHERE {lake.in_force('candles')}), "
        "last AS (SELECT symbol, max(close_time) AS row_until, "
        "max(close_time) FILTER (status <> 'MISSING') AS known_until, "
        "max(close_time) FILTER (status = 'TRADED') AS traded_until "
        f"FROM seen WHERE close_time <= '{until}' GROUP BY symbol) "
        "SELECT symbol, known_until, row_until, traded_until, count(*) FILTER (c.status <> 'MISSING') AS known, "
        "count(*) FILTER (c.status = 'NO_TRADE' AND c.close_time > traded_until) AS quiet FROM last l JOIN seen c "
        f"USING (symbol) WHERE c.close_time > l.row_until - INTERVAL 1 DAY AND c.close_time <= '{until}' GROUP BY ALL"
    )
    known = {row["symbol"]: row for row in bars.iter_rows(named=True)}
    quarantined = _quarantined(lake, clock)
    begins = _begins(project, clock)
    said = lake.sql(
        f"SELECT symbol, verdict, count(*) AS bars FROM regime_verdict "
        f"WHERE {lake.in_force('regime_verdict')} AND as_of > '{iso(newest - days * DAY)}' "
        f"AND as_of <= '{iso(newest)}' GROUP BY ALL"
    )
    last = lake.read("regime_verdict", span=Span(floor_bar(newest) - BAR, floor_bar(newest)))
    stale_after = timedelta(minutes=config.alerts.blind_after_minutes)
    found = []
    for symbol in config.symbols:
        row = known.get(symbol)
        time = row["known_until"] if row else None
        mine = said.filter(pl.col("symbol") == symbol)
        total = mine["bars"].sum()
        found.append(
            MarketOnPage(
                symbol=symbol,
                simulated=project.config.market(symbol).is_simulated,
                newest=time,
                stale=time is None or clock - time >= stale_after,
                missing=DAY_BARS - row["known"] if row else DAY_BARS,
                quarantined=quarantined.get(symbol, 0),
                verdict=next(iter(last.filter(pl.col("symbol") == symbol).to_dicts()), None),
                quiet_since=row["traded_until"] if row and row["quiet"] and _is_long(row) else None,
                kept_from=begins.get(symbol),
                judged_from=begins[symbol] + WARMUP_BARS * BAR if symbol in begins else None,
                shares={verdict: count / total for _, verdict, count in mine.iter_rows()},
            )
        )
    return tuple(found)


def _quarantined(lake: Lake, clock: datetime) -> dict[str, int]:
    """By market how many rows were put aside in the 24 hours before a moment."""
    first, last = floor_bar(clock - DAY), floor_bar(clock) + BAR
    seen = lake.sql(
        f"SELECT symbol, observed_at FROM quarantine WHERE {lake.in_force('quarantine')} "
        f"AND observed_at > '{iso(first)}' AND observed_at <= '{iso(last)}'"
    )
    lately = seen.filter(pl.col("observed_at") > clock - DAY, pl.col("observed_at") <= clock)
    return dict(lately.group_by("symbol").agg(pl.len()).iter_rows())


def _is_long(row: Mapping[str, Any]) -> bool:
    quiet: timedelta = row["row_until"] - row["traded_until"]
    return quiet >= timedelta(hours=1)


def _begins(project: Project, clock: datetime) -> dict[str, datetime]:
    """By market the first bar that its venue keeps, where it showed that, until what follows from it is past."""
    holes = project.lake.read("candle_hole", symbols=project.config.symbols).filter(pl.col("due_at").is_null())
    begins = dict(holes.group_by("symbol").agg(pl.col("until").max()).iter_rows())
    return {symbol: begin for symbol, begin in begins.items() if begin + WARMUP_BARS * BAR > clock - _REMARKED}


_REMARKED = timedelta(days=30)
"""How long after a market is fully judged it is still said since when."""


def _waiting(project: Project) -> int | str | None:
    if project.config.history.mirror.remote is None:
        return None
    # Imported here because without a remote nobody needs git.
    from mm_dagster.history.mirror import MirrorError

    try:
        return project.mirror.waiting()
    except MirrorError as error:
        return str(error)


def drawn_together(project: Project, found: Page) -> tuple[NightOnPage, ...]:
    """What all grids may lose together, a drawing of each quote currency in which a grid runs."""
    # Imported here because charts load matplotlib, and few commands draw.
    from mm_dagster.pictures.drawings import draw_together

    shown = [one for one in together(project, found.clock) if one.risk["grids"]]
    if not shown:
        return ()
    until = shown[0].risk["as_of"]
    days = max(found.days, _NIGHT_DAYS)
    risks, came = weeks(project, until, days)
    drawn = []
    for one in shown:
        quote = pl.col("quote") == one.risk["quote"]
        of_quote = risks.filter(quote)
        # A portfolio that began lately is no thin strip at the edge.
        first = max(until - days * DAY, of_quote["as_of"].min() - BAR)  # type: ignore[operator]
        limit = limit_of_the_night(one, project.config.portfolio)
        drawing = draw_together(of_quote, came.filter(quote), limit, one.risk["capital"], Span(first, until))
        drawn.append(night_on_page(one, drawing, project.config.portfolio, only=len(shown) == 1))
    return tuple(drawn)


_NIGHT_DAYS = 28
"""How far back the drawing of all grids reaches at least."""


def drawn(project: Project, found: Page) -> dict[str, tuple[Drawing | None, Drawing | None]]:
    """For each grid the drawing of its decisions and that of its money, over the page's days."""
    # Imported here because charts load matplotlib, and few commands draw.
    from mm_dagster.pictures.drawings import draw_decision, draw_equity

    until = floor_bar(found.as_of or found.clock)
    span = Span(until - found.days * DAY, until)
    grids = [one.grid for one in found.grids]
    symbols, names = sorted({grid.symbol for grid in grids}), [grid.id for grid in grids]
    lake = project.lake
    bars = lake.read("candles", span=span, symbols=symbols, columns=["symbol", "open_time", "low", "high", "close"])
    verdicts = lake.read("regime_verdict", span=span, symbols=symbols, columns=["symbol", "as_of", "verdict"])
    key = ["grid_id", "activated_at", "as_of"]
    states = lake.read("exit_state", span=span, grids=names, columns=[*key, "state"])
    parts = ["grid_profit", "exit_pnl", "unrealised_pnl", "total_pnl"]
    risks = lake.read("grid_risk", span=span, grids=names, columns=[*key, *parts])
    return {
        grid.id: (
            draw_decision(grid, bars, verdicts, states, span),
            draw_equity(grid, risks, span) if grid.enabled else None,
        )
        for grid in grids
    }


def stays(project: Project, one: GridOnPage, found: Page) -> tuple[Row, ...]:
    """The states that a grid was in over the page's days, newest first.

    Each has `state`, `since`, `until`, `price` and `total_pnl` of when it began, and `is_cut`: it began before."""
    until = floor_bar(found.as_of or found.clock)
    span, names = Span(until - found.days * DAY, until), [one.grid.id]
    of_episode = pl.col("activated_at") == one.grid.activated_at
    states, risks = (
        project.lake.read(table, span=span, grids=names, columns=["activated_at", "as_of", *columns]).filter(of_episode)
        for table, columns in (("exit_state", ["state"]), ("grid_risk", ["price", "total_pnl"]))
    )
    risk = {row.pop("as_of"): row for row in risks.drop("activated_at").to_dicts()}
    unknown = {"price": None, "total_pnl": None}
    return tuple(
        {"state": state, "since": start + BAR, "until": end, "is_cut": start <= span.start}
        | risk.get(start + BAR, unknown)
        for start, end, state in reversed(stretches(states.drop_nulls("state"), "state"))
    )


def responses(project: Project, one: GridOnPage, clock: datetime) -> tuple[Row, ...]:
    """What was done about a grid, in all its episodes by a moment, newest first."""
    known = project.lake.read("operator_response").filter(pl.col("grid_id") == one.grid.id, pl.col("at") <= clock)
    return tuple(known.sort("at", "response_id", descending=True).to_dicts())


def leaving_plan(project: Project, one: GridOnPage, clock: datetime) -> tuple[str, ...]:
    """How to leave a grid, in sentences; none where there is nothing to leave."""
    # Imported here because only this page plans.
    from mm_dagster.pages.exit_plan import sentences
    from mm_dagster.pipeline.book_answers import said_of_books
    from mm_dagster.pipeline.leave import NoPlan, plan_of

    if not one.grid.enabled or one.stopped or one.stale:
        return ()
    try:
        plan = plan_of(project, one.grid.id, clock, None).plan
    except NoPlan:
        return ()
    of_books = said_of_books(project, one.grid.symbol, clock)
    return tuple(sentences(plan, project.config.alerts.timezone, one.price_tick, of_books))


def outcomes(project: Project) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """What came after each alert, newest first, and the own hit rate of each state.

    They are stored once a day; what has none yet is counted now.
    """
    # Imported here because what evaluates loads much that `mm status` does not need.
    from mm_dagster.pipeline.outcomes import by_level, outcomes_of

    stored = project.lake.read("alert_outcome")
    rows = outcomes_of(project) if stored.is_empty() else stored
    return tuple(rows.sort("as_of", "grid_id", descending=True).to_dicts()), tuple(by_level(project, rows))


def ticks(project: Project, clock: datetime) -> tuple[Row, ...]:
    """The ticks of the 24 hours before a moment, oldest first."""
    until = floor_bar(clock)
    return tuple(project.lake.read("tick", span=Span(until - DAY, until)).sort("as_of").to_dicts())


def channels(project: Project, clock: datetime) -> tuple[Row, ...]:
    """What became of the messages of seven days on each channel: sent, refused, acknowledged, and the last."""
    rows = project.lake.read("notification").filter(
        pl.col("created_at").is_between(clock - 7 * DAY, clock), pl.col("status").is_in(["SENT", "FAILED", "PENDING"])
    )
    refused = pl.col("status") == "FAILED"
    counted = rows.sort("created_at").group_by("channel").agg(
        sent=(pl.col("status") == "SENT").sum(),
        refused=refused.sum(),
        waiting=(pl.col("status") == "PENDING").sum(),
        acknowledged=pl.col("acknowledged_at").is_not_null().sum(),
        sent_at=pl.col("sent_at").max(),
        said=pl.col("detail").filter(refused).last(),
    )  # fmt: skip
    return tuple(counted.sort("channel", nulls_last=True).to_dicts())
