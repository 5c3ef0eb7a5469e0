"""Stage 6, audit: what the operator could have seen, kept where git keeps it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso, parse_time
from mm_dagster.config.whole import SIMULATED
from mm_dagster.defs.describe import GROUPS, cause, glance, picture, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.history.mirror import MirrorError
from mm_dagster.logs import TICK_TAG
from mm_dagster.pictures import glance as pictures_glance
from mm_dagster.pictures import quality
from mm_dagster.pipeline.snapshots import snapshots


@stage_asset(
    kinds={"git", "yaml"},
    deps=["exit_state", "entry_assessment"],
    checks={
        "nothing_waits_to_be_pushed": "Every snapshot is at the remote. If not: nothing is lost, commits go with the "
        "next push; see whether the remote of history.yaml answers and takes this key."
    },
)
def snapshot(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """One YAML file per tick and market in a git repository: regime, grids, risk and exit states, readable without us.

    Committed at every live tick; pushed when history.yaml names a remote. A push that fails loses nothing: the commits
    wait and go with the next.
    """
    symbols = turn.symbols or project.config.symbols
    as_of = floor_bar(turn.time) if turn.time else max(project.lake.newest("regime_verdict").values(), default=None)
    files = snapshots(project, symbols, Span(as_of - BAR, as_of)) if as_of else {}
    mirror, problem, commit = project.mirror, None, None
    try:
        if as_of and files:
            commit = mirror.write(files, f"{iso(as_of)}: {', '.join(sorted(symbols))}")
        mirror.push()
    except MirrorError as error:
        problem = str(error)
        context.log.warning(problem)
    waiting = mirror.waiting()
    return dg.MaterializeResult(
        metadata={
            "files": len(files),
            "commit": commit or "nothing changed",
            "preview": dg.MetadataValue.md(f"```yaml\n{next(iter(files.values()), '# nothing yet')[:4000]}\n```"),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_waits_to_be_pushed",
                passed=waiting == 0 and problem is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=problem or f"{waiting} commits wait for the remote.",
            )
        ],
    )


@stage_asset(kinds={"duckdb"}, cadence="day", deps=["notification"])
def alert_audit(project: ProjectOfRun) -> dg.MaterializeResult:
    """What the operator did about the alerts, by month and state: how soon, how often within the window, how often not.

    A response is noted with `mm respond`; the same figures are in the view `response_kpis`. Once there are alerts of a
    live exchange, rehearsals on recorded or simulated candles are left out.
    """
    kpis = project.lake.sql("FROM response_kpis")
    kind = next((one for one in ("ccxt", "recorded", "simulated") if one in set(kpis["kind"])), None)
    kpis = kpis.filter(pl.col("kind").eq_missing(kind)).drop("kind")
    metadata: dict[str, Any] = {"by_month_and_state": preview(kpis)}
    if kpis.height:
        prefix = SIMULATED if kind == "simulated" else ""
        drawn = quality.response_picture(kpis, title_prefix=prefix, dots_per_inch=60)
        metadata["picture"] = picture(drawn, "minutes to act, and alerts answered")
    return dg.MaterializeResult(metadata=metadata)


TICKS_LISTED = 12
"""How many ticks are listed with their stages: each costs a look into its run."""


@stage_asset(
    kinds={"duckdb"},
    checks={
        "the_last_ticks_went_well": "The ticks of the last hour ran, ended, and knew every market. If not: the table "
        "`ticks` of tick_log says which, why, and in which run."
    },
)
def tick_log(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """The page for 3 a.m.: the last ticks, how long each stage took, what failed and why.

    Made at the beginning of every tick, of those before it, so that it is there also when the tick fails. A column of
    the picture is a tick of the last twelve hours, as high as it took long; red above it: it did not run, did not end,
    or did not know a market. What to do when it is red: the reason stands in the row; the run's page has the trace; `mm
    doctor` tries venues and channels.
    """
    # By its tag, since a tick that cannot be read must not fail its own page.
    tag = context.run.tags.get(TICK_TAG)
    now = parse_time(tag) if tag else datetime.now(UTC)
    runs = {name: record for name, record in _runs_before(context).items() if parse_time(name) < now}
    ticks = project.lake.read("tick").filter(pl.col("as_of") < now).sort("as_of").tail(pictures_glance.TICKS_SHOWN)
    last = max([*runs, *map(iso, ticks["as_of"])], default=None)
    if last is None:
        return dg.MaterializeResult(check_results=[_went_well([], "No tick ran yet.")])
    noted = {iso(row["as_of"]): row for row in ticks.iter_rows(named=True)}
    named = sorted({*runs, *noted}, reverse=True)
    rows = [_row_of(context, name, noted.get(name), runs.get(name)) for name in named[:TICKS_LISTED]]
    hour = [iso(parse_time(last) - back * BAR) for back in range(4)]
    began = min(named)
    failed = [f"{row['tick']}: {row['what']}" for row in rows if row["tick"] in hour and row["what"]]
    failed += [f"{name}: it did not run" for name in hour if name not in named and name > began]
    return dg.MaterializeResult(
        metadata={
            "last_twelve_hours": glance(
                pictures_glance.ticks_glance(ticks, parse_time(last)), f"seconds of each tick to {last}"
            ),
            "ticks": preview(pl.DataFrame(rows)),
        },
        check_results=[_went_well(failed, f"The ticks up to {last} ran, ended, and knew every market.")],
    )


def _went_well(failed: Sequence[str], otherwise: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="the_last_ticks_went_well",
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(failed) or otherwise,
    )


def _runs_before(context: dg.AssetExecutionContext) -> dict[str, dg.RunRecord]:
    """The last runs of the tick by as_of, without this one; of a tick that ran twice the newer one."""
    found: dict[str, dg.RunRecord] = {}
    for record in context.instance.get_run_records(dg.RunsFilter(job_name="tick"), limit=TICKS_LISTED + 1):
        as_of = record.dagster_run.tags.get(TICK_TAG)
        if as_of and record.dagster_run.run_id != context.run.run_id:
            found.setdefault(as_of, record)
    return found


def _row_of(
    context: dg.AssetExecutionContext, name: str, noted: dict[str, Any] | None, record: dg.RunRecord | None
) -> dict[str, Any]:
    """One tick: what the lake has noted of it, and what Dagster knows of its run."""
    seconds, what, run_id = pictures_glance.seconds_of(noted), noted["reason"] if noted else None, None
    stages: dict[str, float] = {}
    if record is not None:
        run_id = record.dagster_run.run_id
        if record.start_time and record.end_time:
            seconds = record.end_time - record.start_time
        for step in context.instance.get_run_step_stats(run_id):
            if step.start_time and step.end_time:
                stage = _stage_of(context, step.step_key)
                stages[stage] = stages.get(stage, 0.0) + step.end_time - step.start_time
        if record.dagster_run.is_failure:
            what = _failure(context, run_id)
    if not what and noted and noted["symbols_failed"]:
        what = f"not known: {', '.join(noted['symbols_failed'])}"
    if not what and noted and noted["finished_at"] is None:
        what = "it did not end"
    return {
        "tick": name,
        "seconds": round(seconds, 1) if seconds is not None else None,
        "of which": ", ".join(f"{stage} {stages[stage]:.1f}" for stage in GROUPS if stage in stages) or None,
        "what": what,
        "run": run_id[:8] if run_id else None,
    }


def _stage_of(context: dg.AssetExecutionContext, asset: str) -> str:
    graph, key = context.job_def.asset_layer.asset_graph, dg.AssetKey(asset)
    group = graph.get(key).group_name if graph.has(key) else ""
    return next((stage for stage, name in GROUPS.items() if name == group), "")


def _failure(context: dg.AssetExecutionContext, run_id: str) -> str:
    """The first asset of a run that failed, with the first line of its error."""
    for entry in context.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        if entry.dagster_event and entry.dagster_event.step_failure_data.error:
            return f"{entry.step_key}: {cause(entry.dagster_event.step_failure_data.error)}"
    return "the run failed before its first step"
