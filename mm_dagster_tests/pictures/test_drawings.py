"""Drawings that a page stretches: what is not known is a hole, and their words never overlap."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.pictures.drawings import HEIGHT, POINTS, draw_decision, draw_equity
from mm_dagster.tables.registry import dtypes, empty
from mm_dagster_tests.pages.rows import AS_OF, drawings, grid

WEEK = Span(AS_OF - timedelta(days=7), AS_OF)


def test_a_hole_in_the_data_is_a_hole_in_the_drawing() -> None:
    decision, _ = drawings(grid())
    assert decision is not None
    assert decision.curves[0].path.count("M") == 2
    (hole,) = decision.holes
    assert (hole.start, hole.bars) == (100, 20)


def test_regime_and_exit_states_cover_the_bars_that_they_hold_for() -> None:
    decision, _ = drawings(grid())
    assert decision is not None
    for pieces in (decision.verdicts, decision.states):
        assert [(piece.start, piece.bars, piece.rank) for piece in pieces] == [
            (96 * day, 96, day % 4) for day in range(7)
        ]


def test_many_bars_become_few_points_that_keep_their_extremes() -> None:
    decision, equity = drawings(grid(), days=60)
    assert decision is not None
    assert equity is not None
    assert decision.width == 60 * 96
    for curve in (*decision.curves, *equity.curves):
        assert curve.path.count("l") <= POINTS
    assert len(decision.ticks) <= 9


def test_words_beside_the_plot_keep_apart_and_inside() -> None:
    decision, equity = drawings(grid(lower=99.9, upper=100.1, stop=99.8, levels=2, fees={"maker": 0.0001}))
    assert decision is not None
    assert equity is not None
    for drawing in (decision, equity):
        tops = [label.top for label in drawing.labels]
        assert all(later - earlier >= 11.9 for earlier, later in pairwise(tops))
        assert tops[-1] <= 100


def test_a_bound_far_from_the_price_is_named_at_the_edge() -> None:
    decision, _ = drawings(grid(lower=900, upper=1100, stop=850))
    assert decision is not None
    assert {label.text: label.top for label in decision.labels}["1,100 ▲"] <= 40
    assert all(0 <= int(part) <= HEIGHT for part in decision.curves[0].path[1:].split("l")[0].split(" ")[1:])


def test_nothing_known_draws_nothing() -> None:
    one = grid()
    nothing = empty("candles"), empty("regime_verdict"), empty("exit_state")
    assert draw_decision(one, *nothing, WEEK) is None
    assert draw_equity(one, empty("grid_risk"), WEEK) is None
    other = pl.DataFrame(
        [dict.fromkeys(dtypes("grid_risk")) | {"grid_id": one.id, "activated_at": AS_OF, "as_of": AS_OF - BAR,
         "total_pnl": 5.0}], schema=dtypes("grid_risk"),
    )  # fmt: skip
    assert draw_equity(one, other, WEEK) is None
