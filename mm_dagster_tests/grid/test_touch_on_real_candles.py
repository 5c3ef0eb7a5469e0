"""The touch probability ranks what really happened: breaks of daily opened ranges of ETH-USDT on KuCoin, 2025."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mm_dagster.grid import touch

DAY, HORIZON = 96, 96


def test_breaks_below_within_24_hours_are_ranked_and_calibrated(shared_data: Path) -> None:
    candles = pl.read_parquet(shared_data / "candles" / "kucoin" / "ETH-USDT" / "15m.parquet")
    close, low = candles["close"].to_numpy(), candles["low"].to_numpy()
    sigma = forecast(close)
    distances, sigmas, outcomes = [], [], []
    for opened in range(1500 * 4, close.size - 4 * DAY, DAY):
        lower = min(low[opened - 4 * DAY : opened].min(), close[opened] * 0.98) * 0.995
        beyond = close[opened:] < lower
        broken = np.flatnonzero(beyond[1:] & beyond[:-1])
        ends = opened + (int(broken[0]) if broken.size else close.size)
        for now in range(opened, min(opened + 3 * DAY, ends), 4):
            distances.append(close[now] / lower)
            sigmas.append(sigma[now])
            outcomes.append(ends < now + HORIZON)
    happened = np.array(outcomes)
    ratio = np.array(distances)
    p = touch.probability(touch.log_ratio(ratio, np.ones(ratio.size)), np.array(sigmas), 24, 0.72)
    rank = p.argsort().argsort() + 1.0
    positives = int(happened.sum())
    auc = (rank[happened].sum() - positives * (positives + 1) / 2) / (positives * (happened.size - positives))
    assert positives > 500
    assert auc > 0.80
    assert abs(p.mean() - happened.mean()) < 0.05


def forecast(close: np.ndarray) -> np.ndarray:
    """Half a fast and half a slow EWMA of squared hourly returns (half-lives 24 and 168 h), at every base bar."""
    squared = np.log(close[4:] / close[:-4]) ** 2
    variance = np.zeros(close.size)
    for half_life, reach in ((24, 144), (168, 1008)):
        weights = 0.5 ** (np.arange(reach) / half_life)
        spread = np.zeros(4 * reach)
        spread[::4] = weights / weights.sum()
        mixed = np.convolve(squared, spread)[: squared.size]
        variance[4:] += 0.5 * mixed
    return np.sqrt(variance)
