"""The monthly judgement on rows of the lake, and the fits beside it: what is judged, what is written, what is shown."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.config.whole import SIMULATED, Config
from mm_dagster.evaluation import leaving, monthly
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.evaluation.quality import PROBABILITY
from mm_dagster.evaluation.signals import CONTROL, LEVELS
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.exhibits import Picture
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.research import candidates
from mm_dagster.tables.registry import empty
from mm_dagster.text import number_text

SHOWN = ("precision", "recall", "false_alarms_per_grid_week", "lead_p50_hours", "mean_equity", "shortfall_5pct")
"""Metrics of the table on the asset's page."""

HEARD, SANE = "signals_are_worth_hearing", "parameters_are_sane"
CAME_TRUE = "exit_cost_intervals_came_true"
"""Names of the checks."""


def judged_markets(config: Config) -> list[str]:
    """The watched markets; the synthetic ones only where there is no other, since they would flatter or blame."""
    return [one.symbol for one in config.watched if config.is_simulated or not one.is_simulated]


def operated(project: Project, config: Config) -> monthly.Operated:
    """The operator's grids and alerts on the same markets, and on those that they no longer watch."""
    apart = [one for one in config.symbols if one not in judged_markets(config)]
    of_these = ~pl.col("symbol").is_in(apart)
    alerts = project.lake.sql(f"FROM alert_responses WHERE {project.lake.in_force('notification')}")
    return monthly.Operated(project.lake.read("grid_episode").filter(of_these), alerts.filter(of_these))


def newest_close(project: Project) -> datetime | None:
    """When the newest stored candle closed; None: there is none."""
    return max((time + BAR for time in project.lake.newest("candles").values()), default=None)


@dataclass(frozen=True)
class Judgement:
    """What the signals were worth.

    Attributes:
        days: what was judged.
        assessment: what came of it.
        changed: how many stored rows changed.
        findings: whether they are worth hearing, and whether leaving cost what was said.
    """

    days: Span
    assessment: monthly.Assessment
    changed: int
    findings: tuple[Finding, ...]


def judge_signals(
    project: Project, run_id: str, until: datetime | None, say: Callable[[str], None]
) -> Judgement | None:
    """Judges the signals of the evaluation's window, and stores `signal_quality`.

    Args:
        project: configuration and lake.
        run_id: names the run in the commit.
        until: the month up to whose beginning is judged; None: that of the newest candle.
        say: is given a sentence after each market.

    Returns:
        None where no candle is stored yet.
    """
    lake, settings = project.lake, project.config
    newest = newest_close(project)
    if newest is None:
        return None
    days = monthly.window(until or newest, settings.evaluation.window_days)
    reach = days.back(HISTORY_BARS)
    found = monthly.assess(
        judged_markets(settings),
        lambda symbol: lake.read("candles", span=reach, symbols=[symbol]),
        operated(project, settings),
        days,
        settings,
        lambda symbol: say(f"{symbol} is judged"),
    )
    # No turn is taken before: a judgement takes minutes, and a tick must not wait for it.
    with project.turn_lock():
        commit = Commit(run_id=run_id, asset="signal_quality", span=str(days))
        written = lake.write("signal_quality", found.rows, span=Span(days.end - BAR, days.end), commit=commit)
    findings = (
        Finding(HEARD, *monthly.verdict(found.rows, settings.exit.policy)),
        Finding(CAME_TRUE, *leaving.verdict(found.leaving)),
    )
    return Judgement(days, found, written.inserted + written.deleted, findings)


def exhibits_of(project: Project, found: monthly.Assessment) -> dict[str, pl.DataFrame | Picture]:
    """A table for each kind of grids, what was notified, and pictures of the rule's, by what each is called."""
    # Imported here because it loads matplotlib, and every run of any job loads this module.
    from mm_dagster.pictures import quality
    from mm_dagster.pictures.leaving import intervals_picture

    policy = project.config.exit.policy
    prefix = SIMULATED if project.config.is_simulated else ""
    shown: dict[str, pl.DataFrame | Picture] = {}
    for whose in (monthly.RULE, monthly.REAL):
        if found.grids[whose]:
            rows = found.rows.filter(pl.col("grids") == whose)
            shown[f"signals_on_{whose}_grids"] = _table(_judged(rows, policy))
    notified = found.rows.filter(pl.col("policy") == "real")
    if notified.height:
        shown["what_the_operator_was_notified_of"] = notified.select("signal", "metric", "value", "low", "high", "n")
    if found.grids[monthly.RULE]:
        rows = _judged(found.rows.filter(pl.col("grids") == monthly.RULE), policy)
        of_probability = rows.filter(pl.col("signal") == PROBABILITY)
        shown["break_probability"] = of_probability.select("metric", "value", "low", "high", "n")
        shown["worth"] = Picture(
            quality.quality_picture(rows, title_prefix=prefix, dots_per_inch=60),
            "alarms and money of the signals, beside the controls",
        )
        shown["reliability"] = Picture(
            quality.quality_reliability_picture(found.bins, of_probability, title_prefix=prefix, dots_per_inch=60),
            "break probability, predicted and observed",
        )
        shown["exit_cost_intervals"] = Picture(
            intervals_picture(found.leaving, title_prefix=prefix, dots_per_inch=60),
            "how often leaving cost what its intervals said",
        )
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


@dataclass(frozen=True)
class Fits:
    """The candidate models as they are after a fit.

    Attributes:
        rows: of `candidate_parameters`, all of the months.
        months: the first and the last that a model was wanted for; None: no candle is stored yet.
        fitted: how many models are new.
        changed: how many stored rows changed.
        left_out: models and months without parameters, each with the reason.
    """

    rows: pl.DataFrame
    months: tuple[datetime, datetime] | None
    fitted: int
    changed: int
    left_out: tuple[str, ...]

    @property
    def finding(self) -> Finding:
        """Whether the newest models may be believed."""
        return Finding(SANE, *candidates.verdict(self.rows))

    @property
    def identity(self) -> str:
        """The same for the same parameters: they are the same data, whoever fitted them."""
        return hashlib.sha256("".join(self.rows["parameters_hash"]).encode()).hexdigest()

    @property
    def newest(self) -> pl.DataFrame:
        """The models of the newest month, one a line, hashes cut short."""
        newest = self.rows.filter(pl.col("as_of") == pl.col("as_of").max())
        parameters = [
            ", ".join(f"{one['name']} {number_text(one['value'], 3)}" for one in row)
            for row in newest["parameters"].to_list()
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


def fit_candidates(project: Project, run_id: str, say: Callable[[str], None], warn: Callable[[str], None]) -> Fits:
    """Fits the candidate models of the evaluation's window, market by market, and stores `candidate_parameters`.

    Args:
        project: configuration and lake.
        run_id: names the run in the commits.
        say: is given a sentence after each market.
        warn: is given the reason of each model that could not be fitted.
    """
    lake, settings = project.lake, project.config
    newest = newest_close(project)
    if newest is None:
        return Fits(empty("candidate_parameters"), None, 0, 0, ())
    days = monthly.window(newest, settings.evaluation.window_days)
    months = [*candidates.months_of(days), days.end]
    inside = Span(months[0] - BAR, days.end)
    rows: list[pl.DataFrame] = []
    left_out: list[str] = []
    fitted = changed = 0
    for symbol in judged_markets(settings):
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
            commit = Commit(run_id=run_id, asset="candidate_parameters", span=str(days))
            written = lake.write("candidate_parameters", found.rows, span=inside, symbols=[symbol], commit=commit)
        say(f"{symbol}: {found.fitted} models fitted, {found.rows.height - found.fitted} kept")
        for reason in found.left_out:
            warn(f"not fitted: {reason}")
        rows.append(found.rows)
        fitted += found.fitted
        changed += written.inserted + written.deleted
        left_out += found.left_out
    known = pl.concat([empty("candidate_parameters"), *rows])
    return Fits(known, (months[0], months[-1]), fitted, changed, tuple(left_out))
