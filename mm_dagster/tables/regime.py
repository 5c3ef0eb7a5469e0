"""What the candles measure, and the verdict drawn from it."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    flag,
    hash_of_configuration,
    number,
    one_of,
    probability,
    source_of_candles,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import VERDICTS


class RegimeFeatures(dy.Schema):
    """What the candles measure. Hourly bars are the 4 base bars that close at as_of, the 4 before them, and so on."""

    symbol = text("Market.", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    close = number("Closing price at as_of, quote currency.", low=0.0)
    bollinger_width = number("Bollinger band width 4s/m over 20 hourly closes.", low=0.0)
    bollinger_percent_b = number("Position in the Bollinger band; 0 lower, 1 upper.")
    bollinger_width_percentile = probability("Share of the last 168 hourly widths that are <= the present one.")
    range_high = number("Highest high of the 96 hourly bars before this one, quote currency.", low=0.0)
    range_low = number("Lowest low of the 96 hourly bars before this one, quote currency.", low=0.0)
    inside_range = flag("Whether the close lies between range_low and range_high.")
    atr = number("Mean true range of 14 hourly bars, quote currency.", low=0.0)
    atr_expansion = number("Mean true range of 14 hourly bars over that of 168.", low=0.0)
    ou_phi = number("AR(1) coefficient of the log close over 192 hourly pairs.")
    ou_mu = number("Mean that the fit reverts to, log price.")
    ou_sigma = number("Residual standard deviation of the fit, per hour.", low=0.0)
    ou_tau = number("Dickey-Fuller statistic (phi - 1) / se(phi); evidence below about -2.57.")
    half_life = number(
        "Bias-corrected half-life of the reversion, hours; infinite when there is none.", low=0.0, inf=True
    )
    ou_z = number("Distance of the close from the mean, in stationary standard deviations.")
    half_life_baseline = number(
        "Median half-life over 720 hours ending 192 before as_of, hours; may be infinite.", low=0.0, inf=True
    )
    efficiency_ratio = probability("Kaufman's efficiency ratio over 40 hourly returns.")
    swing_high = number("Sign of the last pivot high minus the one before, within 192 hourly bars; 0: fewer than two.")
    swing_low = number("Sign of the last pivot low minus the one before, within 192 hourly bars; 0: fewer than two.")
    ema_12 = number("Windowed EMA of 12 hourly closes, quote currency.", low=0.0)
    ema_26 = number("Windowed EMA of 26 hourly closes, quote currency.", low=0.0)
    ema_50 = number("Windowed EMA of 50 hourly closes, quote currency.", low=0.0)
    adx = number("Average directional index, 14 hourly bars, 0 to 100.", low=0.0)
    variance_ratio_4 = number("Variance ratio of 4-hour over 1-hour returns, 385 hourly closes.", low=0.0)
    variance_ratio_4_z = number("Its heteroscedasticity-robust z.")
    variance_ratio_16 = number("Variance ratio of 16-hour over 1-hour returns, 385 hourly closes.", low=0.0)
    variance_ratio_16_z = number("Its heteroscedasticity-robust z.")
    parkinson = number("Parkinson volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    garman_klass = number("Garman-Klass volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    rogers_satchell = number("Rogers-Satchell volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    jump_share = probability("Share of jumps in the realised variance of 96 hourly bars.")
    volatility_forecast = number("Forecast standard deviation of one hourly log return on a weekday.", low=0.0)
    volume_ratio = number("Mean volume of 4 hourly bars over that of 168.", low=0.0)
    change_24h = number("Change of the close over 96 base bars, percent.")
    volume_24h = number("Volume of the last 96 base bars, base currency.", low=0.0)
    efficiency_ratio_4h = probability("Kaufman's efficiency ratio over 40 4-hour returns.")
    adx_4h = number("Average directional index, 14 4-hour bars, 0 to 100.", low=0.0)
    ema_12_4h = number("Windowed EMA of 12 4-hour closes, quote currency.", low=0.0)
    ema_26_4h = number("Windowed EMA of 26 4-hour closes, quote currency.", low=0.0)
    ema_50_4h = number("Windowed EMA of 50 4-hour closes, quote currency.", low=0.0)
    atr_4h = number("Mean true range of 14 4-hour bars, quote currency.", low=0.0)
    swing_high_4h = number("Like swing_high, on 4-hour bars.")
    swing_low_4h = number("Like swing_low, on 4-hour bars.")
    variance_ratio_4_4h = number("Variance ratio of 16-hour over 4-hour returns, 145 4-hour closes.", low=0.0)
    variance_ratio_4_z_4h = number("Its heteroscedasticity-robust z.")
    closes_outside_15m = flag("Whether the close lies outside the high and low of the 96 base bars before.")
    atr_expansion_15m = number("Mean true range of 14 base bars over that of 168.", low=0.0)
    volatility_4_15m = number("Realised volatility of the last 4 base returns, per square root of an hour.", low=0.0)
    volatility_96_15m = number("Realised volatility of the last 96 base returns, per square root of an hour.", low=0.0)
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class RegimeVerdict(dy.Schema):
    """What the market is doing, in one word, with the scores and probabilities behind it. No forecast."""

    symbol = text("Market.", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    verdict = one_of(VERDICTS, "After hysteresis; null when any input is.", nullable=True)
    confidence = number("Probability of the named verdict minus the best other; negative while hysteresis holds it.")
    transition_probability = probability("p_transition + p_trend.")
    p_range_ok = probability("Probability of RANGE_OK.")
    p_range_weak = probability("Probability of RANGE_WEAK.")
    p_transition = probability("Probability of TRANSITION.")
    p_trend = probability("Probability of TREND.")
    raw_verdict = one_of(VERDICTS, "Before hysteresis.", nullable=True)
    trend_score = probability("T, on hourly bars.")
    mean_reversion_score = probability("M.")
    range_score = probability("I.")
    trend_score_4h = probability("T, on 4-hour bars.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


HYSTERESIS_BARS = 96
"""Raw verdicts that a verdict is folded over, its own included."""
WARMUP_BARS = 4_592
"""Base bars before a span that its features and verdicts need: the longest chain (the 4-hour ADX), the hysteresis,
the cut to whole 4-hour bars, and the bar before the first. A test adds them up from the list of features."""

STAGES = (
    Stage(
        "regime_features",
        RegimeFeatures,
        group="regime",
        after=("candles",),
        settings=("risk.vol",),
        code_version="6",
        every_bar="market",
        lead_bars=WARMUP_BARS,
    ),
    Stage(
        "regime_verdict",
        RegimeVerdict,
        group="regime",
        after=("regime_features",),
        settings=("regime",),
        code_version="4",
        every_bar="market",
        lead_bars=HYSTERESIS_BARS,
    ),
)
