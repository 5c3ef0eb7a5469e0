"""A new home: the folder with configuration, data and a note of what is what. Nothing that is there is overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mm_dagster import home, modes
from mm_dagster.environment import PUSHOVER
from mm_dagster.errors import ForeseenError
from mm_dagster.history import git_settings
from mm_dagster.home import HomeError

SIMULATED = "simulated"
"""In the place of an exchange: a market that is made up, to look at or to try with."""
PUSHOVER_CHANNEL, TELEGRAM_CHANNEL, NO_CHANNEL = CHANNELS = ("pushover", "telegram", "none")
USUAL_LINK = "http://127.0.0.1:8080"
"""Where `mm up` serves the live page: on this computer alone."""
_TELEGRAM = "telegram: {token_env: TELEGRAM_TOKEN, chat_env: TELEGRAM_CHAT}"


class NewHomeError(ForeseenError):
    """A home cannot be made there. One line, with the remedy."""

    is_complete = True


@dataclass(frozen=True)
class Answers:
    """What is asked once.

    Attributes:
        timezone: of the operator, like Europe/Berlin.
        quote: the currency that grids are counted in, like USDT.
        exchange: ccxt's name of the exchange, or `simulated`.
        channel: how messages come, one of CHANNELS.
        link: the address of the live page in messages; None: they have none.
        heartbeat: the variable with the address of a watcher outside; None: nobody watches.
        git: whether the configuration becomes a git repository.
    """

    timezone: str
    quote: str
    exchange: str
    channel: str
    link: str | None = USUAL_LINK
    heartbeat: str | None = None
    git: bool = False

    @property
    def symbol(self) -> str:
        """The one market that a new configuration has, since one without any watches nothing."""
        return f"{'ETH' if self.quote == 'BTC' else 'BTC'}-{self.quote}"


def place(folder: Path) -> Path:
    """The folder of a home that is to be made, absolute; or that of a home that is there already.

    Raises:
        NewHomeError: no home can be there.
    """
    folder = folder.expanduser().resolve()
    if not str(folder).isprintable() or "?" in str(folder):
        raise NewHomeError(f"{str(folder)!r}: has a ? or a control character in it; name another folder")
    around = [one for one in home.marked(folder) if one != folder]
    if around:
        raise NewHomeError(f"{folder}: lies inside the home {around[0]}; name a folder outside of it, or use that home")
    try:
        if folder.exists() and not folder.is_dir():
            raise NewHomeError(f"{folder}: is a file; name a folder")
        if not home.is_home(folder) and folder.is_dir() and any(folder.iterdir()):
            raise NewHomeError(f"{folder}: is not empty; name a folder that is new or empty, like {folder / 'grids'}")
    except OSError as error:
        raise NewHomeError(f"{folder}: {error.strerror}; name a folder that you can write to") from None
    return folder


def make(folder: Path, answers: Answers) -> list[Path]:
    """Makes a home, or what one lacks; returns the files that were written.

    Args:
        folder: as `place` gives it.
        answers: what the configuration says.

    Raises:
        NewHomeError: it cannot be written.
    """
    config = folder / home.CONFIG
    # The mark first: what is interrupted is then finished by the same command.
    files = {
        folder / home.MARK: _MARK,
        folder / ".gitignore": f"# The data belong into a backup, not into git.\n/{home.DATA}/\n",
        folder / "README.md": readme(answers),
        config / "markets.yaml": markets(answers),
        config / "alerts.yaml": alerts(answers),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        modes.tighten(folder)
        for below in (config / "grids", folder / home.DATA):
            below.mkdir(parents=True, exist_ok=True)
        written = [path for path, text in files.items() if _write_new(path, text)]
    except OSError as error:
        where = error.filename or folder
        raise NewHomeError(f"{where}: {error.strerror}; name a folder that you can write to") from None
    if answers.git and not (config / ".git").exists():
        _keep_in_git(config)
    return written


def note_it(folder: Path, *, always: bool) -> str | None:
    """Notes the home for all terminals, if there is none yet; returns why that was not done, None: it was.

    Args:
        folder: of the home.
        always: also in the place of another one.
    """
    try:
        other = home.noted()
    except HomeError as error:
        other = None
        if not always:
            return str(error)
    if other == folder:
        return None
    if other and not always:
        return (
            f"{home.note()} names the home {other} for all terminals, and still does; `mm init {folder} --default` "
            f"names this one, {home.VARIABLE} does so for one terminal"
        )
    note = home.note()
    fresh = note.with_name(f".{note.name}.{os.getpid()}.tmp")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(f"{folder}\n", encoding="utf-8")
        fresh.replace(note)
    except OSError as error:
        return f"{note}: {error.strerror}; the home cannot be noted there: stand in it, or set {home.VARIABLE}={folder}"
    return None


def _write_new(path: Path, text: str) -> bool:
    """Writes a file that is not there, whole or not at all; whether it did."""
    if os.path.lexists(path):
        return False
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return True


def _keep_in_git(config: Path) -> None:
    """Makes a repository of the configuration, with one commit; nothing of the user's own git is asked or changed.

    Raises:
        NewHomeError: git is not there, or refuses.
    """
    git = shutil.which("git")
    if git is None:
        raise NewHomeError(f"{config}: there is no git on the PATH, so it is no repository; install git, or --no-git")
    identity = ("-c", "user.name=mm", "-c", "user.email=mm@localhost", "-c", "commit.gpgSign=false")
    with git_settings.of_nobody():
        # What a hook of another repository that calls us has set must not lead git there.
        surroundings = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
        for command in (
            ("init", "--quiet", "--template=", "--initial-branch=main"),
            ("add", "--all"),
            (*identity, "commit", "--quiet", "--message", "The configuration as `mm init` wrote it"),
        ):
            done = subprocess.run(
                [git, "-C", str(config), *command], env=surroundings, capture_output=True, text=True, check=False
            )
            if done.returncode:
                first = (done.stderr.strip().splitlines() or ["it says nothing"])[0]
                raise NewHomeError(f"{config}: git {command[0]}: {first}; mend that, and call `mm init` again")


# what is written ------------------------------------------------------------------------------------------------------

_MARK = """\
# This file makes the folder a home of `mm`: from anywhere below, `mm` finds its configuration and its data.
# Nothing is read from it. README.md beside it says what is what.
"""


def markets(answers: Answers) -> str:
    """markets.yaml: one venue, one market."""
    if answers.exchange == SIMULATED:
        venue, head = "{kind: simulated}", "# A made-up market: nothing here is a real price, and no phone rings."
    else:
        venue = f"{{kind: ccxt, exchange: {answers.exchange}}}"
        head = "# Public candles: no key is needed. Any exchange that ccxt knows goes here by its ccxt name."
    return f"""\
{head}
venues:
  main: {venue}
# Each market that has a grid, or that you want to see. The first one is only there so that something is watched.
markets:
  - {{symbol: {answers.symbol}, venue: main}}
"""


def alerts(answers: Answers) -> str:
    """alerts.yaml: the time zone, the channel, the watcher."""
    token, user = PUSHOVER
    channel = {
        PUSHOVER_CHANNEL: f"# Pushover rings when the environment holds {token} and {user}; `mm alert-test` tries it.",
        TELEGRAM_CHANNEL: f"{_TELEGRAM}   # variables with the bot's token and the number of your chat",
        NO_CHANNEL: "# No channel: messages go to ledger and log. "
        f"{token} and {user} in the environment make Pushover ring.",
    }[answers.channel]
    heartbeat = (
        f"heartbeat: {{url_env: {answers.heartbeat}}}   # the variable with the address, called after every tick"
        if answers.heartbeat
        else "# heartbeat: {url_env: MM_HEARTBEAT}   # who watches the watcher: an address, called after every tick"
    )
    link = (
        f"link: {json.dumps(answers.link)}   # the live page, as your phone reaches it; `mm doctor` says if it does"
        if answers.link
        else '# link: "https://grids.example.com"   # the live page, as your phone reaches it'
    )
    return f"""\
{channel}
{link}
timezone: {answers.timezone}   # for the times that you read and write, quiet hours, the digest
# quiet_hours: {{start: "22:00", end: "07:00"}}   # only MANDATORY_EXIT makes a sound
# digest_at: "08:00"   # the daily summary, unless you write another time, or null
# apprise: [{{url_env: MM_SECOND_CHANNEL}}]   # a second channel; the variable holds its address
{heartbeat}
"""


def readme(answers: Answers) -> str:
    """The note of what is what."""
    token, user = PUSHOVER
    watcher = (
        f"`{answers.heartbeat}` holds the address that is called after every tick."
        if answers.heartbeat
        else "Nobody watches yet: name a variable under `heartbeat` in `config/alerts.yaml`."
    )
    return f"""\
# This folder

`mm` finds it from anywhere below, by `MM_HOME=` this folder, or from everywhere if it was noted as the usual one.

| what | what it is | to back up |
| --- | --- | --- |
| `config/` | what you want: markets, alerts, in `grids/` a file each grid; an edit is live at the next tick | a copy |
| `data/` | all that the program writes: history, decisions, messages, runs | `mm backup --to FILE` |
| `{home.MARK}` | makes the folder a home; empty would do | with the folder |

Nothing else is written, but for one line in the user's configuration folder that names this one. `mm uninstall` says
what to delete.

## A grid

`mm grid add` asks for it, and `mm grid add --paste FILE` reads the text of the bot's page. Either writes a file like
`config/grids/my-grid.yaml`, which an editor makes as well, with the values as the exchange shows them:

```yaml
id: my-grid
symbol: {answers.symbol}
activated_at: 2026-01-31 14:15   # in {answers.timezone}; another zone stands behind it: 2026-01-31T14:15Z
lower: 80000
upper: 90000
levels: 21
stop: 78000
capital: 1000
```

Its market must stand in `config/markets.yaml`, where `mm grid add` puts it. Then `mm doctor` says how it was read, and
`mm up` watches it.

## Secrets

They stand in variables of the environment, never in a file here: `{token}` and `{user}` for Pushover; those
that `config/` names by `..._env` for a read-only key of the exchange, a second channel, the heartbeat.

## Who watches the watcher

A computer that is off sends no message. A watcher outside rings when the calls after each tick stay away for, say, 40
minutes. {watcher}
Services that give such an address are healthchecks.io, Better Stack and Cronitor; any other such service will do.

## Commands

```sh
mm doctor   # what is set up, and what is not
mm up       # the page on http://127.0.0.1:3000, the schedule, the alerts; until Ctrl-C
mm status   # what is true now
```
"""


def zone_of_machine() -> str:
    """The time zone that the computer is set to; UTC where it does not say."""
    from zoneinfo import available_timezones

    zones = available_timezones()
    said = [os.environ.get("TZ", "").removeprefix(":")]
    link = Path("/etc/localtime")
    if link.is_symlink():
        said.append(str(link.resolve()).partition("zoneinfo/")[2])
    with suppress(OSError, UnicodeDecodeError):  # few systems have it
        said.append(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    return next((zone.removeprefix("Etc/UTC") or "UTC" for zone in said if zone in zones), "UTC")
