"""The evaluation detects nonsense: no edge where there is none, a large one for who sees the future, no direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mm_dagster.bars import DAY_BARS
from mm_dagster.evaluation import alarms, quality
from mm_dagster.evaluation.cohort import NEVER, Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import measured_markets
from mm_dagster.evaluation.placebo import flip
from mm_dagster.evaluation.quality import Judged, judge
from mm_dagster.evaluation.signals import CONTROL, LOW_POSITION, Signals, signals_of
from mm_dagster_tests.evaluation.walks import CONFIG, SYMBOLS, days_of, walk

DAYS = 150
LATEST = ("confirmed", "LATEST_ACCEPTABLE_EXIT")
HOLD = (CONTROL, "hold_to_stop")
Heard = list[tuple[Cohort, Signals]]


def heard(candles: pl.DataFrame) -> Heard:
    """The grids of every market, and what was said of them."""
    days = days_of(DAYS)
    found = []
    for market in measured_markets(SYMBOLS, candles, days, CONFIG):
        cohort = cohort_of(market, open_daily(market, days, CONFIG.evaluation), 14 * DAY_BARS)
        found.append((cohort, signals_of(cohort, market, CONFIG)))
    return found


@pytest.fixture(scope="module")
def candles() -> pl.DataFrame:
    return pl.concat([walk(symbol, DAYS, seed) for seed, symbol in enumerate(SYMBOLS)])


@pytest.fixture(scope="module")
def chance(candles: pl.DataFrame) -> Heard:
    return heard(candles)


def figures(judged: list[Judged], signals: list[quality.Name]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Value and interval by signal and metric."""
    frame = quality.measure(judged, "confirmed", signals=[*signals, HOLD])
    return {(row[1], row[2]): row[3:6] for row in frame.iter_rows()}


def judged_as(heard: Heard, say: Iterator[np.ndarray]) -> list[Judged]:
    """The cohorts, with one signal that says what is given, and the controls that it is held against."""
    return [
        judge(
            cohort,
            replace(signals, alarms={LATEST: alarm, **{name: signals.alarms[name] for name in (HOLD, LOW_POSITION)}}),
        )
        for (cohort, signals), alarm in zip(heard, say, strict=True)
    ]


def test_the_walk_gives_grids_that_break_and_grids_that_do_not(chance: Heard) -> None:
    broke = np.concatenate([cohort.broken <= cohort.last for cohort, _ in chance])
    assert broke.size > 250
    assert 0.2 < broke.mean() < 0.8


def test_shuffled_signals_have_no_edge_and_uniform_p_values(chance: Heard) -> None:
    """What was said of the grids of one date is put to those of another, of all markets alike."""
    generator = np.random.default_rng(7)
    judged = [judge(cohort, signals) for cohort, signals in chance]
    pool = quality.Pool(judged)
    exits = [one.exits[LATEST] for one in judged]
    by_shift = np.nanmean(pool.shifted(exits), axis=1)
    by_permutation = pool.permuted(exits).mean(axis=1)
    shifted, permuted = [], []
    for _ in range(60):
        shift = int(generator.integers(1, judged[0].day.size))
        shifted.append(quality.p_value(pool.equity([np.roll(one, shift) for one in exits]).mean(), by_shift))
        mixed = [generator.permutation(one) for one in exits]
        permuted.append(quality.p_value(pool.equity(mixed).mean(), by_permutation))
    for found in (shifted, permuted):
        assert stats.kstest(found, "uniform").pvalue > 0.001
        assert np.mean(np.array(found) <= 0.05) <= 0.2


def test_shuffled_alarms_know_nothing_of_the_breaks(chance: Heard) -> None:
    generator = np.random.default_rng(3)
    mixed = [
        replace(signals, probability=signals.probability[generator.permutation(len(cohort.grids))])
        for cohort, signals in chance
    ]
    judged = [judge(cohort, signals) for (cohort, _), signals in zip(chance, mixed, strict=True)]
    found = figures(judged, [LATEST])
    _, low, high = found["p_break_low_24h", "auc"]
    assert low < 0.5 < high
    assert found["p_break_low_24h", "brier_skill"][2] < 0.05
    assert found["p_break_low_24h", "log_loss_gain"][2] < 0


def test_an_oracle_that_sees_the_break_an_hour_ahead_is_right_and_early_every_time(chance: Heard) -> None:
    column = np.arange(14 * DAY_BARS + 1)
    say = ((column >= cohort.broken[:, None] - 4) & (cohort.broken[:, None] != NEVER) for cohort, _ in chance)
    found = figures(judged_as(chance, say), [LATEST])
    name = LATEST[1]
    assert found[name, "precision"][0] > 0.95
    assert found[name, "recall"][0] > 0.99
    assert found[name, "lead_p50_hours"][0] == 1.0
    better = found[name, "shortfall_5pct"][0] - found["hold_to_stop", "shortfall_5pct"][0]
    assert better > 1


def test_an_oracle_that_leaves_at_the_best_moment_has_a_large_edge(chance: Heard) -> None:
    column = np.arange(14 * DAY_BARS + 1)
    say = (column >= cohort.left.argmax(axis=1)[:, None] for cohort, _ in chance)
    found = figures(judged_as(chance, say), [LATEST])
    name = LATEST[1]
    assert found[name, "gain_vs_hold"][1] > 1
    assert found[name, "gain_vs_null"][1] > 1
    assert found[name, "p_null"][0] < 0.02
    assert found[name, "p_random"][0] < 0.02


def test_an_oracle_of_the_outcome_ranks_perfectly(chance: Heard) -> None:
    column = np.arange(14 * DAY_BARS + 1)
    judged = [
        judge(
            cohort,
            replace(signals, probability=np.where(cohort.broken_low[:, None] <= column + DAY_BARS, 0.99, 0.01)),
        )
        for cohort, signals in chance
    ]
    found = figures(judged, [LATEST])
    assert found["p_break_low_24h", "auc"][0] == pytest.approx(1.0)
    assert found["p_break_low_24h", "brier_skill"][0] > 0.99
    assert found["p_break_low_24h", "log_loss_gain"][1] > 0.05


def test_on_a_random_walk_no_state_is_claimed_to_earn_more_than_chance(chance: Heard) -> None:
    found = figures([judge(cohort, signals) for cohort, signals in chance], [LATEST])
    _, low, high = found[LATEST[1], "gain_vs_null"]
    assert low < 0 < high


def test_with_flipped_signs_there_is_no_direction(candles: pl.DataFrame) -> None:
    """A market that rises by 60 % loses that when every bar may go either way: breaks come on both sides alike."""
    days = np.arange(candles.height // len(SYMBOLS)) / DAY_BARS
    drift = pl.Series(np.tile(np.exp(days * 0.006), len(SYMBOLS)))
    rising = candles.with_columns(pl.col(name) * drift for name in ("open", "high", "low", "close"))
    sides = {}
    for name, market in {"rising": rising, "placebo": flip(rising, seed=11)}.items():
        cohorts = [cohort for cohort, _ in heard(market)]
        low = sum(int(np.count_nonzero(one.broken_low < one.broken_high)) for one in cohorts)
        high = sum(int(np.count_nonzero(one.broken_high < one.broken_low)) for one in cohorts)
        sides[name] = low / (low + high)
    assert sides["rising"] < 0.4
    assert 0.4 < sides["placebo"] < 0.6


def test_a_grid_that_is_held_runs_to_its_stop_and_no_longer(chance: Heard) -> None:
    judged = judged_as(chance, (np.zeros_like(signals.probability, np.bool_) for _, signals in chance))
    ran = np.concatenate([np.minimum(cohort.stopped, cohort.last) for cohort, _ in chance]) / 4
    assert (ran < 14 * 24).any()
    assert figures(judged, [LATEST])["hold_to_stop", "hours_held"][0] == pytest.approx(ran.mean())


def test_the_lead_of_an_alarm_that_always_stands_is_the_whole_life(chance: Heard) -> None:
    judged = judged_as(chance, (np.ones_like(signals.probability, np.bool_) for _, signals in chance))
    found = alarms.pooled([one.alarms[LATEST] for one in judged])
    broke = found.broke
    assert (found.true + found.false + found.open <= 1).all()
    assert found.lead[broke] == pytest.approx(found.weeks[broke] * 168)
