"""What pictures share: sizes, panels, axes, labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from mm_dagster.bars import BAR
from mm_dagster.pictures.colours import Palette, on_colour
from mm_dagster.pictures.extent import stretches
from mm_dagster.text import number_text, scale_texts

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 8.0, 5.4

_LEFT, _RIGHT = 1.0, 1.25

TOP, BOTTOM = 0.66, 0.52
"""Inches. Margins are fixed: the same place for the same thing in every picture, and no layout to be solved."""

SMALL, TEXT, _TITLE = 9.0, 10.0, 13.0
"""Font sizes in points: on a phone held upright the picture shrinks to about half."""

LEVEL_POINTS = 5.0
"""Grid lines nearer than this would be a grey wall."""


def draw_holes(axes: Axes, times: pl.Series, unknown: pl.Series, colours: Palette) -> None:
    """Hatches the bars, named by their closing times, that are not known: nobody shall take them for quiet ones."""
    spans = lengths(stretches(pl.DataFrame({"as_of": times, "unknown": unknown}), "unknown"), True)
    if not spans:
        return
    bottom, top = axes.get_ylim()
    axes.broken_barh(
        spans, (bottom, top - bottom), facecolor=(*to_rgb(colours.faint), 0.15), edgecolor=colours.faint,
        hatch="//////", linewidth=0, zorder=2,
    )  # fmt: skip
    start, length = max(spans, key=lambda span: span[1])
    if length > 0.09 * times.len() * (BAR / DAY):
        axes.text(
            start + length / 2, (bottom + top) / 2, "not known", color=colours.ink, fontsize=SMALL, ha="center",
            va="center", bbox=text_box(colours), zorder=5,
        )  # fmt: skip


DAY = timedelta(days=1)


@dataclass(frozen=True)
class Label:
    """A word beside the right edge, at the height of its value."""

    value: float
    text: str
    colour: str
    bold: bool = False


def new_figure(dots_per_inch: int, colours: Palette) -> Figure:
    return Figure(figsize=(WIDTH, HEIGHT), dpi=dots_per_inch, facecolor=colours.paper)


def stacked_panels(
    figure: Figure, below: Sequence[tuple[float, float]], colours: Palette, gap_above: float = 0.0
) -> list[Axes]:
    """Panels below each other: the first takes what the others leave, each given as (gap above, height) in inches."""
    first = HEIGHT - TOP - BOTTOM - gap_above - sum(gap + height for gap, height in below)
    top, panels = HEIGHT - TOP, []
    for gap, height in ((gap_above, first), *below):
        top -= gap + height
        width = WIDTH - _LEFT - _RIGHT
        axes = figure.add_axes((_LEFT / WIDTH, top / HEIGHT, width / WIDTH, height / HEIGHT))
        axes.set_facecolor("none")
        axes.tick_params(colors=colours.ink, labelsize=SMALL, length=0, pad=4)
        for side in axes.spines.values():
            side.set_visible(False)
        plain_numbers(axes)
        panels.append(axes)
    return panels


def plain_numbers(axes: Axes) -> None:
    """Figures beside the axes as everywhere: no exponent, and no offset that a reader would have to add."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: number_text(value))


def name_axis(axes: Axes, name: str, colours: Palette) -> None:
    """The name of a value axis, at the left edge of the picture whatever the width of the ticks."""
    box = axes.get_position()
    axes.get_figure().text(  # type: ignore[union-attr]
        0.16 / WIDTH, (box.y0 + box.y1) / 2, name, rotation=90, ha="center", va="center", color=colours.ink,
        fontsize=TEXT, linespacing=1.3,
    )  # fmt: skip


def head(figure: Figure, title: str, line: str, colours: Palette, chip: tuple[str, str] | None = None) -> None:
    """Title and one line at the top left, a coloured word at the top right."""
    room = WIDTH - 0.3
    if chip is not None:
        word, colour = chip
        badge = figure.text(
            1 - 0.15 / WIDTH, 1 - 0.2 / HEIGHT, word, ha="right", va="center", fontsize=TEXT, weight="bold",
            color=on_colour(colour), bbox={"boxstyle": "round,pad=0.3", "facecolor": colour, "linewidth": 0},
        )  # fmt: skip
        room -= _inches(badge) + 0.3
    heading = figure.text(
        0.15 / WIDTH, 1 - 0.2 / HEIGHT, title, va="center", fontsize=_TITLE, weight="bold", color=colours.ink
    )
    shrink_to(room, [heading])
    below = figure.text(0.15 / WIDTH, 1 - 0.45 / HEIGHT, line, va="center", fontsize=TEXT, color=colours.ink)
    shrink_to(WIDTH - 0.3, [below])


def shrink_to(room: float, texts: Sequence[Text]) -> None:
    """Sets texts smaller, all alike, where one is wider than so many inches."""
    for _ in range(_TRIES):
        widest = max((_inches(text) for text in texts), default=0.0)
        if widest <= room:
            return
        for text in texts:
            # A little more than needed, and again: hinted glyphs do not shrink in proportion, but in steps.
            text.set_fontsize(0.95 * float(text.get_fontsize()) * room / widest)


_TRIES = 4


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


def foot(figure: Figure, line: str, colours: Palette) -> None:
    figure.text(0.15 / WIDTH, 0.11 / HEIGHT, line, va="center", fontsize=SMALL, color=colours.faint)


def legend(axes: Axes, handles: Sequence[Artist], colours: Palette) -> None:
    """Above the panel, flush left, in one line."""
    axes.legend(
        handles=list(handles), ncols=len(handles), fontsize=SMALL, frameon=False, labelcolor=colours.ink,
        loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.15, borderpad=0, handlelength=1.4, handletextpad=0.5,
        columnspacing=1.4,
    )  # fmt: skip


def label_right(axes: Axes, labels: Sequence[Label], colours: Palette) -> None:
    """Words beside the right edge, pushed apart where they would overlap, at the edge for what is out of sight."""
    bottom, top = axes.get_ylim()
    high, line = points_high(axes), 1.25 * SMALL
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
            fontsize=SMALL,
            weight="bold" if label.bold else "normal", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": label.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0,
                "relpos": (0, 0.5),
            } if abs(height - want) > 1 and not arrow else None,
        )  # fmt: skip
        drawn.append(note)
    shrink_to(_RIGHT - 0.17, drawn)


def mark_time(
    axes: Axes, time: datetime, word: str, span: tuple[datetime, datetime], colour: str, colours: Palette
) -> None:
    """A dotted line at a moment, its word on the side where there is room."""
    axes.axvline(float(date2num(time)), color=colour, linewidth=1.2, linestyle=(0, (1, 2)), zorder=2)
    if word:
        left = (time - span[0]) > 0.5 * (span[1] - span[0])
        axes.annotate(
            word, (float(date2num(time)), 0), xycoords=("data", "axes fraction"), xytext=(-4 if left else 4, 4),
            textcoords="offset points", ha="right" if left else "left", color=colour, fontsize=SMALL,
            bbox=text_box(colours), zorder=7,
        )  # fmt: skip


def draw_time(panels: Sequence[Axes], span: tuple[datetime, datetime] | None, colours: Palette) -> None:
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
    panels[-1].set_xlabel("time, UTC", color=colours.ink, fontsize=SMALL, loc="right", labelpad=2)


def value_ticks(axes: Axes) -> None:
    """Round values, written out with as many decimals as their step needs."""
    bottom, top = axes.get_ylim()
    ticks = [
        tick for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top) if bottom <= tick <= top
    ]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(top - bottom)
    axes.set_yticks(ticks, scale_texts(ticks, step))
    shrink_to(_LEFT - 0.3, axes.get_yticklabels())


def points_high(axes: Axes) -> float:
    figure = axes.get_figure()
    return float(axes.get_position().height * HEIGHT * 72) if figure is not None else 0.0


def text_box(colours: Palette) -> dict[str, object]:
    return {"boxstyle": "round,pad=0.15", "facecolor": colours.paper, "edgecolor": "none", "alpha": 0.85}


def one_a_bar(states: pl.DataFrame) -> pl.DataFrame:
    """By time; where two episodes have a row for one bar, the later episode's."""
    return states.sort("as_of", "activated_at").unique("as_of", keep="last", maintain_order=True)


def span_of(rows: pl.DataFrame, first: str, last: str) -> tuple[datetime, datetime] | None:
    start, end = rows[first].min(), rows[last].max()
    return (start, end) if isinstance(start, datetime) and isinstance(end, datetime) and start < end else None


def lengths(runs: Sequence[tuple[datetime, datetime, object]], value: object) -> list[tuple[float, float]]:
    """The stretches of one value as matplotlib's (start, length) in days."""
    return [(float(date2num(start)), (end - start) / DAY) for start, end, found in runs if found == value]


def numbers(times: pl.Series) -> Floats:
    return np.asarray(date2num(times.dt.replace_time_zone(None).to_numpy()), dtype=np.float64)


def floats(rows: pl.DataFrame, column: str) -> Floats:
    return rows[column].cast(pl.Float64).fill_null(math.nan).to_numpy()


def least(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return min(known, default=None)


def greatest(values: pl.Series) -> float | None:
    known = values.drop_nulls().to_list()
    return max(known, default=None)


def png(figure: Figure) -> bytes:
    out = BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
