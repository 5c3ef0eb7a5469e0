"""What all grids may lose together in a night, over the last weeks, with what came; and who contributes now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mm_dagster.bars import BAR, iso
from mm_dagster.pictures.colours import PALETTES, Palette, Theme
from mm_dagster.pictures.extent import on_every_bar
from mm_dagster.pictures.style import (
    SMALL,
    TEXT,
    Label,
    draw_holes,
    draw_time,
    floats,
    foot,
    head,
    label_right,
    legend,
    name_axis,
    new_figure,
    numbers,
    png,
    span_of,
    stacked_panels,
    text_box,
    value_ticks,
)
from mm_dagster.text import money_text, number_text

_NAMED = 6
"""Grids with a bar of their own; the others have one together."""


def together_picture(
    risks: pl.DataFrame,
    contributions: Sequence[Mapping[str, Any]],
    realised: pl.DataFrame,
    limit: float | None,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """Above, the loss of one night in 20 and the mean of those, the limit, and what came; below, each grid's part.

    Args:
        risks: rows of `portfolio_risk` of one quote currency, the weeks to be shown; at least one.
        contributions: rows of `portfolio_contribution` of the newest bar; none where it cannot be told.
        realised: what came, as of `pipeline.together.realised`, of the same currency.
        limit: of the mean, quote currency; None: none is watched, or no equity is known.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    last = risks.sort("as_of").row(-1, named=True)
    rows = on_every_bar(
        risks.select("var_5_24h", "es_5_24h", open_time=pl.col("as_of") - BAR, close_time=pl.col("as_of"))
    )
    bars = _parts(contributions)
    figure = new_figure(dots_per_inch, colours)
    below = (0.62, 0.22 * max(1, len(bars)) + 0.05)
    nights, parts = stacked_panels(figure, [below], colours, gap_above=0.18)
    _draw_nights(nights, rows, realised, limit, last, colours)
    draw_time([nights], span_of(rows, "open_time", "close_time"), colours)
    _draw_parts(parts, bars, last, colours)
    title = f"{title_prefix}What {last['grids']} {last['quote']} grid{'s' * (last['grids'] != 1)} may lose in a night"
    head(figure, title, _said(last), colours)
    seen = f"from {last['paths']} nights" if last["paths"] else "no night can be told"
    foot(figure, f"{seen} · what came: from midnight to midnight UTC, of the grids that ran then", colours)
    return png(figure)


def _draw_nights(
    axes: Axes, rows: pl.DataFrame, realised: pl.DataFrame, limit: float | None, last: Mapping[str, Any],
    colours: Palette,
) -> None:  # fmt: skip
    times, var, mean = numbers(rows["close_time"]), floats(rows, "var_5_24h"), floats(rows, "es_5_24h")
    came = realised["loss"].to_numpy()
    known = np.concatenate([[0.0], var[np.isfinite(var)], mean[np.isfinite(mean)], came])
    low, high = float(known.min()), float(known.max())
    # A limit that is far away would leave no room for what is near; then it is named at the edge.
    if limit is not None and limit < 2 * high:
        high = max(high, limit)
    margin = max(0.08 * (high - low), 0.001 * (last["capital"] or 0.0), 1e-9)
    axes.set_ylim(low - margin, high + margin)
    axes.axhline(0, color=colours.faint, linewidth=0.8)
    axes.fill_between(times, var, mean, color=colours.grid, alpha=0.25, linewidth=0)
    axes.plot(times, var, color=colours.grid, linewidth=1.4)
    axes.plot(times, mean, color=colours.ink, linewidth=1.6)
    handles: list[Artist] = [
        Line2D([], [], color=colours.grid, label="one night in 20"),
        Line2D([], [], color=colours.ink, label="mean of those"),
    ]
    if came.size:
        axes.plot(numbers(realised["as_of"]), came, "o", color=colours.unrealised, markersize=5, zorder=6)
        handles.append(Line2D([], [], color=colours.unrealised, marker="o", linestyle="", label="what came"))
    if limit is not None:
        (line,) = axes.plot([], [], color=colours.alarm, linestyle=(0, (5, 3)), label="limit of the mean")
        axes.axhline(limit, color=colours.alarm, linewidth=1.2, linestyle=(0, (5, 3)))
        handles.append(line)
    value_ticks(axes)
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    draw_holes(axes, rows["close_time"], rows["es_5_24h"].is_null(), colours)
    legend(axes, handles, colours)
    labels = [] if limit is None else [Label(limit, f"limit {money_text(limit, last['capital'])}", colours.alarm)]
    for name, colour in (("var_5_24h", colours.grid), ("es_5_24h", colours.ink)):
        if last[name] is not None:
            labels.append(Label(last[name], money_text(last[name], last["capital"]), colour, bold=name == "es_5_24h"))
    label_right(axes, labels, colours)
    name_axis(axes, f"loss in 24 h, {last['quote']}", colours)


def _parts(contributions: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float | None]]:
    """Each grid's part of the mean of the worst nights, most first: name, amount, share; the small ones together."""
    ordered = sorted(contributions, key=lambda one: (-one["es_5_contribution"], one["grid_id"]))
    cut = len(ordered) if len(ordered) <= _NAMED else _NAMED - 1
    bars = [(one["grid_id"], one["es_5_contribution"], one["es_5_share"]) for one in ordered[:cut]]
    rest = ordered[cut:]
    if rest:
        shares = [one["es_5_share"] for one in rest]
        amount = sum(one["es_5_contribution"] for one in rest)
        bars.append((f"{len(rest)} others", amount, None if None in shares else sum(shares)))
    return bars


def _draw_parts(
    axes: Axes, bars: Sequence[tuple[str, float, float | None]], last: Mapping[str, Any], colours: Palette
) -> None:
    """A bar for each grid, its name on it and its amount beside it."""
    axes.set_xticks([])
    axes.set_yticks([])
    name_axis(axes, "who has it", colours)
    if not bars:
        axes.text(0.5, 0.5, "who contributes is not known", transform=axes.transAxes, color=colours.faint,
                  fontsize=TEXT, ha="center", va="center", bbox=text_box(colours))  # fmt: skip
        return
    amounts = [amount for _, amount, _ in bars]
    widest = max(map(abs, amounts)) or 1.0
    axes.set_xlim(min(0.0, *amounts) - 0.005 * widest, widest)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    labels = []
    for place, (name, amount, share) in enumerate(reversed(bars)):
        axes.barh(place, amount, height=0.78, color=colours.grid, alpha=0.35, linewidth=0)
        shown = name if len(name) <= 40 else f"{name[:39]}…"
        axes.text(max(0.0, axes.get_xlim()[0]) + 0.008 * widest, place, shown, color=colours.ink, fontsize=SMALL,
                  ha="left", va="center")  # fmt: skip
        said = money_text(amount, last["capital"])
        labels.append(Label(place, said if share is None else f"{said} ({100 * share:.0f} %)", colours.ink))
    label_right(axes, labels, colours)


def _said(last: Mapping[str, Any]) -> str:
    if last["es_5_24h"] is None:
        return f"{iso(last['as_of'])} · {last['reason'] or 'not known'}"
    counts = ""
    if last["counts_as"] is not None and last["grids"] > 1:
        counts = f" · they count as {number_text(last['counts_as'], 2)} independent ones"
    return f"{iso(last['as_of'])} · capital {money_text(last['capital'], last['capital'])}{counts}"
