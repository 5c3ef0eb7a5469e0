"""The `mm` command itself: its options, its errors, the project it works on. Tables on stdout, the rest on stderr."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import typer
from rich.console import Console
from rich.markup import escape

from mm_dagster import logs, modes
from mm_dagster.alerts.pushover import PushoverRefused, PushoverUnavailable
from mm_dagster.config import ConfigError
from mm_dagster.history.backup import BackupError
from mm_dagster.history.lake import LakeError
from mm_dagster.history.mirror import MirrorError
from mm_dagster.market.venue import VenueError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    help="Every quarter hour: may this grid go on, and if not, how long is left to get out.",
    epilog="Where things are: MM_CONFIG_DIR (default configs/demo), MM_DATA_DIR (default data).",
)
# A pipe has no width of its own: 80 columns would fold every name.
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)


class CommandError(Exception):
    """What the user asked for cannot be done. One line, with the remedy."""


FORESEEN = (
    BackupError,
    CommandError,
    ConfigError,
    LakeError,
    MirrorError,
    modes.ModesError,
    VenueError,
    logs.LogsError,
    PushoverRefused,
    PushoverUnavailable,
)
"""Errors that say what to do in one line."""


INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@dataclass
class _Chosen:
    debug: bool = False

    @property
    def level_of_runs(self) -> str:
        """The threshold for what a run says, since the command tells at its end what came of it."""
        return os.environ.get(logs.LEVEL) or ("INFO" if self.debug else "CRITICAL")


chosen = _Chosen()
AsJson = Annotated[bool, typer.Option("--json", help="An array of objects on stdout, and nothing else there.")]


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole trace of an error.")] = False,
) -> None:
    """Options of every command; without one, the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
    chosen.debug = debug
    logs.configure(level="INFO" if debug else "WARNING")


@cache
def project_here() -> Any:
    """The project that the environment names; Dagster's own folders are put below its data."""
    from mm_dagster.pipeline.project import Project

    project = Project.here()
    folder = Path(os.environ.setdefault("MM_DAGSTER_DIR", str(project.data / "dagster")))
    folder.mkdir(parents=True, exist_ok=True)
    modes.tighten(project.data)
    os.environ.setdefault("DAGSTER_HOME", str(Path(__file__).resolve().parents[2]))
    _ = project.config  # an invalid configuration is said before anything runs
    if project.config_error:
        err.print(f"[yellow]the last valid configuration stays in force:[/] {project.config_error}", soft_wrap=True)
    return project


def main() -> None:
    """The entry point: every foreseen error is one line on stderr and a non-zero exit code."""
    modes.keep_private()
    try:
        code = app(standalone_mode=False)
    except typer.Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort, dg.DagsterExecutionInterruptedError):
        code = INTERRUPTED
    except FORESEEN as error:
        logs.clean(error)
        if chosen.debug:
            err.print_exception()
        err.print(f"[bold red]error:[/] {escape(logs.redact(str(error)))}", soft_wrap=True, highlight=False)
        code = 1
    except Exception as error:
        logs.clean(error)
        click_error = getattr(error, "format_message", None)
        if chosen.debug:
            err.print_exception()
        if click_error:
            err.print(f"[bold red]error:[/] {escape(click_error())}", soft_wrap=True, highlight=False)
            code = 2
        else:
            first = escape((logs.redact(str(error)).splitlines() or [""])[0])
            err.print(
                f"[bold red]error:[/] {type(error).__name__}: {first} (not foreseen; `mm --debug ...` shows the trace)",
                soft_wrap=True,
                highlight=False,
            )
            code = 1
    if code == INTERRUPTED:
        err.print("stopped; what was finished stays")
    sys.exit(code or 0)
