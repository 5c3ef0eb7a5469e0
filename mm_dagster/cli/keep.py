"""For the engineer: everything that cannot be made again, in one file, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mm_dagster import environment
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.history.locks import Locks

if TYPE_CHECKING:
    from mm_dagster.history import backup as backups

PANEL = "Keep it well"
history = typer.Typer(help="The history as a whole: rebuild what was lost of it, or copy it to another place.")
app.add_typer(history, name="history", rich_help_panel=PANEL)
_STEPS = 3
"""Each byte is read for its checksum, packed, and read back."""


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm backup --to /mnt/safe/mm.tar.gz`, `mm backup --to mm.tar.gz --json`",
)
def backup(
    to: Annotated[
        Path, typer.Option(help="The file to write; one of this name is replaced when the new one is proven.")
    ],
    as_json: AsJson = False,
) -> None:
    """Save history, mirror, last valid configuration and Dagster's storage to one file, while the pipeline runs.

    It waits for the run that is under way, takes everything as of one moment, and is read back and compared before it
    gets its name. Secrets are not in it: they are nowhere in the data.
    """
    from mm_dagster.history import backup as backups

    if not to.resolve().parent.is_dir():
        raise CommandError(f"--to {to}: there is no folder {to.resolve().parent}; make it first")
    if environment.is_demo_by_default():
        # Cron has neither the variables nor the working folder of a terminal.
        raise CommandError(
            "nothing names what to save, and the demo need not be: set MM_HOME, or MM_CONFIG_DIR and MM_DATA_DIR"
        )
    project = project_here()
    files = project.place if project.place.is_remote else None
    places = backups.Places(project.data, environment.dagster_folder(project.data), files)
    _ = project.lake
    with backups.beside(project.data, "backup") as folder:
        with _turn(project.locks):
            left_out = backups.stage(places, folder)
        with _bytes_done("backup", _STEPS * backups.staged_bytes(folder)) as progress:
            made = backups.pack(folder, to.resolve(), left_out=left_out, advance=progress)
    for what in made.left_out:
        err.print(f"[yellow]left out:[/] {what}", soft_wrap=True)
    _say(to, made, as_json, "Backup")


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm restore mm.tar.gz --data /srv/mm/data`, `mm restore mm.tar.gz --force`",
)
def restore(
    file: Annotated[Path, typer.Argument(help="What `mm backup --to` wrote.")],
    data: Annotated[Path | None, typer.Option(help="The folder to restore to; default: MM_DATA_DIR.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Move what is there aside instead of refusing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup back. Nothing changes until all is unpacked and every checksum is right. Stop `mm up` first.

    The files of the history go to the object storage that history.yaml names, if it does; with --data all of it comes
    to that folder.
    """
    from mm_dagster.config.load import read_history
    from mm_dagster.history import backup as backups
    from mm_dagster.pipeline.project import place_of

    folder = data.resolve() if data else environment.data_folder()
    places = backups.Places(folder, folder / "dagster")
    if data is None:
        said_in = environment.config_folder() / "history.yaml"
        place = place_of(read_history(said_in), said_in, folder / "history")
        places = backups.Places(folder, environment.dagster_folder(folder), place if place.is_remote else None)
    folder.mkdir(parents=True, exist_ok=True)
    size = file.stat().st_size if file.is_file() else 0
    with _turn(Locks(folder)), _bytes_done("restore", size or None) as progress:
        restored, aside = backups.restore(file, places, force=force, advance=progress)
    if aside:
        err.print(f"what was there before is in {aside}; delete it when you are content", soft_wrap=True)
    _say(folder, restored, as_json, "Restored")


@history.command(epilog="Example: `mm history rescue`, then `mm doctor`, `mm tick`")
def rescue(as_json: AsJson = False) -> None:
    """Rebuild a lost catalogue from its newest nightly copy and the files, as far as they prove it.

    Stop `mm up` first. What cannot be had is said, a line each. The former content stays beside the new, in a folder
    that is named, until you delete it. Where a server keeps the catalogue only files that are gone are forgotten.
    """
    from mm_dagster.history.rescue import forget_lost
    from mm_dagster.history.rescue import rescue as rebuild

    data = environment.data_folder()
    if not data.is_dir():
        raise CommandError(f"{data}: is not there; name the folder of the data in MM_DATA_DIR")
    project = project_here()
    with _turn(project.locks):
        if project.config.history.catalog is not None:
            done = forget_lost(project.whole_lake)
        else:
            done = rebuild(data / "history", datetime.now(UTC), project.place)
    for line in done.said:
        err.print(f"[yellow]note:[/] {escape(line)}", soft_wrap=True, highlight=False)
    if project.config.history.catalog is None:
        err.print(f"what was there before is in {done.aside}; delete it when you are content", soft_wrap=True)
    rows: list[dict[str, Any]] = [
        {
            "table": table, "rows": number, "from_later_files": done.taken.get(table, 0),
            "contested_keys": done.contested.get(table, 0),
        }
        for table, number in done.rows.items()
    ]  # fmt: skip
    print_rows(rows, as_json, title=f"Rescued, from {done.base or 'the files alone'}")


@history.command(
    epilog="Examples: `mm history copy --to /mnt/safe/history`, "
    "`mm history copy --to data/in-s3 --settings new/history.yaml --json`"
)
def copy(
    to: Annotated[Path, typer.Option(help="The new lake's folder: its catalogue, and its files unless --settings.")],
    settings: Annotated[
        Path | None, typer.Option(help="A history.yaml whose `data` and `catalog` are those of the new lake.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy all rows to another lake: to a folder, to object storage or back, to another catalogue.

    The pipeline goes on meanwhile and waits only for the end. Stopped, it goes on when it is called again; until all
    digests agree nobody can open the copy. Nothing is changed here: put the new folder and its history.yaml in the
    place of the old ones when you are content. What was known at which time (`--at`) stays with the old one.
    """
    from mm_dagster.config.history import HistoryConfig
    from mm_dagster.config.load import read_history
    from mm_dagster.history import transfer
    from mm_dagster.pipeline.project import catalog_of, place_of

    project = project_here()
    where = (read_history(settings), settings) if settings else (HistoryConfig(), to)
    if settings and not settings.is_file():
        raise CommandError(f"--settings {settings}: is not there; give a file like history.yaml")
    folder = to.resolve()
    made = transfer.target(folder, catalog_of(*where), place_of(*where, folder), project.whole_lake)
    with _rows_done() as progress:
        copied = transfer.copy(project.whole_lake, made, project.locks.of("pipeline"), progress)
    print_rows([asdict(one) for one in copied], as_json, title=f"Copied to {made.sessions.place}, every digest agrees")


def _say(where: Path, done: backups.Backup, as_json: bool, title: str) -> None:
    row: dict[str, Any] = {
        "where": str(where), "made_at": done.made_at, "files": done.files, "bytes": done.bytes,
        "packed_bytes": done.packed, "left_out": list(done.left_out),
    }  # fmt: skip
    print_rows([row], as_json, title=title)


@contextmanager
def _turn(locks: Locks) -> Iterator[None]:
    """The pipeline's turn; says so when it must wait for it."""
    lock = locks.of("pipeline")
    if not lock.try_acquire():
        err.print("waiting for the run that is under way")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _rows_done() -> Iterator[Callable[[int], None]]:
    """Counts rows."""
    progress = Progress(
        TextColumn("copy"), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn(), console=err, transient=True,
        disable=not err.is_terminal,
    )  # fmt: skip
    with progress:
        task = progress.add_task("", total=None)
        yield lambda number: progress.advance(task, number)


@contextmanager
def _bytes_done(what: str, total: int | None) -> Iterator[backups.Advance]:
    """A bar that counts bytes, with the time that is left."""
    progress = Progress(
        TextColumn(what), BarColumn(), DownloadColumn(), TextColumn("left"), TimeRemainingColumn(), console=err,
        transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with progress:
        bar = progress.add_task("", total=total)
        yield lambda number: progress.advance(bar, number)
