"""Figures of a probability, against what others compute, and against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mm_dagster.evaluation import probability, resample
from mm_dagster.evaluation.probability import Samples, figures, summarise

GRIDS = 40


def samples(seed: int = 0, *, honest: bool = True) -> Samples:
    """Predictions of events that happen as often as they say, or independently of them."""
    generator = np.random.default_rng(seed)
    count = 4_000
    predicted = generator.beta(1, 4, count)
    chance = predicted if honest else generator.permutation(predicted)
    grid = np.sort(generator.integers(0, GRIDS, count))
    return Samples(grid, predicted, generator.random(count) < chance, generator.random(count), grid % 2)


ONES = np.ones((1, GRIDS))


def test_the_auc_is_that_of_mann_and_whitney() -> None:
    known = samples()
    p, y = known.predicted, known.happened
    expected = stats.mannwhitneyu(p[y], p[~y]).statistic / (y.sum() * (~y).sum())
    assert figures(summarise(known, GRIDS, ranks=p.size), ONES)["auc"][0] == pytest.approx(expected, abs=1e-12)
    assert figures(summarise(known, GRIDS), ONES)["auc"][0] == pytest.approx(expected, abs=5e-4)


def test_brier_skill_and_calibration_error_by_hand() -> None:
    known = samples()
    p, y = known.predicted, known.happened
    found = figures(summarise(known, GRIDS), ONES)
    base = y.mean()
    assert found["base_rate"][0] == base
    assert found["brier_skill"][0] == pytest.approx(1 - np.mean((p - y) ** 2) / (base * (1 - base)))
    by_hand = sum(abs(p[(p * 10).astype(int) == k].sum() - y[(p * 10).astype(int) == k].sum()) for k in range(10))
    assert found["ece"][0] == pytest.approx(by_hand / p.size)


def test_weights_are_repetitions() -> None:
    known = samples()
    times = np.arange(GRIDS) % 3
    repeated = np.repeat(np.arange(known.grid.size), times[known.grid])
    again = Samples(*(getattr(known, name)[repeated] for name in Samples.__dataclass_fields__))
    weighted = figures(summarise(known, GRIDS), times[None, :].astype(float))
    plain = figures(summarise(again, GRIDS, ranks=100_000), ONES)
    for name in ("base_rate", "brier_skill", "ece"):
        assert weighted[name][0] == pytest.approx(plain[name][0])
    assert weighted["auc"][0] == pytest.approx(plain["auc"][0], abs=1e-3)


def test_an_honest_probability_gains_on_the_position_and_a_shuffled_one_does_not() -> None:
    weights = resample.draws(np.arange(GRIDS) * 7, np.arange(GRIDS) % 6, 200)
    gains = {
        honest: figures(summarise(samples(honest=honest), GRIDS), weights)["log_loss_gain"] for honest in (True, False)
    }
    assert resample.interval(gains[True][1:])[0] > 0
    assert resample.interval(gains[False][1:])[1] < 0


def test_the_position_is_judged_on_the_half_that_it_was_not_told() -> None:
    known = samples()
    only = Samples(known.grid, known.predicted, known.fold == 0, known.position, known.fold)
    told = probability.of_position(only)
    assert told[known.fold == 0].max() < 0.05
    assert told[known.fold == 1].min() > 0.95


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        effects = np.repeat(generator.normal(0, 1, 30), 14)
        values = effects + generator.normal(0, 1, effects.size)
        weights = resample.draws(np.arange(effects.size), np.zeros(effects.size, np.int64), 200)
        low, high = resample.interval(((weights @ values) / weights.sum(axis=1))[1:])
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_markets_are_drawn_only_where_there_are_enough() -> None:
    days = np.zeros(12, np.int64)
    few, many = np.arange(12) % 4, np.arange(12) % 6
    assert (resample.draws(days, few, 50) == 1).all()
    drawn = resample.draws(days, many, 50)
    assert (drawn[0] == 1).all()
    assert not (drawn[1:] == 1).all()
    assert (drawn[:, many == 2].std(axis=1) == 0).all()
