"""The steps of a grid, and the rules of a venue, against figures worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.config.grid import Spacing, break_even_ratio, prices, worst_step_ratio
from mm_dagster.grid.levels import levels_clash, order_too_small, round_prices, round_quantity
from mm_dagster.tables.market import MarketRules


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [("arithmetic", [8000, 9000, 10000, 11000, 12000]), ("geometric", [8000, 8853.46, 9797.96, 10843.22, 12000])],
)
def test_prices_of_the_grid_in_the_requirements(spacing: Spacing, expected: list[float]) -> None:
    grid = prices(8000, 12000, 4, "intervals", spacing)
    assert np.round(grid, 2).tolist() == expected
    # The top step of an arithmetic grid is its smallest; of a geometric one all are alike: 1.5 ** .25.
    smallest = {"arithmetic": 12 / 11, "geometric": 1.5**0.25}[spacing]
    assert worst_step_ratio(grid) == pytest.approx(smallest, rel=1e-12)


def test_at_the_break_even_ratio_what_is_sold_pays_for_what_was_bought() -> None:
    # In quote: 1 bought at 100 costs 100 x 1.01; sold at 101 / .99 it brings 101 after the fee.
    assert 100 * break_even_ratio(0.01, "quote") * 0.99 == pytest.approx(101, rel=1e-12)
    # In base: of 1 bought at 100, .99 are left to sell, and 1 % of what they bring is fee.
    assert 100 * break_even_ratio(0.01, "base") * 0.99 * 0.99 == pytest.approx(100, rel=1e-12)


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
