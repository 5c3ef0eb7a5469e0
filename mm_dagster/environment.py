"""The variables of the environment: each is read here, and a value that cannot be meant is named with what can.

Whoever sets them is a shell, a unit of systemd, a secret that an editor ended with a line, or a file of which nobody
takes the quotes away. What is unset and what is empty are the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mm_dagster import home
from mm_dagster.errors import ForeseenError
from mm_dagster.home import Home, HomeError
from mm_dagster.text import closest

CONFIG_DIR, DATA_DIR, DAGSTER_DIR = "MM_CONFIG_DIR", "MM_DATA_DIR", "MM_DAGSTER_DIR"
TICK_OFFSET = "MM_TICK_OFFSET_MINUTES"
REQUEST_ID = "MM_REQUEST_ID"
"""Set by `mm serve` for a tick that somebody asked it for."""
PAGE_LINK, DAGSTER_LINK = "MM_PAGE_LINK", "MM_DAGSTER_LINK"
"""Where the live page and Dagster's page are, so that each leads to the other. `mm up` sets them."""
GIT_COUNT = "GIT_CONFIG_COUNT"
PUSHOVER = ("PUSHOVER_TOKEN", "PUSHOVER_USER")
NUMBA = "NUMBA_CACHE_DIR"
MATPLOTLIB = "MPLCONFIGDIR"

OFFSET_MINUTES = 1
"""Where MM_TICK_OFFSET_MINUTES says nothing."""

DEMO_CONFIG, DEMO_DATA = "configs/demo", "data/demo"
"""Where the demo is, below the working folder. Where that has no such configuration, the shipped one is taken."""


class VariableError(ForeseenError, ValueError):
    """A variable of the environment holds what it cannot. One line: variable, value, what would be right."""


def given(variable: str) -> str:
    """The value without blanks and line ends around it; nothing where it is not set."""
    return os.environ.get(variable, "").strip()


def secret(variable: str) -> str | None:
    """A key, token or address: without what an editor or an env file put around it; None: not set.

    Quotes belong to no key of ours, so they are taken away, too; `wrong_secret` says that they are there.
    """
    return _unquoted(given(variable)).strip() or None


def wrong_secret(variable: str) -> str | None:
    """What is strange about a secret, without showing it; None: nothing."""
    value = given(variable)
    if not value:
        return None
    if _unquoted(value) != value:
        return f"{variable}: has quotes around it, which are part of the value; write it without"
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        return f"{variable}: has a blank or a line break in it; copy it again"
    return None


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


_AN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def is_request_id(text: str) -> bool:
    """Whether a text can be the number of a request: nothing that breaks a line, a header, a tag or a column."""
    return _AN_ID.fullmatch(text) is not None


def request_id() -> str | None:
    """The number of the request that this process works for; None: nobody asked, or it is none."""
    value = given(REQUEST_ID)
    return value if is_request_id(value) else None


def choice(variable: str, choices: Iterable[str], default: str, fold: Callable[[str], str]) -> str:
    """One of several words.

    Raises:
        VariableError: it is none of them.
    """
    value = given(variable)
    if not value:
        return default
    if fold(value) not in choices:
        close = closest(fold(value), choices, cutoff=0.6)
        hint = f"; did you mean {close}?" if close else ""
        raise VariableError(f"{variable}: {value!r} is none of {', '.join(choices)}{hint}")
    return fold(value)


def tick_offset_minutes() -> int:
    """Minutes after the close of a bar at which the tick runs.

    Raises:
        VariableError: it is no whole number from 0 to 14.
    """
    value = given(TICK_OFFSET) or str(OFFSET_MINUTES)
    if not re.fullmatch(r"[0-9]{1,2}", value) or int(value) > 14:
        raise VariableError(f"{TICK_OFFSET}: {value!r} is no whole number of minutes from 0 to 14; write it like 1")
    return int(value)


def link(variable: str) -> str | None:
    """An address that a browser can open, without a slash at its end; None: not set, or none of http."""
    value = given(variable).rstrip("/")
    return value if value.startswith(("http://", "https://")) else None


def git_config_count() -> int:
    """How many settings the environment gives to git.

    Raises:
        VariableError: it is no number, or one of the settings is not there.
    """
    value = given(GIT_COUNT) or "0"
    if not re.fullmatch(r"[0-9]{1,4}", value):
        raise VariableError(f"{GIT_COUNT}: {value!r} is no number of settings; unset it, or write how many there are")
    for number in range(int(value)):
        for part in (f"GIT_CONFIG_KEY_{number}", f"GIT_CONFIG_VALUE_{number}"):
            if part not in os.environ:
                raise VariableError(f"{GIT_COUNT}: {value} settings, but {part} is not set; unset it, or set that, too")
    return int(value)


# folders --------------------------------------------------------------------------------------------------------------


def shipped() -> Path:
    """The folder with what comes along with the code: the demo's configuration, Dagster's instance, the workspace.

    The top of the repository, or in an installed wheel a copy of these files inside of the package.
    """
    inside = Path(__file__).resolve().parent / "shipped"
    return inside if inside.is_dir() else inside.parents[1]


def is_installed() -> bool:
    """Whether the code comes from a wheel, where nothing is to be written beside it."""
    return shipped().name == "shipped"


def home_here() -> Home | None:
    """The home that counts here; None: there is none, or a variable names a folder, which comes first.

    Raises:
        VariableError: what should be the home cannot be it.
    """
    return None if given(CONFIG_DIR) or given(DATA_DIR) else home_beside()


def home_beside() -> Home | None:
    """The home that would count if neither MM_CONFIG_DIR nor MM_DATA_DIR were set; None: there is none.

    Raises:
        VariableError: what should be the home cannot be it.
    """
    named = _absolute(home.VARIABLE, "") if given(home.VARIABLE) else None
    try:
        start = Path.cwd()
    except OSError:
        # A relative folder says so in its place; a home that is named needs no working folder.
        start = None
    try:
        return home.find(named, start)
    except HomeError as error:
        raise VariableError(str(error)) from None


def is_demo_by_default() -> bool:
    """Whether the demo is taken because nothing names anything else.

    Raises:
        VariableError: what should be the home cannot be it.
    """
    return not given(CONFIG_DIR) and not given(DATA_DIR) and home_here() is None


def config_folder() -> Path:
    """The configuration's folder, absolute. A link in it is followed at every reading: it may change its target.

    That of MM_CONFIG_DIR; where neither it nor MM_DATA_DIR is set, that of the home; else the demo's.

    Raises:
        VariableError: it cannot be a folder.
    """
    if given(CONFIG_DIR):
        return _absolute(CONFIG_DIR, "")
    found = home_here()
    if found:
        return found.config
    here = _absolute(CONFIG_DIR, DEMO_CONFIG)
    return here if here.is_dir() else shipped() / DEMO_CONFIG


def data_folder() -> Path:
    """The folder that everything is written below, found as the configuration's is.

    Where MM_CONFIG_DIR alone is set, `data` below the working folder.

    Raises:
        VariableError: it cannot be one.
    """
    found = home_here()
    if found:
        return _place(DATA_DIR, str(found.data))
    return _place(DATA_DIR, "data" if given(CONFIG_DIR) else DEMO_DATA)


def fallen_back() -> str | None:
    """Which folders were taken because no variable names them, in one line; None: both are named.

    Also which home is passed over because of a variable.

    Raises:
        VariableError: one cannot be a folder.
    """
    unset = [variable for variable in (CONFIG_DIR, DATA_DIR) if not given(variable)]
    if len(unset) == 2:
        found = home_here()
        if found:
            return f"home {found.folder} ({found.found_by})"
        return f"demo (simulated): configuration {config_folder()}, data {data_folder()}"
    over = _passed_over()
    if not unset:
        # Who set both and stands elsewhere wants no reminder of the home that is noted; `mm up` sets those of the home.
        if over is None or over.is_noted or (over.config, over.data) == (config_folder(), data_folder()):
            return None
        return f"not the home {over.folder}: {CONFIG_DIR} and {DATA_DIR} are set"
    said = f"{unset[0]} is not set: configuration {config_folder()}, data {data_folder()}"
    other = DATA_DIR if unset[0] == CONFIG_DIR else CONFIG_DIR
    return f"{said}; not the home {over.folder}, since {other} is set" if over else said


def _passed_over() -> Home | None:
    """The home that a variable comes before; None: there is none."""
    try:
        return home_beside()
    except VariableError:
        # What does not count may be wrong.
        return None


def dagster_folder(data: Path) -> Path:
    """Dagster's own part of it.

    Raises:
        VariableError: it cannot be a folder.
    """
    return _place(DAGSTER_DIR, str(data / "dagster"))


def _place(variable: str, default: str) -> Path:
    """A folder that is written to: without the links on the way, which must lead somewhere."""
    path = _absolute(variable, default)
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise VariableError(f"{variable}: {path}: {part} is a link that leads nowhere; mount or make its target")
    try:
        path = path.resolve()
    except (OSError, RuntimeError) as error:
        raise VariableError(f"{variable}: {path} leads nowhere ({error}); name a folder") from None
    if "?" in str(path):
        raise VariableError(f"{variable}: {path} has a ? in it, which ends the name in an address; name another folder")
    if path.exists() and not path.is_dir():
        raise VariableError(f"{variable}: {path} is no folder; name one")
    return path


def _absolute(variable: str, default: str) -> Path:
    value = given(variable) or default
    if _unquoted(value) != value:
        raise VariableError(f"{variable}: {value} has quotes around it, which are part of the value; write it without")
    if re.match(r"\$\w|\$[({]|%\w+%", value):
        raise VariableError(f"{variable}: {value} was not expanded by what set it; write the whole path")
    try:
        return Path(os.path.abspath(Path(value).expanduser()))  # noqa: PTH100
    except RuntimeError:
        raise VariableError(f"{variable}: {value}: there is no such home; write the whole path") from None
    except OSError as error:
        raise VariableError(
            f"{variable}: {value}: the working folder is not there ({error.strerror}); change to one that is"
        ) from None


def made(variable: str, folder: Path) -> Path:
    """A folder, made if need be, in which files can be found.

    Raises:
        VariableError: it cannot be made or entered.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.listdir(folder)  # noqa: PTH208
    except OSError as error:
        raise VariableError(
            f"{variable}: {folder}: {error.strerror}; let the user who runs this write there, or name another folder"
        ) from None
    return folder


def find_numba_cache(data: Path) -> None:
    """Lets numba keep what it compiled below the data where it could keep it nowhere else.

    Beside the code, in the user's cache: where both are read-only it refuses to work at all. Must come before numba.
    Where the data are a home's nothing is left in the user's cache, and where the code is a wheel's nothing beside it,
    since whatever takes the wheel away again would not know of it.
    """
    if given(NUMBA):
        return
    users = os.environ.get("XDG_CACHE_HOME") or str(Path(os.environ.get("HOME") or "/nonexistent") / ".cache")
    may_be_users = not _leaves_nothing_elsewhere(data) and _can_write(Path(users))
    if is_installed() or not (_can_write(Path(__file__).parent) or may_be_users):
        os.environ[NUMBA] = str(data / "cache" / "numba")


def find_matplotlib_cache(data: Path) -> None:
    """Lets matplotlib keep its list of fonts below the data, where nothing is left elsewhere. Before matplotlib.

    It lists its own fonts alone, the only ones that pictures use: asked for the system's, fontconfig would fill the
    user's cache.
    """
    if not given(MATPLOTLIB) and _leaves_nothing_elsewhere(data):
        os.environ[MATPLOTLIB] = str(data / "cache" / "matplotlib")
        os.environ.setdefault("MPL_IGNORE_SYSTEM_FONTS", "1")


def _leaves_nothing_elsewhere(data: Path) -> bool:
    """Whether all that is written belongs below the data: it is that of a home, or nothing else is ours."""
    return is_installed() or home.is_home(data.parent)


def _can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder, which may have to be made, too."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


# all of them ----------------------------------------------------------------------------------------------------------

_OURS = (
    home.VARIABLE, CONFIG_DIR, DATA_DIR, DAGSTER_DIR, TICK_OFFSET, PAGE_LINK, DAGSTER_LINK, "MM_LOG_FORMAT",
    "MM_LOG_LEVEL", "MM_API_TOKEN", REQUEST_ID,
)  # fmt: skip
_OTHERS = (
    "MM_CONFIGS",
    "MM_PORT",
    "MM_DOMAIN",
    "MM_CODE_HOST",
    "MM_CODE_PORT",
    "MM_DAGSTER_URL",
    "MM_CATALOG_URL",
    "MM_BROKER_URL",
)
"""Of the deployment; they are read by others than us."""


def faults(named: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """The variables that cannot be meant as they are and for which something else is taken, each with its line.

    Args:
        named: the variables with secrets that the configuration names.
    """
    for variable, reader in ((TICK_OFFSET, tick_offset_minutes), (GIT_COUNT, git_config_count)):
        try:
            reader()
        except VariableError as error:
            yield variable, str(error)
    for variable in dict.fromkeys((*PUSHOVER, *named)):
        wrong = wrong_secret(variable)
        if wrong:
            yield variable, wrong
    known = {*_OURS, *_OTHERS, *named}
    for variable in sorted(os.environ):
        if variable.startswith("MM_") and variable not in known:
            close = closest(variable, _OURS, cutoff=0.85)
            if close:
                yield variable, f"{variable}: is read by nobody; did you mean {close}?"
