"""For the analyst: the history in SQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import polars as pl
import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.arguments import time_of
from mm_dagster.cli.printing import AsJson, print_frame, write_csv, write_json, write_parquet

PANEL = "Ask"
SHOWN_ROWS = 1_000
"""A table for people ends here."""


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_WRITERS: dict[Format, Callable[[Iterator[pl.DataFrame], BinaryIO], int]] = {
    Format.CSV: write_csv,
    Format.JSON: write_json,
    Format.PARQUET: write_parquet,
}


@app.command(
    rich_help_panel=PANEL,
    epilog='Examples: `mm sql` lists tables and views, `mm sql "FROM state_now"`, '
    "`mm sql \"FROM candle_verdict WHERE symbol = 'ETH-USDT'\" --out eth.parquet`, "
    '`mm sql --at 2026-06-20T12:00Z "FROM state_now"`, `mm sql --file week.sql --format csv | head`',
)
def sql(
    query: Annotated[
        str | None, typer.Argument(help="One SELECT in DuckDB's SQL; `-` reads it from stdin; none: what there is.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Read the query from this file.")] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the suffix of --out, else table.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Write to this file: .csv, .json or .parquet.")] = None,
    at: Annotated[str | None, typer.Option(help="Every table and view as it was stored at that time, UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the history. Read only; it never blocks the pipeline, nor the pipeline it."""
    text, chosen, then = _query(query, file), _format(form, target, as_json), _then(at)
    # Rows of every source are shown, so nobody need look at whose they are.
    lake = project_here().whole_lake
    parts = lake.stream(text, at=then) if text else iter([lake.contents()])
    if target is not None:
        with _whole_or_nothing(target) as written:
            rows = _WRITERS[chosen](parts, written)
        err.print(f"{rows:,} rows in {target}", highlight=False, soft_wrap=True)
    elif chosen is Format.TABLE:
        _print(parts)
    else:
        _pipe(parts, chosen)


def _query(query: str | None, file: Path | None) -> str | None:
    if query and file:
        raise CommandError(f"--file {file}: there is a query already; give one of them")
    if file:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--file {file}: {getattr(error, 'strerror', None) or error}") from None
    return sys.stdin.read() if query == "-" else query


def _format(form: Format | None, target: Path | None, as_json: bool) -> Format:
    if as_json:
        if form not in (None, Format.JSON):
            raise CommandError(f"--json and --format {form} contradict each other")
        return Format.JSON
    if target is None or form in _WRITERS:
        return form or Format.TABLE
    known = {f".{one}": one for one in _WRITERS}
    if form is Format.TABLE or target.suffix not in known:
        raise CommandError(
            f"--out {target}: a file is one of {', '.join(known)}; else say --format csv, json or parquet"
        )
    return known[target.suffix]


def _then(at: str | None) -> datetime | None:
    if at is None:
        return None
    then = time_of(at, "--at")
    if then > datetime.now(UTC):
        raise CommandError(f"--at {at}: {iso(then)} lies in the future")
    return then


def _print(parts: Iterator[pl.DataFrame]) -> None:
    """As a table, which ends where nobody would read on."""
    shown = next(parts)
    for part in parts:
        shown = pl.concat([shown, part])
        if shown.height > SHOWN_ROWS:
            break
    print_frame(shown.head(SHOWN_ROWS), as_json=False)
    if shown.height > SHOWN_ROWS:
        err.print(f"the first {SHOWN_ROWS:,} rows; `--out rows.parquet` (or .csv, .json) writes all of them")


def _pipe(parts: Iterator[pl.DataFrame], chosen: Format) -> None:
    """To stdout, until whoever reads it has seen enough, like `head`."""
    if chosen is Format.PARQUET and sys.stdout.isatty():
        raise CommandError("--format parquet: a terminal cannot show it; say --out rows.parquet, or pipe it")
    try:
        _WRITERS[chosen](parts, sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        # What Python flushes at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the target's place when all is written; until then the target stays as it was."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as written:
            yield written
        part.replace(target)
    except OSError as error:
        raise CommandError(f"--out {target}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
