"""Did the loss of a bad night come true on the operator's own grids? Once a month, on rows of the lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, Span, iso, midnight
from mm_dagster.evaluation import coverage, monthly
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.evaluate import newest_close
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.portfolio import inputs_of, members_of
from mm_dagster.pipeline.project import Project
from mm_dagster.portfolio import risk
from mm_dagster.portfolio.tail import NIGHT, RARE, added_up, tail
from mm_dagster.tables import registry
from mm_dagster.tables.registry import CODE_VERSIONS
from mm_dagster.text import counted

TRUE = "the_loss_figure_came_true"
"""Name of the check."""
DOUBTED = 0.01
"""A figure is doubted when as far a rate, or as bad nights, would be rarer than this if it were right."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Judged:
    """What came of the nights of some days.

    Attributes:
        days: what was judged.
        rows: of `portfolio_coverage`.
        changed: how many stored rows changed.
        finding: whether the figure came true.
    """

    days: Span
    rows: pl.DataFrame
    changed: int
    finding: Finding


def judge_nights(project: Project, run_id: str, until: datetime | None) -> Judged | None:
    """Judges the nights of the evaluation's window, and stores `portfolio_coverage`.

    Args:
        project: configuration and lake.
        run_id: names the run in the commit.
        until: the month up to whose beginning is judged; None: that of the newest candle.

    Returns:
        None where no candle is stored yet.
    """
    newest = newest_close(project)
    if newest is None:
        return None
    days = monthly.window(until or newest, project.config.evaluation.window_days)
    rows = nights_of(project, days)
    with project.turn_lock():
        commit = Commit(run_id=run_id, asset="portfolio_coverage", span=str(days))
        span = Span(days.end - BAR, days.end)
        written = project.lake.write("portfolio_coverage", rows, span=span, commit=commit)
    return Judged(days, rows, written.inserted + written.deleted, Finding(TRUE, *verdict(rows)))


def nights_of(project: Project, days: Span) -> pl.DataFrame:
    """How the figures of each quote currency came true from midnight to midnight: rows of `portfolio_coverage`.

    The figures are those that the configuration and the code in force give for each midnight; the losses are those of
    `grid_risk`. A night that has no figure, or whose end is not known, is left out.
    """
    members = members_of(project.lake, project.config)
    moments = _midnights(project, days)
    found = []
    ends = _ends(project, days) if moments else {}
    for quote, inputs in inputs_of(project, members, moments) if moments else ():
        losses: list[float] = []
        paths: list[Floats] = []
        for night in risk.nights(quote, inputs, moments, project.config.portfolio, project.config.risk):
            start = night.described["as_of"]
            after = [ends.get((*member.key, start)) for member in night.holding]
            if night.losses is None or None in after:
                continue
            before = sum(row["liquidation_value"] for row in night.rows)
            losses.append(before - sum(value for value in after if value is not None))
            paths.append(added_up(night.losses))
        many = max((one.size for one in paths), default=0)
        whole = [place for place, one in enumerate(paths) if one.size == many]
        lost, drawn = np.array([losses[place] for place in whole]), np.array([paths[place] for place in whole])
        for level in (NIGHT, RARE):
            tails = [tail(one, level) for one in drawn]
            var, es = (np.array([getattr(one, name) for one in tails]) for name in ("var", "es"))
            told = coverage.measure(lost, var, es, drawn.reshape(len(whole), many), level)
            found.append({"quote": quote, "as_of": days.end, **told._asdict()})
    digest = project.config.hash_of_portfolio([(iso(days.start), iso(days.end))])
    return registry.conform(
        pl.DataFrame(found, schema_overrides={"as_of": registry.dtypes("portfolio_coverage")["as_of"]}).with_columns(
            config_hash=pl.lit(digest), code_version=pl.lit(CODE_VERSIONS["portfolio_coverage"])
        )
        if found
        else registry.empty("portfolio_coverage"),
        "portfolio_coverage",
    )


def _midnights(project: Project, days: Span) -> list[datetime]:
    """The midnights of some days at which something could be told, with a day after each."""
    lake = project.lake
    told = lake.sql(
        f"SELECT DISTINCT as_of FROM portfolio_risk WHERE {lake.in_force('portfolio_risk')} AND reason IS NULL "
        f"AND as_of >= '{iso(days.start)}' AND as_of <= '{iso(days.end - _DAY)}'"
    )
    return sorted(time for time in told["as_of"] if time == midnight(time.date()))


def _ends(project: Project, days: Span) -> dict[tuple[str, datetime, datetime], float]:
    """What each grid was worth at the end of the day after each midnight, or when it was closed in it."""
    lake = project.lake
    rows = lake.sql(
        "SELECT r.grid_id, r.activated_at, date_trunc('day', r.as_of - INTERVAL 15 MINUTE) AS day, "
        "arg_max(r.liquidation_value, r.as_of) AS value "
        f"FROM (FROM grid_risk WHERE {lake.in_force('grid_risk')}) r "
        f"JOIN (FROM grid_episode WHERE {lake.in_force('grid_episode')}) e USING (grid_id, activated_at) "
        f"WHERE e.enabled AND r.liquidation_value IS NOT NULL AND r.as_of > '{iso(days.start)}' "
        f"AND r.as_of <= '{iso(days.end)}' AND r.as_of <= coalesce(e.closed_at, TIMESTAMPTZ '9999-01-01') "
        "GROUP BY ALL"
    )
    return {(row["grid_id"], row["activated_at"], row["day"]): row["value"] for row in rows.iter_rows(named=True)}


def verdict(rows: pl.DataFrame) -> tuple[bool, str]:
    """Whether the figures came true, and what is to be said of it; a check over no night does not pass."""
    said, doubted = [], []
    for row in rows.filter(pl.col("days") > 0).iter_rows(named=True):
        expected = row["level"] * row["days"]
        said.append(
            f"{row['quote']}: of {counted(row['days'], 'night')} {row['hits']} were worse than the figure of one night "
            f"in {round(1 / row['level'])}, {expected:.1f} were to be expected"
        )
        if coverage.is_rough(row["days"], row["level"]):
            continue
        ps = [row[name] for name in ("kupiec_p", "z2_p") if row[name] is not None]
        if ps and min(ps) < DOUBTED:
            doubted.append(f"{row['quote']} at {row['level']:g}: p {min(ps):.3f}")
    if not said:
        return False, "No night was looked at: no portfolio was told at a midnight of these days."
    if doubted:
        return False, f"{'; '.join(said)}. The figure is doubted: {'; '.join(doubted)}."
    return True, f"{'; '.join(said)}."
