"""How much of the best of many is luck: ratios of edge to noise, deflated for the number of trials.

The ratio is a Sharpe ratio over blocks of weeks: mean over standard deviation of what one set of thresholds gains on
another. The best of N sets that are all worth nothing has a high one by luck alone (Bailey, Lopez de Prado 2014).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from mm_dagster.arrays import Floats

_NORMAL = NormalDist()


def ratio(edges: Floats) -> float:
    """Mean over standard deviation of the edges by block, shape (blocks,); 0 where they do not vary."""
    spread = float(np.std(edges, ddof=1)) if edges.size > 1 else 0.0
    return float(np.mean(edges)) / spread if spread > 0 else 0.0


def best_by_luck(ratios: Floats, trials: int, least: float = 0.0) -> float:
    """The ratio to expect of the best of so many independent trials that are all worth nothing.

    sd ((1 - g) z(1 - 1/N) + g z(1 - 1/(N e))), with Euler's constant g and the normal quantile z.

    Args:
        ratios: of the trials, shape (n,); how far they lie apart is the only thing that is taken from them.
        trials: N; trials that resemble each other count in full, which is strict.
        least: how far apart they are taken to lie at least.
    """
    if trials < 2 or (ratios.size < 2 and not least):
        return 0.0
    highest = (1 - np.euler_gamma) * _NORMAL.inv_cdf(1 - 1 / trials) + np.euler_gamma * _NORMAL.inv_cdf(
        1 - 1 / (trials * math.e)
    )
    apart = float(np.std(ratios, ddof=1)) if ratios.size > 1 else 0.0
    return max(apart, least) * highest


def probability(edges: Floats, above: float = 0.0) -> float:
    """Probability that the true ratio lies above a value, allowing for skew and fat tails; .5 where edges do not vary.

    Args:
        edges: by block, shape (blocks,); taken as independent.
        above: the value; `best_by_luck` of the trials makes it the deflated Sharpe ratio.
    """
    found = ratio(edges)
    if found == 0.0:
        return 0.5 if above == 0.0 else 0.0
    standard = (edges - edges.mean()) / edges.std()
    skew, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    # Never negative, since the kurtosis is at least 1 + skew^2 (Pearson 1916).
    variance = max(1 - skew * found + (kurtosis - 1) / 4 * found**2, 1e-12)
    return _NORMAL.cdf((found - above) * math.sqrt((edges.size - 1) / variance))
