"""For who wants proof: what the advice was worth on stored candles, beside controls that could show it useless."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import configured, whole_days
from mm_dagster.cli.printing import AsJson, days_done, print_rows

PANEL = "Ask"

Candles = Callable[[str], pl.DataFrame]
Progress = Callable[[str], None]


class Grids(StrEnum):
    """Whose grids are judged."""

    RULE = "rule"
    REAL = "real"


_TABLES: tuple[tuple[str, tuple[tuple[str, str, int], ...]], ...] = (
    (
        "The probability of a break below within 24 hours",
        (
            ("base_rate", "base rate", 3),
            ("auc", "AUC", 3),
            ("brier_skill", "Brier skill", 3),
            ("ece", "calibration error", 3),
            ("log_loss_gain", "log loss gained on position", 4),
        ),
    ),
    (
        "Alarms",
        (
            ("precision", "precision", 2),
            ("recall", "recall", 2),
            ("false_alarms_per_grid_week", "false a grid-week", 2),
            ("lead_p25_hours", "lead p25, h", 1),
            ("lead_p50_hours", "lead p50, h", 1),
            ("lead_1h_share", "breaks with 1 h", 2),
        ),
    ),
    (
        "Money, percent of the capital",
        (
            ("mean_equity", "mean equity", 2),
            ("shortfall_5pct", "worst 5 %", 2),
            ("gain_vs_hold", "gain on holding", 2),
            ("gain_vs_null", "gain on the null", 2),
            ("p_null", "p null", 2),
            ("p_random", "p random", 2),
            ("hours_held", "hours held", 0),
        ),
    ),
)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm evaluate --from 2026-04-20 --to 2026-06-28`, "
    "`mm evaluate --from 2025-01-01 --to 2025-12-27 --symbols ETH-USDT,SOL-USDT --json > quality.json`",
)
def evaluate(
    first: Annotated[str, typer.Option("--from", help="First day on which grids are opened, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day that is looked at; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
    grids: Annotated[Grids, typer.Option(help="One a day by the rule, or your own, as they were run.")] = Grids.RULE,
    as_json: AsJson = False,
) -> None:
    """Judge the advice on stored candles: every signal beside every control, with 95 % intervals.

    A grid is opened every day on every market by a rule that knows no signal, and followed for 14 days; or your own
    grids are, until you ended them, with what you were told beside. Features and states are computed anew, under the
    configuration in force. Nothing is written. A first day of grids needs 48 days of candles before it.
    """
    days, wanted = whole_days(first, last), configured(symbols)
    found = judged(days, wanted) if grids is Grids.RULE else judged_real(days, wanted)
    if as_json:
        print_rows(found.to_dicts(), as_json)
    else:
        simulated = any(project_here().simulated(symbol) for symbol in wanted)
        if simulated:
            out.print("[bold]SIMULATED:[/] these candles are made up, and the figures say nothing of a real market.")
        print_quality(found, days)


@contextmanager
def _candles(days: Span, symbols: Sequence[str]) -> Iterator[tuple[Candles, Progress]]:
    """How the candles of a market are read, and what is told when it is done; the bar is drawn meanwhile."""
    from mm_dagster.evaluation.evaluate import LEAD_BARS

    project = project_here()
    reach = days.back(LEAD_BARS)
    with days_done("evaluate", unit="markets", transient=True) as progress:
        bar = progress.add_task("", total=len(symbols))

        def candles(symbol: str) -> pl.DataFrame:
            progress.update(bar, description=symbol)
            known = project.lake.read("candles", span=reach, symbols=[symbol])
            if known.is_empty():
                err.print(f"{symbol} is left out: no candle of it is stored from {reach}", highlight=False)
            return known

        yield candles, lambda symbol: progress.advance(bar)


def judged_real(days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """The same of the operator's own grids, and how what he was told came true.

    Raises:
        CommandError: none of his grids could be judged, and why.
    """
    from mm_dagster.evaluation.monthly import REAL, Operated, assess
    from mm_dagster.evaluation.quality import SCHEMA

    project = project_here()
    mine = pl.col("symbol").is_in(list(symbols))
    operated = Operated(
        project.lake.read("grid_episode").filter(mine), project.lake.sql("FROM alert_responses").filter(mine)
    )
    with _candles(days, symbols) as (candles, progress):
        found = assess((), candles, operated, days, project.config, progress)
    for why in found.left_out:
        err.print(f"left out: {why}", highlight=False, soft_wrap=True)
    if not found.grids[REAL]:
        raise CommandError(f"none of your grids was opened from {days} and can be judged; choose other days")
    return found.rows.filter(pl.col("grids") == REAL).select(list(SCHEMA))


def judged(days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """What `evaluation.quality.measure` says of the stored candles.

    Raises:
        CommandError: no grid could be opened, and why.
    """
    from mm_dagster.evaluation.evaluate import LEAD_BARS, evaluate

    with _candles(days, symbols) as (candles, progress):
        found = evaluate(symbols, candles, days, project_here().config, progress)
    if found.is_empty():
        reach = days.back(LEAD_BARS)
        raise CommandError(
            f"no grid can be judged from {days}: the features need candles from {iso(reach.start)[:10]} on; fetch them "
            f"with `mm backfill --from {iso(reach.start)[:10]} --to {iso(days.end - BAR)[:10]}`, or choose later days"
        )
    return found


def print_quality(found: pl.DataFrame, days: Span) -> None:
    """The figures as three tables, one row a signal."""
    grids = max(found.filter(pl.col("metric") == "mean_equity")["n"].to_list())
    out.print(f"{grids:,} grids opened {iso(days.start)[:10]} to {iso(days.end)[:10]}", highlight=False)
    names = found.select("policy", "signal").unique(maintain_order=True).rows()
    cells = {(row[0], row[1], row[2]): row[3:] for row in found.iter_rows()}
    for title, columns in _TABLES:
        table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("signal", no_wrap=True)
        for _, heading, _ in columns:
            table.add_column(heading, justify="right")
        before = None
        for policy, signal in names:
            if not any((policy, signal, metric) in cells for metric, _, _ in columns):
                continue
            table.add_row(
                policy if policy != before else "",
                signal,
                *(_cell(cells.get((policy, signal, metric)), digits) for metric, _, digits in columns),
            )
            before = policy
        out.print(table)
    sys.stdout.flush()


def _cell(figure: tuple[float | None, float | None, float | None, int] | None, digits: int) -> str:
    """A figure, and its interval on a line of its own."""
    if figure is None or figure[0] is None:
        return "–"
    value, low, high, _ = figure
    text = f"{value:,.{digits}f}"
    return text if low is None or high is None else f"{text}\n[dim]{low:,.{digits}f} … {high:,.{digits}f}[/]"
