"""The rows of `portfolio_risk` and `portfolio_contribution`: what all grids may lose together in one night.

A night is 24 hours from any bar on. Of each night of the past months (`paths.py`) every grid says what it would lose if
the markets did the same again (`loss.py`); losses of one night are added up, and the worst are looked at. So what falls
together is not assumed but taken from what fell together. Everything is a function of stored rows; sums are taken in
the order of grid_id, one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats
from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, bar_number, by_bar
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid.position import LATEST_START_BARS
from mm_dagster.grid.replay import terms_of
from mm_dagster.grid.slippage import WINDOW_BARS, Traded, traded
from mm_dagster.portfolio import allocation
from mm_dagster.portfolio.allocation import Weights, weights_of
from mm_dagster.portfolio.loss import Held, held, lost_at
from mm_dagster.portfolio.paths import Past, Starts, lacking, lead_bars, past, starts
from mm_dagster.portfolio.tail import NIGHT, RARE, Tail, added_up, means_of, tail, vars_of
from mm_dagster.tables import registry
from mm_dagster.tables.market import MarketRules
from mm_dagster.tables.words import DRAWDOWNS

PRICES = ("open", "high", "low", "close", "volume")
"""Columns of `candles` that are read."""
HELD = (
    "grid_id", "activated_at", "as_of", "symbol", "price", "inventory", "liquidation_value", "total_pnl",
    "capital_at_risk", "stopped_at", "source",
)  # fmt: skip
"""Columns of `grid_risk` that are read."""
SESSION = timedelta(hours=24)
"""Grids that were activated within it are new."""
_FIGURES = (
    "liquidation_value", "exposure", "total_pnl", "var_5_24h", "es_5_24h", "var_1_24h", "es_1_24h", "sum_of_var_5",
    "diversification", "counts_as", "all_stops", "p_any_break_24h", "p_half_break_24h", "expected_breaks_24h",
    "drawdown", "drawdown_share", "drawdown_level", "ruin", "highest_correlation", "most_correlated", "paths",
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A running grid of the portfolio, from its activation until it was closed.

    Attributes:
        grid: as it was first seen.
        rules: what its venue asked of an order then.
        closed_at: when it ended; None: it has not.
    """

    grid: GridConfig
    rules: MarketRules
    closed_at: datetime | None

    @property
    def key(self) -> tuple[str, datetime]:
        """What its rows are told apart by."""
        return self.grid.id, self.grid.activated_at

    def runs_at(self, as_of: datetime) -> bool:
        """Whether it has begun and is not closed."""
        return self.grid.first_as_of <= as_of and (self.closed_at is None or as_of < self.closed_at)


class Inputs(NamedTuple):
    """What is read for some moments; frames may hold more than is needed.

    Attributes:
        members: all that ran at some time in the window of one of the moments, in the order of grid_id.
        risk_rows: HELD of `grid_risk` of the span and, for the drawdown, of the window before it.
        candles: `candles` from `lead` before the span, and the first hour of each member.
        features: `volatility_forecast` of `regime_features` from `lead` before the span.
        equities: what the account says that it holds, by moment, quote currency; empty: no account is read.
    """

    members: Sequence[Member]
    risk_rows: pl.DataFrame
    candles: pl.DataFrame
    features: pl.DataFrame
    equities: Mapping[datetime, float]


def lead(settings: PortfolioConfig) -> int:
    """How many bars before a moment are looked at."""
    return max(lead_bars(settings.window_days), allocation.LEAD_BARS)


class Night(NamedTuple):
    """The nights that may follow one moment.

    Attributes:
        described: what is known of the portfolio without a price, and why nothing else is; see `portfolio_risk`.
        holding: the grids that hold something, or may, in the order of grid_id.
        rows: of `grid_risk`, one for each of them.
        places: the market of each of them.
        losses: what each of them loses on each path, shape (grids, k); None: it cannot be told.
        broken: whether it breaks, shape (grids, k).
        now: column of the newest bar.
    """

    described: dict[str, Any]
    holding: Sequence[Member]
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[int]
    losses: Floats | None
    broken: Flags
    now: int


def compute(
    quote: str, found: Inputs, moments: Sequence[datetime], settings: PortfolioConfig, risk: RiskConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The portfolio of one quote currency at some moments.

    Args:
        quote: the currency.
        found: what is stored.
        moments: `as_of` of bars, ascending, at least one.
        settings: window, equity, drawdown.
        risk: half spreads, and what a weekend is.

    Returns:
        Rows of `portfolio_risk`, one for each moment, and of `portfolio_contribution`, one for each moment and grid
        that holds something, both without stamps.
    """
    known = _past(found, moments, settings, risk)
    curves = _Curves(found, _span(moments, settings))
    rows, parts, seen = [], [], None
    for night in nights(quote, found, moments, settings, risk, known):
        row = night.described
        rows.append(row)
        if night.losses is None:
            continue
        fallen = curves.fallen(row["as_of"], settings.window_days)
        alone = vars_of(night.losses, NIGHT)
        total = added_up(night.losses)
        worst = tail(total, NIGHT)
        row |= _figures(night, total, worst, alone, settings, fallen)
        capital = [member.grid.capital for member in night.holding]
        weights, seen = weights_of(known, night.now, capital, night.places, seen)
        row["highest_correlation"], row["most_correlated"] = weights.highest, weights.between
        parts += _contributions(night, worst, alone, weights)
    return _frame(rows, "portfolio_risk"), _frame(parts, "portfolio_contribution")


def nights(
    quote: str,
    found: Inputs,
    moments: Sequence[datetime],
    settings: PortfolioConfig,
    risk: RiskConfig,
    known: Past | None = None,
) -> Iterator[Night]:
    """What each grid may lose within 24 hours of some moments, path by path; see `compute`."""
    known = known or _past(found, moments, settings, risk)
    market_of = _traded(found, moments, known.symbols)
    cells = _cells(found, risk)
    stored: dict[datetime, dict[tuple[str, datetime], dict[str, Any]]] = {}
    for row in found.risk_rows.filter(pl.col("as_of") >= moments[0]).iter_rows(named=True):
        stored.setdefault(row["as_of"], {})[row["grid_id"], row["activated_at"]] = row
    members = [(member, member.key) for member in found.members]
    for first in range(0, len(moments), AT_ONCE):
        told = []
        for moment in moments[first : first + AT_ONCE]:
            its = stored.get(moment, {})
            running = [(member, its.get(key)) for member, key in members if member.runs_at(moment)]
            holding = [(member, row) for member, row in running if not (row and row["stopped_at"] is not None)]
            grids = [member for member, _ in holding]
            begin = starts(known, bar_number(moment) - 1, settings.window_days)
            described = _described(quote, moment, grids, settings, found.equities.get(moment))
            described["reason"] = _unknown(holding, cells, known, begin, settings)
            rows = [row for _, row in holding if row]
            places = [known.symbols.index(member.grid.symbol) for member in grids]
            losses = None if described["reason"] else np.empty((len(grids), begin.place.size))
            broken = np.empty((len(grids) if losses is not None else 0, begin.place.size), np.bool_)
            told.append((Night(described, grids, rows, places, losses, broken, begin.now), begin))
        _lose(told, cells, known, market_of, moments[-1])
        yield from (night for night, _ in told)


AT_ONCE = DAY_BARS
"""So many moments are looked at together: a day of 500 grids is 140 MB."""


def _lose(
    told: Sequence[tuple[Night, Starts]],
    cells: Mapping[tuple[str, datetime], Held | str],
    known: Past,
    market_of: Sequence[Traded],
    last: datetime,
) -> None:
    """Fills the losses of some moments, grid by grid.

    Args:
        told: the moments.
        cells: of each grid.
        known: the past of all markets.
        market_of: how each market trades, up to the last moment.
        last: that moment.
    """
    where: dict[tuple[str, datetime], list[tuple[Night, int, Starts]]] = {}
    for night, begin in told:
        if night.losses is not None:
            for lane, member in enumerate(night.holding):
                where.setdefault(member.key, []).append((night, lane, begin))
    for key, at in where.items():
        grid, place = cells[key], at[0][0].places[at[0][1]]
        assert isinstance(grid, Held)
        bars = np.array([(night.described["as_of"] - last) // BAR - 1 for night, _, _ in at])
        prices, inventories = (
            np.array([night.rows[lane][name] for night, lane, _ in at], dtype=np.float64)
            for name in ("price", "inventory")
        )
        market = market_of[place]
        stood = grid.standing_at(prices, inventories, market.sigma[bars], market.volume[bars])
        found = lost_at(grid, stood, known, place, [begin for _, _, begin in at])
        for (night, lane, _), losses, broken in zip(at, found.loss, found.broken, strict=True):
            assert night.losses is not None
            night.losses[lane], night.broken[lane] = losses, broken


def _span(moments: Sequence[datetime], settings: PortfolioConfig) -> Span:
    return Span(moments[0] - BAR, moments[-1]).back(lead(settings))


def _symbols(found: Inputs) -> tuple[str, ...]:
    return tuple(sorted({member.grid.symbol for member in found.members}))


def _past(found: Inputs, moments: Sequence[datetime], settings: PortfolioConfig, risk: RiskConfig) -> Past:
    """What the markets of all members did in the window of the moments."""
    span, symbols = _span(moments, settings), _symbols(found)
    lanes = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    prices = by_bar(found.candles, span, lanes, *PRICES[:4], time="close_time")
    forecast = by_bar(found.features, span, lanes, "volatility_forecast")["volatility_forecast"]
    return past(symbols, span, np.stack([prices[name] for name in PRICES[:4]]), forecast, risk.vol.weekend)


def _traded(found: Inputs, moments: Sequence[datetime], symbols: Sequence[str]) -> list[Traded]:
    """How each market trades by the minute, at the bars from the first moment to the last."""
    span = Span(moments[0] - BAR, moments[-1]).back(WINDOW_BARS)
    lanes = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    known = by_bar(found.candles, span, lanes, "close", "volume", time="close_time")
    return [traded(close, volume) for close, volume in zip(known["close"], known["volume"], strict=True)]


def _frame(rows: Sequence[Mapping[str, Any]], table: str) -> pl.DataFrame:
    types = registry.dtypes(table)
    frame = pl.DataFrame(rows, schema={name: types[name] for name in types}, orient="row")
    return frame.drop("config_hash", "code_version").with_columns(pl.col(pl.Float64).fill_nan(None))


def _described(
    quote: str, moment: datetime, holding: Sequence[Member], settings: PortfolioConfig, live_equity: float | None
) -> dict[str, Any]:
    """What is known of a portfolio without a price."""
    fresh = [member for member in holding if moment - member.grid.activated_at < SESSION]
    return {
        "quote": quote,
        "as_of": moment,
        "grids": len(holding),
        "markets": len({member.grid.symbol for member in holding}),
        "capital": sum(member.grid.capital for member in holding),
        "session_capital": sum(member.grid.capital for member in fresh),
        "equity": settings.equity,
        "live_equity": live_equity if settings.equity is None else None,
        **dict.fromkeys(_FIGURES),
    }


def _cells(found: Inputs, risk: RiskConfig) -> dict[tuple[str, datetime], Held | str]:
    """The cells of each member, or why they are not known."""
    cells: dict[tuple[str, datetime], Held | str] = {}
    begun = pl.DataFrame(
        [
            (place, member.grid.symbol, member.grid.first_as_of + bars * BAR)
            for place, member in enumerate(found.members)
            for bars in range(LATEST_START_BARS + 1)
        ],
        schema={"member": pl.Int64, "symbol": pl.String, "close_time": TIME},
        orient="row",
    )
    prices = begun.join(found.candles, on=["symbol", "close_time"]).drop_nulls("close").sort("member", "close_time")
    first = dict(prices.unique("member", keep="first", maintain_order=True).select("member", "close").iter_rows())
    for place, member in enumerate(found.members):
        grid = member.grid
        if place not in first:
            cells[member.key] = f"{grid.id}: no candle is known at its activation"
            continue
        try:
            terms = terms_of(grid, first[place], member.rules, risk.half_spread(grid.symbol))
        except ValueError as error:
            cells[member.key] = str(error)
            continue
        cells[member.key] = held(terms, is_modelled=grid.fees.slippage is None)
    return cells


def _unknown(
    holding: Sequence[tuple[Member, Mapping[str, Any] | None]],
    cells: Mapping[tuple[str, datetime], Held | str],
    known: Past,
    begin: Starts,
    settings: PortfolioConfig,
) -> str | None:
    """Why nothing can be said of all grids together; None: it can. A loss is never made smaller by leaving one out."""
    if not holding:
        return "No grid holds anything: there is nothing to lose."
    said = []
    for member, row in holding:
        its_cells = cells[member.key]
        if row is None:
            said.append(f"{member.grid.id}: its risk is not computed")
        elif row["price"] is None:
            said.append(f"{member.grid.symbol}: its newest bar is missing")
        elif isinstance(its_cells, str):
            said.append(its_cells)
        elif row["inventory"] is None or row["liquidation_value"] is None:
            said.append(f"{member.grid.id}: what it holds is not known")
    names = {member.grid.symbol for member, _ in holding}
    absent = lacking(known, begin, settings.window_days)
    said += [
        f"{symbol}: its last {settings.window_days} days are not known without a hole of a day"
        for symbol, lacks in zip(known.symbols, absent.tolist(), strict=True)
        if lacks and symbol in names and not any(one.startswith(f"{symbol}:") for one in said)
    ]
    return f"{'; '.join(dict.fromkeys(said))}." if said else None


def _figures(
    of: Night, total: Floats, night: Tail, alone: Sequence[float], settings: PortfolioConfig, fallen: float
) -> dict[str, Any]:
    """The figures of one moment; see the columns of `portfolio_risk`.

    Args:
        of: the nights that may follow it.
        total: what all grids lose together, by path.
        night: the worst of it.
        alone: what each grid loses alone in one night of 20.
        settings: equity and drawdown.
        fallen: the drawdown.
    """
    described, rows = of.described, of.rows
    rare = tail(total, RARE)
    together = sum(alone)
    # A portfolio that gains even in its bad night has no meaningful share of what its grids risk one by one.
    diversification = night.var / together if night.var > 0 and together > 0 else None
    breaks = of.broken.sum(axis=0)
    equity = described["equity"] or described["live_equity"]
    share = fallen / equity if equity else None
    steps = settings.drawdown.mild, settings.drawdown.moderate, settings.drawdown.severe
    values = {name: sum(row[name] for row in rows) for name in ("liquidation_value", "total_pnl")}
    at_risk = [row["capital_at_risk"] for row in rows]
    return {
        **values,
        "exposure": sum(row["inventory"] * row["price"] for row in rows),
        "var_5_24h": night.var,
        "es_5_24h": night.es,
        "var_1_24h": rare.var,
        "es_1_24h": rare.es,
        "sum_of_var_5": together,
        "diversification": diversification,
        "counts_as": None if diversification is None else 1.0 / (diversification * diversification),
        "all_stops": None if None in at_risk else sum(at_risk),
        "p_any_break_24h": float(np.count_nonzero(breaks)) / breaks.size,
        "p_half_break_24h": float(np.count_nonzero(2 * breaks >= len(of.holding))) / breaks.size,
        "expected_breaks_24h": float(breaks.sum()) / breaks.size,
        "drawdown": fallen,
        "drawdown_share": share,
        "drawdown_level": None if share is None else DRAWDOWNS[sum(share >= step for step in steps)],
        "ruin": None
        if not equity
        else float(np.count_nonzero(fallen + total > settings.drawdown.severe * equity)) / total.size,
        "paths": total.size,
    }


def _contributions(of: Night, night: Tail, alone: Sequence[float], weights: Weights) -> list[dict[str, Any]]:
    """What each grid has of the bad night; see `_figures`."""
    row, losses, broken = of.described, of.losses, of.broken
    assert losses is not None
    # Of all grids but one: as `added_up` would, one after another.
    without = np.zeros(losses.shape)
    for place, of_grid in enumerate(losses):
        without[:place] += of_grid
        without[place + 1 :] += of_grid
    left = means_of(without, NIGHT)
    return [
        {
            "quote": row["quote"],
            "as_of": row["as_of"],
            "grid_id": member.grid.id,
            "activated_at": member.grid.activated_at,
            "symbol": member.grid.symbol,
            "capital": member.grid.capital,
            "es_5_contribution": (mine := float(np.add.reduce(losses[place][night.worst])) / night.worst.size),
            "es_5_share": mine / night.es if night.es > 0 else None,
            "stopping_takes_off": night.es - left[place],
            "var_5_alone": alone[place],
            "p_break_24h": float(np.count_nonzero(broken[place])) / broken.shape[1],
            "weight": weights.now[place],
            "weight_equal_risk": weights.equal_risk[place],
            "weight_minimum_variance": weights.minimum_variance[place],
        }
        for place, member in enumerate(of.holding)
    ]


class _Curves:
    """The profit of all grids over the window, ended ones included, and how far it is below its best."""

    def __init__(self, found: Inputs, span: Span) -> None:
        """
        Args:
            found: what is stored.
            span: from the window before the first moment to the last moment.
        """
        self._members = found.members
        self._span = span
        lanes = pl.DataFrame(
            [member.key for member in found.members],
            schema={"grid_id": pl.String, "activated_at": found.risk_rows.schema["activated_at"]},
            orient="row",
        )
        self._profit = by_bar(found.risk_rows, span, lanes, "total_pnl")["total_pnl"]
        column = np.arange(span.bars)
        for place, member in enumerate(found.members):
            profit = self._profit[place]
            if member.closed_at is not None:
                profit[(span.open_times() + BAR >= member.closed_at).to_numpy()] = np.nan
            last = np.maximum.accumulate(np.where(np.isnan(profit), -1, column))
            # Before its first row a grid has neither won nor lost; after its last one it stays with what it had.
            self._profit[place] = np.where(last >= 0, profit[last], 0.0)
        self._sums: dict[tuple[bool, ...], Floats] = {}

    def fallen(self, moment: datetime, days: int) -> float:
        """How far the profit at a moment is below the best of so many days before it, quote currency."""
        now = (moment - self._span.start) // BAR
        begun = moment - days * DAY_BARS * BAR
        # What ended before the window is the same throughout, and would only round.
        counts = tuple(member.closed_at is None or member.closed_at > begun for member in self._members)
        if counts not in self._sums:
            self._sums = {counts: added_up(self._profit[list(counts)])}
        sums = self._sums[counts][now - days * DAY_BARS : now]
        return float(sums.max() - sums[-1])
