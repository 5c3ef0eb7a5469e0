"""Variables of the environment and folders: each value that cannot be meant is named, with what would be right."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from mm_dagster import environment, logs
from mm_dagster.cli import main
from mm_dagster.cli.remedies import can_be_said, in_words, remedy
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.load import load
from mm_dagster.defs import automation
from mm_dagster.environment import VariableError
from mm_dagster.history.lake import LakeError
from mm_dagster.history.mirror import Mirror, MirrorError
from mm_dagster_tests.config.test_config import GRID, MARKETS


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("MM_", "PUSHOVER_", "GIT_CONFIG", "NUMBA_CACHE")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("value", ["1 min", "1.5", "-1", "15", "1'", '"1"', "one", "1e1", "999", "½"])
def test_minutes_that_are_none_are_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MM_TICK_OFFSET_MINUTES", value)
    with pytest.raises(VariableError, match=r"MM_TICK_OFFSET_MINUTES: .* is no whole number of minutes from 0 to 14"):
        environment.tick_offset_minutes()
    assert [variable for variable, _ in environment.faults()] == ["MM_TICK_OFFSET_MINUTES"]


def test_minutes_that_are_none_stop_no_schedule(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MM_TICK_OFFSET_MINUTES", "1 min")
    assert automation._offset_minutes() == 1
    assert "MM_TICK_OFFSET_MINUTES: '1 min' is no whole number" in caplog.text


@pytest.mark.parametrize(("value", "minutes"), [("", 1), (" 2\n", 2), ("0", 0), ("14\r\n", 14), ("  ", 1)])
def test_minutes_are_taken(monkeypatch: pytest.MonkeyPatch, value: str, minutes: int) -> None:
    monkeypatch.setenv("MM_TICK_OFFSET_MINUTES", value)
    assert environment.tick_offset_minutes() == minutes


@pytest.mark.parametrize("value", [" token\n", "token\r\n", "\ttoken ", '"token"', "'token'\n", '" token "'])
def test_a_secret_is_what_was_meant(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PUSHOVER_TOKEN", value)
    assert environment.secret("PUSHOVER_TOKEN") == "token"
    logs.protect(())
    assert logs.redact("the token") == "the ***"


def test_quotes_and_breaks_in_a_secret_are_said_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHOVER_TOKEN", '"s3cret"')
    monkeypatch.setenv("PUSHOVER_USER", "s3 cret")
    said = dict(environment.faults())
    assert "quotes around it" in said["PUSHOVER_TOKEN"]
    assert "blank or a line break" in said["PUSHOVER_USER"]
    assert "s3" not in str(said)
    monkeypatch.setenv("PUSHOVER_TOKEN", " s3cret\n")
    monkeypatch.setenv("PUSHOVER_USER", "")
    assert dict(environment.faults()) == {}
    assert environment.secret("PUSHOVER_USER") is None


def test_a_variable_that_nobody_reads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_DATADIR", "/srv/mm")
    monkeypatch.setenv("MM_SECOND_CHANNEL", "mailto://x")
    assert [line for _, line in environment.faults()] == ["MM_DATADIR: is read by nobody; did you mean MM_DATA_DIR?"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("~nobody-here/mm", "no such home"),
        ("$HOME/mm", "was not expanded"),
        ("${HOME}/mm", "was not expanded"),
        ('"/srv/mm"', "quotes around it"),
        ("what?", "has a ? in it"),
        ("file", "is no folder"),
        ("dangling", "leads nowhere"),
        ("dangling/below", "leads nowhere"),
        ("loop", "leads nowhere"),
    ],
)
@pytest.mark.parametrize("variable", ["MM_DATA_DIR", "MM_DAGSTER_DIR"])
def test_a_folder_that_cannot_be_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("/mnt/not-mounted")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv(variable, value)
    with pytest.raises(VariableError, match=f"^{variable}: .*") as caught:
        _ = environment.data_folder() if variable == "MM_DATA_DIR" else environment.dagster_folder(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_found_as_a_shell_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, folder in (
        ("~/mm", "home/mm"), ("~", "home"), ("relative", "relative"), (" /srv/mm\n", "/srv/mm"), ("", "data/demo"),
        ("Mein Ordner äö's #1 %", "Mein Ordner äö's #1 %"),
    ):  # fmt: skip
        monkeypatch.setenv("MM_DATA_DIR", value)
        assert environment.data_folder() == tmp_path / folder
    monkeypatch.setenv("MM_CONFIG_DIR", "~/mm")
    assert environment.config_folder() == tmp_path / "home" / "mm"
    monkeypatch.setenv("MM_DATA_DIR", "")
    assert environment.data_folder() == tmp_path / "data"


def test_a_folder_that_no_variable_names_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MM_CONFIG_DIR", raising=False)
    monkeypatch.delenv("MM_DATA_DIR", raising=False)
    shipped = environment.shipped() / "configs" / "demo"
    demo = f"demo (simulated): configuration {shipped}, data {tmp_path}/data/demo"
    assert environment.fallen_back() == demo
    (tmp_path / "configs" / "demo").mkdir(parents=True)
    assert environment.fallen_back() == demo.replace(str(shipped), f"{tmp_path}/configs/demo")
    monkeypatch.setenv("MM_CONFIG_DIR", "mine")
    assert environment.fallen_back() == f"MM_DATA_DIR is not set: configuration {tmp_path}/mine, data {tmp_path}/data"
    monkeypatch.setenv("MM_DATA_DIR", "kept")
    assert environment.fallen_back() is None


def test_a_setting_of_git_that_is_counted_and_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    with pytest.raises(VariableError, match="GIT_CONFIG_COUNT: 1 settings, but GIT_CONFIG_KEY_0 is not set"):
        environment.git_config_count()


def test_a_link_to_the_configuration_may_change_its_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Releases are often exchanged so: what is remembered of the folder is remembered of the link."""
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    monkeypatch.setenv("MM_CONFIG_DIR", "current")
    assert environment.config_folder() == tmp_path / "current"


def test_a_working_folder_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(VariableError, match="MM_DATA_DIR: data/demo: the working folder is not there"):
        environment.data_folder()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fails)
    with pytest.raises(VariableError, match=f"MM_DATA_DIR: {tmp_path}: {os.strerror(number)}; .*another folder"):
        environment.made("MM_DATA_DIR", tmp_path)


@pytest.mark.parametrize(("value", "count"), [("", 0), (" ", 0), ("3", 3)])
def test_gits_settings_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, count: int) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", value)
    for number in range(count):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", "user.name")
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", "somebody")
    assert environment.git_config_count() == count
    Mirror(tmp_path / "mirror", None, "main")


def test_a_count_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "many")
    with pytest.raises(MirrorError, match="GIT_CONFIG_COUNT: 'many' is no number of settings"):
        Mirror(tmp_path / "mirror", None, "main")


def test_without_git_only_the_mirror_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mirror = Mirror(tmp_path / "mirror", None, "main")
    with pytest.raises(MirrorError, match="there is no git on the PATH; install git"):
        mirror.write({"a.yaml": "a"}, "a")


def test_numba_keeps_what_it_compiles_where_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "_can_write", lambda folder: folder == Path("/home/me/.cache"))
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    environment.find_numba_cache(tmp_path)
    assert "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setenv("HOME", "/nonexistent")
    environment.find_numba_cache(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "cache" / "numba")
    monkeypatch.delenv("NUMBA_CACHE_DIR")


def test_what_a_home_needs_to_keep_is_kept_below_its_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MPLCONFIGDIR", "MPL_IGNORE_SYSTEM_FONTS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    data = tmp_path / "grids" / "data"
    environment.find_matplotlib_cache(data)
    assert "MPLCONFIGDIR" not in os.environ
    data.mkdir(parents=True)
    (data.parent / "mm-home.toml").touch()
    environment.find_matplotlib_cache(data)
    assert os.environ["MPLCONFIGDIR"] == str(data / "cache" / "matplotlib")
    assert os.environ["MPL_IGNORE_SYSTEM_FONTS"] == "1"
    monkeypatch.setattr(environment, "_can_write", lambda folder: folder == Path("/home/me/.cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.cache")
    environment.find_numba_cache(data)
    assert os.environ.pop("NUMBA_CACHE_DIR") == str(data / "cache" / "numba")


def test_a_secret_in_the_place_of_its_variable_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "markets.yaml").write_text(MARKETS)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "eth.yaml").write_text(GRID)
    (tmp_path / "alerts.yaml").write_text("heartbeat: {url_env: 'https://beat.example/s3cret'}\n")
    with pytest.raises(ConfigError, match=r"heartbeat.url_env: \*\*\* is wrong: must be the name") as caught:
        load(tmp_path)
    assert "s3cret" not in str(caught.value)


def raised(outer: Exception, inner: BaseException) -> Exception:
    try:
        raise outer from inner
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: No space left on device; make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "make room on the disk of"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "MM_DATA_DIR"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "mounted read-only"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/data/x"), "moved or deleted meanwhile"),
        (OSError(errno.EMFILE, "Too many open files", "/data/x"), "ulimit -n"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "MM_DATA_DIR"),
        (sqlite3.OperationalError("database or disk is full"), "make room"),
        (sqlite3.DatabaseError("database disk image is malformed"), "mm restore"),
        (raised(RuntimeError("wrapped"), OSError(errno.ENOSPC, "No space left on device", "/x")), "make room"),
        (RuntimeError("IO Error: Could not write file: No space left on device\nmore"), "make room"),
    ],
)
def test_what_a_disk_refuses_has_a_remedy(error: Exception, said: str) -> None:
    line = in_words(error)
    assert line is not None
    assert said in line
    assert "\n" not in line


def test_what_is_no_fault_of_a_disk_has_none() -> None:
    for error in (ValueError("x"), ConnectionRefusedError(errno.ECONNREFUSED, "refused"), TimeoutError("x")):
        assert in_words(error) is None
    assert remedy(LakeError("nothing of the kind")) is None
    assert can_be_said(type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})())
    assert not can_be_said(KeyboardInterrupt())


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_what_a_terminal_cannot_show_undoes_nothing(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))

    def status(**_: object) -> None:
        sys.stdout.write("NORMAL → WARNING · grid ▁▂█\n")

    monkeypatch.setattr(sys.modules["mm_dagster.cli.app"], "app", status)
    with pytest.raises(SystemExit) as end:
        main()
    sys.stdout.flush()
    assert end.value.code == 0
    assert b"NORMAL -> WARNING" in written.getvalue()


def test_an_error_of_the_disk_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device", "/data/x"), LakeError("write: disk I/O error")):

        def fails(error: Exception = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(sys.modules["mm_dagster.cli.app"], "app", fails)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "not foreseen" not in said


@pytest.mark.parametrize(
    ("value", "link"),
    [(" http://127.0.0.1:3000/ ", "http://127.0.0.1:3000"), ("", None), ("javascript:alert(1)", None), ("3000", None)],
)
def test_a_link_is_one_that_a_browser_follows(monkeypatch: pytest.MonkeyPatch, value: str, link: str | None) -> None:
    monkeypatch.setenv("MM_DAGSTER_LINK", value)
    assert environment.link(environment.DAGSTER_LINK) == link
