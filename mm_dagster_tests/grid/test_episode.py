"""Episodes: what they remember, what may not change, and when they end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from mm_dagster.grid import episode
from mm_dagster.tables import registry
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster_tests.grid.synthetic import START, grid

LATER = START + timedelta(days=3)
NOW = START + timedelta(days=5)


def stored(**changes: Any) -> pl.DataFrame:
    return episode.episode_of(grid(**changes), START, MarketRules(price_tick=0.01, amount_min=0.001))


def test_an_episode_keeps_the_whole_configuration() -> None:
    frame = stored()
    assert registry.broken_rules(frame, "grid_episode") == {}
    assert frame.schema == registry.empty("grid_episode").schema
    row = frame.row(0, named=True)
    assert (row["lower"], row["stop"], row["fee_maker"], row["fee_paid_in"]) == (3070.0, 2990.0, 0.001, "quote")
    assert row["closed_at"] is None
    assert row["closed_by"] is None


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({}, []),
        ({"enabled": False}, []),
        ({"lower": 3071}, ["lower"]),
        ({"stop": 2980, "upper": 3190}, ["upper", "stop"]),
        ({"levels": 7, "level_convention": "levels"}, ["levels", "level_convention"]),
        ({"spacing": "geometric", "capital": 900}, ["spacing", "capital"]),
        ({"fees": {"taker": 0.002, "paid_in": "base"}}, ["fees.taker", "fees.paid_in"]),
        ({"symbol": "BTC-USDT"}, ["symbol"]),
    ],
)
def test_changed_keys_are_named_as_in_the_file(change: dict[str, Any], keys: list[str]) -> None:
    assert episode.changed_keys(grid(**change), stored().row(0, named=True)) == keys


def test_a_key_that_the_stored_row_does_not_know_yet_has_not_changed() -> None:
    old = stored().with_columns(slippage=pl.lit(None, pl.Float64)).row(0, named=True)
    assert episode.changed_keys(grid(fees={"slippage": 0.002}), old) == []
    number = stored(fees={"slippage": 0.0005}).row(0, named=True)
    assert episode.changed_keys(grid(fees={"slippage": 0.002}), number) == ["fees.slippage"]
    # The default was a number once: who left it to the program has not changed the grid.
    assert episode.changed_keys(grid(), number) == []


def test_an_episode_keeps_what_the_venue_asked_of_an_order() -> None:
    assert episode.rules_of(stored().row(0, named=True)) == MarketRules(price_tick=0.01, amount_min=0.001)
    assert episode.rules_of(registry.empty("grid_episode").clear(1).row(0, named=True)) == NO_RULES


def closings(frame: pl.DataFrame, *grids: Any) -> list[tuple[Any, ...]]:
    found = episode.closings(frame, grids, NOW)
    assert found.schema == registry.empty("grid_episode").schema
    return found.select("activated_at", "closed_at", "closed_by").rows()


def test_a_running_episode_stays_open() -> None:
    assert closings(stored(), grid()) == []


def test_a_newer_activation_ends_the_episode_at_that_activation() -> None:
    assert closings(stored(), grid(activated_at=LATER)) == [(START, LATER, "reactivated")]
    both = pl.concat([stored(), stored(activated_at=LATER)])
    assert closings(both, grid(activated_at=NOW)) == [(START, LATER, "reactivated"), (LATER, NOW, "reactivated")]


def test_switching_off_and_removing_end_the_episode_now() -> None:
    assert closings(stored(), grid(enabled=False)) == [(START, NOW, "disabled")]
    assert closings(stored()) == [(START, NOW, "removed")]
    assert closings(stored(), grid(id="other")) == [(START, NOW, "removed")]


def test_an_episode_that_was_disabled_from_the_start_is_not_ended_by_being_so() -> None:
    assert closings(stored(enabled=False), grid(enabled=False)) == []


def test_a_closed_episode_is_left_alone() -> None:
    closed = episode.closings(stored(), [], NOW)
    assert closings(closed, grid(activated_at=LATER)) == []
