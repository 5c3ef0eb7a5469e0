"""A home of one's own: made by `mm init`, and what to delete when it is not wanted any more."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mm_dagster import environment, home
from mm_dagster.cli.app import FINISHED_STAYS, NOTHING_WRITTEN, CommandError, app, err, out
from mm_dagster.cli.app import chosen as command
from mm_dagster.cli.installation import installation, say_how_to_keep_it
from mm_dagster.cli.printing import AsJson, print_rows
from mm_dagster.environment import VariableError
from mm_dagster.home import HomeError
from mm_dagster.text import did_you_mean

if TYPE_CHECKING:
    from mm_dagster.pipeline.new_home import Answers

PANEL = "Set up"


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `mm init ~/grids`, `mm init ~/grids --yes`, "
    "`mm init ~/grids --timezone Europe/Berlin --exchange okx --heartbeat-env MM_HEARTBEAT --git`",
)
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make; one that is there must be empty, or a home.")],
    timezone: Annotated[str | None, typer.Option(help="Yours, like Europe/Berlin.")] = None,
    quote: Annotated[str | None, typer.Option(help="The currency that your grids are counted in, like USDT.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Its ccxt name, like kucoin; or `simulated`.")] = None,
    channel: Annotated[str | None, typer.Option(help="How messages come: pushover, telegram or none.")] = None,
    link: Annotated[
        str | None, typer.Option(help="The address of the live page in messages, as your phone reaches it; or none.")
    ] = None,
    heartbeat_env: Annotated[
        str | None, typer.Option(help="The variable with the address of a watcher outside; its name, not the address.")
    ] = None,
    git: Annotated[bool | None, typer.Option("--git/--no-git", help="Keep the configuration in git.")] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Note it as the home of all terminals, in the place of another.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: the computer's time zone, USDT, kucoin, no channel, no git.")
    ] = False,
) -> None:
    """Make a home: one folder with configuration, data and a note of what is what; `mm` finds it from then on.

    What was not given as an option is asked once. The first home is noted for all terminals, which is the only line
    that is written outside of it. In a home that is there already only what lacks is written.
    """
    from mm_dagster.pipeline.new_home import CHANNELS, USUAL_LINK, Answers, make, note_it, place, zone_of_machine

    chosen = place(folder)
    was_there = home.is_home(chosen)
    if was_there:
        _refuse_answers(chosen, (timezone, quote, exchange, channel, link, heartbeat_env))
    ask = (lambda *_: None) if yes or was_there else _ask
    command.when_stopped = NOTHING_WRITTEN
    answers = Answers(
        timezone=_answer(
            "--timezone", timezone, zone_of_machine(), _zone, ask,
            "Your time zone: the times in messages, and those that you write, are in it",
        ),
        quote=_answer(
            "--quote", quote, "USDT", _quote, ask, "The currency that your grids are counted in; most are in USDT"
        ),
        exchange=_answer(
            "--exchange", exchange, "kucoin", _exchange, ask,
            "The exchange whose candles decide: that of your bots. `simulated` is one to try with",
        ),
        channel=_answer(
            "--channel", channel, "none", _one_of(CHANNELS), ask,
            "How messages reach you: pushover (a phone, it rings; its keys stay in the environment), telegram (it can "
            "be answered) or none (a log, for now)",
        ),
        link=_answer(
            "--link", link, USUAL_LINK, _link, ask,
            "The address of the live page, as your phone reaches it, like https://grids.example.com: each message "
            "links to it. The usual one opens on this computer alone, until you put it behind TLS; or none",
        ) or None,
        heartbeat=_answer(
            "--heartbeat-env", heartbeat_env, "", _variable, ask,
            "Who watches the watcher: a service that rings when this computer falls silent, like healthchecks.io, "
            "Better Stack or Cronitor. The name of the variable that will hold its address, like MM_HEARTBEAT; empty: "
            "later",
        ) or None,
        git=_answer(
            "--git", None if git is None else ("no", "yes")[git], "no", _one_of(("yes", "no")), ask,
            "Keep the configuration in a git repository, so that every edit can be undone (yes or no)",
        ) == "yes",
    )  # fmt: skip
    command.when_stopped = FINISHED_STAYS
    _finish(chosen, answers, was_there, make(chosen, answers), note_it(chosen, always=default))


def _finish(chosen: Path, answers: Answers, was_there: bool, written: list[Path], not_noted: str | None) -> None:
    """Reads what was written as every command will, and says what comes next."""
    from mm_dagster.config.load import load

    load(chosen / home.CONFIG)
    if was_there:
        lacked = ", ".join(str(path.relative_to(chosen)) for path in written) or "nothing"
        _say(f"home {chosen}: it was one already; {lacked} lacked, and what was there stays as it was")
    else:
        says = f"{answers.symbol} of {answers.exchange}, times in {answers.timezone}"
        _say(f"home {chosen}: {says}; README.md says what is what")
    if not_noted:
        _say(f"note: {not_noted}")
    if not was_there:
        _say(
            "next: `mm grid add`, or `mm grid add --paste FILE` with the text of the bot's page; then `mm doctor`, "
            "and `mm up`"
        )
        say_how_to_keep_it()


def _refuse_answers(chosen: Path, answers: tuple[str | None, ...]) -> None:
    """
    Raises:
        CommandError: one is given, which would change nothing.
    """
    options = ("--timezone", "--quote", "--exchange", "--channel", "--link", "--heartbeat-env")
    given = next((option for option, answer in zip(options, answers, strict=True) if answer is not None), None)
    if given:
        file = chosen / home.CONFIG / ("markets.yaml" if given in ("--quote", "--exchange") else "alerts.yaml")
        raise CommandError(f"{given}: {chosen} is a home already, and nothing in it is overwritten; edit {file}")


def _say(line: str) -> None:
    err.print(line, soft_wrap=True, highlight=False, markup=False)


# questions ------------------------------------------------------------------------------------------------------------


def _answer(
    option: str,
    given: str | None,
    usual: str,
    read: Callable[[str], str],
    ask: Callable[[str, str], str | None],
    question: str,
) -> str:
    """What an option says; else what is answered; else what is usual.

    Raises:
        CommandError: the option cannot be meant, or nobody answers.
    """
    if given is not None:
        try:
            return read(given.strip())
        except ValueError as error:
            raise CommandError(f"{option}: {error}") from None
    while True:
        said = ask(option, f"{question} [{usual or 'none'}]: ")
        if not said:
            return usual
        try:
            return read(said)
        except ValueError as error:
            _say(str(error))


def _ask(option: str, question: str) -> str | None:
    err.print(question, end="", soft_wrap=True, highlight=False, markup=False)
    try:
        line = sys.stdin.readline() if sys.stdin else ""
    except KeyboardInterrupt:
        err.print()  # behind the question
        raise
    if not line:
        err.print()
        raise CommandError(f"{option}: nobody answers; give the option, or --yes for what is usual")
    return line.strip() or None


def _zone(text: str) -> str:
    from zoneinfo import available_timezones

    zones = available_timezones()
    if text not in zones:
        raise ValueError(f"{text!r} is no time zone; write it like Europe/Berlin{did_you_mean(text, zones)}")
    return text


LONGEST_QUOTE = 16
"""Letters."""


def _quote(text: str) -> str:
    if not text.isalnum() or not text.isascii() or len(text) > LONGEST_QUOTE:
        raise ValueError(f"{text!r:.60} is no currency; write its letters alone, like USDT")
    return text.upper()


def _exchange(text: str) -> str:
    from mm_dagster.market.names import exchange_names
    from mm_dagster.pipeline.new_home import SIMULATED

    names = [SIMULATED, *exchange_names()]
    if text.lower() not in names:
        raise ValueError(f"{text!r} is no exchange that ccxt knows{did_you_mean(text.lower(), names)}")
    return text.lower()


def _link(text: str) -> str:
    from pydantic import ValidationError

    from mm_dagster.config.alerts import AlertsConfig

    if text.lower() in ("", "none"):
        return ""
    if not text.startswith(("https://", "http://")):
        raise ValueError(f"{text!r:.80} is no address of a page; write it like https://grids.example.com, or none")
    try:
        return AlertsConfig(link=text).link or ""
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _variable(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from mm_dagster.config.model import VariableName

    if not text:
        return ""
    try:
        return TypeAdapter(VariableName).validate_python(text)
    except ValidationError:
        # The value may be the address itself, which is a secret and not shown.
        raise ValueError(
            "is no name of a variable; write one in capitals, like MM_HEARTBEAT, and not the address that it will hold"
        ) from None


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}{did_you_mean(text.lower(), words)}")
        return text.lower()

    return read


# leaving --------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PANEL, epilog="Examples: `mm uninstall`, `mm uninstall --json`")
def uninstall(as_json: AsJson = False) -> None:
    """Say what there is to delete, and how. It deletes and stops nothing: end `mm up` and the services first."""
    rows = [*_places(), *_program()]
    if as_json:
        print_rows(rows, as_json)
        return
    # Lines to copy, which a table would fold.
    for row in rows:
        out.print(f"{row['by']}   # {row['what']}", soft_wrap=True, highlight=False, markup=False)


def _places() -> list[dict[str, Any]]:
    rows: dict[Path, tuple[str, str]] = {}

    def add(path: Path, what: str, command: str) -> None:
        if path.exists():
            rows.setdefault(path, (what, f"{command} {shlex.quote(str(path))}"))

    for folder in _homes():
        add(folder, "a home: its configuration and history cannot be made again", "rm -r")
    for variable in (environment.CONFIG_DIR, environment.DATA_DIR, environment.DAGSTER_DIR):
        if environment.given(variable):
            add(Path(environment.given(variable)).expanduser().absolute(), f"named by {variable}; look first", "ls")
    add(Path(environment.DEMO_DATA).absolute(), "the demo's data", "rm -r")
    add(home.note(), "the note that names the home for all terminals", "rm")
    add(home.note().parent, "the folder of that note", "rmdir")
    return [{"path": str(path), "what": what, "by": command} for path, (what, command) in rows.items()]


def _homes() -> list[Path]:
    """The homes that are known here, whether or not they count."""
    found: list[Path] = []
    try:
        beside = environment.home_beside()
        found += [beside.folder] if beside else []
    except VariableError as error:
        _say(f"note: {error}")
    with suppress(HomeError):  # said above already, or of no matter beside the home that counts
        noted = home.noted()
        found += [noted] if noted and home.is_home(noted) else []
    return list(dict.fromkeys(found))


def _program() -> Iterator[dict[str, Any]]:
    """The program itself, and what else is there because of it."""
    found = installation()
    yield {"path": str(found.path), "what": found.what, "by": found.removed_by}
    if found.cache_cleared_by:
        what = "downloads that the installer keeps, with those of other programs; it fetches them again"
        yield {"path": None, "what": what, "by": found.cache_cleared_by}
