"""A year of 14 markets with four strategies and the matrix, walk-forward: the product beside a plain version.

The plain one is what one would write first in numpy and polars: rolling expressions, a loop where a position remembers,
a roll for each shifted schedule. Both are handed the same candles, features and verdicts, use one process, and must
give the same figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.shared import CONFIG, candles
from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, TIME
from mm_dagster.config.strategies import StrategiesConfig
from mm_dagster.evaluation.resample import LEAST_SHIFT_DAYS
from mm_dagster.pipeline.strategies import all_days
from mm_dagster.research import study as research
from mm_dagster.research.study import Setting, Study
from mm_dagster.strategies.signals import strategies_of

TERMS = StrategiesConfig(short=True)
SAME = 1e-9
ROUNDS = 3


def plain_positions(frame: pl.DataFrame) -> dict[str, Floats]:
    """The four strategies, as one would write them first."""
    close, price = pl.col("close"), pl.col("close").log()
    z = (price - price.rolling_mean(384)) / price.rolling_std(384, ddof=0)
    highest, lowest = pl.col("high").rolling_max(384).shift(1), pl.col("low").rolling_min(384).shift(1)
    place = (close - lowest) / (highest - lowest)
    hour = (pl.col("open_time") + BAR).dt.epoch("s") // 900
    rows = frame.select(
        trend=pl.when(hour % 96 == 0).then((close - close.shift(28 * DAY_BARS)).sign()).forward_fill().fill_null(0.0),
        z=z,
        range=pl.when(hour % 4 == 0)
        .then(pl.when(place.is_between(0, 1)).then(((1 - place) * 4 + 0.5).floor() / 4).otherwise(0.0))
        .forward_fill()
        .fill_null(0.0),
    )
    held, state, since = [], 0.0, 0
    for value in rows["z"].to_list():
        before = state
        if value is None or value != value:
            held.append(0.0)
            continue
        if value >= 2:
            state = -1.0
        elif value <= -2:
            state = 1.0
        elif abs(value) < 0.5 or (value > 0 and state > 0) or (value < 0 and state < 0):
            state = 0.0
        # Ten days after it was last far away it is forgotten.
        since = 0 if abs(value) >= 2 or state != before else since + 1
        if since >= 960:
            state = 0.0
        held.append(state)
    return {
        "trend_following": rows["trend"].to_numpy(),
        "mean_reversion": np.array(held),
        "range_trading": rows["range"].to_numpy(),
    }


def plain_net(position: Floats, opens: Floats, last: float, cost: float) -> Floats:
    """What positions earn by bar, where every bar is known."""
    held = np.append([0.0], position[:-1])
    moved = np.append(opens[1:], last) / opens - 1
    return held * moved - cost * np.abs(np.diff(held, prepend=0.0))


def plain(where: Setting) -> dict[str, tuple[float, float]]:
    """Net of a day and share of shifted schedules that are as good, by strategy; the matrix's net."""
    bars, cost = where.days.bars, TERMS.cost
    positions, nets, opens = {}, {}, {}
    for lane in where.lanes:
        tail = lane.frame.tail(bars)
        opens[lane.symbol] = tail["open"].to_numpy(), float(tail["close"][-1])
        positions[lane.symbol] = {name: one[-bars:] for name, one in plain_positions(lane.frame).items()}
        for name, one in positions[lane.symbol].items():
            nets[lane.symbol, name] = plain_net(one, *opens[lane.symbol], cost)
    names = list(positions[where.lanes[0].symbol])
    found = {}
    for name in names:
        own = np.mean([nets[lane.symbol, name].reshape(-1, DAY_BARS).sum(axis=1) for lane in where.lanes], axis=0)
        count, as_good = own.size, 0
        for shift in range(LEAST_SHIFT_DAYS, count - LEAST_SHIFT_DAYS + 1):
            total = 0.0
            for lane in where.lanes:
                held = np.roll(np.append([0.0], positions[lane.symbol][name][:-1]), shift * DAY_BARS)
                begun, last = opens[lane.symbol]
                total += float(np.sum(held * (np.append(begun[1:], last) / begun - 1)))
                total -= cost * float(np.sum(np.abs(np.diff(np.append([0.0], positions[lane.symbol][name][:-1]),
                                                            prepend=0.0))))  # fmt: skip
            as_good += total / len(where.lanes) >= own.sum() - 1e-12
        found[name] = float(own.mean()), as_good / (count - 2 * LEAST_SHIFT_DAYS + 1)
    found["matrix"] = plain_matrix(where, positions, nets, opens, names), 0.0
    return found


def plain_matrix(
    where: Setting,
    positions: dict[str, dict[str, Floats]],
    nets: dict[tuple[str, str], Floats],
    opens: dict[str, tuple[Floats, float]],
    names: list[str],
) -> float:
    """The matrix by data frames: a long table of every bar of every market, grouped by scenario."""
    times = where.days.open_times().cast(TIME)
    parts = []
    for lane in where.lanes:
        parts.append(
            pl.DataFrame(
                {
                    "symbol": [lane.symbol] * where.days.bars,
                    "open_time": times,
                    "verdict": lane.verdict,
                    "sigma": lane.sigma,
                    **{name: np.append(nets[lane.symbol, name][1:], 0.0) for name in names},
                }
            )
        )
    whole = pl.concat(parts)
    months = [month for month in where.days.months() if month.start.day == 1]
    own = {lane.symbol: np.zeros(where.days.bars) for lane in where.lanes}
    for place in range(TERMS.train_months, len(months)):
        start, month = months[place - TERMS.train_months].start, months[place]
        past = whole.filter(pl.col("open_time") >= start, pl.col("open_time") < month.start - BAR)
        split = past.filter(pl.col("sigma").is_not_nan()).group_by("symbol").agg(split=pl.col("sigma").median())
        known = (pl.col("verdict") >= 0) & pl.col("sigma").is_not_nan()
        scenario = 2 * pl.col("verdict") + (pl.col("sigma") > pl.col("split")).cast(pl.Int64)
        past = past.join(split, on="symbol").filter(known).with_columns(cell=scenario)
        sums = past.group_by("cell").agg(*(pl.col(name).sum() for name in names), bars=pl.len())
        chosen = {}
        for row in sums.iter_rows(named=True):
            best = max(names, key=lambda name: row[name])
            if row[best] > 0 and row["bars"] >= 96:
                chosen[row["cell"]] = best
        inside = whole.filter(pl.col("open_time") >= month.start, pl.col("open_time") < month.end)
        inside = inside.join(split, on="symbol").with_columns(cell=pl.when(known).then(scenario))
        first = (month.start - where.days.start) // BAR
        for lane in where.lanes:
            cells = inside.filter(pl.col("symbol") == lane.symbol)["cell"].to_list()
            for bar, cell in enumerate(cells, start=first):
                name = chosen.get(cell)
                own[lane.symbol][bar] = positions[lane.symbol][name][bar] if name else 0.0
    tested = (months[TERMS.train_months].start - where.days.start) // BAR
    daily = [plain_net(own[lane.symbol], *opens[lane.symbol], TERMS.cost)[tested:] for lane in where.lanes]
    return float(np.mean([one.reshape(-1, DAY_BARS).sum(axis=1).mean() for one in daily]))


def _seconds(what: Callable[[], object]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun


def _apart(found: Study, other: dict[str, tuple[float, float]]) -> float:
    """How far the figures of both lie apart.

    Raises:
        SystemExit: they are not the same.
    """
    worst = 0.0
    for result in found.results:
        net, as_good = other[result.strategy]
        worst = max(worst, abs(float(result.together.mean()) - net))
        if result.strategy != "matrix":
            own = float(np.mean(result.idea.shifted.sum(axis=1) >= result.idea.net.sum() - 1e-12))
            worst = max(worst, abs(own - as_good))
    if worst > SAME:
        raise SystemExit(f"both versions differ by {worst:g}")
    return worst


def compared() -> str:
    """Both, timed in turn, as Markdown."""
    config = CONFIG.model_copy(update={"strategies": TERMS})
    known = candles("kucoin")
    days = all_days(known)
    nothing = pl.DataFrame(schema={"symbol": pl.String, "open_time": TIME, "funding_rate": pl.Float64})
    real = research.setting(known, nothing, days, config)
    chosen = strategies_of(TERMS.signals)
    found, other = research.study(real, [], chosen, config), plain(real)
    apart = _apart(found, other)
    own, plainly = [], []
    for _ in range(ROUNDS):
        own.append(_seconds(lambda: research.study(real, [], chosen, config)))
        plainly.append(_seconds(lambda: plain(real)))
    ours, theirs = statistics.median(own), statistics.median(plainly)
    return (
        "## Speed\n\n"
        f"{len(real.lanes)} markets, {days.bars // DAY_BARS} days judged, four strategies and the matrix walked "
        f"forward, shifted schedules and sizes included: **{ours:.1f} s**, and {theirs:.1f} s by the plain version in "
        f"numpy and polars, which sizes nothing (median of {ROUNDS} in one run on one machine; {theirs / ours:.1f} "
        f"times). Their figures differ by {apart:.0e} at most. Candles, features and verdicts are handed to both."
    )


if __name__ == "__main__":
    print(compared())
