"""What must hold for every episode, whatever happens in it."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.config import ExitConfig
from mm_dagster.tables import STATES, VERDICTS
from mm_dagster_tests.exit.synthetic import LITERAL, climb, episode, grid

BARS = 40
POLICIES = st.sampled_from([ExitConfig(), LITERAL])


def stretches(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """A series that stays at a value for some bars, since a state needs time to rise and fall."""
    lengths = st.tuples(values, st.integers(1, 20))
    return st.lists(lengths, min_size=1, max_size=6).map(lambda parts: [value for value, n in parts for _ in range(n)])


@st.composite
def happenings(draw: st.DrawFn) -> tuple[dict[str, Any], list[int]]:
    """Values of an episode and its MISSING bars."""
    values = {
        "p_break_low_24h": draw(stretches(st.sampled_from([None, 0.1, 0.28, 0.3, 0.4, 0.5, 0.56, 0.62, 0.9]))),
        "verdict": draw(stretches(st.sampled_from([None, *VERDICTS]))),
        "atr_expansion": draw(stretches(st.sampled_from([None, 1.0, 1.3]))),
        "transition_probability": draw(stretches(st.sampled_from([None, 0.1, 0.5]))),
        "half_life": draw(stretches(st.sampled_from([None, 5.0, 8.0, 30.0, math.inf]))),
        "close": draw(stretches(st.sampled_from([3127.0] * 8 + [3074.0, 3066.0, 3190.0]))),
        "low": draw(stretches(st.sampled_from([3127.0] * 10 + [2985.0]))),
    }
    missing = draw(stretches(st.sampled_from([False] * 6 + [True])))
    return values, [bar for bar, gone in enumerate(missing) if gone and bar < BARS]


def levels(frame: Any, column: str = "state") -> list[int]:
    return [STATES.index(state) for state in frame[column]]


@settings(max_examples=40, deadline=None)
@given(happenings(), POLICIES, st.integers(1, BARS))
def test_an_earlier_end_gives_the_same_rows(happened: Any, config: ExitConfig, bars: int) -> None:
    values, missing = happened
    frames = episode(BARS, values, missing)
    assert_frame_equal(climb(frames, bars, config), climb(frames, BARS, config).head(bars), check_exact=True)


@settings(max_examples=30, deadline=None)
@given(happenings(), POLICIES)
def test_mandatory_latches_and_states_fall_one_level_at_a_time(happened: Any, config: ExitConfig) -> None:
    values, missing = happened
    for column in ("state", "literal_state"):
        path = levels(climb(episode(BARS, values, missing), BARS, config), column)
        for before, after in pairwise(path):
            assert after >= before - 1
            assert after == 3 or before < 3


@settings(max_examples=30, deadline=None)
@given(happenings(), POLICIES, st.integers(1, 12))
def test_missing_bars_at_the_end_never_lower_the_state_nor_make_it_mandatory(
    happened: Any, config: ExitConfig, gone: int
) -> None:
    values, missing = happened
    frames = episode(BARS, values, [*missing, *range(BARS - gone, BARS)])
    path = levels(climb(frames, BARS, config))[BARS - gone - 1 :]
    assert path == sorted(path)
    assert path[0] == 3 or max(path) < 3


@settings(max_examples=30, deadline=None)
@given(happenings(), st.sampled_from([0.1, 0.3, 0.4, 0.56, 0.62]), st.sampled_from([0.3, 0.4, 0.5, 0.62, 1.0]))
def test_a_likelier_break_at_the_newest_bar_never_lowers_the_state(happened: Any, p: float, worse: float) -> None:
    values, missing = happened
    missing = [bar for bar in missing if bar != BARS - 1]
    probabilities = (values["p_break_low_24h"] + [0.1] * BARS)[: BARS - 1]
    before = climb(episode(BARS, values | {"p_break_low_24h": [*probabilities, p]}, missing), BARS)
    after = climb(episode(BARS, values | {"p_break_low_24h": [*probabilities, max(p, worse)]}, missing), BARS)
    for column in ("state", "raw_state"):
        assert levels(after, column)[-1] >= levels(before, column)[-1]


@settings(max_examples=25, deadline=None)
@given(happenings(), happenings(), POLICIES)
def test_order_of_rows_and_other_markets_grids_and_episodes_do_not_matter(
    happened: Any, elsewhere: Any, config: ExitConfig
) -> None:
    frames = episode(BARS, *happened)
    plain = climb(frames, BARS, config)
    other = episode(BARS, *elsewhere, of=grid(id="btc", symbol="BTC-USDT"))
    assert_frame_equal(climb(frames.beside(other), BARS, config), plain, check_exact=True)
    # An earlier episode of the same grid has the same market: only its risk rows are others.
    earlier = episode(BARS, *elsewhere, of=grid(activated_at=grid().activated_at - timedelta(days=30)))
    assert_frame_equal(climb(frames.beside(earlier), BARS, config), plain, check_exact=True)
