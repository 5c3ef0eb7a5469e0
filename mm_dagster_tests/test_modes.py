"""What is written is for its owner alone, whoever of the programs below writes it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mm_dagster import modes


def open_to_others(folder: Path) -> list[str]:
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink() and path.lstat().st_mode & 0o077]
    return [f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(folder.parent)}" for path in found]


def mm(*arguments: str, data: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """The command, begun by somebody whose umask lets everybody read."""
    env = os.environ | {"MM_DATA_DIR": str(data), "MM_CONFIG_DIR": str(config), "MM_DAGSTER_DIR": str(data / "dagster")}
    return subprocess.run(
        [sys.executable, "-c", "import os; os.umask(0o022); from mm_dagster.cli import main; main()", *arguments],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_after_a_tick_a_backup_and_a_report_nothing_can_be_read_by_others(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "configs"
    shutil.copytree(Path("configs/demo"), config)
    data.mkdir(mode=0o755)
    done = mm("tick", "--as-of", "2026-06-29T16:45Z", data=data, config=config)
    assert done.returncode == 0, done.stderr
    done = mm("backup", "--to", str(data / "mm.tar.gz"), data=data, config=config)
    assert done.returncode == 0, done.stderr
    assert mm("report", "--out", str(data / "own.html"), data=data, config=config).returncode == 0
    assert open_to_others(data) == []
    mm("report", "--out", str(tmp_path / "share.html"), "--no-money", data=data, config=config)
    assert stat.S_IMODE((tmp_path / "share.html").stat().st_mode) == 0o644


def test_an_old_folder_is_closed_and_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(modes.ModesError, match=r"other users may enter it; run `chmod go= "):
        modes.check(folder)
    (folder / "balances").write_text("1")
    (folder / "balances").chmod(0o644)
    with pytest.raises(modes.ModesError, match=r"balances: other users may read it; run `chmod -R go= "):
        modes.check(folder)
    modes.tighten(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "closed to other users" in modes.check(folder)
    monkeypatch.setattr(Path, "chmod", lambda *_: (_ for _ in ()).throw(PermissionError("not yours")))
    modes.tighten(tmp_path / "data")


@pytest.mark.parametrize("unit", ["mm-daemon.service", "mm-webserver.service"])
def test_the_units_keep_it_private(unit: str) -> None:
    assert "\nUMask=0077\n" in Path("deploy/systemd", unit).read_text()


def test_the_image_and_make_up_keep_it_private() -> None:
    assert "umask 077; exec" in Path("deploy/Dockerfile").read_text()
    assert "@$(BIN)/mm up" in Path("Makefile").read_text()  # `mm` is private by itself, see above
