"""What signals were worth: predicted against observed, figures beside their controls, and what the operator did."""

from __future__ import annotations

import polars as pl
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mm_dagster.evaluation.calibration import EVENTS, Calibration
from mm_dagster.pictures.colours import PALETTES, STATE_COLOURS, STATE_NAMES, Palette, Theme
from mm_dagster.pictures.style import (
    BOTTOM,
    HEIGHT,
    SMALL,
    TEXT,
    TOP,
    WIDTH,
    Label,
    floats,
    foot,
    head,
    label_right,
    legend,
    name_axis,
    new_figure,
    plain_numbers,
    png,
    shrink_to,
    stacked_panels,
    text_box,
    value_ticks,
)
from mm_dagster.tables.words import STATES


def reliability_picture(
    calibration: Calibration,
    *,
    title_prefix: str = "",
    dots_per_inch: int = 90,
    theme: Theme = "light",
) -> bytes:
    """Predicted against observed frequency, with the 95 % interval of each bin, and below how often each was said.

    Args:
        calibration: what evaluation/calibration.py made of predictions and outcomes.
        title_prefix: put before the title, to label synthetic data.
        dots_per_inch: resolution; the picture is 8 by 5.4 inches.
        theme: light or dark background.

    Returns:
        A PNG.
    """
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    filled = [[getattr(one, name) for name in _BINS] for one in calibration.bins if one.count]
    _draw_reliability(figure, pl.DataFrame(filled, schema=_BINS, orient="row"), calibration.whole.observed, colours)
    whole = calibration.whole
    looked_at = f"{whole.count:,} hours · {whole.horizons:,} spans of {calibration.hours} h without overlap"
    scores = (
        ("calibration error", calibration.expected_calibration_error),
        ("Brier skill", calibration.brier_skill),
        ("AUC", calibration.auc),
    )
    figures = " · ".join(f"{name} {'not known' if value is None else f'{value:.3f}'}" for name, value in scores)
    title = f"{title_prefix}Probability of {EVENTS[calibration.event]} within {calibration.hours} h"
    head(figure, title, figures, colours)
    foot(figure, looked_at, colours)
    return png(figure)


_BINS = dict.fromkeys(("low", "high", "count", "predicted", "observed", "lower", "upper"), pl.Float64())


def _draw_reliability(figure: Figure, bins: pl.DataFrame, base: float | None, colours: Palette) -> None:
    """Observed against predicted with its interval, if there is one, and below how many hours each bin holds.

    Args:
        figure: an empty one.
        bins: those that hold anything, with the columns _BINS, all fractions.
        base: base rate; None: there is no prediction.
        colours: of the theme.
    """
    curve, counts = stacked_panels(figure, [(0.12, 0.85)], colours, gap_above=0.18)
    centres = 50 * (floats(bins, "low") + floats(bins, "high"))
    predicted, observed, lower, upper = (
        100 * floats(bins, name) for name in ("predicted", "observed", "lower", "upper")
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
    name_axis(curve, "observed, %", colours)
    legend(curve, [diagonal, points, interval], colours)
    if base is None:
        curve.text(50, 50, "no prediction whose outcome is known", color=colours.faint, fontsize=TEXT, ha="center",
                   va="center", bbox=text_box(colours))  # fmt: skip
    else:
        curve.axhline(100 * base, color=colours.faint, linewidth=0.8, linestyle=":")
        label_right(curve, [Label(100 * base, f"base rate {100 * base:.1f} %", colours.faint)], colours)

    count = floats(bins, "count")
    widths = 100 * (floats(bins, "high") - floats(bins, "low")) - 1
    counts.bar(centres, count, width=widths, color=colours.grid, alpha=0.55, linewidth=0)
    counts.set_yscale("log")
    counts.set_ylim(0.7, max(count, default=1) * 8)
    counts.set_yticks([])
    counts.minorticks_off()
    name_axis(counts, "hours (log)", colours)
    for hours, centre in zip(count, centres, strict=True):
        words = _short_count(int(hours))
        counts.text(centre, hours * 1.25, words, color=colours.ink, fontsize=7.5, ha="center", va="bottom")
    counts.set_xlim(-1, 101)
    curve.set_xticks(range(0, 101, 10), [])
    counts.set_xticks(range(0, 101, 10))
    counts.set_xlabel("predicted, %", color=colours.ink, fontsize=SMALL, loc="right", labelpad=2)
    for axes in (curve, counts):
        axes.grid(axis="x", color=colours.rule, linewidth=0.8)
    curve.grid(axis="y", color=colours.rule, linewidth=0.8)


def _short_count(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"


_MOST_MINUTES = 120
"""Longer times are told in hours."""


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
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    times, counts = stacked_panels(figure, [(0.3, 1.3)], colours, gap_above=0.18)
    months = kpis["month"].unique().sort().to_list()
    states = [state for state in STATES if state in set(kpis["state"])]
    width = 0.8 / max(1, len(states))
    slowest = max((late for late in kpis["p95_seconds"] if late is not None), default=0.0)
    unit, seconds = ("hours", 3600.0) if slowest > _MOST_MINUTES * 60 else ("minutes", 60.0)
    handles: list[Artist] = []
    for place, state in enumerate(states):
        mine = {row["month"]: row for row in kpis.filter(pl.col("state") == state).iter_rows(named=True)}
        colour = STATE_COLOURS[state]
        for number, month in enumerate(months):
            if month not in mine:
                continue
            row, x = mine[month], number - 0.4 + width * (place + 0.5)
            if row["p50_seconds"] is not None:
                soon, late = row["p50_seconds"] / seconds, row["p95_seconds"] / seconds
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
    value_ticks(times)
    counts.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    times.set_xticks([])
    counts.set_xticks(range(len(months)), months)
    counts.set_xlabel("month, UTC", color=colours.ink, fontsize=SMALL, loc="right", labelpad=2)
    name_axis(times, f"{unit} to act", colours)
    name_axis(counts, "alerts", colours)
    if handles:
        legend(times, handles, colours)
    alerts, answered = int(kpis["alerts"].sum()), int(kpis["responses"].sum())
    head(figure, f"{title_prefix}What the operator did", f"{alerts} alerts, {answered} answered", colours)
    foot(figure, "dot: half of the answers came by then, line: 95 % · full bar: answered, pale: notified", colours)
    return png(figure)


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
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    known = {row["metric"]: row for row in rows.filter(pl.col("value").is_not_null()).iter_rows(named=True)}
    _draw_reliability(figure, bins, known["base_rate"]["value"] if known else None, colours)
    names = {"ece": "calibration error", "brier_skill": "Brier skill", "auc": "AUC"}
    figures = " · ".join(f"{name} {known[key]['value']:.3f}" for key, name in names.items() if key in known)
    head(figure, f"{title_prefix}Probability of two closes below the grid within 24 h", figures, colours)
    foot(figure, f"{int(floats(bins, 'count').sum()):,} hours · intervals: two-week blocks drawn anew", colours)
    return png(figure)


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
    colours = PALETTES[theme]
    figure = new_figure(dots_per_inch, colours)
    shown = rows.filter(pl.col("metric").is_in([metric for metric, _, _ in _WORTH]))
    signals = shown.select("policy", "signal").unique(maintain_order=True).rows()
    known = {(row["policy"], row["signal"], row["metric"]): row for row in shown.iter_rows(named=True)}
    wide = (WIDTH - _NAMES_WIDE - 0.2) / len(_WORTH)
    height = HEIGHT - TOP - 2 * BOTTOM + 0.1
    for column, (metric, name, times) in enumerate(_WORTH):
        left = _NAMES_WIDE + column * wide
        axes = figure.add_axes((left / WIDTH, (BOTTOM + 0.25) / HEIGHT, (wide - 0.3) / WIDTH, height / HEIGHT))
        axes.set_facecolor("none")
        axes.tick_params(colors=colours.ink, labelsize=SMALL, length=0, pad=4)
        for side in axes.spines.values():
            side.set_visible(False)
        plain_numbers(axes)
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
        axes.set_title(name, color=colours.ink, fontsize=SMALL, pad=4)
        if column == 0:
            shrink_to(_NAMES_WIDE - 0.2, axes.get_yticklabels())
    grids = max((row["n"] for key, row in known.items() if key[2] == "mean_equity"), default=0)
    about = f"{grids:,} grids · grey: rules that anybody could follow" if grids else "no grid could be judged"
    head(figure, f"{title_prefix}What the signals were worth", about, colours)
    foot(figure, "lead: half of the breaks had less · money: percent of the capital · line: 95 % interval", colours)
    return png(figure)


def _few_ticks(left: float, right: float) -> list[float]:
    """Two or three round values inside an axis, clear of its ends, where the words of the next one begin."""
    margin = 0.05 * (right - left)
    ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(left, right)
    return [float(tick) for tick in ticks if left + margin <= tick <= right - margin]


def _signal_name(signal: str) -> str:
    return STATE_NAMES.get(signal, signal.replace("_", " "))
