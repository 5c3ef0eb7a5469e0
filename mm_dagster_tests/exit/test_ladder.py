"""The fold by hand: what raises a state, what holds it, what lets it fall."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.exit import ExitConfig, LiteralPolicy
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit import ladder, triggers
from mm_dagster.tables import exit, registry
from mm_dagster.tables.words import STATES
from mm_dagster_tests.exit.synthetic import LITERAL, QUIET, START, Frames, climb, end, episode, grid, states


def stamped(frame: pl.DataFrame) -> pl.DataFrame:
    return registry.conform(frame.with_columns(config_hash=pl.lit("0"), code_version=pl.lit("0")), "exit_state")


def trigger(frame: pl.DataFrame, row: int, name: str) -> dict[str, Any]:
    return next(one for one in frame["triggers"][row].to_list() if one["name"] == name)


def test_a_quiet_episode_is_normal_and_keeps_the_contract() -> None:
    frame = climb(episode(5), 5)
    assert states(frame) == states(frame, "literal_state") == states(frame, "raw_state") == "NNNNN"
    assert registry.broken_rules(stamped(frame), "exit_state") == {}
    assert frame["advice"].unique().to_list() == ["The grid may go on."]
    assert frame["since"].unique().to_list() == [START]
    assert frame["recommended_window_minutes"].to_list() == [None] * 5
    assert frame["triggers"][0].to_list()[0]["name"] == "STOP_BREACHED"
    assert frame["triggers"].list.len().unique().to_list() == [12]
    assert frame.schema["triggers"] == pl.List(exit.TRIGGER)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # a hard trigger at once, and for good
        ({"low": {1: 2980.0}}, "NMMMMMMM"),
        ({"close": {1: 3060.0, 2: 3060.0}}, "NNMMMMMM"),
        ({"close": {1: 3060.0, 3: 3060.0}}, "NNNNNNNN"),
        # BREAK_LIKELY by itself, after two evaluations, and down below its lower threshold only
        ({"p_break_low_24h": {2: 0.4}}, "NNNNNNNN"),
        ({"p_break_low_24h": [0.1, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3]}, "NNWWWWWW"),
        ({"p_break_low_24h": [0.1, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.1]}, "NNWWWWNN"),
        ({"p_break_low_24h": [0.1, 0.4, 0.4, 0.2, 0.2, 0.25, 0.2, 0.2]}, "NNWWWWWW"),
        ({"p_break_low_24h": [0.1, 0.4, 0.7, 0.7, 0.7, 0.4, 0.4, 0.4]}, "NNWLLLLL"),
        # soft triggers count only with their exposure, two evaluations long
        ({"verdict": "TREND"}, "NNNNNNNN"),
        ({"verdict": "TREND", "p_break_low_24h": 0.30}, "NWWWWWWW"),
        ({"verdict": "TREND", "p_break_low_24h": 0.55}, "NLLLLLLL"),
        ({"verdict": "TREND", "p_break_low_24h": 0.60}, "NMMMMMMM"),
        ({"verdict": "TREND", "p_break_low_24h": [0.3, 0.56, 0.61, 0.61, 0.1, 0.1, 0.1, 0.1]}, "NWLMMMMM"),
        ({"verdict": {3: "TREND"}, "p_break_low_24h": 0.31}, "NNNNNNNN"),
        ({"atr_expansion": 1.3, "p_break_low_24h": 0.54}, "NWWWWWWW"),
        ({"atr_expansion": 1.3, "p_break_low_24h": 0.55}, "NLLLLLLL"),
        # one of two: two of them, both confirmed, both two evaluations long
        ({"transition_probability": 0.5, "p_break_low_24h": 0.31}, "NNNNNNNN"),
        ({"transition_probability": 0.5, "efficiency_ratio": [0.5] * 8, "p_break_low_24h": 0.31}, "NWWWWWWW"),
        ({"transition_probability": 0.5, "efficiency_ratio": [0.5] * 8, "p_break_low_24h": 0.29}, "NNNNNNNN"),
        (
            {
                "transition_probability": {1: 0.5, 2: 0.5},
                "efficiency_ratio": {2: 0.5, 3: 0.5},
                "p_break_low_24h": 0.31,
            },
            "NNNNNNNN",
        ),
    ],
)
def test_confirmed_policy(values: dict[str, Any], expected: str) -> None:
    assert states(climb(episode(8, values), 8)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"verdict": "TREND"}, "NMMMMMMM"),
        ({"verdict": {3: "TREND"}}, "NNNNNNNN"),
        ({"atr_expansion": 1.3}, "NLLLLLLL"),
        ({"close": {3: 3066.0}}, "NNNNMMMM"),
        ({"p_break_low_24h": 0.9}, "NNNNNNNN"),
        ({"transition_probability": 0.5}, "NNNNNNNN"),
        ({"transition_probability": 0.5, "efficiency_ratio": [0.5] * 8}, "NWWWWWWW"),
        ({"low": {4: 2980.0}}, "NNNNMMMM"),
    ],
)
def test_literal_policy_is_the_table_of_the_requirements(values: dict[str, Any], expected: str) -> None:
    frames = episode(8, values)
    assert states(climb(frames, 8, LITERAL)) == expected
    both = climb(frames, 8)
    assert states(both, "literal_state") == expected
    assert climb(frames, 8, LITERAL)["literal_state"].equals(both["literal_state"])


def test_literal_policy_can_ask_for_more_families() -> None:
    config = LITERAL.model_copy(update={"literal": LiteralPolicy(min_families=2)})
    assert states(climb(episode(4, {"verdict": "TREND"}), 4, config)) == "NLLL"
    assert states(climb(episode(4, {"verdict": "TREND", "atr_expansion": 1.3}), 4, config)) == "NMMM"
    assert states(climb(episode(4, {"low": {1: 2900.0}}), 4, config)) == "NMMM"


def test_latest_acceptable_exit_falls_one_level_at_a_time() -> None:
    frame = climb(episode(26, {"p_break_low_24h": [0.7, 0.7]}), 26)
    assert states(frame) == "N" + "L" * 16 + "W" * 4 + "N" * 5
    assert frame["since"].to_list()[16:22] == [START + BAR] + [START + 17 * BAR] * 4 + [START + 21 * BAR]
    assert frame["recommended_window_minutes"].to_list()[15:22] == [60, 60, 240, 240, 240, 240, None]
    assert "not been quiet" in frame["advice"][10]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.36, 0.37, 0.1], "NWW"),
        ([0.37] + [0.14] * 8, "W" * 8 + "N"),
        ([0.37] + [0.14] * 7 + [0.15], "W" * 9),
        ([0.71, 0.72, 0.1], "WLL"),
        ([0.72] + [0.23] * 16, "L" * 16 + "W"),
        ([0.72] + [0.23] * 15 + [0.24], "L" * 17),
    ],
)
def test_by_default_one_look_raises_and_a_warning_ends_after_two_hours_a_latest_acceptable_exit_after_four(
    values: list[float], expected: str
) -> None:
    found = climb(episode(len(values), {"p_break_low_24h": values}), len(values), ExitConfig())
    assert states(found) == expected


def test_missing_bars_neither_count_nor_reset() -> None:
    frame = climb(episode(10, {"p_break_low_24h": [0.4, 0.4]}, missing=(4, 5)), 10)
    assert states(frame) == "NWWWWWWNNN"
    assert states(climb(episode(10, {"p_break_low_24h": [0.4, 0.4]}), 10)) == "NWWWWNNNNN"


def test_an_unknown_evaluation_does_not_break_persistence() -> None:
    frames = episode(6, {"p_break_low_24h": [0.1, 0.4, 0.1, 0.4, 0.1, 0.1]}, missing=(2,))
    assert states(climb(frames, 6)) == "NNNWWW"


def test_under_confirmed_the_state_does_not_fall_while_the_probability_is_unknown() -> None:
    values = {"p_break_low_24h": [0.4, 0.4] + [None] * 6 + [0.1] * 4}
    assert states(climb(episode(12, values), 12)) == "N" + "W" * 10 + "N"


def test_under_confirmed_an_unknown_probability_at_a_known_bar_is_a_warning_at_once_and_never_more() -> None:
    unknown = {"p_break_low_24h": {3: None}, "verdict": "TREND", "close": {3: 3066.0}, "atr_expansion": 1.3}
    frame = climb(episode(9, unknown), 9)
    assert states(frame) == "NNNWWWWNN"
    assert states(frame, "raw_state") == "NNNWNNNNN"
    assert frame["advice"][3] == (
        "Be ready to stop the grid, and look again within 4 h: "
        "the probability of a break below the grid cannot be known."
    )
    lost = {"p_break_low_24h": [0.1] + [None] * 8, "verdict": "TREND"}
    assert states(climb(episode(9, lost), 9)) == "N" + "W" * 8
    assert states(climb(episode(9, {"p_break_low_24h": None}), 9, LITERAL)) == "N" * 9
    # At a MISSING bar the age says how bad it is, and what is known to be bad still counts.
    assert states(climb(episode(4, missing=(1,)), 4)) == "NNNN"
    gone = {"p_break_low_24h": [0.1] + [None] * 3, "low": {2: 2990.0}}
    assert states(climb(episode(4, gone), 4)) == "NWMM"


def test_a_new_activation_begins_anew() -> None:
    frames = episode(40, {"low": {1: 2900.0}})
    anew = grid(activated_at=end(20))
    risk = pl.concat([frames.risk, frames.risk.with_columns(activated_at=pl.lit(anew.activated_at, dtype=TIME))])
    both = Frames(frames.candles, frames.features, frames.verdict, risk)
    for column in ("state", "literal_state"):
        assert states(climb(both, 40), column) == "N" + "M" * 39
        assert states(climb(both, 40, of=anew), column) == "N" * 21


@pytest.mark.parametrize(
    ("bars", "expected"),
    [(2, "NNN"), (3, "NNNW"), (4, "NNNWW"), (5, "NNNWWL"), (9, "NNNWWLLLLL")],
)
def test_blindness_raises_the_state_by_its_age_and_never_to_mandatory(bars: int, expected: str) -> None:
    for config in (ExitConfig(), LITERAL):
        frame = climb(episode(bars + 1, missing=range(1, bars + 1)), bars + 1, config)
        assert states(frame) == expected
        absent = climb(episode(bars + 1, absent=range(1, bars + 1)), bars + 1, config)
        assert states(absent) == expected
    assert "BLIND" in frame["advice"][-1] or expected.endswith("N")


def test_blindness_is_left_by_the_quiet_time() -> None:
    frame = climb(episode(10, missing=(1, 2, 3)), 10)
    assert states(frame) == "NNNWWWWNNN"


def test_more_than_half_of_the_triggers_unknown_is_a_warning() -> None:
    names = ("verdict", "transition_probability", "confidence", "half_life")
    gone: dict[str, Any] = {name: dict.fromkeys((1, 2, 3)) for name in names}
    six = climb(episode(4, gone), 4)
    assert sum(one["fired"] is None for one in six["triggers"][1].to_list()) == 6
    assert states(six) == "NNNN"
    seven = climb(episode(4, gone | {"atr_expansion": dict.fromkeys((1, 2, 3))}), 4)
    assert states(seven) == "NWWW"
    assert "7 of 12 triggers cannot be known" in seven["advice"][1]


def test_before_the_first_known_bar_there_is_no_state_and_then_no_false_one() -> None:
    frame = climb(episode(12, {"p_break_low_24h": 0.1}, missing=range(9)), 12)
    assert frame["state"].to_list()[:9] == frame["raw_state"].to_list()[:9] == [None] * 9
    assert frame["literal_state"].to_list()[:9] == [None] * 9
    assert frame["since"].to_list()[:9] == [None] * 9
    assert states(frame[9:]) == "NNN"
    assert frame["since"].to_list()[9:] == [frame["as_of"][9]] * 3
    assert "not judged yet" in frame["advice"][0]


def test_a_hard_trigger_at_the_first_known_bar_is_since_then_and_not_since_the_activation() -> None:
    frame = climb(episode(12, {"low": {9: 2980.0}}, missing=range(9)), 12)
    assert states(frame[9:]) == "MMM"
    assert frame["since"][9] == frame["as_of"][9]


@pytest.mark.parametrize("name", list(triggers.INPUTS))
def test_until_every_input_was_known_once_only_hard_triggers_count(name: str) -> None:
    loud: dict[str, Any] = {"p_break_low_24h": 0.8, "verdict": "TREND", "atr_expansion": 1.4}
    late = {name: [None] * 5 + [loud.get(name, QUIET[name])] * 19}
    # Of the verdict also its values of four hours before are needed.
    frame = climb(episode(24, loud | late), 24)
    assert states(frame[:5]) == "NNNNN"
    assert frame["complete"].to_list()[:5] == [False] * 5
    assert frame["never_known"][4].to_list() == [triggers.INPUTS[name]]
    assert "as far as is known" in frame["advice"][0]
    assert states(frame[-1]) == "M"
    hard = climb(episode(24, loud | late | {"low": {2: 2980.0}}), 24)
    assert states(hard) == "NN" + "M" * 22


def test_what_was_known_once_and_is_lost_is_blindness() -> None:
    lost = {"p_break_low_24h": [0.1, 0.1] + [None] * 6}
    assert states(climb(episode(8, lost), 8)) == "NNWWWWWW"


def test_lost_candles_are_blindness_even_before_every_input_was_known() -> None:
    frame = climb(episode(9, {"p_break_low_24h": None}, missing=range(1, 9)), 9)
    assert states(frame) == "NNNWWLLLL"


def test_after_a_stop_nobody_is_told_that_the_grid_is_sold_out() -> None:
    frame = climb(episode(6, {"low": {1: 2980.0}, "close": [3100.0, 2985.0, 3190.0, 3195.0, 3200.0, 3200.0]}), 6)
    for advice in frame["advice"][1:]:
        assert advice.startswith("Make sure on the exchange that the grid has stopped")
        assert "2026-03-02T00:15:00Z" in advice
        assert "sold out" not in advice


def test_level_says_what_a_trigger_counts_for_at_this_bar() -> None:
    frame = climb(episode(3, {"verdict": "TREND", "p_break_low_24h": [0.1, 0.34, 0.6]}), 3)
    levels = [trigger(frame, row, "REGIME_TREND")["level"] for row in range(3)]
    assert levels == ["MANDATORY_EXIT", "WARNING", "MANDATORY_EXIT"]
    assert [trigger(frame, row, "BREAK_LIKELY")["level"] for row in range(3)] == [
        "WARNING",
        "WARNING",
        "LATEST_ACCEPTABLE_EXIT",
    ]
    assert states(frame, "raw_state") == "NWM"


def test_below_the_grid_the_advice_is_to_sell() -> None:
    frame = climb(episode(4, {"close": {1: 3060.0, 2: 3055.0}}), 4)
    assert frame["advice"][2] == (
        "Stop the grid now and sell the inventory: Closes in a row below the grid: 2 (limit 2)."
    )
    assert frame["advice"][3].startswith("Stop the grid now and sell the inventory: Closes in a row below")
    assert "2026-03-02T00:30:00Z" in frame["advice"][3]


def test_above_the_grid_it_is_idle_and_finished() -> None:
    frame = climb(episode(5, {"close": [3127.0, 3190.0, 3191.0, 3192.0, 3100.0]}), 5)
    assert states(frame) == "NNMMM"
    assert frame["advice"][2] == "Idle: re-centre; the price closed above 3,185 and the grid is sold out."
    assert frame["advice"][4].endswith("would buy again now: stop it if it still runs.")


def test_a_disabled_grid_and_a_future_one_have_no_states() -> None:
    for frame in (climb(episode(3), 3, of=grid(enabled=False)), climb(episode(3), -5)):
        assert frame.is_empty()
        assert frame.columns == registry.empty("exit_state").drop("config_hash", "code_version").columns


def test_an_activation_between_bars_begins_at_the_next_one() -> None:
    late = grid(activated_at=START - timedelta(minutes=4))
    assert climb(episode(2, of=late), 2, of=late)["as_of"].to_list() == [START, end(2)]


def test_many_grids_at_once_are_what_each_is_alone_and_what_is_followed() -> None:
    values = {"close": {3: 3060.0, 4: 3055.0}, "p_break_low_24h": [0.1, 0.4, 0.7, 0.9]}
    many = [
        grid(),
        grid(id="btc", symbol="BTC-USDT"),
        grid(id="late", activated_at=START + 2 * BAR),
        grid(id="wide", stop=1),
    ]
    frames = episode(12, missing=(6,), of=many[0])
    for one, happened in zip(many[1:], (values, {}, {"close": 3190.0}), strict=True):
        frames = frames.beside(
            episode(12, happened, of=one)
            if one.symbol != "ETH-USDT"
            else Frames(
                *(part.clear() for part in (frames.candles, frames.features, frames.verdict)),
                episode(9, happened, of=one).risk,
            )
        )
    config = ExitConfig()
    whole = Span(START + 2 * BAR, end(10))

    def compute(*grids: GridConfig) -> pl.DataFrame:
        return ladder.compute(
            grids, frames.candles, frames.features, frames.verdict, frames.risk, whole, config, TouchConfig()
        )

    together = compute(*many)
    assert_frame_equal(together, pl.concat([compute(one) for one in many]), check_exact=True)
    assert set(together["state"]) > {"NORMAL", "MANDATORY_EXIT"}
    followed = ladder.follow(many, frames.candles, frames.features, frames.verdict, frames.risk, whole.end, config)
    for one in followed:
        mine = together.filter(pl.col("grid_id") == one.grid.id)
        assert [STATES[state] for state in one.ladder.state[-mine.height :]] == mine["state"].to_list()
