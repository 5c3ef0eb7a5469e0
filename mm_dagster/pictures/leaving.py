"""Did leaving cost what it was said to cost? The share that came within each interval, beside what was said."""

from __future__ import annotations

from collections.abc import Sequence

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
