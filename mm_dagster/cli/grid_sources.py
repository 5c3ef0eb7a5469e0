"""What is known of a grid that is added: from the text of its page, from its exchange, and from answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import typer

from mm_dagster.bars import iso
from mm_dagster.cli.app import CommandError, err, project_here
from mm_dagster.cli.grid_values import QUESTIONS, Question
from mm_dagster.text import plain_text

if TYPE_CHECKING:
    from mm_dagster.config.pasted import Found, Unsure
    from mm_dagster.config.whole import Config

MOST_BYTES = 200_000
"""Of a pasted file."""


def say(sentence: str) -> None:
    """A sentence for people, beside what a program may read on stdout."""
    err.print(sentence, soft_wrap=True, highlight=False, markup=False)


@dataclass
class Draft:
    """What is known of a grid that is being added."""

    values: dict[str, Any]
    unsure: dict[str, Unsure] = field(default_factory=dict)

    def open_questions(self) -> Iterator[Question]:
        return (one for one in QUESTIONS if one.name not in self.values)


def pasted(name: str, is_terminal: bool) -> Found:
    """What the text of a bot's page says.

    Raises:
        CommandError: it cannot be read.
        NoSpotGrid: it is none of a spot grid.
    """
    from mm_dagster.config.pasted import read

    try:
        if name == "-":
            if is_terminal:
                say("Paste the text of the bot's page, then press Ctrl-D on a line of its own.")
            # Where a service starts it there is no stdin at all.
            content = sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin else b""
        else:
            with Path(name).expanduser().open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise CommandError(f"--paste {name}: is longer than {MOST_BYTES:,} bytes; give the page of one bot")
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise CommandError(
            f"--paste {name}: {error.strerror}; name a file with the text of the bot's page, or -"
        ) from None
    except UnicodeDecodeError:  # which is a ValueError, too
        raise CommandError(f"--paste {name}: is no text in UTF-8; save it as UTF-8, a picture cannot be read") from None
    except (ValueError, RuntimeError):
        raise CommandError(f"--paste {name!r:.60}: is no name of a file; name one, or -") from None
    return read(text, ZoneInfo(project_here().config.alerts.timezone))


def told(config: Config, venue: str, bot: str | None, asking: bool) -> tuple[Found, dict[str, str]]:
    """What an exchange tells of one of its grids, and the `source` that it is.

    Raises:
        CommandError: none runs, or several, and none is named.
        ForeseenError: the exchange cannot be asked, or the grid has ended.
    """
    # Imported here because ccxt takes a second to load.
    from mm_dagster.market.connection import FIRST_CONTACT
    from mm_dagster.pipeline import grid_bots

    grids, odd = grid_bots.listed(config, venue, bot, retry=FIRST_CONTACT)
    for sentence in odd:
        say(f"{venue}: {sentence}; it is left out")
    if not grids:
        raise CommandError(f"--from: no spot grid runs on {venue}; nothing was written")
    for one in grids if len(grids) > 1 else ():
        say(grid_bots.sentence(one))
    by_number = {one.bot_id: one for one in grids}
    chosen: str | None = grids[0].bot_id if len(grids) == 1 else None
    while chosen is None and asking:
        answer = str(typer.prompt("Which one, by its number", err=True)).strip()
        chosen = answer if answer in by_number else None
    if chosen is None:
        raise CommandError(f"--from: {len(grids)} spot grids run on {venue}; name the number of one")
    return grid_bots.values_of(by_number[chosen]), {"exchange": venue, "id": chosen}


def say_what_was_read(found: Found, flags: dict[str, Any]) -> None:
    """What a source told, how it was read and what of it is in doubt; without what a flag says."""
    shown = ", ".join(f"{name} {_shown(value)}" for name, value in found.values.items() if name not in flags)
    say(f"read: {shown or 'nothing that is sure'}")
    for name, note in found.notes.items():
        if name not in flags:
            say(f"{name}: {note}")
    for name, one in found.unsure.items():
        if name not in flags:
            say(f"not sure of {name}: {one.sentence}")


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(value)
    return plain_text(value) if isinstance(value, float) else str(value)


def complete(draft: Draft, asking: bool) -> None:
    """Asks for what is missing or in doubt; where nobody can be asked only what is usual is taken, and said.

    Raises:
        CommandError: something must be said, and nobody can be asked.
    """
    if asking:
        for question in draft.open_questions():
            draft.values[question.name] = _asked(question)
        return
    lacking = [one for one in draft.open_questions() if one.usual is None or one.name in draft.unsure]
    if lacking:
        parts = [
            f"{one.flag} ({draft.unsure[one.name].sentence})" if one.name in draft.unsure else one.flag
            for one in lacking
        ]
        raise CommandError(
            f"not known: {', '.join(parts)}; give {'it' if len(parts) == 1 else 'them'}, or ask on a terminal"
        )
    usual = list(draft.open_questions())
    for one in usual:
        draft.values[one.name] = one.read(one.usual or "", one.flag)
    if usual:
        say(f"taken as usual: {', '.join(f'{one.flag} {one.usual}' for one in usual)}")


def _asked(question: Question) -> Any:
    while True:
        text = typer.prompt(question.asks, default=question.usual, err=True)
        try:
            return question.read(str(text), question.name)
        except CommandError as error:
            say(str(error))
