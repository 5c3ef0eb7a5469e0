"""Features of the sealed quarter hours, from their segments alone: a row made years later is the one of then.

A row says in `config_hash` what it is made of: the configuration, the segments, and where the volume clock stood. Only
rows of which that has changed, or whose code has, are made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, EPOCH, Span, iso, midnight
from mm_dagster.books.features import Volume, measure
from mm_dagster.books.ladder import Scale
from mm_dagster.books.lead import lead
from mm_dagster.books.tape import Tape
from mm_dagster.books.volume_clock import BUCKETS, bucket_size
from mm_dagster.config.books import BooksConfig
from mm_dagster.config.sources import digest
from mm_dagster.errors import ForeseenError
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.pipeline.book_places import RecordedMarket, recorded_markets
from mm_dagster.pipeline.book_tapes import play
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.segments import Say, ended
from mm_dagster.recorder.seal import Segment, manifest
from mm_dagster.tables.registry import CODE_VERSIONS, dtypes

logger = logging.getLogger("mm_dagster")

ROWS_A_TURN = 96
LEAST_QUARTERS = 72
"""Quarter hours of yesterday that are known, without which a day has no volume clock."""
DAY = timedelta(days=1)
_LEFT = ("bucket_lots", "bucket_buy_lots", "bucket_sell_lots")
_VOLUME = ("buy_volume", "sell_volume", "bucket_imbalances", *_LEFT)

Name = tuple[str, str]
"""Exchange and symbol."""


@dataclass
class Measured:
    """What a run did.

    Attributes:
        rows: that were made.
        problems: what failed, by file.
    """

    rows: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def keep_features(project: Project, run_id: str, window: Span, *, say: Say | None = None) -> Measured:
    """Makes the rows of `book_features` that lack, or are made of something else, of a window and of what is older.

    Args:
        project: configuration and lake.
        run_id: names the run in the commits.
        window: whose rows are looked at; older ones only where there is none.
        say: how far it is; None: nobody asks.
    """
    done = Measured()
    maker = _Maker(project, window)
    due = maker.due()
    writer = _Writer(project, run_id)
    try:
        for number, (as_of, market) in enumerate(due, start=1):
            try:
                row = maker.row(market, as_of)
            except Exception as error:
                # One market's bytes, or an error of the program at them, never stop the others.
                said = str(error) if isinstance(error, ForeseenError | OSError) else f"{type(error).__name__}: {error}"
                done.problems[f"{market.name} {iso(as_of)}"] = said
                logger.error("%s: %s is not measured: %s", market.name, iso(as_of), said)
                continue
            if row is not None:
                done.rows += 1
                writer.add(row)
            if say is not None:
                say(market.name, number, len(due))
    finally:
        writer.write()
    return done


@dataclass(frozen=True)
class Past:
    """What the rows of a market say of the volume before a quarter hour.

    Attributes:
        yesterday: bought and sold in each known quarter hour of yesterday, base currency.
        today: size of a bucket, what is left in one, and what became full, of each row of today.
    """

    yesterday: tuple[tuple[float, float], ...]
    today: tuple[tuple[int | None, int | None, int | None, tuple[int, ...]], ...]

    @classmethod
    def of(cls, rows: dict[datetime, dict[str, Any]], as_of: datetime) -> Past:
        """What is known before a quarter hour."""
        today = midnight((as_of - BAR).date())
        known = sorted(at for at in rows if today - DAY < at < as_of)
        volumes = [tuple(rows[at][name] for name in ("buy_volume", "sell_volume")) for at in known if at <= today]
        told = [
            (*(rows[at][name] for name in _LEFT), tuple(rows[at]["bucket_imbalances"] or ()))
            for at in known
            if at > today
        ]
        return cls(tuple((buy, sell) for buy, sell in volumes if buy is not None and sell is not None), tuple(told))

    def volume(self, scale: Scale) -> Volume | None:
        """Where the volume clock stands; None: nobody knows yesterday's volume."""
        lot = 10**scale.amount_decimals
        if len(self.yesterday) < LEAST_QUARTERS:
            return None
        size = bucket_size(sum(round(buy * lot) + round(sell * lot) for buy, sell in self.yesterday))
        if size is None:
            return None
        told = [one for one in self.today if one[0] == size]
        filled = tuple(full for one in told for full in one[3])[-BUCKETS:]
        _, buy, sell, _ = told[-1] if told else (size, 0, 0, ())
        return Volume(size, buy or 0, sell or 0, filled)


class _Writer:
    """Rows on their way into the lake."""

    def __init__(self, project: Project, run_id: str) -> None:
        self._project, self._run_id = project, run_id
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """One more row."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_A_TURN:
            self.write()

    def write(self) -> None:
        """What there is."""
        rows, self._rows = self._rows, []
        write(self._project, self._run_id, rows)


def write(project: Project, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of `book_features`, each in the place of the one of before."""
    if not rows:
        return
    frame = pl.DataFrame(rows, schema=dtypes("book_features"), orient="row")
    times = sorted(row["as_of"] for row in rows)
    with project.turn_lock():
        commit = Commit(run_id, "book_features", f"{iso(times[0])} to {iso(times[-1])}")
        project.lake.upsert("book_features", frame, commit=commit)


class _Maker:
    """Makes rows, the oldest first, all markets of a quarter hour one after another."""

    def __init__(self, project: Project, window: Span) -> None:
        self._project, self._window = project, window
        self._config: BooksConfig = project.config.books
        self._markets = {(one.exchange, one.symbol): one for one in recorded_markets(project.data)}
        self._segments: dict[Name, dict[datetime, Segment]] = {}
        self._following: dict[Name, dict[datetime, Segment]] = {}
        for name, market in self._markets.items():
            rows = manifest(market.place.segments)
            self._segments[name] = {ended(row): row for row in rows}
            self._following[name] = {ended(one): other for one, other in pairwise(rows)}
        self._stored: dict[Name, dict[datetime, dict[str, Any]]] = {name: {} for name in self._markets}
        self._tapes: dict[tuple[Name, datetime], Tape] = {}

    def due(self) -> list[tuple[datetime, RecordedMarket]]:
        """The quarter hours to look at."""
        lake = self._project.lake
        known = lake.read("book_segment", columns=["exchange", "symbol", "as_of", "refused"])
        known = known.filter(pl.col("refused").is_null())
        made = lake.read("book_features", columns=["exchange", "symbol", "as_of"])
        lacking = known.join(made, on=["exchange", "symbol", "as_of"], how="anti")
        wanted = pl.concat([known.filter(self._window.closes()), lacking]).unique(["exchange", "symbol", "as_of"])
        found = [
            (as_of, self._markets[exchange, symbol])
            for exchange, symbol, as_of, _ in wanted.iter_rows()
            if as_of in self._segments.get((exchange, symbol), {})
        ]
        found.sort()
        if found:
            self._remember(lake, Span(midnight((found[0][0] - BAR).date()) - DAY, found[-1][0]))
        return found

    def _remember(self, lake: Lake, span: Span) -> None:
        columns = ["exchange", "symbol", "as_of", "config_hash", "code_version", *_VOLUME]
        for row in lake.read("book_features", span=span, columns=columns).iter_rows(named=True):
            self._stored.setdefault((row["exchange"], row["symbol"]), {})[row["as_of"]] = row

    def row(self, market: RecordedMarket, as_of: datetime) -> dict[str, Any] | None:
        """The row of a quarter hour; None: the one that is stored is made of the same.

        Raises:
            ForeseenError, OSError: the segment cannot be replayed.
        """
        name = market.exchange, market.symbol
        segment, stored = self._segments[name][as_of], self._stored[name].get(as_of)
        pair = self._pair(name)
        other = self._segments.get(pair, {}).get(as_of) if pair else None
        past = Past.of(self._stored[name], as_of)
        made_of = digest(
            {
                "levels": self._config.levels,
                "segment": segment.sha256,
                "lead": [*pair, other.sha256] if pair and other else None,
                "yesterday": past.yesterday,
                "today": past.today,
            }
        )
        version = CODE_VERSIONS["book_features"]
        if stored is not None and (stored["config_hash"], stored["code_version"]) == (made_of, version):
            return None
        end_ns = _ns(as_of)
        start_ns = end_ns - _ns(EPOCH + BAR)
        tape = self._tape(name, as_of)
        row = {
            "exchange": market.exchange,
            "symbol": market.symbol,
            "as_of": as_of,
            **measure(tape, start_ns, end_ns, self._config.levels, past.volume(tape.market.scale)),
            **(lead(tape, self._tape(pair, as_of), start_ns, end_ns) if pair and other else {}),
            "config_hash": made_of,
            "code_version": version,
        }
        self._stored[name][as_of] = row
        return row

    def _pair(self, name: Name) -> Name | None:
        """The perpetual that a spot market is measured against."""
        for pair in self._config.lead:
            if pair.spot == f"{name[0]}:{name[1]}":
                exchange, _, symbol = pair.perpetual.partition(":")
                return exchange, symbol
        return None

    def _tape(self, name: Name, as_of: datetime) -> Tape:
        """What a segment told; those of a quarter hour are kept as long as it is looked at."""
        if (name, as_of) not in self._tapes:
            self._tapes = {key: tape for key, tape in self._tapes.items() if key[1] == as_of}
            rows, following = self._segments[name], self._following[name].get(as_of)
            self._tapes[name, as_of] = play(self._markets[name].place, rows[as_of], following).tape
        return self._tapes[name, as_of]


def _ns(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000
