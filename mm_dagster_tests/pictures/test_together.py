"""The picture of all grids: the same bytes for the same rows, and nothing over anything else."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from matplotlib.figure import Figure

from mm_dagster.pictures.colours import Theme
from mm_dagster.pictures.drawings import HEIGHT, draw_together
from mm_dagster.pictures.together import together_picture
from mm_dagster_tests.pictures.nights import SPAN, came, contributions, risks
from mm_dagster_tests.pictures.words import hold_words

NONE_CAME = came().clear()
PICTURES: dict[str, Callable[..., bytes]] = {
    "usual": lambda **options: together_picture(risks(), contributions(), came(), 1000.0, **options),
    "no limit": lambda **options: together_picture(risks(), contributions(), came(), None, **options),
    "a limit far away": lambda **options: together_picture(risks(), contributions(), came(), 90_000.0, **options),
    "twenty grids": lambda **options: together_picture(risks(), contributions(20), came(), 1000.0, **options),
    "one bar": lambda **options: together_picture(risks().tail(1), contributions(2), NONE_CAME, None, **options),
    "nothing known": lambda **options: together_picture(
        risks(hole=(0, 10_000)), [], NONE_CAME, 1000.0, **options
    ),
    "in bitcoin": lambda **options: together_picture(
        risks(capital=0.05), contributions(capital=0.05), came(0.05), 0.005, **options
    ),
    "in yen": lambda **options: together_picture(
        risks(capital=5e6), contributions(capital=5e6), came(5e6), 5e5, **options
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_every_word_is_inside_the_picture_and_over_no_other(name: str, figures: list[Figure]) -> None:
    png = PICTURES[name](title_prefix="SIMULATED · ")
    hold_words(png, figures[0])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_rows_in_any_order_give_the_same_bytes(theme: Theme) -> None:
    one = together_picture(risks(), contributions(), came(), 1000.0, theme=theme)
    other = together_picture(risks().reverse(), contributions()[::-1], came(), 1000.0, theme=theme)
    assert one == other


def test_a_drawing_has_night_mean_what_came_and_the_limit() -> None:
    drawing = draw_together(risks(), came(), 1000.0, 10_000.0, SPAN)
    assert drawing is not None
    assert [curve.name for curve in drawing.curves] == ["night", "mean", "came"]
    assert drawing.curves[2].path.count("M") == 13
    assert {label.name for label in drawing.labels} == {"night", "mean", "limit"}
    assert [name for _, name in drawing.marks] == ["zero", "stop"]
    assert [hole.bars for hole in drawing.holes] == [60]
    assert drawing == draw_together(risks(), came(), 1000.0, 10_000.0, SPAN)


def test_a_loss_is_above_a_gain_and_a_limit_far_away_is_named_at_the_edge() -> None:
    drawing = draw_together(risks(), came(), 90_000.0, 10_000.0, SPAN)
    assert drawing is not None
    ((zero, _),) = drawing.marks
    tops = {label.name: label.top for label in drawing.labels}
    assert 0 < tops["mean"] < 100 * zero / HEIGHT
    assert next(label for label in drawing.labels if label.name == "limit").text.endswith("▲")


def test_nothing_known_draws_nothing() -> None:
    assert draw_together(risks(hole=(0, 10_000)), came(), None, 10_000.0, SPAN) is None
    assert draw_together(risks().clear(), came(), None, 10_000.0, SPAN) is None
    assert draw_together(risks(), came().filter(pl.lit(False)), None, 10_000.0, SPAN) is not None
