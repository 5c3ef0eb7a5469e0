"""How assets, tables, pictures and findings look in Dagster's pages."""

import base64
import functools
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl

from mm_dagster import environment, logs
from mm_dagster.bars import iso
from mm_dagster.pipeline.exhibits import Picture, markdown_of
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import stages
from mm_dagster.tables.registry import STAGES, describe

OWNERS = ["team:mm-dagster"]
GROUPS = {room: f"{place:02}_{room}" for place, room in enumerate(stages.GROUPS, start=1)}
"""The group of each room: Dagster sorts groups by name, and so they stand as the flow goes."""
KIND_TAG = "mm/kind"
RECONCILE = "reconcile"
"""The tag of a run that says what it is: tick, backfill, alerts, proofs, audit, evaluation, maintenance, manual."""

FRESHNESS = {
    "quarter_hour": dg.FreshnessPolicy.time_window(
        fail_window=timedelta(minutes=45), warn_window=timedelta(minutes=20)
    ),
    "day": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26)),
    "month": dg.FreshnessPolicy.time_window(fail_window=timedelta(days=33)),
}
"""By how often an asset is made. One tick late is a warning, two are a failure. Dagster looks at the newest run of any
day, so a backfill makes a dead feed look alive: the check newest_bar_is_fresh looks at the bars themselves."""


def stage_asset(
    *, kinds: set[str], cadence: str = "quarter_hour", checks: Mapping[str, str] | None = None, **more: Any
) -> Callable[[Callable[..., dg.MaterializeResult]], dg.AssetsDefinition]:
    """An asset of one of the stages: its name is that of the function, its group that of its table, or the module.

    Its lines in the log say which tick, run, job and asset they belong to, and its errors hold no secret.

    Args:
        kinds: what it is made with.
        cadence: how often it is made: quarter_hour, day, month, or when_due.
        checks: what each of its checks says when it passes, and what to do when it does not, by name.
        more: as of dg.asset.
    """

    def decorate(function: Callable[..., dg.MaterializeResult]) -> dg.AssetsDefinition:
        name = function.__name__
        stored = {"mm/table": name} if name in STAGES else {}

        @functools.wraps(function)
        def step(*arguments: Any, **resources: Any) -> dg.MaterializeResult:
            known = _tags_of_run(resources.get("turn"))
            run = dg.AssetExecutionContext.get().run
            with logs.bound(tick=known.get(logs.TICK_TAG), run_id=run.run_id, job=run.job_name, asset=name):
                return function(*arguments, **resources)

        return dg.asset(
            **{
                "group_name": GROUPS[STAGES[name].group if name in STAGES else function.__module__.rpartition(".")[2]],
                "owners": OWNERS,
                "kinds": kinds,
                "tags": {"mm/cadence": cadence, "mm/cost": _cost(kinds), **stored},
                "freshness_policy": FRESHNESS.get(cadence),
                "metadata": columns_of(name) if stored else None,
                "check_specs": [
                    dg.AssetCheckSpec(check, asset=name, description=says) for check, says in (checks or {}).items()
                ],
                **more,
            }
        )(step)

    return decorate


def _tags_of_run(turn: Any) -> Mapping[str, str]:
    """The tags of the run under way, with those that a run started by hand lacks: its kind, and which tick it is."""
    context = dg.AssetExecutionContext.get()
    tags = {**context.run.tags}
    missing = {} if KIND_TAG in tags else {KIND_TAG: "manual"}
    if turn is not None and turn.time and logs.TICK_TAG not in tags:
        missing[logs.TICK_TAG] = iso(turn.time)
    if missing:
        context.instance.add_run_tags(context.run.run_id, missing)
    return tags | missing


def _cost(kinds: set[str]) -> str:
    """What a run of it spends."""
    if kinds & {"ccxt", "pushover", "git"}:
        return "network"
    return "processor" if kinds & {"numba", "polars"} else "little"


_TYPES = {
    "String": "text",
    "Float64": "number",
    "Int64": "integer",
    "Boolean": "boolean",
    "Datetime": "timestamp, UTC",
    "List": "list",
}


def columns_of(table: str) -> Mapping[str, Any]:
    """The contract of a table as Dagster's column schema: every column with type and meaning."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=column["column"],
                    type=_TYPES.get(column["type"].split("(")[0], column["type"]),
                    description=column["description"],
                    constraints=dg.TableColumnConstraints(nullable=not column["key"], unique=False),
                )
                for column in describe(table)
            ]
        )
    }


def preview(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """A few rows as a Markdown table, read as a person would write them."""
    return dg.MetadataValue.md(markdown_of(rows))


def picture(shown: Picture) -> dg.MarkdownMetadataValue:
    """A picture inside the page itself, so that nothing needs to be served.

    Dagster shows Markdown of less than 1,000 characters at once, as an SVG may be; more hides behind a click.
    """
    kind, data = ("svg+xml", shown.data.encode()) if isinstance(shown.data, str) else ("png", shown.data)
    return dg.MetadataValue.md(f"![{shown.caption}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def live_page(project: Project) -> dict[str, Any]:
    """The way from an asset to the live page: `link` of alerts.yaml, or where `mm up` serves it; nothing if nowhere."""
    address = project.config.alerts.link or environment.link(environment.PAGE_LINK)
    return {"live_page": dg.MetadataValue.url(address)} if address else {}


def page(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage shows, as Dagster's metadata: tables and pictures become Markdown, all else stays."""
    return {name: _metadata(value) for name, value in shown.items()}


def _metadata(value: Any) -> Any:
    if isinstance(value, pl.DataFrame):
        return preview(value)
    return picture(value) if isinstance(value, Picture) else value


def checked(finding: Finding, asset: dg.AssetKey | None = None) -> dg.AssetCheckResult:
    """A finding as the result of its check.

    Args:
        finding: what was found.
        asset: of which; None: of the asset that is being made.
    """
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=finding.check,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if finding.is_error else dg.AssetCheckSeverity.WARN,
        description=finding.sentence,
        metadata=page(finding.figures),
    )


def cause(error: Any) -> str:
    """The first line of what lies at the bottom of an error, since Dagster wraps it."""
    while error is not None and error.cause is not None:
        error = error.cause
    lines = str(error.message).strip().splitlines() if error is not None else []
    return lines[0] if lines else "no message"
