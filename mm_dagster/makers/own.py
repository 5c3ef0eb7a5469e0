"""Somebody's own quotes: a function from what is known at a decision to two prices.

    def mine(moment: Moment) -> tuple[float | None, float | None] | None:
        return moment.bid, moment.ask

It is called once a decision, in order, and handed nothing that was told later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mm_dagster.books.book import BP
from mm_dagster.errors import ForeseenError
from mm_dagster.makers.matching import MICRO, Plan, Run
from mm_dagster.makers.quotes import FARTHEST_BP
from mm_dagster.makers.sizing import sizes
from mm_dagster.makers.study import Stretch


class OwnQuotesError(ForeseenError):
    """What a function gave is no quotes; one line."""


@dataclass(frozen=True)
class Moment:
    """What is known at a decision.

    Attributes:
        at_ns: UTC nanoseconds.
        bid: best bid, quote currency.
        ask: best ask.
        bid_amount: at the best bid, base currency.
        ask_amount: at the best ask.
        imbalance: (bids - asks) / (bids + asks) of the five best levels.
        order_flow: order flow imbalance of the last 5 s, base currency.
        trade_flow: bought less sold by aggressors in the last 5 s, base currency.
        volatility_bp: of the mid, bp a root second.
        inventory: base currency; below 0 it is sold.
        tick: the price step.
    """

    at_ns: int
    bid: float
    ask: float
    bid_amount: float
    ask_amount: float
    imbalance: float
    order_flow: float
    trade_flow: float
    volatility_bp: float
    inventory: float
    tick: float


def quoted(stretch: Stretch, function: Callable[[Moment], Any], touch_share: float) -> Plan:
    """What a function quotes on a stretch, as a plan that quotes the same whatever fills.

    Args:
        stretch: which.
        function: see above.
        touch_share: the most of what is shown at the best price that is offered.

    Raises:
        OwnQuotesError: it gave something else; what it raises itself passes.
    """
    moments, scale = stretch.moments, stretch.track.market.scale
    tick, lot = 10.0**-scale.price_decimals, 10.0**-scale.amount_decimals
    plan = Plan.empty(len(moments.at))
    offered = sizes(moments, stretch.terms, touch_share)[:, :, :1]
    run = Run(stretch.track, moments.at, plan, stretch.terms)
    for k in range(len(moments.at)):
        run.until(k)
        if not moments.known[k]:
            continue
        moment = Moment(
            int(moments.at[k]), moments.bid[k] * tick, moments.ask[k] * tick, moments.bid_lots[k] * lot,
            moments.ask_lots[k] * lot, float(moments.imbalance[k]), moments.flow[k] * lot, moments.trades[k] * lot,
            float(moments.volatility[k]), run.inventory * lot, tick,
        )  # fmt: skip
        for side, price in enumerate(_prices(function(moment), moment)):
            if price is not None:
                plan.price[k, side, 0] = round(price / tick * MICRO)
                plan.value[k, side, 0] = 1
                plan.lots[k, side, 0] = offered[k, side, 0]
    return plan


def _prices(given: Any, moment: Moment) -> tuple[float | None, float | None]:
    """Two prices, or none, near enough to the mid to be meant.

    Raises:
        OwnQuotesError: they are not.
    """
    if given is None:
        return None, None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise OwnQuotesError(f"it gives {_shown(given)}; give (bid, ask), either may be None, or None")
    mid = (moment.bid + moment.ask) / 2
    found: list[float | None] = []
    for name, price in zip(("bid", "ask"), given, strict=True):
        if price is None:
            found.append(None)
            continue
        try:
            value = float(price)
        except (TypeError, ValueError, OverflowError):
            raise OwnQuotesError(f"its {name} is {_shown(price)}, and no price") from None
        if not math.isfinite(value) or abs(value - mid) > FARTHEST_BP * BP * mid:
            raise OwnQuotesError(f"its {name} is {value:g} where the mid is {mid:g}; None says no quote")
        found.append(value)
    return found[0], found[1]


def _shown(value: Any) -> str:
    """As much of a value as fits into a line, and no more of it than a name where it cannot be shown."""
    try:
        return " ".join(repr(value).split())[:60]
    except Exception:
        return type(value).__name__
