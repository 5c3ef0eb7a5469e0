"""What makers made of a recorded book, in parts, and whether fills came as often as was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mm_dagster.arrays import Floats
from mm_dagster.pictures.colours import PALETTES, Theme
from mm_dagster.pictures.style import (
    SMALL,
    TEXT,
    foot,
    head,
    legend,
    name_axis,
    new_figure,
    png,
    stacked_panels,
    text_box,
    value_ticks,
)
from mm_dagster.text import number_text

BINS = 10
LEAST = 20
"""Fewer probes in a bin are not shown."""


def parts_picture(
    market: str, rows: Sequence[Mapping[str, Any]], *, dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:
    """PnL of each maker, split into its parts, at the fee at which it was judged, or the highest.

    Args:
        market: which.
        rows: of `maker_study`, of one study and market.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    (axes,) = stacked_panels(figure, (), colours, gap_above=0.18)
    fee = next((row["fee_bp"] for row in rows if row["trials"] is not None), max(row["fee_bp"] for row in rows))
    shown = [row for row in rows if row["fee_bp"] == fee]
    hues = {
        "spread": colours.realised, "fees": colours.alarm, "adverse_selection": colours.unrealised,
        "inventory": colours.grid,
    }  # fmt: skip
    for place, row in enumerate(shown):
        above = below = 0.0
        for part, hue in hues.items():
            value = row[part] or 0.0
            axes.bar(place, value, 0.55, bottom=above if value >= 0 else below, color=hue)
            above, below = above + max(value, 0.0), below + min(value, 0.0)
        axes.plot([place], [row["net"]], "D", color=colours.ink, markersize=6)
        axes.annotate(
            number_text(row["net"], 3), (place, row["net"]), xytext=(12, 0), textcoords="offset points",
            color=colours.ink, fontsize=SMALL, va="center",
        )  # fmt: skip
    axes.axhline(0, color=colours.faint, linewidth=1)
    axes.set_xlim(-0.6, len(shown) - 0.3)
    axes.set_xticks(range(len(shown)), [row["maker"].replace("_", " ") for row in shown])
    axes.margins(y=0.15)
    value_ticks(axes)
    axes.grid(axis="y", color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    name_axis(axes, "quote currency", colours)
    handles: list[Any] = [Patch(color=hue, label=part.replace("_", " ")) for part, hue in hues.items()]
    legend(axes, [*handles, Line2D([], [], color=colours.ink, marker="D", linestyle="", label="net")], colours)
    about = f"fee {number_text(fee, 3)} bp · {shown[0]['stretches']} stretches · doing nothing makes 0"
    head(figure, f"What makers made of {market}", about, colours)
    foot(figure, "spread, fees, adverse selection and inventory add up to net", colours)
    return png(figure)


def calibration_picture(
    market: str, calibration: Floats, *, dots_per_inch: int = 90, theme: Theme = "light"
) -> bytes:  # fmt: skip
    """Share of the probes that were filled, by what was predicted from earlier stretches.

    Args:
        market: which.
        calibration: predicted probability and 1 where it was filled, shape (2, p).
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    (axes,) = stacked_panels(figure, (), colours, gap_above=0.18)
    place = np.minimum((calibration[0] * BINS).astype(int), BINS - 1)
    axes.plot([0, 100], [0, 100], color=colours.faint, linewidth=1, linestyle=(0, (5, 3)))
    drawn = 0
    for one in range(BINS):
        mine = place == one
        if np.count_nonzero(mine) < LEAST:
            continue
        predicted, came = (100 * float(values[mine].mean()) for values in calibration)
        axes.plot([predicted], [came], "o", color=colours.grid, markersize=8)
        axes.annotate(
            f"{np.count_nonzero(mine):,}", (predicted, came), xytext=(8, -10), textcoords="offset points",
            color=colours.faint, fontsize=SMALL,
        )  # fmt: skip
        drawn += 1
    if not drawn:
        axes.text(50, 50, "nothing was predicted", color=colours.faint, fontsize=TEXT, ha="center", va="center",
                  bbox=text_box(colours))  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xticks(range(0, 101, 20))
    value_ticks(axes)
    axes.grid(color=colours.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    name_axis(axes, "filled within 5 s, %", colours)
    head(figure, f"Were quotes on {market} filled as predicted?", "predicted from earlier stretches, %", colours)
    foot(figure, "a point: probes of about the same prediction, and how many there were", colours)
    return png(figure)
