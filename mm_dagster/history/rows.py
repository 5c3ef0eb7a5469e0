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


def replace(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: pl.DataFrame,
    where: str,
    values: list[Any],
    commit: Commit,
) -> Written:
    """Deletes and inserts only what differs between the rows that `where` selects and the new ones.

    Args:
        connection: one that writes.
        table: its name.
        rows: the new rows, valid ones.
        where: selects rows `s` of the table, in SQL; the new ones are the table `__new`.
        values: to be bound in it.
        commit: what the write says of itself.
    """
    key = registry.TABLES[table].primary_key()
    connection.register("__given", rows)
    connection.execute("CREATE TEMP TABLE __new AS SELECT * FROM __given")
    connection.unregister("__given")
    connection.execute(
        f"CREATE TEMP TABLE __stored AS SELECT {listed(key, 's')}, "
        f"n.{quote(key[0])} IS NOT NULL AND {_same_row(table)} AS kept "
        f"FROM (SELECT * FROM {table} s WHERE {where}) s LEFT JOIN __new n ON {same_key(table)}",
        values,
    )
    unchanged = count(connection, "SELECT count(*) FROM __stored WHERE kept")
    deleted = count(connection, "SELECT count(*) FROM __stored") - unchanged
    inserted = rows.height - unchanged
    if inserted or deleted:
        with transaction(connection, commit):
            if deleted:
                connection.execute(
                    f"DELETE FROM {table} s WHERE ({where}) "
                    f"AND EXISTS (SELECT 1 FROM __stored n WHERE NOT n.kept AND {same_key(table)})",
                    values,
                )
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT * FROM __new n "
                f"WHERE NOT EXISTS (SELECT 1 FROM __stored s WHERE s.kept AND {same_key(table)}) "
                f"ORDER BY {listed(key)}"
            )
    connection.execute("DROP TABLE __new")
    connection.execute("DROP TABLE __stored")
    return Written(inserted, deleted, unchanged)
