"""What the lake says at one moment, as named figures: the rows of the last day are read, and no Prometheus is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from mm_dagster.alerts.pending import is_answered
from mm_dagster.alerts.responses import Answers, answers_of
from mm_dagster.alerts.seen import look
from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, iso
from mm_dagster.books.book import BP
from mm_dagster.books.sync import Phase
from mm_dagster.config.sources import kind_of
from mm_dagster.pages.grid import STOPPED
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import MarketStatus, read_status
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
    responses = lake.read("operator_response", columns=_OF_RESPONSE)
    yield from _grids(project, clock, ledger, answers_of(responses, ledger))
    yield from _markets(project, clock)
    commits = lake.newest_commits(COMMITS)
    yield from _ticks(lake, clock, commits)
    yield from _alerts(lake, clock, ledger, responses)
    yield from _portfolio(project, clock)
    yield from _bots(project, clock)
    plans = lake.read("exit_plan", columns=["plan_id", "mode", "state"])
    for mode, state, number in plans.group_by("mode", "state").len().sort("mode", "state").iter_rows():
        yield Reading("mm_exit_plans", (mode, state), number)
    if project.config.books.record:
        yield from _recorder(project, clock - project.ahead)
    yield from _kept(project, commits)


_OF_LEDGER = (
    "alert_id", "grid_id", "activated_at", "kind", "status", "created_at", "sent_at", "acknowledged_at", "source",
)  # fmt: skip
_OF_RESPONSE = ("response_id", "alert_id", "grid_id", "activated_at", "at", "action", "seconds_from_alert")
_OF_STATE = ("grid_id", "activated_at", "as_of", "state", "live_state", "since", "never_known")
_OF_COST = ("notional", "expected_bp", "live_expected_bp", "beyond_model", "chosen")
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
    states = _states(project.lake, running, clock)
    of_grid = {(row["grid_id"], row["activated_at"]): row for row in states.iter_rows(named=True)}
    shown = {_key(row) for row in of_grid.values()}
    risks = {_key(row): row for row in _lately(project.lake, "grid_risk", _OF_RISK, clock) if _key(row) in shown}
    costs: dict[Any, list[Row]] = {}
    for row in _lately(project.lake, "exit_cost", _OF_COST, clock):
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


def _states(lake: Lake, running: Sequence[GridConfig], clock: datetime) -> pl.DataFrame:
    """The newest decision of each grid, however old: only of those that have none of lately all are looked through."""
    found = _newest(lake.read("exit_state", span=_day(clock), columns=_OF_STATE), "grid_id", "activated_at")
    known = set(found.select("grid_id", "activated_at").iter_rows())
    lacking = ", ".join(f"'{grid.id}'" for grid in running if (grid.id, grid.activated_at) not in known)
    if not lacking:
        return found
    older = lake.sql(
        f"SELECT grid_id, activated_at, max(as_of) AS as_of FROM exit_state WHERE {lake.in_force('exit_state')} "
        f"AND grid_id IN ({lacking}) GROUP BY ALL"
    )
    for time in sorted(set(older["as_of"])):
        rows = lake.read("exit_state", span=Span(time - BAR, time), columns=_OF_STATE)
        found = pl.concat([found, rows.join(older, on=["grid_id", "activated_at", "as_of"], how="semi")])
    return _newest(found, "grid_id", "activated_at")


def _day(clock: datetime) -> Span:
    """The 24 hours that end now. What is older is no figure of now, and to look for it takes longer each month."""
    return Span(floor_bar(clock - DAY), ceil_bar(clock))


def _lately(lake: Lake, table: str, columns: Iterable[str], clock: datetime) -> list[dict[str, Any]]:
    """Rows of the last 24 hours."""
    return lake.read(table, span=_day(clock), columns=[*STAGES[table].key, *columns]).to_dicts()


def _newest(rows: pl.DataFrame, *of: str) -> pl.DataFrame:
    """Of the rows those with the newest as_of of each."""
    return rows.filter(pl.col("as_of") == pl.col("as_of").max().over(of))


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
    if last["acknowledged_at"] is not None or (answer is not None and is_answered(last, answer, clock)):
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
    lake = project.lake
    lately = lake.read("candles", span=_day(clock), columns=["symbol", "open_time", "status"])
    known = lately.filter(pl.col("status") != "MISSING").group_by("symbol").agg(pl.col("open_time").max())
    newest = dict(known.iter_rows())
    if not newest.keys() >= set(project.config.symbols):
        newest = lake.newest("candles", known=True)
    for market in project.config.watched:
        opened = newest.get(market.symbol)
        age = _seconds(clock - opened - BAR) if opened else None
        yield Reading("mm_candle_age_seconds", (market.symbol, market.venue, market.kind), age)


_OF_TICK = ("as_of", "started_at", "finished_at", "symbols_ok", "symbols_failed")


def _ticks(lake: Lake, clock: datetime, commits: pl.DataFrame) -> Iterator[Reading]:
    ticks = lake.read("tick", span=_day(clock), columns=_OF_TICK)
    if ticks.height:
        newest = ticks.row(-1, named=True)
        yield Reading("mm_tick_markets", ("true",), len(newest["symbols_ok"]))
        yield Reading("mm_tick_markets", ("false",), len(newest["symbols_failed"]))
    ended = ticks["finished_at"].count()
    yield Reading("mm_ticks_of_day", ("true",), ended)
    yield Reading("mm_ticks_of_day", ("false",), ticks.height - ended)
    finished = (ticks if ended else lake.read("tick", columns=_OF_TICK)).drop_nulls("finished_at").sort("finished_at")
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
    # What has no source is from before rows told it.
    kind = pl.col("source").fill_null("unknown").map_elements(kind_of, return_dtype=pl.String)
    kinds = ledger.with_columns(source_kind=kind)
    for *labels, number in kinds.group_by("kind", "status", "source_kind").len().sort(pl.all()).iter_rows():
        yield Reading("mm_alerts", tuple(labels), number)
    waits = ledger.filter(status="PENDING")["created_at"].min()
    yield Reading("mm_alert_pending_seconds", (), _seconds(clock - waits) if isinstance(waits, datetime) else 0.0)
    events = lake.sql("SELECT event, coalesce(channel, 'none'), count(*) FROM alert_event GROUP BY ALL ORDER BY ALL")
    for *labels, number in events.iter_rows():
        yield Reading("mm_alert_events", tuple(labels), number)
    answered = responses.drop_nulls("seconds_from_alert").join(kinds, on="alert_id")
    for source_kind in sorted(set(kinds["source_kind"])):
        took = answered.filter(source_kind=source_kind)["seconds_from_alert"].to_list()
        yield Reading("mm_response_seconds", (source_kind,), took)


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


def _portfolio(project: Project, clock: datetime) -> Iterator[Reading]:
    lake, kind = project.lake, project.config.kind
    columns = ["quote", "as_of", *_OF_PORTFOLIO, "equity", "live_equity"]
    for row in _newest(lake.read("portfolio_risk", span=_day(clock), columns=columns), "quote").to_dicts():
        labels = (row["quote"], kind)
        for column, (name, *tail) in _OF_PORTFOLIO.items():
            yield Reading(name, (*labels, *tail), row[column])
        equity = row["live_equity"] if row["equity"] is None else row["equity"]
        yield Reading("mm_portfolio_equity_quote", labels, equity)
    columns = ["quote", "as_of", "limit", "subject", "value", "threshold", "breached"]
    for row in _newest(lake.read("limit_state", span=_day(clock), columns=columns), "quote").to_dicts():
        limit = (row["quote"], kind, row["limit"], row["subject"])
        yield Reading("mm_limit_breached", limit, row["breached"])
        yield Reading("mm_limit_value", limit, row["value"])
        yield Reading("mm_limit_threshold", limit, row["threshold"])


# bots, and where it is kept -------------------------------------------------------------------------------------------


def _bots(project: Project, clock: datetime) -> Iterator[Reading]:
    venues = project.config.markets.venues
    columns = ["venue", "as_of", "bot_id", "state", "observed_at"]
    rows = _newest(project.lake.read("grid_bot", span=_day(clock), columns=columns), "venue")
    rows = rows.filter(pl.col("venue").is_in(list(venues)))
    for venue, state, number in rows.group_by("venue", "state").len().sort("venue", "state").iter_rows():
        yield Reading("mm_bots", (venue, state, venues[venue].kind), number)
    for venue, at in rows.group_by("venue").agg(pl.col("observed_at").max()).sort("venue").iter_rows():
        yield Reading("mm_bots_age_seconds", (venue, venues[venue].kind), _seconds(clock - at))


def _recorder(project: Project, clock: datetime) -> Iterator[Reading]:
    """How the recorder stands by its own word; where it never said anything, nothing is known of it."""
    status = read_status(root_of(project.data))
    if status is None:
        return
    now = clock.timestamp()
    yield Reading("mm_recorder_age_seconds", (), now - status.at_ns / 1e9)
    for one in status.markets:
        labels = one.exchange, one.symbol
        yield from (Reading(name, labels, value(one)) for name, value in _OF_BOOK.items())
        if one.last_recv_ns is not None:
            yield Reading("mm_book_message_age_seconds", labels, now - one.last_recv_ns / 1e9)


_OF_BOOK: dict[str, Callable[[MarketStatus], float | None]] = {
    "mm_book_in_sync": lambda one: float(one.phase == Phase.IN_SYNC),
    "mm_book_messages": lambda one: one.written,
    "mm_book_messages_lost": lambda one: one.lost,
    "mm_book_gaps": lambda one: one.gaps,
    "mm_book_reconnects": lambda one: one.reconnects,
    "mm_book_clock_offset_seconds": lambda one: None if one.clock_offset_ms is None else one.clock_offset_ms / 1000,
}


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
