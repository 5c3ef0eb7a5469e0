"""A home: made by one command, found from every terminal, watched by `mm up`; nothing is left elsewhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from mm_dagster import cli, environment, home
from mm_dagster.cli import installation
from mm_dagster.cli.up import HOST, SERVE_PORT
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.load import load
from mm_dagster.environment import VariableError
from mm_dagster.pipeline import new_home
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.test_modes import open_to_others

NAME = "Meine Gitter äöü"
"""A folder's name with blanks and umlauts."""
ELSEWHERE = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")
"""Variables of the folders in which a program may leave something."""


def mark(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / home.MARK).touch()
    return folder


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The note of a user who has none yet, in an environment that names nothing."""
    for name in list(os.environ):
        if name.startswith(("MM_", "DAGSTER_", "PUSHOVER_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(home, "note", lambda: tmp_path / "of the user" / "home")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "of the user" / "home"


def called(*command: str, answers: str = "") -> tuple[int, str]:
    """The exit code of a command in this process, and what it says on stderr."""
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
    ):
        patch.setattr(sys, "argv", ["mm", *command])
        patch.setattr(sys, "stdin", io.StringIO(answers))
        cli.project_here.cache_clear()
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            cli.project_here.cache_clear()
    return code, said.getvalue()


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a user who has never used it, whose folders are all below one."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    for name in ELSEWHERE:
        (folder / name).mkdir(parents=True, exist_ok=True)
        own[name] = str(folder / name)
    return {**own, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def mm(*command: str, own: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from mm_dagster.cli import main; main()", *command],
        env=own, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


# found ----------------------------------------------------------------------------------------------------------------


def test_the_home_is_found_in_one_order(note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, around, named = (mark(tmp_path / f"{name} {NAME}") for name in ("noted", "around", "named"))
    assert environment.home_here() is None
    assert environment.is_demo_by_default()

    note.parent.mkdir()
    note.write_text(f"{noted}\n", encoding="utf-8")
    assert environment.config_folder() == noted / "config"
    assert environment.data_folder() == noted / "data"
    assert environment.fallen_back() == f"home {noted} (named by {note})"

    (around / "config" / "grids").mkdir(parents=True)
    monkeypatch.chdir(around / "config" / "grids")
    assert environment.data_folder() == around / "data"
    assert environment.fallen_back() == f"home {around} (around the working folder)"

    monkeypatch.setenv("MM_HOME", f" {named}\n")
    assert environment.data_folder() == named / "data"
    assert environment.fallen_back() == f"home {named} (named by MM_HOME)"

    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "d"))
    assert (environment.config_folder(), environment.data_folder()) == (tmp_path / "c", tmp_path / "d")
    assert environment.fallen_back() == f"not the home {named}: MM_CONFIG_DIR and MM_DATA_DIR are set"
    assert not environment.is_demo_by_default()


def test_one_variable_alone_passes_a_home_over_and_says_so(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note.parent.mkdir()
    note.write_text(str(mark(tmp_path / NAME)))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "d"))
    said = environment.fallen_back()
    assert said is not None
    assert said.startswith("MM_CONFIG_DIR is not set: configuration ")
    assert said.endswith(f"; not the home {tmp_path / NAME}, since MM_DATA_DIR is set")
    monkeypatch.delenv("MM_DATA_DIR")
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "c"))
    assert environment.data_folder() == tmp_path / "elsewhere" / "data"
    assert str(environment.fallen_back()).endswith(f"; not the home {tmp_path / NAME}, since MM_CONFIG_DIR is set")


def test_folders_that_are_those_of_the_home_need_no_word(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mm up` sets them for what it starts."""
    monkeypatch.chdir(mark(tmp_path / NAME))
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / NAME / "config"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / NAME / "data"))
    assert environment.fallen_back() is None


def test_what_is_no_home_is_named(note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal() -> str:
        with pytest.raises(VariableError) as caught:
            environment.data_folder()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "file").touch()
    for value, said in (
        (tmp_path / "nothing", "is not there"), (tmp_path, "is no home: it has no mm-home.toml"),
        (tmp_path / "file", "is no folder"), ('"quoted"', "has quotes around it"), ("$HOME/grids", "was not expanded"),
    ):  # fmt: skip
        monkeypatch.setenv("MM_HOME", str(value))
        assert refusal().startswith(f"MM_HOME: {value}")
        assert said in refusal()
    monkeypatch.delenv("MM_HOME")

    note.parent.mkdir()
    note.write_text(str(tmp_path / "gone"))
    assert f"{note}: names the home {tmp_path / 'gone'}, which is not there" in refusal()
    assert "`mm init FOLDER --default`" in refusal()
    for text in ("", "grids", f"{tmp_path}\n{tmp_path}"):
        note.write_text(text)
        assert "is no whole path of one folder" in refusal()

    monkeypatch.chdir(mark(mark(tmp_path / "outer") / "inner"))
    assert refusal().startswith(f"{tmp_path}/outer/inner: is a home inside the home {tmp_path}/outer; name the one")
    monkeypatch.chdir(tmp_path / "outer")
    assert environment.data_folder() == tmp_path / "outer" / "data"


def test_a_mark_of_another_user_decides_nothing(note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that all may write to, like /tmp, anybody could lead us to a configuration of theirs."""
    if os.getuid():
        pytest.skip("only root can give a file to another user")
    folder = mark(tmp_path / NAME)
    os.chown(folder / home.MARK, 12345, 12345)
    monkeypatch.chdir(folder)
    with pytest.raises(VariableError, match="belongs to another user; if this home is meant, name it in MM_HOME"):
        environment.config_folder()
    monkeypatch.setenv("MM_HOME", str(folder))
    assert environment.config_folder() == folder / "config"


def test_without_a_home_the_demo_is_said_and_never_saved_as_if_it_were_one(note: Path, tmp_path: Path) -> None:
    code, said = called("backup", "--to", str(tmp_path / "b.tar.gz"))
    assert code == 1
    assert said.splitlines()[-1].startswith("error: nothing names what to save, and the demo need not be: set MM_HOME")
    assert not (tmp_path / "b.tar.gz").exists()
    assert not (tmp_path / "elsewhere" / "data").exists()


# made -----------------------------------------------------------------------------------------------------------------


def test_with_yes_nothing_is_asked_and_the_configuration_is_valid(note: Path, tmp_path: Path) -> None:
    code, said = called("init", str(tmp_path / NAME), "--yes")
    assert code == 0, said
    config = load(tmp_path / NAME / "config")
    assert config.symbols == ["BTC-USDT"]
    assert config.alerts.timezone == new_home.zone_of_machine()
    assert config.alerts.heartbeat is None
    assert (config.alerts.link, config.alerts.is_linked) == (f"http://{HOST}:{SERVE_PORT}", False)
    assert config.alerts.digest_at == "08:00"
    assert "kucoin" in (tmp_path / NAME / "config" / "markets.yaml").read_text()
    assert note.read_text() == f"{tmp_path / NAME}\n"
    assert said.splitlines()[-1].startswith("next: `mm grid add`")
    text = (tmp_path / NAME / "README.md").read_text()
    for word in ("healthchecks.io", "Better Stack", "Cronitor", "mm backup", "PUSHOVER_TOKEN", "mm uninstall"):
        assert word in text
    assert open_to_others(tmp_path / NAME) == []


def test_the_grid_of_the_note_is_one_that_is_taken(note: Path, tmp_path: Path) -> None:
    assert called("init", str(tmp_path / NAME), "--yes", "--timezone", "Europe/Berlin")[0] == 0
    grid = (tmp_path / NAME / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / NAME / "config" / "grids" / "my-grid.yaml").write_text(grid)
    (one,) = load(tmp_path / NAME / "config").grids
    assert one.activated_at.isoformat() == "2026-01-31T13:15:00+00:00"


def test_each_question_is_asked_once_and_again_after_a_wrong_answer(note: Path, tmp_path: Path) -> None:
    answers = (
        "Europe/Berln\nEurope/Berlin\nusdc\nkukoin\nkraken\n\nmm.example\nhttps://mm.example\n"
        "https://hc-ping.com/s3cret\nMM_HEARTBEAT\nyes\n"
    )
    code, said = called("init", str(tmp_path / NAME), answers=answers)
    assert code == 0, said
    assert "did you mean Europe/Berlin" in said
    assert "did you mean kucoin" in said
    assert "s3cret" not in said
    folder = tmp_path / NAME / "config"
    config = load(folder)
    assert (config.alerts.timezone, config.symbols) == ("Europe/Berlin", ["BTC-USDC"])
    assert config.alerts.heartbeat is not None
    assert config.alerts.heartbeat.url_env == "MM_HEARTBEAT"
    assert config.alerts.link == "https://mm.example"
    assert "exchange: kraken" in (folder / "markets.yaml").read_text()
    log = subprocess.run(
        ["git", "-C", str(folder), "log", "--name-only", "--format=%an"], capture_output=True, text=True, check=True
    )
    assert log.stdout.split() == ["mm", "alerts.yaml", "markets.yaml"]


@pytest.mark.parametrize(("given", "link"), [("none", None), ("https://mm.example:8443/", "https://mm.example:8443/")])
def test_the_link_is_what_was_named_or_none(note: Path, tmp_path: Path, given: str, link: str | None) -> None:
    assert called("init", str(tmp_path / NAME), "--yes", "--link", given)[0] == 0
    assert load(tmp_path / NAME / "config").alerts.link == link


def test_a_link_is_for_one_of_the_people_that_alerts_yaml_names(note: Path, tmp_path: Path) -> None:
    assert called("init", str(tmp_path / NAME), "--yes")[0] == 0
    assert called("link", "--for", "whoever")[0] == 0
    with (tmp_path / NAME / "config" / "alerts.yaml").open("a") as file:
        file.write("people: {anna: 123456789, ben: null}\n")
    assert called("link", "--for", "ben")[0] == 0
    code, said = called("link", "--for", "anne")
    assert code == 1
    assert "--for: anne is none of the people in alerts.yaml; did you mean anna?" in said


def test_telegram_is_named_by_the_variables_of_its_token_and_chat() -> None:
    written = yaml.safe_load(new_home.alerts(new_home.Answers("UTC", "USDT", "kucoin", "telegram")))
    telegram = AlertsConfig(**written).telegram
    assert telegram is not None
    assert (telegram.token_env, telegram.chat_env) == ("TELEGRAM_TOKEN", "TELEGRAM_CHAT")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--timezone", "Berlin"), "--timezone: 'Berlin' is no time zone; write it like Europe/Berlin"),
        (("--exchange", "kukoin"), "did you mean kucoin"),
        (("--quote", "US-DT"), "--quote: 'US-DT' is no currency; write its letters alone, like USDT"),
        (("--channel", "pushovr"), "--channel: 'pushovr' is none of pushover, telegram, none; did you mean pushover"),
        (
            ("--link", "grids.example.com"),
            "--link: 'grids.example.com' is no address of a page; write it like https://",
        ),
        (
            ("--link", "https://me:s3cret@grids.example.com"),
            "--link: an address with a login in it would be kept and shown",
        ),
        (("--link", "https://[grids"), "--link: 'https://[grids' is no address"),
        (("--heartbeat-env", "https://hc-ping.com/s3cret"), "--heartbeat-env: is no name of a variable"),
        ((), "--timezone: nobody answers; give the option, or --yes"),
    ],
)
def test_a_wrong_answer_writes_nothing(note: Path, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    code, said = called("init", str(tmp_path / NAME), *options, *(("--yes",) if options else ()))
    assert code == 1
    assert says in said.splitlines()[-1]
    assert "s3cret" not in said
    assert not (tmp_path / NAME).exists()
    assert not note.exists()


def test_where_no_home_can_be_is_said(note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(tmp_path / "home")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine")
    (tmp_path / "file").touch()
    for folder, says in (
        (tmp_path / "home" / "data" / "inner", f"lies inside the home {tmp_path / 'home'}"),
        (tmp_path / "full", "is not empty; name a folder that is new or empty"),
        (tmp_path / "file", "is a file; name a folder"),
        (tmp_path / "file" / "below", "name a folder that you can write to"),
        (tmp_path / "what?", "has a ? or a control character in it"),
    ):
        code, said = called("init", str(folder), "--yes")
        assert code == 1, folder
        assert said.startswith("error: ")
        assert says in said
        assert said.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["letter"]

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "closed"))

    monkeypatch.setattr(Path, "mkdir", refused)
    code, said = called("init", str(tmp_path / "closed"), "--yes")
    assert (code, said.splitlines()[-1]) == (
        1, f"error: {tmp_path}/closed: Permission denied; name a folder that you can write to"
    )  # fmt: skip


def test_a_home_that_is_there_is_completed_and_nothing_is_overwritten(note: Path, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    assert called("init", str(folder), "--yes")[0] == 0
    (folder / "README.md").unlink()
    (folder / "config" / "alerts.yaml").write_text("timezone: Asia/Tokyo\n")
    code, said = called("init", str(folder))
    assert code == 0, said
    assert "it was one already; README.md lacked, and what was there stays as it was" in said
    assert load(folder / "config").alerts.timezone == "Asia/Tokyo"
    code, said = called("init", str(folder), "--timezone", "Europe/Berlin")
    assert code == 1
    assert f"nothing in it is overwritten; edit {folder}/config/alerts.yaml" in said


def test_only_the_first_home_is_noted_unless_another_is_wanted(note: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert called("init", str(first), "--yes")[0] == 0
    code, said = called("init", str(second), "--yes")
    assert code == 0
    assert f"note: {note} names the home {first} for all terminals, and still does" in said
    assert note.read_text() == f"{first}\n"
    assert called("init", str(second), "--default")[0] == 0
    assert note.read_text() == f"{second}\n"


def test_a_note_that_cannot_be_written_undoes_nothing(
    note: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no folder").touch()
    monkeypatch.setattr(home, "note", lambda: tmp_path / "no folder" / "mm-dagster" / "home")
    code, said = called("init", str(tmp_path / NAME), "--yes")
    assert code == 0
    assert f"cannot be noted there: stand in it, or set MM_HOME={tmp_path / NAME}" in said


def test_the_demo_does_not_run_in_a_home(note: Path, tmp_path: Path) -> None:
    assert called("init", str(tmp_path / NAME), "--yes", "--exchange", "simulated")[0] == 0
    code, said = called("demo")
    assert code == 1
    assert "the demo does not belong into it; call it as MM_CONFIG_DIR=" in said
    assert list((tmp_path / NAME / "data").iterdir()) == []


def test_uninstall_says_what_to_delete_and_deletes_nothing(note: Path, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    assert called("init", str(folder), "--yes")[0] == 0
    before = sorted(tmp_path.rglob("*"))
    code, said = called("uninstall", "--json")
    assert code == 0
    rows = json.loads(said)
    assert {row["path"] for row in rows} == {
        str(folder), str(note), str(note.parent), str(environment.shipped())
    }  # fmt: skip
    assert next(row["by"] for row in rows if row["path"] == str(folder)) == f"rm -r '{folder}'"
    assert sorted(tmp_path.rglob("*")) == before


# from the wheel -------------------------------------------------------------------------------------------------------


def test_a_wheel_carries_what_a_checkout_has_at_its_top() -> None:
    wheel = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    carried = wheel["force-include"]
    assert carried == {name: f"mm_dagster/shipped/{name}" for name in carried}
    assert set(carried) == {
        "pyproject.toml", "dagster.yaml", "workspace.yaml", environment.DEMO_CONFIG, installation.PINS
    }  # fmt: skip
    assert all((environment.shipped() / name).exists() for name in carried)
    assert not environment.is_installed()


# lived in -------------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.slow
def test_every_terminal_shows_the_home_and_nothing_is_left_elsewhere(tmp_path: Path) -> None:
    users, folder, other = tmp_path / "user", tmp_path / NAME, tmp_path / "other"
    other.mkdir()
    own = surroundings(users)
    made = mm("init", str(folder), "--yes", "--exchange", "simulated", own=own, cwd=other)
    assert made.returncode == 0, made.stderr
    assert files_below(users) == {"XDG_CONFIG_HOME/mm-dagster/home"}

    ticked = mm("tick", own=own, cwd=other)
    assert ticked.returncode == 0, ticked.stderr
    assert ticked.stderr.splitlines()[0] == (
        f"home {folder} (named by {users}/XDG_CONFIG_HOME/mm-dagster/home)"
    )  # fmt: skip
    (folder / "config" / "grids").mkdir(exist_ok=True)
    for more, cwd, how in (
        ({}, folder / "config" / "grids", "around the working folder"),
        ({"MM_HOME": str(folder)}, other, "named by MM_HOME"),
    ):
        counted = mm("sql", "SELECT count(*) AS n FROM tick", "--json", own={**own, **more}, cwd=cwd)
        assert counted.stderr.splitlines()[0] == f"home {folder} ({how})"
        assert json.loads(counted.stdout) == [{"n": 1}]
    examined = mm("doctor", "--json", own=own, cwd=other)
    assert [row["part"] for row in json.loads(examined.stdout) if row["result"] != "OK"] == []
    assert json.loads(examined.stdout)[-1]["detail"].startswith("`mm grid add`")
    assert examined.returncode == 0

    assert files_below(users) == {"XDG_CONFIG_HOME/mm-dagster/home"}
    assert list(other.iterdir()) == []
    assert open_to_others(folder) == []


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_up_serves_the_page_and_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    users, folder, port = tmp_path / "user", tmp_path / NAME, free_port()
    own = surroundings(users)
    made = mm("init", str(folder), "--yes", "--exchange", "simulated", own=own, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with (tmp_path / "said").open("w") as said:
        up = subprocess.Popen(
            [sys.executable, "-c", "from mm_dagster.cli import main; main()", "up", "--no-tick", "--port", str(port)],
            env=own, cwd=tmp_path, stdout=said, stderr=said,
        )  # fmt: skip
        started: list[psutil.Process] = []
        try:
            until = time.monotonic() + 120
            while not answers(port):
                assert up.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < until, (tmp_path / "said").read_text()
                time.sleep(0.2)
            taken = mm("up", "--no-tick", "--port", str(port), own=own, cwd=tmp_path)
            assert taken.returncode == 1
            assert f"--port {port}: Address already in use; is `mm up` running already?" in taken.stderr
            started = psutil.Process(up.pid).children(recursive=True)
            assert len(started) >= 3
            assert {one.laddr.ip for child in started for one in child.net_connections("tcp")} == {"127.0.0.1"}
            up.send_signal(signal.SIGINT)
            assert up.wait(30) == 130
            assert [child for child in started if is_alive(child)] == []
        finally:
            for child in (*started, psutil.Process(up.pid) if up.poll() is None else None):
                if child is not None and is_alive(child):
                    child.kill()
    text = (tmp_path / "said").read_text()
    assert text.splitlines()[0] == f"home {folder} (named by {users}/XDG_CONFIG_HOME/mm-dagster/home)"
    assert (folder / "data" / "dagster" / "history").is_dir()
    assert files_below(users) == {"XDG_CONFIG_HOME/mm-dagster/home"}
    assert [path for path in (folder / "data").rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as page:
            return page.status == 200
    except OSError:
        return False


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
