"""The replay against a grid worked out by hand, against cells moved one by one, and against what must always hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.config.grid import FeeCurrency, Fees, LevelConvention, Spacing, prices
from mm_dagster.grid.levels import round_prices
from mm_dagster.grid.replay import GridTerms, Replay, quantity_per_cell, terms, terms_of
from mm_dagster.tables.market import MarketRules
from mm_dagster_tests.grid.cells import MISSING, Candle, Case, Cells, cases, replayed
from mm_dagster_tests.grid.synthetic import grid as configured

NAN = math.nan


# By hand --------------------------------------------------------------------------------------------------------------
#
# 1,000 of capital, activated at 115, 1 base a cell, stop at 90, 1 % maker fee, 0.5 % slippage. The taker fee is 2 %
# with fees in quote and 1 % with the buy's fee in base. A cell bought at activation costs in quote
# 115 x 1.005 x 1.02 = 117.8865 (fee 2.3115), in base .99 x 115 x 1.005 / .99 = 115.575 (fee 1.15575).

CANDLES: list[Candle] = [
    (115, 116, 112, 114),  # 1 falls: nothing in reach
    (114, 115, 110, 113),  # 2 touches 110 exactly
    (113, 121, 109, 120),  # 3 rises: open, low, high, close
    (131, 132, 128, 129),  # 4 opens with a gap upwards
    (129, 141, 129, 140),  # 5 rises to its close
    MISSING,  # 6
    (124, 125, 119, 124),  # 7 opens with a gap downwards; flat: the low comes first
    (124, 131, 119, 121),  # 8 falls: open, high, low, close
    (121, 122, 111, 112),  # 9 falls, and stops short of 110
    (112, 113, 99, 101),  # 10 falls through 110 and 100
    (101, 111, 101, 111),  # 11 rises through 110
    (111, 112, 85, 88),  # 12 falls through the stop
]


@dataclass(frozen=True)
class ByHand:
    """What a grid of five levels comes to. Fills and grid profit at every bar, the rest after the last."""

    fills: list[int]
    grid_profit: list[float]
    cash: float
    exit_pnl: float
    fees_paid: float
    fills_optimistic: list[int]
    grid_profit_optimistic: list[float]


def grid_of_five(convention: LevelConvention, spacing: Spacing, paid_in: FeeCurrency) -> GridTerms:
    top = {
        ("levels", "arithmetic"): 140.0,
        ("intervals", "arithmetic"): 150.0,
        ("levels", "geometric"): 146.41,
        ("intervals", "geometric"): 161.051,
    }[convention, spacing]
    # Powers of 1.1 in floats miss 110 by a bit in the last place; the venue's tick puts them right.
    levels = round_prices(prices(100, top, 5, convention, spacing), MarketRules(price_tick=0.001))
    fees = Fees(maker=0.01, taker=0.02 if paid_in == "quote" else 0.01, slippage=0.005, paid_in=paid_in)
    return terms(levels, 1.0, 115.0, 1000.0, 90.0, fees)


def test_five_levels_in_quote_by_hand_in_every_column() -> None:
    # Levels 100, 110, 120, 130, 140: four cells. Those at 120 and 130 are bought at activation for 117.8865 each.
    # A buy costs 101.00, 111.10, 121.20, 131.30; a sell yields 108.90, 118.80, 128.70, 138.60. A base is worth
    # .995 x .98 = .9751 of its price.
    #  start                                      cash 1000 - 2 x 117.8865 = 764.2270, fees 2 x 2.3115 = 4.6230
    #  1 nothing                                  2 base at 114 are worth 222.3228
    #  2 buys at 110                              cash 653.1270, fees + 1.10 = 5.7230
    #  3 sells at 120                             cash 771.9270, profit 118.80 - 111.10 = 7.70, fees + 1.20 = 6.9230
    #  4 sells at 130, for the first time         cash 900.6270, profit + 128.70 - 117.8865 = 18.5135, fees 8.2230
    #  5 sells at 140, for the first time         cash 1039.2270, profit + 20.7135 = 39.2270, fees 9.6230; sold out
    #  6 missing
    #  7 buys at 130 in the gap, and at 120       cash 786.7270, cost 252.50, fees + 1.30 + 1.20 = 12.1230
    #  8 sells at 130, buys at 120 again          cash 794.2270, profit + 128.70 - 121.20 = 46.7270, fees 14.6230
    #  9 nothing
    # 10 buys at 110 and 100                      cash 582.1270, cost 464.60, fees + 2.10 = 16.7230
    # 11 sells at 110                             cash 691.0270, profit + 7.90 = 54.6270, fees 17.8230
    # 12 buys at 100, sells 4 at the stop         4 x 90 x .9751 = 351.0360, less 464.60: -113.5640
    #                                             cash 691.0270 - 101 + 351.0360 = 941.0630
    #                                             fees + 1.00 + 4 x 90 x .995 x .02 = 25.9870
    found = replayed(grid_of_five("levels", "arithmetic", "quote"), CANDLES)
    cash = [
        *(764.2270, 653.1270, 771.9270, 900.6270, 1039.2270, 1039.2270),
        *(786.7270, 794.2270, 794.2270, 582.1270, 691.0270, 941.0630),
    ]
    cost = [235.7730, 346.8730, 235.7730, 117.8865, 0, 0, 252.50, 252.50, 252.50, 464.60, 363.60, 0]
    held = [2, 3, 2, 1, 0, 0, 2, 2, 2, 4, 3, 0]
    profit = [0, 0, 7.70, 18.5135, 39.2270, 39.2270, 39.2270, 46.7270, 46.7270, 46.7270, 54.6270, 54.6270]
    fees = [4.6230, 5.7230, 6.9230, 8.2230, 9.6230, 9.6230, 12.1230, 14.6230, 14.6230, 16.7230, 17.8230, 25.9870]
    value = [
        *(222.3228, 330.5589, 234.0240, 125.7879, 0, NAN),
        *(241.8248, 235.9742, 218.4224, 393.9404, 324.7083, 0),
    ]
    unrealised = [v - c for v, c in zip(value, cost, strict=True)]
    total = [c + v - 1000 for c, v in zip(cash, value, strict=True)]
    same(found.cash, cash)
    same(found.inventory, held)
    same(found.average_cost, [c / h if h else NAN for c, h in zip(cost, held, strict=True)])
    same(found.grid_profit, profit)
    same(found.exit_pnl, [0.0] * 11 + [-113.5640])
    same(found.fees_paid, fees)
    same(found.unrealised_pnl, unrealised)
    same(found.total_pnl, total)
    same(found.liquidation_value, [c + v for c, v in zip(cash, value, strict=True)])
    assert found.fills.tolist() == [0, 1, 2, 3, 4, 4, 6, 8, 8, 10, 11, 13]
    assert found.waiting.tolist() == [2, 1, 2, 3, 4, 4, 2, 2, 2, 0, 1, 0]
    assert found.stopped == 11
    assert found.total_pnl[-1] == pytest.approx(54.6270 - 113.5640, abs=1e-9)

    # The longer way. 3: the high comes first, so 120, 110 and 120 fill: + 2 x 7.70. 5: 140, 130, 140: + 20.7135 + 7.30.
    # 8: the low comes first, with 120 already held; then 130 fills, and 121 does not reach 120. 9: so 120 fills only
    # now. 10: 110, 100, and on the way up 110: + 7.90. 11: 110 is sold already. 12: the low comes first: 100, stop.
    profit = [0, 0, 15.40, 26.2135, 54.2270, 54.2270, 54.2270, 61.7270, 61.7270, 69.6270, 69.6270, 69.6270]
    same(found.grid_profit_optimistic, profit)
    assert found.fills_optimistic.tolist() == [0, 1, 4, 5, 8, 8, 10, 11, 12, 15, 15, 17]
    # Cash after 11: 1000 + 69.6270 - 363.60 = 706.0270; 3 x 111 x .9751 are 324.7083.
    assert found.liquidation_value_optimistic[10] == pytest.approx(1030.7353, abs=1e-9)
    assert found.liquidation_value_optimistic[-1] == pytest.approx(1000 + 69.6270 - 113.5640, abs=1e-9)
    assert math.isnan(found.liquidation_value_optimistic[5])


ARITHMETIC_FILLS = [0, 1, 2, 3, 4, 4, 6, 8, 8, 10, 11, 13]
ARITHMETIC_FILLS_OPTIMISTIC = [0, 1, 4, 5, 8, 8, 10, 11, 12, 15, 15, 17]
# Levels 100, 110, 121, 133.1: 2 buys at 110, 3 sells at 121, 4 nothing, 5 sells at 133.1, 7 buys at 121, 8 and 9
# nothing, 10 buys at 110 and 100, 11 sells at 110, 12 buys at 100 and sells all.
GEOMETRIC_FILLS = [0, 1, 2, 2, 3, 3, 4, 4, 4, 6, 7, 9]
# The longer way: 3 sells at 121 and buys at 110 again, its close of 120 does not reach 121; so 4 sells at 121. 10 buys
# at 110 and 100, sells at 110.
GEOMETRIC_FILLS_OPTIMISTIC = [0, 1, 3, 4, 5, 5, 6, 6, 6, 9, 9, 11]

BY_HAND: dict[tuple[LevelConvention, Spacing, FeeCurrency], ByHand] = {
    # The grid above with one more cell, from 140 to 150: bought at activation, never sold, 87.759 at the stop. After 11
    # cash is 691.0270 - 117.8865 = 573.1405; - 101 + 5 x 87.759 = 910.9355. Cost 464.60 + 117.8865 = 582.4865.
    # Fees: 25.9870 + 2.3115 + 90 x .995 x .02.
    ("intervals", "arithmetic", "quote"): ByHand(
        fills=ARITHMETIC_FILLS,
        grid_profit=[0, 0, 7.70, 18.5135, 39.2270, 39.2270, 39.2270, 46.7270, 46.7270, 46.7270, 54.6270, 54.6270],
        cash=910.9355,
        exit_pnl=438.7950 - 582.4865,
        fees_paid=25.9870 + 2.3115 + 1.7910,
        fills_optimistic=ARITHMETIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[
            *(0, 0, 15.40, 26.2135, 54.2270, 54.2270, 54.2270, 61.7270, 61.7270, 69.6270, 69.6270, 69.6270),
        ],
    ),
    # A sell at 121 yields 119.79, + 8.69 after 110; at 133.1 131.769, + 13.8825 for the first time; at 110 + 7.90.
    # At the stop the cells cost 101 + 111.10 + 122.21 + 117.8865 (146.41 was never reached) = 452.1965.
    # Cash 1000 + 30.4725 + 351.0360 - 452.1965. Fees: 4.623 + buys 1.10 + 1.21 + 2.10 + 1.00 + sells 1.21 + 1.331
    # + 1.10 + 7.164 at the stop.
    ("levels", "geometric", "quote"): ByHand(
        fills=GEOMETRIC_FILLS,
        grid_profit=[0, 0, 8.69, 8.69, 22.5725, 22.5725, 22.5725, 22.5725, 22.5725, 22.5725, 30.4725, 30.4725],
        cash=929.3120,
        exit_pnl=351.0360 - 452.1965,
        fees_paid=20.8380,
        fills_optimistic=GEOMETRIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[
            *(0, 0, 8.69, 17.38, 31.2625, 31.2625, 31.2625, 31.2625, 31.2625, 39.1625, 39.1625, 39.1625),
        ],
    ),
    # One more cell, from 146.41 to 161.051, bought at activation: cash less 117.8865, plus 87.759 at the stop.
    ("intervals", "geometric", "quote"): ByHand(
        fills=GEOMETRIC_FILLS,
        grid_profit=[0, 0, 8.69, 8.69, 22.5725, 22.5725, 22.5725, 22.5725, 22.5725, 22.5725, 30.4725, 30.4725],
        cash=929.3120 - 117.8865 + 87.7590,
        exit_pnl=438.7950 - 570.0830,
        fees_paid=20.8380 + 2.3115 + 1.7910,
        fills_optimistic=GEOMETRIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[
            *(0, 0, 8.69, 17.38, 31.2625, 31.2625, 31.2625, 31.2625, 31.2625, 39.1625, 39.1625, 39.1625),
        ],
    ),
    # Buys cost 100, 110, 120, 130 and leave .99 each; a sell yields .99 x .99 = .9801 of its price: 107.811, 117.612,
    # 127.413, 137.214. Profits: 3 117.612 - 110; 4 127.413 - 115.575 = 11.838; 5 137.214 - 115.575 = 21.639;
    # 8 127.413 - 120 = 7.413; 11 107.811 - 100 = 7.811. At the stop 4 x .99 x 90 x .995 x .99 = 351.07182, cost 460.
    # Fees: 2 x 1.15575 + buys 1.10 + 2.50 + 1.20 + 2.10 + 1.00 + sells .99 x (1.20 + 1.30 + 1.40 + 1.30 + 1.10)
    # + 3.96 x 90 x .995 x .01 = 3.546180.
    ("levels", "arithmetic", "base"): ByHand(
        fills=ARITHMETIC_FILLS,
        grid_profit=[0, 0, 7.612, 19.45, 41.089, 41.089, 41.089, 48.502, 48.502, 48.502, 56.313, 56.313],
        cash=1000 + 56.313 + 351.07182 - 460,
        exit_pnl=351.07182 - 460,
        fees_paid=2.3115 + 7.90 + 6.237 + 3.54618,
        fills_optimistic=ARITHMETIC_FILLS_OPTIMISTIC,
        # 3: twice 7.612. 5: + 21.639 + 137.214 - 130. 8: + 7.413. 10: + 7.811.
        grid_profit_optimistic=[0, 0, 15.224, 27.062, 55.915, 55.915, 55.915, 63.328, 63.328, 71.139, 71.139, 71.139],
    ),
    # One more cell at 115.575, .99 x 90 x .98505 = 87.767955 at the stop, of which .99 x 90 x .995 x .01 is fee.
    ("intervals", "arithmetic", "base"): ByHand(
        fills=ARITHMETIC_FILLS,
        grid_profit=[0, 0, 7.612, 19.45, 41.089, 41.089, 41.089, 48.502, 48.502, 48.502, 56.313, 56.313],
        cash=947.38482 - 115.575 + 87.767955,
        exit_pnl=351.07182 - 460 - 115.575 + 87.767955,
        fees_paid=19.99468 + 1.15575 + 0.886545,
        fills_optimistic=ARITHMETIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[0, 0, 15.224, 27.062, 55.915, 55.915, 55.915, 63.328, 63.328, 71.139, 71.139, 71.139],
    ),
    # 3: 121 x .9801 - 110 = 8.5921; 5: 133.1 x .9801 - 115.575 = 14.87631; 11: 7.811. At the stop the cells cost
    # 100 + 110 + 121 + 115.575 = 446.575. Fees: 2.3115 + buys 1.10 + 1.21 + 2.10 + 1.00 + sells .99 x (1.21 + 1.331
    # + 1.10) + 3.54618.
    ("levels", "geometric", "base"): ByHand(
        fills=GEOMETRIC_FILLS,
        grid_profit=[
            *(0, 0, 8.5921, 8.5921, 23.46841, 23.46841, 23.46841, 23.46841, 23.46841, 23.46841, 31.27941, 31.27941),
        ],
        cash=1000 + 31.27941 + 351.07182 - 446.575,
        exit_pnl=351.07182 - 446.575,
        fees_paid=2.3115 + 5.41 + 3.60459 + 3.54618,
        fills_optimistic=GEOMETRIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[
            *(0, 0, 8.5921, 17.1842, 32.06051, 32.06051, 32.06051, 32.06051, 32.06051, 39.87151, 39.87151, 39.87151),
        ],
    ),
    ("intervals", "geometric", "base"): ByHand(
        fills=GEOMETRIC_FILLS,
        grid_profit=[
            *(0, 0, 8.5921, 8.5921, 23.46841, 23.46841, 23.46841, 23.46841, 23.46841, 23.46841, 31.27941, 31.27941),
        ],
        cash=935.77623 - 115.575 + 87.767955,
        exit_pnl=351.07182 - 446.575 - 115.575 + 87.767955,
        fees_paid=14.87227 + 1.15575 + 0.886545,
        fills_optimistic=GEOMETRIC_FILLS_OPTIMISTIC,
        grid_profit_optimistic=[
            *(0, 0, 8.5921, 17.1842, 32.06051, 32.06051, 32.06051, 32.06051, 32.06051, 39.87151, 39.87151, 39.87151),
        ],
    ),
}


@pytest.mark.parametrize("key", list(BY_HAND), ids=" ".join)
def test_five_levels_by_hand_in_every_convention(key: tuple[LevelConvention, Spacing, FeeCurrency]) -> None:
    found, by_hand = replayed(grid_of_five(*key), CANDLES), BY_HAND[key]
    assert found.fills.tolist() == by_hand.fills
    assert found.fills_optimistic.tolist() == by_hand.fills_optimistic
    same(found.grid_profit, by_hand.grid_profit)
    same(found.grid_profit_optimistic, by_hand.grid_profit_optimistic)
    same(found.cash[-1:], [by_hand.cash])
    same(found.exit_pnl[-1:], [by_hand.exit_pnl])
    same(found.fees_paid[-1:], [by_hand.fees_paid])
    same(found.liquidation_value[-1:], [by_hand.cash])


def same(found: Any, expected: Sequence[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


# What happens at the edges --------------------------------------------------------------------------------------------


def test_gap_through_the_stop_sells_at_the_open() -> None:
    ours = grid_of_five("levels", "arithmetic", "quote")
    found = replayed(ours, [(115, 115, 115, 115), (80, 95, 75, 92), (115, 140, 100, 130)])
    # The gap buys at 110 and 100 on its way: 2 x 117.8865 + 111.10 + 101; then 4 x 80 x .9751.
    same(found.exit_pnl, [0, 312.0320 - 447.8730, 312.0320 - 447.8730])
    same(found.cash, [764.2270, 864.1590, 864.1590])
    assert found.fills.tolist() == found.fills_optimistic.tolist() == [0, 3, 3]
    assert found.stopped == 1


def test_low_at_the_stop_exactly_reaches_it() -> None:
    ours = grid_of_five("levels", "arithmetic", "quote")
    assert replayed(ours, [(115, 115, 95, 95), (95, 95, 90.0, 95)]).stopped == 1
    assert replayed(ours, [(115, 115, 90.0, 115)]).stopped == 0
    assert replayed(ours, [(115, 115, np.nextafter(90.0, 91.0), 115)]).stopped == -1


def test_flat_bar_goes_down_first() -> None:
    # At 115 only 110 can buy, and 120 sells only what was bought before.
    found = replayed(grid_of_five("levels", "arithmetic", "quote"), [(115, 121, 109, 115)])
    assert found.fills.tolist() == [2]
    assert found.fills_optimistic.tolist() == [1]


def test_after_the_stop_everything_is_known_and_nothing_happens() -> None:
    ours = grid_of_five("levels", "arithmetic", "quote")
    found = replayed(ours, [(115, 115, 85, 88), MISSING, (115, 145, 95, 120)])
    for name in ("cash", "total_pnl", "liquidation_value", "liquidation_value_optimistic", "fees_paid", "exit_pnl"):
        values = getattr(found, name)
        assert not np.isnan(values).any()
        assert np.unique(values).size == 1
    assert not found.inventory.any()
    assert not found.waiting.any()
    assert not found.unrealised_pnl.any()


@pytest.mark.parametrize("p0", [95.0, 100.0, 104.0, 110.0, 133.0, 140.0, 150.0])
def test_flat_bar_at_the_activation_changes_nothing(p0: float) -> None:
    fees = Fees()
    levels = prices(100, 140, 4, "intervals", "arithmetic")
    ours = terms(levels, 1.0, p0, 1000.0, 90.0, fees)
    later: list[Candle] = [(p0, 141, 101, 120), (120, 125, 99, 110)]
    found, longer = replayed(ours, later), replayed(ours, [(p0, p0, p0, p0), *later])
    assert longer.fills[0] == 0
    assert longer.inventory[0] == np.count_nonzero(levels[:-1] >= p0)
    for name, values in columns(found):
        assert values.tobytes() == getattr(longer, name)[1:].tobytes(), name


def test_price_on_a_level_at_activation_holds_the_cell_above_and_waits_for_the_one_below() -> None:
    ours = terms(prices(100, 140, 4, "intervals", "arithmetic"), 1.0, 120.0, 1000.0, 90.0, Fees())
    assert ours.waiting == 2


def test_missing_bar_keeps_the_position_and_leaves_its_worth_unknown() -> None:
    ours = grid_of_five("levels", "arithmetic", "quote")
    found = replayed(ours, [(114, 114, 109, 111), MISSING, (111, 111, 111, 111)])
    for name in ("unrealised_pnl", "total_pnl", "liquidation_value", "liquidation_value_optimistic"):
        assert np.isnan(getattr(found, name)).tolist() == [False, True, False], name
    for name in ("inventory", "average_cost", "cash", "grid_profit", "fees_paid", "fills", "waiting"):
        values = getattr(found, name)
        assert values[0] == values[1] == values[2], name


def test_no_candles_give_no_rows() -> None:
    found = replayed(grid_of_five("levels", "arithmetic", "quote"), [])
    assert found.stopped == -1
    assert all(values.size == 0 for _, values in columns(found))


# The capital ----------------------------------------------------------------------------------------------------------


def test_capital_pays_for_every_cell_once() -> None:
    # 2 q x 115 x 1.005 x 1.02 + q x 101 + q x 111.10 = 447.873 q.
    levels = prices(100, 140, 5, "levels", "arithmetic")
    fees = Fees(maker=0.01, taker=0.02, slippage=0.005)
    assert quantity_per_cell(levels, 115.0, 4478.73, fees) == pytest.approx(10.0, abs=1e-12)
    # In base 2 q x .99 x 115 x 1.005 / .98 + 100 q + 110 q.
    fees = Fees(maker=0.01, taker=0.02, slippage=0.005, paid_in="base")
    assert quantity_per_cell(levels, 115.0, 1000.0, fees) == pytest.approx(
        1000 / (2 * 0.99 * 115.575 / 0.98 + 210), rel=1e-14
    )


def test_configured_grid_stands_on_ticks_and_buys_lots() -> None:
    grid = configured(lower=3070.04, upper=3185.03, levels=8)
    ours = terms_of(grid, 3120.0, MarketRules(price_tick=0.1, amount_lot=0.001, amount_min=0.001, cost_min=1.0))
    assert ours.prices[0] == 3070.0
    assert ours.prices[-1] == 3185.0
    assert ours.cells == 8
    # Four cells below 3,120 at 12,366.4 together, x 1.001, and four bought for 3,120 x 1.00025 x 1.001 each: 24,874.4.
    assert ours.held == 0.04
    assert terms_of(grid, 3120.0).held == pytest.approx(1000 / 24874.4, abs=1e-7)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (MarketRules(price_tick=50.0), "grid eth-v3: the levels"),
        (MarketRules(amount_lot=0.1), "grid eth-v3: a cell's share of the capital buys less"),
        (MarketRules(cost_min=500.0), "grid eth-v3: the cell at 3,070 buys for 1"),
    ],
)
def test_configured_grid_that_the_venue_would_not_take_is_refused(rules: MarketRules, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        terms_of(configured(), 3120.0, rules)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid_prices": np.array([100.0, 100.0])}, "do not ascend"),
        ({"grid_prices": np.array([100.0])}, "do not ascend"),
        ({"stop": 100.0}, "stop 100 is not below the lowest price 100"),
        ({"p0": NAN}, "price at activation nan"),
        ({"quantity": 0.0}, "quantity 0"),
    ],
)
def test_impossible_book_is_refused(change: dict[str, Any], words: str) -> None:
    possible = {"grid_prices": np.array([100.0, 110.0]), "quantity": 1.0, "p0": 105.0, "capital": 1000.0, "stop": 90.0}
    with pytest.raises(ValueError, match=words):
        terms(**(possible | change), fees=Fees())


# What must always hold ------------------------------------------------------------------------------------------------


def columns(found: Replay) -> list[tuple[str, np.ndarray]]:
    return [(name, values) for name, values in found._asdict().items() if name != "stopped"]


def slowly(case: Case, longer: bool) -> list[dict[str, float]]:
    cells = Cells(case.levels, case.quantity, case.p0, case.capital, case.stop, case.fees, longer)
    return [dataclasses.asdict(cells.live(candle)) for candle in case.candles]


@given(cases())
@settings(max_examples=150)
def test_replay_equals_cells_that_are_moved_one_by_one(case: Case) -> None:
    found = replayed(case.book, case.candles)
    own, longer = slowly(case, longer=False), slowly(case, longer=True)
    assert found.fills.tolist() == [row["fills"] for row in own]
    assert found.fills_optimistic.tolist() == [row["fills"] for row in longer]
    scale = 1e-9 * case.capital
    for name in (key for key in own[0] if key not in ("fills", "average_cost")):
        np.testing.assert_allclose(getattr(found, name), [row[name] for row in own], rtol=1e-9, atol=scale)
    np.testing.assert_allclose(found.average_cost, [row["average_cost"] for row in own], rtol=1e-9)
    for name in ("grid_profit", "liquidation_value"):
        optimistic = getattr(found, f"{name}_optimistic")
        np.testing.assert_allclose(optimistic, [row[name] for row in longer], rtol=1e-9, atol=scale)


@given(cases())
@settings(deadline=None)
def test_profit_is_what_the_liquidation_leaves_above_the_capital(case: Case) -> None:
    found = replayed(case.book, case.candles)
    left = found.liquidation_value - case.capital
    parts = found.grid_profit + found.exit_pnl + found.unrealised_pnl
    np.testing.assert_allclose(parts, left, rtol=0, atol=1e-9 * case.capital)
    np.testing.assert_allclose(found.total_pnl, left, rtol=0, atol=1e-9 * case.capital)
    alive = np.arange(len(case.candles)) < (found.stopped if found.stopped >= 0 else len(case.candles))
    closes = np.array([candle[3] for candle in case.candles])
    worth = found.cash + np.where(alive, found.inventory * closes * case.book.sold_for, 0.0)
    np.testing.assert_allclose(worth, found.liquidation_value, rtol=0, atol=1e-9 * case.capital)


@given(cases(), st.data())
@settings(deadline=None)
def test_row_does_not_know_what_comes_after_it(case: Case, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(case.candles)))
    whole, part = replayed(case.book, case.candles), replayed(case.book, case.candles[:first])
    for name, values in columns(part):
        assert values.tobytes() == getattr(whole, name)[:first].tobytes(), name
    assert part.stopped == (whole.stopped if whole.stopped < first else -1)


@given(cases(worst_fee=0.005))
@settings(deadline=None)
def test_cash_never_falls_below_zero_when_steps_earn_their_fees(case: Case) -> None:
    # 12 steps over 20 % are 1.5 % at least, and twice .5 % of fees cost less.
    found = replayed(case.book, case.candles)
    assert found.cash.min() >= -1e-9 * case.capital
    assert (np.diff(found.fills) >= 0).all()
    assert (np.diff(found.fees_paid) >= 0).all()


@given(cases())
@settings(deadline=None)
def test_both_paths_end_every_bar_within_one_cell_of_each_other(case: Case) -> None:
    found = replayed(case.book, case.candles)
    longer = [row["inventory"] for row in slowly(case, longer=True)]
    assert (np.abs(found.inventory - longer) <= case.book.held * (1 + 1e-9)).all()


# Real candles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paid_in", ["quote", "base"])
def test_replay_of_the_flash_crash_equals_cells_that_are_moved_one_by_one(
    shared_data: Path, paid_in: FeeCurrency
) -> None:
    candles = pl.read_parquet(shared_data / "candles" / "kucoin" / "ETH-USDT" / "15m.parquet").filter(
        pl.col("open_time").is_between(
            pl.datetime(2025, 10, 1, time_zone="UTC"), pl.datetime(2025, 10, 14, time_zone="UTC")
        )
    )
    bars = [tuple(row) for row in candles.select("open", "high", "low", "close").iter_rows()]
    levels = prices(3900, 4900, 60, "intervals", "geometric").tolist()
    case = Case(levels, bars[0][3], 10_000.0, 3700.0, Fees(paid_in=paid_in, slippage=0.0005), bars[1:])
    found = replayed(case.book, case.candles)
    for longer, suffix in ((False, ""), (True, "_optimistic")):
        rows = slowly(case, longer)
        assert getattr(found, f"fills{suffix}").tolist() == [row["fills"] for row in rows]
        for name in ("grid_profit", "liquidation_value"):
            same(getattr(found, f"{name}{suffix}"), [row[name] for row in rows])
    assert found.fills[-1] > 400
    # In the evening of 2025-10-10 the price fell from 4,100 to below 3,700 within the hour.
    stopped = candles["open_time"][found.stopped + 1]
    assert (stopped.month, stopped.day, stopped.hour) == (10, 10, 21)
    assert found.exit_pnl[-1] < -1000
