"""What a running grid holds at every bar, what that is worth and what is at stake: from its account, or modelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import BAR, HOUR_BARS, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import Giveback, RiskConfig
from mm_dagster.grid import account, at_risk, bot
from mm_dagster.grid.replay import GridTerms, Replay, replay, terms_of
from mm_dagster.grid.slippage import Traded, lost, taken_off, traded
from mm_dagster.tables.market import MarketRules

LATEST_START_BARS = HOUR_BARS
"""So many bars after the activation a close must be known: what was bought at which price is a guess after that."""

PRICES = ("open", "high", "low", "close", "volume")
"""Columns of `candles` that a replay reads, in this order."""
_VALUED = ("unrealised_pnl", "total_pnl", "liquidation_value")
"""Columns in which what is held is valued as sold."""
_OPTIMISTIC = ("grid_profit_optimistic", "liquidation_value_optimistic", "fills_optimistic")
_AT_RISK = ("capital_at_risk", "profit_giveback", "profit_giveback_share", "required_cash")
COLUMNS = (*account.COLUMNS, *_OPTIMISTIC, *_AT_RISK)
"""Columns of `grid_risk` that are filled from here, `stopped_at` and `source` apart."""
PRIVATE = (
    *account.COLUMNS, "capital_at_risk", "capital_at_risk_weighted", "profit_giveback", "profit_giveback_share"
)  # fmt: skip
"""Columns of `grid_risk` that tell what an account holds, where the position comes from one."""


@dataclass(frozen=True)
class Position:
    """What a grid holds at the bars that are asked for.

    Attributes:
        numbers: those of COLUMNS that are known, each as long as what is asked for; NaN where they are not.
        began: `as_of` of the bar at which the position began; None: it never did.
        stopped: `as_of` of the bar in which the stop was reached; None: it was not.
        from_account: at which of the bars the position is that of the account or the bot; None: at none, modelled.
        remark: why the position or the account is not known, where a person can do something about it.
        remark_from: `as_of` from which that can be said.
        said: what else is to be said at single bars, by place among those that are asked for.
    """

    numbers: Mapping[str, Floats] = field(default_factory=dict)
    began: datetime | None = None
    stopped: datetime | None = None
    from_account: Flags | None = None
    remark: str | None = None
    remark_from: datetime | None = None
    said: Mapping[int, str] = field(default_factory=dict)


def compute(
    grid: GridConfig,
    prices: Floats,
    sigma: Floats,
    risk: RiskConfig,
    rules: MarketRules,
    fills: pl.DataFrame | str | None = None,
    told: pl.DataFrame | None = None,
) -> Position:
    """The position of a running grid at its newest bars, replayed from its activation, or as its account or bot has it.

    The grid starts at the close of its first evaluation. Where that bar is MISSING it starts at the first known close,
    and where none is known within the first hour, nothing of the position is. With an account the position is that of
    its fills, with a bot what its exchange tells that it holds; what still waits to be bought is as modelled.

    Args:
        grid: the grid; a disabled one holds nothing that is known.
        prices: PRICES of every bar from the one that closes at `grid.first_as_of` on, shape (5, bars), quote currency,
            the volume in base currency, NaN where MISSING.
        sigma: forecast standard deviation of one hourly log return while the operator has not acted, NaN where
            unknown, at the newest bars, which are those that are asked for.
        risk: how long the operator takes, how far the price may fall meanwhile, and the half spread of the market.
        rules: of the grid's market.
        fills: of its account, see `account.fills_of`.
        told: rows of `grid_bot` of the bot that it is; None: it is none.
    """
    if not grid.enabled or not sigma.size:
        return Position()
    known = np.flatnonzero(~np.isnan(prices[3, : LATEST_START_BARS + 1]))
    if not known.size:
        # No row may tell what was found out after it.
        found_out = grid.first_as_of + (LATEST_START_BARS + 1) * BAR
        reason = "The position is not modelled: no candle is known at its activation; check activated_at."
        return Position(remark=reason, remark_from=found_out)
    first = int(known[0])
    began = grid.first_as_of + first * BAR
    try:
        book = terms_of(grid, float(prices[3, first]), rules, risk.half_spread(grid.symbol))
    except ValueError as error:
        return Position(remark=f"The position is not modelled: {error}.", remark_from=began)
    opens, highs, lows, closes, volumes = prices[:, first:].copy()
    # Flat where it began: what the bar did before does not concern the grid.
    opens[0] = highs[0] = lows[0] = closes[0]
    lived = replay(book, opens, highs, lows, closes)
    stopped = began + lived.stopped * BAR if lived.stopped >= 0 else None
    market = None
    if grid.fees.slippage is None:
        market = traded(closes, volumes)
        lived = taken_off(book, lived, opens, closes, market)
        market = market.tail(sigma.size)
    lived, closes = lived.tail(sigma.size), closes[-sigma.size :]
    columns = _modelled(grid, lived)
    remark = fills if isinstance(fills, str) else None
    seen, said = np.zeros(closes.size, np.bool_), dict[int, str]()
    last = grid.first_as_of + (prices.shape[1] - 1) * BAR
    times = Span(last - closes.size * BAR, last).open_times() + BAR
    real: dict[str, Floats] = {}
    if told is not None:
        remark = None
        of_bot = bot.positions(grid, told, closes, times, book.sold_for)
        real, seen = dict(of_bot.numbers), of_bot.known
        said = dict.fromkeys(np.flatnonzero(of_bot.silent).tolist(), bot.SILENT)
        for place in np.flatnonzero(seen).tolist():
            sentence = bot.difference(grid, float(real["inventory"][place]), float(lived.inventory[place]))
            said |= {place: sentence} if sentence else {}
    elif isinstance(fills, pl.DataFrame):
        try:
            found = account.positions(grid, fills, closes, times, book.sold_for)
        except ValueError as error:
            remark = str(error)
        else:
            real, seen = {name: found[name].to_numpy() for name in account.COLUMNS}, np.ones(closes.size, np.bool_)
    if real:
        if market is not None:
            held = real["inventory"]
            dearer = np.where(held > 0, lost(book, held * closes, market), 0.0)
            real |= {name: real[name] - dearer for name in _VALUED}
        columns |= {name: np.where(seen, real[name], columns[name]) for name in account.COLUMNS}
        lived = lived._replace(inventory=columns["inventory"], grid_profit=columns["grid_profit"])
    columns |= _at_risk(book, lived, closes, sigma[-closes.size :], risk.giveback, market)
    before = sigma.size - closes.size
    unknown = np.full(before, np.nan)
    return Position(
        numbers={name: np.concatenate([unknown, values]) for name, values in columns.items()},
        began=began,
        stopped=stopped,
        from_account=np.concatenate([np.zeros(before, np.bool_), seen]),
        remark=None if remark is None else f"The account is not used: {remark}.",
        remark_from=grid.first_as_of,
        said={before + place: sentence for place, sentence in said.items()},
    )


def _modelled(grid: GridConfig, lived: Replay) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        name: getattr(lived, name) for name in (*account.COLUMNS, *_OPTIMISTIC) if name != "capital_utilisation"
    }
    invested = grid.capital + lived.grid_profit + lived.exit_pnl - lived.cash
    # Nothing invested is 0, whatever the sums rounded.
    columns["capital_utilisation"] = np.maximum(0.0, invested) / grid.capital
    return columns


def _at_risk(
    book: GridTerms, lived: Replay, closes: Floats, sigma: Floats, waiting: Giveback, market: Traded | None
) -> dict[str, np.ndarray]:
    hours = waiting.response_minutes / 60.0
    giveback = at_risk.profit_giveback(book, lived, closes, sigma, hours, waiting.sigmas, market)
    return {
        "capital_at_risk": at_risk.capital_at_risk(book, lived, closes, market),
        "profit_giveback": giveback,
        "profit_giveback_share": at_risk.share_of_profit(giveback, lived.grid_profit),
        "required_cash": at_risk.required_cash(book, lived),
    }
