"""What leaving costs by horizon, and whether it cost what was said: each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.lines import Line2D

from mm_dagster.evaluation.leaving import BAND, BARS, BROKEN, LATEST, Left, find
from mm_dagster.pictures.colours import PALETTES, Theme
from mm_dagster.pictures.style import (
    TEXT,
    Label,
    foot,
    head,
    label_right,
    legend,
    name_axis,
    new_figure,
    png,
    stacked_panels,
    text_box,
    value_ticks,
)
from mm_dagster.text import number_text

_MOMENTS = {BROKEN: ("when broken below", "o"), LATEST: ("when asked to leave", "D")}
_APART = 0.16
"""Between two points of one horizon; horizons are 1 apart."""


def intervals_picture(
    rows: Sequence[Left], *, title_prefix: str = "", dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:
    """Of each horizon, how often the cost came within its 80 and its 90 % interval, with a 95 % interval each.

    Args:
        rows: what evaluation/leaving.py's `measure` returns, of any moments.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    (axes,) = stacked_panels(figure, (), colours, gap_above=0.18)
    hues = {80: colours.grid, 90: colours.realised}
    handles: dict[str, Artist] = {}
    lowest = 100.0 * BAND[0]
    for place, minutes in enumerate(BARS):
        for number, (width, moment) in enumerate((width, moment) for width in hues for moment in _MOMENTS):
            one = find(rows, moment, f"coverage_{width}", minutes)
            if one is None:
                continue
            name, marker = _MOMENTS[moment]
            across = place + (number - 1.5) * _APART
            if one.low is not None and one.high is not None:
                axes.vlines(across, 100 * one.low, 100 * one.high, color=hues[width], linewidth=2.5, alpha=0.55)
            axes.plot([across], [100 * one.value], marker, color=hues[width], markersize=6)
            lowest = min(lowest, 100 * (one.value if one.low is None else one.low))
            handles[name] = Line2D([], [], color=colours.ink, marker=marker, linestyle="", markersize=5, label=name)
    axes.axhspan(100 * BAND[0], 100 * BAND[1], color=colours.grid, alpha=0.08, linewidth=0)
    for width, hue in hues.items():
        axes.axhline(width, color=hue, linewidth=1, linestyle=(0, (5, 3)))
    axes.set_ylim(max(0.0, lowest - 5), 101)
    value_ticks(axes)
    axes.set_xlim(-0.5, len(BARS) - 0.5)
    axes.set_xticks(range(len(BARS)), [f"sold over {minutes} min" for minutes in BARS])
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    name_axis(axes, "came within, %", colours)
    label_right(axes, [Label(width, f"{width} % said", hue) for width, hue in hues.items()], colours)
    if handles:
        legend(axes, list(handles.values()), colours)
    else:
        axes.text(0.5, 87, "no grid was left with an outcome that is known", color=colours.faint, fontsize=TEXT,
                  ha="center", va="center", bbox=text_box(colours))  # fmt: skip
    head(figure, f"{title_prefix}Did leaving cost what was said?", _said(rows), colours)
    foot(figure, "bars: 95 % interval, two-week blocks drawn anew · shaded: where 80 % counts as come true", colours)
    return png(figure)


def _said(rows: Sequence[Left]) -> str:
    found = [(minutes, find(rows, BROKEN, "coverage_80", minutes)) for minutes in BARS]
    came = [f"{100 * one.value:.0f} % over {minutes} min" for minutes, one in found if one is not None]
    n = next((one.n for _, one in found if one is not None), 0)
    return f"{n:,} breaks below · within the 80 % interval: {', '.join(came)}" if came else "no break below"


def costs_picture(
    rows: Sequence[Mapping[str, Any]], *, title_prefix: str = "", dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:
    """What leaving one grid at one bar costs by horizon, with its 80 and its 90 % interval.

    Args:
        rows: of `exit_cost`, of one grid and bar.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    (axes,) = stacked_panels(figure, (), colours, gap_above=0.18)
    ordered = sorted(rows, key=lambda row: row["horizon_minutes"])
    told = [row for row in ordered if row["expected_bp"] is not None and not row["beyond_model"]]
    for place, row in enumerate(ordered):
        if row in told:
            hue = colours.realised if row["chosen"] else colours.grid
            for width, line in (("90", 2.0), ("80", 6.0)):
                low, high = (row[f"{end}_{width}_bp"] / 100 for end in ("low", "high"))
                axes.vlines(place, low, high, color=hue, linewidth=line, alpha=0.45)
            axes.plot([place], [row["expected_bp"] / 100], "o", color=hue, markersize=7)
        if row["live_expected_bp"] is not None:
            axes.plot([place], [row["live_expected_bp"] / 100], "D", color=colours.ink, markersize=5)
    axes.axhline(0, color=colours.faint, linewidth=1, linestyle=(0, (5, 3)))
    axes.set_xlim(-0.5, len(ordered) - 0.5)
    names = ["at once" if row["horizon_minutes"] == 0 else f"over {row['horizon_minutes']} min" for row in ordered]
    axes.set_xticks(range(len(ordered)), names)
    axes.margins(y=0.12)
    value_ticks(axes)
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    name_axis(axes, "cost, %", colours)
    if told:
        marks: list[Artist] = [
            Line2D([], [], color=colours.grid, marker="o", linestyle="", label="modelled"),
            Line2D([], [], color=colours.realised, marker="o", linestyle="", label="the plan"),
            Line2D([], [], color=colours.ink, marker="D", linestyle="", markersize=5, label="by the order book"),
        ]
        legend(axes, marks, colours)
    else:
        why = "what leaving costs is not known" if ordered and ordered[0]["amount"] else "nothing is held"
        axes.text(0.5, 0.5, why, transform=axes.transAxes, color=colours.faint, fontsize=TEXT, ha="center",
                  va="center", bbox=text_box(colours))  # fmt: skip
    first = ordered[0]
    held = f"{number_text(first['notional'] or 0, 4)} {first['symbol'].partition('-')[2]}"
    about = f"{first['symbol']} · {held}, fee included"
    head(figure, f"{title_prefix}What leaving {first['grid_id']} costs", about, colours)
    foot(figure, "thick: 80 times of 100 the cost comes within, thin: 90 · below 0 the price rose meanwhile", colours)
    return png(figure)
