"""Sets of real candles on which the advice is judged, and the daily grids on them, market by market."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import polars as pl

from benchmarks.shared import CONFIG, candles
from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import measured_markets
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.placebo import SIGNS, flip
from mm_dagster.evaluation.quality import Judged, judge
from mm_dagster.evaluation.signals import signals_of


@dataclass(frozen=True)
class Set:
    """Some days of a recording.

    Attributes:
        name: for people.
        recording: its name in `benchmarks.shared`.
        first: first day of grids, where it is not the recording's.
        end: where what is known ends, if before the recording does.
        symbols: its markets, where they are not all of the recording's.
    """

    name: str
    recording: str
    first: datetime | None = None
    end: datetime | None = None
    symbols: tuple[str, ...] = ()

    def markets(self) -> list[str]:
        """Symbols of its markets, in alphabetic order."""
        return list(self.symbols) or recorded(self.recording)["symbol"].unique().sort().to_list()


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


SETS = (
    Set("KuCoin 2025", "kucoin"),
    Set("Binance 2022", "binance22"),
    Set("Binance 2023", "binance23"),
    Set("Kraken 2023", "kraken"),
    Set("Bitfinex 2018-2019", "bitfinex", first=_day(2018, 1, 1)),
    Set("Bitfinex 2017", "bitfinex", end=_day(2018, 1, 1)),
)
PARTS = (
    Set("KuCoin 2025, January to August", "kucoin", end=_day(2025, 9, 1)),
    Set("KuCoin 2025, September to December", "kucoin", first=_day(2025, 9, 1)),
)
"""On the first part the scales of the probability were fitted; the second and all other sets saw no fit of them."""
FRESH = (
    Set("LTC perpetual 2023", "perpetual23", symbols=("LTC-USDT",)),
    Set(
        "BTC, ETH perpetuals, Oct 2023 - Jan 2024",
        "perpetual23",
        first=_day(2023, 10, 1),
        symbols=("BTC-USDT", "ETH-USDT"),
    ),
    Set("BTC, ETH perpetuals, Oct 2024 - Jan 2025", "perpetual24"),
)
"""Looked at once, when all thresholds had been chosen."""


@cache
def recorded(recording: str, flipped: bool = False) -> pl.DataFrame:
    """Rows of `candles` of a recording or of its placebo, kept: several sets are parts of one."""
    return flip(recorded(recording), SIGNS) if flipped else candles(recording)


def grids_on(one: Set, symbol: str, config: Config = CONFIG, flipped: bool = False) -> Iterator[tuple[Market, Cohort]]:
    """One market of a set with its daily grids; nothing where none could be opened."""
    known = recorded(one.recording, flipped).filter(pl.col("symbol") == symbol)
    opened, newest = known["open_time"].min(), known["close_time"].max()
    assert isinstance(opened, datetime)
    assert isinstance(newest, datetime)
    start = max(one.first or opened, opened).replace(hour=0, minute=0)
    days = Span(start, start + (min(one.end or newest, newest) - start) // timedelta(days=1) * timedelta(days=1))
    for market in measured_markets([symbol], known, days, config):
        if grids := open_daily(market, days, config.evaluation):
            yield market, cohort_of(market, grids, config.evaluation.life_days * DAY_BARS)


def judged_market(one: Set, symbol: str, config: Config, flipped: bool) -> Judged | None:
    """The grids of one market of a set, judged; None where none could be opened."""
    for market, cohort in grids_on(one, symbol, config, flipped):
        return judge(cohort, signals_of(cohort, market, config))
    return None


def judged_set(one: Set, pool: ProcessPoolExecutor, config: Config = CONFIG, flipped: bool = False) -> list[Judged]:
    """All markets of a set."""
    symbols = one.markets()
    many = len(symbols)
    found = pool.map(judged_market, [one] * many, symbols, [config] * many, [flipped] * many)
    return [market for market in found if market is not None]


def pooled_sets(sets: Sequence[Sequence[Judged]]) -> list[Judged]:
    """The markets of all sets as markets of their own: a coin on another venue is another market."""
    return [one for judged in sets for one in judged]
