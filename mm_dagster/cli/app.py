"""The `mm` command itself: its options, its errors, the project it works on. Tables on stdout, the rest on stderr."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mm_dagster import environment, logs, modes
from mm_dagster.cli.remedies import can_be_said, in_words, remedy, unforeseen
from mm_dagster.environment import VariableError
from mm_dagster.errors import ForeseenError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    help="Every quarter hour: may this grid go on, and if not, how long is left to get out.",
    epilog="Where things are: MM_CONFIG_DIR and MM_DATA_DIR; else the home that `mm init` made: of MM_HOME, around the "
    "working folder, or the one that is noted; else the demo. The first line says which.",
)
# A pipe has no width of its own: 80 columns would fold every name.
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)


class CommandError(ForeseenError):
    """What the user asked for cannot be done. One line, with the remedy."""


INTERRUPTED = 130
"""Exit code after Ctrl-C."""


FINISHED_STAYS, NOTHING_WRITTEN = "what was finished stays", "nothing was written"


@dataclass
class _Chosen:
    debug: bool = False
    when_stopped: str = FINISHED_STAYS
    """What Ctrl-C leaves behind, and what goes on from there."""

    @property
    def level_of_runs(self) -> str:
        """The threshold for what a run says, since the command tells at its end what came of it."""
        return os.environ.get(logs.LEVEL) or ("INFO" if self.debug else "CRITICAL")


chosen = _Chosen()


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole trace of an error.")] = False,
) -> None:
    """Options of every command; without one, the help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
    chosen.debug, chosen.when_stopped = debug, FINISHED_STAYS
    with suppress(VariableError):
        # Before anything compiled is loaded; what is wrong with the folder is said by the command.
        environment.find_numba_cache(environment.data_folder())
        environment.find_matplotlib_cache(environment.data_folder())
    try:
        logs.configure(level="INFO" if debug else "WARNING")
    except VariableError as error:
        _warn(f"{error}; the default is taken")


def folders_here() -> Path:
    """Makes the folders that the environment names; nothing of the configuration or the history is read.

    Returns:
        Dagster's own, below the data unless a variable says otherwise.
    """
    fallen_back = environment.fallen_back()
    if fallen_back:
        err.print(escape(fallen_back), soft_wrap=True, highlight=False)
    data = environment.made(environment.DATA_DIR, environment.data_folder())
    folder = environment.made(environment.DAGSTER_DIR, environment.dagster_folder(data))
    # Dagster reads the variable itself, and neither ~ nor a line end would be taken away there.
    os.environ[environment.DAGSTER_DIR] = str(folder)
    modes.tighten(data)
    os.environ.setdefault("DAGSTER_HOME", str(_instance(folder)))
    return folder


@cache
def project_here() -> Any:
    """The project that the environment names; Dagster's own folders are put below its data."""
    from mm_dagster.pipeline.project import Project

    project = Project.here(says_troubles=False)
    folders_here()
    _ = project.config  # an invalid configuration is said before anything runs
    for trouble in project.troubles:
        _warn(trouble.sentence)
    return project


def _instance(folder: Path) -> Path:
    """The folder with Dagster's dagster.yaml, beside which it makes some of its own: not among installed packages."""
    if not environment.is_installed():
        return environment.shipped()
    ours, copy = (environment.shipped() / "dagster.yaml").read_bytes(), folder / "dagster.yaml"
    if not copy.is_file() or copy.read_bytes() != ours:
        fresh = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
        fresh.write_bytes(ours)
        fresh.replace(copy)
    return folder


def _warn(sentence: str) -> None:
    err.print(f"[yellow]to do:[/] {escape(logs.redact(sentence))}", soft_wrap=True, highlight=False)


_PLAIN = str.maketrans(
    {"─": "-", "━": "-", "╸": "-", "╺": "-", "│": "|", "┃": "|", "●": "o", "·": ".", "×": "x", "–": "-", "—": "-",
     "…": "...", "→": "->", "≤": "<=", "≥": ">=", "±": "+-", "µ": "u", "\u202f": " ", "\u00a0": " "}
)  # fmt: skip


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What a terminal that is not UTF-8 shows in the place of what it cannot: a plain character that means the same."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    # A letter without its accent is better than none.
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore") or b"?"
    return letters.decode(), error.end


def main() -> None:
    """The entry point: every foreseen error is one line on stderr and a non-zero exit code."""
    if sys.platform == "win32":
        # Locks, modes and signals are those of POSIX; nobody has tried it elsewhere.
        sys.exit("error: mm_dagster does not run on Windows itself; run it in WSL 2, or as a container")
    modes.keep_private()
    if hasattr(signal, "siginterrupt"):
        # polars catches Ctrl-C in a way that lets a question wait on: nobody could leave it.
        signal.siginterrupt(signal.SIGINT, True)
    codecs.register_error("plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        # What a terminal cannot show must not undo what was done.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")
    try:
        code = app(standalone_mode=False)
    except typer.Exit as error:
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error, typer.Abort):
            err.print()  # behind the question that was not answered
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. What is still in the buffer would be complained of at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except BaseException as error:
        if not can_be_said(error):
            raise
        code = _say_what_went_wrong(error)
    if code == INTERRUPTED:
        err.print(f"stopped; {chosen.when_stopped}", soft_wrap=True, highlight=False, markup=False)
    sys.exit(code or 0)


def _say_what_went_wrong(error: BaseException) -> int:
    """One line on stderr, with the remedy where there is one; the exit code."""
    logs.clean(error)
    if chosen.debug:
        err.print_exception()
    asked_wrongly = getattr(error, "format_message", None)
    if isinstance(error, ForeseenError):
        says, help_ = str(error), None if error.is_complete else remedy(error)
        line = f"{says} ({help_})" if help_ else says
    elif asked_wrongly:
        line = asked_wrongly()
    else:
        line = in_words(error) or unforeseen(error)
    err.print(f"[bold red]error:[/] {escape(logs.redact(line))}", soft_wrap=True, highlight=False)
    return 2 if asked_wrongly and not isinstance(error, ForeseenError) else 1
