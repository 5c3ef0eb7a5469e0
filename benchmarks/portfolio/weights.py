"""12 rules of how much of the capital goes into each market's new grid, each by what is known at the midnight.

Weights are at least 0 and add up to at most 1; what is left stays cash. None is fitted to what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.portfolio.panel import LIFE, Panel
from benchmarks.shared import CONFIG
from mm_dagster.arrays import Flags, Floats, kernel, natural_log
from mm_dagster.portfolio.weights import minimum_variance, shrunk_covariance

COVARIANCE_STEPS = 240
"""6-hour returns in a covariance: 60 days."""
PAST_DAYS = 60
"""Days of profit and loss that Kelly's rule and past profit look back on."""
PEAK_DAYS = 90
"""How far back the peak is that a drawdown is measured from."""
DEEP = 20.0
"""The drawdown, points of the capital, at which the throttle is shut."""
CAP = 0.25
"""The most that minimum variance puts into one market."""
ROUNDS = 200


@dataclass(frozen=True)
class Midnight:
    """What is known at one midnight of m markets.

    Attributes:
        there: where a grid is opened, shape (m,).
        sigma: forecast standard deviation of an hourly return, likewise.
        chance: probability of a break below within 24 hours.
        range_ok: probability of RANGE_OK.
        covariance: of the markets where `there`, from the forecasts and shrunk correlations, shape (k, k).
        past: profit and loss a day of each market's grids, the newest last, shape (PAST_DAYS, m), fractions.
        drawdown: of equal weights, points of the capital.
        calm: median of the forecast risk of equal weights of the last PAST_DAYS over that of now.
    """

    there: Flags
    sigma: Floats
    chance: Floats
    range_ok: Floats
    covariance: Floats
    past: Floats
    drawdown: float
    calm: float


def midnights(panel: Panel) -> Iterator[Midnight]:
    """Of every row of a panel."""
    profit = daily_profit(panel)
    counted = np.isfinite(profit)
    alike = np.where(counted, profit, 0.0).sum(axis=1) / np.maximum(1, counted.sum(axis=1))
    grown = np.concatenate([[0.0], np.cumsum(alike)])
    logs = natural_log(panel.closes)
    risks: list[float] = []
    for row in range(panel.day.size):
        there = np.isfinite(panel.chance[row])
        covariance = covariance_of(
            np.diff(logs[max(0, panel.step[row] - COVARIANCE_STEPS) : panel.step[row] + 1, there], axis=0),
            panel.sigma[row, there],
        )
        risk = float(np.sqrt(covariance.mean())) if there.any() else np.nan
        before = [one for one in risks[-PAST_DAYS:] if np.isfinite(one)]
        risks.append(risk)
        yield Midnight(
            there=there,
            sigma=panel.sigma[row],
            chance=panel.chance[row],
            range_ok=panel.rankings["probability of RANGE_OK high"][row],
            covariance=covariance,
            past=profit[max(0, row - PAST_DAYS) : row] / 100.0,
            drawdown=float(grown[max(0, row - PEAK_DAYS) : row + 1].max() - grown[row]),
            calm=float(np.median(before)) / risk if before and risk > 0 else 1.0,
        )


def daily_profit(panel: Panel) -> Floats:
    """Of the day after each midnight: mean change of a market's grids that live then, percent, shape (d, m)."""
    total, count = np.zeros(panel.held.shape), np.zeros(panel.held.shape)
    for age in range(LIFE):
        change = panel.marks[: panel.day.size - age, :, age + 1] - panel.marks[: panel.day.size - age, :, age]
        known = np.isfinite(change)
        total[age:] += np.where(known, change, 0.0)
        count[age:] += known
    with np.errstate(invalid="ignore"):
        return total / np.where(count > 0, count, np.nan)


def covariance_of(moves: Floats, sigma: Floats) -> Floats:
    """Covariance of k markets: correlations shrunk by Ledoit and Wolf (2004), scaled by the forecasts.

    Args:
        moves: returns of 6 hours, shape (n, k); rows with an unknown one are left out.
        sigma: forecasts, shape (k,).
    """
    known = moves[np.isfinite(moves).all(axis=1)]
    if len(known) < 2 or not sigma.size:
        return np.diag(sigma**2)
    shrunk = shrunk_covariance(known).covariance
    spread = np.sqrt(np.maximum(np.diag(shrunk), 1e-300))
    return shrunk / np.outer(spread, spread) * np.outer(sigma, sigma)


def least_variance(covariance: Floats, cap: float) -> Floats:
    """Weights of the least variance, each between 0 and the cap, shape (k,)."""
    return minimum_variance(covariance, max(cap, 1.0 / len(covariance)))


def equal(now: Midnight) -> Floats:
    """As much into each."""
    return _shares(now, np.ones(now.there.size))


def _shares(now: Midnight, liked: Floats) -> Floats:
    """In proportion to what is liked; all in cash where nothing is."""
    value = np.where(now.there & (liked > 0), liked, 0.0)
    total = value.sum()
    return value / total if total > 0 else value


def _on_there(now: Midnight, weights: Floats) -> Floats:
    found = np.zeros(now.there.size)
    found[now.there] = weights / weights.sum()
    return found


def _minimum_variance(now: Midnight) -> Floats:
    return _on_there(now, least_variance(now.covariance, CAP))


def _risk_parity(now: Midnight) -> Floats:
    return _on_there(now, _alike_in_risk(now.covariance))


@kernel
def _alike_in_risk(covariance: Floats) -> Floats:
    """Each market adds as much to the variance (Maillard, Roncalli, Teiletche 2010), one weight after another."""
    count = len(covariance)
    weights = 1.0 / np.sqrt(np.diag(covariance))
    for _ in range(ROUNDS):
        for place in range(count):
            variance, others = covariance[place, place], 0.0
            for other in range(count):
                if other != place:
                    others += covariance[place, other] * weights[other]
            weights[place] = (np.sqrt(others**2 + 4.0 * variance) - others) / (2.0 * variance)
    return weights


def _most_diversified(now: Midnight) -> Floats:
    """The least variance of returns in units of their own volatility (Choueifaty, Coignard 2008)."""
    spread = np.sqrt(np.diag(now.covariance))
    return _on_there(now, least_variance(now.covariance / np.outer(spread, spread), 1.0) / spread)


def _gate(now: Midnight) -> Floats:
    return np.where(now.chance < CONFIG.risk.entry.max_break_low_24h, equal(now), 0.0)


def _mean(past: Floats) -> Floats:
    known = np.isfinite(past)
    return np.where(known, past, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))


def _past_profit(now: Midnight) -> Floats:
    return _shares(now, _mean(now.past))


def _kelly(now: Midnight) -> Floats:
    """Mean over variance of each market's grids (Kelly 1956), no more than the capital in all."""
    mean = _mean(now.past)
    variance = _mean((now.past - mean) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(now.there & (mean > 0) & (variance > 0), mean / variance, 0.0)
    return wanted / max(1.0, float(wanted.sum()))


def _throttle(now: Midnight) -> Floats:
    return equal(now) * min(1.0, max(0.0, 1.0 - now.drawdown / DEEP))


def _target(now: Midnight) -> Floats:
    return equal(now) * min(1.0, now.calm)


RULES: Mapping[str, Callable[[Midnight], Floats]] = {
    "inverse volatility": lambda now: _shares(now, 1.0 / now.sigma),
    "inverse variance": lambda now: _shares(now, 1.0 / now.sigma**2),
    "minimum variance, at most .25 each": _minimum_variance,
    "risk parity": _risk_parity,
    "most diversified": _most_diversified,
    "by the probability of RANGE_OK": lambda now: _shares(now, now.range_ok),
    "by 1 less the break probability": lambda now: _shares(now, 1.0 - now.chance),
    "gate of entry, the rest in cash": _gate,
    "by the profit of 60 days": _past_profit,
    "Kelly, mean over variance of 60 days": _kelly,
    "drawdown throttle": _throttle,
    "volatility target": _target,
}
"""By the name that the chapter has."""


def allotted(panel: Panel, rules: Mapping[str, Callable[[Midnight], Floats]] = RULES) -> dict[str, Floats]:
    """Weights of equal weights, under "equal", and of each rule, shape (d, m); NaN at midnights without two grids."""
    found = {name: np.full(panel.held.shape, np.nan) for name in ("equal", *rules)}
    for row, now in enumerate(midnights(panel)):
        if now.there.sum() >= 2:
            for name, rule in {"equal": equal, **rules}.items():
                found[name][row] = rule(now)
    return found
