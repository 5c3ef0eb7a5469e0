"""Predictions against what happened: small cases by hand, a plain reference, synthetic markets whose truth is known."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mm_dagster.arrays import log_ratio
from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.risk import RiskConfig
from mm_dagster.evaluation import calibration
from mm_dagster.evaluation.calibration import calibrate, observe, verdict_of, wilson_interval
from mm_dagster.grid import touch
from mm_dagster_tests.grid.synthetic import START
from mm_dagster_tests.grid.test_touch_on_real_candles import candles_of, forecast

LOWER, UPPER, STOP = 100.0, 120.0, 90.0


def bars(closes: list[float | None], lows: list[float | None] | None = None, symbol: str = "ETH-USDT") -> pl.DataFrame:
    """Candles of which the first closes at START."""
    span = Span(START - BAR, START + (len(closes) - 1) * BAR)
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(closes),
            "close_time": span.open_times() + BAR,
            "close": pl.Series(closes, dtype=pl.Float64),
            "low": pl.Series(closes if lows is None else lows, dtype=pl.Float64),
        }
    )


def rows(count: int, p: float | list[float | None] = 0.3, hours: int = 1, event: str = "break_low") -> pl.DataFrame:
    """Rows of grid_risk, one a bar from START on."""
    times = Span(START - BAR, START + (count - 1) * BAR).open_times() + BAR
    return pl.DataFrame({"as_of": times}).with_columns(
        pl.lit("ETH-USDT").alias("symbol"),
        pl.lit("eth-v3").alias("grid_id"),
        pl.lit(START, dtype=TIME).alias("activated_at"),
        pl.Series(f"p_{event}_{hours}h", p if isinstance(p, list) else [p] * count, dtype=pl.Float64),
    )


def look(closes: list[float | None], lows: list[float | None] | None = None, event: str = "break_low") -> pl.DataFrame:
    """Samples of one-hour predictions over these bars, a row at each."""
    risk = rows(len(closes), event=event)
    return observe(risk, bars(closes, lows), event=event, lower=LOWER, upper=UPPER, stop=STOP, hours=1)  # type: ignore[arg-type]


IN, OUT, ABOVE = 110.0, 99.0, 121.0


# what happened --------------------------------------------------------------------------------------------------------


def test_two_closes_below_in_a_row_within_the_hour_are_a_break() -> None:
    samples = look([IN, IN, OUT, OUT, IN, IN, IN, IN, IN])
    assert samples["happened"].to_list() == [True, False, None]
    assert samples["over"].to_list() == [False, True, True]


def test_one_close_below_or_two_apart_are_none() -> None:
    assert look([IN, OUT, IN, OUT, IN, IN, IN, IN, IN])["happened"].to_list() == [False, False, None]


def test_the_bar_that_closes_at_as_of_may_be_the_first_of_the_two() -> None:
    assert look([IN, IN, IN, IN, OUT, OUT, IN, IN, IN])["happened"].to_list() == [False, True, None]


def test_a_break_that_ends_just_after_the_hour_is_too_late() -> None:
    assert look([IN, IN, IN, IN, OUT, OUT, IN, IN, IN])["happened"][0] is False
    assert look([IN, IN, IN, OUT, OUT, IN, IN, IN, IN])["happened"][0] is True


def test_breaks_above_are_counted_above() -> None:
    closes = [IN, IN, ABOVE, ABOVE, IN, IN, IN, IN, IN]
    assert look(closes, event="break_high")["happened"].to_list() == [True, False, None]
    assert look(closes, event="break_low")["happened"].to_list() == [False, False, None]


def test_the_stop_is_touched_by_a_low_that_equals_it() -> None:
    closes: list[float | None] = [IN] * 9
    assert look(closes, [IN, IN, STOP, *[IN] * 6], event="stop")["happened"].to_list() == [True, False, None]
    assert look(closes, [IN, IN, STOP + 0.01, *[IN] * 6], event="stop")["happened"].to_list() == [False, False, None]


def test_after_the_stop_the_grid_is_over_for_every_event() -> None:
    for event in calibration.EVENTS:
        samples = look([IN] * 9, [IN, IN, STOP, *[IN] * 6], event=event)
        assert samples["over"].to_list() == [False, True, True]


def test_what_the_first_bar_did_came_before_the_grid() -> None:
    samples = look([OUT, OUT, *[IN] * 7], [STOP, *[IN] * 8])
    assert samples["over"].to_list() == [False, True, True]
    assert look([OUT, *[IN] * 8], [STOP, *[IN] * 8])["over"].to_list() == [False, False, False]


def test_an_hour_with_a_hole_is_censored_even_when_the_break_was_seen() -> None:
    assert look([IN, OUT, OUT, None, *[IN] * 5])["happened"].to_list() == [None, False, None]
    assert look([IN, OUT, None, OUT, *[IN] * 5])["happened"].to_list() == [None, False, None]


def test_a_bar_without_a_row_is_not_known() -> None:
    candles = bars([IN] * 9).filter(pl.col("close_time") != START + 2 * BAR)
    samples = observe(rows(9), candles, event="break_low", lower=LOWER, upper=UPPER, stop=STOP, hours=1)
    assert samples["happened"].to_list() == [None, False, None]


def test_rows_are_looked_at_on_the_clock_hour_wherever_the_episode_starts() -> None:
    risk = rows(12)[1:]
    samples = observe(risk, bars([IN] * 16), event="break_low", lower=LOWER, upper=UPPER, stop=STOP, hours=1)
    assert samples["as_of"].to_list() == [START + timedelta(hours=1), START + timedelta(hours=2)]


def test_other_markets_and_the_order_of_rows_do_not_matter() -> None:
    closes = [IN, IN, OUT, OUT, IN, IN, IN, IN, IN]
    candles = pl.concat([bars([OUT] * 9, symbol="BTC-USDT"), bars(closes)]).sample(fraction=1, shuffle=True, seed=3)
    risk = rows(9).sample(fraction=1, shuffle=True, seed=4)
    samples = observe(risk, candles, event="break_low", lower=LOWER, upper=UPPER, stop=STOP, hours=1)
    assert samples.equals(look(closes))


def test_rows_of_two_episodes_at_once_are_refused() -> None:
    both = pl.concat([rows(4), rows(4).with_columns(grid_id=pl.lit("eth-v4"))])
    with pytest.raises(ValueError, match=r"2 episodes \(eth-v3 since .*, eth-v4 since .*\); give those of one"):
        observe(both, bars([IN] * 9), event="stop", lower=LOWER, upper=UPPER, stop=STOP)


def test_no_rows_make_no_samples() -> None:
    samples = observe(rows(4)[:0], bars([IN] * 9), event="stop", lower=LOWER, upper=UPPER, stop=STOP)
    assert samples.schema == calibration.SAMPLE_SCHEMA
    assert samples.is_empty()


@settings(max_examples=60)
@given(
    closes=st.lists(st.sampled_from([IN, OUT, ABOVE, 88.0, None]), min_size=9, max_size=40),
    event=st.sampled_from(sorted(calibration.EVENTS)),
)
def test_any_path_is_read_as_a_plain_loop_would(closes: list[float | None], event: str) -> None:
    samples = look(closes, event=event)
    for place, (happened, over) in enumerate(samples.select("happened", "over").iter_rows()):
        now = 4 * place
        ends = [one for one in range(1, len(closes)) if _ends(closes, one, event)]
        stops = [one for one in range(1, len(closes)) if _ends(closes, one, "stop")]
        ahead = closes[now + 1 : now + 5]
        whole = len(ahead) == 4 and None not in ahead
        assert over == any(one <= now for one in ends + stops)
        assert happened == (any(now < one <= now + 4 for one in ends) if whole else None)


def _ends(closes: list[float | None], place: int, event: str) -> bool:
    before, now = closes[place - 1], closes[place]
    if now is None:
        return False
    if event == "stop":
        return now <= STOP
    if before is None:
        return False
    return max(before, now) < LOWER if event == "break_low" else min(before, now) > UPPER


# the comparison -------------------------------------------------------------------------------------------------------


def samples_of(predicted: list[float | None], happened: list[bool | None], hours_apart: int = 24) -> pl.DataFrame:
    """Samples, so far apart that each is independent."""
    times: list[datetime] = [START + timedelta(hours=hours_apart * place) for place in range(len(predicted))]
    return pl.DataFrame(
        {"as_of": times, "predicted": predicted, "happened": happened, "over": [False] * len(predicted)},
        schema=calibration.SAMPLE_SCHEMA,
    )


def test_a_small_case_by_hand() -> None:
    result = calibrate(
        samples_of([0.02, 0.04, 0.15, 0.15, 0.65, 1.0], [False, False, False, True, True, True]), event="stop"
    )
    first, third, seventh, last = (result.bins[place] for place in (0, 2, 7, 10))
    assert (first.count, first.observed) == (2, 0.0)
    assert first.predicted == pytest.approx(0.03)
    assert (third.low, third.high, third.count, third.predicted, third.observed) == (0.1, 0.2, 2, 0.15, 0.5)
    assert (seventh.low, seventh.predicted, seventh.observed) == (0.6, 0.65, 1.0)
    assert (last.count, last.predicted) == (1, 1.0)
    assert result.bins[1].observed is None
    assert sum(one.count for one in result.bins) == result.whole.count == 6
    # |.03 - 0| 2/6 + |.15 - .5| 2/6 + |.65 - 1| 1/6 + 0
    assert result.expected_calibration_error == pytest.approx((0.06 + 0.7 + 0.35) / 6)
    # .0004 + .0016 + .0225 + .7225 + .1225 + 0
    assert result.brier_score == pytest.approx(0.8695 / 6)
    assert result.brier_skill == pytest.approx(1 - 0.8695 / 6 / 0.25)
    # 9 pairs: all are in order but .15 against .15, which counts half.
    assert result.auc == pytest.approx(8.5 / 9)
    assert (result.likely.count, result.likely.observed) == (2, 1.0)


def test_what_is_left_out_is_counted_once_in_the_order_over_unknown_censored() -> None:
    samples = samples_of([0.5, None, None, 0.5, 0.5], [True, None, True, None, None]).with_columns(
        over=pl.Series([False, False, True, True, False])
    )
    result = calibrate(samples, event="stop")
    assert (result.whole.count, result.over, result.unknown, result.censored) == (1, 2, 1, 1)


def test_without_samples_nothing_is_claimed() -> None:
    result = calibrate(samples_of([], []), event="break_low")
    assert result.whole.observed is result.expected_calibration_error is result.brier_skill is result.auc is None
    passed, sentence = verdict_of(result)
    assert passed
    assert sentence.startswith(
        "Too little data to judge the probability of two closes below the grid within 24 h: 0 hours"
    )


def test_where_nothing_happened_skill_and_auc_are_not_known() -> None:
    result = calibrate(samples_of([0.1, 0.2], [False, False]), event="stop")
    assert result.brier_skill is result.auc is None
    assert result.brier_score == pytest.approx(0.025)


def test_hours_that_overlap_are_one_look() -> None:
    hourly = calibrate(samples_of([0.35] * 48, [True] * 48, hours_apart=1), event="stop")
    assert hourly.whole.count == 48
    assert hourly.whole.horizons == 2
    daily = calibrate(samples_of([0.35] * 48, [True] * 48), event="stop")
    assert daily.whole.horizons == 48
    assert hourly.whole.lower is not None
    assert daily.whole.lower is not None
    assert hourly.whole.lower < 0.4 < 0.9 < daily.whole.lower


def test_grids_at_the_same_time_are_one_look() -> None:
    one = samples_of([0.35] * 10, [True, False] * 5)
    assert calibrate(pl.concat([one, one, one]), event="stop").whole.horizons == 10


@pytest.mark.parametrize(("happened", "n"), [(0, 7), (3, 11), (11, 11), (40, 100)])
@pytest.mark.parametrize("coverage", [0.95, 0.995])
def test_the_interval_is_wilsons(happened: int, n: int, coverage: float) -> None:
    oracle = stats.binomtest(happened, n).proportion_ci(coverage, method="wilson")
    assert wilson_interval(happened / n, n, coverage) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


predictions = st.lists(
    st.tuples(st.sampled_from([0.0, 0.04, 0.05, 0.2, 0.3, 0.31, 0.65, 0.9, 1.0]), st.booleans()),
    min_size=2,
    max_size=40,
)


@settings(max_examples=60)
@given(drawn=predictions, seed=st.integers(0, 9))
def test_the_order_of_samples_changes_no_bit(drawn: list[tuple[float, bool]], seed: int) -> None:
    samples = samples_of([p for p, _ in drawn], [happened for _, happened in drawn], hours_apart=5)
    shuffled = samples.sample(fraction=1, shuffle=True, seed=seed)
    assert calibrate(shuffled, event="stop") == calibrate(samples, event="stop")


@settings(max_examples=60)
@given(drawn=predictions)
def test_auc_counts_pairs_and_ties_half(drawn: list[tuple[float, bool]]) -> None:
    result = calibrate(samples_of([p for p, _ in drawn], [happened for _, happened in drawn]), event="stop")
    yes, no = [p for p, happened in drawn if happened], [p for p, happened in drawn if not happened]
    if not yes or not no:
        assert result.auc is None
        return
    assert result.auc == pytest.approx(stats.mannwhitneyu(yes, no).statistic / (len(yes) * len(no)))


@settings(max_examples=60)
@given(drawn=predictions)
def test_bins_hold_every_sample_and_its_own_mean(drawn: list[tuple[float, bool]]) -> None:
    result = calibrate(samples_of([p for p, _ in drawn], [happened for _, happened in drawn]), event="stop")
    assert sum(one.count for one in result.bins) == len(drawn)
    for one, (low, high) in zip(result.bins, pairwise(calibration.EDGES), strict=True):
        assert (one.low, one.high) == (low, high)
        if one.predicted is not None and one.observed is not None:
            assert low <= one.predicted <= high
            assert one.lower is not None
            assert one.upper is not None
            assert one.lower <= one.observed + 1e-12
            assert one.observed - 1e-12 <= one.upper


# the verdict ----------------------------------------------------------------------------------------------------------


def test_too_few_independent_spans_pass_and_say_so() -> None:
    passed, sentence = verdict_of(calibrate(samples_of([0.9] * 400, [False] * 400, hours_apart=1), event="stop"))
    assert passed
    assert sentence == (
        "Too little data to judge the probability of a low at or below the stop within 24 h: 400 hours looked at, "
        "17 spans of 24 h that do not overlap; 20 are needed."
    )


def test_a_probability_that_is_far_off_fails_with_figures() -> None:
    samples = samples_of([0.35] * 60, [place % 10 < 7 for place in range(60)])
    passed, sentence = verdict_of(calibrate(samples, event="break_low"))
    assert not passed
    assert sentence == (
        "The probability of two closes below the grid within 24 h is too low: of 60 hours with 30 % or more predicted "
        "(mean 35 %), it followed in 70 % (95 % interval 57 to 80 %) "
        "(60 hours looked at, 60 spans of 24 h that do not overlap)."
    )


def test_a_sure_but_small_difference_passes() -> None:
    samples = samples_of([0.12] * 4000, [place % 20 == 0 for place in range(4000)])
    result = calibrate(samples, event="break_low")
    assert result.whole.upper is not None
    assert result.whole.upper < 0.12
    assert verdict_of(result)[0]


@pytest.fixture(scope="module")
def synthetic_market() -> pl.DataFrame:
    """Samples of a SYNTHETIC market: a random walk whose lows are drawn exactly (Brownian bridge), so that the
    probability of touching a stop is known: 2 Phi(-d / (sigma sqrt(24))) (reflection principle)."""
    days, sigma, random = 160, 0.008, np.random.default_rng(7)
    step = sigma / 2
    path = np.cumsum(np.concatenate([[0.0], random.normal(0, step, 96 * days)]))
    before, after = path[:-1], path[1:]
    least = (
        before + after - np.sqrt((after - before) ** 2 - 2 * step**2 * np.log(random.uniform(size=after.size)))
    ) / 2
    candles = bars(np.exp(after).tolist(), np.exp(least).tolist())
    normal, episodes = NormalDist(), []
    for opened in range(0, after.size - 96, 96):
        stop = after[opened] - random.uniform(0.01, 0.08)
        distances = np.maximum(0, after[opened : opened + 7 * 96] - stop)
        known = [2 * normal.cdf(-distance / (sigma * math.sqrt(24))) for distance in distances]
        risk = rows(len(known), known, hours=24, event="stop").with_columns(
            as_of=candles["close_time"][opened : opened + len(known)]
        )
        nearby = candles[opened : opened + len(known) + 96]
        episodes.append(observe(risk, nearby, event="stop", lower=9, upper=10, stop=math.exp(stop)))
    return pl.concat(episodes)


def test_true_probabilities_of_a_synthetic_market_are_honest(synthetic_market: pl.DataFrame) -> None:
    result = calibrate(synthetic_market, event="stop")
    passed, sentence = verdict_of(result)
    assert passed, sentence
    assert " is honest as far as can be seen: of " in sentence
    assert result.expected_calibration_error is not None
    assert result.expected_calibration_error < 0.03
    assert result.brier_skill is not None
    assert result.brier_skill > 0.2
    assert result.auc is not None
    assert result.auc > 0.8
    held = [one.lower <= one.predicted <= one.upper for one in result.bins if one.horizons >= 10]  # type: ignore[operator]
    assert sum(held) >= len(held) - 1


@pytest.mark.parametrize(("factor", "word"), [(2.0, "too high"), (0.5, "too low")])
def test_doubled_and_halved_probabilities_are_detected(
    synthetic_market: pl.DataFrame, factor: float, word: str
) -> None:
    bent = synthetic_market.with_columns(predicted=(factor * pl.col("predicted")).clip(0, 1))
    passed, sentence = verdict_of(calibrate(bent, event="stop"))
    assert not passed
    assert word in sentence


def test_the_touch_probability_is_honest_where_it_decides_on_real_candles_and_three_times_it_is_not(
    shared_data: Path,
) -> None:
    candles = candles_of(shared_data, "SOL-USDT")
    close, low, times = candles["close"].to_numpy(), candles["low"].to_numpy(), candles["close_time"]
    sigma, scales = forecast(candles), RiskConfig().touch
    episodes = []
    for opened in range(4 * 1500, close.size - 8 * 96, 2 * 96):
        lower = min(low[opened - 384 : opened].min(), close[opened] * 0.98) * 0.995
        upper = close[opened] * 2
        live = slice(opened, opened + 7 * 96)
        distance = log_ratio(close[live], np.full(7 * 96, lower))
        p = touch.probability(distance, sigma[live], 24, scales.k_break.h24, scales.continuity)
        risk = rows(7 * 96, p.tolist(), hours=24).with_columns(as_of=times[live])
        nearby = candles[opened : opened + 8 * 96]
        episodes.append(observe(risk, nearby, event="break_low", lower=lower, upper=upper, stop=lower * 0.97))
    samples = pl.concat(episodes)
    result = calibrate(samples, event="break_low")
    assert result.whole.count > 10_000
    assert result.auc is not None
    assert result.auc > 0.85
    assert result.expected_calibration_error is not None
    assert result.expected_calibration_error < 0.03
    likely = result.likely
    assert likely.horizons > 50
    assert likely.predicted is not None
    assert likely.lower is not None
    assert likely.upper is not None
    assert likely.lower < likely.predicted < likely.upper
    tripled = samples.with_columns(predicted=(3 * pl.col("predicted")).clip(0, 1))
    assert not verdict_of(calibrate(tripled, event="break_low"))[0]
