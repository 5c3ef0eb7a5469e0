"""Where the price stands in a grid at every bar, how likely it is to leave it, and what is at stake in money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from mm_dagster.arrays import Flags, Floats, Integers, log_ratio
from mm_dagster.bars import BAR, TIME, Span, bar_number, by_bar, iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import position, touch
from mm_dagster.grid.position import Position
from mm_dagster.tables import registry
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster.tables.words import POSITION_HEALTH, RISK_LEVEL, STOP_LOSS_RISK
from mm_dagster.text import price_text

HORIZONS = (6, 12, 24)
"""Hours ahead for which touch probabilities are kept."""

FEATURES = ("close", "change_24h", "volume_24h", "atr", "volatility_forecast")
"""Columns of `regime_features` that are read."""

_BELOW_GRID, _IN_GRID, _ABOVE_GRID = range(len(POSITION_HEALTH))
_SAFE, _NEAR, _CRITICAL, _BREACHED = range(len(STOP_LOSS_RISK))
_UNKNOWN = -1


def compute(
    grids: Sequence[GridConfig],
    features: pl.DataFrame,
    candles: pl.DataFrame,
    span: Span,
    risk: RiskConfig,
    rules: Mapping[str, MarketRules] | None = None,
    fills: Mapping[str, pl.DataFrame | str | None] | None = None,
    told: Mapping[str, pl.DataFrame] | None = None,
) -> pl.DataFrame:
    """Evaluates grids, enabled or not, at every bar of the span since their activation.

    Args:
        grids: the grids.
        features: rows of `regime_features`; other symbols and times are ignored.
        candles: rows of `candles` from the bar that closes at the earliest `first_as_of` on; other markets are
            ignored. Only what a running grid holds depends on them.
        span: its bars; those with `as_of` before `first_as_of` of a grid are left out.
        risk: what a weekend is, scales of the touch probability, limits of the stop-loss risk, what waiting means.
        rules: of the grids' markets, by grid: ticks, lots, smallest orders; of one that is not there, none.
        fills: of the grids' accounts, by grid, see `account.fills_of`; without them the position is modelled.
        told: rows of `grid_bot` of the grids that are a bot, by grid.

    Returns:
        Rows of `grid_risk` without stamps, one per grid and bar, in the order of the grids and by `as_of`. Where the
        features have no row, or no close, the row is there and what depends on it is null. So is what the grid holds
        where it cannot be modelled; the recommendations then say why.
    """
    grids = [grid for grid in grids if grid.first_as_of <= span.end]
    if not grids or not span.bars:
        return registry.empty("grid_risk").drop("config_hash", "code_version")
    asked = [Span(max(span.start, grid.first_as_of - BAR), span.end) for grid in grids]
    bars = [one.bars for one in asked]
    symbols = sorted({grid.symbol for grid in grids})
    lanes = [symbols.index(grid.symbol) for grid in grids]
    measured = by_bar(features, span, pl.DataFrame({"symbol": symbols}), *FEATURES)
    # All grids one below the other: there are many columns, and each costs a call.
    known = {
        name: np.concatenate([of_market[lane, -count:] for lane, count in zip(lanes, bars, strict=True)])
        for name, of_market in measured.items()
    }
    owner = np.repeat(np.arange(len(grids)), bars)
    lower, upper, stop = (
        np.array(bounds, dtype=np.float64)[owner]
        for bounds in zip(*((grid.lower, grid.upper, grid.stop) for grid in grids), strict=True)
    )
    price = np.where(known["close"] > 0, known["close"], np.nan)
    atr = np.where(known["atr"] > 0, known["atr"], np.nan)
    ahead = np.concatenate([bar_number(one.start) + 1 + np.arange(one.bars) for one in asked])

    columns: dict[str, Floats] = {
        "price": price,
        "change_24h": known["change_24h"],
        "volume_24h": known["volume_24h"],
    }
    for name, away in {"lower": price - lower, "upper": upper - price, "stop": price - stop}.items():
        columns[f"distance_{name}_percent"] = 100.0 * away / price
        columns[f"distance_{name}_atr"] = away / atr
    columns |= _probabilities(price, lower, upper, stop, known["volatility_forecast"], ahead, risk)

    ends = np.cumsum(bars)
    rows_of = [slice(end - count, end) for end, count in zip(ends.tolist(), bars, strict=True)]
    response_bars = -(-timedelta(minutes=risk.giveback.response_minutes) // BAR)
    response = touch.forecast(known["volatility_forecast"], ahead, response_bars, risk.vol.weekend)
    sigmas = [response[rows] for rows in rows_of]
    held = _positions(grids, candles, span.end, sigmas, risk, rules or {}, fills or {}, told or {})
    columns |= {name: np.full(owner.size, np.nan) for name in position.COLUMNS}
    for grid, rows, its in zip(grids, rows_of, held, strict=True):
        for name, values in its.numbers.items():
            columns[name][rows] = values
        if not grid.enabled:
            columns["capital_utilisation"][rows] = capital_utilisation(grid, price[rows])
    columns["capital_at_risk_weighted"] = columns["capital_at_risk"] * columns["p_stop_24h"]

    health, stop_risk, level = _judge(price, lower, upper, stop, columns["p_stop_24h"], risk)
    since = pl.DataFrame(
        [(its.began, its.stopped, its.remark and its.remark_from) for its in held],
        schema=dict.fromkeys(("began", "stopped", "remarked"), TIME),
        orient="row",
    )[owner].with_columns(pl.concat([one.open_times() + BAR for one in asked]).alias("as_of"))
    begun, over, remarked = (
        since.select((pl.col("began", "stopped", "remarked") <= pl.col("as_of")).fill_null(value=False)).to_numpy().T
    )
    none = [np.zeros(count, np.bool_) for count in bars]
    real = begun & np.concatenate([none[k] if (one := its.from_account) is None else one for k, its in enumerate(held)])
    # The stop of the model is not one of the account, which may hold on.
    over &= ~real
    said = {
        rows.start + place: text for rows, its in zip(rows_of, held, strict=True) for place, text in its.said.items()
    }
    frame = (
        pl.DataFrame(columns)
        .select(pl.all().fill_nan(None))
        .with_columns(
            since["as_of"],
            grid_id=pl.Series([grid.id for grid in grids]).gather(owner),
            activated_at=pl.Series([grid.activated_at for grid in grids], dtype=TIME).gather(owner),
            symbol=pl.Series([grid.symbol for grid in grids]).gather(owner),
            position_health=_named(health, POSITION_HEALTH),
            stop_loss_risk=_named(stop_risk, STOP_LOSS_RISK),
            risk_level=_named(level, RISK_LEVEL),
            stopped_at=since["stopped"].set(pl.Series(~over), None),
            source=pl.Series(["MODELLED", "ACCOUNT"]).gather(real.astype(np.int64)),
        )
    )
    recommendations = _recommendations(
        grids, held, owner, over, remarked, said, price, columns["p_stop_24h"], health, stop_risk
    )
    frame = frame.with_columns(recommendations=recommendations)
    return registry.conform(frame, "grid_risk").drop("config_hash", "code_version")


def _probabilities(
    price: Floats,
    lower: Floats,
    upper: Floats,
    stop: Floats,
    volatility: Floats,
    first: Integers,
    risk: RiskConfig,
) -> dict[str, Floats]:
    """How likely each bound and the stop are touched within each of HORIZONS, from the forecast of a weekday."""
    distances = {
        "break_low": log_ratio(price, lower),
        "break_high": log_ratio(upper, price),
        "stop": log_ratio(price, stop),
    }
    columns = {}
    for hours in HORIZONS:
        for event, distance in distances.items():
            scales, shift = (risk.touch.k_stop, 0.0) if event == "stop" else (risk.touch.k_break, risk.touch.continuity)
            columns[f"p_{event}_{hours}h"] = touch.probability_ahead(
                distance, volatility, first, hours, getattr(scales, f"h{hours}"), risk.vol.weekend, shift
            )
    return columns


def _recommendations(
    grids: Sequence[GridConfig],
    held: Sequence[Position],
    owner: Integers,
    over: Flags,
    remarked: Flags,
    remarks: Mapping[int, str],
    price: Floats,
    p_stop: Floats,
    health: Integers,
    stop_risk: Integers,
) -> pl.Series:
    """What is to be said at each bar: of its stop and its position, then of where the price stands.

    Args:
        grids: the grids.
        held: what each of them holds.
        owner: place of the grid of each bar, shape (n,).
        over: whether its stop was reached by then, shape (n,).
        remarked: whether its position has a remark by then, shape (n,).
        remarks: what else is to be said of its position, by place of the bar.
        price: shape (n,).
        p_stop: probability of the stop within 24 hours, shape (n,).
        health: place in `tables.POSITION_HEALTH`, shape (n,).
        stop_risk: place in `tables.STOP_LOSS_RISK`, shape (n,).
    """
    stops = [
        f"The stop was reached by {iso(its.stopped)}: the grid holds nothing any more." if its.stopped else ""
        for its in held
    ]
    sentences, counts = [], np.zeros(owner.size, np.int64)
    # Most bars need no word.
    to_say = over | remarked | (health != _IN_GRID) | (stop_risk != _SAFE)
    to_say[list(remarks)] = True
    for row in np.flatnonzero(to_say).tolist():
        grid = owner[row]
        said = [stops[grid]] if over[row] else []
        said += [held[grid].remark] if remarked[row] else []
        said += [remarks[row]] if row in remarks else []
        said += _recommend(grids[grid], float(price[row]), float(p_stop[row]), health[row], stop_risk[row])
        sentences += said
        counts[row] = len(said)
    return _lists(sentences, counts)


def _lists(texts: Sequence[str], counts: Integers) -> pl.Series:
    """The texts in lists, so many in each; made of Python's lists they would cost 10 times as much."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return pl.Series(pa.LargeListArray.from_arrays(offsets, pa.array(texts, pa.large_string())))


def _positions(
    grids: Sequence[GridConfig],
    candles: pl.DataFrame,
    end: datetime,
    sigmas: Sequence[Floats],
    risk: RiskConfig,
    rules: Mapping[str, MarketRules],
    fills: Mapping[str, pl.DataFrame | str | None],
    told: Mapping[str, pl.DataFrame],
) -> list[Position]:
    """What each grid holds at the newest bars, as many as there are sigmas of it."""
    starts = [grid.first_as_of - BAR for grid in grids if grid.enabled]
    lives = Span(min(starts, default=end), end)
    symbols = sorted({grid.symbol for grid in grids if grid.enabled})
    lanes = pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    prices = np.stack(list(by_bar(candles, lives, lanes, *position.PRICES, time="close_time").values()))
    held = []
    for grid, sigma in zip(grids, sigmas, strict=True):
        if grid.enabled:
            life = prices[:, symbols.index(grid.symbol), (grid.first_as_of - BAR - lives.start) // BAR :]
            of = (fills.get(grid.id), told.get(grid.id))
            held.append(position.compute(grid, life, sigma, risk, rules.get(grid.id, NO_RULES), *of))
        else:
            held.append(Position())
    return held


def capital_utilisation(grid: GridConfig, price: Floats) -> Floats:
    """Share of the capital that would be inventory if the grid stood filled at a price: 1 below it, 0 above it.

    Every cell between neighbouring prices holds the same base quantity; it is held, at the cost of its lower price,
    while the price is below its upper one.

    Args:
        grid: the grid.
        price: shape (n,), NaN where unknown.

    Returns:
        Shape (n,), NaN where the price is.
    """
    levels = grid.prices
    held_from_top = np.cumsum(levels[:-1][::-1])
    cost = np.concatenate([np.zeros(1), held_from_top])
    below = np.searchsorted(levels[1:], price, side="right")
    share = cost[levels.size - 1 - below] / cost[-1]
    return np.where(np.isnan(price), np.nan, share)


def _judge(
    price: Floats, lower: Floats, upper: Floats, stop: Floats, p_stop: Floats, risk: RiskConfig
) -> tuple[Integers, Integers, Integers]:
    """Position health, stop-loss risk and risk level as places in `tables`; `_UNKNOWN` where unknown."""
    health = np.select([np.isnan(price), price < lower, price > upper], [_UNKNOWN, _BELOW_GRID, _ABOVE_GRID], _IN_GRID)
    limits = risk.stop_loss
    stop_risk = np.select(
        [np.isnan(price), price <= stop, np.isnan(p_stop), p_stop >= limits.critical, p_stop >= limits.near],
        [_UNKNOWN, _BREACHED, _UNKNOWN, _CRITICAL, _NEAR],
        _SAFE,
    )
    # The levels follow the stop-loss risk one by one, but outside the grid nothing is LOW.
    level = np.where((stop_risk == _SAFE) & (health != _IN_GRID), RISK_LEVEL.index("MEDIUM"), stop_risk)
    return health, stop_risk, level


def _named(places: Integers, names: Sequence[str]) -> pl.Series:
    return pl.Series([*names, None], dtype=pl.String).gather(np.where(places == _UNKNOWN, len(names), places))


def _recommend(grid: GridConfig, price: float, p_stop: float, health: int, stop_risk: int) -> list[str]:
    """What is to be said of a bar whose price is outside the grid, near the stop, or not known."""
    if health == _UNKNOWN:
        return ["The newest candle is missing: where the price stands is not known."]
    sentences = []
    bounds = f"{price_text(grid.lower)} to {price_text(grid.upper)}"
    if stop_risk == _BREACHED:
        then = "sell what it holds" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price_text(price)} is at or below the stop {price_text(grid.stop)}: {then}.")
    elif health == _BELOW_GRID:
        then = "it only holds; decide before the stop" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price_text(price)} is below the grid {bounds}: {then}.")
    elif health == _ABOVE_GRID:
        then = "it is sold out; stop it or re-centre it" if grid.enabled else "do not start it as configured"
        sentences.append(f"The price {price_text(price)} is above the grid {bounds}: {then}.")
    if stop_risk in (_NEAR, _CRITICAL):
        sentences.append(
            f"The stop {price_text(grid.stop)} is touched within 24 h with {100 * p_stop:.0f} %: see the exit state."
        )
    if stop_risk == _UNKNOWN:
        sentences.append("The volatility is not known: no probability can be given.")
    return sentences
