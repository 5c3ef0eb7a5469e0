"""The three pictures of the page: what stands, what does not, what was tried; each figure with its 95 % interval."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evidence.figures import ALL, LATEST, PROBABILITY, WARNING, Cells, Evidence
from mm_dagster.evaluation.quality import PLACEBO
from mm_dagster.pictures.colours import PALETTES, STATE_COLOURS
from mm_dagster.pictures.style import SMALL, TOP, WIDTH, foot, head, new_figure, plain_numbers, png, shrink_to

Interval = tuple[float, float | None, float | None]
HIGH = 5.4
_NAMES_WIDE = 2.1
_INK = PALETTES["light"]


def stands(found: Evidence) -> bytes:
    """Ranking, leaving earlier and the gate, by set."""
    figure = new_figure(90, _INK)
    names = [*found.sets, ALL]
    cells = {**found.sets, ALL: found.together}
    gate = {
        name: next(one for one in chains if (one.exit, one.metric) == (0.38, "gain_of_gate"))
        for name, chains in found.chains.items()
    }
    panels = (
        ("AUC of the probability\n(.5 is chance)", [_of(cells[name], PROBABILITY, "auc") for name in names], 0.5),
        (
            "WARNING against waiting,\nworst 5 %, points of the capital",
            [_of(cells[name], WARNING, "shortfall_vs_next_level") for name in names],
            0.0,
        ),
        (
            "the gate of entry, exit at .38,\n% of the capital a week",
            [(gate[name].value, gate[name].low, gate[name].high) for name in names],
            0.0,
        ),
    )
    _forest(figure, names, panels)
    head(figure, "What stands", "a dot is a set of real candles, its line the 95 % interval", _INK)
    foot(figure, "dashed: chance, or no difference", _INK)
    return png(figure)


def does_not(found: Evidence) -> bytes:
    """The worst twentieth against holding: on the market, on the placebo, and by a rule that anybody could follow."""
    figure = new_figure(90, _INK)
    names = [*found.sets, ALL]
    cells = {**found.sets, ALL: found.together}
    panels = []
    for level in (WARNING, LATEST):
        panels.append(
            (f"{level[1]}\non the markets", [_of(cells[name], level, "shortfall_vs_hold") for name in names], 0.0)
        )
        placebo = (PLACEBO, level[1])
        panels.append(("on random signs", [_of(cells[name], placebo, "shortfall_vs_hold") for name in names], 0.0))
    _forest(figure, names, panels, alike=True)
    line = "worst 5 %, points of the capital better than holding to the stop: as much where nothing can be known"
    head(figure, "What does not: a better tail is the shape of the grid", line, _INK)
    foot(figure, "random signs: the same markets, each bar turned its way or the other by chance", _INK)
    return png(figure)


_ROW = re.compile(
    r"^\| (?P<group>[^|]+) \| (?P<name>[^|]+) \| [^|]+ \| (?P<gain>-?[\d.]+) \[(?P<low>-?[\d.]+), (?P<high>-?[\d.]+)\]"
)


def tried(information: str) -> tuple[bytes, int]:
    """What each candidate would add to the probability, on all recordings together; and how many there are."""
    # The first table has all recordings together; those after it are of one each.
    table = information[information.index("| group |") :].partition("\n\n")[0]
    rows = [found for line in table.splitlines() if (found := _ROW.match(line)) and "control" not in found["group"]]
    gains = sorted((float(row["gain"]), float(row["low"]), float(row["high"])) for row in rows)
    figure = new_figure(90, _INK)
    axes = _panel(figure, 0.6, WIDTH - 1.2)
    _draw(axes, gains, _INK.grid, 0.0, size=4.0)
    axes.set_yticks([])
    axes.set_xlabel("thousandths of a nat a question gained", fontsize=SMALL, color=_INK.ink)
    line = f"{len(rows)} candidates, one a line: what each adds to the break probability, out of sample"
    head(figure, "What was tried", line, _INK)
    foot(figure, "the probability itself loses 250 to 324; names and figures: information.md", _INK)
    return png(figure), len(rows)


def _of(cells: Cells, name: tuple[str, str], metric: str) -> Interval:
    value, low, high, _ = cells[*name, metric]
    assert value is not None, (name, metric)
    return value, low, high


def _forest(
    figure: Figure, names: Sequence[str], panels: Sequence[tuple[str, Sequence[Interval], float]], alike: bool = False
) -> None:
    wide = (WIDTH - _NAMES_WIDE - 0.1) / len(panels)
    drawn = []
    for place, (title, intervals, nothing) in enumerate(panels):
        axes = _panel(figure, _NAMES_WIDE + place * wide, wide - 0.3)
        level = title.split("\n")[0]
        _draw(axes, intervals, STATE_COLOURS.get(level, _INK.grid), nothing)
        axes.set_yticks(range(len(names)), names if place == 0 else [])
        axes.set_title(title, color=_INK.ink, fontsize=SMALL, pad=4)
        axes.title.set_fontsize(SMALL - 1)
        if place == 0:
            shrink_to(_NAMES_WIDE - 0.2, axes.get_yticklabels())
        drawn.append(axes)
    if alike:
        right = max(axes.get_xlim()[1] for axes in drawn)
        left = min(axes.get_xlim()[0] for axes in drawn)
        for axes in drawn:
            axes.set_xlim(left, right)


def _panel(figure: Figure, left: float, wide: float) -> Axes:
    bottom = 0.75
    axes = figure.add_axes((left / WIDTH, bottom / HIGH, wide / WIDTH, (HIGH - TOP - bottom - 0.35) / HIGH))
    axes.set_facecolor("none")
    axes.tick_params(colors=_INK.ink, labelsize=SMALL, length=0, pad=4)
    for side in axes.spines.values():
        side.set_visible(False)
    plain_numbers(axes)
    axes.grid(axis="x", color=_INK.rule, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _draw(axes: Axes, intervals: Sequence[Interval], colour: str, nothing: float, size: float = 5.0) -> None:
    for place, (value, low, high) in enumerate(intervals):
        if low is not None and high is not None:
            axes.hlines(place, low, high, color=colour, linewidth=0.5 * size, alpha=0.6)
        axes.plot([value], [place], "o", color=colour, markersize=size)
    axes.axvline(nothing, color=_INK.alarm, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set_ylim(len(intervals) - 0.4, -0.6)
    axes.margins(x=0.08)
