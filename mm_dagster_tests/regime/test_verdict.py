"""The verdict: the scores as the method has them, and a word that moves only when it should."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, Span
from mm_dagster.config.regime import Hysteresis, Logits, RegimeConfig
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features, verdict
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS, RegimeFeatures, RegimeVerdict
from mm_dagster.tables.words import VERDICTS
from mm_dagster_tests.regime.markets import bits, real, warm

REGIME = RegimeConfig()
START = datetime(2025, 1, 1, tzinfo=UTC)
OK, WEAK, TRANSITION, TREND = VERDICTS

CALM = {
    "efficiency_ratio": 0.05,
    "adx": 12.0,
    "ema_12": 100.0,
    "ema_50": 100.1,
    "atr": 1.0,
    "swing_high": 1.0,
    "swing_low": -1.0,
    "variance_ratio_4_z": -1.0,
    "half_life": 6.0,
    "ou_tau": -4.0,
    "inside_range": True,
    "atr_expansion": 0.9,
    "bollinger_width_percentile": 0.2,
    "efficiency_ratio_4h": 0.05,
    "adx_4h": 12.0,
    "ema_12_4h": 100.0,
    "ema_50_4h": 100.1,
    "atr_4h": 2.0,
    "swing_high_4h": 1.0,
    "swing_low_4h": -1.0,
    "variance_ratio_4_z_4h": -1.0,
}
WILD = CALM | {
    "efficiency_ratio": 0.7,
    "adx": 45.0,
    "ema_12": 95.0,
    "swing_high": -1.0,
    "variance_ratio_4_z": 2.5,
    "half_life": math.inf,
    "ou_tau": 0.5,
    "efficiency_ratio_4h": 0.6,
    "adx_4h": 40.0,
    "ema_12_4h": 90.0,
    "swing_high_4h": -1.0,
    "variance_ratio_4_z_4h": 2.0,
}


def table(rows: list[dict], symbol: str = "ETH-USDT") -> pl.DataFrame:
    """Rows of features, one a bar from START on."""
    stamps = {"symbol": symbol, "config_hash": "x", "code_version": "1", "source": "recorded:x"}
    return RegimeFeatures.validate(
        pl.DataFrame(
            [
                dict.fromkeys(RegimeFeatures.column_names()) | stamps | {"as_of": START + (i + 1) * BAR} | row
                for i, row in enumerate(rows)
            ],
            schema=RegimeFeatures.create_empty().schema,
        )
    )


def bars(count: int) -> Span:
    return Span(START, START + count * BAR)


def textbook_scores(row: dict) -> dict:
    """Section 2 of the method with its default numbers, written out."""

    def u(x: float, m: float, s: float) -> float:
        z = (x - m) / s
        return 0.0 if z < -700 else 1 / (1 + math.exp(-z))

    def trend(suffix: str) -> float:
        slope = row[f"ema_12{suffix}"] - row[f"ema_50{suffix}"]
        swings = [row[f"swing_high{suffix}"], row[f"swing_low{suffix}"]]
        return (
            0.25 * u(row[f"efficiency_ratio{suffix}"], 0.35, 0.08)
            + 0.20 * u(row[f"adx{suffix}"], 25, 5)
            + 0.20 * u(abs(slope) / row[f"atr{suffix}"], 1.5, 0.5)
            + 0.15 * u(row[f"variance_ratio_4_z{suffix}"], 1, 0.7)
            + 0.20 * sum(one * slope > 0 for one in swings) / 2
        )

    t, t4 = trend(""), trend("_4h")
    speed = -math.log(row["half_life"]) if row["half_life"] > 0 else math.inf
    m = 0.6 * u(speed, -math.log(16), 0.4) * u(-row["ou_tau"], 2.57, 0.3)
    m += 0.4 * u(-row["variance_ratio_4_z"], 0, 0.7)
    i = 0.40 * row["inside_range"] + 0.35 * u(-row["atr_expansion"], -1.25, 0.1)
    i += 0.25 * u(-row["bollinger_width_percentile"], -0.8, 0.1)
    logits = [
        6 * ((m + i) / 2 - 0.55) - 6 * max(0.0, t - 0.35),
        0.0,
        6 * (t - 0.42) + 4 * (0.6 - i),
        9 * (t - 0.55) + 3 * (t4 - 0.5),
    ]
    odds = [math.exp(logit) for logit in logits]
    p = [one / sum(odds) for one in odds]
    raw = max(range(4), key=lambda k: (p[k], k))
    if raw == 3 and t4 < 0.45:
        raw = 2
    return {
        "trend_score": t,
        "trend_score_4h": t4,
        "mean_reversion_score": m,
        "range_score": i,
        "p_range_ok": p[0],
        "p_range_weak": p[1],
        "p_transition": p[2],
        "p_trend": p[3],
        "transition_probability": p[2] + p[3],
        "raw_verdict": VERDICTS[raw],
    }


def textbook_hysteresis(raws: list[str | None]) -> str:
    """The verdict after one window of raw verdicts."""
    current, seen = 1, []
    for raw in raws:
        if raw is None:
            continue
        seen.append(VERDICTS.index(raw))
        if len(seen) >= 2 and min(seen[-2:]) > current:
            current = min(seen[-2:])
        elif len(seen) >= 4 and max(seen[-4:]) < current:
            current = max(seen[-4:])
    return VERDICTS[current]


@pytest.fixture(scope="module")
def eth(shared_data: Path) -> pl.DataFrame:
    return real(shared_data)


@pytest.fixture(scope="module")
def spring(eth: pl.DataFrame) -> Span:
    return Span(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def measured(eth: pl.DataFrame, spring: Span) -> pl.DataFrame:
    return features.compute(eth, spring.back(HYSTERESIS_BARS - 1), VolatilityConfig())


@pytest.fixture(scope="module")
def judged(measured: pl.DataFrame, spring: Span) -> pl.DataFrame:
    return verdict.compute(measured, spring, REGIME)


def test_scores_and_probabilities_are_what_the_method_says(measured, judged):
    joined = judged.join(measured, on=["symbol", "as_of"]).gather_every(37)
    assert set(joined["raw_verdict"]) == set(VERDICTS)
    for row in joined.iter_rows(named=True):
        expected = textbook_scores(row)
        assert {name: row[name] for name in expected} == {
            name: value if isinstance(value, str) else pytest.approx(value, rel=1e-9, abs=1e-12)
            for name, value in expected.items()
        }


def test_the_word_is_the_fold_of_the_last_96_raw_ones(measured, spring, judged):
    wide = verdict.compute(measured, spring.back(HYSTERESIS_BARS - 1), REGIME)
    raws = wide["raw_verdict"].to_list()
    words = [textbook_hysteresis(raws[i : i + HYSTERESIS_BARS]) for i in range(judged.height)]
    assert judged["verdict"].to_list() == words
    assert set(words) == set(VERDICTS)


def test_confidence_is_the_named_probability_minus_the_best_other(judged):
    names = ("p_range_ok", "p_range_weak", "p_transition", "p_trend")
    for row in judged.gather_every(11).iter_rows(named=True):
        p = dict(zip(VERDICTS, (row[name] for name in names), strict=True))
        named = p.pop(row["verdict"])
        assert row["confidence"] == named - max(p.values())


def test_a_day_alone_has_the_same_bits_as_in_the_whole_season(eth, spring, judged):
    for number in (0, 41, 91):
        start = spring.start + timedelta(days=number)
        day = Span(start, start + timedelta(days=1))
        wide = day.back(HYSTERESIS_BARS - 1)
        alone = features.compute(warm(eth, day, WARMUP_BARS), wide, VolatilityConfig())
        assert bits(verdict.compute(alone, day, REGIME)) == bits(judged.filter(day.closes()))


def test_neither_order_nor_other_symbols_nor_more_history_matter(measured, judged, spring):
    last = Span(spring.end - 50 * BAR, spring.end)
    other = measured.with_columns(symbol=pl.lit("ADA-USDT"), adx=pl.col("adx") * 3)
    shuffled = pl.concat([measured, other]).sample(fraction=1.0, shuffle=True, seed=3)
    found = verdict.compute(shuffled, last, REGIME)
    assert found["symbol"].unique(maintain_order=True).to_list() == ["ADA-USDT", "ETH-USDT"]
    assert bits(found.filter(pl.col("symbol") == "ETH-USDT")) == bits(judged.filter(last.closes()))


def test_the_table_keeps_its_contract(judged):
    stamps = {"config_hash": pl.lit("x"), "code_version": pl.lit("1"), "source": pl.lit("recorded:x")}
    RegimeVerdict.validate(judged.with_columns(**stamps))


@pytest.mark.parametrize(
    ("raws", "expected"),
    [
        ([OK], WEAK),
        ([TREND], WEAK),
        ([OK] * 3, WEAK),
        ([OK] * 4, OK),
        ([TREND] * 2, TREND),
        ([TREND, TRANSITION], TRANSITION),
        ([TREND, WEAK, TREND], WEAK),
        ([TREND, TREND, OK, WEAK, OK], TREND),
        ([TREND, TREND, OK, WEAK, OK, OK], WEAK),
        ([TREND, TREND, TRANSITION, OK, OK, OK, OK], OK),
        ([TREND, TREND, OK, OK, None, OK, TRANSITION], TRANSITION),
        ([TREND, None, TREND], TREND),
        ([OK, None, OK, OK, None, OK], OK),
        ([TREND, TREND] + [WEAK] * 3 + [TREND] + [WEAK] * 3, TREND),
        ([TREND] * 2 + [None] * 94 + [TREND], TREND),
        ([TREND] * 2 + [None] * 95 + [TREND], WEAK),
    ],
)
def test_the_verdict_moves_up_on_two_and_down_on_four(raws, expected):
    numbers = np.array([-1 if raw is None else VERDICTS.index(raw) for raw in raws])
    assert VERDICTS[verdict._folded(numbers, 2, 4)[-1]] == expected


@settings(max_examples=40)
@given(st.lists(st.sampled_from([None, *VERDICTS]), min_size=1, max_size=250))
def test_the_fold_depends_on_the_last_96_raw_verdicts_alone(raws):
    numbers = np.array([-1 if raw is None else VERDICTS.index(raw) for raw in raws])
    whole = verdict._folded(numbers, 2, 4)
    assert whole[-1] == verdict._folded(numbers[-HYSTERESIS_BARS:].copy(), 2, 4)[-1]
    assert VERDICTS[whole[-1]] == textbook_hysteresis(raws[-HYSTERESIS_BARS:])


def test_rows_that_are_absent_count_as_unknown():
    rows = table([WILD, CALM, WILD])
    found = verdict.compute(rows.filter(pl.col("as_of") != START + 2 * BAR), bars(3), REGIME)
    assert found["raw_verdict"].to_list() == [TREND, None, TREND]
    assert found["verdict"].to_list() == [WEAK, None, TREND]


def test_a_calm_market_becomes_a_range_and_a_wild_one_a_trend():
    assert verdict.compute(table([CALM] * 4), bars(4), REGIME)["verdict"].to_list() == [WEAK, WEAK, WEAK, OK]
    assert verdict.compute(table([WILD] * 2), bars(2), REGIME)["verdict"].to_list() == [WEAK, TREND]


@pytest.mark.parametrize("name", CALM)
def test_any_unknown_input_makes_all_unknown(name):
    found = verdict.compute(table([CALM] * 4 + [CALM | {name: None}, CALM]), bars(6), REGIME)
    values = [column for column in found.columns if column not in ("symbol", "as_of")]
    assert found.select(values).row(4) == (None,) * len(values)
    assert found["verdict"][5] == OK


def test_a_flat_market_has_no_verdict():
    assert verdict.compute(table([CALM | {"atr": 0.0, "ema_50": 100.0}]), bars(1), REGIME)["verdict"][0] is None


@pytest.mark.parametrize(("half_life", "strength"), [(math.inf, 0.0), (0.0, 0.6)])
def test_a_half_life_of_nothing_or_for_ever_is_an_answer(half_life, strength):
    row = CALM | {"half_life": half_life, "ou_tau": -100.0, "variance_ratio_4_z": 100.0}
    found = verdict.compute(table([row]), bars(1), REGIME)
    assert found["mean_reversion_score"][0] == pytest.approx(strength)


def test_a_trend_that_the_4_hour_bars_do_not_show_is_a_transition():
    hourly = {name: value for name, value in WILD.items() if not name.endswith("_4h")}
    found = verdict.compute(table([CALM | hourly]), bars(1), REGIME)
    assert found["trend_score_4h"][0] < 0.45
    assert found["p_trend"][0] > found["p_transition"][0]
    assert found["raw_verdict"][0] == TRANSITION


def test_of_equal_probabilities_the_more_dangerous_is_named():
    level = Logits(**dict.fromkeys(Logits.model_fields, 0.0))
    found = verdict.compute(table([CALM]), bars(1), RegimeConfig(logits=level))
    assert found["raw_verdict"][0] == TREND
    assert found["confidence"][0] == 0.0


def test_swings_count_half_each_and_only_with_a_direction():
    def score(**change: float) -> float:
        return verdict.compute(table([CALM | change]), bars(1), REGIME)["trend_score"][0]

    none = score(swing_high=1.0, swing_low=1.0)
    assert score(swing_high=-1.0, swing_low=1.0) == pytest.approx(none + 0.1)
    assert score(swing_high=-1.0, swing_low=-1.0) == pytest.approx(none + 0.2)
    assert score(swing_high=0.0, swing_low=0.0) == none
    level = {"ema_12": 100.0, "ema_50": 100.0}
    assert score(**level, swing_high=0.0, swing_low=0.0) == score(**level, swing_high=1.0, swing_low=1.0)


def test_the_pace_of_the_word_is_configurable():
    quick = RegimeConfig(hysteresis=Hysteresis(up=1, down=1))
    found = verdict.compute(table([WILD, CALM, WILD]), bars(3), quick)
    assert found["verdict"].to_list() == [TREND, OK, TREND]


def test_there_is_a_row_for_every_bar_of_the_span():
    found = verdict.compute(table([CALM]), bars(5), REGIME)
    assert found["as_of"].to_list() == [START + (i + 1) * BAR for i in range(5)]
    assert verdict.compute(table([CALM]).clear(), bars(5), REGIME).is_empty()


def folded(raw: list[int], up: int, down: int) -> int:
    """Where the hysteresis leads from RANGE_WEAK, one raw verdict after the other."""
    current, seen = 1, []
    for one in raw:
        if one < 0:
            continue
        seen.append(one)
        if len(seen) >= up and min(seen[-up:]) > current:
            current = min(seen[-up:])
        elif len(seen) >= down and max(seen[-down:]) < current:
            current = max(seen[-down:])
    return current


@settings(max_examples=60)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=400), st.integers(1, 6), st.integers(1, 6))
def test_each_bar_is_folded_over_its_own_raw_verdicts_alone(raw, up, down):
    found = verdict._folded(np.array(raw, dtype=np.int64), up, down)
    expected = [folded(raw[max(0, i - HYSTERESIS_BARS + 1) : i + 1], up, down) for i in range(len(raw))]
    assert found.tolist() == expected
