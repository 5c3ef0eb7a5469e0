"""The touch probability ranks what really happened: breaks of daily opened ranges on KuCoin, 2025."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mm_dagster.arrays import log_ratio
from mm_dagster.bars import BAR, TIME, Span, bar_numbers
from mm_dagster.config.risk import RiskConfig, VolatilityConfig
from mm_dagster.evaluation.calibration import Calibration, calibrate, observe
from mm_dagster.grid import touch
from mm_dagster.regime import features

pytestmark = pytest.mark.slow

DAY = 96
WARM = 42 * DAY
"""Bars that the forecast needs, all but one."""


def candles_of(shared_data: Path, symbol: str) -> pl.DataFrame:
    """The year of a market, as `observe` takes it."""
    source = pl.read_parquet(shared_data / "candles" / "kucoin" / symbol / "15m.parquet")
    return source.with_columns(symbol=pl.lit("ETH-USDT"), close_time=pl.col("open_time").cast(TIME) + BAR)


def forecast(candles: pl.DataFrame, weekend: float = 0.7) -> np.ndarray:
    """The definition by other means: of an hourly return over the next 24 h, at the close of every bar.

    Half a fast and half a slow mean (half-lives 12 and 168 hours) of the sizes of 15-minute returns, as they would be
    on a weekday, to the power of 1.75: the variance of the normal return of which this is the mean; times 4; times the
    mean of what the next 96 bars are worth.
    """
    opened, close = candles["open_time"], candles["close"].to_numpy()
    longer = pl.concat([opened, opened.tail(DAY) + timedelta(days=1)])
    worth = np.where(longer.dt.weekday().to_numpy() >= 6, weekend**2, 1.0)
    powers = (np.diff(np.log(close), prepend=np.nan) ** 2 / worth[: close.size]) ** (1.75 / 2)
    mean = np.full(close.size, np.nan)
    mean[WARM:] = 0.0
    for hours in (12, 168):
        weights = 0.5 ** (np.arange(24 * hours) / (4 * hours))
        mean[WARM:] += 0.5 * np.convolve(powers[1:], weights / weights.sum(), "valid")[-(close.size - WARM) :]
    variance = 4.0 * (mean / (2.0 * stats.norm.expect(lambda r: r**1.75, lb=0.0))) ** (2 / 1.75)
    ahead = np.convolve(worth[1:], np.full(DAY, 1.0 / DAY), "valid")
    return np.sqrt(variance * ahead[: close.size])


def looks(candles: pl.DataFrame) -> pl.DataFrame:
    """Breaks within 24 h of ranges opened at every midnight and followed for three days, hour by hour.

    Samples as of `observe`, but for the prediction, with the price over the bound and the forecasts: `season`, and
    `none` without a weekend.
    """
    close, low = candles["close"].to_numpy(), candles["low"].to_numpy()
    episodes = []
    for opened in range(WARM + DAY - 1, close.size - 4 * DAY, DAY):
        lower = min(low[opened - 4 * DAY + 1 : opened + 1].min(), close[opened] * 0.98) * 0.995
        risk = candles[opened : opened + 3 * DAY].select(
            pl.lit("eth").alias("grid_id"),
            pl.lit(candles["close_time"][opened]).alias("activated_at"),
            "symbol",
            as_of="close_time",
            p_break_low_24h=pl.lit(0.5),
        )
        nearby = candles[opened : opened + 4 * DAY]
        seen = observe(risk, nearby, event="break_low", lower=lower, upper=10 * lower, stop=0.97 * lower, hours=24)
        episodes.append(seen.with_columns(lower=pl.lit(lower)))
    known = candles.select(
        "close", as_of="close_time", season=pl.Series(forecast(candles)), none=pl.Series(forecast(candles, weekend=1.0))
    )
    return pl.concat(episodes).join(known, on="as_of", maintain_order="left")


def judged(samples: pl.DataFrame, sigma: str, scale: float) -> Calibration:
    ratio, lower, forecasts = (samples[name].to_numpy() for name in ("close", "lower", sigma))
    p = touch.probability(log_ratio(ratio, lower), forecasts, 24, scale, TOUCH.continuity)
    return calibrate(samples.with_columns(predicted=pl.Series(p)), event="break_low", hours=24)


TOUCH = RiskConfig().touch
SCALE = TOUCH.k_break.h24
MARKETS = ("BTC-USDT", "ETH-USDT", "LINK-USDT", "SOL-USDT")


@pytest.fixture(scope="module")
def year(shared_data: Path) -> dict[str, pl.DataFrame]:
    return {symbol: looks(candles_of(shared_data, symbol)) for symbol in MARKETS}


def test_breaks_below_within_24_hours_are_ranked_and_calibrated(year: dict[str, pl.DataFrame]) -> None:
    for samples in year.values():
        found = judged(samples, "season", SCALE)
        assert found.whole.count > 10_000
        assert found.auc is not None
        assert found.auc > 0.84
        assert found.expected_calibration_error is not None
        assert found.expected_calibration_error < 0.04
    skill = judged(pl.concat(year.values()), "season", SCALE).brier_skill
    assert skill is not None
    assert skill > 0.23


def test_a_calmer_weekend_forecasts_breaks_better_than_none_with_whatever_scale(year: dict[str, pl.DataFrame]) -> None:
    def gain(samples: pl.DataFrame) -> float:
        without = (
            judged(samples, "none", scale).brier_skill
            for scale in (SCALE - 0.15, SCALE - 0.1, SCALE - 0.05, SCALE, SCALE + 0.05)
        )
        return (judged(samples, "season", SCALE).brier_skill or 0.0) - max(skill or 0.0 for skill in without)

    assert min(map(gain, year.values())) > 0
    assert gain(pl.concat(year.values())) > 0.008


@pytest.mark.parametrize("weekend", [0.7, 1.0])
def test_both_rooms_together_are_the_definition(shared_data: Path, weekend: float) -> None:
    bitcoin = candles_of(shared_data, "BTC-USDT")
    span = Span(bitcoin["open_time"][-20 * DAY], bitcoin["close_time"][-1])
    rows = features.compute(bitcoin, span, VolatilityConfig(weekend=weekend))
    ahead = bar_numbers(rows["as_of"])
    sigma = touch.forecast(rows["volatility_forecast"].to_numpy(), ahead, DAY, weekend)
    np.testing.assert_allclose(sigma, forecast(bitcoin, weekend)[-20 * DAY :], rtol=1e-8)
