"""Where an excess return came from: the choice of markets, what was made of each, and both at once.

A portfolio is held against a benchmark, period by period (Brinson, Fachler 1985), and the periods are linked so that
the effects add up to the excess over all of them, although returns compound (Carino 1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats

UNEQUAL = 1e-9
"""Weights of portfolio and benchmark that add up to more different sums do not compare."""


@dataclass(frozen=True)
class Effects:
    """What each market added to the excess return.

    Attributes:
        allocation: by its weight, (w_p - w_b)(r_b - R_b): more of what the benchmark earned more with than on average.
        selection: by its return, w_b (r_p - r_b): what the grid made of the market, at the benchmark's weight.
        interaction: by both, (w_p - w_b)(r_p - r_b).
            Shape (periods, markets) each, or (markets,) over all periods; fractions.
    """

    allocation: Floats
    selection: Floats
    interaction: Floats

    @property
    def total(self) -> Floats:
        """All three."""
        return self.allocation + self.selection + self.interaction


@dataclass(frozen=True)
class Attribution:
    """An excess return and what it is made of; P periods of N markets.

    Attributes:
        portfolio: return of each period, sum of weight times return, shape (P,).
        benchmark: likewise, shape (P,).
        effects: of each period, shape (P, N): their total over markets is portfolio - benchmark.
        linked: over all periods, shape (N,): their total is `excess`.
        portfolio_return: of all periods, compounded.
        benchmark_return: likewise.
        excess: portfolio_return - benchmark_return.
    """

    portfolio: Floats
    benchmark: Floats
    effects: Effects
    linked: Effects
    portfolio_return: float
    benchmark_return: float
    excess: float


def attribute(weights: Floats, returns: Floats, benchmark_weights: Floats, benchmark_returns: Floats) -> Attribution:
    """The effects of each market, by period and over all.

    A market that is not held has no return of its own: all that it adds is its allocation, and its return may be NaN.
    So may the benchmark's return of a market that the benchmark does not hold: the portfolio's stands for it. Capital
    that lies idle is a market with a return of 0.

    Args:
        weights: shares of the portfolio's capital at the beginning of each period, shape (P, N).
        returns: the portfolio's return of each market in each period, a fraction, shape (P, N).
        benchmark_weights: likewise, with the same sum in each period, shape (P, N).
        benchmark_returns: likewise, shape (P, N).

    Raises:
        ValueError: shapes or sums of weights that differ, an unknown weight, an unknown return of what is held, or a
            period in which everything is lost, after which there is nothing to compound.
    """
    returns, benchmark_returns = _known(weights, returns, benchmark_weights, benchmark_returns)
    portfolio = np.sum(weights * returns, axis=1)
    benchmark = np.sum(benchmark_weights * benchmark_returns, axis=1)
    for name, of_period in (("portfolio", portfolio), ("benchmark", benchmark)):
        if (ruin := np.flatnonzero(of_period <= -1)).size:
            raise ValueError(f"{name}: a return of {of_period[ruin[0]]} in period {ruin[0]}; it lies above -1")
    more, better = weights - benchmark_weights, returns - benchmark_returns
    effects = Effects(
        allocation=more * (benchmark_returns - benchmark[:, None]),
        selection=benchmark_weights * better,
        interaction=more * better,
    )
    # ln((1 + R_p) / (1 + R_b)) of each period; these add up over periods. One by one, by the C library: exact where the
    # two returns are all but equal, too.
    apart = portfolio - benchmark
    logarithms = [math.log1p(one) for one in (apart / (1 + benchmark)).tolist()]
    all_in_all = math.fsum(logarithms)
    benchmark_return = math.prod((1 + benchmark).tolist()) - 1
    excess = (1 + benchmark_return) * math.expm1(all_in_all)
    # Carino's k of all periods, and over it those of each one.
    whole = _per_unit(all_in_all, excess, 1 + benchmark_return)
    each = zip(logarithms, apart.tolist(), (1 + benchmark).tolist(), strict=True)
    factors = np.array([_per_unit(*one) / whole for one in each], np.float64)[:, None]
    return Attribution(
        portfolio=portfolio,
        benchmark=benchmark,
        effects=effects,
        linked=Effects(
            allocation=np.sum(factors * effects.allocation, axis=0),
            selection=np.sum(factors * effects.selection, axis=0),
            interaction=np.sum(factors * effects.interaction, axis=0),
        ),
        portfolio_return=benchmark_return + excess,
        benchmark_return=benchmark_return,
        excess=excess,
    )


def _per_unit(logarithm: float, apart: float, growth: float) -> float:
    """Carino's k: (ln(1 + R_p) - ln(1 + R_b)) / (R_p - R_b), and its limit 1 / (1 + R_b) where the two are equal."""
    return logarithm / apart if apart != 0 else 1 / growth


def _known(
    weights: Floats, returns: Floats, benchmark_weights: Floats, benchmark_returns: Floats
) -> tuple[Floats, Floats]:
    """The returns of portfolio and benchmark, with the other's where a market is not held; see `attribute`."""
    shapes = {one.shape for one in (weights, returns, benchmark_weights, benchmark_returns)}
    if len(shapes) > 1 or weights.ndim != 2:
        raise ValueError(f"weights, returns: shapes {sorted(shapes)}; one shape (periods, markets)")
    for name, one in (("weights", weights), ("benchmark_weights", benchmark_weights)):
        if not np.isfinite(one).all():
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(one))} are not finite; a market not held has 0")
    sums, others = weights.sum(axis=1), benchmark_weights.sum(axis=1)
    if (unlike := np.flatnonzero(np.abs(sums - others) > UNEQUAL)).size:
        period = int(unlike[0])
        raise ValueError(
            f"weights: they add up to {sums[period]} in period {period} and the benchmark's to {others[period]}; "
            "idle capital is a market with a return of 0"
        )
    benchmark_known = np.where((benchmark_weights == 0) & ~np.isfinite(benchmark_returns), returns, benchmark_returns)
    known = np.where(weights == 0, benchmark_known, returns)
    # Neither holds it, and neither has a return: nothing comes of it.
    neither = (weights == 0) & (benchmark_weights == 0) & ~np.isfinite(benchmark_known)
    known, benchmark_known = (np.where(neither, 0.0, one) for one in (known, benchmark_known))
    for name, one in (("returns", known), ("benchmark_returns", benchmark_known)):
        if (unknown := np.argwhere(~np.isfinite(one))).size:
            period, market = unknown[0].tolist()
            raise ValueError(f"{name}: {one[period, market]} in period {period} of market {market}, which is held")
    return known, benchmark_known
