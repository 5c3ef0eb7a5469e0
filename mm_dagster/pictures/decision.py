"""The decision: price with grid and stop, the regime as a ribbon, the exit states below."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.patches import Patch

from mm_dagster.bars import BAR, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.pictures.colours import PALETTES, STATE_COLOURS, STATE_NAMES, VERDICT_COLOURS, Palette, Theme
from mm_dagster.pictures.extent import on_every_bar, price_range, stretches
from mm_dagster.pictures.style import (
    LEVEL_POINTS,
    SMALL,
    Label,
    draw_holes,
    draw_time,
    floats,
    foot,
    greatest,
    head,
    label_right,
    least,
    legend,
    lengths,
    mark_time,
    name_axis,
    new_figure,
    numbers,
    one_a_bar,
    png,
    points_high,
    span_of,
    stacked_panels,
    value_ticks,
)
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster.text import price_text


def decision_picture(
    grid: GridConfig,
    candles: pl.DataFrame,
    verdicts: pl.DataFrame,
    states: pl.DataFrame,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """Price with the grid's levels, bounds and stop, the regime as a ribbon, the exit states as steps.

    A bar covers its low to its high from opening to closing, the line joins the closes, and a hole in the data stays
    a hole. Where the price is far from the grid (more than twice its width, see `price_range`), the price keeps the
    picture and the bounds are named at the edge. Dots on the price are the bars at which the state rose.

    Args:
        grid: whose levels are drawn.
        candles: rows of `candles`, the span to be shown; other markets are ignored.
        verdicts: rows of `regime_verdict` of the same span; other markets are ignored.
        states: rows of `exit_state` of the same span, empty for a grid that is not running; other grids are
            ignored.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    bars = on_every_bar(candles.filter(pl.col("symbol") == grid.symbol))
    verdicts = verdicts.filter(pl.col("symbol") == grid.symbol)
    states = one_a_bar(states.filter((pl.col("grid_id") == grid.id) & pl.col("state").is_not_null()))
    figure = new_figure(dots_per_inch, colours)
    below = [(0.3, 0.3), (0.1, 0.95)] if grid.enabled else [(0.3, 0.3)]
    price, ribbon, *ladder = stacked_panels(figure, below, colours)
    price.set_ylim(*price_range(grid, least(bars["low"]), greatest(bars["high"])))
    drawn_every = _draw_grid(price, grid, bars, colours)
    _draw_price(price, grid, bars, states, colours)
    _draw_ribbon(ribbon, verdicts, colours)
    for axes in ladder:
        _draw_ladder(axes, states, colours)
    span = span_of(bars, "open_time", "close_time") or span_of(verdicts, "as_of", "as_of")
    draw_time([price, ribbon, *ladder], span, colours)
    title = f"{title_prefix}{grid.symbol} · {grid.id}"
    chip = _state_now(states, span, colours) if grid.enabled else ("NOT RUNNING", colours.faint)
    head(figure, title, _where_it_stands(grid, bars), colours, chip)
    count = grid.prices.size
    thinned = f", 1 in {drawn_every} drawn" if drawn_every > 1 else ""
    dots = " · dots: the exit state rose" if states.height else ""
    foot(figure, f"grid of {count:,} prices, {grid.spacing}{thinned}{dots}", colours)
    return png(figure)


def _draw_price(axes: Axes, grid: GridConfig, bars: pl.DataFrame, states: pl.DataFrame, colours: Palette) -> None:
    closes = floats(bars, "close")
    times = numbers(bars["close_time"])
    edges = np.column_stack([numbers(bars["open_time"]), times]).ravel()
    lows, highs = (np.repeat(floats(bars, name), 2) for name in ("low", "high"))
    axes.fill_between(edges, lows, highs, color=colours.ink, alpha=0.35, linewidth=0, zorder=3)
    axes.plot(times, closes, color=colours.ink, linewidth=1.2, zorder=4)
    draw_holes(axes, bars["close_time"], bars["close"].is_null(), colours)
    _draw_escalations(axes, bars, states, colours)
    labels = [
        Label(grid.upper, f"upper {price_text(grid.upper)}", colours.grid),
        Label(grid.lower, f"lower {price_text(grid.lower)}", colours.grid),
        Label(grid.stop, f"stop {price_text(grid.stop)}", colours.alarm),
    ]
    known = bars.filter(pl.col("close").is_not_null())
    if known.height:
        last = known.row(-1, named=True)
        fresh = last["close_time"] == bars["close_time"].max()
        ink = colours.ink if fresh else colours.faint
        axes.plot(
            numbers(known["close_time"][-1:]), [last["close"]], "o", color=ink, markersize=5, zorder=6, clip_on=False
        )
        labels.append(Label(last["close"], price_text(last["close"]), ink, bold=fresh))
    label_right(axes, labels, colours)
    value_ticks(axes)
    name_axis(axes, f"price, {grid.symbol.split('-')[1]}", colours)


def _draw_grid(axes: Axes, grid: GridConfig, bars: pl.DataFrame, colours: Palette) -> int:
    """Band, bounds, stop and levels; of very many levels only every so many that they stay lines, and how many."""
    levels = grid.prices
    bottom, top = axes.get_ylim()
    points = float(np.median(np.diff(levels))) / (top - bottom) * points_high(axes)
    every = max(1, math.ceil(LEVEL_POINTS / points))
    axes.axhspan(grid.lower, grid.upper, color=colours.grid, alpha=0.08, linewidth=0)
    for level in levels[::every]:
        axes.axhline(level, color=colours.grid, linewidth=0.6, alpha=0.35)
    for bound in (grid.lower, grid.upper):
        axes.axhline(bound, color=colours.grid, linewidth=1.2)
    axes.axhline(grid.stop, color=colours.alarm, linewidth=1.4, linestyle=(0, (5, 3)))
    first, last = bars["open_time"].min(), bars["close_time"].max()
    if grid.enabled and isinstance(first, datetime) and isinstance(last, datetime) and first < grid.activated_at < last:
        mark_time(axes, grid.activated_at, "activated", (first, last), colours.ink, colours)
    return every


def _draw_escalations(axes: Axes, bars: pl.DataFrame, states: pl.DataFrame, colours: Palette) -> None:
    closes = dict(bars.select("close_time", pl.col("close").forward_fill()).iter_rows())
    before, dots = 0, []
    for start, _, state in stretches(states, "state"):
        rung, price = STATES.index(str(state)), closes.get(start + BAR)
        if rung > before and price is not None:
            dots.append((float(date2num(start + BAR)), price, STATE_COLOURS[STATES[rung]]))
        before = rung
    if dots:
        times, prices_then, fills = zip(*dots, strict=True)
        axes.scatter(times, prices_then, s=64, c=fills, edgecolors=colours.paper, linewidths=1.2, zorder=5)


def _draw_ribbon(axes: Axes, verdicts: pl.DataFrame, colours: Palette) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], ["regime"])
    runs = stretches(verdicts, "verdict")
    seen: list[Patch] = []
    for verdict in (*VERDICTS, None):
        spans = lengths(runs, verdict)
        if not spans:
            continue
        if verdict is None:
            style: dict[str, Any] = {"facecolor": "none", "edgecolor": colours.faint, "hatch": "//////", "linewidth": 0}
        else:
            style = {"facecolor": VERDICT_COLOURS[verdict], "linewidth": 0}
        axes.broken_barh(spans, (0, 1), **style)
        seen.append(Patch(label=verdict or "not known", **style))
    if seen:
        legend(axes, seen, colours)
    else:
        axes.text(0.5, 0.5, "no verdict in this span", color=colours.faint, fontsize=SMALL, ha="center", va="center",
                  transform=axes.transAxes)  # fmt: skip


def _draw_ladder(axes: Axes, states: pl.DataFrame, colours: Palette) -> None:
    axes.set_ylim(0, len(STATES))
    axes.set_yticks([rung + 0.5 for rung in range(len(STATES))], list(STATE_NAMES.values()))
    for rung in range(1, len(STATES)):
        axes.axhline(rung, color=colours.rule, linewidth=0.8, zorder=0)
    runs = stretches(states, "state")
    for rung, state in enumerate(STATES):
        spans = lengths(runs, state)
        axes.broken_barh(spans, (0, rung + 1), facecolor=STATE_COLOURS[state], linewidth=0)
    if not runs:
        axes.text(0.5, 0.5, "no exit state in this span", color=colours.faint, fontsize=SMALL, ha="center",
                  va="center", transform=axes.transAxes)  # fmt: skip


def _state_now(states: pl.DataFrame, span: tuple[datetime, datetime] | None, colours: Palette) -> tuple[str, str]:
    """The newest state and its colour; with its time where the picture goes on after it."""
    if states.is_empty():
        return "NO EXIT STATE", colours.faint
    newest = states.row(-1, named=True)
    late = f" AT {iso(newest['as_of'])}" if span is not None and newest["as_of"] < span[1] else ""
    return newest["state"].replace("_", " ") + late, STATE_COLOURS[newest["state"]]


def _where_it_stands(grid: GridConfig, bars: pl.DataFrame) -> str:
    """One line under the title: when, the price, and how far the next bound and the stop are."""
    until = bars["close_time"].max()
    if not isinstance(until, datetime):
        return "no candles in this span"
    close = bars["close"][-1]
    if not close:
        known = bars.filter(pl.col("close").is_not_null())["close_time"].max()
        since = f", last known at {iso(known)}" if isinstance(known, datetime) else ""
        return f"{iso(until)} · price not known{since}"

    def away(name: str, level: float) -> str:
        # Of the price, like the distances in `grid_risk`.
        return f"{100 * abs(close - level) / close:.1f} % {'above' if close >= level else 'below'} {name}"

    bound = away("upper", grid.upper) if 2 * close > grid.lower + grid.upper else away("lower", grid.lower)
    return f"{iso(until)} · {price_text(close)} · {bound} · {away('stop', grid.stop)}"
