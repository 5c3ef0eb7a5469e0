"""Whose rows count: the source in force of each market and venue, in SQL and in new rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from mm_dagster.history.connection import quoted
from mm_dagster.tables import registry


@dataclass(frozen=True)
class Sources:
    """The sources in force. None are named: every row counts.

    Rows of markets that are not named count. A row without a source counts as one in force: `Lake.adopt` has seen to
    that.

    Attributes:
        markets: the source of each market by its symbol, and of `all`, what concerns no single one.
        venues: the source of each venue by its name.
        quotes: the kind of what is added up in each quote currency.
    """

    markets: Mapping[str, str] = field(default_factory=dict)
    venues: Mapping[str, str] = field(default_factory=dict)
    quotes: Mapping[str, str] = field(default_factory=dict)

    def of(self, table: str) -> tuple[str, Mapping[str, str]]:
        """The column by which a table's rows have a source, and the source in force of each value of it."""
        if "quote" in registry.STAGES[table].key:
            return "quote", self.quotes
        return ("venue", self.venues) if "venue" in registry.STAGES[table].key else ("symbol", self.markets)

    def in_force(self, table: str) -> str:
        """What selects the rows of the sources in force, in SQL."""
        source = registry.source_column(table)
        by, in_force = self.of(table)
        if source is None or not in_force:
            return "true"
        pairs = " OR ".join(f"({by} = {_text(name)} AND {source} = {_text(said)})" for name, said in in_force.items())
        names = ", ".join(map(_text, in_force))
        return f"({source} IS NULL OR {by} NOT IN ({names}) OR {pairs})"

    def signed(self, rows: pl.DataFrame, table: str) -> pl.DataFrame:
        """Whole rows of a table, with the source in force in those that lack one."""
        source = registry.source_column(table)
        by, in_force = self.of(table)
        if source is None or not in_force:
            return rows
        known = pl.col(by).replace_strict(in_force, default=None, return_dtype=pl.String)
        return rows.with_columns(pl.coalesce(source, known))


EVERY_SOURCE = Sources()


def _text(value: str) -> str:
    return f"'{quoted(value)}'"
