"""From which bar on rows are lacking, of many markets at once, beside a walk along each of them."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.pipeline.lanes import BARS_AT_ONCE, Lane, first_absent, together

START = datetime(2026, 3, 1, tzinfo=UTC)
BARS = st.integers(0, 12)
LANES = st.dictionaries(st.sampled_from("abc"), st.tuples(BARS, BARS, st.lists(BARS, max_size=14)), min_size=1)


@given(LANES)
def test_it_is_the_first_bar_that_a_walk_does_not_find(drawn: dict[str, tuple[int, int, list[int]]]) -> None:
    spans = {
        name: Span(START + min(first, last) * BAR, START + max(first, last) * BAR)
        for name, (first, last, _) in drawn.items()
    }
    rows = pl.DataFrame(
        [(name, START + bar * BAR) for name, (_, _, bars) in drawn.items() for bar in bars]
        + [("of nobody", START + bar * BAR) for bar in range(12)],
        schema={"lane": pl.String, "open_time": TIME},
        orient="row",
    )
    walked = {}
    for name, span in spans.items():
        there, at = {START + bar * BAR for bar in drawn[name][2]}, span.start
        while at < span.end and at in there:
            at += BAR
        walked[name] = at
    assert first_absent(rows, spans) == walked


def test_lanes_of_one_span_are_looked_at_together_as_long_as_memory_allows() -> None:
    short, long = Span(START, START + 10 * BAR), Span(START, START + BARS_AT_ONCE // 2 * BAR)
    lanes = [Lane(name) for name in "abcde"]
    spans = {"a": short, "b": long, "c": short, "d": long, "e": long}
    found = [(span, [lane.name for lane in some]) for span, some in together(lanes, spans)]
    assert found == [(short, ["a", "c"]), (long, ["b", "d"]), (long, ["e"])]
