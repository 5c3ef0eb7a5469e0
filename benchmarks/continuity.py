"""Would a continuity correction make the break probability better? `python -m benchmarks.continuity --out FILE`.

A price is looked at every quarter hour, and two closes beyond a bound are asked for, so a bound is a little farther
away than it looks (Broadie, Glasserman, Kou 1997): p = 2 F4(-(max(0, d) + c sigma sqrt(1/4)) / (k sigma sqrt h)).
k and c are fitted on KuCoin, January to August 2025, alone, by log loss; every other set is judged
with what came of it.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.sets import FRESH, PARTS, SETS, Set, grids_on
from benchmarks.shared import CONFIG, markdown
from mm_dagster.arrays import Flags, Floats, Integers, log_ratio
from mm_dagster.bars import DAY_BARS, HOUR_BARS, bar_number
from mm_dagster.evaluation import probability, resample, scores
from mm_dagster.evaluation.signals import places
from mm_dagster.grid import touch

HOURS = 24
SCALES = np.round(np.arange(0.60, 0.861, 0.01), 2)
SHIFTS = np.round(np.arange(0.0, 2.01, 0.05), 2)
METHOD = (0.74, 0.25)
"""k and c of the method."""
BEFORE = (0.74, 0.0)
"""What was in force before."""
LEAST = 1e-6
NEAR = 0.5
"""Near the bound: nearer than so many standard deviations of the next 24 hours."""


@dataclass(frozen=True)
class Asked:
    """Questions on the grids of a set, one every hour of a life; each of shape (n,).

    Attributes:
        away: log distance to the lower bound.
        sigma: forecast standard deviation of an hourly return over the next 24 hours.
        happened: whether two closes below the bound followed within them.
        day: of the grid's opening.
        market: number of its market.
    """

    away: Floats
    sigma: Floats
    happened: Flags
    day: Integers
    market: Integers

    def predicted(self, scale: float, shift: float) -> Floats:
        """p with these k and c."""
        ahead = np.maximum(self.away, 0.0) + shift * self.sigma * np.sqrt(0.25)
        return 2.0 * touch.student_t4_cdf(-ahead / (scale * self.sigma * np.sqrt(HOURS)))

    def loss(self, scale: float, shift: float) -> Floats:
        """Log loss of each question, nats."""
        p = np.clip(self.predicted(scale, shift), LEAST, 1.0 - LEAST)
        return -np.where(self.happened, np.log(p), np.log1p(-p))


def _asked_of(one: Set, number: int, symbol: str) -> Asked | None:
    parts = []
    for market, cohort in grids_on(one, symbol):
        happened, known = probability.outcome(cohort, HOUR_BARS)
        place = places(cohort, market)
        first = bar_number(market.span.start) + 1 + place.ravel()
        sigma = touch.forecast(
            market.known["volatility_forecast"][place.ravel()], first, DAY_BARS, CONFIG.risk.vol.weekend
        ).reshape(place.shape)
        lower = np.broadcast_to(np.array([[grid.lower] for grid in cohort.grids]), place.shape)
        away = log_ratio(cohort.close.ravel(), lower.ravel()).reshape(place.shape)
        used = known & (sigma > 0) & ~np.isnan(away)
        rows, _ = np.nonzero(used)
        day = np.array([grid.activated_at.toordinal() for grid in cohort.grids], np.int64)[rows]
        parts.append(Asked(away[used], sigma[used], happened[used], day, np.full(day.size, number, np.int64)))
    return parts[0] if parts else None


def asked_of(one: Set, pool: ProcessPoolExecutor) -> Asked:
    """All questions of a set."""
    symbols = one.markets()
    found = list(pool.map(_asked_of, [one] * len(symbols), range(len(symbols)), symbols))
    return _joined([part for part in found if part is not None])


def _joined(parts: list[Asked]) -> Asked:
    names = Asked.__dataclass_fields__
    return Asked(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def fit(asked: Asked) -> tuple[float, float, float]:
    """k and c of the least log loss, and the k of the least without a correction."""
    losses = {(k, c): asked.loss(k, c).mean() for k in SCALES.tolist() for c in SHIFTS.tolist()}
    scale, shift = min(losses, key=losses.__getitem__)
    alone = min(SCALES.tolist(), key=lambda k: losses[k, 0.0])
    return scale, shift, alone


def gain(asked: Asked, scale: float, shift: float) -> tuple[float, float, float]:
    """What the log loss falls against BEFORE, thousandths of a nat, and its interval."""
    grids, grid = np.unique(np.column_stack([asked.market, asked.day]), axis=0, return_inverse=True)
    less = asked.loss(*BEFORE) - asked.loss(scale, shift)
    sums, counts = np.bincount(grid, less), np.bincount(grid)
    weights = resample.draws(grids[:, 1] - grids[:, 1].min(), grids[:, 0])
    values = 1e3 * (weights @ sums) / (weights @ counts)
    return float(values[0]), *resample.interval(values[1:])


def near(asked: Asked, scale: float, shift: float) -> float:
    """What is said near the bound."""
    return float(asked.predicted(scale, shift)[_near(asked)].mean())


def _near(asked: Asked) -> Flags:
    return np.asarray((asked.away > 0) & (asked.away < NEAR * asked.sigma * np.sqrt(HOURS)))


def _auc(asked: Asked, scale: float, shift: float) -> float:
    ranks = np.unique(asked.predicted(scale, shift), return_inverse=True)[1]
    with_it = np.bincount(ranks[asked.happened], minlength=ranks.max() + 1).astype(float)
    without = np.bincount(ranks[~asked.happened], minlength=ranks.max() + 1).astype(float)
    return float(scores.auc(with_it, without))


@dataclass(frozen=True)
class Correction:
    """What was found.

    Attributes:
        text: for the document.
        gain: of the fitted k and c over the six sets, thousandths of a nat, with its interval.
        came: near the bound, over the six sets: how often the break came.
        said: what is said there with the fitted k and c.
        said_before: what was said before.
    """

    text: str
    gain: tuple[float, float, float]
    came: float
    said: float
    said_before: float


def measure(pool: ProcessPoolExecutor) -> Correction:
    """Fits, and judges on every set."""
    fitted_on = asked_of(PARTS[0], pool)
    scale, shift, alone = fit(fitted_on)
    sets = {one.name: asked_of(one, pool) for one in (*SETS, PARTS[1], *FRESH)}
    main = [sets[one.name] for one in SETS]
    offsets = np.cumsum([0, *(int(part.market.max()) + 1 for part in main)]).tolist()
    together = _joined(
        [replace(part, market=part.market + offset) for part, offset in zip(main, offsets, strict=False)]
    )
    tried = ((scale, shift), METHOD, (alone, 0.0))
    rows = []
    for name, asked in {f"{PARTS[0].name} (fitted on)": fitted_on, **sets, "the six sets together": together}.items():
        close = _near(asked)
        rows.append(
            [
                name,
                f"{asked.away.size:,}",
                *(
                    f"{value:+.2f} ({low:+.2f} … {high:+.2f})"
                    for value, low, high in (gain(asked, *one) for one in tried)
                ),
                *(f"{_auc(asked, *one):.4f}" for one in (BEFORE, (scale, shift))),
                f"{asked.happened[close].mean():.3f}",
                *(f"{near(asked, *one):.3f}" for one in (BEFORE, (scale, shift), METHOD)),
            ]
        )
    head = ["set", "questions", *(f"k {k:.2f}, c {c:.2f}" for k, c in tried)]
    head += ["AUC before", "AUC fitted", "near: came", "said before", "said, fitted", "said, the method's"]
    text = (
        "p = 2 F4(-(max(0, d) + c sigma sqrt(1/4)) / (k sigma sqrt(24))). Fitted on KuCoin, January to August 2025 "
        f"({fitted_on.away.size:,} questions, one every hour of a grid's life), by log loss: k {scale:.2f}, c "
        f"{shift:.2f}; without a correction k {alone:.2f}; before k {BEFORE[0]:.2f}. The method has k {METHOD[0]:.2f}, "
        f"c {METHOD[1]:.2f}. Gains are in thousandths of a nat a question, against before; near is nearer to the bound "
        "than half a standard deviation of the next 24 hours. Much of the gain comes from the few hours with one close "
        "below the bound: the break did not always follow, and a probability of 1 is surely wrong.\n\n"
        f"{markdown(head, rows)}"
    )
    return Correction(
        text,
        gain(together, scale, shift),
        float(together.happened[_near(together)].mean()),
        near(together, scale, shift),
        near(together, *BEFORE),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the text; default: stdout")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        text = measure(pool).text + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
