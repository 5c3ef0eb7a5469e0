"""Long for a day after a fall of more than three percent within a day."""

import polars as pl


def buy_the_dip(candles: pl.DataFrame) -> pl.Series:
    """What everybody tries first."""
    change = pl.col("close") / pl.col("close").shift(96) - 1
    fell = (change < -0.03).fill_null(False)
    # A position is kept for 96 bars after the last bar at which the fall was seen.
    return candles.select(fell.cast(pl.Float64).rolling_max(96, min_samples=1).fill_null(0.0)).to_series()
