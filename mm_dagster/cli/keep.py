"""For the engineer: everything that cannot be made again, in one file, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mm_dagster import environment
from mm_dagster.cli.app import CommandError, app, err, project_here
from mm_dagster.cli.printing import AsJson, print_rows

if TYPE_CHECKING:
    from mm_dagster.history import backup as backups

PANEL = "Keep it well"
history = typer.Typer(help="The history as a whole: `mm history rescue` rebuilds a lost catalogue.")
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
    places = backups.Places(project.data, environment.dagster_folder(project.data))
    _ = project.lake
    with backups.beside(project.data, "backup") as folder:
        with _turn(project.data):
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
    """Put a backup back. Nothing changes until all is unpacked and every checksum is right. Stop `mm up` first."""
    from mm_dagster.history import backup as backups

    folder = data.resolve() if data else environment.data_folder()
    places = backups.Places(folder, folder / "dagster" if data else environment.dagster_folder(folder))
    folder.mkdir(parents=True, exist_ok=True)
    size = file.stat().st_size if file.is_file() else 0
    with _turn(folder), _bytes_done("restore", size or None) as progress:
        restored, aside = backups.restore(file, places, force=force, advance=progress)
    if aside:
        err.print(f"what was there before is in {aside}; delete it when you are content", soft_wrap=True)
    _say(folder, restored, as_json, "Restored")


@history.command(epilog="Example: `mm history rescue`, then `mm doctor`, `mm tick`")
def rescue(as_json: AsJson = False) -> None:
    """Rebuild a lost catalogue from its newest nightly copy and the files, as far as they prove it.

    Stop `mm up` first. What cannot be had is said, a line each. The former content stays beside the new, in a folder
    that is named, until you delete it.
    """
    from mm_dagster.history.rescue import rescue as rebuild

    data = environment.data_folder()
    if not data.is_dir():
        raise CommandError(f"{data}: is not there; name the folder of the data in MM_DATA_DIR")
    with _turn(data):
        done = rebuild(data / "history", datetime.now(UTC))
    for line in done.said:
        err.print(f"[yellow]note:[/] {escape(line)}", soft_wrap=True, highlight=False)
    err.print(f"what was there before is in {done.aside}; delete it when you are content", soft_wrap=True)
    rows: list[dict[str, Any]] = [
        {
            "table": table, "rows": number, "from_later_files": done.taken.get(table, 0),
            "contested_keys": done.contested.get(table, 0),
        }
        for table, number in done.rows.items()
    ]  # fmt: skip
    print_rows(rows, as_json, title=f"Rescued, from {done.base or 'the files alone'}")


def _say(where: Path, done: backups.Backup, as_json: bool, title: str) -> None:
    row: dict[str, Any] = {
        "where": str(where), "made_at": done.made_at, "files": done.files, "bytes": done.bytes,
        "packed_bytes": done.packed, "left_out": list(done.left_out),
    }  # fmt: skip
    print_rows([row], as_json, title=title)


@contextmanager
def _turn(data: Path) -> Iterator[None]:
    """The pipeline's turn; says so when it must wait for it."""
    from filelock import FileLock, Timeout

    lock = FileLock(data / "pipeline.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        err.print("waiting for the run that is under way")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
