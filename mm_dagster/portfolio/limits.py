"""The rows of `limit_state`: each limit of portfolio.yaml beside its value, and whether and since when it is breached.

A limit is breached when its value is above it, and until the value is 10 % below it, so that one that stands at its
limit is not said again and again. Only the last 7 days are looked at for that: what is stored before changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import BAR, DAY_BARS, TIME, WEEK_BARS, Span, by_bar
from mm_dagster.config.portfolio import OVER, PortfolioConfig
from mm_dagster.tables import registry

LEAD_BARS = WEEK_BARS
"""How many bars of the portfolio before the first evaluation are looked at."""
COUNTING_BARS = DAY_BARS
"""Fills are counted over so many bars, which are looked at before that."""
LEAST_FILLS = 20
"""Of fewer fills the share of the fees says nothing."""
ALL = "all"
"""The subject of what is about all grids."""
OF_EQUITY = (
    "portfolio", "pair", "position", "session", "es_5_24h", "drawdown_mild", "drawdown_moderate", "drawdown_severe",
)  # fmt: skip
"""The limits that are shares of the equity."""
RISK = ("capital", "session_capital", "equity", "live_equity", "es_5_24h", "drawdown_share", "highest_correlation")
"""Columns of `portfolio_risk` that are read."""
FILLED = ("fills", "fees_paid", "grid_profit", "inventory", "average_cost")
"""Columns of `grid_risk` that are read."""


class Standing(NamedTuple):
    """One limit of one subject, bar by bar, shape (n,) each.

    Attributes:
        limit: which.
        subject: ALL, a market or a grid.
        value: NaN where it is not known.
        there: whether there is such a subject.
    """

    limit: str
    subject: str
    value: Floats
    there: Flags


def thresholds(settings: PortfolioConfig) -> dict[str, float | None]:
    """Each limit's; None: it is not watched."""
    limits = settings.limits.model_dump(exclude={"min_step_apart"})
    return {**limits, **{f"drawdown_{name}": share for name, share in settings.drawdown.model_dump().items()}}


def compute(
    quote: str,
    risk_rows: pl.DataFrame,
    contributions: pl.DataFrame,
    grid_rows: pl.DataFrame,
    makers: Mapping[str, float],
    span: Span,
    settings: PortfolioConfig,
) -> pl.DataFrame:
    """The limits of one quote currency at the bars of a span that `portfolio_risk` has a row of.

    Args:
        quote: the currency.
        risk_rows: rows of `portfolio_risk` from LEAD_BARS before the span on; all frames may hold more.
        contributions: rows of `portfolio_contribution`, likewise.
        grid_rows: rows of `grid_risk` of its grids, from COUNTING_BARS before that on.
        makers: the maker fee of each grid, fraction; of one that is not there no share of fees is known.
        span: the bars.
        settings: limits and drawdowns.

    Returns:
        Rows of `limit_state` without stamps, by bar, limit and subject.
    """
    wide = span.back(LEAD_BARS)
    mine = risk_rows.filter(pl.col("quote") == quote)
    lane = pl.DataFrame({"quote": [quote]})
    told = by_bar(mine.with_columns(there=pl.lit(1.0)), wide, lane, *RISK, "there")
    known = {name: values[0] for name, values in told.items()}
    exists = known.pop("there") == 1.0
    equity = np.where(np.isnan(known["equity"]), known["live_equity"], known["equity"])
    limits = thresholds(settings)
    asked = wide.bars - span.bars
    times = wide.open_times() + BAR
    of_quote = contributions.filter(pl.col("quote") == quote)
    told_of: list[Standing] = [
        *_of_all(known, equity, exists, settings),
        *_of_capital(of_quote, equity, wide),
        *_of_fills(of_quote, grid_rows, makers, wide),
    ]
    numbers: dict[str, list[Any]] = {name: [] for name in ("place", "since", "value", "threshold", "breached")}
    counts = []
    for one in told_of:
        limit = limits[one.limit]
        is_breached, begun = breaches(one.value, limit)
        places = asked + np.flatnonzero(one.there[asked:] & exists[asked:])
        counts.append(places.size)
        numbers["place"].append(places)
        numbers["value"].append(one.value[places])
        numbers["threshold"].append(np.full(places.size, np.nan if limit is None else limit))
        numbers["breached"].append(is_breached[places])
        numbers["since"].append(np.where(is_breached[places] == 1, begun[places], -1))
    if not sum(counts):
        return registry.empty("limit_state").drop("config_hash", "code_version")
    found = {name: np.concatenate(parts) for name, parts in numbers.items()}
    whose = np.repeat(np.arange(len(told_of)), counts)
    # All limits one below the other: there are many, and each frame costs a call.
    frame = pl.DataFrame(
        {
            "as_of": times.gather(found["place"]),
            "limit": pl.Series([one.limit for one in told_of]).gather(whose),
            "subject": pl.Series([one.subject for one in told_of]).gather(whose),
            "value": found["value"],
            "threshold": found["threshold"],
            "room": found["threshold"] - found["value"],
            "breached": pl.Series([False, True, None]).gather(np.where(found["breached"] < 0, 2, found["breached"])),
            "since": pl.concat([times.cast(TIME), pl.Series([None], dtype=TIME)]).gather(
                np.where(found["since"] < 0, times.len(), found["since"])
            ),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None), quote=pl.lit(quote))
    rows = registry.conform(frame, "limit_state").drop("config_hash", "code_version")
    return rows.sort("as_of", "limit", "subject")


def breaches(value: Floats, limit: float | None) -> tuple[Integers, Integers]:
    """Whether a limit is breached at each bar, and at which bar that began.

    Args:
        value: shape (n,), NaN where it is not known.
        limit: the threshold; None: it is not watched.

    Returns:
        1, 0, or -1 where it is not known, shape (n,); and the first bar above the limit since the last one that was
        well below it, LEAD_BARS ago at most, shape (n,), where it is breached.
    """
    column = np.arange(value.size)
    if limit is None:
        return np.full(value.size, -1, np.int64), column
    above, below = value > limit, value < OVER * limit
    last_above = np.maximum.accumulate(np.where(above, column, -1))
    last_below = np.maximum.accumulate(np.where(below, column, -1))
    reach = column - LEAD_BARS
    is_breached = (last_above > last_below) & (last_above >= np.maximum(reach, 0))
    ups = np.flatnonzero(above)
    first = np.searchsorted(ups, np.maximum(last_below + 1, reach))
    begun = ups[np.minimum(first, max(0, ups.size - 1))] if ups.size else column
    return np.where(np.isnan(value), -1, is_breached.astype(np.int64)), np.where(is_breached, begun, column)


def _of_all(
    known: Mapping[str, Floats], equity: Floats, exists: Flags, settings: PortfolioConfig
) -> Iterator[Standing]:
    """What is about all grids together."""
    yield Standing("portfolio", ALL, known["capital"] / equity, exists)
    yield Standing("session", ALL, known["session_capital"] / equity, exists)
    yield Standing("es_5_24h", ALL, known["es_5_24h"] / equity, exists)
    yield Standing("correlation", ALL, known["highest_correlation"], exists)
    for name in settings.drawdown.model_dump():
        yield Standing(f"drawdown_{name}", ALL, known["drawdown_share"], exists)


def _of_capital(contributions: pl.DataFrame, equity: Floats, wide: Span) -> Iterator[Standing]:
    """The capital of each grid, and of each market."""
    for limit, subject in (("position", "grid_id"), ("pair", "symbol")):
        capital = contributions.group_by("as_of", subject).agg(pl.col("capital").sum())
        lanes = capital.select(subject).unique().sort(subject)
        for name, values in zip(lanes[subject], by_bar(capital, wide, lanes, "capital")["capital"], strict=True):
            yield Standing(limit, name, values / equity, ~np.isnan(values))


def _of_fills(
    contributions: pl.DataFrame, grid_rows: pl.DataFrame, makers: Mapping[str, float], wide: Span
) -> Iterator[Standing]:
    """How often each grid filled within a day, and what the fees took of what it sold."""
    key = ["grid_id", "activated_at"]
    lanes = contributions.select(key).unique().sort(key)
    if lanes.is_empty():
        return
    held = by_bar(contributions.with_columns(there=pl.lit(1.0)), wide, lanes, "there")["there"] == 1.0
    before = wide.back(COUNTING_BARS)
    rows = by_bar(grid_rows, before, lanes, *FILLED)
    fills: dict[str, Floats] = {}
    share: dict[str, Floats] = {}
    there: dict[str, Flags] = {}
    for place, (grid_id, begun) in enumerate(lanes.iter_rows()):
        its = {name: values[place] for name, values in rows.items()}
        # A grid that is younger than a day has begun with none.
        young = np.arange(wide.bars) < (begun - before.start) // BAR
        earlier = np.where(young, 0.0, its["fills"][: wide.bars])
        none = np.full(wide.bars, np.nan)
        # One episode follows another: at a bar at most one of them is there.
        counted = np.where(held[place], its["fills"][COUNTING_BARS:] - earlier, fills.get(grid_id, none))
        taken = np.where(
            held[place], _fee_share(its, makers.get(grid_id, np.nan))[COUNTING_BARS:], share.get(grid_id, none)
        )
        fills[grid_id], share[grid_id] = counted, taken
        there[grid_id] = held[place] | there.get(grid_id, np.zeros(wide.bars, np.bool_))
    for grid_id, is_there in there.items():
        yield Standing("fills_per_day", grid_id, fills[grid_id], is_there)
        yield Standing("fee_share", grid_id, share[grid_id], is_there)


def _fee_share(its: Mapping[str, Floats], maker: float) -> Floats:
    """Fees of what was bought and sold again, over what that earned before them; NaN with fewer than LEAST_FILLS.

    The fees of what is still held are in its cost, and wait for its sale.
    """
    cost = np.where(its["inventory"] > 0, its["inventory"] * its["average_cost"], 0.0)
    fees = its["fees_paid"] - cost * maker / (1.0 + maker)
    earned = its["grid_profit"] + fees
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((its["fills"] >= LEAST_FILLS) & (earned > 0), fees / earned, np.nan)
