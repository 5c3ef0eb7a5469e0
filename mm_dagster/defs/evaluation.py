"""Stage 7, evaluation, once a month: what the signals were worth, and the models that might tell more.

It reads the lake, and writes its own tables only.
"""

import hashlib
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mm_dagster.bars import BAR, Span, parse_time
from mm_dagster.config.whole import SIMULATED
from mm_dagster.defs.describe import picture, preview, stage_asset
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.evaluation import monthly
from mm_dagster.evaluation.evaluate import LEAD_BARS
from mm_dagster.evaluation.quality import PROBABILITY
from mm_dagster.evaluation.signals import CONTROL, LEVELS
from mm_dagster.history.lake import Commit
from mm_dagster.pictures import quality
from mm_dagster.pipeline.evaluate import judged_markets, operated
from mm_dagster.research import candidates
from mm_dagster.tables.registry import STAGES, empty

SHOWN = ("precision", "recall", "false_alarms_per_grid_week", "lead_p50_hours", "mean_equity", "shortfall_5pct")
"""Metrics of the table on the asset's page."""

HEARD, SANE = "signals_are_worth_hearing", "parameters_are_sane"
"""Names of the checks."""


class Until(dg.Config):
    """How far a judgement looks."""

    until: str = Field(
        default="",
        description="Judge up to the beginning of this month, like 2026-06-01; empty: of the newest candle's month.",
    )


@stage_asset(
    kinds={"numba", "polars"},
    cadence="month",
    code_version=STAGES["signal_quality"].code_version,
    deps=STAGES["signal_quality"].after,
    checks={
        HEARD: "The break probability of the last year ranked better than chance and meant what "
        "it said. If not: look at the pictures; the market is not what the signals were made for, or the data is wrong."
    },
)
def signal_quality(context: dg.AssetExecutionContext, project: ProjectOfRun, config: Until) -> dg.MaterializeResult:
    """What every signal was worth in the last year, beside rules that anybody could follow, with 95 % intervals.

    On grids that a fixed rule opens every day on every market, whatever the signals say; on the operator's own grids,
    each cut where he ended it; and of what he was told: were the alerts right, how early, how soon were they answered.
    Made once a month up to the last whole month, and by hand for any other: a month that is judged again replaces its
    rows. What is judged and what each metric means: docs/evaluation.md.
    """
    lake, settings = project.lake, project.config
    newest = max((time + BAR for time in lake.newest("candles").values()), default=None)
    if newest is None:
        return dg.MaterializeResult(check_results=[_warned(HEARD, True, "No candle is stored yet.")])
    days = monthly.window(_until(config.until) or newest, settings.evaluation.window_days)
    reach = days.back(LEAD_BARS)
    found = monthly.assess(
        judged_markets(project, settings),
        lambda symbol: lake.read("candles", span=reach, symbols=[symbol]),
        operated(project, settings),
        days,
        settings,
        lambda symbol: context.log.info(f"{symbol} is judged"),
    )
    for why in found.left_out:
        context.log.warning(f"not judged: {why}")
    # No turn is taken before: a judgement takes minutes, and a tick must not wait for it.
    with project.turn_lock():
        commit = Commit(run_id=context.run.run_id, asset="signal_quality", span=str(days))
        written = lake.write("signal_quality", found.rows, span=Span(days.end - BAR, days.end), commit=commit)
    passed, sentence = monthly.verdict(found.rows, settings.exit.policy)
    return dg.MaterializeResult(
        metadata={
            "days": str(days),
            "rows_changed": written.inserted + written.deleted,
            "grids_of_the_rule": found.grids[monthly.RULE],
            "grids_of_the_operator": found.grids[monthly.REAL],
            "of_these_cut": found.censored,
            "not_judged": dg.MetadataValue.md("\n".join(f"- {why}" for why in found.left_out) or "none"),
            **_shown(found, settings.exit.policy, SIMULATED if project.config.is_simulated else ""),
        },
        check_results=[_warned(HEARD, passed, sentence)],
    )


if not candidates.missing():

    @stage_asset(
        kinds={"numba", "polars"},
        cadence="month",
        code_version=STAGES["candidate_parameters"].code_version,
        deps=STAGES["candidate_parameters"].after,
        checks={
            SANE: "The newest models can be believed: in every GARCH a shock dies away, and every "
            "state of a hidden Markov model is visited. If not: wait a month; nothing that decides reads them."
        },
    )
    def candidate_parameters(context: dg.AssetExecutionContext, project: ProjectOfRun) -> dg.MaterializeResult:
        """The models that might tell of a break, fitted at the beginning of each month on the 60 days before it.

        A hidden Markov model and a GARCH(1,1) of every watched market's hourly returns, for each month of the window of
        evaluation.yaml and the one under way. Nothing that decides reads them: `mm evaluate --candidates` asks whether
        they know more than the break probability. A month is fitted again only when its candles, the code or the
        library have changed; each row has the hash of what it was fitted on, and of what came of it.
        """
        lake, settings = project.lake, project.config
        newest = max((time + BAR for time in lake.newest("candles").values()), default=None)
        if newest is None:
            return dg.MaterializeResult(
                check_results=[_warned(SANE, *candidates.verdict(empty("candidate_parameters")))]
            )
        days = monthly.window(newest, settings.evaluation.window_days)
        months = [*candidates.months_of(days), days.end]
        inside = Span(months[0] - BAR, days.end)
        rows: list[pl.DataFrame] = []
        left_out: list[str] = []
        fitted = changed = 0
        for symbol in judged_markets(project, settings):
            found = candidates.refit(
                symbol,
                lake.read("candles", span=candidates.reach(days), symbols=[symbol], columns=candidates.COLUMNS),
                lake.read("candidate_parameters", span=inside, symbols=[symbol]),
                days,
                months,
                settings.hash_of("candles", symbol),
            )
            # What is fitted is kept, market by market; and a tick waits for a write, never for a fit.
            with project.turn_lock():
                commit = Commit(run_id=context.run.run_id, asset="candidate_parameters", span=str(days))
                written = lake.write("candidate_parameters", found.rows, span=inside, symbols=[symbol], commit=commit)
            kept = found.rows.height - found.fitted
            context.log.info(f"{symbol}: {found.fitted} models fitted, {kept} kept")
            for why in found.left_out:
                context.log.warning(f"not fitted: {why}")
            rows.append(found.rows)
            fitted += found.fitted
            changed += written.inserted + written.deleted
            left_out += found.left_out
        known = pl.concat([empty("candidate_parameters"), *rows])
        return dg.MaterializeResult(
            # The same parameters are the same data, whoever fitted them.
            data_version=dg.DataVersion(hashlib.sha256("".join(known["parameters_hash"]).encode()).hexdigest()),
            metadata={
                "months": f"{months[0]:%Y-%m} to {months[-1]:%Y-%m}",
                "fitted": fitted,
                "kept": known.height - fitted,
                "rows_changed": changed,
                "fitted_with": ", ".join(known["fitted_with"].unique().sort()) or "nothing",
                "not_fitted": dg.MetadataValue.md("\n".join(f"- {why}" for why in left_out) or "none"),
                "newest_month": preview(_newest(known)),
            },
            check_results=[_warned(SANE, *candidates.verdict(known))],
        )


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    """The models of the newest month, one a line, hashes cut short."""
    newest = rows.filter(pl.col("as_of") == pl.col("as_of").max())
    parameters = [
        ", ".join(f"{one['name']} {one['value']:.3g}" for one in row) for row in newest["parameters"].to_list()
    ]
    return newest.select(
        "as_of",
        "symbol",
        "model",
        "converged",
        "hours",
        pl.col("returns_hash", "parameters_hash").str.head(12),
        pl.Series("parameters", parameters, pl.String),
    )


def _warned(check: str, passed: bool, sentence: str) -> dg.AssetCheckResult:
    """A check that warns when it fails: nothing that decides hangs on it."""
    return dg.AssetCheckResult(
        check_name=check, passed=passed, severity=dg.AssetCheckSeverity.WARN, description=sentence
    )


def _until(text: str) -> datetime | None:
    """The month of a run by hand.

    Raises:
        dg.Failure: it is not a time.
    """
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise dg.Failure(f"until: {error}") from None


def _shown(found: monthly.Assessment, policy: str, prefix: str) -> dict[str, Any]:
    """A table for each kind of grids, what was told, and pictures of the rule's."""
    shown: dict[str, Any] = {}
    for whose in (monthly.RULE, monthly.REAL):
        rows = found.rows.filter(pl.col("grids") == whose)
        if found.grids[whose]:
            shown[f"signals_on_{whose}_grids"] = preview(_table(_judged(rows, policy)))
    told = found.rows.filter(pl.col("policy") == "real")
    if told.height:
        shown["what_the_operator_was_told"] = preview(told.select("signal", "metric", "value", "low", "high", "n"))
    if found.grids[monthly.RULE]:
        rows = _judged(found.rows.filter(pl.col("grids") == monthly.RULE), policy)
        of_probability = rows.filter(pl.col("signal") == PROBABILITY)
        shown["break_probability"] = preview(of_probability.select("metric", "value", "low", "high", "n"))
        drawn = quality.quality_picture(rows, title_prefix=prefix, dots_per_inch=60)
        shown["worth"] = picture(drawn, "alarms and money of the signals, beside the controls")
        drawn = quality.quality_reliability_picture(found.bins, of_probability, title_prefix=prefix, dots_per_inch=60)
        shown["reliability"] = picture(drawn, "break probability, predicted and observed")
    return shown


def _judged(rows: pl.DataFrame, policy: str) -> pl.DataFrame:
    """Of the rows those of the policy in force and of the controls, in the order of the flow."""
    order = {name: place for place, name in enumerate((PROBABILITY, *LEVELS))}
    place = pl.col("signal").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    return rows.filter(pl.col("policy").is_in([policy, CONTROL])).sort(place, maintain_order=True)


def _table(rows: pl.DataFrame) -> pl.DataFrame:
    """One line a signal, one column a metric."""
    found = rows.filter(pl.col("metric").is_in(SHOWN))
    value = pl.col("value").round_sig_figs(3).cast(pl.String)
    low, high = (pl.col(name).round_sig_figs(3).cast(pl.String) for name in ("low", "high"))
    cell = pl.coalesce(pl.concat_str(value, pl.lit(" ("), low, pl.lit(" to "), high, pl.lit(")")), value)
    return found.with_columns(cell=cell).pivot(
        on="metric", on_columns=SHOWN, index="signal", values="cell", maintain_order=True
    )
