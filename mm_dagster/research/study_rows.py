"""A study as rows: every statistic of every strategy on every market, and what the gate says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.bars import DAY_BARS
from mm_dagster.evaluation import performance, resample
from mm_dagster.research.promotion import Promotion
from mm_dagster.research.study import ALL, MATRIX, Result, Study
from mm_dagster.strategies import accounting

METRICS: dict[str, tuple[str, str]] = {
    **performance.METRICS,
    "net": ("bp of the capital a day", "what it earned, all costs taken off"),
    "over_holding": ("bp of the capital a day", "net less what holding its mean exposure all the time earned"),
    "over_shifted": ("bp of the capital a day", "net less the mean of the same schedule begun on other days"),
    "over_placebo": ("bp of the capital a day", "over_holding less that on the same markets with random signs"),
    "p_shifted": ("share", "shifted schedules that earned as much"),
    "deflated": ("probability", "that it is better than the best of as many worthless ideas by luck"),
    "trials": ("count", "ideas that the ledger knows of these days"),
    "passes": ("1 or 0", "whether it passes the whole gate"),
    "exposure": ("share of the capital", "mean position"),
    "turnover": ("times the capital a day", "what was bought and sold"),
    "sized": ("bp of the equity a day", "net with the sizes of the rules but Kelly"),
    "staked": ("bp of the equity a day", "net with that of Kelly among them"),
}
"""Every metric of `strategy_performance`: its unit, and what it means."""

_Figure = tuple[str, float | None, float | None, float | None, int]


class Row(NamedTuple):
    """A figure of `strategy_performance`; see there."""

    strategy: str
    symbol: str
    period: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


def rows_of(found: Study, judged: Mapping[str, Promotion]) -> list[Row]:
    """All figures of a study.

    Args:
        found: the study.
        judged: what the gate says of each strategy.
    """
    rows: list[Row] = []
    for result in found.results:
        period = "out_of_sample" if result.strategy == MATRIX else "whole"
        name, days = result.strategy, result.days.bars // DAY_BARS
        for symbol, one in result.earned.items():
            exposure = result.exposure[symbol]
            net = accounting.by_day(one.net)
            over = net - exposure * result.market[symbol]
            rows += [Row(name, symbol, period, *figure) for figure in _figures(net, over, exposure)]
            rows.append(_plain(name, symbol, period, "turnover", float(one.traded.sum()) / days, days))
        rows += [Row(name, ALL, period, *one) for one in performance.measure(_marks(result.together), 1.0).figures]
        rows += _sums(result, period)
        rows += _verdict(name, period, judged[name], days)
    if found.steps:
        trained = float(np.mean([step.in_training for step in found.steps]))
        rows.append(_plain(MATRIX, ALL, "in_training", "net", _BP * trained, len(found.steps)))
    return rows


_BP = 10_000.0


def _marks(net: Floats) -> Floats:
    return 1.0 + np.append(0.0, np.cumsum(net))


def _plain(name: str, symbol: str, period: str, metric: str, value: float, n: int) -> Row:
    return Row(name, symbol, period, metric, value, None, None, n)


def _figures(net: Floats, over: Floats, exposure: float) -> Iterator[_Figure]:
    """Of one market: the statistics, what it earned above holding its mean exposure, and that exposure."""
    yield from performance.measure(_marks(net), 1.0).figures
    drawn = resample.in_blocks(net.size)
    for metric, values in (("net", net), ("over_holding", over)):
        low, high = resample.interval(values[drawn[1:]].mean(axis=1))
        yield metric, _BP * float(values.mean()), _BP * low, _BP * high, net.size
    yield "exposure", exposure, None, None, net.size


def _sums(result: Result, period: str) -> Iterator[Row]:
    """Of all markets together: exposure, turnover, and the money that the sizes of the rules would have made."""
    days = result.days.bars // DAY_BARS
    earned = list(result.earned.values())
    exposure = float(np.mean(list(result.exposure.values())))
    turnover = float(np.mean([one.traded.sum() for one in earned])) / days
    yield _plain(result.strategy, ALL, period, "exposure", exposure, days)
    yield _plain(result.strategy, ALL, period, "turnover", turnover, days)
    for metric, net in (("sized", result.sized), ("staked", result.staked)):
        yield _plain(result.strategy, ALL, period, metric, _BP * float(net.mean()), days)


def _verdict(name: str, period: str, said: Promotion, days: int) -> Iterator[Row]:
    """What the gate says, in basis points of the capital a day."""
    for metric in ("net", "over_holding", "over_shifted", "over_placebo"):
        bound = getattr(said, metric)
        value, low, high = (_BP * one for one in bound)
        yield Row(name, ALL, period, metric, value, low, high, days)
    values = {"p_shifted": said.p_shifted, "deflated": said.deflated, "trials": said.trials, "passes": said.passes}
    for metric, value in values.items():
        yield _plain(name, ALL, period, metric, float(value), days)
