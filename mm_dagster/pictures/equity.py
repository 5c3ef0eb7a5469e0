"""What a grid is worth: realised and unrealised, from its activation on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from mm_dagster.bars import BAR, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.pictures.colours import PALETTES, Palette, Theme
from mm_dagster.pictures.extent import on_every_bar
from mm_dagster.pictures.style import (
    Floats,
    Label,
    draw_holes,
    draw_time,
    floats,
    foot,
    head,
    label_right,
    legend,
    mark_time,
    name_axis,
    new_figure,
    numbers,
    png,
    span_of,
    stacked_panels,
    value_ticks,
)
from mm_dagster.text import money_text, money_texts


def equity_picture(
    grid: GridConfig,
    risk_rows: pl.DataFrame,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """What the grid is worth and how it came about: liquidation value above, the parts of its profit below.

    Above stand the liquidation value, as a band between the conservative and the optimistic path within each bar,
    and the capital. Below stand realised (grid_profit + exit_pnl), unrealised and total; realised + unrealised =
    total. Null rows are holes.

    Args:
        grid: whose episode is drawn: rows of other grids and other activations are ignored.
        risk_rows: rows of `grid_risk`, the span to be shown.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    mine = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
    rows = on_every_bar(
        risk_rows.filter(mine).with_columns(open_time=pl.col("as_of") - BAR, close_time=pl.col("as_of"))
    )
    figure = new_figure(dots_per_inch, colours)
    worth, parts = stacked_panels(figure, [(0.4, 1.75)], colours, gap_above=0.18)
    quote = grid.symbol.split("-")[1]
    value, optimistic = floats(rows, "liquidation_value"), floats(rows, "liquidation_value_optimistic")
    realised = floats(rows, "grid_profit") + floats(rows, "exit_pnl")
    unrealised, total = floats(rows, "unrealised_pnl"), floats(rows, "total_pnl")
    _draw_worth(worth, rows, value, optimistic, grid, colours)
    _draw_parts(parts, rows, {"realised": realised, "unrealised": unrealised, "total": total}, grid, colours)
    span = span_of(rows, "open_time", "close_time")
    stopped = rows["stopped_at"].drop_nulls().min()
    if isinstance(stopped, datetime) and span is not None:
        for axes in (worth, parts):
            mark_time(axes, stopped, "stopped" if axes is worth else "", span, colours.alarm, colours)
    for axes in (worth, parts):
        value_ticks(axes)
    draw_time([worth, parts], span, colours)
    sources = ", ".join(sorted(rows["source"].drop_nulls().unique().to_list()))
    head(
        figure, f"{title_prefix}{grid.symbol} · {grid.id}", _what_it_made(rows, value, total, grid, quote), colours,
        (sources, colours.faint) if sources else None,
    )  # fmt: skip
    foot(figure, "after fees; value and unrealised as if sold now: taker fee and slippage taken off", colours)
    return png(figure)


def _draw_worth(
    axes: Axes, rows: pl.DataFrame, value: Floats, optimistic: Floats, grid: GridConfig, colours: Palette
) -> None:
    """What is left if all is sold, as a band between the two paths, and the capital."""
    times, quote = numbers(rows["close_time"]), grid.symbol.split("-")[1]
    band = Patch(facecolor=colours.grid, alpha=0.3, linewidth=0, label="conservative to optimistic path")
    axes.fill_between(times, value, optimistic, color=colours.grid, alpha=0.3, linewidth=0)
    (line,) = axes.plot(times, value, color=colours.grid, linewidth=1.6, label="if sold now (conservative)")
    capital = axes.axhline(grid.capital, color=colours.ink, linewidth=1.2, linestyle=(0, (5, 3)), label="capital")
    _fit(axes, [value, optimistic, np.array([grid.capital])], grid.capital)
    draw_holes(axes, rows["close_time"], rows["liquidation_value"].is_null(), colours)
    handles = [line, *([band] if np.isfinite(optimistic).any() else []), capital]
    legend(axes, handles, colours)
    labels = [Label(grid.capital, f"capital {money_text(grid.capital, grid.capital)}", colours.ink)]
    now = _last(value)
    worth = "" if now is None else money_text(now, grid.capital)
    label_right(axes, labels + _end(axes, times, "value", value, colours.grid, worth), colours)
    name_axis(axes, f"worth, {quote}", colours)


def _draw_parts(
    axes: Axes, rows: pl.DataFrame, profits: Mapping[str, Floats], grid: GridConfig, colours: Palette
) -> None:
    """What was realised and what not, and their sum."""
    times, quote = numbers(rows["close_time"]), grid.symbol.split("-")[1]
    curves = (
        ("realised", profits["realised"], colours.realised, "-"),
        ("unrealised", profits["unrealised"], colours.unrealised, (0, (4, 1.5))),
        ("total", profits["total"], colours.ink, "-"),
    )
    axes.axhline(0, color=colours.faint, linewidth=0.8)
    handles = [
        axes.plot(times, curve, color=colour, linestyle=style, linewidth=2.0 if name == "total" else 1.4, label=name)[0]
        for name, curve, colour, style in curves
    ]
    _fit(axes, [*(curve for _, curve, _, _ in curves), np.zeros(1)], grid.capital)
    draw_holes(axes, rows["close_time"], rows["total_pnl"].is_null(), colours)
    legend(axes, handles, colours)
    last = [_last(curve) for _, curve, _, _ in curves]
    parts, whole = money_texts(last[:2], last[2], grid.capital)
    ends = [
        _end(axes, times, name, curve, colour, text)
        for (name, curve, colour, _), text in zip(curves, [*parts, whole], strict=True)
    ]
    label_right(axes, list(chain.from_iterable(ends)), colours)
    name_axis(axes, f"profit, {quote}", colours)


def _what_it_made(rows: pl.DataFrame, value: Floats, total: Floats, grid: GridConfig, quote: str) -> str:
    if rows.is_empty():
        return "no rows in this span"
    until = iso(rows["close_time"][-1])
    if not (math.isfinite(value[-1]) and math.isfinite(total[-1])):
        return f"{until} · positions not known"
    made = f"{money_text(total[-1], grid.capital, signed=True)} ({100 * total[-1] / grid.capital:+.2f} %)"
    return f"{until} · worth {money_text(value[-1], grid.capital)} {quote} · total {made}"


def _last(curve: Floats) -> float | None:
    known = curve[np.isfinite(curve)]
    return float(known[-1]) if known.size else None


def _end(axes: Axes, times: Floats, name: str, curve: Floats, colour: str, text: str) -> list[Label]:
    """Marks where a curve ends, and gives the words for it; none where nothing is known."""
    known = np.flatnonzero(np.isfinite(curve))
    if not known.size:
        return []
    last = float(curve[known[-1]])
    axes.plot(times[known[-1]], last, "o", color=colour, markersize=4.5, clip_on=False, zorder=6)
    return [Label(last, f"{name} {text}", colour, bold=name in ("total", "value"))]


def _fit(axes: Axes, curves: Sequence[Floats], capital: float) -> None:
    """All of the curves with a margin, which a thousandth of the capital is at least: cents are no mountains."""
    known = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = float(known.min()), float(known.max())
    margin = max(0.08 * (high - low), 0.001 * capital)
    axes.set_ylim(low - margin, high + margin)
