"""Which days of the history are whole: every candle known, and every row that follows from it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from mm_dagster.bars import BAR, FIRST_DAY, TIME, Span, ceil_bar, iso, midnight
from mm_dagster.config.whole import Config
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.episodes import ended
from mm_dagster.pipeline.portfolio import hashes_of, members_of
from mm_dagster.tables.registry import CODE_VERSIONS, EVERY_BAR, STAGES, dtypes

_BAR_MINUTES = BAR // timedelta(minutes=1)
_COUNTS = {"name": pl.String(), "day": TIME, "first": TIME, "config_hash": pl.String(), "there": pl.Int64()}
_SCHEMA = {"symbol": pl.String(), "day": TIME, "absent": pl.Int64()}


@dataclass(frozen=True)
class _Series:
    """The rows of one table that belong to one market or grid: one is expected at each bar from `begins` on.

    Attributes:
        table: its name.
        name: the symbol, grid, or quote currency.
        symbol: the market; of a portfolio one of its markets.
        begins: opening time of the first bar.
        config_hash: under the configuration in force; None: any, since each row says what it was made of.
    """

    table: str
    name: str
    symbol: str
    begins: datetime
    config_hash: str | None


def unfinished(lake: Lake, config: Config, span: Span, symbols: Sequence[str]) -> pl.DataFrame:
    """The days of a span that are not whole under the configuration and the code in force.

    Args:
        lake: the history.
        config: the configuration in force.
        span: whole days.
        symbols: markets, all of them configured.

    Returns:
        symbol, day and the number of rows that are absent, stale or, of candles, not known; days without any are left
        out. Sorted by day.
    """
    apart = [table for table in EVERY_BAR if STAGES[table].every_bar != "portfolio"]
    counted = {table: _counts(lake, table, span, symbols, in_force=True) for table in apart}
    counted |= _made_of_what_is_stored(lake, config, span)
    return _absent(_series(lake, config, symbols, span), counted, span)


def holes(lake: Lake, config: Config, until: datetime) -> pl.DataFrame:
    """The days since the history of each market and grid began that lack candles or rows, whatever computed the others.

    A history begins with the first verdict of a market, the first row of a grid: what was never asked for is no hole.

    Args:
        lake: the history.
        config: the configuration in force; of what it does not name any more nothing is wanted.
        until: the end of the last bar that is looked at.

    Returns:
        As of `unfinished`.
    """
    symbols = config.symbols
    counted = {table: _counts(lake, table, None, symbols, in_force=False) for table in EVERY_BAR}
    firsts = {
        (table, name): first
        for table, rows in counted.items()
        for name, first in rows.group_by("name").agg(pl.col("first").min()).iter_rows()
    }
    # Candles reach back further, for the indicators to warm up.
    firsts |= {("candles", s): firsts.get(("regime_verdict", s)) for s in symbols}
    firsts |= {("regime_features", s): firsts.get(("regime_verdict", s)) for s in symbols}
    begun = [
        _Series(one.table, one.name, one.symbol, max(one.begins, first), one.config_hash)
        for one in _series(lake, config, symbols, Span(midnight(until.date()), until))
        if (first := firsts.get((one.table, one.name))) is not None and first < until
    ]
    if not begun:
        return pl.DataFrame(schema=_SCHEMA)
    return _absent(begun, counted, Span(min(one.begins for one in begun), until))


def _series(lake: Lake, config: Config, symbols: Sequence[str], span: Span) -> list[_Series]:
    """What there should be of a span."""
    over = ended(lake, config.grids)
    found = [
        _Series(table, symbol, symbol, FIRST_DAY, config.hash_of(table, symbol))
        for table in EVERY_BAR
        if STAGES[table].every_bar == "market"
        for symbol in symbols
    ]
    for grid in config.grids:
        if grid.symbol in symbols and grid.first_as_of <= span.end:
            wanted = ("grid", "running_grid" if grid.enabled else "idle_grid")
            begins = max(grid.first_as_of, ceil_bar(over.get(grid.id, grid.first_as_of))) - BAR
            found += [
                _Series(table, grid.id, grid.symbol, begins, config.hash_of(table, grid.symbol, grid))
                for table in EVERY_BAR
                if STAGES[table].every_bar in wanted
            ]
    return found + _portfolios(config, symbols, span)


def _portfolios(config: Config, symbols: Sequence[str], span: Span) -> list[_Series]:
    """What there should be of all running grids in one quote currency together."""
    firsts: dict[str, tuple[datetime, str]] = {}
    for grid in config.grids:
        if (
            grid.enabled
            and grid.symbol in symbols
            and config.in_portfolio(grid.symbol)
            and grid.first_as_of <= span.end
        ):
            quote = grid.symbol.partition("-")[2]
            firsts[quote] = min(firsts.get(quote, (grid.first_as_of, grid.symbol)), (grid.first_as_of, grid.symbol))
    return [
        _Series(table, quote, symbol, first - BAR, None)
        for quote, (first, symbol) in sorted(firsts.items())
        for table in EVERY_BAR
        if STAGES[table].every_bar == "portfolio"
    ]


def _counts(lake: Lake, table: str, span: Span | None, symbols: Sequence[str], *, in_force: bool) -> pl.DataFrame:
    """How many rows there are of each market or grid on each day, by hash if what is in force matters."""
    opened = "open_time" if table == "candles" else "as_of - INTERVAL 15 MINUTE"
    if STAGES[table].every_bar == "portfolio":
        name, where = "quote", [lake.in_force(table)]
    else:
        name = "grid_id" if "grid_id" in dtypes(table) else "symbol"
        where = [f"symbol IN ({', '.join(_text(symbol) for symbol in symbols)})", lake.in_force(table)]
    if span is not None:
        low, high = f"TIMESTAMPTZ '{iso(span.start)}'", f"TIMESTAMPTZ '{iso(span.end)}'"
        where.append(
            f"open_time >= {low} AND open_time < {high}" if table == "candles" else f"as_of > {low} AND as_of <= {high}"
        )
    if table == "candles":
        where.append("observed_at IS NOT NULL")
    if in_force:
        where.append(f"code_version = {_text(CODE_VERSIONS[table])}")
    by = f"{name}, date_trunc('day', {opened})" + (", config_hash" if in_force else "")
    rows = lake.sql(
        f"SELECT {name} AS name, date_trunc('day', {opened}) AS day, min({opened}) AS first, "
        f"{'config_hash' if in_force else 'NULL'} AS config_hash, count(DISTINCT {opened}) AS there "
        f"FROM {table} WHERE {' AND '.join(where)} GROUP BY {by}"
    )
    return rows.cast(pl.Schema(_COUNTS))


def _made_of_what_is_stored(lake: Lake, config: Config, span: Span) -> dict[str, pl.DataFrame]:
    """As `_counts`, of all grids together: a row counts only if it was made of the rows and answers that are stored.

    Who says late that a grid stopped changes what was true of all grids since then.
    """
    tables = [table for table in EVERY_BAR if STAGES[table].every_bar == "portfolio"]
    counts = {table: [pl.DataFrame(schema=_COUNTS)] for table in tables}
    members = members_of(lake, config)
    key = pl.Schema({"name": pl.String(), "as_of": TIME, "config_hash": pl.String()})
    for month in span.months():
        hashes = hashes_of(lake, config, members, month)
        expected = [(quote, as_of, one) for as_of, quotes in hashes.items() for quote, one in quotes.items()]
        wanted = pl.DataFrame(expected, schema=key, orient="row")
        for table in tables:
            rows = lake.sql(
                f"SELECT DISTINCT quote AS name, as_of, config_hash FROM {table} WHERE {lake.in_force(table)} "
                f"AND as_of > TIMESTAMPTZ '{iso(month.start)}' AND as_of <= TIMESTAMPTZ '{iso(month.end)}' "
                f"AND code_version = {_text(CODE_VERSIONS[table])}"
            )
            kept = rows.cast(key).join(wanted, on=list(key), how="semi").with_columns(first=pl.col("as_of") - BAR)
            by_day = kept.group_by("name", day=pl.col("first").dt.truncate("1d"))
            found = by_day.agg(pl.col("first").min(), config_hash=pl.lit(None, pl.String()), there=pl.len())
            counts[table].append(found.cast(pl.Schema(_COUNTS)))
    return {table: pl.concat(parts) for table, parts in counts.items()}


def _absent(series: Iterable[_Series], counted: dict[str, pl.DataFrame], span: Span) -> pl.DataFrame:
    """How many rows each market lacks on each day."""
    lacking = [pl.DataFrame(schema=_SCHEMA)]
    for one in series:
        begins = max(one.begins, span.start)
        if begins >= span.end:
            continue
        first_day = midnight(begins.date())
        days = pl.datetime_range(first_day, span.end, "1d", closed="left", time_unit="us", time_zone="UTC", eager=True)
        # Only the first day and the last may be cut.
        lasts = pl.min_horizontal(pl.col("day") + timedelta(days=1), pl.lit(span.end, dtype=TIME)) - pl.max_horizontal(
            "day", pl.lit(begins, dtype=TIME)
        )
        same = pl.col("config_hash").is_null() | pl.col("config_hash").eq_missing(pl.lit(one.config_hash))
        there = counted[one.table].filter((pl.col("name") == one.name) & same)
        lacking.append(
            days.alias("day")
            .to_frame()
            .join(there.select("day", "there"), on="day", how="left")
            .select(
                symbol=pl.lit(one.symbol),
                day="day",
                absent=(lasts.dt.total_minutes() // _BAR_MINUTES) - pl.col("there").fill_null(0),
            )
            .filter(pl.col("absent") > 0)
        )
    return pl.concat(lacking).group_by("symbol", "day").agg(pl.col("absent").sum()).sort("day", "symbol")


def _text(value: str) -> str:
    """A text between single quotes."""
    return "'" + value.replace("'", "''") + "'"
