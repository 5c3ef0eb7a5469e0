"""For who has an idea of how to trade: what it would have earned, beside controls that could show it to be luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.cli.app import CommandError, app, err, out, project_here
from mm_dagster.cli.arguments import command_line, configured, whole_days
from mm_dagster.cli.figures import figure_cell, figures_table, say_if_simulated
from mm_dagster.cli.printing import AsJson, days_done, print_rows
from mm_dagster.text import counted

if TYPE_CHECKING:
    from mm_dagster.pipeline.strategies import Done, Source

PANEL = "Ask"

strategies_app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Studies of strategies on candles, yours too: is an idea good, or lucky? Nothing is switched on.",
)
app.add_typer(strategies_app, name="strategies", rich_help_panel=PANEL)


@strategies_app.command(
    epilog="Examples: `mm strategies study`, `mm strategies study --strategy my_idea.py:my_idea`, "
    "`mm strategies study --from 2025-03-01 --to 2025-12-27 --markets ETH-USDT,SOL-USDT --json`, "
    "`mm strategies study --candles recordings/kucoin`, "
    "`mm strategies study --candles recordings/perpetuals --file 5m.parquet --funding recordings/funding`"
)
def study(
    markets: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First day, UTC; default: the first that can be.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, UTC; default: the last whole one.")] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="PATH:FUNCTION", help="An idea of your own, in place of the four.")
    ] = None,
    candles: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Candles at FOLDER/SYMBOL/FILE; default: the stored ones.")
    ] = None,
    file: Annotated[str, typer.Option(help="The file of each market in that folder.")] = "15m.parquet",
    funding: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Funding rates of perpetuals, FOLDER/SYMBOL*.parquet.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the study; default: watched, or the folder's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try strategies on candles: each on each market, beside holding, other dates, and markets with random signs.

    The four are trend following, mean reversion, range trading and funding carry; the matrix picks one of them by
    verdict and volatility, chosen on the months before. Or your own function, see docs/studies.md. Fees and the half
    spread of strategies.yaml are taken off. Every idea that is tried is written into the ledger of trials before a
    figure is shown, and the verdict counts all that were tried on the same days. Nothing is switched on.
    """
    # Imported here because they load what is compiled.
    from mm_dagster.pipeline.foreign import named
    from mm_dagster.pipeline.strategies import run_study

    own = named(strategy) if strategy else None
    if funding is not None and candles is None:
        raise CommandError("--funding goes with --candles: of stored candles no funding rates are kept")
    if (first is None) != (last is None):
        raise CommandError("--from and --to: give both, or none for all days")
    days = _days(first, last, candles)
    with days_done("study", unit="steps", transient=True) as progress:
        bar = progress.add_task("", total=None)

        def say(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        source = _source(markets, days, candles, file, funding, name, say)
        done = run_study(project_here(), source, days, own, command_line(), say)
    if as_json:
        print_rows([one._asdict() for one in done.rows], as_json)
        return
    if candles is None:
        say_if_simulated(done.study.symbols)
    print_study(done, source.name)


@strategies_app.command(epilog="Examples: `mm strategies report`, `mm strategies report --study watched --json`")
def report(
    study_name: Annotated[str | None, typer.Option("--study", metavar="NAME", help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """What the last study of each name said, and what was ever tried. Nothing is computed."""
    from mm_dagster.pipeline.strategies import ledger, newest_study

    rows = newest_study(project_here(), study_name)
    if rows.is_empty():
        raise CommandError("no study was made yet" if study_name is None else f"--study {study_name}: there is none")
    if as_json:
        print_rows(rows.to_dicts(), as_json)
        return
    for name in rows["study"].unique().sort():
        mine = [row for row in rows.to_dicts() if row["study"] == name and row["symbol"] == "ALL"]
        days = Span(mine[0]["first_day"], mine[0]["as_of"])
        print_together(f"{name}, {_dates(days)}", _cells(mine))
    tried = ledger(project_here())
    out.print(
        f"The ledger has {counted(tried.height, 'trial')}: `mm sql \"FROM trial\"`. Figures are of when a study ran; a "
        "verdict counts the trials of then.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def _days(first: str | None, last: str | None, candles: Path | None) -> Span | None:
    """The days that were asked for.

    Raises:
        CommandError: they are no days, or not in this order.
    """
    if first is None or last is None:
        return None
    if candles is None:
        return whole_days(first, last)
    from mm_dagster.bars import DAY_BARS, parse_time

    try:
        start, end = parse_time(first), parse_time(last)
        days = Span(start, end + DAY_BARS * BAR)
    except ValueError as error:
        raise CommandError(f"--from {first} --to {last}: {error}") from None
    if days.bars < DAY_BARS or days.bars % DAY_BARS or iso(start)[11:] != "00:00:00Z":
        raise CommandError(f"--from {first} --to {last}: choose whole days, the first one first")
    return days


def _source(
    markets: str | None, days: Span | None, candles: Path | None, file: str, funding: Path | None, name: str | None,
    say: Any,
) -> Source:  # fmt: skip
    from mm_dagster.pipeline.evaluate import judged_markets
    from mm_dagster.pipeline.strategies import WATCHED, recorded, stored

    project = project_here()
    if candles is None:
        wanted = configured(markets) if markets else judged_markets(project.config)
        return stored(project, wanted, days, name or WATCHED)
    wanted = [one.strip() for one in markets.split(",")] if markets else []
    for option, folder in (("--candles", candles), ("--funding", funding)):
        if folder is not None and not folder.is_dir():
            raise CommandError(f"{option} {folder}: there is no such folder")
    return recorded(candles, file, wanted, funding, project.config, name, say)


# printing -------------------------------------------------------------------------------------------------------------

Cells = Mapping[tuple[str, str, str], Any]
"""By strategy, symbol and metric: value, low, high, n."""


def _cells(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], Any]:
    return {
        (row["strategy"], row["symbol"], row["metric"]): (row["value"], row["low"], row["high"], row["n"])
        for row in rows
        if row["period"] != "in_training"
    }


def print_together(title: str, cells: Cells) -> None:
    """All markets together: what a strategy earned beside its controls, and what else is known of it."""
    against = figures_table(
        f"{title}: basis points of the capital a day",
        *("strategy", "net", "on holding", "on other days", "on the placebo", "as good shifted", "not luck", "trials"),
    )  # fmt: skip
    more = figures_table(
        "And the same",
        *("strategy", "Sharpe", "drawdown", "worst 5 %", "profit factor", "exposure", "turnover"),
        *("sized", "staked", "passes"),
    )  # fmt: skip
    for table in (against, more):
        table.columns[0].justify = "left"
    for name in dict.fromkeys(name for name, symbol, _ in cells if symbol == "ALL"):
        of = {metric: one for (whose, symbol, metric), one in cells.items() if (whose, symbol) == (name, "ALL")}
        shown = [figure_cell(of[metric], 1) for metric in ("net", "over_holding", "over_shifted", "over_placebo")]
        luck = [f"{100 * of['p_shifted'][0]:.0f} %", f"{of['deflated'][0]:.2f}", f"{of['trials'][0]:.0f}"]
        # Of an own idea the function is enough, so that the figures have room.
        called = name.rpartition(":")[2]
        against.add_row(called, *shown, *luck)
        ratios = [figure_cell(of["sharpe"], 1), *(figure_cell((of[metric][0], None, None, 0), 2) for metric in _RATIOS)]
        singles = [f"{of[metric][0]:.2f}" for metric in ("exposure", "turnover")]
        singles += [f"{of[metric][0]:.1f}" for metric in ("sized", "staked")]
        more.add_row(called, *ratios, *singles, "yes" if of["passes"][0] else "no")
    out.print(against)
    out.print(more)


_RATIOS = ("max_drawdown", "daily_shortfall_5pct", "profit_factor")


def print_study(done: Done, name: str) -> None:
    """Each strategy together and on each market beside its control, the walk of the matrix, and a sentence."""
    cells = _cells([one._asdict() for one in done.rows])
    found = done.study
    print_together(f"{name}, {counted(len(found.symbols), 'market')}, {_dates(found.days)}", cells)
    names = [result.strategy for result in found.results]
    table = figures_table("Each market, net (above holding the mean exposure), basis points a day", "market", *names)
    table.columns[0].justify = "left"
    for symbol in found.symbols:
        pairs = [(cells[one, symbol, "net"], cells[one, symbol, "over_holding"]) for one in names]
        table.add_row(symbol, *(f"{net[0]:+.1f} ({over[0]:+.1f})" for net, over in pairs))
    out.print(table)
    if found.steps:
        out.print(_walk_table(done))
    for name_, why in found.without.items():
        out.print(f"{name_} was not tried: {why}.", highlight=False)
    for one, said in done.judged.items():
        line = "passes the gate; nothing is switched on" if said.passes else f"does not pass: {'; '.join(said.refused)}"
        out.print(f"- {one} {line}.", highlight=False, soft_wrap=True, markup=False)
    err.print("What the columns mean, and how to bring your own idea: docs/studies.md", highlight=False)


def _dates(days: Span) -> str:
    return f"{iso(days.start)[:10]} to {iso(days.end - BAR)[:10]}"


def _walk_table(done: Done) -> Any:
    """The matrix month by month: what was chosen, what it earned in training, and after it."""
    from mm_dagster.strategies.matrix import CELLS

    short = {name: "".join(part[0] for part in name.split("_")) for name in
             ("trend_following", "mean_reversion", "range_trading", "funding_carry")}  # fmt: skip
    words = ", ".join(f"{letters} {name.replace('_', ' ')}" for name, letters in short.items())
    scenarios = [cell.replace("_", " ").replace("/", "\n") for cell in CELLS]
    title = f"The matrix, basis points a day; {words}"
    table = figures_table(title, "month", *scenarios, "in training", "after it")
    for step in done.study.steps:
        chosen = [short.get(one, one) if one else "–" for one in step.chosen]
        figures = [f"{1e4 * value:+.1f}" for value in (step.in_training, step.out_of_sample)]
        table.add_row(iso(step.test.start)[:7], *chosen, *figures)
    return table
