"""What must hold for every episode, whatever happens in it and however the ladder is configured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR
from mm_dagster.config.exit import ExitConfig, LiteralPolicy, Persist, Thresholds
from mm_dagster.exit import ladder
from mm_dagster.exit.triggers import FALSE, TRUE, UNKNOWN
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster_tests.examples import examples
from mm_dagster_tests.exit.synthetic import LAG, QUIET, Frames, climb, end, episode, evaluate, grid

BARS = 36
LAST = BARS - 1
CONFIGS = st.builds(
    ExitConfig,
    persist=st.builds(
        Persist, on=st.integers(1, 3), off_warning=st.integers(1, 6), off_latest_acceptable_exit=st.integers(1, 12)
    ),
    literal=st.builds(LiteralPolicy, min_families=st.integers(1, 3)),
    thresholds=st.builds(Thresholds, closes_outside=st.integers(1, 3), soft_for_warning=st.integers(1, 3)),
)
"""The policy is the confirmed one: the table carries the literal state beside it, from the same fold."""
BOTH = ("state", "literal_state")

MILD_TO_BAD: dict[str, Sequence[Any]] = {
    "p_break_low_24h": (0.0, 0.1, 0.28, 0.3, 0.4, 0.5, 0.56, 0.62, 1.0),
    "low": (3127.0, 3080.0, 3000.0, 2990.0, 2900.0),
    "verdict": VERDICTS,
    "confidence": (0.9, 0.5, 0.4375, 0.375, -0.2),
    "transition_probability": (0.0, 0.1, 0.39, 0.5, 1.0),
    "half_life": (0.0, 3.0, 8.0, 9.7, 30.0, math.inf),
    "half_life_baseline": (100.0, 10.0, 4.0, 1.0),
    "atr_expansion": (0.5, 1.0, 1.25, 1.3, 3.0),
    "efficiency_ratio": (0.0, 0.25, 0.28, 0.3125, 1.0),
}
"""Each risk input that a bar brings, from mild to bad."""
CLOSES = {
    "down": (3127.0, 3078.0, 3071.0, 3069.0, 3060.0, 2995.0),
    "up": (3127.0, 3180.0, 3184.0, 3186.0, 3300.0),
}
"""A close is worse the farther it is from the middle, on its side: below is the loss, above the grid is sold out."""
INPUTS = (*MILD_TO_BAD, "close down", "close up")


def stretches(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """A series that stays at a value for some bars, since a state needs time to rise and fall."""
    lengths = st.tuples(values, st.integers(1, 20))
    return st.lists(lengths, min_size=1, max_size=6).map(lambda parts: [value for value, n in parts for _ in range(n)])


@st.composite
def happenings(draw: st.DrawFn) -> tuple[dict[str, list[Any]], list[int]]:
    """Values of an episode, BARS long, and its MISSING bars; at its first bar all is known, so that it is judged."""
    choices: dict[str, list[Any]] = {
        "p_break_low_24h": [None, 0.1, 0.28, 0.3, 0.4, 0.5, 0.56, 0.62, 0.9],
        "verdict": [None, *VERDICTS],
        "confidence": [None, 0.5, 0.5, 0.3],
        "atr_expansion": [None, 1.0, 1.3],
        "transition_probability": [None, 0.1, 0.5],
        "half_life": [None, 5.0, 8.0, 30.0, math.inf],
        "half_life_baseline": [None, 10.0, 10.0, 3.0, math.inf],
        "efficiency_ratio": [None, 0.25, 0.25, 0.5],
        "close": [3127.0] * 8 + [3074.0, 3066.0, 3190.0],
        "low": [3127.0] * 10 + [2985.0],
    }
    values = {
        name: ([QUIET[name], *draw(stretches(st.sampled_from(given)))] + [QUIET[name]] * BARS)[:BARS]
        for name, given in choices.items()
    }
    missing = draw(stretches(st.sampled_from([False] * 6 + [True])))
    return values, [bar for bar, gone in enumerate(missing) if gone and 0 < bar < BARS]


def with_newest(values: dict[str, list[Any]], newest: dict[str, Any]) -> dict[str, list[Any]]:
    """The same episode with other values at its newest bar."""
    return values | {name: [*values[name][:LAST], value] for name, value in newest.items()}


def levels(frame: pl.DataFrame, column: str = "state") -> list[int]:
    return [STATES.index(state) for state in frame[column]]


def scale_of(name: str) -> tuple[str, Sequence[Any]]:
    """The column of an input, and its values from mild to bad."""
    column, _, side = name.partition(" ")
    return column, CLOSES[side] if side else MILD_TO_BAD[column]


@st.composite
def worsened(draw: st.DrawFn) -> tuple[Any, Any, list[int]]:
    """An episode, the same with some inputs of its newest bar worse, and its MISSING bars."""
    values, missing = draw(happenings())
    mild, bad = {}, {}
    for name in draw(st.lists(st.sampled_from(INPUTS), min_size=1, unique_by=lambda name: name.split()[0])):
        column, scale = scale_of(name)
        first, second = sorted(draw(st.tuples(*[st.integers(0, len(scale) - 1)] * 2)))
        mild[column], bad[column] = scale[first], scale[second]
    return with_newest(values, mild), with_newest(values, bad), [bar for bar in missing if bar != LAST]


@settings(max_examples=examples(80))
@given(worsened(), CONFIGS)
def test_worse_inputs_at_the_newest_bar_never_lower_the_state(made: Any, config: ExitConfig) -> None:
    values, worse, missing = made
    before, after = (climb(episode(BARS, these, missing), BARS, config) for these in (values, worse))
    for column in (*BOTH, "raw_state"):
        assert levels(after, column)[-1] >= levels(before, column)[-1]


TOUCHY = ExitConfig(persist=Persist(on=1), thresholds=Thresholds(soft_for_warning=1))
"""Every trigger raises the state at once and without company: nothing that an input does is hidden."""


@pytest.mark.slow
@pytest.mark.parametrize("exposure", [0.1, 0.31, 0.62])
@pytest.mark.parametrize("name", INPUTS)
def test_from_mild_to_bad_one_input_by_itself_only_raises_the_state(name: str, exposure: float) -> None:
    column, scale = scale_of(name)
    bars = LAG + 1
    quiet: dict[str, Any] = {"p_break_low_24h": exposure}
    if column == "half_life_baseline":
        quiet["half_life"] = 9.0
    ways: dict[str, list[int]] = {state: [] for state in BOTH}
    for value in scale:
        frame = climb(episode(bars, quiet | {column: {bars - 1: value}}), bars, TOUCHY)
        for state, way in ways.items():
            way.append(levels(frame, state)[-1])
    for way in ways.values():
        assert way == sorted(way)
    decides = "literal_state" if column != "p_break_low_24h" else "state"
    assert ways[decides][0] < ways[decides][-1]


@settings(max_examples=examples(40))
@given(happenings(), st.lists(st.sampled_from([*MILD_TO_BAD, "close"]), min_size=1, unique=True), CONFIGS)
def test_null_inputs_at_the_newest_bar_never_make_a_state_lower_than_their_mildest_values_do(
    happened: Any, gone: list[str], config: ExitConfig
) -> None:
    values, missing = happened
    missing = [bar for bar in missing if bar != LAST]
    if "half_life_baseline" in gone:
        # Against an infinite half-life no baseline is mild.
        values = with_newest(values, {"half_life": 8.0})
    mildest = {name: scale[0] for name, scale in MILD_TO_BAD.items()} | {"close": 3127.0}
    known = climb(episode(BARS, with_newest(values, {name: mildest[name] for name in gone}), missing), BARS, config)
    unknown = climb(episode(BARS, with_newest(values, dict.fromkeys(gone)), missing), BARS, config)
    for column in BOTH:
        assert levels(unknown, column)[-1] >= levels(known, column)[-1]
        # Nor are they ever the reason for an exit at any price.
        assert levels(unknown, column)[-1] < 3 or levels(known, column)[-1] == 3


@settings(max_examples=20)
@given(happenings(), CONFIGS, st.integers(1, 12), st.booleans())
def test_missing_bars_at_the_end_never_lower_the_state_nor_make_it_mandatory(
    happened: Any, config: ExitConfig, gone: int, told: bool
) -> None:
    values, missing = happened
    lost = range(BARS - gone, BARS)
    frames = episode(BARS, values, [*missing, *lost], absent=() if told else lost)
    for column in BOTH:
        path = levels(climb(frames, BARS, config), column)[BARS - gone - 1 :]
        assert path == sorted(path)
        assert path[0] == 3 or max(path) < 3


@settings(max_examples=20)
@given(happenings(), CONFIGS)
def test_a_known_bar_without_any_input_holds_the_state_and_is_at_least_a_warning(
    happened: Any, config: ExitConfig
) -> None:
    values, missing = happened
    missing = [bar for bar in missing if bar != LAST]
    frames = episode(BARS, with_newest(values, dict.fromkeys(MILD_TO_BAD) | {"close": 3127.0}), missing)
    for column in BOTH:
        before, now = levels(climb(frames, BARS, config), column)[-2:]
        assert now >= max(1, before)


@settings(max_examples=examples(40))
@given(happenings(), CONFIGS)
def test_states_fall_one_level_after_the_dwell_and_mandatory_latches(happened: Any, config: ExitConfig) -> None:
    frame = climb(episode(BARS, *happened), BARS, config)
    quiet = (0, config.persist.off_warning, config.persist.off_latest_acceptable_exit)
    for column in BOTH:
        path = levels(frame, column)
        entered = 0
        for bar, (before, after) in enumerate(pairwise(path), start=1):
            assert after == 3 or before < 3
            if after < before:
                assert after == before - 1
                assert bar - entered >= quiet[before]
            if after != before:
                entered = bar
    path, raw = levels(frame), levels(frame, "raw_state")
    since = [(time - frame["as_of"][0]) // BAR for time in frame["since"]]
    for bar, (before, after) in enumerate(pairwise(path), start=1):
        assert since[bar] == (bar if after != before else since[bar - 1])
        if after < before:
            assert sum(level < before for level in raw[since[bar - 1] + 1 : bar + 1]) >= quiet[before]


def folded(
    on: Any, off: Any, level: Any, persistence: Any, one_of: Any, together: int, floor: Any, known: Any, quiet: Any
) -> list[int]:
    """The fold as METHOD words it, bar by bar and without haste: what the compiled one must agree with."""

    def highest(holding: list[int], least: int) -> int:
        company = sum(bool(one_of[c]) for c in holding) >= together
        return max([least, *(int(level[c]) for c in holding if not one_of[c] or company)])

    def persists(c: int, k: int) -> bool:
        told = [on[i][c] for i in range(k + 1) if on[i][c] != UNKNOWN]
        return on[k][c] == TRUE and len(told) >= persistence[c] and all(x == TRUE for x in told[-persistence[c] :])

    def last_known(c: int, k: int) -> int:
        return int(next((off[i][c] for i in range(k, -1, -1) if off[i][c] != UNKNOWN), FALSE))

    columns = range(len(level))
    state, calm, states = 0, 0, []
    for k in range(len(on)):
        up = highest([c for c in columns if persists(c, k)], floor[k])
        stay = max(up, highest([c for c in columns if last_known(c, k) == TRUE], floor[k]))
        if up > state:
            state, calm = up, 0
        elif floor[k] >= state or (known[k] and stay >= state):
            calm = 0
        elif known[k] and state < 3:
            calm += 1
            if calm >= quiet[state]:
                state, calm = state - 1, 0
        states.append(state)
    return states


def random_conditions(seed: int) -> tuple[Any, ...]:
    """Arguments of the fold: 60 evaluations of 5 conditions that last for a while, with holes."""
    random = np.random.default_rng(seed)
    rows, columns = 60, 5
    likely = random.dirichlet((2.0, 0.5, 0.7))
    on = np.repeat(random.choice([FALSE, UNKNOWN, TRUE], (rows // 3, columns), p=likely), 3, axis=0)
    on = np.where(random.random(on.shape) < 0.1, UNKNOWN, on).astype(np.int8)
    return (
        on,
        np.maximum(on, random.choice([FALSE, FALSE, TRUE], on.shape)).astype(np.int8),
        random.integers(1, 4, columns),
        random.integers(1, 4, columns),
        random.random(columns) < 0.5,
        int(random.integers(1, 4)),
        random.choice([0, 0, 0, 0, 1, 2], rows),
        random.random(rows) < 0.8,
        np.array([0, *random.integers(1, 8, 2), 0]),
    )


@settings(max_examples=examples(120))
@given(st.integers(0, 2**32 - 1))
def test_the_compiled_fold_is_the_one_that_the_method_words(seed: int) -> None:
    conditions = random_conditions(seed)
    states, _, since = ladder._fold(*conditions)
    assert states.tolist() == folded(*conditions)
    assert all(states[bar] == states[entered] for bar, entered in enumerate(since))


@settings(max_examples=examples(250))
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 59))
def test_more_that_holds_at_the_newest_evaluation_never_lowers_the_fold(seed: int, other: int, newest: int) -> None:
    on, off, *rest, floor, known, quiet = random_conditions(seed)
    more, more_off, *_, more_floor, _, _ = random_conditions(other)
    on, off, floor, known = on[: newest + 1], off[: newest + 1], floor[: newest + 1], known[: newest + 1]
    before, raw_before, _ = ladder._fold(on, off, *rest, floor, known, quiet)
    worse, worse_off, higher = on.copy(), off.copy(), floor.copy()
    worse[newest] = np.maximum(on[newest], more[newest])
    worse_off[newest] = np.maximum(off[newest], np.maximum(more_off[newest], worse[newest]))
    higher[newest] = max(floor[newest], more_floor[newest])
    after, raw_after, _ = ladder._fold(worse, worse_off, *rest, higher, known, quiet)
    assert after[newest] >= before[newest]
    assert raw_after[newest] >= raw_before[newest]


@settings(max_examples=20)
@given(happenings(), CONFIGS, st.integers(1, BARS))
def test_an_earlier_end_gives_the_same_rows(happened: Any, config: ExitConfig, bars: int) -> None:
    frames = episode(BARS, *happened)
    assert_frame_equal(climb(frames, bars, config), climb(frames, BARS, config).head(bars), check_exact=True)


@pytest.mark.slow
@settings(max_examples=12)
@given(happenings(), happenings(), CONFIGS, st.randoms(use_true_random=False))
def test_order_of_rows_start_of_the_data_and_other_grids_do_not_matter(
    happened: Any, elsewhere: Any, config: ExitConfig, random: Any
) -> None:
    frames = episode(BARS, *happened)
    plain = climb(frames, BARS, config)

    def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame[random.sample(range(frame.height), frame.height)]

    other_market = episode(BARS, *elsewhere, of=grid(id="btc", symbol="BTC-USDT"))
    # Days before the activation, with what an earlier episode of the same grid did in them.
    earlier = episode(BARS, *elsewhere, of=grid(activated_at=grid().activated_at - timedelta(days=3)))
    beside_itself = Frames(
        frames.candles,
        frames.features,
        frames.verdict,
        pl.concat([frames.risk, frames.risk.with_columns(grid_id=pl.lit("another"), p_break_low_24h=pl.lit(0.99))]),
    )
    for others in (frames.beside(other_market), frames.beside(earlier), beside_itself):
        assert_frame_equal(climb(others.map(shuffled), BARS, config), plain, check_exact=True)
    # No more than the contract asks for: 4 hours before the activation, and nothing after the end.
    first, last = grid().first_as_of - LAG * BAR, end(BARS)
    tight = Frames(
        frames.candles.filter(pl.col("close_time").is_between(first, last)),
        *(part.filter(pl.col("as_of").is_between(first, last)) for part in (frames.features, frames.verdict)),
        frames.risk,
    )
    assert_frame_equal(climb(tight, BARS, config), plain, check_exact=True)


@settings(max_examples=20)
@given(happenings(), CONFIGS)
def test_what_is_nearest_is_never_what_has_fired(happened: Any, config: ExitConfig) -> None:
    frames = episode(BARS, *happened)
    table = evaluate(frames, BARS, config)
    nearest = climb(frames, BARS, config)["nearest"]
    for row, sentences in zip(table.iter_rows(named=True), nearest.to_list(), strict=True):
        assert len(sentences) <= 3
        said = " | ".join(sentences)
        assert ("Stop " not in said) or row["STOP_BREACHED.fired"] is False
        assert ("Verdict: " not in said) or row["REGIME_TREND.fired"] is False
        assert ("week" not in said) or row["VOLATILITY_EXPANDED.fired"] is not True
        assert ("fires at 35 %" not in said) or row["BREAK_LIKELY.value"] < 0.35
        anything_unknown = any(row[name] is None for name in table.columns if name.endswith(".fired"))
        assert ("cannot be known" in said.lower()) == anything_unknown
