"""Questions on real candles: the daily grids of every shared recording, every 6th hour of their lives, and who answers.

`MM_SHARED_DATA` names the folder of the recordings; without it, `../shared/data` beside the project is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, by_bar, floor_bar
from mm_dagster.config.markets import CandlesConfig, RecordedVenue
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import resample
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.market import Market, markets
from mm_dagster.evaluation.placebo import SIGNS, flip
from mm_dagster.market.collect import collect
from mm_dagster.market.recorded import RecordedMarket
from mm_dagster.regime import features, verdict
from mm_dagster.research import gate, promotion
from mm_dagster.research.promotion import Result
from mm_dagster.research.questions import Questions, pooled, questions_on
from mm_dagster.research.questions import forecast as expected

SHARED = Path(os.environ.get("MM_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CONFIG = Config.model_validate(
    {"markets": {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "BTC-USDT", "venue": "main"}]}}
)
"""Only the defaults of the decision are read from it."""


@dataclass(frozen=True)
class Recording:
    """Candles of one venue over some time."""

    title: str
    venue: str
    file: str


RECORDINGS = {
    "kucoin": Recording("KuCoin 2025", "kucoin", "15m.parquet"),
    "binance22": Recording("Binance 2022", "binance", "5m_2022.parquet"),
    "bitfinex": Recording("Bitfinex 2017-19", "bitfinex", "15m.parquet"),
    "binance23": Recording("Binance 2023", "binance", "5m_2023.parquet"),
    "kraken": Recording("Kraken 2023", "kraken", "15m.parquet"),
}
UNSEEN = {
    "perpetual23": Recording("Binance perpetuals 2023", "binance-perp", "5m_2023.parquet"),
    "perpetual24": Recording("Binance perpetuals 2024-25", "binance-perp", "5m_2024-10.parquet"),
}
"""Recordings on which nothing was chosen; only to be looked at, and seldom."""
MAIN = ("kucoin", "binance22", "bitfinex")
"""Those that are looked at together: many markets, and no two of the same time."""


def candles(name: str) -> pl.DataFrame:
    """Rows of `candles` of all markets of a recording."""
    recording = (RECORDINGS | UNSEEN)[name]
    folder = SHARED / "candles" / recording.venue
    venue = RecordedMarket(
        recording.venue, RecordedVenue(kind="recorded", path=str(folder), file=recording.file), Path("/")
    )
    parts = []
    for path in sorted(folder.glob(f"*/{recording.file}")):
        times = pl.read_parquet(path, columns=["open_time"])["open_time"].cast(TIME)
        first, last = times.min(), times.max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        span = Span(floor_bar(first), floor_bar(last) + BAR)
        parts.append(collect(venue, path.parent.name, span, CandlesConfig(), lambda seconds: None).candles)
    return pl.concat(parts)


@dataclass(frozen=True)
class Lot:
    """The markets of a recording, or of its placebo, side by side on one axis, and the grids on them.

    Attributes:
        name: of the recording.
        span: the axis.
        candles: rows of `candles`.
        features: rows of `regime_features`.
        verdicts: rows of `regime_verdict`.
        markets: those with grids, in alphabetic order.
        cohorts: their grids.
    """

    name: str
    span: Span
    candles: pl.DataFrame
    features: pl.DataFrame
    verdicts: pl.DataFrame
    markets: Sequence[Market]
    cohorts: Sequence[Cohort]

    def lanes(self, frame: pl.DataFrame, *columns: str, time: str = "as_of") -> dict[str, Floats]:
        """Columns of a frame by market and bar, shape (markets, bars); NaN where unknown."""
        return by_bar(
            frame, self.span, pl.DataFrame({"symbol": [one.symbol for one in self.markets]}), *columns, time=time
        )


def lot(name: str, placebo: bool = False) -> Lot:
    """Everything that the signals read, computed anew from the candles."""
    return lot_of(name, flip(candles(name), SIGNS) if placebo else candles(name))


def lot_of(name: str, known: pl.DataFrame) -> Lot:
    """The same from rows of `candles`."""
    first, last = known["open_time"].min(), known["open_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    span = Span(first, last + BAR)
    measured = features.compute(known, span, CONFIG.risk.vol)
    judged = verdict.compute(measured, span, CONFIG.regime)
    found, cohorts = [], []
    for market in markets(known["symbol"].unique().sort().to_list(), known, measured, judged, span):
        grids = open_daily(market, span, CONFIG.evaluation)
        if grids:
            found.append(market)
            cohorts.append(cohort_of(market, grids, CONFIG.evaluation.life_days * DAY_BARS))
    return Lot(name, span, known, measured, judged, found, cohorts)


def questions(one: Lot) -> Questions:
    """On all grids of a lot."""
    return pooled(questions_on(market, cohort, CONFIG) for market, cohort in zip(one.markets, one.cohorts, strict=True))


def forecast(one: Lot) -> Floats:
    """Standard deviation of an hourly return over the next 24 hours, as the program has it, shape (markets, bars)."""
    return np.array([expected(market, CONFIG) for market in one.markets])


@dataclass(frozen=True)
class Row(Result):
    """What one candidate adds on one recording, and on its placebo."""

    group: str


Candidates = Mapping[str, Mapping[str, Floats]]
"""Values at each question, by group and name."""


def put(real: tuple[Questions, Candidates], placebo: tuple[Questions, Candidates]) -> Iterator[Row]:
    """Every candidate of every group through the gate.

    Args:
        real: the questions, and the candidates' values.
        placebo: likewise.
    """
    (asked, candidates), (other, others) = real, placebo
    steps, flipped = asked.walk(), other.walk()
    for group, members in candidates.items():
        for found in promotion.results_of((steps, members), (flipped, others[group])):
            yield Row(found.candidate, found.gain, found.placebo, group)


def told(draws: Floats, scale: float = 1.0, digits: int = 2) -> str:
    """A figure with its interval."""
    low, high = resample.interval(draws[1:])
    if not np.isfinite(draws[0]):
        return "-"
    return f"{draws[0] * scale:.{digits}f} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


HEADINGS = ("group", "candidate", "fires", "gain", "lift", "gain on the placebo", "gate")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table; gains in thousandths of a nat a question."""
    gate_says = "passes" if row.passes else "promising" if row.gain.promising else "no"
    return (
        row.group,
        row.candidate,
        f"{row.gain.fired:.0%}",
        told(row.gain.log_loss, 1e3),
        told(row.gain.lift),
        told(row.placebo.log_loss, 1e3),
        gate_says,
    )


def titled(name: str, asked: Questions) -> str:
    """The title of a recording's table."""
    size = f"{asked.place.size:,} questions on {asked.day.size:,} grids, {asked.happened.mean():.1%} broke"
    return f"{RECORDINGS[name].title}: {size}; the second half is tested"


Titled = tuple[str, Sequence[Row]]


def with_pool(names: Sequence[str], tables: Sequence[Titled]) -> list[Titled]:
    """The tables, and before them one of all MAIN recordings together, if there are several."""
    members = [rows for name, (_, rows) in zip(names, tables, strict=True) if name in MAIN]
    if len(members) < 2:
        return list(tables)
    rows = []
    for same in zip(*members, strict=True):
        assert len({(row.group, row.candidate) for row in same}) == 1
        kinds = ([row.gain for row in same], [row.placebo for row in same])
        rows.append(Row(same[0].candidate, *(gate.pooled(gains) for gains in kinds), same[0].group))
    title = " and ".join(RECORDINGS[name].title for name in names if name in MAIN)
    return [(f"{title} together: {rows[0].gain.tested:,} questions tested", rows), *tables]


def report(console: Console, title: str, rows: Sequence[Row]) -> str:
    """Prints a table, and returns it as markdown."""
    lines = [cells(row) for row in rows]
    console.print(shown(title, HEADINGS, lines))
    return f"**{title}**\n\n{markdown(HEADINGS, lines)}\n"


def shown(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """As a table for people."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As a table for a document."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
