"""`mm history copy`: all rows of a lake in another one, wherever the files and the catalogue of either are.

Month by month what differs is written, told by a digest of each month on both sides: so a copy that was interrupted
goes on, and one that ran beside a writer catches up. Until every digest agrees the marker of the new lake says that it
is half a copy, and nobody else opens it. Copied is what is stored now: what was known at which time stays with the
former.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mm_dagster.bars import Span, iso
from mm_dagster.history import marker, schema
from mm_dagster.history.connection import Commit, LakeError, quote
from mm_dagster.history.lake import Lake
from mm_dagster.history.places import Place
from mm_dagster.tables import registry

_Months = dict[datetime | None, tuple[int, str]]
"""Rows and digest of each month, by its first moment; of a table without a time all is under None."""


@dataclass(frozen=True)
class Copied:
    """A table of both lakes.

    Attributes:
        table: its name.
        rows: how many it has.
        digest: of all values, the same on both sides.
        written: how many rows this call wrote.
    """

    table: str
    rows: int
    digest: str
    written: int


def target(folder: Path, catalog: str | None, place: Place | None, source: Lake) -> Lake:
    """The lake that becomes a copy: a new one, or half a copy of the same lake.

    Args:
        folder: holds its catalogue, if that is a file.
        catalog: address of a PostgreSQL database that is its catalogue.
        place: where its files are, if not in the folder.
        source: what is copied.

    Raises:
        LakeError: there is another lake.
    """
    own = source.sessions
    made = Lake(folder, catalog, place, half=True)
    there, here = marker.read(made.sessions.place), marker.read(own.place)
    if here is None or here.id is None or there is None or there.id is None:
        raise LakeError(f"{own.place}: its marker {marker.NAME} cannot be read; run `mm doctor`")
    if there.id == here.id:
        raise LakeError(f"{made.sessions.place}: is the lake itself; name another folder, or another data.path")
    if there.copy_of != here.id:
        with made.sessions.reading() as reader:
            used = schema.used_tables(reader) & registry.TABLES.keys()
        if used:
            raise LakeError(f"{made.sessions.place}: holds another lake; name an empty folder, or another data.path")
        marker.write(made.sessions.place, there.id, copy_of=here.id)
    return made


def copy(
    source: Lake, made: Lake, quiet: AbstractContextManager[object], advance: Callable[[int], None]
) -> list[Copied]:
    """Writes what the copy lacks: first beside whoever writes, then the rest while nobody does.

    Args:
        source: what is copied.
        made: see `target`.
        quiet: entered for the second part: the turn of the pipeline.
        advance: told of rows that are written.

    Raises:
        LakeError: they do not agree in the end, or one of them cannot be read or written; called again, it goes on.
    """
    written = dict.fromkeys(registry.TABLES, 0)
    for table, number in _bring(source, made, advance):
        written[table] += number
    with quiet:
        for table, number in _bring(source, made, advance):
            written[table] += number
        copied = []
        for table in registry.TABLES:
            wanted, found = _months(source, table), _months(made, table)
            if wanted != found:
                where = next(month for month in wanted.keys() | found.keys() if wanted.get(month) != found.get(month))
                raise LakeError(
                    f"{made.sessions.place}: {table}{f' of {iso(where)[:7]}' if where else ''} is not what the lake "
                    "holds; the copy stays half. Delete it, and begin again"
                )
            rows = sum(number for number, _ in wanted.values())
            copied.append(Copied(table, rows, registry.identity(sorted(map(str, wanted.items()))), written[table]))
        there = marker.read(made.sessions.place)
        assert there is not None
        assert there.id is not None
        marker.write(made.sessions.place, there.id)
    return copied


def _bring(source: Lake, made: Lake, advance: Callable[[int], None]) -> Iterator[tuple[str, int]]:
    """Writes each month that differs."""
    for table in registry.TABLES:
        wanted, found = _months(source, table), _months(made, table)
        commit = Commit("", "copy", table)
        for month in sorted(wanted.keys() | found.keys(), key=str):
            if wanted.get(month) == found.get(month):
                continue
            if month is None:
                done = made.upsert(table, source.read(table), commit=commit)
            else:
                span = Span(month, (month + timedelta(days=32)).replace(day=1))
                done = made.write(table, source.read(table, span=span), span=span, commit=commit)
            advance(done.inserted)
            yield table, done.inserted


def _months(lake: Lake, table: str) -> _Months:
    """Rows and digest of each month of a table; the order of the rows counts for nothing, every value for something."""
    if not lake.ever_held(table):
        return {}
    column = registry.time_column(table)
    # A bar that closes at midnight opened in the month before: as a write selects it.
    opened = column if column == "open_time" else f"{column} - INTERVAL 1 MICROSECOND"
    month = f"date_trunc('month', {opened})" if column else "NULL::TIMESTAMPTZ"
    row = f"hash({', '.join(quote(name) for name in registry.dtypes(table))})"
    found = lake.sql(
        f"SELECT {month} AS month, count(*) AS rows, bit_xor({row}) || '+' || sum({row}::HUGEINT) AS digest "
        f"FROM {table} GROUP BY month"
    )
    return {at: (rows, digest) for at, rows, digest in found.iter_rows()}
