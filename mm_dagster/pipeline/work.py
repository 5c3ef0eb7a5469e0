"""What one run is to do: which bars each stage computes, and how it writes them. The tick's own row: tick_row.py."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, FIRST_DAY, TIME, Span, ceil_bar, floor_bar, midnight
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.history.locks import Lock
from mm_dagster.pipeline import holes
from mm_dagster.pipeline.episodes import ended, refusals
from mm_dagster.pipeline.lanes import Lane, first_absent, of_lanes, together
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import LAG_BARS, dependents
from mm_dagster.tables import registry
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster.tables.registry import CODE_VERSIONS, EVERY_BAR, STAGES, TABLES, dtypes, time_column


@dataclass(frozen=True)
class Work:
    """What one run is to do, for every stage alike.

    Attributes:
        window: the bars of the partitions, which are all computed anew; or of a tick the last days, of which it
            computes what is missing or stale, so that what was missed, late or healed since is put right by itself.
        tick: the tick's as_of; None in a run over whole partitions.
        again: whether a run over whole partitions asks for bars that are known, too.
    """

    project: Project
    config: Config
    symbols: tuple[str, ...]
    window: Span
    tick: datetime | None
    run_id: str
    again: bool = False

    @property
    def draws(self) -> bool:
        """Whether pictures are drawn: at the newest bar, once an hour. To load what draws, and four pictures, are a
        third of a tick; the live page draws for whoever looks.
        """
        return self.tick is not None and self.tick.minute == 0

    @property
    def is_narrowed(self) -> bool:
        """Whether it is about some markets only: then others are worked on at the same time, in other processes."""
        return len(self.symbols) < len(self.config.symbols)

    def turn(self) -> Lock:
        """The turn to read rows of these markets and write them back."""
        return self.project.turn_lock(self.symbols if self.is_narrowed else None)

    def needed_from(self, symbol: str) -> datetime:
        """The first bar for which the decisions of the window need a verdict: an episode is folded from its start."""
        starts = [
            floor_bar(grid.activated_at) - LAG_BARS * BAR
            for grid in self.grids(symbol)
            if grid.enabled and grid.first_as_of <= self.window.end
        ]
        return max(FIRST_DAY, min([self.window.start, *starts]))

    def grids(self, symbol: str) -> list[GridConfig]:
        """The grids on a symbol that have begun by the end of the window."""
        return [grid for grid in self.config.grids_on(symbol) if grid.first_as_of <= self.window.end]

    def refusals(self) -> dict[str, str]:
        """Why a grid of this run is not judged, by grid."""
        return refusals(self.project.lake, [grid for symbol in self.symbols for grid in self.grids(symbol)])

    def fetch_spans(self) -> dict[str, list[Span]]:
        """For each market the candles to ask its venue for: what is needed and unknown, and in a tick the newest."""
        settings = self.config.markets.candles
        if self.tick:
            ask_again_from = self.window.end - settings.overlap_bars * BAR
        else:
            ask_again_from = self.window.start if self.again else self.window.end
        needed = self.needed_candles
        is_known = pl.col("observed_at").is_not_null() & (pl.col("open_time") < ask_again_from)
        if not self.tick:
            # Whole days are labelled anew where the labels were made by other rules.
            is_known &= pl.col("code_version") == CODE_VERSIONS["candles"]
        known = self.stored_candles.filter(is_known).select("symbol", "open_time")
        wanted = pl.concat(
            span.open_times().to_frame().select(pl.lit(symbol).alias("symbol"), "open_time")
            for symbol, span in needed.items()
        ).join(known, on=["symbol", "open_time"], how="anti")
        old = pl.col("open_time") < ask_again_from
        if not self.again and wanted.filter(old).height:
            wanted = pl.concat([self._due(wanted.filter(old)), wanted.filter(~old)])
        of_symbol = wanted.sort("open_time").partition_by("symbol", as_dict=True)
        none = wanted.clear()
        return {
            symbol: _runs(of_symbol.get((symbol,), none)["open_time"], span.end, settings.max_no_trade)
            for symbol, span in needed.items()
        }

    def _due(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Without what is known not to be had, and in a tick without what it is not the turn of yet.

        So that a tick costs at most one more request a market, only the oldest of what was asked for before is now.
        """
        key = ["symbol", "open_time"]
        noted = self.project.lake.read("candle_hole", symbols=self.symbols)
        wanted = wanted.join(holes.resting(noted, self.tick), on=key, how="anti")
        if self.tick is None or noted.is_empty():
            return wanted
        again = wanted.join(holes.bars_of(noted).select(key), on=key, how="semi")
        first = again.group_by("symbol").agg(first=pl.col("open_time").min())
        later = again.join(first, on="symbol").filter(pl.col("open_time") >= pl.col("first") + holes.AT_ONCE * BAR)
        return wanted.join(later, on=key, how="anti")

    @cached_property
    def needed_candles(self) -> dict[str, Span]:
        """Of each market the bars that must be known in the end, warm-up and all."""
        return {
            symbol: Span(max(FIRST_DAY, self.needed_from(symbol) - WARMUP_BARS * BAR), self.window.end)
            for symbol in self.symbols
        }

    @cached_property
    def stored_candles(self) -> pl.DataFrame:
        """What is stored of the needed bars: which they are; in a tick also the prices that answers are measured by."""
        columns = ["symbol", "open_time", "observed_at"]
        columns += ["open", "high", "low", "close", "status"] if self.tick else ["code_version"]
        span = _union(self.needed_candles.values())
        return self.project.lake.read("candles", span=span, symbols=self.symbols, columns=columns)

    def regime_spans(self, table: str) -> dict[Span, list[str]]:
        """The rows of a regime table to compute, and of which markets: of the window, and what it needs from before."""
        lead = max((STAGES[after].lead_bars for after in EVERY_BAR if table in registry.before(after)), default=0)
        needed = {
            symbol: Span(max(FIRST_DAY, self.needed_from(symbol) - lead * BAR), self.window.end)
            for symbol in self.symbols
        }
        stored = self._stored(table, _union(needed.values()), symbols=self.symbols)
        found = self._to_compute(table, [Lane(symbol) for symbol in needed], needed, stored)
        return {span: [lane.symbol for lane in lanes] for span, lanes in found.items()}

    def grid_spans(self, table: str, grids: Sequence[GridConfig]) -> dict[Span, list[GridConfig]]:
        """The rows of a grid's table to compute: of the window, and of the episode before it where it is not stored."""
        if not grids:
            return {}
        window, over = self.window, ended(self.project.lake, grids)
        needed = {
            grid.id: Span(min(grid.first_as_of - BAR, window.start) if grid.enabled else window.start, window.end)
            for grid in grids
        }
        for name, closed_at in over.items():
            first = max(needed[name].start, ceil_bar(closed_at) - BAR)
            needed[name] = Span(min(first, window.end), window.end)
        stored = self._stored(table, _union(needed.values()), grids=list(needed))
        for grid in grids:
            first = grid.first_as_of - BAR
            needed[grid.id] = Span(max(needed[grid.id].start, first), max(window.end, first))
        found = self._to_compute(table, [Lane(grid.symbol, grid) for grid in grids], needed, stored)
        return {span: [lane.grid for lane in lanes if lane.grid] for span, lanes in found.items()}

    def _to_compute(
        self, table: str, lanes: Sequence[Lane], needed: Mapping[str, Span], stored: pl.DataFrame
    ) -> dict[Span, list[Lane]]:
        """Of which bars rows are to be computed, and of which markets or grids.

        Args:
            table: which.
            lanes: the markets or grids.
            needed: the bars that must be there in the end, by lane.
            stored: the rows that are there.
        """
        begins = self._begins(table, lanes, needed, stored)
        until = self._ready_until(table, lanes, begins)
        spans: dict[Span, list[Lane]] = {}
        for lane in lanes:
            if begins[lane.name] < until[lane.name]:
                spans.setdefault(Span(begins[lane.name], until[lane.name]), []).append(lane)
        return spans

    def _stored(
        self, table: str, span: Span, *, symbols: Sequence[str] | None = None, grids: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """The rows of a span without what they say: whose they are, and what made them."""
        columns = ("symbol", "grid_id", "activated_at", "as_of", "config_hash", "code_version")
        return self.project.lake.read(
            table,
            span=span,
            symbols=symbols,
            grids=grids,
            columns=[name for name in columns if name in dtypes(table)],
        )

    def _ready_until(self, table: str, lanes: Sequence[Lane], begins: Mapping[str, datetime]) -> dict[str, datetime]:
        """How far a stage can compute from a bar on: while there is a candle, and what the stages before it made of it.

        A stage that runs alone, or before the one that failed is run again, leaves out what it cannot know. A row that
        was made of nothing, or of what another configuration made, would count as computed for ever.
        """
        until = {lane.name: self._known_until(lane.symbol) for lane in lanes}
        for before in registry.before(table):
            going = [lane for lane in lanes if begins[lane.name] < until[lane.name]]
            spans = {lane.name: Span(begins[lane.name], until[lane.name]) for lane in going}
            for span, some in together(going, spans):
                whose = (
                    {"grids": sorted({lane.name for lane in some})}
                    if "grid_id" in dtypes(before)
                    else {"symbols": sorted({lane.symbol for lane in some})}
                )
                rows = of_lanes(self._stored(before, span, **whose), before, some, self.config)
                usable = (pl.col("open_time") < self.window.start) | pl.col("in_force")
                until |= first_absent(rows.filter(usable), {lane.name: span for lane in some})
        return until

    def _begins(
        self, table: str, lanes: Sequence[Lane], needed: Mapping[str, Span], stored: pl.DataFrame
    ) -> dict[str, datetime]:
        """The first bar to compute: all of the window in a run over whole days, in a tick what is missing or stale.

        A row is stale when another configuration or code made it, or when a candle before it has changed. That a hole
        of the candles was filled is such a change, too. The newest bar is computed in any case.
        """
        in_force = pl.col("in_force") if self.tick else pl.lit(False)
        kept = of_lanes(stored, table, lanes, self.config).filter((pl.col("open_time") < self.window.start) | in_force)
        absent = first_absent(kept, {lane.name: needed[lane.name] for lane in lanes})
        changed = self.changed(table).filter(pl.col("open_time") >= self.window.start)
        earliest = dict(changed.group_by("symbol").agg(pl.col("open_time").min()).iter_rows())
        begins = {}
        for lane in lanes:
            first = needed[lane.name].start
            latest = max(self._known_until(lane.symbol) - BAR, first)
            # A bar of before an episode changes rows of the episode, which has none of before it.
            begins[lane.name] = max(first, min(absent[lane.name], latest, earliest.get(lane.symbol, latest)))
        return begins

    def changed(self, table: str) -> pl.DataFrame:
        """The changed candles that a stage is to work through: those before it have, and it has not yet."""
        done = pl.col("recomputed")
        ready = pl.all_horizontal(pl.lit(True), *(done.list.contains(one) for one in registry.before(table)))
        return self._pending.filter(ready & ~done.list.contains(table))

    @cached_property
    def _pending(self) -> pl.DataFrame:
        """The changed candles of which not all is computed that depends on them."""
        # A change is noted and its candle written in one turn: whoever sees the note reads the new candle.
        with self.turn():
            return unsettled(self.project.lake, self.symbols)

    @cached_property
    def _newest_candles(self) -> dict[str, datetime]:
        rows = self.project.lake.read(
            "candles", span=self.window, symbols=self.symbols, columns=["symbol", "open_time"]
        )
        newest = rows.group_by("symbol").agg(pl.col("open_time").max())
        return dict(newest.iter_rows())

    def _known_until(self, symbol: str) -> datetime:
        """The end of the window, but not beyond the newest bar that the lake has a row for."""
        newest = self._newest_candles.get(symbol)
        return newest + BAR if newest else self.window.start

    def commit(self, table: str, span: Span) -> Commit:
        """The message of a write: which run, which table, which bars."""
        return Commit(run_id=self.run_id, asset=table, span=str(span))

    def stamp(self, frame: pl.DataFrame, table: str, grids: Sequence[GridConfig] = ()) -> pl.DataFrame:
        """The frame with the hash of the configuration of each row's market or grid, and the version of the code."""
        key = "grid_id" if grids else "symbol"
        hashes = (
            {grid.id: self.config.hash_of(table, grid.symbol, grid) for grid in grids}
            if grids
            else {symbol: self.config.hash_of(table, symbol) for symbol in self.symbols}
        )
        return frame.with_columns(
            config_hash=pl.col(key).replace_strict(hashes, return_dtype=pl.String),
            code_version=pl.lit(CODE_VERSIONS[table]),
        )

    def write(
        self,
        table: str,
        frame: pl.DataFrame,
        span: Span,
        *,
        symbols: Sequence[str] | None = None,
        grids: Sequence[str] | None = None,
    ) -> int:
        """Writes the rows of a span by months, each turn some of them; returns how many rows changed."""
        changed = 0
        column = time_column(table)
        if column is None:
            raise ValueError(f"{table} has no time column")
        for part in _turns(span, frame.height):
            rows = frame.filter(part.opens(column) if column == "open_time" else part.closes(column))
            staged = self.project.lake.staged(table, rows, span=part, symbols=symbols, grids=grids)
            # It replaces rows as a whole: beside it go those of other markets, and of these, which are the same rows.
            with self.project.turn_lock([]) if self.is_narrowed else self.turn():
                written = self.project.lake.put(staged, self.commit(table, part))
            changed += written.inserted + written.deleted
        return changed

    def settle(self, table: str) -> None:
        """Notes that a stage has computed all that depends on the changed bars; the last stage settles them."""
        noted = self.changed(table)
        if noted.is_empty():
            return
        newest = self.project.lake.newest("regime_verdict")
        ends = [
            dependents(
                opened,
                self.config.grids_on(symbol),
                newest.get(symbol, opened),
                self.config.portfolio.window_days,
            ).end
            for symbol, opened in noted.select("symbol", "open_time").iter_rows()
        ]
        computed = (pl.col("open_time") >= self.window.start) & (pl.Series(ends, dtype=TIME) <= self.window.end)
        done = noted.filter(computed)
        if done.is_empty():
            return
        with self.turn():
            # Read anew, since another stage may have noted the same of itself meanwhile.
            rows = unsettled(self.project.lake, self.symbols).join(
                done, on=TABLES["candle_revision"].primary_key(), how="semi"
            )
            rows = rows.with_columns(
                recomputed=pl.concat_list("recomputed", pl.lit(table)).list.unique().list.sort()
            ).with_columns(
                recomputed_at=pl.when(
                    pl.all_horizontal(pl.col("recomputed").list.contains(last) for last in registry.LAST)
                )
                .then(pl.lit(self.project.now()))
                .otherwise(pl.col("recomputed_at"))
            )
            self.project.lake.upsert("candle_revision", rows, commit=self.commit("candle_revision", self.window))


MAKERS: dict[str, Callable[[Work], object]] = {}
"""What makes a table of a tick, noted by `makes`; `ticks.py` has them in the order of the flow."""

_Maker = TypeVar("_Maker", bound=Callable[..., object])


def makes(table: str) -> Callable[[_Maker], _Maker]:
    """Notes that a function makes a table for the bars of a `Work`, whether Dagster calls it or not."""

    def note(maker: _Maker) -> _Maker:
        MAKERS[table] = maker
        return maker

    return note


def unsettled(lake: Lake, symbols: Sequence[str]) -> pl.DataFrame:
    """The changed candles of which not all is computed that depends on them, as rows of `candle_revision`."""
    noted = lake.read("candle_revision", symbols=symbols).filter(pl.col("recomputed_at").is_null())
    # A row from before the stages noted themselves.
    return noted.with_columns(pl.col("recomputed").fill_null([]))


def plan(
    project: Project, run_id: str, *, window: Span | None = None, as_of: datetime | None = None,
    symbols: Sequence[str] = (), again: bool = False,
) -> Work:  # fmt: skip
    """What a run is to do: a tick, or whole days.

    Args:
        project: configuration and lake.
        run_id: names the run in the commits.
        window: whole days; None: the run is a tick.
        as_of: the tick; None: the run is one over whole days.
        symbols: only these markets; none named: all of the configuration.
        again: whether a run over whole days asks for bars that are known, too.

    Raises:
        ValueError: neither or both of window and as_of are given, or a symbol is not in the configuration.
    """
    config = project.config
    unknown = [symbol for symbol in symbols if symbol not in config.symbols]
    if unknown:
        raise ValueError(f"symbols: {unknown[0]!r} is not in markets.yaml; there are {', '.join(config.symbols)}")
    if (window is None) == (as_of is None):
        raise ValueError("a run is either a tick or one over whole days")
    tick = floor_bar(as_of) if as_of else None
    return Work(
        project=project,
        config=config,
        symbols=tuple(symbols or config.symbols),
        window=window or lately(tick, config.history.catch_up_days),  # type: ignore[arg-type]
        tick=tick,
        run_id=run_id,
        again=again,
    )


def lately(tick: datetime, days: int) -> Span:
    """Whole days, so that what one tick could not know at the far end is still within reach of those after it."""
    return Span(midnight((tick - BAR - timedelta(days=days)).date()), tick)


ROWS_AT_ONCE = 300_000
"""Rows of grids that are held in memory together, some hundred MB: a tick has 6,000, years have millions."""


def in_batches(spans: Mapping[Span, Sequence[GridConfig]]) -> Iterator[tuple[Span, list[GridConfig]]]:
    """The grids of each span, so many at a time that memory stays bounded however long the span is."""
    for span, grids in spans.items():
        many = max(1, ROWS_AT_ONCE // max(1, span.bars))
        for first in range(0, len(grids), many):
            yield span, list(grids[first : first + many])


ROWS_A_TURN = 60_000
"""Rows that are written in one turn, if it is more than a month: a month of twenty grids, a second or two."""


def _turns(span: Span, rows: int) -> list[Span]:
    """The span in parts of whole months that are written at once, since each write has a price of its own."""
    parts: list[Span] = []
    for month in span.months():
        if parts and ((month.end - parts[-1].start) // BAR) * rows <= ROWS_A_TURN * span.bars:
            parts[-1] = Span(parts[-1].start, month.end)
        else:
            parts.append(month)
    return parts


def _union(spans: Iterable[Span]) -> Span:
    """The span from the earliest start to the latest end."""
    every = list(spans)
    return Span(min(span.start for span in every), max(span.end for span in every))


def _runs(absent: pl.Series, end: datetime, judged: int) -> list[Span]:
    """Bars as spans, with the bars behind each whose label may depend on it.

    Args:
        absent: opening times, ascending.
        end: of the last bar that is needed.
        judged: how many bars behind a hole its filling may label anew.
    """
    # A few known bars in between cost less than another request.
    begins = (absent.diff() > DAY_BARS * BAR).fill_null(True).cum_sum()
    runs = (
        absent.to_frame()
        .group_by(begins.alias("run"), maintain_order=True)
        .agg(first=pl.col("open_time").min(), last=pl.col("open_time").max())
    )
    return [Span(first, min(last + (1 + judged) * BAR, end)) for _, first, last in runs.iter_rows()]
