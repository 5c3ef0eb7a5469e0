"""Pictures from tables: one function serves Dagster's pages, the alert and the documentation.

Every picture brings its own background, so that it reads on a white page and on a black one alike; `theme` chooses
which. The same rows give the same bytes: no clock, no locale, no font but the one that matplotlib carries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.grid.calibration import EVENTS, Calibration
from mm_dagster.tables.words import STATES, VERDICTS

Floats = npt.NDArray[np.float64]
Theme = Literal["light", "dark"]

# Calm to danger. Any two stay apart under each kind of colour blindness (test_charts.py); height or words say it too.
_RAMP = ("#2e86c1", "#f0c419", "#e2711d", "#b81442")
VERDICT_COLOURS = dict(zip(VERDICTS, _RAMP, strict=True))
STATE_COLOURS = dict(zip(STATES, _RAMP, strict=True))
STATE_NAMES = dict(zip(STATES, ("normal", "warning", "latest exit", "mandatory"), strict=True))


@dataclass(frozen=True)
class _Palette:
    """Colours of one theme: background, text and price, what stands back, the grid, the stop, three curves."""

    paper: str
    ink: str
    faint: str
    rule: str
    grid: str
    alarm: str
    realised: str
    unrealised: str


_PALETTES: dict[Theme, _Palette] = {
    "light": _Palette("#ffffff", "#1d2739", "#5d687c", "#dfe3ea", "#3b5bdb", "#b81442", "#1b7f79", "#a85a00"),
    "dark": _Palette("#12161f", "#e8ecf4", "#9aa6ba", "#2b3342", "#7c96ff", "#ff6b8b", "#4ecdc4", "#ffb454"),
}

_WIDTH, _HEIGHT = 8.0, 5.4
_LEFT, _RIGHT = 1.0, 1.25
_TOP, _BOTTOM = 0.66, 0.52
"""Inches. Margins are fixed: the same place for the same thing in every picture, and no layout to be solved."""

_SMALL, _TEXT, _TITLE = 9.0, 10.0, 13.0
"""Font sizes in points: on a phone held upright the picture shrinks to about half."""
_LEVEL_POINTS = 5.0
"""Grid lines nearer than this would be a grey wall."""


# the decision ---------------------------------------------------------------------------------------------------------


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
        candles: rows of tables.Candles, the span to be shown; other markets are ignored.
        verdicts: rows of tables.RegimeVerdict of the same span; other markets are ignored.
        states: rows of tables.ExitState of the same span, empty for a grid that is not running; other grids are
            ignored.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    bars = _on_every_bar(candles.filter(pl.col("symbol") == grid.symbol))
    verdicts = verdicts.filter(pl.col("symbol") == grid.symbol)
    states = _one_a_bar(states.filter((pl.col("grid_id") == grid.id) & pl.col("state").is_not_null()))
    figure = _figure(dots_per_inch, colours)
    below = [(0.3, 0.3), (0.1, 0.95)] if grid.enabled else [(0.3, 0.3)]
    price, ribbon, *ladder = _panels(figure, below, colours)
    price.set_ylim(*price_range(grid, _least(bars["low"]), _greatest(bars["high"])))
    drawn_every = _draw_grid(price, grid, bars, colours)
    _draw_price(price, grid, bars, states, colours)
    _draw_ribbon(ribbon, verdicts, colours)
    for axes in ladder:
        _draw_ladder(axes, states, colours)
    span = _span_of(bars, "open_time", "close_time") or _span_of(verdicts, "as_of", "as_of")
    _draw_time([price, ribbon, *ladder], span, colours)
    title = f"{title_prefix}{grid.symbol} · {grid.id}"
    chip = _state_now(states, span, colours) if grid.enabled else ("NOT RUNNING", colours.faint)
    _head(figure, title, _where_it_stands(grid, bars), colours, chip)
    count = grid.prices.size
    thinned = f", 1 in {drawn_every} drawn" if drawn_every > 1 else ""
    dots = " · dots: the exit state rose" if states.height else ""
    _foot(figure, f"grid of {count:,} prices, {grid.spacing}{thinned}{dots}", colours)
    return _png(figure)


def price_range(grid: GridConfig, low: float | None, high: float | None) -> tuple[float, float]:
    """What a price axis shows: price, grid and stop together, unless the price is far from the grid.

    Args:
        grid: its upper bound and stop are shown, unless the price lies wholly more than twice their distance away.
        low: lowest price, quote currency; None: no price is known.
        high: highest price.

    Returns:
        Bottom and top of the axis, quote currency, with a margin.
    """
    width = grid.upper - grid.stop
    if low is None or high is None:
        low, high = grid.stop, grid.upper
    elif low <= grid.upper + 2 * width and high >= grid.stop - 2 * width:
        low, high = min(low, grid.stop), max(high, grid.upper)
    margin = max(0.04 * (high - low), 0.002 * high)
    return low - margin, high + margin


def _draw_price(axes: Axes, grid: GridConfig, bars: pl.DataFrame, states: pl.DataFrame, colours: _Palette) -> None:
    closes = _values(bars, "close")
    times = _numbers(bars["close_time"])
    edges = np.column_stack([_numbers(bars["open_time"]), times]).ravel()
    lows, highs = (np.repeat(_values(bars, name), 2) for name in ("low", "high"))
    axes.fill_between(edges, lows, highs, color=colours.ink, alpha=0.35, linewidth=0, zorder=3)
    axes.plot(times, closes, color=colours.ink, linewidth=1.2, zorder=4)
    _draw_holes(axes, bars["close_time"], bars["close"].is_null(), colours)
    _draw_escalations(axes, bars, states, colours)
    labels = [
        _Label(grid.upper, f"upper {price_text(grid.upper)}", colours.grid),
        _Label(grid.lower, f"lower {price_text(grid.lower)}", colours.grid),
        _Label(grid.stop, f"stop {price_text(grid.stop)}", colours.alarm),
    ]
    known = bars.filter(pl.col("close").is_not_null())
    if known.height:
        last = known.row(-1, named=True)
        fresh = last["close_time"] == bars["close_time"].max()
        ink = colours.ink if fresh else colours.faint
        axes.plot(
            _numbers(known["close_time"][-1:]), [last["close"]], "o", color=ink, markersize=5, zorder=6, clip_on=False
        )
        labels.append(_Label(last["close"], price_text(last["close"]), ink, bold=fresh))
    _label_right(axes, labels, colours)
    _value_ticks(axes)
    _name_axis(axes, f"price, {grid.symbol.split('-')[1]}", colours)


def _draw_grid(axes: Axes, grid: GridConfig, bars: pl.DataFrame, colours: _Palette) -> int:
    """Band, bounds, stop and levels; of very many levels only every so many that they stay lines, and how many."""
    levels = grid.prices
    bottom, top = axes.get_ylim()
    points = float(np.median(np.diff(levels))) / (top - bottom) * _points_high(axes)
    every = max(1, math.ceil(_LEVEL_POINTS / points))
    axes.axhspan(grid.lower, grid.upper, color=colours.grid, alpha=0.08, linewidth=0)
    for level in levels[::every]:
        axes.axhline(level, color=colours.grid, linewidth=0.6, alpha=0.35)
    for bound in (grid.lower, grid.upper):
        axes.axhline(bound, color=colours.grid, linewidth=1.2)
    axes.axhline(grid.stop, color=colours.alarm, linewidth=1.4, linestyle=(0, (5, 3)))
    first, last = bars["open_time"].min(), bars["close_time"].max()
    if grid.enabled and isinstance(first, datetime) and isinstance(last, datetime) and first < grid.activated_at < last:
        _mark_time(axes, grid.activated_at, "activated", (first, last), colours.ink, colours)
    return every


def _draw_holes(axes: Axes, times: pl.Series, unknown: pl.Series, colours: _Palette) -> None:
    """Hatches the bars, named by their closing times, that are not known: nobody shall take them for quiet ones."""
    spans = _bars(stretches(pl.DataFrame({"as_of": times, "unknown": unknown}), "unknown"), True)
    if not spans:
        return
    bottom, top = axes.get_ylim()
    axes.broken_barh(
        spans, (bottom, top - bottom), facecolor=(*to_rgb(colours.faint), 0.15), edgecolor=colours.faint,
        hatch="//////", linewidth=0, zorder=2,
    )  # fmt: skip
    start, length = max(spans, key=lambda span: span[1])
    if length > 0.09 * times.len() * (BAR / _DAY):
        axes.text(
            start + length / 2, (bottom + top) / 2, "not known", color=colours.ink, fontsize=_SMALL, ha="center",
            va="center", bbox=_box(colours), zorder=5,
        )  # fmt: skip


def _draw_escalations(axes: Axes, bars: pl.DataFrame, states: pl.DataFrame, colours: _Palette) -> None:
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


def _draw_ribbon(axes: Axes, verdicts: pl.DataFrame, colours: _Palette) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], ["regime"])
    runs = stretches(verdicts, "verdict")
    seen: list[Patch] = []
    for verdict in (*VERDICTS, None):
        spans = _bars(runs, verdict)
        if not spans:
            continue
        if verdict is None:
            style: dict[str, Any] = {"facecolor": "none", "edgecolor": colours.faint, "hatch": "//////", "linewidth": 0}
        else:
            style = {"facecolor": VERDICT_COLOURS[verdict], "linewidth": 0}
        axes.broken_barh(spans, (0, 1), **style)
        seen.append(Patch(label=verdict or "not known", **style))
    if seen:
        _legend(axes, seen, colours)
    else:
        axes.text(0.5, 0.5, "no verdict in this span", color=colours.faint, fontsize=_SMALL, ha="center", va="center",
                  transform=axes.transAxes)  # fmt: skip


def _draw_ladder(axes: Axes, states: pl.DataFrame, colours: _Palette) -> None:
    axes.set_ylim(0, len(STATES))
    axes.set_yticks([rung + 0.5 for rung in range(len(STATES))], list(STATE_NAMES.values()))
    for rung in range(1, len(STATES)):
        axes.axhline(rung, color=colours.rule, linewidth=0.8, zorder=0)
    runs = stretches(states, "state")
    for rung, state in enumerate(STATES):
        spans = _bars(runs, state)
        axes.broken_barh(spans, (0, rung + 1), facecolor=STATE_COLOURS[state], linewidth=0)
    if not runs:
        axes.text(0.5, 0.5, "no exit state in this span", color=colours.faint, fontsize=_SMALL, ha="center",
                  va="center", transform=axes.transAxes)  # fmt: skip


def _state_now(states: pl.DataFrame, span: tuple[datetime, datetime] | None, colours: _Palette) -> tuple[str, str]:
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
        # Of the price, like the distances in tables.GridRisk.
        return f"{100 * abs(close - level) / close:.1f} % {'above' if close >= level else 'below'} {name}"

    bound = away("upper", grid.upper) if 2 * close > grid.lower + grid.upper else away("lower", grid.lower)
    return f"{iso(until)} · {price_text(close)} · {bound} · {away('stop', grid.stop)}"


# the money ------------------------------------------------------------------------------------------------------------


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
        risk_rows: rows of tables.GridRisk, the span to be shown.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    mine = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
    rows = _on_every_bar(
        risk_rows.filter(mine).with_columns(open_time=pl.col("as_of") - BAR, close_time=pl.col("as_of"))
    )
    figure = _figure(dots_per_inch, colours)
    worth, parts = _panels(figure, [(0.4, 1.75)], colours, gap_above=0.18)
    times = _numbers(rows["close_time"])
    quote = grid.symbol.split("-")[1]
    value, optimistic = _values(rows, "liquidation_value"), _values(rows, "liquidation_value_optimistic")
    realised = _values(rows, "grid_profit") + _values(rows, "exit_pnl")
    unrealised, total = _values(rows, "unrealised_pnl"), _values(rows, "total_pnl")

    band = Patch(facecolor=colours.grid, alpha=0.3, linewidth=0, label="conservative to optimistic path")
    worth.fill_between(times, value, optimistic, color=colours.grid, alpha=0.3, linewidth=0)
    (line,) = worth.plot(times, value, color=colours.grid, linewidth=1.6, label="if sold now (conservative)")
    capital = worth.axhline(grid.capital, color=colours.ink, linewidth=1.2, linestyle=(0, (5, 3)), label="capital")
    _fit(worth, [value, optimistic, np.array([grid.capital])], grid.capital)
    _draw_holes(worth, rows["close_time"], rows["liquidation_value"].is_null(), colours)
    handles = [line, *([band] if np.isfinite(optimistic).any() else []), capital]
    _legend(worth, handles, colours)
    labels = [_Label(grid.capital, f"capital {money_text(grid.capital, grid.capital)}", colours.ink)]
    _label_right(worth, labels + _end(worth, times, "value", value, colours.grid, grid.capital), colours)
    _name_axis(worth, f"worth, {quote}", colours)

    curves = (
        ("realised", realised, colours.realised, "-"),
        ("unrealised", unrealised, colours.unrealised, (0, (4, 1.5))),
        ("total", total, colours.ink, "-"),
    )
    parts.axhline(0, color=colours.faint, linewidth=0.8)
    handles = [
        parts.plot(times, curve, color=colour, linestyle=style, linewidth=2.0 if name == "total" else 1.4, label=name)[
            0
        ]
        for name, curve, colour, style in curves
    ]
    _fit(parts, [*(curve for _, curve, _, _ in curves), np.zeros(1)], grid.capital)
    _draw_holes(parts, rows["close_time"], rows["total_pnl"].is_null(), colours)
    _legend(parts, handles, colours)
    ends = [_end(parts, times, name, curve, colour, grid.capital) for name, curve, colour, _ in curves]
    _label_right(parts, list(chain.from_iterable(ends)), colours)
    _name_axis(parts, f"profit, {quote}", colours)
    span = _span_of(rows, "open_time", "close_time")
    stopped = rows["stopped_at"].drop_nulls().min()
    if isinstance(stopped, datetime) and span is not None:
        for axes in (worth, parts):
            _mark_time(axes, stopped, "stopped" if axes is worth else "", span, colours.alarm, colours)
    for axes in (worth, parts):
        _value_ticks(axes)
    _draw_time([worth, parts], span, colours)
    sources = ", ".join(sorted(rows["source"].drop_nulls().unique().to_list()))
    _head(
        figure, f"{title_prefix}{grid.symbol} · {grid.id}", _what_it_made(rows, value, total, grid, quote), colours,
        (sources, colours.faint) if sources else None,
    )  # fmt: skip
    _foot(figure, "after fees; value and unrealised as if sold now: taker fee and slippage taken off", colours)
    return _png(figure)


def _what_it_made(rows: pl.DataFrame, value: Floats, total: Floats, grid: GridConfig, quote: str) -> str:
    if rows.is_empty():
        return "no rows in this span"
    until = iso(rows["close_time"][-1])
    if not (math.isfinite(value[-1]) and math.isfinite(total[-1])):
        return f"{until} · positions not known"
    made = f"{money_text(total[-1], grid.capital, signed=True)} ({100 * total[-1] / grid.capital:+.2f} %)"
    return f"{until} · worth {money_text(value[-1], grid.capital)} {quote} · total {made}"


def _end(axes: Axes, times: Floats, name: str, curve: Floats, colour: str, capital: float) -> list[_Label]:
    """Marks where a curve ends, and gives the words for it; none where nothing is known."""
    known = np.flatnonzero(np.isfinite(curve))
    if not known.size:
        return []
    last = float(curve[known[-1]])
    axes.plot(times[known[-1]], last, "o", color=colour, markersize=4.5, clip_on=False, zorder=6)
    text = money_text(last, capital, signed=name != "value")
    return [_Label(last, f"{name} {text}", colour, bold=name in ("total", "value"))]


def _fit(axes: Axes, curves: Sequence[Floats], capital: float) -> None:
    """All of the curves with a margin, which a thousandth of the capital is at least: cents are no mountains."""
    known = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    low, high = float(known.min()), float(known.max())
    margin = max(0.08 * (high - low), 0.001 * capital)
    axes.set_ylim(low - margin, high + margin)


# the honesty of a probability -----------------------------------------------------------------------------------------


def reliability_picture(
    calibration: Calibration,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """Predicted against observed frequency, with the 95 % interval of each bin, and below how often each was said.

    Args:
        calibration: what grid/calibration.py made of predictions and outcomes.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    figure = _figure(dots_per_inch, colours)
    filled = [[getattr(one, name) for name in _BINS] for one in calibration.bins if one.count]
    _draw_reliability(figure, pl.DataFrame(filled, schema=_BINS, orient="row"), calibration.whole.observed, colours)
    whole = calibration.whole
    looked_at = f"{whole.count:,} hours · {whole.horizons:,} spans of {calibration.hours} h without overlap"
    scores = (
        ("calibration error", calibration.expected_calibration_error),
        ("Brier skill", calibration.brier_skill),
        ("AUC", calibration.auc),
    )
    told = " · ".join(f"{name} {'not known' if value is None else f'{value:.3f}'}" for name, value in scores)
    _head(
        figure, f"{title_prefix}Probability of {EVENTS[calibration.event]} within {calibration.hours} h", told, colours
    )
    _foot(figure, looked_at, colours)
    return _png(figure)


_BINS = dict.fromkeys(("low", "high", "count", "predicted", "observed", "lower", "upper"), pl.Float64())


def _draw_reliability(figure: Figure, bins: pl.DataFrame, base: float | None, colours: _Palette) -> None:
    """Observed against predicted with its interval, if there is one, and below how many hours each bin holds.

    Args:
        figure: an empty one.
        bins: those that hold anything, with the columns _BINS, all fractions.
        base: base rate; None: there is no prediction.
        colours: of the theme.
    """
    curve, counts = _panels(figure, [(0.12, 0.85)], colours, gap_above=0.18)
    centres = 50 * (_values(bins, "low") + _values(bins, "high"))
    predicted, observed, lower, upper = (
        100 * _values(bins, name) for name in ("predicted", "observed", "lower", "upper")
    )
    (diagonal,) = curve.plot([0, 100], [0, 100], color=colours.faint, linewidth=1, linestyle=(0, (5, 3)))
    diagonal.set_label("as predicted")
    # Not errorbar(yerr=): the share may lie at the end of its interval, where rounding makes a length negative.
    interval = curve.vlines(predicted, lower, upper, color=colours.grid, linewidth=2, alpha=0.55)
    interval.set_label("95 % interval")
    (points,) = curve.plot(predicted, observed, "o-", color=colours.grid, linewidth=1, markersize=5, label="observed")
    curve.set_ylim(-3, 103)
    curve.set_xlim(-1, 101)
    curve.set_yticks(range(0, 101, 20))
    _name_axis(curve, "observed, %", colours)
    _legend(curve, [diagonal, points, interval], colours)
    if base is None:
        curve.text(50, 50, "no prediction whose outcome is known", color=colours.faint, fontsize=_TEXT, ha="center",
                   va="center", bbox=_box(colours))  # fmt: skip
    else:
        curve.axhline(100 * base, color=colours.faint, linewidth=0.8, linestyle=":")
        _label_right(curve, [_Label(100 * base, f"base rate {100 * base:.1f} %", colours.faint)], colours)

    count = _values(bins, "count")
    widths = 100 * (_values(bins, "high") - _values(bins, "low")) - 1
    counts.bar(centres, count, width=widths, color=colours.grid, alpha=0.55, linewidth=0)
    counts.set_yscale("log")
    counts.set_ylim(0.7, max(count, default=1) * 8)
    counts.set_yticks([])
    counts.minorticks_off()
    _name_axis(counts, "hours (log)", colours)
    for hours, centre in zip(count, centres, strict=True):
        words = _short_count(int(hours))
        counts.text(centre, hours * 1.25, words, color=colours.ink, fontsize=7.5, ha="center", va="bottom")
    counts.set_xlim(-1, 101)
    curve.set_xticks(range(0, 101, 10), [])
    counts.set_xticks(range(0, 101, 10))
    counts.set_xlabel("predicted, %", color=colours.ink, fontsize=_SMALL, loc="right", labelpad=2)
    for axes in (curve, counts):
        axes.grid(axis="x", color=colours.rule, linewidth=0.8)
    curve.grid(axis="y", color=colours.rule, linewidth=0.8)


def _short_count(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"


# the operator ---------------------------------------------------------------------------------------------------------


def response_picture(
    kpis: pl.DataFrame, *, title_prefix: str = "", dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:
    """By month and state: how soon the operator acted, p50 to p95, and below how many alerts were answered or missed.

    Args:
        kpis: rows of the view `response_kpis`.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    figure = _figure(dots_per_inch, colours)
    times, counts = _panels(figure, [(0.3, 1.3)], colours, gap_above=0.18)
    months = kpis["month"].unique().sort().to_list()
    states = [state for state in STATES if state in set(kpis["state"])]
    width = 0.8 / max(1, len(states))
    handles: list[Artist] = []
    for place, state in enumerate(states):
        mine = {row["month"]: row for row in kpis.filter(pl.col("state") == state).iter_rows(named=True)}
        colour = STATE_COLOURS[state]
        for number, month in enumerate(months):
            if month not in mine:
                continue
            row, x = mine[month], number - 0.4 + width * (place + 0.5)
            if row["p50_seconds"] is not None:
                soon, late = row["p50_seconds"] / 60.0, row["p95_seconds"] / 60.0
                times.vlines(x, soon, late, color=colour, linewidth=3)
                times.plot([x], [soon], "o", color=colour, markersize=6)
            counts.bar(x, row["alerts"], width=0.9 * width, color=colour, alpha=0.35, linewidth=0)
            counts.bar(x, row["responses"], width=0.9 * width, color=colour, linewidth=0)
        handles.append(Line2D([], [], color=colour, marker="o", linewidth=3, label=STATE_NAMES[state]))
    for axes in (times, counts):
        axes.set_xlim(-0.6, max(1, len(months)) - 0.4)
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
        axes.grid(axis="y", color=colours.rule, linewidth=0.8)
        axes.set_axisbelow(True)
    _value_ticks(times)
    counts.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    times.set_xticks([])
    counts.set_xticks(range(len(months)), months)
    counts.set_xlabel("month, UTC", color=colours.ink, fontsize=_SMALL, loc="right", labelpad=2)
    _name_axis(times, "minutes to act", colours)
    _name_axis(counts, "alerts", colours)
    if handles:
        _legend(times, handles, colours)
    told, answered = int(kpis["alerts"].sum()), int(kpis["responses"].sum())
    _head(figure, f"{title_prefix}What the operator did", f"{told} alerts, {answered} answered", colours)
    _foot(figure, "dot: half of the answers came by then, line: 95 % · full bar: answered, pale: told", colours)
    return _png(figure)


# the worth of signals -------------------------------------------------------------------------------------------------

_WORTH = (
    ("precision", "precision, %", 100),
    ("recall", "recall, %", 100),
    ("lead_p50_hours", "lead, h", 1),
    ("mean_equity", "left, %", 1),
    ("shortfall_5pct", "worst 5 %, %", 1),
)
"""Metric, its name in the picture, and by what it is multiplied."""
_NAMES_WIDE = 1.75
"""Inches for the names of the signals."""


def quality_reliability_picture(
    bins: pl.DataFrame,
    rows: pl.DataFrame,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """The break probability of many grids, predicted against observed, each bin with its 95 % interval.

    Args:
        bins: what evaluation/monthly.py's `reliability` returns.
        rows: of `signal_quality`: the figures of the probability, of one as_of, the same grids and policy.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    figure = _figure(dots_per_inch, colours)
    known = {row["metric"]: row for row in rows.filter(pl.col("value").is_not_null()).iter_rows(named=True)}
    _draw_reliability(figure, bins, known["base_rate"]["value"] if known else None, colours)
    names = {"ece": "calibration error", "brier_skill": "Brier skill", "auc": "AUC"}
    told = " · ".join(f"{name} {known[key]['value']:.3f}" for key, name in names.items() if key in known)
    _head(figure, f"{title_prefix}Probability of two closes below the grid within 24 h", told, colours)
    _foot(figure, f"{int(_values(bins, 'count').sum()):,} hours · intervals: two-week blocks drawn anew", colours)
    return _png(figure)


def quality_picture(
    rows: pl.DataFrame, *, title_prefix: str = "", dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:
    """What the signals were worth beside the controls: alarms and money, each with its 95 % interval.

    Args:
        rows: of `signal_quality`, of one as_of and the same grids: the signals of one policy and the controls, in the
            order in which they are drawn.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = _PALETTES[theme]
    figure = _figure(dots_per_inch, colours)
    shown = rows.filter(pl.col("metric").is_in([metric for metric, _, _ in _WORTH]))
    signals = shown.select("policy", "signal").unique(maintain_order=True).rows()
    known = {(row["policy"], row["signal"], row["metric"]): row for row in shown.iter_rows(named=True)}
    wide = (_WIDTH - _NAMES_WIDE - 0.2) / len(_WORTH)
    height = _HEIGHT - _TOP - 2 * _BOTTOM + 0.1
    for column, (metric, name, times) in enumerate(_WORTH):
        left = _NAMES_WIDE + column * wide
        axes = figure.add_axes((left / _WIDTH, (_BOTTOM + 0.25) / _HEIGHT, (wide - 0.3) / _WIDTH, height / _HEIGHT))
        axes.set_facecolor("none")
        axes.tick_params(colors=colours.ink, labelsize=_SMALL, length=0, pad=4)
        for side in axes.spines.values():
            side.set_visible(False)
        for place, (policy, signal) in enumerate(signals):
            row = known.get((policy, signal, metric))
            if row is None or row["value"] is None:
                continue
            colour = STATE_COLOURS.get(signal, colours.faint)
            if row["low"] is not None:
                axes.hlines(place, times * row["low"], times * row["high"], color=colour, linewidth=2.5, alpha=0.6)
            axes.plot([times * row["value"]], [place], "o", color=colour, markersize=5)
        axes.set_ylim(len(signals) - 0.4, -0.6)
        axes.set_yticks(range(len(signals)), [_signal_name(signal) for _, signal in signals] if column == 0 else [])
        axes.margins(x=0.12)
        if times == 100:
            axes.set_xlim(-8, 108)
        axes.set_xticks(_few_ticks(*axes.get_xlim()) if signals else [])
        axes.grid(axis="x", color=colours.rule, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(name, color=colours.ink, fontsize=_SMALL, pad=4)
        if column == 0:
            _shrink_to(_NAMES_WIDE - 0.2, axes.get_yticklabels())
    grids = max((row["n"] for key, row in known.items() if key[2] == "mean_equity"), default=0)
    told = f"{grids:,} grids · grey: rules that anybody could follow" if grids else "no grid could be judged"
    _head(figure, f"{title_prefix}What the signals were worth", told, colours)
    _foot(figure, "lead: half of the breaks had less · money: percent of the capital · line: 95 % interval", colours)
    return _png(figure)


def _few_ticks(left: float, right: float) -> list[float]:
    """Two or three round values inside an axis, clear of its ends, where the words of the next one begin."""
    margin = 0.05 * (right - left)
    ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(left, right)
    return [float(tick) for tick in ticks if left + margin <= tick <= right - margin]


def _signal_name(signal: str) -> str:
    return STATE_NAMES.get(signal, signal.replace("_", " "))


# the glance -----------------------------------------------------------------------------------------------------------

GLANCE_POINTS = 44


def glance(grid: GridConfig, candles: pl.DataFrame) -> str:
    """Price against bounds and stop in a few hundred characters of SVG, for where only that much is shown.

    It has no background; its colours keep a contrast of 3 to 1 on white and on black. A hole in the data is a hole.

    Args:
        grid: whose bounds and stop are drawn, where they are in sight of the price: see `price_range`.
        candles: rows of tables.Candles, cut into at most GLANCE_POINTS equal pieces of which the last close is
            drawn; other markets are ignored.

    Returns:
        An SVG; in base64, with a caption of 120 characters, it stays below 1,000.
    """
    bars = _on_every_bar(candles.filter(pl.col("symbol") == grid.symbol))
    closes = bars["close"].to_list()
    step = max(1, -(-len(closes) // GLANCE_POINTS))
    shown = closes[::-1][::step][::-1]
    known = [close for close in shown if close is not None]
    low, high = price_range(grid, min(known, default=None), max(known, default=None))

    def height(price: float) -> int:
        return round(60 - 60 * (min(max(price, low), high) - low) / (high - low))

    width, path, pen_down = 5 * (GLANCE_POINTS - 1), "", False
    for place, close in enumerate(shown):
        if close is not None:
            path += f"{' ' if pen_down else 'M'}{width * place // max(1, len(shown) - 1)} {height(close)}"
        pen_down = close is not None
    upper, lower, stop = height(grid.upper), height(grid.lower), height(grid.stop)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="120" viewBox="0 0 {width} 60" '
        f'fill="none"><path fill="#4a7bd8" fill-opacity=".2" d="M0 {upper}h{width}V{lower}H0"/>'
        f'<path stroke="#d0405f" stroke-dasharray="5 3" d="M0 {stop}h{width}"/>'
        f'<path stroke="#707d92" stroke-width="1.5" d="{path}"/></svg>'
    )


TICKS_SHOWN = 48


def ticks_glance(ticks: pl.DataFrame, until: datetime) -> str:
    """How long the ticks of the last twelve hours took, and in red above them which did not go well.

    A tick that never ran is a hole with a red mark, too, but not before the first that is known.

    Args:
        ticks: rows of tables.Tick.
        until: the newest of them to be drawn; TICKS_SHOWN quarter hours end there.

    Returns:
        An SVG as small as that of `glance`; the highest column is the longest tick.
    """
    known = {row["as_of"]: row for row in ticks.iter_rows(named=True)}
    rows = [known.get(until - back * BAR) for back in range(TICKS_SHOWN)][::-1]
    seconds = [seconds_of(row) for row in rows]
    highest = max(max((took for took in seconds if took), default=1.0), 1e-3)
    skyline = "".join(f"V{60 - max(2, round(52 * took / highest)) if took is not None else 60}h5" for took in seconds)
    first = TICKS_SHOWN - 1 - (until - min(known, default=until)) // BAR
    bad = [
        place >= first and (row is None or took is None or bool(row["symbols_failed"]))
        for place, (row, took) in enumerate(zip(rows, seconds, strict=True))
    ]
    # Neighbours are one stroke.
    begins = [place for place in range(TICKS_SHOWN) if bad[place] and not (place and bad[place - 1])]
    lengths = [next((n for n, one in enumerate(bad[place:]) if not one), TICKS_SHOWN - place) for place in begins]
    marks = "".join(f"M{5 * place} 2h{5 * length}" for place, length in zip(begins, lengths, strict=True))
    width = 5 * TICKS_SHOWN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="120" viewBox="0 0 {width} 60" '
        f'fill="none"><path fill="#707d92" d="M0 60{skyline}V60"/>'
        f'<path stroke="#d0405f" stroke-width="4" d="{marks}"/></svg>'
    )


def seconds_of(tick: dict[str, Any] | None) -> float | None:
    """How long a tick took; None: it did not run, or did not finish."""
    if tick is None or tick["finished_at"] is None:
        return None
    return (tick["finished_at"] - tick["started_at"]).total_seconds()


# what the pictures share ----------------------------------------------------------------------------------------------

_DAY = timedelta(days=1)


def luminance(colour: str) -> float:
    """Relative luminance of a colour, 0 to 1 (WCAG 2.2)."""
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def price_text(price: float) -> str:
    """A price to six significant digits, never in exponents: 300,000 and 0.0000123456 alike."""
    if not price:
        return "0"
    decimals = max(0, 5 - math.floor(math.log10(abs(price))))
    text = f"{price:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def money_text(amount: float, capital: float, *, signed: bool = False) -> str:
    """An amount to the cent; of a capital below 1,000 to its hundred-thousandth, of one from 100,000 on whole.

    Args:
        amount: quote currency.
        capital: the size that it belongs to, quote currency.
        signed: whether a gain is written with a +.
    """
    decimals = 0 if capital >= 100_000 else max(2, 5 - math.floor(math.log10(capital)))
    text = f"{amount:{'+' if signed else ''},.{decimals}f}"
    return text.lstrip("+-") if not float(text.replace(",", "")) else text


@dataclass(frozen=True)
class _Label:
    """A word beside the right edge, at the height of its value."""

    value: float
    text: str
    colour: str
    bold: bool = False


def _figure(dots_per_inch: int, colours: _Palette) -> Figure:
    return Figure(figsize=(_WIDTH, _HEIGHT), dpi=dots_per_inch, facecolor=colours.paper)


def _panels(
    figure: Figure, below: Sequence[tuple[float, float]], colours: _Palette, gap_above: float = 0.0
) -> list[Axes]:
    """Panels below each other: the first takes what the others leave, each given as (gap above, height) in inches."""
    first = _HEIGHT - _TOP - _BOTTOM - gap_above - sum(gap + height for gap, height in below)
    top, panels = _HEIGHT - _TOP, []
    for gap, height in ((gap_above, first), *below):
        top -= gap + height
        width = _WIDTH - _LEFT - _RIGHT
        axes = figure.add_axes((_LEFT / _WIDTH, top / _HEIGHT, width / _WIDTH, height / _HEIGHT))
        axes.set_facecolor("none")
        axes.tick_params(colors=colours.ink, labelsize=_SMALL, length=0, pad=4)
        for side in axes.spines.values():
            side.set_visible(False)
        panels.append(axes)
    return panels


def _name_axis(axes: Axes, name: str, colours: _Palette) -> None:
    """The name of a value axis, at the left edge of the picture whatever the width of the ticks."""
    box = axes.get_position()
    axes.get_figure().text(  # type: ignore[union-attr]
        0.16 / _WIDTH, (box.y0 + box.y1) / 2, name, rotation=90, ha="center", va="center", color=colours.ink,
        fontsize=_TEXT, linespacing=1.3,
    )  # fmt: skip


def _head(figure: Figure, title: str, line: str, colours: _Palette, chip: tuple[str, str] | None = None) -> None:
    """Title and one line at the top left, a coloured word at the top right."""
    room = _WIDTH - 0.3
    if chip is not None:
        word, colour = chip
        badge = figure.text(
            1 - 0.15 / _WIDTH, 1 - 0.2 / _HEIGHT, word, ha="right", va="center", fontsize=_TEXT, weight="bold",
            color=on_colour(colour), bbox={"boxstyle": "round,pad=0.3", "facecolor": colour, "linewidth": 0},
        )  # fmt: skip
        room -= _inches(badge) + 0.3
    heading = figure.text(
        0.15 / _WIDTH, 1 - 0.2 / _HEIGHT, title, va="center", fontsize=_TITLE, weight="bold", color=colours.ink
    )
    _shrink_to(room, [heading])
    below = figure.text(0.15 / _WIDTH, 1 - 0.45 / _HEIGHT, line, va="center", fontsize=_TEXT, color=colours.ink)
    _shrink_to(_WIDTH - 0.3, [below])


def _shrink_to(room: float, texts: Sequence[Text]) -> None:
    """Sets texts smaller, all alike, where one is wider than so many inches."""
    widest = max((_inches(text) for text in texts), default=0.0)
    for text in texts if widest > room else ():
        # A little more than needed: hinted glyphs do not shrink in exact proportion.
        text.set_fontsize(0.95 * float(text.get_fontsize()) * room / widest)


def _inches(text: Text) -> float:
    figure = text.get_figure(root=True)
    assert figure is not None, "a text is measured after it was put into a figure"
    # Not get_window_extent: it would also count a connector.
    width, _, _ = (
        FigureCanvasAgg(figure)
        .get_renderer()
        .get_text_width_height_descent(text.get_text(), text.get_fontproperties(), False)
    )
    return float(width) / figure.dpi


def _foot(figure: Figure, line: str, colours: _Palette) -> None:
    figure.text(0.15 / _WIDTH, 0.11 / _HEIGHT, line, va="center", fontsize=_SMALL, color=colours.faint)


def _legend(axes: Axes, handles: Sequence[Artist], colours: _Palette) -> None:
    """Above the panel, flush left, in one line."""
    axes.legend(
        handles=list(handles), ncols=len(handles), fontsize=_SMALL, frameon=False, labelcolor=colours.ink,
        loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.15, borderpad=0, handlelength=1.4, handletextpad=0.5,
        columnspacing=1.4,
    )  # fmt: skip


def _label_right(axes: Axes, labels: Sequence[_Label], colours: _Palette) -> None:
    """Words beside the right edge, pushed apart where they would overlap, at the edge for what is out of sight."""
    bottom, top = axes.get_ylim()
    high, line = _points_high(axes), 1.25 * _SMALL
    ordered = sorted(labels, key=lambda label: label.value)
    wanted = [min(max((label.value - bottom) / (top - bottom), 0.0), 1.0) * high for label in ordered]
    placed: list[float] = []
    for height in wanted:
        placed.append(max(height, placed[-1] + line) if placed else height)
    limit = high
    for place in reversed(range(len(placed))):
        placed[place] = min(placed[place], limit)
        limit = placed[place] - line
    drawn = []
    for label, height, want in zip(ordered, placed, wanted, strict=True):
        arrow = " ▲" if label.value > top else " ▼" if label.value < bottom else ""
        note = axes.annotate(
            label.text + arrow, (1.004, want / high), xytext=(1.022, height / high), xycoords="axes fraction",
            textcoords="axes fraction", color=label.colour, va="center",
            fontsize=_SMALL,
            weight="bold" if label.bold else "normal", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0,
                "relpos": (0, 0.5),
            } if abs(height - want) > 1 and not arrow else None,
        )  # fmt: skip
        drawn.append(note)
    _shrink_to(_RIGHT - 0.17, drawn)


def _mark_time(
    axes: Axes, time: datetime, word: str, span: tuple[datetime, datetime], colour: str, colours: _Palette
) -> None:
    """A dotted line at a moment, its word on the side where there is room."""
    axes.axvline(float(date2num(time)), color=colour, linewidth=1.2, linestyle=(0, (1, 2)), zorder=2)
    if word:
        left = (time - span[0]) > 0.5 * (span[1] - span[0])
        axes.annotate(
            word, (float(date2num(time)), 0), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, 4),
            textcoords="offset points", ha="right" if left else "left", color=colour, fontsize=_SMALL,
            bbox=_box(colours), zorder=7,
        )  # fmt: skip


def _draw_time(panels: Sequence[Axes], span: tuple[datetime, datetime] | None, colours: _Palette) -> None:
    """The same UTC axis for all panels, named below the last; dates are numbers, so that no locale names a month."""
    for axes in panels:
        if span is None:
            axes.set_xticks([])
            continue
        axes.set_xlim(float(date2num(span[0])), float(date2num(span[1])))
        locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(
            ConciseDateFormatter(
                locator, tz=UTC, show_offset=False,
                formats=["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M"],
                zero_formats=["%Y", "%Y-%m", "%m-%d", "%m-%d", "%H:%M", "%H:%M"],
            )
        )  # fmt: skip
        axes.grid(axis="x", color=colours.rule, linewidth=0.8, zorder=0)
        axes.set_axisbelow(True)
        if axes is not panels[-1]:
            axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time, UTC", color=colours.ink, fontsize=_SMALL, loc="right", labelpad=2)


def _value_ticks(axes: Axes) -> None:
    """Round values, written out with as many decimals as their step needs."""
    bottom, top = axes.get_ylim()
    ticks = [
        tick for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top) if bottom <= tick <= top
    ]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(top - bottom)
    decimals = max(0, 1 - math.floor(math.log10(step)))
    texts = [f"{tick:,.{decimals}f}" for tick in ticks]
    while decimals and all(text.endswith("0") for text in texts):
        decimals -= 1
        texts = [text[:-1].rstrip(".") for text in texts]
    axes.set_yticks(ticks, texts)
    _shrink_to(_LEFT - 0.3, axes.get_yticklabels())


def _points_high(axes: Axes) -> float:
    figure = axes.get_figure()
    return float(axes.get_position().height * _HEIGHT * 72) if figure is not None else 0.0


def _box(colours: _Palette) -> dict[str, object]:
    return {"boxstyle": "round,pad=0.15", "facecolor": colours.paper, "edgecolor": "none", "alpha": 0.85}


def on_colour(background: str) -> str:
    """Black or white, whichever has the higher contrast on a colour."""
    return "#000000" if luminance(background) > 0.179 else "#ffffff"


def _on_every_bar(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with one for every bar from the first to the last, null where there is none, by time."""
    first, last = rows["open_time"].min(), rows["close_time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return rows
    axis = Span(first, last).open_times().to_frame()
    return axis.join(rows, on="open_time", how="left", maintain_order="left").with_columns(
        close_time=pl.col("open_time") + BAR
    )


def _one_a_bar(states: pl.DataFrame) -> pl.DataFrame:
    """By time; where two episodes have a row for one bar, the later episode's."""
    return states.sort("as_of", "activated_at").unique("as_of", keep="last", maintain_order=True)


def _span_of(rows: pl.DataFrame, first: str, last: str) -> tuple[datetime, datetime] | None:
    start, end = rows[first].min(), rows[last].max()
    return (start, end) if isinstance(start, datetime) and isinstance(end, datetime) and start < end else None


def stretches(rows: pl.DataFrame, column: str) -> list[tuple[datetime, datetime, object]]:
    """Runs of equal values as (from, until, value): a row holds from its bar's opening to its as_of.

    Where rows are missing a stretch ends.
    """
    if rows.is_empty():
        return []
    follows = pl.col("as_of").diff().fill_null(BAR) == BAR
    runs = (
        rows.sort("as_of")
        .with_columns(run=pl.struct(pl.col(column).rle_id(), (~follows).cum_sum()).rle_id())
        .group_by("run", maintain_order=True)
        .agg(pl.col("as_of").first().alias("first"), pl.col("as_of").last().alias("last"), pl.col(column).first())
    )
    return [(row["first"] - BAR, row["last"], row[column]) for row in runs.iter_rows(named=True)]


def _bars(runs: Sequence[tuple[datetime, datetime, object]], value: object) -> list[tuple[float, float]]:
    """The stretches of one value as matplotlib's (start, length) in days."""
    return [(float(date2num(start)), (end - start) / _DAY) for start, end, found in runs if found == value]


def _numbers(times: pl.Series) -> Floats:
    return np.asarray(date2num(times.dt.replace_time_zone(None).to_numpy()), dtype=np.float64)


def _values(rows: pl.DataFrame, column: str) -> Floats:
    return rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _least(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return min(known, default=None)


def _greatest(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return max(known, default=None)


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
