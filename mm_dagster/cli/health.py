"""For whatever watches the machine: is the program alive, and is what it says up to date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, app, out, project_here
from mm_dagster.cli.daemon import daemon_beat, first_cause, stands_by
from mm_dagster.cli.examine import PANEL, freshness
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.cli.remedies import can_be_said, in_words, unforeseen
from mm_dagster.errors import ForeseenError
from mm_dagster.text import spoken


class Question(StrEnum):
    """What is asked: a restart may help where something is not live, and only patience where it is not ready."""

    live = "live"
    ready = "ready"


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm health live`, `mm health ready --tick-minutes 40`, `mm health ready --json`",
)
def health(
    question: Annotated[Question, typer.Argument(help="live: the daemon beats; ready: the decisions are fresh too.")],
    tick_minutes: Annotated[
        int, typer.Option(min=1, help="Minutes since a tick last finished, from which it is not ready.")
    ] = 35,
    as_json: AsJson = False,
) -> None:
    """Answer a probe: exit code 0, or 1 with the first reason in one line. Asks no exchange and no channel.

    `live`: configuration and lake can be read, and Dagster's daemon has beaten within five minutes. `ready`: also, the
    code location loads, a tick finished lately, and the newest bar of each market is fresh. Where `mm daemon` of this
    computer stands by, the lake is not looked at: a newer program would bring its tables up to date too early.
    """
    rows = _answers(question, timedelta(minutes=tick_minutes), project_here().now())
    wrong = [f"{row['part']}: {row['detail']}" for row in rows if row["result"] != "OK"]
    if as_json:
        print_rows(rows, as_json)
    elif wrong:
        raise CommandError(f"not {question}: {wrong[0]}")
    else:
        out.print(f"{question}: {', '.join(row['part'] for row in rows)}", highlight=False)
    if wrong:
        raise typer.Exit(1)


def _answers(question: Question, longest: timedelta, now: datetime) -> list[dict[str, Any]]:
    """One row for each part that was looked at; what a missing configuration or lake hides is not asked for."""
    rows: list[dict[str, Any]] = []

    def check(part: str, examine: Callable[[], str]) -> bool:
        try:
            rows.append({"part": part, "result": "OK", "detail": examine()})
        except ForeseenError as error:
            rows.append({"part": part, "result": "NOT OK", "detail": str(error)})
        except BaseException as error:
            if not can_be_said(error):
                raise
            rows.append({"part": part, "result": "NOT OK", "detail": in_words(error) or unforeseen(error)})
        return rows[-1]["result"] == "OK"

    if not check("configuration", lambda: str(project_here().config_dir)):
        return rows
    has_lake = not stands_by() and check("lake", lambda: f"opened below {project_here().lake and project_here().data}")
    check("daemon", lambda: daemon_beat(now))
    if question is Question.ready:
        check("code location", _code_location)
        if has_lake:
            check("tick", lambda: _tick(longest, now))
            check("newest bar", lambda: freshness(project_here(), lambda _: now))
    return rows


def _code_location() -> str:
    from mm_dagster.defs.loading import load

    try:
        loaded = load().get_repository_def()
    except Exception as error:
        raise CommandError(f"does not load: {type(error).__name__}: {first_cause(error)}") from error
    return f"{len(loaded.get_all_jobs())} jobs, {len(loaded.schedule_defs)} schedules"


def _tick(longest: timedelta, now: datetime) -> str:
    """When a tick last finished, whichever bar it was for."""
    finished = project_here().lake.sql("SELECT max(finished_at) FROM tick").item()
    if finished is None:
        raise CommandError("none has finished yet; the schedule every_quarter_hour runs the first one")
    last = iso(finished.replace(microsecond=0))
    if now - finished > longest:
        raise CommandError(f"the last one finished {last}, {spoken(now - finished)} ago")
    return f"the last one finished {last}"
