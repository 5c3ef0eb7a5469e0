"""Rows in SQL: those of a span, of markets and grids; and the replacement of those that differ, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from mm_dagster.bars import Span, iso
from mm_dagster.history.connection import Commit, LakeError, count, quote, transaction
from mm_dagster.tables import registry


@dataclass(frozen=True)
class Written:
    """What a write changed: rows inserted, rows deleted, and rows that were there already."""

    inserted: int
    deleted: int
    unchanged: int


def selection(
    table: str, span: Span | None, symbols: Sequence[str] | None, grids: Sequence[str] | None
) -> tuple[str, list[Any]]:
    """What selects the rows of a span, of these markets and grids; with the values to be bound.

    Raises:
        ValueError: the table has no such column to select by.
    """
    parts = ["true"]
    values: list[Any] = []
    column = registry.time_column(table)
    if span is not None:
        if column is None:
            raise ValueError(f"{table} has no time to select a span by")
        parts.append(f"{column} >= ? AND {column} < ?" if column == "open_time" else f"{column} > ? AND {column} <= ?")
        values += [span.start, span.end]
    for name, wanted in (("symbol", symbols), ("grid_id", grids)):
        if wanted is not None:
            if name not in registry.dtypes(table):
                raise ValueError(f"{table} has no {name} to select by")
            # Single values, and not a list: by them files are left out that hold none of them.
            parts.append(f"{name} IN ({', '.join('?' * len(wanted))})" if wanted else "false")
            values += wanted
    return " AND ".join(parts), values


def _same_row(table: str) -> str:
    """Whether a new row n says nothing that the stored row s does not: see Lake.write."""
    parts = []
    for name in map(quote, registry.dtypes(table)):
        if name not in map(quote, registry.LIVE_ONLY):
            parts.append(f"s.{name} IS NOT DISTINCT FROM n.{name}")
        elif name == quote("observed_at"):
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT NULL)")
        else:
            parts.append(f"(n.{name} IS NULL OR s.{name} IS NOT DISTINCT FROM n.{name})")
    return " AND ".join(parts)


def same_key(table: str) -> str:
    return " AND ".join(f's."{name}" = n."{name}"' for name in registry.TABLES[table].primary_key())


def listed(columns: Sequence[str], alias: str = "") -> str:
    return ", ".join(f"{alias}.{quote(name)}" if alias else quote(name) for name in columns)


def key_of(rows: pl.DataFrame, table: str) -> str:
    """The key of the first row, in words."""
    key = rows.select(registry.TABLES[table].primary_key()).row(0, named=True)
    return ", ".join(f"{name} {iso(value) if isinstance(value, datetime) else value}" for name, value in key.items())


def refuse_invalid(rows: pl.DataFrame, table: str) -> None:
    """Refuses rows that break a rule of their table.

    Raises:
        LakeError: they do.
    """
    broken = registry.broken_rules(rows, table)
    if broken:
        rule, number = next(iter(broken.items()))
        failing = registry.TABLES[table].filter(rows, cast=True).failure.invalid()
        raise LakeError(f"{table}: {number} rows break the rule {rule}, first {key_of(failing, table)}; not written")


@dataclass(frozen=True)
class Staged:
    """Rows as they are to be, ready for the lock: valid, sorted by the key, in the form that DuckDB reads.

    Attributes:
        table: its name.
        rows: the new rows, as an Arrow table.
        where: selects rows `s` of the table that they replace, in SQL; the new ones are the table `__new`.
        values: to be bound in it.
        within: selects what `where` selects and maybe more, by the same values and without `__new`: where it finds
            nothing, nothing need be compared. None: there is no such selection.
    """

    table: str
    rows: Any
    where: str
    values: list[Any]
    within: str | None


def stage(table: str, rows: pl.DataFrame, where: str, values: list[Any], within: str | None) -> Staged:
    """What can be done of a replacement while others write.

    Args:
        table: its name.
        rows: the new rows, whole and valid ones.
        where: see Staged.
        values: see Staged.
        within: see Staged.
    """
    return Staged(table, rows.sort(registry.TABLES[table].primary_key()).to_arrow(), where, values, within)


def replace(connection: duckdb.DuckDBPyConnection, staged: Staged, commit: Commit) -> Written:
    """Deletes and inserts only what differs between the stored rows and the new ones, in one transaction.

    Args:
        connection: one that writes.
        staged: the rows, and what they replace.
        commit: what the write says of itself.
    """
    connection.register("__new", staged.rows)
    written = _inserted(connection, staged, commit) if _stores_nothing(connection, staged) else None
    written = written or _exchanged(connection, staged, commit)
    connection.unregister("__new")
    return written


def _stores_nothing(connection: duckdb.DuckDBPyConnection, staged: Staged) -> bool:
    if staged.within is None:
        return False
    found = f"SELECT 1 FROM {staged.table} s WHERE {staged.within} LIMIT 1"
    return not count(connection, f"SELECT count(*) FROM ({found})", staged.values)


def _inserted(connection: duckdb.DuckDBPyConnection, staged: Staged, commit: Commit) -> Written:
    """Where nothing is stored there is nothing to compare and to sort: most of a backfill, and the bar of a tick."""
    if staged.rows.num_rows:
        with transaction(connection, commit):
            connection.execute(f"INSERT INTO {staged.table} BY NAME SELECT * FROM __new")
    return Written(staged.rows.num_rows, 0, 0)


def _exchanged(connection: duckdb.DuckDBPyConnection, staged: Staged, commit: Commit) -> Written:
    table, key = staged.table, registry.TABLES[staged.table].primary_key()
    connection.execute(
        f"CREATE TEMP TABLE __stored AS SELECT {listed(key, 's')}, "
        f"n.{quote(key[0])} IS NOT NULL AND {_same_row(table)} AS kept "
        f"FROM (SELECT * FROM {table} s WHERE {staged.where}) s LEFT JOIN __new n ON {same_key(table)}",
        staged.values,
    )
    unchanged = count(connection, "SELECT count(*) FROM __stored WHERE kept")
    deleted = count(connection, "SELECT count(*) FROM __stored") - unchanged
    inserted = staged.rows.num_rows - unchanged
    if inserted or deleted:
        with transaction(connection, commit):
            if deleted:
                connection.execute(
                    f"DELETE FROM {table} s WHERE ({staged.where}) "
                    f"AND EXISTS (SELECT 1 FROM __stored n WHERE NOT n.kept AND {same_key(table)})",
                    staged.values,
                )
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT * FROM __new n "
                f"WHERE NOT EXISTS (SELECT 1 FROM __stored s WHERE s.kept AND {same_key(table)}) "
                f"ORDER BY {listed(key)}"
            )
    connection.execute("DROP TABLE __stored")
    return Written(inserted, deleted, unchanged)
