"""What the venues say: candles, what became of them, the account, and what a market asks of an order."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    source_of_candles,
    structs,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import BOT_STATES, CANDLE_STATUS, SIDES


class Candles(dy.Schema):
    """Closed 15-minute bars, one for every interval that was asked for, whether the venue had one or not."""

    symbol = text("Market, like ETH-USDT.", key=True)
    open_time = time("When the bar opened;", key=True)
    close_time = time("When it closed;")
    open = number("First price, quote currency; null when MISSING.", low=0.0)
    high = number("Highest price, quote currency; null when MISSING.", low=0.0)
    low = number("Lowest price, quote currency; null when MISSING.", low=0.0)
    close = number("Last price, quote currency; null when MISSING.", low=0.0)
    volume = number("Traded volume, base currency; null when MISSING.", low=0.0)
    status = one_of(
        CANDLE_STATUS,
        "TRADED: the venue sent it. NO_TRADE: the venue answered and had none, or one without volume at the close "
        "before. MISSING: not known.",
    )
    venue = text("Name of the venue in markets.yaml.")
    observed_at = time(
        "When the venue answered for this interval; null: it did not, or said only once that it has none. Live-only.",
        nullable=True,
    )
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()

    @dy.rule()
    def prices_when_known(cls) -> pl.Expr:
        prices = [pl.col(name).is_null() for name in ("open", "high", "low", "close", "volume")]
        return (
            pl.when(pl.col("status") == "MISSING").then(pl.all_horizontal(prices)).otherwise(~pl.any_horizontal(prices))
        )

    @dy.rule()
    def high_and_low_enclose(cls) -> pl.Expr:
        return (pl.col("low") <= pl.min_horizontal("open", "close")) & (
            pl.col("high") >= pl.max_horizontal("open", "close")
        )

    @dy.rule()
    def a_quarter_hour_long(cls) -> pl.Expr:
        return (pl.col("close_time") - pl.col("open_time") == pl.duration(minutes=15)) & (
            pl.col("open_time").dt.truncate("15m") == pl.col("open_time")
        )


class CandleRevision(dy.Schema):
    """Bars of the past whose candle changed: the venue revised it, or a hole was filled late.

    The candle holds the new values. What was computed from the old ones is computed again; then the row says so.
    """

    symbol = text("Market.", key=True)
    open_time = time("When the bar opened;", key=True)
    observed_at = time("When the venue sent the new values;", key=True)
    venue = text("Name of the venue in markets.yaml.")
    old_observed_at = time("When it had sent the old values; null: it had not, a hole was filled.", nullable=True)
    old_status = one_of(CANDLE_STATUS, "What the bar was; null: there was no row.", nullable=True)
    old_open = number("First price before, quote currency.", low=0.0)
    old_high = number("Highest price before, quote currency.", low=0.0)
    old_low = number("Lowest price before, quote currency.", low=0.0)
    old_close = number("Last price before, quote currency.", low=0.0)
    old_volume = number("Traded volume before, base currency.", low=0.0)
    new_status = one_of(CANDLE_STATUS, "What the bar is now.")
    new_open = number("First price now, quote currency.", low=0.0)
    new_high = number("Highest price now, quote currency.", low=0.0)
    new_low = number("Lowest price now, quote currency.", low=0.0)
    new_close = number("Last price now, quote currency.", low=0.0)
    new_volume = number("Traded volume now, base currency.", low=0.0)
    recomputed_at = time(
        "Wall clock when all that depends on the bar was computed again; null: not yet.", nullable=True
    )
    recomputed = dy.List(
        dy.String(), nullable=True, description="Tables in which all that depends on the bar is computed again."
    )
    source = source_of_candles()


class Quarantine(dy.Schema):
    """Rows that a venue sent and that cannot be true, kept with the reason; their intervals are MISSING candles."""

    symbol = text("Market.", key=True)
    open_time = time("Opening time as sent, cut to its quarter hour;", key=True)
    reason = text(
        "What is wrong with it; `unsure: ...`: it contradicts what is known, and may be true all the same.", key=True
    )
    payload = text("The row as sent, JSON.", key=True)
    venue = text("Name of the venue in markets.yaml.")
    observed_at = time("When it was sent first;")
    source = source_of_candles()


class CandleHole(dy.Schema):
    """Bars that a venue was asked for and has sent no row for that can be used: when they are asked for again.

    A hole goes when rows come, or when the venue said twice, some minutes apart, that between two rows there was none.
    """

    symbol = text("Market.", key=True)
    open_time = time("When the first bar of the hole opened;", key=True)
    until = time("When the last one closed;")
    venue = text("Name of the venue in markets.yaml.")
    asked = count("How many answers had no row.", nullable=False)
    first_asked_at = time("When the first of them came;")
    asked_at = time("When the last of them came;")
    due_at = time(
        "When it is asked for again; null: never, the venue showed that it keeps no older bars.", nullable=True
    )
    source = source_of_candles()


class AccountSnapshot(dy.Schema):
    """What the exchange says the account holds; empty without account keys."""

    venue = text("Name of the venue in markets.yaml.", key=True)
    as_of = time("The tick that asked;", key=True)
    observed_at = time("When the exchange answered;")
    fills_from = time("Fills were asked for from then on, until observed_at;")
    balances = structs(
        "Each asset that is held.", asset=text("Name."), free=number("Available."), used=number("In open orders.")
    )
    open_orders = structs(
        "Orders that wait, on the watched markets.",
        order_id=text("The exchange's number."),
        symbol=text("Market."),
        side=one_of(SIDES, "Side."),
        price=number("Limit, quote currency."),
        amount=number("Base currency."),
        filled=number("Base currency filled so far."),
        placed_at=time("When it was placed;", nullable=True),
    )
    fills = structs(
        "Fills since the last snapshot, on the watched markets, each once.",
        fill_id=text("The exchange's number."),
        order_id=text("The order's number.", nullable=True),
        symbol=text("Market."),
        at=time("When it traded;"),
        side=one_of(SIDES, "Side."),
        price=number("Quote currency."),
        amount=number("Base currency."),
        fee=number("In fee_currency."),
        fee_currency=text("Currency of the fee.", nullable=True),
        maker=flag("Whether it added liquidity."),
    )
    complete = flag("Whether all of it was answered.", nullable=False)
    detail = text("What was not answered, in one line.", nullable=True)
    quote_currency = text(
        "Of the running grids on the venue; null: there are none, or of several currencies.", nullable=True
    )
    required_reserve = number(
        "What the waiting buys of these grids need when they all fill, by the bar before, quote currency.", low=0.0
    )
    deployable_capital = number("What is free of the quote currency beyond that.", low=0.0)
    source = source_of_candles()


class GridBot(dy.Schema):
    """What an exchange tells of a spot grid that runs there, at every tick; empty without account keys.

    Every grid that a file names as its `source`, and all that run where the exchange lists them.
    """

    venue = text("Name of the venue in markets.yaml.", key=True)
    bot_id = text("Its number there.", key=True)
    as_of = time("The tick that asked;", key=True)
    observed_at = time("When the exchange answered;")
    symbol = text("Market.")
    state = one_of(BOT_STATES, "What it does.")
    lower = number("Lower bound, quote currency.", low=0.0, nullable=False)
    upper = number("Upper bound, quote currency.", low=0.0, nullable=False)
    levels = count("Its number of grids, as the exchange counts.", nullable=False)
    spacing = text("arithmetic or geometric; null: not told.", nullable=True)
    stop = number("Its stop price, quote currency; null: it has none below its bounds.", low=0.0)
    capital = number("What was put into it, quote currency.", low=0.0, nullable=False)
    created_at = time("When it was made;")
    grid_profit = number("As told, quote currency; the exchange's figure for display.")
    total_pnl = number("As told, quote currency; what the exchange calls its result.")
    inventory = number("Base currency held; null: not told.", low=0.0)
    cash = number("Quote currency held; null: not told.", low=0.0)
    fills = count("Orders filled; null: not told.")
    fresh_fills = structs(
        "Orders filled that no row before has; empty where the exchange tells of none.",
        fill_id=text("The exchange's number."),
        at=time("When it was filled;"),
        side=one_of(SIDES, "Side."),
        price=number("Quote currency."),
        amount=number("Base currency."),
        fee=number("In fee_currency."),
        fee_currency=text("Currency of the fee.", nullable=True),
    )
    fills_whole = flag("Whether none is missing among its fills until now.", nullable=False)
    ended_at = time("When it stopped;", nullable=True)
    ended_by = text("What ended it, in words.", nullable=True)
    source = source_of_candles()


class Tick(dy.Schema):
    """One row for every run of the pipeline at a tick, so that a missing one shows."""

    as_of = time("The tick;", key=True)
    started_at = time("Wall clock;")
    finished_at = time("Wall clock; null: it did not finish.", nullable=True)
    symbols_ok = dy.List(dy.String(), description="Markets whose newest bar is known.")
    symbols_failed = dy.List(dy.String(), description="Markets whose newest bar is not.")
    reason = text("What failed, in one line.", nullable=True)
    problems = dy.List(
        dy.Struct({"symbol": text("Market."), "reason": text("What its venue said.")}),
        nullable=True,
        description="What failed at which market, known when its candles were asked for. Live-only.",
    )


@dataclass(frozen=True)
class MarketRules:
    """What a venue asks of an order on one market. None: it asks nothing, or does not say.

    Attributes:
        price_tick: prices are multiples of it, quote currency.
        amount_lot: amounts are multiples of it, base currency.
        amount_min: smallest amount of an order, base currency.
        cost_min: smallest price times amount of an order, quote currency.
    """

    price_tick: float | None = None
    amount_lot: float | None = None
    amount_min: float | None = None
    cost_min: float | None = None


NO_RULES = MarketRules()
"""The rules of a venue that asks nothing."""


STAGES = (
    Stage(
        "candles",
        Candles,
        group="market",
        settings=("venue", "markets.candles.max_no_trade"),
        code_version="2",
        every_bar="market",
    ),
    Stage("candle_revision", CandleRevision, group="market"),
    Stage("quarantine", Quarantine, group="market"),
    Stage("candle_hole", CandleHole, group="market"),
    Stage("account_snapshot", AccountSnapshot, group="market"),
    Stage("grid_bot", GridBot, group="market"),
    Stage("tick", Tick, group="audit"),
)
