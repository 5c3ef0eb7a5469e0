"""What the lake says at one moment, as named figures: a few queries over the newest rows, and no Prometheus."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from mm_dagster.alerts.pending import is_answered
from mm_dagster.alerts.responses import Answers, answers_of
from mm_dagster.alerts.seen import look
from mm_dagster.bars import BAR, iso
from mm_dagster.books.book import BP
from mm_dagster.config.sources import kind_of
from mm_dagster.pages.grid import STOPPED
from mm_dagster.tables.registry import STAGES
from mm_dagster.tables.words import NOT_JUDGED_YET, STATES

if TYPE_CHECKING:
    from mm_dagster.config.grid import GridConfig
    from mm_dagster.history.lake import Lake
    from mm_dagster.pipeline.project import Project

Row = Mapping[str, Any]

DAY = timedelta(days=1)
COMMITS = 500
"""Commits that are looked through for those of the newest tick; it makes some thirty."""


class Reading(NamedTuple):
    """One sample.

    Attributes:
        name: of the series, see series.py.
        labels: their values, in its order.
        value: the figure; None: not known, and not exported; of a histogram what was observed.
    """

    name: str
    labels: tuple[str, ...]
    value: float | Sequence[float] | None


def readings(project: Project) -> Iterator[Reading]:
    """Everything that the lake and the configuration say now.

    Raises:
        ForeseenError: one of them cannot be read.
    """
    clock, lake = project.now(), project.lake
    yield Reading("mm_config_valid", (), float(project.config_error is None))
    yield Reading("mm_config_vanished", (), len(project.vanished))
    ledger = lake.read("notification", columns=_OF_LEDGER)
    responses = lake.read("operator_response")
    yield from _grids(project, clock, ledger, answers_of(responses, ledger))
    yield from _markets(project, clock)
    commits = lake.newest_commits(COMMITS)
    yield from _ticks(lake, clock, commits)
    yield from _alerts(lake, clock, ledger, responses)
    yield from _portfolio(project)
    yield from _bots(project, clock)
    yield from _kept(project, commits)


_OF_LEDGER = (
    "alert_id", "grid_id", "activated_at", "kind", "status", "created_at", "sent_at", "acknowledged_at", "source",
)  # fmt: skip
_OF_STATE = ("grid_id", "activated_at", "as_of", "state", "live_state", "since", "never_known")
_OF_RISK = {
    "p_break_low_24h": "mm_grid_p_break_low_24h_ratio",
    "total_pnl": "mm_grid_total_pnl_quote",
    "grid_profit": "mm_grid_profit_quote",
    "exit_pnl": "mm_grid_exit_pnl_quote",
    "unrealised_pnl": "mm_grid_unrealised_pnl_quote",
    "capital_at_risk": "mm_grid_at_risk_quote",
}


# grids ----------------------------------------------------------------------------------------------------------------


def _grids(project: Project, clock: datetime, ledger: pl.DataFrame, answers: Answers) -> Iterator[Reading]:
    running = [grid for grid in project.config.grids if grid.enabled]
    if not running:
        return
    lake = project.lake
    names = ", ".join(f"'{grid.id}'" for grid in running)  # names of the configuration hold no quote
    states = lake.sql(
        f"WITH seen AS (SELECT {', '.join(_OF_STATE)} FROM exit_state WHERE {lake.in_force('exit_state')} "
        f"AND grid_id IN ({names})), newest AS MATERIALIZED (SELECT grid_id, activated_at, max(as_of) AS as_of "
        "FROM seen GROUP BY ALL) FROM newest JOIN seen USING (grid_id, activated_at, as_of)"
    )
    of_grid = {(row["grid_id"], row["activated_at"]): row for row in states.iter_rows(named=True)}
    shown = [row for grid in running if (row := of_grid.get((grid.id, grid.activated_at)))]
    risks = {_key(row): row for row in _at(lake, "grid_risk", [*_OF_RISK], shown)}
    costs: dict[Any, list[Row]] = {}
    of_cost = ["horizon_minutes", "notional", "expected_bp", "live_expected_bp", "beyond_model", "chosen"]
    for row in _at(lake, "exit_cost", of_cost, shown):
        costs.setdefault(_key(row), []).append(row)
    for grid in running:
        labels = (grid.id, grid.symbol, grid.symbol.partition("-")[2], project.config.market(grid.symbol).kind)
        answer = answers.get((grid.id, grid.activated_at))
        state = of_grid.get((grid.id, grid.activated_at))
        yield Reading("mm_grid_capital_quote", labels, grid.capital)
        yield from _state(project, grid, labels, states, clock, answer)
        yield Reading("mm_grid_unanswered_seconds", labels, _unanswered(grid, ledger, answer, clock))
        if state is None:
            continue
        yield Reading("mm_grid_decision_age_seconds", labels, _seconds(clock - state["as_of"]))
        risk = risks.get(_key(state), {})
        yield from (Reading(name, labels, risk.get(column)) for column, name in _OF_RISK.items())
        for cost in costs.get(_key(state), []):
            yield from _cost(cost, labels)


def _at(lake: Lake, table: str, columns: Iterable[str], states: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of a table at the bars of the newest decisions: only of these is anything read."""
    times = ", ".join(f"'{iso(time)}'" for time in sorted({row["as_of"] for row in states}))
    if not times:
        return []
    return lake.sql(
        f"SELECT grid_id, activated_at, as_of, {', '.join(columns)} FROM {table} "
        f"WHERE {lake.in_force(table)} AND as_of IN ({times})"
    ).to_dicts()


def _key(row: Row) -> tuple[Any, ...]:
    return row["grid_id"], row["activated_at"], row["as_of"]


def _state(
    project: Project,
    grid: GridConfig,
    labels: tuple[str, ...],
    states: pl.DataFrame,
    clock: datetime,
    answer: Row | None,
) -> Iterator[Reading]:
    """The state as the pages have it: what the operator says goes before what the rows say."""
    if answer is not None and answer["action"] == "stopped":
        now, since, stale = STOPPED, answer["at"], False
    else:
        seen = look(grid, states, clock, project.config.alerts)
        now, since, stale = seen.state or NOT_JUDGED_YET, seen.since if seen.state else None, seen.blind
    for state in (*STATES, NOT_JUDGED_YET, STOPPED):
        yield Reading("mm_grid_state", (*labels, state), float(state == now))
    yield Reading("mm_grid_stale", labels, float(stale))
    yield Reading("mm_grid_state_age_seconds", labels, _seconds(clock - since) if since else None)


def _unanswered(grid: GridConfig, ledger: pl.DataFrame, answer: Row | None, clock: datetime) -> float:
    """Since its last escalation was sent, while nobody answered or acknowledged it; 0: there is none such."""
    sent = ledger.filter(
        pl.col("grid_id") == grid.id,
        pl.col("activated_at") == grid.activated_at,
        pl.col("kind") == "ESCALATION",
        pl.col("status") == "SENT",
    ).sort("created_at")
    if sent.is_empty():
        return 0.0
    last = sent.row(-1, named=True)
    if last["acknowledged_at"] is not None or (answer is not None and is_answered(last, answer)):
        return 0.0
    return _seconds(clock - (last["sent_at"] or last["created_at"]))


def _cost(row: Row, labels: tuple[str, ...]) -> Iterator[Reading]:
    """What leaving costs over one horizon, by the book where one was read; none where the model promises nothing."""
    if row["chosen"]:
        yield Reading("mm_grid_exit_plan_seconds", labels, 60 * row["horizon_minutes"])
    modelled = None if row["beyond_model"] else row["expected_bp"]
    bp = modelled if row["live_expected_bp"] is None else row["live_expected_bp"]
    if bp is not None:
        minutes = (*labels, str(row["horizon_minutes"]))
        yield Reading("mm_grid_exit_cost_ratio", minutes, bp * BP)
        if row["notional"] is not None:
            yield Reading("mm_grid_exit_cost_quote", minutes, bp * BP * row["notional"])


# markets and ticks ----------------------------------------------------------------------------------------------------


def _markets(project: Project, clock: datetime) -> Iterator[Reading]:
    newest = project.lake.newest("candles", known=True)
    for market in project.config.watched:
        opened = newest.get(market.symbol)
        age = _seconds(clock - opened - BAR) if opened else None
        yield Reading("mm_candle_age_seconds", (market.symbol, market.venue, market.kind), age)


def _ticks(lake: Lake, clock: datetime, commits: pl.DataFrame) -> Iterator[Reading]:
    ticks = lake.read("tick", columns=["as_of", "started_at", "finished_at", "symbols_ok", "symbols_failed"])
    if ticks.is_empty():
        return
    newest = ticks.row(-1, named=True)
    yield Reading("mm_tick_markets", ("true",), len(newest["symbols_ok"]))
    yield Reading("mm_tick_markets", ("false",), len(newest["symbols_failed"]))
    of_day = ticks.filter(pl.col("as_of") > clock - DAY)["finished_at"]
    yield Reading("mm_ticks_of_day", ("true",), len(of_day) - of_day.null_count())
    yield Reading("mm_ticks_of_day", ("false",), of_day.null_count())
    finished = ticks.drop_nulls("finished_at").sort("finished_at")
    if finished.is_empty():
        return
    last = finished.row(-1, named=True)
    yield Reading("mm_tick_age_seconds", (), _seconds(clock - last["finished_at"]))
    yield Reading("mm_tick_duration_seconds", (), _seconds(last["finished_at"] - last["started_at"]))
    for stage, seconds in stage_seconds(commits, last["as_of"]).items():
        yield Reading("mm_tick_stage_duration_seconds", (stage,), seconds)


def stage_seconds(commits: pl.DataFrame, as_of: datetime) -> dict[str, float]:
    """How long each room of the flow took in a tick: from the commit before to its own, over all of its commits.

    The lake keeps no other times of stages. What lies between two commits, such as a picture, counts for the latter.

    Args:
        commits: see `Lake.newest_commits`.
        as_of: the tick; of one that ran twice the later run counts.
    """
    its_own = (pl.col("asset") == "tick") & pl.col("span").str.ends_with(f" {iso(as_of)}")
    runs = commits.filter(its_own & (pl.col("run_id") != ""))["run_id"]
    if runs.is_empty():
        return {}
    mine = commits.filter(run_id=runs[-1]).with_columns(took=pl.col("at").diff().dt.total_microseconds() / 1e6)
    found: dict[str, float] = {}
    for asset, took in mine.drop_nulls("took").select("asset", "took").iter_rows():
        if asset in STAGES:
            found[STAGES[asset].group] = found.get(STAGES[asset].group, 0.0) + took
    return found


# messages -------------------------------------------------------------------------------------------------------------


def _alerts(lake: Lake, clock: datetime, ledger: pl.DataFrame, responses: pl.DataFrame) -> Iterator[Reading]:
    kinds = ledger.with_columns(source_kind=_kind_in("source"))
    for *labels, number in kinds.group_by("kind", "status", "source_kind").len().sort(pl.all()).iter_rows():
        yield Reading("mm_alerts", tuple(labels), number)
    waits = ledger.filter(status="PENDING")["created_at"].min()
    yield Reading("mm_alert_pending_seconds", (), _seconds(clock - waits) if isinstance(waits, datetime) else 0.0)
    events = lake.sql(
        "SELECT event, coalesce(channel, 'none') AS channel, count(*) AS number FROM alert_event GROUP BY ALL ORDER BY ALL"
    )
    for *labels, number in events.iter_rows():
        yield Reading("mm_alert_events", tuple(labels), number)
    answered = responses.drop_nulls("seconds_from_alert").join(kinds, on="alert_id")
    for source_kind in sorted(set(kinds["source_kind"])):
        took = answered.filter(source_kind=source_kind)["seconds_from_alert"].to_list()
        yield Reading("mm_response_seconds", (source_kind,), took)


def _kind_in(column: str) -> pl.Expr:
    """ccxt, recorded or simulated, of a source; what has none is of before rows told it."""
    return pl.col(column).fill_null("unknown").map_elements(kind_of, return_dtype=pl.String)


# all grids together ---------------------------------------------------------------------------------------------------

_OF_PORTFOLIO = {
    "grids": ("mm_portfolio_grids",),
    "capital": ("mm_portfolio_capital_quote",),
    "total_pnl": ("mm_portfolio_total_pnl_quote",),
    "var_5_24h": ("mm_portfolio_var_24h_quote", "0.05"),
    "var_1_24h": ("mm_portfolio_var_24h_quote", "0.01"),
    "es_5_24h": ("mm_portfolio_es_24h_quote", "0.05"),
    "es_1_24h": ("mm_portfolio_es_24h_quote", "0.01"),
    "p_any_break_24h": ("mm_portfolio_p_any_break_24h_ratio",),
    "drawdown": ("mm_portfolio_drawdown_quote",),
}


def _portfolio(project: Project) -> Iterator[Reading]:
    lake, kind = project.lake, project.config.kind
    for row in _newest(lake, "portfolio_risk", [*_OF_PORTFOLIO, "equity", "live_equity"]):
        labels = (row["quote"], kind)
        for column, (name, *tail) in _OF_PORTFOLIO.items():
            yield Reading(name, (*labels, *tail), row[column])
        equity = row["live_equity"] if row["equity"] is None else row["equity"]
        yield Reading("mm_portfolio_equity_quote", labels, equity)
    for row in _newest(lake, "limit_state", ['"limit"', "subject", "value", "threshold", "breached"]):
        labels = (row["quote"], kind, row["limit"], row["subject"])
        yield Reading("mm_limit_breached", labels, row["breached"])
        yield Reading("mm_limit_value", labels, row["value"])
        yield Reading("mm_limit_threshold", labels, row["threshold"])


def _newest(lake: Lake, table: str, columns: Iterable[str]) -> list[dict[str, Any]]:
    """The newest rows of each quote currency."""
    return lake.sql(
        f"WITH seen AS (FROM {table} WHERE {lake.in_force(table)}), "
        "newest AS MATERIALIZED (SELECT quote, max(as_of) AS as_of FROM seen GROUP BY quote) "
        f"SELECT quote, {', '.join(columns)} FROM newest JOIN seen USING (quote, as_of) ORDER BY ALL"
    ).to_dicts()


# bots, and where it is kept -------------------------------------------------------------------------------------------


def _bots(project: Project, clock: datetime) -> Iterator[Reading]:
    lake, venues = project.lake, project.config.markets.venues
    rows = lake.sql(
        f"WITH seen AS (FROM grid_bot WHERE {lake.in_force('grid_bot')}), "
        "newest AS MATERIALIZED (SELECT venue, max(as_of) AS as_of FROM seen GROUP BY venue) "
        "SELECT venue, state, count(*) AS number, max(observed_at) AS told "
        "FROM newest JOIN seen USING (venue, as_of) GROUP BY ALL ORDER BY ALL"
    ).to_dicts()
    told = {row["venue"]: row["told"] for row in rows if row["venue"] in venues}
    for row in rows:
        if row["venue"] in venues:
            yield Reading("mm_bots", (row["venue"], row["state"], venues[row["venue"]].kind), row["number"])
    for venue, at in told.items():
        yield Reading("mm_bots_age_seconds", (venue, venues[venue].kind), _seconds(clock - at))


def _kept(project: Project, commits: pl.DataFrame) -> Iterator[Reading]:
    size = project.lake.size()
    yield Reading("mm_lake_bytes", (), size["bytes"])
    yield Reading("mm_lake_files", (), size["files"])
    if commits.height:
        yield Reading("mm_lake_snapshots", (), commits["kept"][-1])
        yield Reading("mm_lake_commits", (), commits["snapshot_id"][-1])
    yield Reading("mm_data_free_bytes", (), shutil.disk_usage(project.data).free)
    if project.config.history.mirror.remote is not None:
        yield Reading("mm_mirror_commits_waiting", (), _waiting(project))


def _waiting(project: Project) -> int | None:
    # Imported here because without a remote nobody needs git.
    from mm_dagster.history.mirror import MirrorError

    try:
        return project.mirror.glance()
    except MirrorError:
        return None


def _seconds(time: timedelta) -> float:
    return time.total_seconds()
