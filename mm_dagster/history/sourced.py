"""The lake as the markets in force see it: rows of another source are not there, and are not replaced by absence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.bars import Span
from mm_dagster.history.lake import Commit, Lake, Written
from mm_dagster.tables import registry


class SourcedLake(Lake):
    """A lake that hands out only rows of the sources in force, and writes the source into each row.

    Rows of markets that are not named pass. A row without a source counts as one in force: `adopt` has seen to that.
    Rows of another source stay where they are, but where a new row has the same key. `sql` shows all of them.
    """

    def __init__(self, lake: Lake, sources: Mapping[str, str], venues: Mapping[str, str]) -> None:
        """
        Args:
            lake: what is looked at.
            sources: the source in force of each market, and of `all`, what concerns no single one.
            venues: the source of each venue by its name.
        """
        self.__dict__.update(lake.__dict__)
        # Its connections are those of the whole lake, which stays the one that opens and closes them.
        self._reading = lake._reading  # type: ignore[method-assign]
        self._writing = lake._writing  # type: ignore[method-assign]
        self._sources = dict(sources)
        self._venues = dict(venues)

    def _by(self, table: str) -> tuple[str, Mapping[str, str]]:
        return ("venue", self._venues) if table == "account_snapshot" else ("symbol", self._sources)

    def read(
        self,
        table: str,
        *,
        span: Span | None = None,
        symbols: Sequence[str] | None = None,
        grids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """As `Lake.read`, but only the rows of the sources in force."""
        source = registry.source_column(table)
        wanted = list(registry.dtypes(table) if columns is None else columns)
        if source is None:
            return super().read(table, span=span, symbols=symbols, grids=grids, columns=wanted)
        by, in_force = self._by(table)
        fetched = list(dict.fromkeys([*wanted, by, source]))
        rows = super().read(table, span=span, symbols=symbols, grids=grids, columns=fetched)
        expected = pl.col(by).replace_strict(in_force, default=None, return_dtype=pl.String)
        kept = expected.is_null() | pl.col(source).is_null() | (pl.col(source) == expected)
        return rows.filter(kept.fill_null(True)).select(wanted)

    def newest(self, table: str) -> dict[str, datetime]:
        """As `Lake.newest`, but only of the rows of the sources in force."""
        column = registry.time_column(table)
        rows = self.sql(
            f"SELECT symbol, max({column}) AS newest FROM {table} WHERE {self.in_force(table)} "
            "GROUP BY symbol ORDER BY symbol"
        )
        return dict(rows.iter_rows())

    def in_force(self, table: str) -> str:
        """What selects the rows of the sources in force, in SQL."""
        source = registry.source_column(table)
        by, in_force = self._by(table)
        if source is None or not in_force:
            return "true"
        pairs = " OR ".join(f"({by} = {_text(name)} AND {source} = {_text(one)})" for name, one in in_force.items())
        names = ", ".join(map(_text, in_force))
        return f"({source} IS NULL OR {by} NOT IN ({names}) OR {pairs})"

    def _valid(self, table: str, frame: pl.DataFrame) -> pl.DataFrame:
        rows = registry.conform(frame, table)
        source = registry.source_column(table)
        if source is not None:
            by, in_force = self._by(table)
            known = pl.col(by).replace_strict(in_force, default=None, return_dtype=pl.String)
            rows = rows.with_columns(pl.coalesce(source, known))
        return super()._valid(table, rows)

    def _replace(self, table: str, rows: pl.DataFrame, where: str, values: list[Any], commit: Commit) -> Written:
        same = " AND ".join(f's."{name}" = n."{name}"' for name in registry.TABLES[table].primary_key())
        mine = f"({self.in_force(table)} OR EXISTS (SELECT 1 FROM __new n WHERE {same}))"
        return super()._replace(table, rows, f"({where}) AND {mine}", values, commit)


def adopt(lake: Lake, sources: Mapping[str, str], venues: Mapping[str, str]) -> None:
    """Gives the rows from before rows carried their source the one that is proven for them: one commit a table.

    Candles come last: as long as one of them lacks its source, all of it is done again.

    Args:
        lake: the whole lake.
        sources: the source of each market.
        venues: the source of each venue.
    """
    for table in sorted(registry.TABLES, key=lambda name: name == "candles"):
        source = registry.source_column(table)
        if source is not None:
            by, given = ("venue", venues) if table == "account_snapshot" else ("symbol", sources)
            lake.fill(table, source, by, given)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
