"""What every judgement on stored candles reads and prints: candles with their progress, tables of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.cli.app import CommandError, err, out, project_here
from mm_dagster.cli.printing import days_done

Candles = Callable[[str], pl.DataFrame]
Progress = Callable[[str], None]


def say_if_simulated(symbols: Sequence[str]) -> None:
    """What must be known of figures from a market that is made up."""
    if any(project_here().config.market(symbol).is_simulated for symbol in symbols):
        out.print("[bold]SIMULATED:[/] these candles are made up, and the figures say nothing of a real market.")


@contextmanager
def stored_candles(days: Span, symbols: Sequence[str], lead_bars: int = 0) -> Iterator[tuple[Candles, Progress]]:
    """How the candles of a market are read, and what is told when it is done; the bar is drawn meanwhile.

    Args:
        days: whole days.
        symbols: the markets.
        lead_bars: bars before the days whose features are needed, too.
    """
    from mm_dagster.evaluation.evaluate import HISTORY_BARS

    project = project_here()
    reach = days.back(HISTORY_BARS + lead_bars)
    with days_done("evaluate", unit="markets", transient=True) as progress:
        bar = progress.add_task("", total=len(symbols))

        def candles(symbol: str) -> pl.DataFrame:
            progress.update(bar, description=symbol)
            known = project.lake.read("candles", span=reach, symbols=[symbol])
            if known.is_empty():
                err.print(f"{symbol} is left out: no candle of it is stored from {reach}", highlight=False)
            return known

        yield candles, lambda symbol: progress.advance(bar)


def nothing_judged(days: Span, lead_bars: int = 0) -> CommandError:
    """Why no grid could be judged, and which candles would be needed; see `stored_candles`."""
    from mm_dagster.evaluation.evaluate import HISTORY_BARS

    first = iso(days.back(HISTORY_BARS + lead_bars).start)[:10]
    return CommandError(
        f"no grid can be judged from {days}: the features need candles from {first} on; fetch them with "
        f"`mm backfill --from {first} --to {iso(days.end - BAR)[:10]}`, or choose later days"
    )


def figures_table(title: str, *headings: str) -> Table:
    """An empty table of figures."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def figure_cell(figure: tuple[float | None, float | None, float | None, int] | None, digits: int) -> str:
    """A figure, and its interval on a line of its own."""
    if figure is None or figure[0] is None:
        return "–"
    value, low, high, _ = figure
    text = f"{value:,.{digits}f}"
    return text if low is None or high is None else f"{text}\n[dim]{low:,.{digits}f} … {high:,.{digits}f}[/]"
