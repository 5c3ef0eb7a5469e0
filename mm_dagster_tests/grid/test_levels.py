"""The steps of a grid, and the rules of a venue, against figures worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.grid.levels import (
    Spacing,
    break_even_ratio,
    levels_clash,
    order_too_small,
    prices,
    round_prices,
    round_quantity,
    step_net_percent,
)
from mm_dagster.tables.market import MarketRules


@pytest.mark.parametrize(
    ("spacing", "net"), [("arithmetic", [12.29, 10.90, 9.79, 8.88]), ("geometric", [10.46, 10.46, 10.46, 10.46])]
)
def test_steps_of_the_grid_in_the_requirements_earn_what_they_say(spacing: Spacing, net: list[float]) -> None:
    # 8,000 to 12,000 with 4 intervals and 0.1 %: the lowest arithmetic step is (9000 x .999 - 8000 x 1.001) / 8000.
    grid = prices(8000, 12000, 4, "intervals", spacing)
    assert np.round(step_net_percent(grid, 0.001, "quote"), 2).tolist() == net


def test_fee_of_the_buy_in_base_costs_a_little_more() -> None:
    # 1 base bought at 100 leaves 0.99, sold at 110 for 108.90, of which 1.089 is fee: 107.811.
    step = np.array([100.0, 110.0])
    assert step_net_percent(step, 0.01, "base")[0] == pytest.approx(7.811, abs=1e-12)
    assert step_net_percent(step, 0.01, "quote")[0] == pytest.approx(7.9, abs=1e-12)


@pytest.mark.parametrize("paid_in", ["quote", "base"])
def test_step_at_break_even_earns_nothing(paid_in: str) -> None:
    step = np.array([1.0, break_even_ratio(0.001, paid_in)])  # type: ignore[arg-type]
    assert step_net_percent(step, 0.001, paid_in)[0] == pytest.approx(0.0, abs=1e-12)  # type: ignore[arg-type]


def test_rounded_prices_are_the_floats_nearest_to_the_decimals() -> None:
    off = np.array([3069.9999999, 3070.0500001, 3070.1999999, 0.1 + 0.2])
    assert round_prices(off, MarketRules(price_tick=0.1)).tolist() == [3070.0, 3070.1, 3070.2, 0.3]
    assert round_prices(off[:3], MarketRules(price_tick=0.25)).tolist() == [3070.0, 3070.0, 3070.25]
    assert round_prices(off, MarketRules()) is off


def test_price_half_way_between_two_ticks_goes_to_the_even_one() -> None:
    assert round_prices(np.array([0.15, 0.25, 0.35]), MarketRules(price_tick=0.1)).tolist() == [0.2, 0.2, 0.4]


def test_quantity_goes_down_to_the_lot_and_a_whole_lot_is_kept() -> None:
    assert round_quantity(0.29999, MarketRules(amount_lot=0.1)) == 0.2
    # 3 x 0.1 is 0.30000000000000004 in floats, and 0.3 / 0.1 is 2.9999999999999996.
    assert round_quantity(0.3, MarketRules(amount_lot=0.1)) == 0.3
    assert round_quantity(3 * 0.1, MarketRules(amount_lot=0.1)) == 0.3
    assert round_quantity(0.0999, MarketRules(amount_lot=0.1)) == 0.0
    assert round_quantity(1.23456, MarketRules()) == 1.23456


@given(
    st.floats(1e-6, 1e6),
    st.sampled_from([1e-8, 1e-7, 0.0001, 0.001, 0.01, 0.1, 0.05, 0.25, 1.0, 5.0]),
)
def test_rounding_is_exact_in_decimals(number: float, unit: float) -> None:
    unit_, number_ = Decimal(repr(unit)), Decimal(repr(number))
    price = Decimal(repr(float(round_prices(np.array([number]), MarketRules(price_tick=unit))[0])))
    lots = Decimal(repr(round_quantity(number, MarketRules(amount_lot=unit))))
    # 15 digits are what a float always keeps.
    if number / unit < 1e15:
        assert price % unit_ == 0
        assert lots % unit_ == 0
    assert abs(price - number_) <= unit_ / 2
    assert 0 <= number_ - lots < unit_


def test_two_levels_on_one_tick_are_named() -> None:
    grid = prices(1.0, 1.1, 5, "intervals", "arithmetic")
    assert levels_clash(grid, MarketRules(price_tick=0.02)) is None
    assert levels_clash(grid, MarketRules()) is None
    said = levels_clash(grid, MarketRules(price_tick=0.05))
    assert said == ("the levels 1 and 1.02 are one price at the venue's tick of 0.05; use fewer levels or wider bounds")


@pytest.mark.parametrize(
    ("quantity", "rules", "said"),
    [
        (0.0, MarketRules(amount_lot=0.01), "a cell's share of the capital buys less than the venue's lot of 0.01"),
        (
            0.0004,
            MarketRules(amount_min=0.001),
            "a cell buys 0.0004, and the venue takes no order below 0.001 (base currency)",
        ),
        (
            0.0004,
            MarketRules(cost_min=5.0),
            "the cell at 8,000 buys for 3.2, and the venue takes no order below 5 (quote currency)",
        ),
    ],
)
def test_cell_below_a_minimum_is_named_with_its_figures(quantity: float, rules: MarketRules, said: str) -> None:
    grid = prices(8000, 12000, 4, "intervals", "arithmetic")
    assert order_too_small(grid, quantity, rules) == f"{said}; use more capital or fewer levels"


def test_cell_at_its_minimum_is_taken() -> None:
    grid = prices(8000, 12000, 4, "intervals", "arithmetic")
    assert order_too_small(grid, 0.001, MarketRules(amount_min=0.001, cost_min=8.0, amount_lot=0.001)) is None
