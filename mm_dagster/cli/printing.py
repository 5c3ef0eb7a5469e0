"""How answers look: tables for people, JSON for programs, a bar for what takes long."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mm_dagster.bars import iso
from mm_dagster.cli.app import err, out
from mm_dagster.tables import VERDICTS

AsJson = Annotated[bool, typer.Option("--json", help="An array of objects on stdout, and nothing else there.")]

TOO_WIDE = 12
"""With more columns than this a table cannot be read: rows are printed one below the other."""


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool, *, title: str = "") -> None:
    """Rows as a table for people or as JSON for programs."""
    if as_json:
        sys.stdout.write(json.dumps([{key: _plain(value) for key, value in row.items()} for row in rows], indent=1))
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


def days_done(what: str, *, transient: bool = False) -> Progress:
    """A bar that counts days, with the time that is left.

    Args:
        what: the command.
        transient: the bar is gone when all is done, and where nobody sees it move it is not drawn.
    """
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days"),
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


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: times as ISO 8601 UTC, infinities and NaN as text."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


COLOURS = {
    "NORMAL": "green", "WARNING": "yellow", "LATEST_ACCEPTABLE_EXIT": "dark_orange", "MANDATORY_EXIT": "bold red",
    "RANGE_OK": "green", "RANGE_WEAK": "yellow", "TRANSITION": "dark_orange", "TREND": "red",
    "OK": "green", "ENTER": "green", "WATCH": "yellow",
    "HOLDS": "green", "DIFFERS": "bold red", "NOTHING COMPARED": "yellow",
}  # fmt: skip

_SHARES = {*(word.lower() for word in VERDICTS), "unknown"}
"""Columns that are shares of the bars: shown in percent."""


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and name in _SHARES:
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.6g}" if name != "confidence" else f"{value:+.2f}"
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, list):
        return "\n".join(_shown(name, item) for item in value)
    text = str(value)
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else escape(text)
