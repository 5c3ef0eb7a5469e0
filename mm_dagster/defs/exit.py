"""Stage 4, exit: may the grid go on, and if not, how long is left."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

import dagster as dg
import polars as pl

from mm_dagster import charts
from mm_dagster.alerts.heartbeat import beat
from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.config import GridConfig
from mm_dagster.defs.describe import glance, picture, preview
from mm_dagster.defs.partitions import LAG_BARS, Work, history_asset, in_batches, work
from mm_dagster.defs.resources import Project, Turn
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.live import advise_live
from mm_dagster.market.venue import VenueError
from mm_dagster.tables import STATES, dtypes


@history_asset(
    "exit_state",
    kinds={"polars"},
    deps=["regime_verdict", "grid_risk"],
    checks={
        "every_active_grid_is_judged": "Each active grid has a state. If not: the table `tick` has the reason; a grid "
        "that is not judged is not watched, so look at it by hand."
    },
)
def exit_state(context: dg.AssetExecutionContext, project: Project, turn: Turn) -> dg.MaterializeResult:
    """May the grid go on? NORMAL, WARNING, LATEST_ACCEPTABLE_EXIT or MANDATORY_EXIT, with every trigger and its value.

    The episode is folded from its activation at every evaluation; the state is a function of stored rows alone. What
    only a live run knows, the last price and the clock, stands beside it in live_state. `states` below is the answer of
    now, the picture the grid that most needs a look. When it is red: a grid is not judged, and so not watched.
    """
    job = work(context, project, turn)
    changed, newest = 0, []
    active = [grid for symbol in job.symbols for grid in job.grids(symbol) if grid.enabled]
    judgeable = [grid for grid in active if grid.id not in project.failures]
    spans = job.grid_spans("exit_state", judgeable) if judgeable else {}
    for span, grids in in_batches(spans):
        rows = job.stamp(_with_live(job, grids, _evaluate(job, grids, span)), "exit_state", grids)
        changed += job.write("exit_state", rows, span, grids=[grid.id for grid in grids])
        newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle_revisions()
    job.end_tick()
    _give_sign_of_life(context, job)
    shown = ["grid_id", "as_of", "state", "literal_state", "since", "recommended_window_minutes"]
    table = pl.concat(newest).select(shown) if newest else pl.DataFrame(schema=dict.fromkeys(shown, pl.String))
    judged = set(table["grid_id"])
    left_out = [grid.id for grid in active if grid.id not in judged]
    worst = max(active, key=lambda grid: _rank(table, grid.id), default=None)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": changed,
            "states": preview(table),
            **(_pictures(job, worst) if worst and worst.id in judged else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_active_grid_is_judged",
                passed=not left_out,
                severity=dg.AssetCheckSeverity.ERROR,
                description=(
                    f"No state for {', '.join(left_out)}."
                    if left_out
                    else f"All {len(active)} active grids are judged at {iso(job.window.end)}."
                ),
            )
        ],
    )


def _give_sign_of_life(context: dg.AssetExecutionContext, job: Work) -> None:
    """Calls the heartbeat's address at the end of a tick, if there is one. It never fails a tick."""
    heart = job.config.alerts.heartbeat
    if job.tick is None or heart is None:
        return
    url = os.environ.get(heart.url_env)
    missed = beat(url) if url else f"the variable {heart.url_env} is not set"
    if missed:
        context.log.warning(f"alerts.yaml: heartbeat: {missed}")


def _evaluate(job: Work, grids: list[GridConfig], span: Span) -> pl.DataFrame:
    """The rows of a span, each grid folded from the start of its episode."""
    lake = job.project.lake
    whole = Span(min(grid.first_as_of for grid in grids) - BAR, span.end).back(LAG_BARS)
    symbols = sorted({grid.symbol for grid in grids})
    key = ["symbol", "as_of"]
    bars = lake.read("candles", span=whole, symbols=symbols, columns=["symbol", *triggers.CANDLES])
    measured = lake.read("regime_features", span=whole, symbols=symbols, columns=[*key, *triggers.FEATURES])
    verdicts = lake.read("regime_verdict", span=whole, symbols=symbols, columns=[*key, *triggers.VERDICT])
    episode = ["grid_id", "activated_at", "as_of", *triggers.RISK]
    risks = lake.read("grid_risk", span=whole, grids=[grid.id for grid in grids], columns=episode)
    return ladder.compute(grids, bars, measured, verdicts, risks, span, job.config.exit)


def _with_live(job: Work, grids: list[GridConfig], rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with what only a live run knows on the newest ones; a tick of the past knows nothing live."""
    if job.tick is None:
        return rows
    columns = ["symbol", "close_time", "status"]
    symbols = [grid.symbol for grid in grids]
    recent = job.project.lake.read("candles", span=job.window, symbols=symbols, columns=columns)
    known = dict(
        recent.filter(pl.col("status") != "MISSING").group_by("symbol").agg(pl.col("close_time").max()).iter_rows()
    )
    clocks = {grid.symbol: job.project.clock(grid.symbol) for grid in grids}
    longest = timedelta(minutes=job.config.alerts.max_age_minutes)
    fresh = [grid for grid in grids if clocks[grid.symbol] - job.tick < longest]
    prices = _last_prices(job, sorted({grid.symbol for grid in fresh}))
    live = []
    for grid in fresh:
        clock, failure = clocks[grid.symbol], job.project.failures.get(grid.symbol)
        last_price = prices[grid.symbol]
        if isinstance(last_price, VenueError):
            last_price, failure = None, failure or str(last_price)
        state, reason = advise_live(
            grid,
            job.config.exit,
            clock=clock,
            newest_known=known.get(grid.symbol),
            last_price=last_price,
            failure=failure,
        )
        live.append({"grid_id": grid.id, "as_of": job.tick, "live_state": state, "live_reason": reason})
    told = pl.DataFrame(live, schema={name: dtypes("exit_state")[name] for name in _LIVE}, orient="row")
    return rows.drop("live_state", "live_reason").join(told, on=["grid_id", "as_of"], how="left").select(rows.columns)


def _last_prices(job: Work, symbols: Sequence[str]) -> dict[str, float | VenueError | None]:
    """What each market trades at now, or why that is not known; each venue is asked for all of its markets together."""

    def venue(symbol: str) -> str:
        return job.config.venue_of(symbol)[0]

    prices: dict[str, float | VenueError | None] = {}
    for _, of_venue in groupby(sorted(symbols, key=venue), key=venue):
        group = list(of_venue)
        try:
            prices |= job.project.venue(group[0]).last_prices(group)
        except VenueError as error:
            prices |= dict.fromkeys(group, error)
    return prices


_LIVE = ("grid_id", "as_of", "live_state", "live_reason")


def _rank(table: pl.DataFrame, grid_id: str) -> int:
    states = table.filter(pl.col("grid_id") == grid_id)["state"]
    return STATES.index(states[0]) if states.len() else -1


def _pictures(job: Work, grid: GridConfig) -> dict[str, dg.MarkdownMetadataValue]:
    """The grid that most needs a look: at a glance on the page itself, and whole behind a click."""
    bars = job.project.lake.read("candles", span=_shown(job.window.end), symbols=[grid.symbol])
    return {
        "at_a_glance": glance(charts.glance(grid, bars), f"{grid.id} {grid.symbol}: a week of price, grid and stop"),
        "picture": picture(
            grid_picture(job.project, grid, job.window.end, dots_per_inch=60),
            f"{grid.id}: price, grid, regime and exit states",
        ),
    }


def _shown(as_of: datetime) -> Span:
    """What the pictures show: a week."""
    return Span(floor_bar(as_of - timedelta(days=7)), as_of)


def grid_picture(project: Project, grid: GridConfig, as_of: datetime, dots_per_inch: int = 90) -> bytes:
    """The picture of one grid's week up to as_of, from the lake."""
    span = _shown(as_of)
    return charts.decision_picture(
        grid,
        project.lake.read("candles", span=span, symbols=[grid.symbol]),
        project.lake.read("regime_verdict", span=span, symbols=[grid.symbol]),
        project.lake.read("exit_state", span=span, grids=[grid.id]),
        title_prefix="SIMULATED · " if project.simulated(grid.symbol) else "",
        dots_per_inch=dots_per_inch,
    )
