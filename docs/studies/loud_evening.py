"""Long on days that follow a loud end of the day before."""

import polars as pl


def loud_evening(candles: pl.DataFrame) -> pl.Series:
    """The last quarter hour before midnight decides, against the mean of the day that it ends."""
    loud = pl.col("volume") > pl.col("volume").rolling_mean(96)
    at_midnight = pl.col("open_time").dt.time() == pl.time(23, 45)
    decided = pl.when(at_midnight).then(loud.cast(pl.Float64))
    # Between two midnights the position stays; before the first one nothing is held.
    return candles.select(decided.forward_fill().fill_null(0.0)).to_series()
