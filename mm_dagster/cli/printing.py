"""How answers look: tables for people, JSON for programs, a bar for what takes long."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, BinaryIO

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mm_dagster.bars import iso
from mm_dagster.cli.app import err, out
from mm_dagster.pages.colours import COLOURS
from mm_dagster.pages.plain import plain
from mm_dagster.tables.words import VERDICTS
from mm_dagster.text import number_text

AsJson = Annotated[bool, typer.Option("--json", help="An array of objects on stdout, and nothing else there.")]

TOO_WIDE = 12
"""With more columns than this a table cannot be read: rows are printed one below the other."""


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool, *, title: str = "") -> None:
    """Rows as a table for people or as JSON for programs."""
    if as_json:
        sys.stdout.write(json.dumps([{key: plain(value) for key, value in row.items()} for row in rows], indent=1))
        sys.stdout.write("\n")
        return
    if not rows:
        err.print("nothing to show")
        return
    if len(rows[0]) > TOO_WIDE:
        for number, row in enumerate(rows, start=1):
            out.print(f"[bold]row {number}[/]", highlight=False)
            for name, value in row.items():
                out.print(f"  {name}: {_shown(name, value)}", highlight=False, soft_wrap=True)
        return
    table = Table(title=title or None, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(
            name.replace("_", " "), overflow="fold", justify="right" if isinstance(value, (int, float)) else "left"
        )
    for row in rows:
        table.add_row(*(_shown(name, value) for name, value in row.items()))
    out.print(table)


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        """Nothing until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "")


def days_done(what: str, *, unit: str = "days", transient: bool = False) -> Progress:
    """A bar that counts days, with the rate and the time that is left.

    Args:
        what: the command.
        unit: what is counted.
        transient: the bar is gone when all is done, and where nobody sees it move it is not drawn.
    """
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=err,
        transient=transient,
        disable=transient and not err.is_terminal,
    )


def print_frame(frame: pl.DataFrame, as_json: bool) -> None:
    if not as_json and frame.is_empty():
        err.print(f"no rows; columns: {', '.join(frame.columns)}")
        return
    print_rows(list(frame.iter_rows(named=True)), as_json)


def write_csv(parts: Iterable[pl.DataFrame], file: BinaryIO) -> int:
    """Rows as CSV with a header, UTF-8: times as ISO 8601, lists and structs as JSON, null as nothing, infinity as inf.

    Returns:
        How many rows there were.
    """
    rows = 0
    for number, part in enumerate(parts):
        cells = part.select(_cell(column) for column in part.iter_columns())
        file.write(cells.write_csv(include_header=number == 0).encode())
        rows += part.height
    return rows


def write_json(parts: Iterable[pl.DataFrame], file: BinaryIO) -> int:
    """Rows as one array of objects, one a line, strict JSON: times as ISO 8601 UTC, infinities and NaN as text.

    Returns:
        How many rows there were.
    """
    rows = 0
    file.write(b"[")
    for part in parts:
        for row in part.iter_rows(named=True):
            line = json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False)
            file.write((",\n " if rows else "").encode() + line.encode())
            rows += 1
    file.write(b"]\n")
    return rows


def write_parquet(parts: Iterable[pl.DataFrame], file: BinaryIO) -> int:
    """Rows as Parquet with their own types: lists, structs, nulls, infinities and microseconds in UTC stay as they are.

    Returns:
        How many rows there were.
    """
    # Imported here because only this needs it.
    import pyarrow.parquet as pq

    tables = (part.to_arrow(compat_level=pl.CompatLevel.oldest()) for part in parts)
    first = next(tables)
    rows = 0
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            if table.num_rows:
                writer.write_table(table)
            rows += table.num_rows
    return rows


def _cell(column: pl.Series) -> pl.Series:
    """A column as CSV can hold it."""
    match column.dtype:
        case pl.Datetime(time_zone=zone):
            return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{'Z' if zone else ''}")
        case pl.List() | pl.Struct() | pl.Array():
            texts = [None if value is None else json.dumps(plain(value), ensure_ascii=False) for value in column]
            return pl.Series(column.name, texts, pl.String)
        case pl.Binary():
            return column.bin.encode("hex")
    return column


_SHARES = {*(word.lower() for word in VERDICTS), "unknown"}
"""Columns that are shares of the bars: shown in percent."""


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and name in _SHARES:
        return f"{value:.1%}"
    if isinstance(value, float) and name == "confidence":
        return f"{value:+.2f}"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, list):
        return "\n".join(_shown(name, item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(key, item)}" for key, item in value.items())
    text = str(value)
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)
