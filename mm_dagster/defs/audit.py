"""Stage 9, audit: what the operator could have seen, kept where git keeps it."""

from collections.abc import Sequence

import dagster as dg
import polars as pl

from mm_dagster.bars import parse_time
from mm_dagster.defs.describe import GROUPS, cause, checked, page, picture, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.logs import TICK_TAG
from mm_dagster.pipeline import outcomes
from mm_dagster.pipeline import tick_log as ticks
from mm_dagster.pipeline.answers import response_figures
from mm_dagster.pipeline.groups import GROUP_TAG, runs_a_tick
from mm_dagster.pipeline.snapshots import keep_snapshots
from mm_dagster.tables.registry import STAGES


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
    kept = keep_snapshots(project, turn.symbols, turn.time, context.run.run_id)
    if kept.problem:
        context.log.warning(kept.problem)
    return dg.MaterializeResult(
        metadata={
            "files": len(kept.files),
            "commit": kept.commit or "nothing changed",
            **({"problem": kept.problem} if kept.problem else {}),
            "preview": dg.MetadataValue.md(f"```yaml\n{next(iter(kept.files.values()), '# nothing yet')[:4000]}\n```"),
        },
        check_results=[checked(kept.finding)],
    )


@stage_asset(kinds={"duckdb"}, cadence="day", deps=["notification"])
def alert_audit(project: ProjectOfRun) -> dg.MaterializeResult:
    """What the operator did about the alerts, by month and state: how soon, how often within the window, how often not.

    A response is noted with `mm respond`; the same figures are in the view `response_kpis`. Once there are alerts of a
    live exchange, rehearsals on recorded or simulated candles are left out.
    """
    return dg.MaterializeResult(metadata=page(response_figures(project)))


@stage_asset(
    kinds={"polars"},
    cadence="day",
    # What the operator answered comes from the command line and from no asset.
    deps=[table for table in STAGES["alert_outcome"].after if table != "operator_response"],
    code_version=STAGES["alert_outcome"].code_version,
)
def alert_outcome(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
    """What came after each escalation: did the grid break, and what was leaving then worth?

    Of all that the operator was notified of, and, labelled so, of what they would have been before anyone listened. An
    outcome is told when its 24 hours have passed, money after 14 days. `mm evaluate --mine` prints the hit rates.
    """
    rows, changed = outcomes.keep_outcomes(project, context.run.run_id)
    levels = outcomes.by_level(project, rows)
    return dg.MaterializeResult(
        metadata={
            "rows_changed": changed,
            **({"by_level": preview(pl.DataFrame(levels, infer_schema_length=None))} if levels else {}),
            "preview": preview(rows.tail(8).drop("config_hash", "code_version", "source")),
        }
    )


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
    now = parse_time(tag) if tag else project.now()
    runs = _runs_before(context, runs_a_tick(project.config))
    log = ticks.tick_log(project.lake, now, runs, lambda name: _seen(context, list(runs[name].values())))
    return dg.MaterializeResult(
        metadata={
            **({"last_twelve_hours": picture(log.picture)} if log.picture else {}),
            **({"ticks": preview(log.rows)} if log.rows is not None else {}),
        },
        check_results=[checked(log.finding)],
    )


def _runs_before(context: dg.AssetExecutionContext, runs_a_tick: int) -> dict[str, dict[str, dg.RunRecord]]:
    """The last runs of the tick by as_of and part, without this one; of a part that ran twice the newer one."""
    many = (ticks.TICKS_LISTED + 1) * runs_a_tick
    found: dict[str, dict[str, dg.RunRecord]] = {}
    for record in context.instance.get_run_records(dg.RunsFilter(job_name="tick"), limit=many):
        as_of = record.dagster_run.tags.get(TICK_TAG)
        if as_of and record.dagster_run.run_id != context.run.run_id:
            found.setdefault(as_of, {}).setdefault(record.dagster_run.tags.get(GROUP_TAG, ""), record)
    return found


def _seen(context: dg.AssetExecutionContext, records: Sequence[dg.RunRecord]) -> ticks.TickRun:
    """What Dagster knows of the runs of a tick; one of many markets has several, and each stage is as slow as its
    slowest.
    """
    failed = [one.dagster_run.run_id for one in records if one.dagster_run.is_failure]
    starts, ends = [one.start_time for one in records], [one.end_time for one in records]
    stages: dict[str, float] = {}
    for record in records:
        for stage, seconds in _stages_of(context, record.dagster_run.run_id).items():
            stages[stage] = max(seconds, stages.get(stage, 0.0))
    return ticks.TickRun(
        failed[0] if failed else records[0].dagster_run.run_id,
        max(ends) - min(starts) if all(starts) and all(ends) else None,  # type: ignore[type-var, operator]
        stages,
        _failure(context, failed[0]) if failed else None,
    )


def _stages_of(context: dg.AssetExecutionContext, run_id: str) -> dict[str, float]:
    """Seconds of a run by the room of the flow."""
    stages: dict[str, float] = {}
    for step in context.instance.get_run_step_stats(run_id):
        if step.start_time and step.end_time:
            stage = _stage_of(context, step.step_key)
            stages[stage] = stages.get(stage, 0.0) + step.end_time - step.start_time
    return stages


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
