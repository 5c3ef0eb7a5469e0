"""How likely a quote is filled within seconds, and what it is worth then: both learned from earlier probes.

A ridge logistic regression by iteratively reweighted least squares, and a ridge regression of the mark-out of the
probes that were filled. Columns are turned to the side of the quote, so that bids and asks are one sample; they are
standardised by the samples that were fitted, and no value counts for more than FAR of their standard deviations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats, exponential, natural_log
from mm_dagster.books.book import BP
from mm_dagster.makers.moments import Moments
from mm_dagster.makers.probe import Probes

COLUMNS = ("distance", "queue_ahead", "imbalance", "order_flow", "trade_flow", "spread", "volatility")
"""bp from the mid; ln(1 + lots ahead in units); towards the quote's side; likewise, asinh of units; bp; ln bp."""
RIDGE = 10.0
"""Penalty on the squared coefficients of standardised columns, in samples."""
STEPS = 25
CLOSE = 1e-10
FAR = 4.0
SURE_ODDS = 30.0
LEAST_FILLS = 30
"""Fewer filled probes teach nothing."""


@dataclass(frozen=True)
class FillModel:
    """Both regressions; coefficients of standardised columns with the intercept first.

    Attributes:
        mean: of each of COLUMNS over the samples, shape (c,).
        deviation: standard deviation, 1 where a column does not vary.
        fill: log odds of a fill, shape (c + 1,).
        markout: bp, shape (c + 1,).
        low: least mark-out of the samples' predictions, bp; no prediction goes below.
        high: greatest.
        intensity: fills a second at no distance (A of GLFT).
        decay: how fast it falls, a bp (k of GLFT).
        samples: probes.
        fills: those that were filled.
    """

    mean: Floats
    deviation: Floats
    fill: Floats
    markout: Floats
    low: float
    high: float
    intensity: float
    decay: float
    samples: int
    fills: int

    def probability(self, columns: Floats) -> Floats:
        """Of a fill, of rows of COLUMNS, shape (..., c)."""
        return _logistic(self._design(columns) @ self.fill)

    def worth(self, columns: Floats) -> Floats:
        """Mark-out if filled, bp, within what was seen."""
        return np.clip(self._design(columns) @ self.markout, self.low, self.high)

    def _design(self, columns: Floats) -> Floats:
        scaled = np.clip((columns - self.mean) / self.deviation, -FAR, FAR)
        return np.concatenate([np.ones((*scaled.shape[:-1], 1)), scaled], axis=-1)

    def parameters(self) -> dict[str, float]:
        """Every number by name: what a row keeps, and `of` reads."""
        found = {name: float(getattr(self, name)) for name in ("low", "high", "intensity", "decay", "samples", "fills")}
        for part in ("mean", "deviation"):
            values = getattr(self, part).tolist()
            found |= {f"{part}_{name}": value for name, value in zip(COLUMNS, values, strict=True)}
        for part in ("fill", "markout"):
            values = getattr(self, part).tolist()
            found |= {f"{part}_{name}": value for name, value in zip(("intercept", *COLUMNS), values, strict=True)}
        return found

    @classmethod
    def of(cls, parameters: dict[str, float]) -> FillModel:
        """The model of `parameters`.

        Raises:
            KeyError: one of them is missing.
        """

        def vector(part: str, names: Sequence[str]) -> Floats:
            return np.array([parameters[f"{part}_{name}"] for name in names])

        return cls(
            vector("mean", COLUMNS),
            vector("deviation", COLUMNS),
            vector("fill", ("intercept", *COLUMNS)),
            vector("markout", ("intercept", *COLUMNS)),
            parameters["low"],
            parameters["high"],
            parameters["intensity"],
            parameters["decay"],
            int(parameters["samples"]),
            int(parameters["fills"]),
        )


def digest(parameters: dict[str, float]) -> str:
    """SHA-256 of a model's numbers, as they are written in full."""
    text = "\n".join(f"{name} {value!r}" for name, value in sorted(parameters.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def columns_of(moments: Moments, unit_lots: int) -> Floats:
    """COLUMNS of every decision, side and distance, shape (n, 2, k, c); NaN where the book is not known."""
    distance = moments.distance_bp()
    side = np.array([1.0, -1.0])[None, :, None]

    def turned(values: Floats) -> Floats:
        return np.broadcast_to(values[:, None, None] * side, distance.shape)

    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (moments.ask - moments.bid) / np.where(moments.mid > 0, moments.mid, np.nan) / BP
    told = (
        distance,
        natural_log(1.0 + moments.queue / unit_lots),
        turned(moments.imbalance),
        turned(np.arcsinh(moments.flow / unit_lots)),
        turned(np.arcsinh(moments.trades / unit_lots)),
        np.broadcast_to(spread[:, None, None], distance.shape),
        np.broadcast_to(natural_log(np.maximum(moments.volatility, 1e-3))[:, None, None], distance.shape),
    )
    return np.stack(told, axis=-1)


def fit(parts: Sequence[tuple[Floats, Probes]]) -> FillModel | None:
    """The model of earlier stretches; None: too little was filled to learn from.

    Args:
        parts: of each stretch the columns, see `columns_of`, and what became of the probes.
    """
    known = [probes.known & np.isfinite(columns).all(axis=-1) for columns, probes in parts]
    rows = [columns[use] for (columns, _), use in zip(parts, known, strict=True)]
    x = np.concatenate(rows) if rows else np.zeros((0, len(COLUMNS)))
    filled = np.concatenate([p.filled[use] for (_, p), use in zip(parts, known, strict=True)]) if rows else x[:, 0] > 0
    if np.count_nonzero(filled) < LEAST_FILLS or filled.all():
        return None
    markout = np.concatenate([p.markout[use] for (_, p), use in zip(parts, known, strict=True)])[filled]
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(deviation > 1e-12, deviation, 1.0)
    design = np.column_stack([np.ones(len(x)), np.clip((x - mean) / deviation, -FAR, FAR)])
    worth = _ridge(design[filled], markout)
    said = design[filled] @ worth
    intensity, decay = _intensity(x[:, 0], filled)
    return FillModel(
        mean, deviation, _irls(design, filled.astype(np.float64)), worth, float(said.min()), float(said.max()),
        intensity, decay, len(x), int(np.count_nonzero(filled)),
    )  # fmt: skip


def _penalty(count: int) -> Floats:
    penalty = np.full(count, RIDGE)
    penalty[0] = 1e-9
    return penalty


def _ridge(design: Floats, target: Floats) -> Floats:
    return np.linalg.solve(design.T @ design + np.diag(_penalty(design.shape[1])), design.T @ target)  # type: ignore[return-value]


def _irls(design: Floats, happened: Floats) -> Floats:
    """Coefficients of the logistic regression by Newton's method, from none."""
    penalty = _penalty(design.shape[1])
    share = happened.mean()
    coefficients = np.zeros(design.shape[1])
    coefficients[0] = natural_log(np.array([share / (1.0 - share)]))[0]
    for _ in range(STEPS):
        p = _logistic(design @ coefficients)
        slope = design.T @ (happened - p) - penalty * coefficients
        bend = (design * (p * (1.0 - p))[:, None]).T @ design + np.diag(penalty)
        change = np.linalg.solve(bend, slope)
        coefficients = coefficients + change
        if np.abs(change).max() < CLOSE:
            break
    return coefficients


def _intensity(distance: Floats, filled: np.ndarray) -> tuple[float, float]:
    """A and k of fills a second A exp(-k distance): a line through the logarithms over fifths of the distance."""
    from mm_dagster.makers.probe import HORIZON_SECONDS

    edges = np.quantile(distance, np.linspace(0, 1, 6)[1:-1])
    place = np.searchsorted(edges, distance)
    count, hits = (np.bincount(place, weights, 5) for weights in (None, filled.astype(np.float64)))
    middle = np.bincount(place, distance, 5) / np.maximum(count, 1)
    share = (hits + 0.5) / (count + 1.0)
    use = count > 0
    rate = natural_log(-natural_log(1.0 - share[use]) / HORIZON_SECONDS)
    spread = middle[use] - middle[use].mean()
    width = float((spread**2).sum())
    slope = float((spread * rate).sum()) / width if width > 1e-12 else 0.0
    decay = max(-slope, 1e-3)
    return float(exponential(np.array([rate.mean() + decay * middle[use].mean()]))[0]), decay


def _logistic(odds: Floats) -> Floats:
    return 1.0 / (1.0 + exponential(-np.clip(odds, -SURE_ODDS, SURE_ODDS)))
