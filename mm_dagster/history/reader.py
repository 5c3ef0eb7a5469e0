"""Rows of a query, asked for once more where the upkeep moved them meanwhile: all at once, or part by part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
import polars as pl

from mm_dagster.history.connection import LakeError

BATCH_ROWS = 122_880
"""As many as DuckDB puts into a row group of Parquet."""

_Rows = TypeVar("_Rows")


class Reader:
    """What reads through one connection, and opens another where the upkeep left that behind."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, reopen: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        """
        Args:
            connection: the one that is open.
            reopen: opens another in place of one that knows tables which are no more.
        """
        self.connection = connection
        self._reopen = reopen

    def execute(self, query: str, values: Sequence[Any] = ()) -> Answer:
        """A query; it is carried out when its rows are asked for."""
        return Answer(self, query, list(values))

    def anew(self) -> None:
        """Another connection from here on."""
        self.connection = self._reopen()


@dataclass
class Answer:
    """Rows that are asked for once more where the upkeep dropped a table that the connection still knew.

    DuckLake keeps the rows of small commits in one table for each version of a table's columns; another connection's
    upkeep moves them to a file and drops it.
    """

    reader: Reader
    query: str
    values: list[Any]

    def pl(self) -> pl.DataFrame:
        """All rows as a frame."""
        return self._asked(lambda answer: answer.pl())

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples."""
        return self._asked(lambda answer: answer.fetchall())

    def _asked(self, take: Callable[[duckdb.DuckDBPyConnection], _Rows]) -> _Rows:
        try:
            return take(self.reader.connection.execute(self.query, self.values))
        except duckdb.Error as error:
            if not is_behind(error):
                raise
        self.reader.anew()
        return take(self.reader.connection.execute(self.query, self.values))


def parts(connection: duckdb.DuckDBPyConnection, query: str) -> Generator[pl.DataFrame, None, None]:
    """The rows of a query, part by part.

    Raises:
        LakeError: a column has a type that no file format here has.
    """
    # Imported here because DuckDB and polars, too, import it only where rows are read.
    import pyarrow as pa

    batches = connection.execute(query).to_arrow_reader(BATCH_ROWS)
    for column in batches.schema:
        if "interval" in str(column.type):
            raise LakeError(f"{column.name} is an INTERVAL, which no file format here has; cast it to VARCHAR")
    try:
        part = next(batches, None)  # an error of the query shows before anything is given out
        # Not `schema.empty_table()`, which imports pandas where it is installed.
        yield _frame(pa.Table.from_batches([], batches.schema))
        while part is not None:
            yield _frame(part)
            part = next(batches, None)
    finally:
        # Whoever stops early holds no transaction open.
        batches.close()


def is_behind(error: BaseException) -> bool:
    """Whether a connection failed since it knows tables of inlined rows that are no more.

    Where they go between two of its own questions, DuckDB calls that an internal error, and the connection is of no
    more use.
    """
    text = str(error)
    is_broken = isinstance(error, duckdb.InternalException | duckdb.FatalException)
    return is_broken or "ducklake_inlined_" in text or "Current transaction is aborted" in text


def _frame(part: Any) -> pl.DataFrame:
    frame = pl.from_arrow(part)
    assert isinstance(frame, pl.DataFrame)
    return frame
