"""A day of a recorded book: spread, depth, imbalance, and where the book was not known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mm_dagster.bars import BAR
from mm_dagster.pictures.colours import PALETTES, Palette, Theme
from mm_dagster.pictures.extent import on_every_bar
from mm_dagster.pictures.style import (
    DAY,
    draw_holes,
    draw_time,
    floats,
    foot,
    head,
    legend,
    name_axis,
    new_figure,
    numbers,
    png,
    span_of,
    stacked_panels,
    value_ticks,
)
from mm_dagster.text import counted, number_text

DRAWN = ("spread_bp", "bid_depth_10bp", "ask_depth_10bp", "imbalance_n", "in_sync_share")


def books_picture(
    features: pl.DataFrame,
    gaps: pl.DataFrame,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """Spread, what waits within 10 basis points, imbalance, and a strip of what was not known.

    Args:
        features: rows of `book_features` of one market, the day to be shown; at least one.
        gaps: rows of `book_gap` of the same market and time.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    named = features.sort("as_of").row(-1, named=True)
    rows = on_every_bar(features.select(*DRAWN, open_time=pl.col("as_of") - BAR, close_time=pl.col("as_of")))
    span = span_of(rows, "open_time", "close_time")
    figure = new_figure(dots_per_inch, colours)
    spread, depth, imbalance, strip = stacked_panels(
        figure, ((0.34, 1.05), (0.16, 0.85), (0.12, 0.16)), colours, gap_above=0.05
    )
    _curves(spread, rows, {"spread_bp": colours.ink}, colours)
    _curves(depth, rows, {"bid_depth_10bp": colours.realised, "ask_depth_10bp": colours.unrealised}, colours)
    _curves(imbalance, rows, {"imbalance_n": colours.grid}, colours, within=(-1.0, 1.0))
    imbalance.axhline(0, color=colours.faint, linewidth=0.8)
    names = zip((spread, depth, imbalance), ("spread, bp", "depth", "imbalance"), strict=True)
    for axes, name in names:
        name_axis(axes, name, colours)
        draw_holes(axes, rows["close_time"], rows["in_sync_share"].fill_null(0.0) == 0, colours)
    legend(depth, _handles(colours), colours)
    known = _strip(strip, gaps, span, colours)
    draw_time([spread, depth, imbalance, strip], span, colours)
    quote = named["symbol"].rpartition("-")[2]
    head(figure, f"{title_prefix}{named['exchange']}:{named['symbol']}", _said(features, quote), colours)
    foot(figure, f"below: red where the book was not known, {known} · depth in {quote}, thinnest second", colours)
    return png(figure)


def _curves(
    axes: Axes, rows: pl.DataFrame, columns: dict[str, str], colours: Palette, within: tuple[float, float] | None = None
) -> None:
    """Curves from 0 on, or within what they can be."""
    drawn = {name: floats(rows, name) for name in columns}
    together = np.concatenate(list(drawn.values()))
    known = together[np.isfinite(together)]
    axes.set_ylim(*(within or (0.0, 1.08 * float(known.max(initial=0.0)) or 1.0)))
    for name, colour in columns.items():
        axes.plot(numbers(rows["close_time"]), drawn[name], color=colour, linewidth=1.4, marker=".", markersize=3)
    value_ticks(axes)


def _handles(colours: Palette) -> Sequence[Artist]:
    return [
        Line2D([], [], color=colours.realised, label="bids within 10 bp"),
        Line2D([], [], color=colours.unrealised, label="asks within 10 bp"),
    ]


def _strip(axes: Axes, gaps: pl.DataFrame, span: tuple[datetime, datetime] | None, colours: Palette) -> str:
    """Draws the gaps of the book; says how many there are."""
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    if span is None:
        return "no time"
    of_book = gaps.filter(pl.col("part") == "BOOK").with_columns(pl.col("to_time").fill_null(span[1]))
    inside = of_book.filter(pl.col("to_time") > span[0], pl.col("from_time") < span[1]).sort("from_time")
    start = float(numbers(pl.Series([span[0]]))[0])
    axes.broken_barh([(start, (span[1] - span[0]) / DAY)], (0, 1), facecolor=colours.rule)
    # A gap of a second shall be seen: each is at least a 300th of the width.
    least = (span[1] - span[0]) / DAY / 300
    bars = [
        (float(numbers(pl.Series([began]))[0]), max(least, (ended - began) / DAY))
        for began, ended in inside.select("from_time", "to_time").iter_rows()
    ]
    axes.broken_barh(bars, (0, 1), facecolor=colours.alarm)
    return counted(len(bars), "gap")


def _said(features: pl.DataFrame, quote: str) -> str:
    spread, depth = features["spread_bp"].median(), features["bid_depth_10bp"].median()
    share = features["in_sync_share"].mean()
    parts = [
        f"median spread {number_text(spread, 2)} bp" if isinstance(spread, float) else "no spread is known",
        f"{number_text(depth, 3)} {quote} within 10 bp" if isinstance(depth, float) else "its depth is not known",
        f"known for {share:.1%} of the time" if isinstance(share, float) else "",
    ]
    return ", ".join(part for part in parts if part)
