"""The features of a quarter hour of a market's book: METHOD's section 9, each a ratio of whole numbers wherever it can.

None stands where nothing can be told, and never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from mm_dagster.arrays import Integers, kernel, log_ratio
from mm_dagster.books.book import BP
from mm_dagster.books.kernel import SECOND_NS, Second, Walk, walk
from mm_dagster.books.ladder import Scale
from mm_dagster.books.snapshot import DEPTHS_BP
from mm_dagster.books.tape import Op, Tape
from mm_dagster.books.volume_clock import buckets, vpin

MS = 1_000_000
KYLE_SECONDS = 10
"""Of a return and of the volume that it is explained by."""
KYLE_LEAST = 10
"""Such returns in a window."""
WIDE = 3
"""Times its median that a spread exceeds when it is wide."""


@dataclass(frozen=True)
class Volume:
    """Where the volume clock of a market stands at the beginning of a window, see `volume_clock`.

    Attributes:
        bucket_lots: of a bucket; None: nobody knows the volume of the day before.
        buy: `bucket_buy_lots` of the day's row before; 0 of the first one.
        sell: its `bucket_sell_lots`.
        imbalances: `bucket_imbalances` of the day's rows before, one after another.
    """

    bucket_lots: int | None = None
    buy: int = 0
    sell: int = 0
    imbalances: tuple[int, ...] = ()


def measure(tape: Tape, start_ns: int, end_ns: int, levels: int, volume: Volume | None = None) -> dict[str, Any]:
    """The features of a window [start, end); the columns of `book_features` without its keys.

    Args:
        tape: what the log told; of before the window it needs the book alone.
        start_ns: beginning of the window, UTC nanoseconds.
        end_ns: its end.
        levels: best levels of a side that `imbalance_n` is over.
        volume: where the volume clock stands; None: nobody knows the volume of the day before.

    Raises:
        ValueError: the window is empty or longer than `kernel.LONGEST_NS`.
    """
    walked = walk(tape, start_ns, end_ns, levels)
    first, stop = np.searchsorted(tape.trades[:, 0], [start_ns, end_ns])
    trades = tape.trades[first:stop].tolist()
    return {
        **counts(tape, walked, start_ns, end_ns),
        **prices(walked, tape.market.scale),
        **flows(walked, trades, tape.market.scale, _heard(tape, start_ns, end_ns) > 0),
        **volumes(trades, volume or Volume()),
        **returns(walked),
        **depths(walked, tape.market.scale),
        **kyle(walked, trades, start_ns, tape.market.scale),
        **recovery(walked.steps, min(end_ns, max(tape.until_ns, start_ns))),
        **dict.fromkeys(("lead_ms", "lead_corr", "lead_first_ms", "lead_second_ms")),
        "book_digest": walked.digest,
    }


def _heard(tape: Tape, start_ns: int, end_ns: int) -> int:
    first, stop = np.searchsorted(tape.records, [start_ns, end_ns])
    return int(stop - first)


def counts(tape: Tape, walked: Walk, start_ns: int, end_ns: int) -> dict[str, Any]:
    """How much was heard, and for how much of the time there was a book."""
    first, stop = np.searchsorted(tape.rows[:, 0], [start_ns, end_ns])
    stood = tape.rows[first:stop, 1] == Op.STANDS
    return {
        "in_sync_share": walked.in_sync_ns / (end_ns - start_ns),
        "messages": _heard(tape, start_ns, end_ns),
        "changes": int(tape.rows[first:stop, 3][stood].sum()),
        "trades": int(np.diff(np.searchsorted(tape.trades[:, 0], [start_ns, end_ns]))[0]),
    }


def prices(walked: Walk, scale: Scale) -> dict[str, Any]:
    """Mid and weighted mid as they were last known, spread and imbalances weighted by time."""
    mid = weighted = None
    if walked.last is not None:
        bid, bid_lots, ask, ask_lots = walked.last
        mid = (bid + ask) / (2 * 10**scale.price_decimals)
        # (b qa + a qb) / (qa + qb) - (a + b) / 2 = (a - b) (qb - qa) / (2 (qa + qb))
        away = (ask - bid) * (bid_lots - ask_lots)
        weighted = away / ((bid_lots + ask_lots) * (bid + ask)) / BP
    twice_mid = walked.bid_ns + walked.ask_ns
    return {
        "mid": mid,
        "spread_bp": 2 * (walked.ask_ns - walked.bid_ns) / twice_mid / BP if twice_mid else None,
        "weighted_mid_bp": weighted,
        "imbalance_1": _imbalance(walked.bid_lots_ns[0], walked.ask_lots_ns[0]),
        "imbalance_n": _imbalance(sum(walked.bid_lots_ns), sum(walked.ask_lots_ns)),
    }


def _imbalance(bids: int, asks: int) -> float | None:
    return (bids - asks) / (bids + asks) if bids + asks else None


def flows(walked: Walk, trades: Sequence[Sequence[int]], scale: Scale, is_heard: bool) -> dict[str, Any]:
    """Order flow imbalance, and what was bought and sold; base currency."""
    lot = 10**scale.amount_decimals
    return {
        "order_flow_imbalance": sum(walked.flow) / lot if walked.flows else None,
        "buy_volume": sum(lots for _, _, lots, is_sell in trades if not is_sell) / lot if is_heard else None,
        "sell_volume": sum(lots for _, _, lots, is_sell in trades if is_sell) / lot if is_heard else None,
    }


def volumes(trades: Sequence[Sequence[int]], before: Volume) -> dict[str, Any]:
    """VPIN, and what the day's next row goes on from."""
    if before.bucket_lots is None:
        names = ("bucket_lots", "bucket_imbalances", "bucket_buy_lots", "bucket_sell_lots", "vpin", "vpin_buckets")
        return dict.fromkeys(names)
    told = ((lots, bool(is_sell)) for _, _, lots, is_sell in trades)
    filled = buckets(told, before.bucket_lots, before.buy, before.sell)
    value, count = vpin((*before.imbalances, *filled.imbalances), before.bucket_lots)
    return {
        "bucket_lots": before.bucket_lots,
        "bucket_imbalances": list(filled.imbalances),
        "bucket_buy_lots": filled.buy,
        "bucket_sell_lots": filled.sell,
        "vpin": value,
        "vpin_buckets": count,
    }


def _mids(seconds: Sequence[Second | None]) -> list[int | None]:
    """Twice the mid at the end of each second, ticks."""
    return [second.bid + second.ask if second and second.bid and second.ask else None for second in seconds]


def returns(walked: Walk) -> dict[str, Any]:
    """Realised variance: the sum of the squared log returns of the seconds through which the book was in sync."""
    mids = _mids(walked.seconds)
    pairs = [
        (float(mids[k] or 0), float(mids[k - 1] or 0))
        for k, second in enumerate(walked.seconds)
        if second is not None and second.follows
    ]
    if not pairs:
        return {"rv_mid": None}
    now, before = np.array(pairs, dtype=np.float64).T
    return {"rv_mid": math.fsum((log_ratio(now, before) ** 2).tolist())}


def depths(walked: Walk, scale: Scale) -> dict[str, Any]:
    """What waited within some distances of the mid in the thinnest second, quote currency, and how far is known.

    `depth_reach_bp` is None also where the whole book was known.
    """
    unit = 10 ** (scale.price_decimals + scale.amount_decimals)
    known = [second for second in walked.seconds if second is not None]
    found: dict[str, Any] = {}
    for side in ("bid", "ask"):
        for place, bp in enumerate(DEPTHS_BP):
            amounts = [getattr(second, f"{side}_depths")[place] for second in known]
            least = min(amounts) if amounts and None not in amounts else None
            found[f"{side}_depth_{bp}bp"] = None if least is None else least / unit
    # 2 (mid - far) / (2 mid), of the nearer end
    reaches = [
        (abs(second.bid + second.ask - 2 * far)) / (second.bid + second.ask) / BP
        for second in known
        for far in (second.far_bid, second.far_ask)
        if far and second.bid and second.ask
    ]
    return found | {"depth_reach_bp": min(reaches, default=None)}


def kyle(walked: Walk, trades: Sequence[Sequence[int]], start_ns: int, scale: Scale) -> dict[str, Any]:
    """Kyle's lambda: least squares of the return of ten seconds on what was bought less what was sold in them."""
    mids = _mids(walked.seconds)
    spans = (len(mids) - 1) // KYLE_SECONDS
    signed = [0] * (spans + 1)
    for at_ns, price, lots, is_sell in trades:
        place = min((at_ns - start_ns) // (KYLE_SECONDS * SECOND_NS), spans)
        signed[place] += price * lots * (-1 if is_sell else 1)
    million = 10 ** (6 + scale.price_decimals + scale.amount_decimals)
    x, y = [], []
    for span in range(spans):
        first, last = span * KYLE_SECONDS, (span + 1) * KYLE_SECONDS
        before, after = mids[first], mids[last]
        through = walked.seconds[first + 1 : last + 1]
        if before and after and all(second is not None and second.follows for second in through):
            x.append(signed[span] / million)
            y.append((after - before) / before / BP)
    slope, r2 = least_squares(x, y)
    return {"kyle_lambda": slope, "kyle_r2": r2}


def least_squares(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None]:
    """Slope of y on x with an intercept, and R^2; None: too few points, or they do not differ."""
    count = len(x)
    if count < KYLE_LEAST:
        return None, None
    x_mean, y_mean = math.fsum(x) / count, math.fsum(y) / count
    xx = math.fsum((one - x_mean) ** 2 for one in x)
    yy = math.fsum((one - y_mean) ** 2 for one in y)
    xy = math.fsum((one - x_mean) * (other - y_mean) for one, other in zip(x, y, strict=True))
    if not xx:
        return None, None
    return xy / xx, (xy * xy / (xx * yy) if yy else None)


def recovery(steps: Integers, stop_ns: int) -> dict[str, Any]:
    """How long a spread that exceeded three times its median took until it was back at it; the median of these.

    A time whose beginning or end is not in the window, or in which the book was lost, is not among them.
    """
    spread = np.where((steps[:, 1] > 0) & (steps[:, 2] > 0), steps[:, 2] - steps[:, 1], -1)
    usual = usual_spread(spread, np.diff(steps[:, 0], append=stop_ns))
    took = [] if usual is None else _recoveries(steps[:, 0], spread, usual).tolist()
    took = [one for one in took if one >= 0]
    return {"recovery_ms": median(took) / MS if took else None, "recoveries": len(took) if usual is not None else None}


def usual_spread(spread: Integers, dt: Integers) -> int | None:
    """The median of a spread weighted by time: the least one that was not exceeded for half of the time."""
    known = (spread >= 0) & (dt > 0)
    spread, dt = spread[known], dt[known]
    if not len(spread):
        return None
    order = np.argsort(spread, kind="stable")
    passed = np.cumsum(dt[order])
    return int(spread[order][np.searchsorted(2 * passed, passed[-1])])


@kernel
def _recoveries(at: Integers, spread: Integers, usual: int) -> Integers:
    """Nanoseconds of each recovery; -1 where there is none at a step."""
    took = np.full(len(at), -1, np.int64)
    since, is_wide = -1, False
    for i in range(len(at)):
        # More than three times the usual, without a product that has no room.
        wide_now = spread[i] > 0 and (spread[i] - 1) // WIDE >= usual
        if spread[i] < 0:
            is_wide = False
        elif is_wide and spread[i] <= usual:
            took[i] = at[i] - since
            is_wide = False
        elif not is_wide and wide_now and i > 0 and spread[i - 1] >= 0:
            since, is_wide = at[i], True
    return took
