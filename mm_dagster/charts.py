"""Pictures from tables: one function serves Dagster's pages, the alert and the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from mm_dagster.bars import BAR, iso
from mm_dagster.config import GridConfig
from mm_dagster.grid.levels import prices
from mm_dagster.tables import STATES, VERDICTS

# Two ramps from calm to danger that stay apart for colour-blind eyes, on white and on black alike.
VERDICT_COLOURS = dict(zip(VERDICTS, ("#2a9d8f", "#e9c46a", "#f4a261", "#c1443c"), strict=True))
STATE_COLOURS = dict(zip(STATES, ("#2a9d8f", "#e9c46a", "#f07f3c", "#b3202c"), strict=True))
INK, FAINT = "#33415c", "#9aa5b8"


def decision_picture(
    grid: GridConfig,
    candles: pl.DataFrame,
    verdicts: pl.DataFrame,
    states: pl.DataFrame,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
) -> bytes:
    """Price with the grid's levels, bounds and stop, the regime as a ribbon, the exit states as steps.

    Args:
        grid: whose levels are drawn.
        candles: rows of tables.Candles of its market, the span to be shown.
        verdicts: rows of tables.RegimeVerdict of the same span.
        states: rows of tables.ExitState of the same span; empty for a grid that is not running.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 9 by 5 inches.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(9, 5), dpi=dots_per_inch, layout="constrained")
    price, ribbon, ladder = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [7, 0.6, 1.6]})
    _draw_price(price, grid, candles)
    _draw_ribbon(ribbon, verdicts)
    _draw_ladder(ladder, states)
    until = candles["close_time"].max()
    price.set_title(
        f"{title_prefix}{grid.symbol} · {grid.id} · {iso(until) if isinstance(until, datetime) else 'no candles'}",
        loc="left",
        color=INK,
        fontsize=11,
    )
    locator = AutoDateLocator(tz=UTC)
    ladder.xaxis.set_major_locator(locator)
    ladder.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    ladder.set_xlabel("UTC", color=INK, fontsize=8)
    for axes in (price, ribbon, ladder):
        axes.tick_params(colors=INK, labelsize=8)
        for side in axes.spines.values():
            side.set_visible(False)
    out = BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()


def _draw_price(axes: Axes, grid: GridConfig, candles: pl.DataFrame) -> None:
    for level in prices(grid.lower, grid.upper, grid.levels, grid.level_convention, grid.spacing):
        axes.axhline(level, color=FAINT, linewidth=0.5, alpha=0.6)
    axes.axhspan(grid.lower, grid.upper, color="#4361ee", alpha=0.07)
    for value, name, colour in (
        (grid.upper, "upper", INK),
        (grid.lower, "lower", INK),
        (grid.stop, "stop", STATE_COLOURS["MANDATORY_EXIT"]),
    ):
        axes.axhline(value, color=colour, linewidth=1, linestyle="--" if name == "stop" else "-")
        axes.annotate(
            f" {name} {value:,.6g}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            color=colour,
            fontsize=8,
            va="center",
        )
    times = date2num(candles["close_time"].to_list())
    axes.fill_between(times, candles["low"].to_numpy(), candles["high"].to_numpy(), color=INK, alpha=0.25, linewidth=0)
    axes.plot(times, candles["close"].to_numpy(), color=INK, linewidth=1)
    axes.set_ylabel(f"price, {grid.symbol.split('-')[1]}", color=INK, fontsize=8)
    shown = [grid.stop, grid.upper, *candles["low"].drop_nulls().to_list(), *candles["high"].drop_nulls().to_list()]
    margin = 0.03 * (max(shown) - min(shown))
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    if grid.enabled and candles.height and candles["open_time"].min() <= grid.activated_at:  # type: ignore[operator]
        axes.axvline(date2num(grid.activated_at), color=INK, linewidth=0.8, linestyle=":")


def _draw_ribbon(axes: Axes, verdicts: pl.DataFrame) -> None:
    for start, end, verdict in _runs(verdicts, "verdict"):
        colour = VERDICT_COLOURS.get(verdict or "", "#ffffff")
        axes.axvspan(date2num(start), date2num(end), color=colour, linewidth=0)
    axes.set_yticks([])
    axes.set_ylabel("regime", color=INK, fontsize=8, rotation=0, ha="right", va="center")
    seen = [verdict for verdict in VERDICTS if verdict in set(verdicts["verdict"])]
    handles = [axes.plot([], [], color=VERDICT_COLOURS[verdict], linewidth=6)[0] for verdict in seen]
    if handles:
        axes.legend(
            handles, seen, ncols=4, fontsize=7, frameon=False, labelcolor=INK, loc="lower left",
            bbox_to_anchor=(0, 0.9), borderaxespad=0, handlelength=1,
        )  # fmt: skip


def _draw_ladder(axes: Axes, states: pl.DataFrame) -> None:
    for start, end, state in _runs(states, "state"):
        rung = STATES.index(state) if state in STATES else 0
        axes.fill_between([date2num(start), date2num(end)], 0, rung + 1, color=STATE_COLOURS[STATES[rung]], linewidth=0)
    axes.set_ylim(0, len(STATES))
    axes.set_yticks([rung + 0.5 for rung in range(len(STATES))], ["normal", "warning", "latest exit", "mandatory"])


def _runs(rows: pl.DataFrame, column: str) -> list[tuple[datetime, datetime, str | None]]:
    """Stretches of equal values as (from, until, value): a row holds from its bar's opening to its as_of."""
    if rows.is_empty():
        return []
    runs = (
        rows.sort("as_of")
        .with_columns(run=pl.col(column).rle_id())
        .group_by("run", maintain_order=True)
        .agg(pl.col("as_of").first().alias("first"), pl.col("as_of").last().alias("last"), pl.col(column).first())
    )
    return [(row["first"] - BAR, row["last"], row[column]) for row in runs.iter_rows(named=True)]


GLANCE_POINTS = 44


def glance(grid: GridConfig, candles: pl.DataFrame) -> str:
    """Price against bounds and stop in a few hundred characters of SVG, for where only that much is shown.

    Args:
        grid: whose bounds and stop are drawn.
        candles: rows of tables.Candles of its market; thinned out to GLANCE_POINTS closes.
    """
    closes = candles.filter(pl.col("close").is_not_null()).sort("open_time")["close"].to_list()
    step = max(1, -(-len(closes) // GLANCE_POINTS))
    shown = closes[::-1][::step][::-1]
    low, high = min([grid.stop, *shown]), max([grid.upper, *shown])

    def height(price: float) -> int:
        return round(58 - 56 * (price - low) / (high - low))

    points = " ".join(f"{5 * place},{height(close)}" for place, close in enumerate(shown))
    width = 5 * (GLANCE_POINTS - 1)
    upper, lower, stop = height(grid.upper), height(grid.lower), height(grid.stop)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="120" viewBox="0 0 {width} 60">'
        f'<path fill="#cdd7fb" d="M0 {upper}h{width}V{lower}H0"/>'
        f'<path stroke="#b3202c" d="M0 {stop}h{width}"/>'
        f'<polyline fill="none" stroke="#33415c" points="{points}"/></svg>'
    )
