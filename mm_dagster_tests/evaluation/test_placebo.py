"""The placebo keeps how far every bar goes, and leaves where to chance."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from mm_dagster.bars import BAR
from mm_dagster.evaluation.placebo import PRICES, flip

START = datetime(2026, 3, 2, tzinfo=UTC)
BARS = 400


def candles(symbol: str, seed: int) -> pl.DataFrame:
    """Made-up candles that open where the one before closed; bar 7 is MISSING."""
    generator = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(generator.normal(0.0, 0.01, BARS)))
    opening = np.concatenate([[100.0], close[:-1]])
    reach = np.exp(np.abs(generator.normal(0.0, 0.01, (2, BARS))))
    missing = pl.int_range(pl.len()) == 7
    return pl.DataFrame(
        {
            "symbol": symbol,
            "open_time": [START + place * BAR for place in range(BARS)],
            "open": opening,
            "high": np.maximum(opening, close) * reach[0],
            "low": np.minimum(opening, close) / reach[1],
            "close": close,
        }
    ).with_columns(pl.when(~missing).then(pl.col(name)).alias(name) for name in PRICES)


def moves(frame: pl.DataFrame, symbol: str) -> np.ndarray:
    return np.diff(np.log(frame.filter(pl.col("symbol") == symbol)["close"].drop_nulls().to_numpy()))


def test_every_bar_goes_as_far_as_it_did_and_half_of_them_the_other_way() -> None:
    before = candles("A-USDT", 1)
    after = flip(before, seed=1)
    assert after.columns == before.columns
    ratio = moves(after, "A-USDT") / moves(before, "A-USDT")
    np.testing.assert_allclose(np.abs(ratio), 1.0, rtol=1e-9)
    assert 0.4 < (ratio < 0).mean() < 0.6
    for edge, sides in (("high", ("open", "close")), ("low", ("open", "close"))):
        for side in sides:
            beyond = after[edge] - after[side] if edge == "high" else after[side] - after[edge]
            assert beyond.drop_nulls().min() >= -1e-9  # type: ignore[operator]
    np.testing.assert_allclose(
        (after["high"] / after["low"]).drop_nulls().to_numpy(), (before["high"] / before["low"]).drop_nulls().to_numpy()
    )
    assert after["close"].null_count() == 1


def test_all_markets_turn_at_the_same_bars() -> None:
    before = pl.concat([candles("A-USDT", 1), candles("B-USDT", 2)])
    after = flip(before, seed=3)
    turned = [np.sign(moves(after, symbol) / moves(before, symbol)) for symbol in ("A-USDT", "B-USDT")]
    np.testing.assert_array_equal(turned[0], turned[1])


def test_a_bar_that_falls_below_its_open_rises_above_it_when_turned() -> None:
    before = candles("A-USDT", 4)
    after = flip(before, seed=5)
    sign = np.sign(moves(after, "A-USDT") / moves(before, "A-USDT"))
    opened = after["open"].drop_nulls().to_numpy()[1:]
    fell = np.log(before["low"].drop_nulls().to_numpy()[1:] / before["open"].drop_nulls().to_numpy()[1:])
    rose = np.log(after["high"].drop_nulls().to_numpy()[1:] / opened)
    # Bar 8 opens away from the last known close, 6, and is turned over about that.
    bridged = np.arange(1, BARS - 1) != 7
    np.testing.assert_allclose(rose[(sign < 0) & bridged], -fell[(sign < 0) & bridged], atol=1e-9)


def test_a_market_without_a_candle_has_none_in_the_placebo_either() -> None:
    nothing = candles("A-USDT", 1).clear()
    assert flip(nothing, 1, START).equals(nothing)
