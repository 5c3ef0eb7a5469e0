"""For who wants proof of the portfolio's figures: did bad nights cost what was said, and what did the grids make?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mm_dagster.bars import Span, iso
from mm_dagster.cli.app import CommandError, err, out, project_here
from mm_dagster.cli.figures import (
    figure_cell,
    figures_table,
    nothing_judged,
    say_if_simulated,
    stored_candles,
)
from mm_dagster.cli.printing import print_rows
from mm_dagster.text import counted

if TYPE_CHECKING:
    import polars as pl

    from mm_dagster.evaluation.realised import Against, Statistic
    from mm_dagster.evaluation.together import Covered, Nights

_CAVEAT = (
    "Level: the share of nights that should be worse. p: how likely so far a rate (Kupiec), such an order of bad "
    "nights (Christoffersen) and so bad ones (Z2) would be if the figure were right; below .05 it is doubted. Bad "
    "nights follow each other, which no figure of one night knows."
)
_SHOWN = ("total_return", "sharpe", "sharpe_error", "sortino", "calmar", "max_drawdown", "profit_factor")


def print_coverage(days: Span, symbols: Sequence[str], as_json: bool) -> None:
    """How the loss of a night came true, a row a method and level; for people also what their own grids made."""
    found, rows = covered(days, symbols)
    for why, count in found.left_out.items():
        err.print(f"left out: {counted(count, 'night')}: {why}", highlight=False, soft_wrap=True)
    if as_json:
        print_rows([one._asdict() for one in rows], as_json)
        return
    from mm_dagster.evaluation.coverage import is_rough
    from mm_dagster.evaluation.together import METHODS

    say_if_simulated(symbols)
    title = (
        f"All grids together on {counted(len(symbols), 'market')}, {counted(len(found.start), 'night')} from "
        f"{iso(found.start[0])[:10]} on"
    )
    headings = ("level", "hits", "rate", "Kupiec p", "Christoffersen p", "Z2", "Z2 p")
    table = figures_table(title, "method", *headings)
    table.columns[0].justify = "left"
    for one in rows:
        tests = (one.kupiec_p, one.christoffersen_p, one.z2, one.z2_p)
        cells = ["–" if value is None else f"{value:.3f}" for value in (one.rate, *tests)]
        table.add_row(one.method, f"{one.level:g}", f"{one.hits}", *cells)
    out.print(table)
    for method, meaning in METHODS.items():
        out.print(f"{method}: {meaning}.", highlight=False, soft_wrap=True)
    out.print(_CAVEAT, highlight=False, soft_wrap=True)
    rough = sorted({one.level for one in rows if is_rough(one.days, one.level)})
    if rough:
        levels = " and ".join(f"{level:g}" for level in rough)
        out.print(f"At {levels} fewer than 5 nights were to be expected: these p are rough.", highlight=False)
    sys.stdout.flush()
    made = _made(days, symbols)
    if made.height:
        _print_realised(made, days, symbols)


def covered(days: Span, symbols: Sequence[str]) -> tuple[Nights, list[Covered]]:
    """What `evaluation.together` says of the stored candles.

    Raises:
        CommandError: no night has a figure, and why.
    """
    from mm_dagster.evaluation import together

    config = project_here().config
    lead = together.lead(config)
    with stored_candles(days, symbols, lead) as (candles, progress):
        markets = together.markets_of(symbols, candles, days, config, progress)
    found = together.nights(markets, days, config) if markets else None
    if found is None or not found.start:
        raise nothing_judged(days, lead)
    return found, together.cover(found)


def print_realised(days: Span, symbols: Sequence[str], as_json: bool) -> None:
    """What the operator's grids made, with every figure's interval; and against holding the same markets.

    Raises:
        CommandError: none of their grids has a known day.
    """
    from mm_dagster.evaluation.realised import statistics

    made = _made(days, symbols)
    if made.is_empty():
        raise CommandError(f"no grid of yours ran from {days}; choose other days, or see `mm status`")
    if as_json:
        rows: list[dict[str, Any]] = [one._asdict() for one in statistics(made)]
        against = _against(made, days, symbols)
        print_rows(rows + (_effects(against) if against else []), as_json)
        return
    _print_realised(made, days, symbols)


def _made(days: Span, symbols: Sequence[str]) -> pl.DataFrame:
    from mm_dagster.pipeline.realised import marks_of

    return marks_of(project_here(), days, symbols)


def _against(made: pl.DataFrame, days: Span, symbols: Sequence[str]) -> Against | None:
    from mm_dagster.evaluation.realised import against
    from mm_dagster.pipeline.realised import closes_of

    return against(made, closes_of(project_here(), days.back(1), symbols))


def _effects(found: Against) -> list[dict[str, Any]]:
    """Rows of the attribution, as those of the statistics, in percent."""
    linked = found.found.linked
    parts = {
        "allocation": linked.allocation,
        "selection": linked.selection,
        "interaction": linked.interaction,
        "excess": linked.total,
    }
    return [
        {
            "by": "market",
            "name": symbol,
            "metric": f"attribution_{name}",
            "value": 100.0 * float(values[place]),
            "low": None,
            "high": None,
            "days": found.days,
            "reason": None,
        }
        for place, symbol in enumerate(found.symbols)
        for name, values in parts.items()
    ]


def _print_realised(made: pl.DataFrame, days: Span, symbols: Sequence[str]) -> None:
    from mm_dagster.evaluation.performance import LEAST_DAYS, METRICS
    from mm_dagster.evaluation.realised import statistics

    found = statistics(made)
    cells: dict[tuple[str, str], dict[str, Statistic]] = {}
    for one in found:
        cells.setdefault((one.by, one.name), {})[one.metric] = one
    say_if_simulated(symbols)
    table = figures_table(f"What your grids made, {days}", "", "days", *(name.replace("_", " ") for name in _SHOWN))
    table.columns[0].justify = "left"
    for (by, name), figures in cells.items():
        row = [figure_cell((one.value, one.low, one.high, one.days), 2) for one in map(figures.__getitem__, _SHOWN)]
        table.add_row(name if by == name else f"{by} {name}", f"{figures[_SHOWN[0]].days}", *row)
    out.print(table)
    out.print(
        f"Figures need {LEAST_DAYS} days, and have 95 % intervals below them; a year has 365 days. total return: "
        f"{METRICS['total_return'][0]}. What the columns mean: docs/evaluation.md.",
        highlight=False,
        soft_wrap=True,
    )
    against = _against(made, days, symbols)
    if against is None:
        return
    excess = figures_table(
        "Against equal capital in each market, held at the grids' mean inventory, percent",
        "market",
        "allocation",
        "selection",
        "interaction",
        "together",
    )
    excess.columns[0].justify = "left"
    linked = against.found.linked
    for place, symbol in enumerate(against.symbols):
        values = (linked.allocation, linked.selection, linked.interaction, linked.total)
        excess.add_row(symbol, *(f"{100 * float(one[place]):+.2f}" for one in values))
    out.print(excess)
    out.print(
        f"All grids made {100 * against.found.portfolio_return:+.2f} %, the benchmark "
        f"{100 * against.found.benchmark_return:+.2f} %, over {counted(against.days, 'day')}: "
        f"{100 * against.found.excess:+.2f} points, which the rows add up to (Brinson, Fachler 1985; Carino 1999). "
        "It has no interval: of one history it says what was, not what will be.",
        highlight=False,
        soft_wrap=True,
    )
    sys.stdout.flush()
