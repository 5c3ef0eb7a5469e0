"""The grids: their episodes, where the price stands in them, and when one might begin."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    probability,
    source_of_candles,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import ENTRY_ADVICE, POSITION_HEALTH, RISK_LEVEL, STOP_LOSS_RISK


class GridEpisode(dy.Schema):
    """A grid from one activation to the next, with the configuration it was first seen with."""

    grid_id = text("Grid.", key=True)
    activated_at = time("When it began to trade;", key=True)
    symbol = text("Market.")
    enabled = flag("Whether it traded when first seen.", nullable=False)
    lower = number("Lower bound, quote currency.", low=0.0, nullable=False)
    upper = number("Upper bound, quote currency.", low=0.0, nullable=False)
    levels = count("Number of levels, counted as level_convention says.", nullable=False)
    level_convention = text("intervals or levels.")
    spacing = text("arithmetic or geometric.")
    stop = number("Stop price, quote currency.", low=0.0, nullable=False)
    capital = number("Capital, quote currency.", low=0.0, nullable=False)
    fee_maker = number("Maker fee, fraction.", low=0.0, nullable=False)
    fee_taker = number("Taker fee, fraction.", low=0.0, nullable=False)
    fee_paid_in = text("quote or base.")
    slippage = number("What a market order loses against the price, fraction; null: it is modelled.", low=0.0)
    price_tick = number("Prices were multiples of it, quote currency; null: the venue asks nothing.", low=0.0)
    amount_lot = number("Amounts were multiples of it, base currency; null: likewise.", low=0.0)
    amount_min = number("Smallest order, base currency; null: likewise.", low=0.0)
    cost_min = number("Smallest order, quote currency; null: likewise.", low=0.0)
    first_seen = time("as_of of its first evaluation;")
    closed_at = time("When it ended;", nullable=True)
    closed_by = text("What ended it: reactivated, disabled, removed or stopped.", nullable=True)
    source = source_of_candles()


class GridRisk(dy.Schema):
    """Where the price stands in each grid, and how likely it is to leave."""

    grid_id = text("Grid.", key=True)
    activated_at = time("Episode;", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    symbol = text("Market.")
    price = number("Close at as_of, quote currency; null when the bar is MISSING.", low=0.0)
    change_24h = number("Change over 24 hours, percent.")
    volume_24h = number("Volume over 24 hours, base currency.", low=0.0)
    capital_utilisation = number(
        "Share of the capital that is inventory, at cost; above 1 where a grid has put its profit into it, too. If the "
        "grid does not run, as if it were filled.",
        low=0.0,
    )
    recommendations = dy.List(dy.String(), nullable=True, description="What to look at, in sentences.")
    position_health = one_of(POSITION_HEALTH, "Where the price is.", nullable=True)
    stop_loss_risk = one_of(STOP_LOSS_RISK, "How near the stop is.", nullable=True)
    risk_level = one_of(RISK_LEVEL, "The worst of position and stop.", nullable=True)
    distance_lower_percent = number("(price - lower) / price, percent; negative below the grid.")
    distance_upper_percent = number("(upper - price) / price, percent; negative above the grid.")
    distance_stop_percent = number("(price - stop) / price, percent; negative below the stop.")
    distance_lower_atr = number("(price - lower) in hourly ATRs.")
    distance_upper_atr = number("(upper - price) in hourly ATRs.")
    distance_stop_atr = number("(price - stop) in hourly ATRs.")
    p_break_low_6h = probability("Probability of two closes below the grid within 6 hours.")
    p_break_low_12h = probability("Probability of two closes below the grid within 12 hours.")
    p_break_low_24h = probability("Probability of two closes below the grid within 24 hours.")
    p_break_high_6h = probability("Probability of two closes above the grid within 6 hours.")
    p_break_high_12h = probability("Probability of two closes above the grid within 12 hours.")
    p_break_high_24h = probability("Probability of two closes above the grid within 24 hours.")
    p_stop_6h = probability("Probability of touching the stop within 6 hours.")
    p_stop_12h = probability("Probability of touching the stop within 12 hours.")
    p_stop_24h = probability("Probability of touching the stop within 24 hours.")
    inventory = number("Base currency held.", low=0.0)
    average_cost = number("Quote currency paid for a unit of it, fees included; null when nothing is held.", low=0.0)
    cash = number("Quote currency held, of the grid's capital and what it earned.")
    grid_profit = number("Realised profit of the sells of the grid's own orders, after fees, quote currency.")
    exit_pnl = number("Realised by selling everything at the stop, quote currency; 0 before.")
    unrealised_pnl = number("Value of the inventory after taker fee and slippage, less its cost, quote currency.")
    total_pnl = number("grid_profit + exit_pnl + unrealised_pnl = liquidation_value - capital, quote currency.")
    fees_paid = number("All fees since activation, quote currency; contained in the figures above.", low=0.0)
    liquidation_value = number("Cash and inventory, sold now with taker fee and slippage, quote currency.")
    capital_at_risk = number("What is lost from here to the stop, its fills on the way included, quote currency.")
    capital_at_risk_weighted = number("capital_at_risk times p_stop_24h, quote currency.")
    profit_giveback = number("What waiting for the operator's response may cost, quote currency.")
    profit_giveback_share = number("profit_giveback over grid_profit; null when nothing was earned yet.")
    required_cash = number("What the waiting buys need when they all fill, quote currency.", low=0.0)
    fills = count("Filled orders since activation, the purchase at activation not counted.")
    stopped_at = time("Closing time of the bar in which the stop sold everything;", nullable=True)
    grid_profit_optimistic = number("grid_profit if prices took the longer way within each bar.")
    liquidation_value_optimistic = number("liquidation_value if prices took the longer way within each bar.")
    fills_optimistic = count("fills if prices took the longer way within each bar.")
    source = one_of(("MODELLED", "ACCOUNT"), "Where positions come from.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    candle_source = source_of_candles()


class EntryAssessment(dy.Schema):
    """For grids that are not running: is this a moment to start? It lengthens a grid's life; not shown to earn more."""

    grid_id = text("Grid.", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    symbol = text("Market.")
    advice = one_of(ENTRY_ADVICE, "What to do.")
    reasons = dy.List(dy.String(), description="Why, in sentences.")
    price = number("Close at as_of, quote currency.", low=0.0)
    lower = number("Proposed lower bound, quote currency.", low=0.0)
    upper = number("Proposed upper bound, quote currency.", low=0.0)
    levels = count("Proposed number of intervals, geometric.")
    step_percent = number("Proposed step between neighbouring prices, percent.", low=0.0)
    p_leave_72h = number("p_low + p_high of the proposed bounds within 72 hours; may exceed 1.", low=0.0)
    p_break_low_24h = probability("Probability of two closes below the proposed grid within 24 hours.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


STAGES = (
    Stage("grid_episode", GridEpisode, group="grid"),
    Stage(
        "grid_risk",
        GridRisk,
        group="grid",
        after=("candles", "account_snapshot", "grid_bot", "regime_features"),
        # Of the verdict it reads nothing; its settings were always in the hash of the row, and stay there.
        settings=("regime", "grid", "risk"),
        # 4: prices in `recommendations` without exponents; no figure changed.
        # 5: the continuity correction of p_break_*.
        code_version="5",
        every_bar="grid",
    ),
    Stage(
        "entry_assessment",
        EntryAssessment,
        group="grid",
        after=("regime_verdict",),
        settings=("grid", "risk"),
        # 3: prices in `reasons` without exponents; no advice changed. 4: the gate, and p_break_low_24h.
        # 5: the continuity correction of its probabilities.
        code_version="5",
        every_bar="idle_grid",
    ),
)
