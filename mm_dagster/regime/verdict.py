"""What the market is doing, in one word: scores of the features, four probabilities, and a word that does not flutter.

A description, not a forecast. The verdict at `as_of` folds the raw verdicts of the last 96 bars alone, so it does not
depend on where the data starts. Where the definition leaves room:

- A swing agrees with the EMAs only when both have a direction.
- An ATR of 0 leaves the EMA distance, and so the verdict, unknown.
- Of equal probabilities the more dangerous verdict is named.
- "The last n raw verdicts" are the last n known ones among the 96 bars; while there are fewer the verdict stays.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers, exponential, kernel, natural_log
from mm_dagster.bars import BAR, Span, by_bar
from mm_dagster.config.regime import Logistic, Logits, RangeScore, RegimeConfig, ReversionScore, TrendScore
from mm_dagster.tables.regime import HYSTERESIS_BARS, RegimeVerdict
from mm_dagster.tables.words import VERDICTS

_RANGE_WEAK = VERDICTS.index("RANGE_WEAK")
_TRANSITION = VERDICTS.index("TRANSITION")
_TREND = VERDICTS.index("TREND")
_UNKNOWN = -1
_COLUMNS = [name for name in RegimeVerdict.column_names() if name not in ("config_hash", "code_version", "source")]
_TREND_INPUTS = (
    "efficiency_ratio",
    "adx",
    "ema_12",
    "ema_50",
    "atr",
    "swing_high",
    "swing_low",
    "variance_ratio_4_z",
)
_TREND_INPUTS_4H = (*(f"{name}_4h" for name in _TREND_INPUTS[:-1]), "variance_ratio_4_z_4h")
_OTHER_INPUTS = ("half_life", "ou_tau", "inside_range", "atr_expansion", "bollinger_width_percentile")
_INPUTS = (*_TREND_INPUTS, *_TREND_INPUTS_4H, *_OTHER_INPUTS)


def compute(features: pl.DataFrame, span: Span, regime: RegimeConfig) -> pl.DataFrame:
    """The verdict of every symbol at every bar of the span.

    Args:
        features: rows of `regime_features`, in any order, from `span.back(HYSTERESIS_BARS - 1)` on; a bar
            without a row counts as unknown.
        span: the bars whose `as_of` get a row.
        regime: thresholds, weights, hysteresis.

    Returns:
        `regime_verdict` without its stamps, sorted by symbol and as_of: one row for every symbol in `features`
        and every bar of `span`. When an input is null, all but the key is.
    """
    symbols = features["symbol"].unique().sort()
    wide = span.back(HYSTERESIS_BARS - 1)
    inputs = by_bar(features, wide, pl.DataFrame({"symbol": symbols}), *_INPUTS)
    trend = _trend_score([inputs[name] for name in _TREND_INPUTS], regime.trend)
    trend_4h = _trend_score([inputs[name] for name in _TREND_INPUTS_4H], regime.trend)
    reversion = _reversion_score(inputs, regime.reversion)
    range_ = _range_score(inputs, regime.range)
    logits = _logits(trend, trend_4h, reversion, range_, regime.logits)
    known = np.isfinite(logits).all(axis=0)
    probability = _softmax(logits)
    raw = np.where(known, _most_likely(probability, trend_4h, regime.logits.trend_4h_floor), _UNKNOWN)
    verdict = np.where(known, _fold(raw, regime.hysteresis.up, regime.hysteresis.down), _UNKNOWN)

    named = np.take_along_axis(probability, verdict[None] % len(VERDICTS), axis=0)[0]
    is_named = np.arange(len(VERDICTS))[:, None, None] == verdict
    others = np.where(is_named, -np.inf, probability).max(axis=0)
    numbers = {
        "confidence": named - others,
        "transition_probability": np.minimum(probability[_TRANSITION] + probability[_TREND], 1.0),
        "p_range_ok": probability[0],
        "p_range_weak": probability[_RANGE_WEAK],
        "p_transition": probability[_TRANSITION],
        "p_trend": probability[_TREND],
        "trend_score": trend,
        "mean_reversion_score": reversion,
        "range_score": range_,
        "trend_score_4h": trend_4h,
    }
    asked = slice(HYSTERESIS_BARS - 1, None)
    columns = {
        name: pl.Series(np.where(known, values, np.nan)[:, asked].reshape(-1), dtype=pl.Float64, nan_to_null=True)
        for name, values in numbers.items()
    }
    return pl.DataFrame(
        {
            "symbol": symbols.gather(np.repeat(np.arange(len(symbols)), span.bars)),
            "as_of": pl.concat([span.open_times() + BAR] * len(symbols) or [span.open_times().clear()]),
            **columns,
            "verdict": _words(verdict[:, asked]),
            "raw_verdict": _words(raw[:, asked]),
        }
    ).select(_COLUMNS)


def _logistic(values: Floats, midpoint: float, scale: float) -> Floats:
    return 1.0 / (1.0 + exponential(-(values - midpoint) / scale))


def _weighted(values: Floats, part: Logistic) -> Floats:
    return part.weight * _logistic(values, part.midpoint, part.scale)


def _trend_score(inputs: list[Floats], score: TrendScore) -> Floats:
    """T, from the columns of `_TREND_INPUTS`; how much the market moves one way, 0 to 1."""
    efficiency_ratio, adx, ema_12, ema_50, atr, swing_high, swing_low, z = inputs
    distance = np.abs(ema_12 - ema_50) / np.where(atr == 0.0, np.nan, atr)
    direction = np.sign(ema_12 - ema_50)
    agreeing = np.where(direction != 0.0, 0.5 * (swing_high == direction) + 0.5 * (swing_low == direction), 0.0)
    total = (
        _weighted(efficiency_ratio, score.efficiency_ratio)
        + _weighted(adx, score.adx)
        + _weighted(distance, score.ema_distance)
        + _weighted(z, score.variance_ratio_z)
        + score.swings_weight * np.where(np.isnan(swing_high) | np.isnan(swing_low), np.nan, agreeing)
    )
    return np.minimum(total, 1.0)


def _reversion_score(inputs: dict[str, Floats], score: ReversionScore) -> Floats:
    """M, how strongly the price comes back, 0 to 1; an infinite half-life counts as none."""
    fast = _logistic(
        -natural_log(inputs["half_life"]), -math.log(score.half_life_midpoint_hours), score.half_life_scale
    )
    sure = _logistic(-inputs["ou_tau"], score.tau_midpoint, score.tau_scale)
    total = score.half_life_weight * fast * sure + _weighted(-inputs["variance_ratio_4_z"], score.variance_ratio_z)
    return np.minimum(total, 1.0)


def _range_score(inputs: dict[str, Floats], score: RangeScore) -> Floats:
    """I, how well the price is contained, 0 to 1."""
    total = (
        score.inside_weight * inputs["inside_range"]
        + _weighted(-inputs["atr_expansion"], score.expansion)
        + _weighted(-inputs["bollinger_width_percentile"], score.width_percentile)
    )
    return np.minimum(total, 1.0)


def _logits(trend: Floats, trend_4h: Floats, reversion: Floats, range_: Floats, logits: Logits) -> Floats:
    """Shape (4, symbols, bars), in the order of `words.VERDICTS`; NaN where an input is unknown."""
    suitability = 0.5 * (reversion + range_)
    range_ok = logits.range_slope * (suitability - logits.range_midpoint)
    range_ok -= logits.range_trend_slope * np.maximum(0.0, trend - logits.range_trend_from)
    transition = logits.transition_slope * (trend - logits.transition_midpoint)
    transition += logits.transition_range_slope * (logits.transition_range_midpoint - range_)
    trending = logits.trend_slope * (trend - logits.trend_midpoint)
    trending += logits.trend_4h_slope * (trend_4h - logits.trend_4h_midpoint)
    return np.stack([range_ok, np.zeros_like(trend), transition, trending])


def _softmax(logits: Floats) -> Floats:
    odds = [exponential(row) for row in logits - logits.max(axis=0)]
    return np.stack(odds) / (odds[0] + odds[1] + odds[2] + odds[3])


def _most_likely(probability: Floats, trend_4h: Floats, floor: float) -> Integers:
    raw = _TREND - np.argmax(probability[::-1], axis=0)
    return np.where((raw == _TREND) & ~(trend_4h >= floor), _TRANSITION, raw)


@kernel
def _fold(raw: Integers, up: int, down: int) -> Integers:
    """Folds the raw verdicts of each symbol, shape (symbols, bars)."""
    verdict = np.empty_like(raw)
    for symbol in range(raw.shape[0]):
        verdict[symbol] = _folded(raw[symbol], up, down)
    return verdict


@kernel
def _folded(raw: Integers, up: int, down: int) -> Integers:
    """The verdict after the last `HYSTERESIS_BARS` raw ones, from RANGE_WEAK; negative raw verdicts are unknown.

    Each bar has a fold of its own, one bar later than the one before. The two soon agree, and then for good: from there
    on the path of the fold before is taken over.
    """
    seen = np.empty(raw.size, np.int64)
    through = np.empty(raw.size, np.int64)
    count = 0
    for i in range(raw.size):
        if raw[i] >= 0:
            seen[count] = raw[i]
            count += 1
        through[i] = count
    path = np.empty(raw.size, np.int64)
    verdict = np.empty(raw.size, np.int64)
    for i in range(raw.size):
        start = max(0, i - HYSTERESIS_BARS + 1)
        before = through[start - 1] if start > 0 else 0
        current = _RANGE_WEAK
        for k in range(start, i):
            current = _step(current, raw[k], seen[before : through[k]], up, down)
            if start > 0 and current == path[k] and through[k] - before >= max(up, down) - 1:
                break
            path[k] = current
        current = path[i - 1] if i > start else _RANGE_WEAK
        path[i] = _step(current, raw[i], seen[before : through[i]], up, down)
        verdict[i] = path[i]
    return verdict


@kernel
def _step(current: int, raw: int, seen: Integers, up: int, down: int) -> int:
    """The verdict after one more raw one, the last of those `seen`; an unknown one changes nothing."""
    if raw < 0:
        return current
    if seen.size >= up and seen[seen.size - up :].min() > current:
        return seen[seen.size - up :].min()
    if seen.size >= down and seen[seen.size - down :].max() < current:
        return seen[seen.size - down :].max()
    return current


def _words(verdict: Integers) -> pl.Series:
    words = pl.Series([*VERDICTS, None], dtype=pl.String)
    return words.gather(np.where(verdict == _UNKNOWN, len(VERDICTS), verdict).reshape(-1))
