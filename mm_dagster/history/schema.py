"""The tables, columns and views of the lake as this program knows them, made where they are lacking."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl

from mm_dagster.history import views
from mm_dagster.history.connection import METADATA, Commit, LakeError, count, quote, quoted, transaction
from mm_dagster.history.reader import Reader
from mm_dagster.tables import registry


def is_complete(folder: Path, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether all tables and columns of this program are there.

    Raises:
        LakeError: a newer program wrote it.
    """
    columns = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'history'"
    ).fetchall()
    if ("lake_schema", "version") not in columns:
        return False
    version = count(connection, "SELECT coalesce(max(version), 0) FROM lake_schema")
    if version > registry.SCHEMA_VERSION:
        raise LakeError(
            f"{folder}: was written by a newer program (schema {version}, this one knows "
            f"{registry.SCHEMA_VERSION}); update mm_dagster"
        )
    # duckdb_tables() has the comment, too; it looks at all files of all tables for it, which every command would pay.
    said = connection.execute(
        f"SELECT value FROM {METADATA}.ducklake_tag tag JOIN {METADATA}.ducklake_table ON object_id = table_id "
        "WHERE table_name = 'lake_schema' AND key = 'comment' "
        "AND tag.end_snapshot IS NULL AND ducklake_table.end_snapshot IS NULL"
    ).fetchall()
    if said != [(about(),)]:
        return False
    needed = {(table, name) for table in registry.TABLES for name in registry.dtypes(table)}
    return version == registry.SCHEMA_VERSION and needed <= set(columns)


def used_tables(connection: duckdb.DuckDBPyConnection | Reader) -> set[str]:
    """The tables that hold a row or once held one: DuckLake counts the rows of a table from its first one on."""
    rows = connection.execute(
        f"SELECT table_name FROM {METADATA}.ducklake_table JOIN {METADATA}.ducklake_table_stats USING (table_id) "
        "WHERE end_snapshot IS NULL"
    ).fetchall()
    return {name for (name,) in rows}


def complete(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables, columns and views as this program knows them, and notes the version of the schema."""
    connection.execute("CALL history.set_option('parquet_compression', 'zstd')")
    with transaction(connection, Commit("", "schema", str(registry.SCHEMA_VERSION))):
        connection.execute("CREATE TABLE IF NOT EXISTS lake_schema (version BIGINT)")
        for table in registry.TABLES:
            make_table(connection, table)
        for name, view in views.VIEWS.items():
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {view.query}")
            connection.execute(f"COMMENT ON VIEW {name} IS '{quoted(view.comment)}'")
        connection.execute(f"COMMENT ON TABLE lake_schema IS '{quoted(about())}'")
        connection.execute("DELETE FROM lake_schema")
        connection.execute("INSERT INTO lake_schema VALUES (?)", [registry.SCHEMA_VERSION])


def about() -> str:
    """The comment of `lake_schema`: it tells one set of views and descriptions from another."""
    said = [(name, view.query, view.comment) for name, view in views.VIEWS.items()]
    described = [(table, schema.__doc__, registry.describe(table)) for table, schema in registry.TABLES.items()]
    return f"Version of the tables; views and descriptions are those of {registry.identity(said, described)}."


def make_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Makes a table, or adds the columns that an older one lacks; both carry their descriptions."""
    known = dict(
        connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'history' AND table_name = ?",
            [table],
        ).fetchall()
    )
    described = {column["column"]: column["description"] or "" for column in registry.describe(table)}
    types = {name: sql_type(dtype) for name, dtype in registry.dtypes(table).items()}
    if not known:
        connection.execute(f"CREATE TABLE {table} ({', '.join(f'{quote(n)} {t}' for n, t in types.items())})")
        column = registry.time_column(table)
        if column:
            connection.execute(f"ALTER TABLE {table} SET PARTITIONED BY (year({column}), month({column}))")
    for name in [name for name in types if known and name not in known]:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote(name)} {types[name]}")
    comment = " ".join((registry.TABLES[table].__doc__ or "").split())
    connection.execute(f"COMMENT ON TABLE {table} IS '{quoted(comment)}'")
    for name in types:
        if known.get(name) != described[name]:
            connection.execute(f"COMMENT ON COLUMN {table}.{quote(name)} IS '{quoted(described[name])}'")


def sql_type(dtype: pl.DataType) -> str:
    match dtype:
        case pl.String():
            return "VARCHAR"
        case pl.Float64():
            return "DOUBLE"
        case pl.Int64():
            return "BIGINT"
        case pl.Boolean():
            return "BOOLEAN"
        case pl.Datetime():
            return "TIMESTAMPTZ"
        case pl.List(inner=inner):
            return f"{sql_type(inner)}[]"  # type: ignore[arg-type]
        case pl.Struct(fields=fields):
            return f"STRUCT({', '.join(f'{quote(f.name)} {sql_type(f.dtype)}' for f in fields)})"  # type: ignore[arg-type]
    raise TypeError(f"no column type for {dtype}")
