"""regime.yaml: every threshold of the verdict."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_dagster.config.model import Model, Positive, Probability


class Logistic(Model):
    """u(x) = 1 / (1 + exp(-(x - midpoint) / scale)), times `weight` in its score."""

    weight: Probability = Field(description="Its share of the score.")
    midpoint: float = Field(description="The x that counts half.")
    scale: Positive = Field(description="How far from the midpoint x counts 73 %.")


class TrendScore(Model):
    """Parts of the trend score T; the weights sum to 1. The same for hourly (T) and 4-hour bars (T4h)."""

    efficiency_ratio: Logistic = Logistic(weight=0.25, midpoint=0.35, scale=0.08)
    """Of the efficiency ratio."""
    adx: Logistic = Logistic(weight=0.20, midpoint=25.0, scale=5.0)
    """Of the ADX."""
    ema_distance: Logistic = Logistic(weight=0.20, midpoint=1.5, scale=0.5)
    """Of abs(EMA 12 - EMA 50) / ATR."""
    variance_ratio_z: Logistic = Logistic(weight=0.15, midpoint=1.0, scale=0.7)
    """Of the z of the variance ratio over 4 bars."""
    swings_weight: Probability = 0.20
    """Share of the score when swing highs and lows both go the way of the EMAs; half of it for one."""


class ReversionScore(Model):
    """Parts of the mean reversion score M: .6 u(-ln half_life) u(-tau) + .4 u(-VR4 z)."""

    half_life_weight: Probability = 0.6
    """Share of the score for a short half-life that is sure."""
    half_life_midpoint_hours: Positive = 16.0
    """The half-life that counts half, hours."""
    half_life_scale: Positive = 0.4
    """How far ln(half-life) is from its midpoint where it counts 73 %."""
    tau_midpoint: float = 2.57
    """The -tau that counts half: the Dickey-Fuller statistic from which reversion is evidence."""
    tau_scale: Positive = 0.3
    """How far -tau is from its midpoint where it counts 73 %."""
    variance_ratio_z: Logistic = Logistic(weight=0.4, midpoint=0.0, scale=0.7)
    """Of -z of the variance ratio over 4 bars."""


class RangeScore(Model):
    """Parts of the range score I: .40 [inside] + .35 u(-expansion) + .25 u(-width percentile)."""

    inside_weight: Probability = 0.40
    """Share of the score while the close is inside the range."""
    expansion: Logistic = Logistic(weight=0.35, midpoint=-1.25, scale=0.1)
    """Of -(ATR expansion)."""
    width_percentile: Logistic = Logistic(weight=0.25, midpoint=-0.8, scale=0.1)
    """Of -(Bollinger width percentile)."""


class Logits(Model):
    """The four logits of the verdict; s = (M + I) / 2.

    RANGE_OK `range_slope` (s - `range_midpoint`) - `range_trend_slope` max(0, T - `range_trend_from`); RANGE_WEAK 0;
    TRANSITION `transition_slope` (T - `transition_midpoint`) + `transition_range_slope`
    (`transition_range_midpoint` - I);
    TREND `trend_slope` (T - `trend_midpoint`) + `trend_4h_slope` (T4h - `trend_4h_midpoint`).
    """

    range_slope: float = 6.0
    """RANGE_OK: how fast it rises with s."""
    range_midpoint: float = 0.55
    """RANGE_OK: the s at which it is as likely as RANGE_WEAK."""
    range_trend_slope: float = 6.0
    """RANGE_OK: how fast it falls with T."""
    range_trend_from: float = 0.35
    """RANGE_OK: the T from which it falls."""
    transition_slope: float = 6.0
    """TRANSITION: how fast it rises with T."""
    transition_midpoint: float = 0.42
    """TRANSITION: the T at which it is 0."""
    transition_range_slope: float = 4.0
    """TRANSITION: how fast it falls with I."""
    transition_range_midpoint: float = 0.6
    """TRANSITION: the I at which it is 0."""
    trend_slope: float = 9.0
    """TREND: how fast it rises with T."""
    trend_midpoint: float = 0.55
    """TREND: the T at which it is 0."""
    trend_4h_slope: float = 3.0
    """TREND: how fast it rises with T4h."""
    trend_4h_midpoint: float = 0.5
    """TREND: the T4h at which it is 0."""
    trend_4h_floor: Annotated[float, Field(description="Below this T4h a TREND is called TRANSITION.")] = 0.45


class Hysteresis(Model):
    """How fast the verdict moves: up on `up` raw verdicts above it in a row, down on `down` below it."""

    up: Annotated[int, Field(ge=1, le=96)] = 2
    """Raw verdicts in a row above the verdict, before it rises to the least dangerous of them."""
    down: Annotated[int, Field(ge=1, le=96)] = 4
    """Raw verdicts in a row below the verdict, before it falls to the most dangerous of them."""


class RegimeConfig(Model):
    """regime.yaml: every threshold of the verdict."""

    trend: TrendScore = TrendScore()
    reversion: ReversionScore = ReversionScore()
    range: RangeScore = RangeScore()
    logits: Logits = Logits()
    hysteresis: Hysteresis = Hysteresis()
