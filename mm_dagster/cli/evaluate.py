"""For who wants proof: what the advice was worth on stored candles, beside controls that could show it useless."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.bars import Span, iso
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import configured, whole_days
from mm_dagster.cli.figures import figure_cell, figures_table, nothing_judged, say_if_simulated, stored_candles
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import counted

if TYPE_CHECKING:
    from mm_dagster.evaluation.chains import Chained
    from mm_dagster.evaluation.leaving import Left
    from mm_dagster.research.promotion import Findings, Result

PANEL = "Ask"


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
            ("hours_held", "hours held", 0),
            ("gain_vs_hold", "mean on holding", 2),
            ("shortfall_vs_hold", "worst 5 % on holding", 2),
            ("gain_vs_null", "mean on other dates", 2),
            ("shortfall_vs_null", "worst 5 % on other dates", 2),
            ("p_null", "p null", 2),
            ("p_random", "p random", 2),
        ),
    ),
    (
        "Money against simpler ways to leave, percent of the capital",
        (
            ("gain_vs_position", "mean on the lowest fifth", 2),
            ("shortfall_vs_position", "worst 5 % on it", 2),
            ("gain_vs_position_as_long", "mean on a place held as long", 2),
            ("shortfall_vs_position_as_long", "worst 5 % on it", 2),
            ("gain_vs_next_level", "mean on the next level", 2),
            ("shortfall_vs_next_level", "worst 5 % on it", 2),
        ),
    ),
)
_CAVEAT = (
    "Being out of grids that lose on average is no skill: on the placebo, the same markets with random signs, the same "
    "states gain on holding, too; and what the lowest fifth of the grid does as well, anybody could do."
)


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm evaluate --from 2026-04-20 --to 2026-06-28`, "
    "`mm evaluate --from 2025-01-01 --to 2025-12-27 --symbols ETH-USDT,SOL-USDT --json > quality.json`, "
    "`mm evaluate --from 2026-01-01 --mine`, "
    "`mm evaluate --from 2025-01-01 --to 2025-12-27 --chains`, "
    "`mm evaluate --from 2025-01-01 --to 2025-12-27 --exit-cost`, "
    "`mm evaluate --from 2025-06-01 --to 2025-12-27 --portfolio --json`, "
    "`mm evaluate --from 2026-01-01 --realised`, "
    "`mm evaluate --from 2025-03-01 --to 2025-12-27 --candidates`",
)
def evaluate(
    first: Annotated[str, typer.Option("--from", help="First day on which grids are opened, UTC.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day that is looked at; default: today.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these markets, separated by commas.")] = None,
    grids: Annotated[Grids, typer.Option(help="One a day by the rule, or your own, as they were run.")] = Grids.RULE,
    models: Annotated[
        bool, typer.Option("--candidates", help="Instead: do models that nothing reads yet know more of a break?")
    ] = False,
    mine: Annotated[
        bool,
        typer.Option("--mine", help="Instead: were the alerts of your own grids right, and what was it worth?"),
    ] = False,
    as_chains: Annotated[
        bool,
        typer.Option("--chains", help="Instead: what leaving, waiting and opening again makes of the capital."),
    ] = False,
    exit_cost: Annotated[
        bool,
        typer.Option("--exit-cost", help="Instead: did leaving a grid cost what it was said to cost?"),
    ] = False,
    portfolio: Annotated[
        bool,
        typer.Option("--portfolio", help="Instead: did the loss of a bad night of all grids together come true?"),
    ] = False,
    realised: Annotated[
        bool,
        typer.Option("--realised", help="Instead: what your own grids made, by grid, market and month."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the advice on stored candles: every signal beside every control, with 95 % intervals.

    A grid is opened every day on every market by a rule that knows no signal, and followed for 14 days; or your own
    grids are, until you ended them, with what you were told beside. Features and states are computed anew, under the
    configuration in force. Nothing is written. A first day of grids needs 48 days of candles before it.

    With --candidates, a hidden Markov model and a GARCH, fitted each month on the past alone, go through the promotion
    gate: does the log loss of the break probability fall with them, out of sample, and more than on the same market
    with random signs? A candidate that passes may become a trigger. Gains are in thousandths of a nat a question.

    With --chains, the capital is followed through one grid after another: left when the break probability reaches .20,
    .38 or .75, opened again at the next midnight, freely or only where that of the new grid is below the gate of
    risk.yaml (entry.max_break_low_24h). Growth is in percent a week, waiting included; cash earns nothing.

    With --exit-cost, what selling 1,000 and 10,000 of quote currency was said to cost when a grid broke, or was to be
    left, is held against what candles say came: did the intervals come true, and does the plan cost less than at once?

    With --portfolio, one of the rule's grids runs on every market at any time, and each midnight says what all of them
    may lose by the next one: how many nights were worse, beside simpler figures. It needs the window of portfolio.yaml
    (90 days) before the first night as well. What your own grids made is told below; --realised gives all of it.
    """
    questions = {
        "--candidates": models,
        "--mine": mine,
        "--chains": as_chains,
        "--exit-cost": exit_cost,
        "--portfolio": portfolio,
        "--realised": realised,
    }
    asked = [name for name, is_asked in questions.items() if is_asked]
    if len(asked) > 1:
        raise CommandError(f"{' and '.join(asked)} are {len(asked)} questions; ask one at a time")
    if asked and not (mine or realised) and grids is Grids.REAL:
        raise CommandError(f"{asked[0]}: only the rule's grids are judged; leave --grids real out")
    days, wanted = whole_days(first, last), configured(symbols)
    if mine:
        print_outcomes(days, wanted, as_json)
        return
    if portfolio or realised:
        from mm_dagster.cli.evaluate_portfolio import print_coverage, print_realised

        (print_coverage if portfolio else print_realised)(days, wanted, as_json)
        return
    if models:
        of_models = judged_candidates(days, wanted)
        print_candidates(of_models, judged_books(days, wanted), days, wanted, as_json)
        return
    if as_chains:
        print_chains(chained(days, wanted), days, wanted, as_json)
        return
    if exit_cost:
        print_leaving(left(days, wanted), days, wanted, as_json)
        return
    found = judged(days, wanted) if grids is Grids.RULE else judged_real(days, wanted)
    if as_json:
        print_rows(found.to_dicts(), as_json)
    else:
        say_if_simulated(wanted)
        print_quality(found, days)


def print_outcomes(days: Span, symbols: Sequence[str], as_json: bool) -> None:
    """What came after the alerts of some days, by state, beside what is expected."""
    from mm_dagster.pipeline.outcomes import by_level, outcomes_of

    project = project_here()
    rows = outcomes_of(project).filter(days.opens("as_of") & pl.col("symbol").is_in(list(symbols)))
    if rows.is_empty():
        raise CommandError(f"no grid of yours entered a higher state from {days}; choose other days")
    levels = by_level(project, rows)
    if as_json:
        print_rows(levels, as_json)
        return
    shown = ("state", "told", "alerts", "open", "known", "right", "hit_rate", "low", "high", "expected", "median_hours")
    print_rows([{name: row[name] for name in shown} for row in levels], as_json, title=f"After alerts, {days}")
    out.print(
        "Right: two closes below the grid, or the stop, within 24 hours; low and high: 95 % (Wilson). Told false: "
        "it would have been told, before anyone listened. One by one: mm sql \"FROM alert_outcome\"",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def judged_real(days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """The same of the operator's own grids, and how what he was told came true.

    Raises:
        CommandError: none of his grids could be judged, and why.
    """
    from mm_dagster.evaluation.monthly import REAL, Operated, assess
    from mm_dagster.evaluation.quality import SCHEMA

    project = project_here()
    mine = pl.col("symbol").is_in(list(symbols))
    alerts = project.lake.sql(f"FROM alert_responses WHERE {project.lake.in_force('notification')}")
    operated = Operated(project.lake.read("grid_episode").filter(mine), alerts.filter(mine))
    with stored_candles(days, symbols) as (candles, progress):
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
    from mm_dagster.evaluation.evaluate import evaluate

    with stored_candles(days, symbols) as (candles, progress):
        found = evaluate(symbols, candles, days, project_here().config, progress)
    if found.is_empty():
        raise nothing_judged(days)
    return found


def chained(days: Span, symbols: Sequence[str]) -> list[Chained]:
    """What `evaluation.chains.measure` says of the stored candles.

    Raises:
        CommandError: no grid could be opened, and why.
    """
    from mm_dagster.evaluation import chains
    from mm_dagster.evaluation.evaluate import daily_grids

    config = project_here().config
    markets = []
    with stored_candles(days, symbols) as (candles, progress):
        for symbol in symbols:
            markets += [one.openings for one in daily_grids(symbol, candles(symbol), days, config)]
            progress(symbol)
    if not markets:
        raise nothing_judged(days)
    return chains.measure(markets, config.risk.entry.max_break_low_24h)


_CHAIN_COLUMNS = (
    ("growth_percent_per_week", "growth"),
    ("gain_vs_hold", "on holding"),
    ("gain_vs_same_schedule", "on the same schedule"),
    ("gain_of_gate", "of the gate"),
)


def print_chains(found: Sequence[Chained], days: Span, symbols: Sequence[str], as_json: bool) -> None:
    """A row a chain, and a sentence that says whether any of them earns more than cash."""
    if as_json:
        print_rows([one._asdict() for one in found], as_json)
        return
    say_if_simulated(symbols)
    title = f"Chains of grids on {len(symbols)} markets, {days}: percent a week"
    table = figures_table(title, "left at", "opened", *(heading for _, heading in _CHAIN_COLUMNS), "grids")
    cells = {(one.exit, one.entry, one.metric): one for one in found}
    for limit, entry in dict.fromkeys((one.exit, one.entry) for one in found):
        figures = [cells.get((limit, entry, metric)) for metric, _ in _CHAIN_COLUMNS]
        shown = [figure_cell(None if one is None else (one.value, one.low, one.high, one.n), 2) for one in figures]
        table.add_row(f"{limit:.2f}", entry, *shown, f"{cells[limit, entry, 'gain_vs_cash'].n:,}")
    out.print(table)
    growth = [one for one in found if one.metric == "gain_vs_cash"]
    lose = [one for one in growth if one.value is not None and one.value < 0]
    surely = [one for one in growth if one.high is not None and one.high < 0]
    out.print(
        f"{len(lose)} of these {len(growth)} chains lose against cash, which earns nothing here; {len(surely)} of them "
        "with a 95 % interval wholly below 0. What the columns mean: docs/evaluation.md.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    sys.stdout.flush()


def left(days: Span, symbols: Sequence[str]) -> list[Left]:
    """What `evaluation.leaving.measure` says of the stored candles.

    Raises:
        CommandError: no grid could be opened, or none was left, and why.
    """
    from mm_dagster.evaluation import leaving
    from mm_dagster.evaluation.evaluate import leavings_on

    found: dict[str, list[leaving.Leavings]] = {moment: [] for moment in leaving.MOMENTS}
    with stored_candles(days, symbols) as (candles, progress):
        for symbol in symbols:
            for moment, leavings in leavings_on(symbol, candles(symbol), days, project_here().config).items():
                found[moment].append(leavings)
            progress(symbol)
    if not any(found.values()):
        raise nothing_judged(days)
    rows = [one for moment, parts in found.items() for one in leaving.measure(moment, parts)]
    if not rows:
        raise CommandError(f"no grid was left with an outcome that is known, {days}; choose more days")
    return rows


def print_leaving(found: Sequence[Left], days: Span, symbols: Sequence[str], as_json: bool) -> None:
    """What was said beside what came, the plan beside selling at once, and a sentence: did the intervals come true?"""
    if as_json:
        print_rows([one._asdict() for one in found], as_json)
        return
    from mm_dagster.evaluation import leaving

    say_if_simulated(symbols)

    def cell(digits: int, *key: Any) -> str:
        one = leaving.find(found, *key)
        return figure_cell(None if one is None else (one.value, one.low, one.high, one.n), digits)

    title = f"Leaving grids on {counted(len(symbols), 'market')}, {days}: did the cost come within its interval?"
    shares = figures_table(title, "moment", "over", "within 80 %", "within 90 %", "moments")
    title = "What it cost, basis points of the price: at once as modelled, by the plan as it came"
    costs = figures_table(title, "moment", "sold", "at once", "plan", "worst 5 %", "plan's", "plan is at once")
    for moment in dict.fromkeys(one.moment for one in found):
        n = next(one.n for one in found if one.moment == moment)
        for minutes in leaving.BARS:
            both = [cell(3, moment, f"coverage_{width}", minutes) for width in (80, 90)]
            shares.add_row(moment.replace("_", " "), f"{minutes} min", *both, f"{n:,}")
        for sold in leaving.NOTIONALS:
            metrics = [f"{way}_{figure}_bp" for figure in ("mean", "worst_5") for way in ("now", "plan")]
            row = [cell(1, moment, metric, None, sold) for metric in metrics]
            costs.add_row(moment.replace("_", " "), f"{sold:,.0f}", *row, cell(2, moment, "plan_now_share", None, sold))
    out.print(shares, costs, sep="\n")
    out.print(
        f"{leaving.verdict(found)[1]} At once nothing drifts, and its cost is a model of candles, which promises no "
        "figure beyond the volume of a minute; candles know no order book. What the columns mean: docs/evaluation.md.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    sys.stdout.flush()


def judged_candidates(days: Span, symbols: Sequence[str]) -> Findings:
    """What the promotion gate says of the monthly models on the stored candles.

    Raises:
        CommandError: the libraries that fit them are not installed, or the days are too few.
    """
    from mm_dagster.research import candidates, promotion

    lacking = candidates.missing()
    if lacking:
        raise CommandError(
            f"--candidates: {' and '.join(lacking)} not installed; pip install 'mm-dagster[{candidates.EXTRA}]'"
        )
    lake = project_here().lake
    reach = promotion.reach(days)
    candles, stored = {}, {}
    with days_done("evaluate", unit="markets", transient=True) as progress:
        bar = progress.add_task("", total=2 * len(symbols))
        for symbol in symbols:
            known = lake.read("candles", span=reach, symbols=[symbol])
            if known.is_empty():
                err.print(f"{symbol} is left out: no candle of it is stored from {reach}", highlight=False)
                progress.advance(bar, 2)
                continue
            candles[symbol] = known
            stored[symbol] = lake.read("candidate_parameters", symbols=[symbol])
        if not candles:
            raise CommandError(f"no candle is stored from {reach}; `mm backfill --from DAY` reads them")
        try:
            return promotion.judge(candles, stored, days, project_here().config, lambda symbol: progress.advance(bar))
        except promotion.PromotionError as error:
            raise CommandError(str(error)) from None


def judged_books(days: Span, symbols: Sequence[str]) -> Findings | None:
    """What the gate says of the features of recorded books; None: too few days are recorded, which is said."""
    from mm_dagster.pipeline.book_gate import judge_recorded
    from mm_dagster.research.promotion import PromotionError

    try:
        found, said = judge_recorded(project_here(), days, symbols)
    except PromotionError as error:
        found, said = None, [f"recorded books are not asked: {error}"]
    for sentence in said:
        err.print(sentence, highlight=False, soft_wrap=True)
    return found


def print_candidates(
    found: Findings, of_books: Findings | None, days: Span, symbols: Sequence[str], as_json: bool
) -> None:
    """One row a candidate, and a sentence that says what passed."""
    rows = [_gated(result) for result in (*found.results, *(of_books.results if of_books else ()))]
    if as_json:
        print_rows(rows, as_json)
        return
    say_if_simulated(symbols)
    asked, tested = found.questions
    out.print(
        f"{asked:,} questions on {found.grids:,} grids opened {iso(days.start)[:10]} to {iso(days.end)[:10]}, the "
        f"second half tested: {tested:,}. {found.stored:,} models came from the history, "
        f"{found.fitted:,} were fitted now.",
        highlight=False,
        soft_wrap=True,
    )
    table = figures_table(
        "Promotion gate", "candidate", "gain, 1/1000 nat", "lift", "fires", "over the placebo", "passes"
    )
    table.columns[0].justify = "left"
    for row in rows:
        cells = [
            figure_cell((*(row[f"{name}{part}"] for part in ("", "_low", "_high")), 0), digits)
            for name, digits in (("gain", 2), ("lift", 2), ("over_placebo", 2))
        ]
        fires = f"{row['fires']:.0%}"
        table.add_row(row["candidate"], *cells[:2], fires, cells[2], "yes" if row["passes"] else "no")
    out.print(table)
    passed = [row["candidate"] for row in rows if row["passes"]]
    out.print(
        f"{' and '.join(passed)} passed: worth a trigger of its own, if it does so on other days and markets, too."
        if passed
        else "Nothing passed: none is shown to know more of a break than the break probability does.",
        highlight=False,
    )
    sys.stdout.flush()


def _gated(result: Result) -> dict[str, Any]:
    """A row of the table; gains in thousandths of a nat, null where nothing can be said."""
    from mm_dagster.evaluation import resample

    row: dict[str, Any] = {"candidate": result.candidate}
    figures = {
        "gain": 1e3 * result.gain.log_loss,
        "lift": result.gain.lift,
        "over_placebo": 1e3 * (result.gain.log_loss - result.placebo.log_loss),
    }
    for name, draws in figures.items():
        values = (float(draws[0]), *resample.interval(draws[1:]))
        for part, value in zip(("", "_low", "_high"), values, strict=True):
            row[f"{name}{part}"] = value if math.isfinite(value) else None
    return row | {"fires": result.gain.fired, "passes": result.passes}


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
                *(figure_cell(cells.get((policy, signal, metric)), digits) for metric, _, digits in columns),
            )
            before = policy
        out.print(table)
    out.print(_CAVEAT, soft_wrap=True, highlight=False)
    sys.stdout.flush()
