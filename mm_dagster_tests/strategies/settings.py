"""Markets of a study without features, which most ideas do not read and which cost most of the time."""

from __future__ import annotations

import numpy as np
import polars as pl

from mm_dagster.bars import Span
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.placebo import flip
from mm_dagster.research.study import PLACEBOS, Lane, Setting, frame_of
from mm_dagster.strategies.accounting import prices_of

CONFIG = Config.model_validate(
    {"markets": {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "BTC-USDT", "venue": "main"}]}}
)
NO_FUNDING = pl.DataFrame(
    schema={"symbol": pl.String, "open_time": pl.Datetime("us", "UTC"), "funding_rate": pl.Float64}
)


def days_of(candles: pl.DataFrame) -> Span:
    return Span(candles["open_time"].min(), candles["close_time"].max())  # type: ignore[arg-type]


def laid_out(candles: pl.DataFrame, funding: pl.DataFrame = NO_FUNDING) -> Setting:
    days = days_of(candles)
    lanes = []
    for symbol in candles["symbol"].unique().sort():
        frame = frame_of(candles, funding, symbol, days)
        opens, closes, paid = (frame[name].fill_null(np.nan).to_numpy() for name in ("open", "close", "funding_rate"))
        unknown = np.full(days.bars, np.nan)
        lanes.append(Lane(symbol, frame, prices_of(opens, closes, paid), np.full(days.bars, -1), unknown, unknown))
    return Setting(days, tuple(lanes))


def placebos(candles: pl.DataFrame) -> list[Setting]:
    return [laid_out(flip(candles, seed)) for seed in PLACEBOS]
