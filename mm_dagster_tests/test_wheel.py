"""The wheel, as somebody has it who has no checkout: another user, packages that are read-only, an odd folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mm_dagster_tests.cli.test_home import NAME, answers, files_below, free_port, surroundings
from mm_dagster_tests.cli.test_up import PATIENCE_SECONDS, wait_until
from mm_dagster_tests.conftest import PROJECT

pytestmark = pytest.mark.long
PACKAGES = Path(pytest.__file__).parents[1]
"""Where what the wheel needs is installed already: it is not fetched once more."""
NOBODY = 65534


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir",
         str(tmp_path_factory.mktemp("dist")), str(PROJECT)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if "hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, cannot be had: there is no package index in reach")
    assert built.returncode == 0, built.stderr
    return next(tmp_path_factory.getbasetemp().glob("dist*/*.whl"))


@dataclass
class Stranger:
    """A user who is not root, in a folder of their own.

    Attributes:
        folder: all that is theirs.
        python: the interpreter of an environment that they cannot write to.
        who: arguments of subprocess that make a process theirs.
    """

    folder: Path
    python: Path
    who: dict[str, Any]

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python.with_name("mm")), *arguments]

    def mm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), **self.who, env=self.surroundings, cwd=self.work, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip

    @property
    def work(self) -> Path:
        return self.folder / NAME

    @property
    def surroundings(self) -> dict[str, str]:
        """Of a shell with nothing set: no variable of ours, and none that leads to the checkout."""
        own = surroundings(self.folder / "user")
        del own["PYTHONPATH"], own["PYTHONDONTWRITEBYTECODE"]
        return {**own, "PATH": os.defpath}


@pytest.fixture(scope="module")
def stranger(wheel: Path) -> Iterator[Stranger]:
    is_root = os.getuid() == 0
    who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root else {}
    # The folders of pytest are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="wheel "))
    try:
        folder.chmod(0o755)
        python = folder / "environment" / "bin" / "python"
        _install(wheel, python, _base_python(who))
        if not is_root:
            _set_writable(folder / "environment", False)
        one = Stranger(folder, python, who)
        one.work.mkdir()
        _ = one.surroundings
        if is_root:
            for path in (one.work, folder / "user", *(folder / "user").iterdir()):
                os.chown(path, NOBODY, NOBODY)
        yield one
    finally:
        _set_writable(folder, True)
        shutil.rmtree(folder)


def _base_python(who: dict[str, Any]) -> str:
    """An interpreter like this one that a user may run, with what is installed here."""
    found = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (os.path.realpath(sys.executable), shutil.which(found, path=os.defpath)):
        probe = [str(python), "-c", "import ensurepip, numpy, duckdb, dagster"]
        try:
            done = subprocess.run(
                probe, **who, env={"PYTHONPATH": str(PACKAGES), "HOME": "/nonexistent"}, cwd="/",
                capture_output=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return str(python)
    pytest.skip(f"another user can run no {found} with the packages that are installed here")


def _install(wheel: Path, python: Path, base: str) -> None:
    subprocess.run([base, "-m", "venv", str(python.parents[1])], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    packages = next(python.parents[1].glob("lib/*/site-packages"))
    # It comes after the environment's own, so that the wheel is what is imported.
    (packages / "others.pth").write_text(f"{PACKAGES}\n")


def _set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IWUSR if writable else mode & ~0o222)


def test_it_carries_the_program_and_what_the_program_needs_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mm_dagster"}
    shipped = {name.removeprefix("mm_dagster/shipped/") for name in names if name.startswith("mm_dagster/shipped/")}
    assert {"deploy/constraints.txt", "dagster.yaml", "workspace.yaml", "configs/demo/markets.yaml"} <= shipped
    modules = {str(path.relative_to(PROJECT)) for path in (PROJECT / "mm_dagster").rglob("*.py")}
    assert modules <= names


def test_a_stranger_sees_the_demo_makes_a_home_watches_it_and_takes_it_away(stranger: Stranger) -> None:
    before = files_below(stranger.python.parents[1])
    demo = stranger.mm("demo")
    assert demo.returncode == 0, demo.stderr
    assert "eth-range" in demo.stdout
    assert f"demo (simulated) in {stranger.work}/data/demo" in demo.stderr
    examined = stranger.mm("doctor", "--json")
    assert {row["part"] for row in json.loads(examined.stdout) if row["result"] != "OK"} == set()

    folder = stranger.work / "zu Hause"
    made = stranger.mm("init", str(folder), "--yes", "--exchange", "simulated")
    assert made.returncode == 0, made.stderr
    _watch(stranger)
    status = stranger.mm("status")
    assert status.returncode == 0, status.stderr
    assert status.stderr.startswith(f"home {folder} (named by ")
    ticks = stranger.mm("sql", "SELECT count(*) AS n FROM tick", "--json")
    assert json.loads(ticks.stdout)[0]["n"] >= 1

    told = json.loads(stranger.mm("uninstall", "--json").stdout)
    named = [Path(row["path"]) for row in told if row["path"]]
    written = [top / name for top in (stranger.work, stranger.folder / "user") for name in files_below(top)]
    assert len(written) > 100
    assert [path for path in written if not any(path.is_relative_to(one) for one in named)] == []
    program = next(row for row in told if row["path"] == str(stranger.python.parents[1]))
    assert program["by"] == f"'{stranger.python}' -m pip uninstall mm-dagster"
    assert files_below(stranger.python.parents[1]) == before


def _watch(stranger: Stranger) -> None:
    """`mm up` until its page is there, then Ctrl-C."""
    port = free_port()
    with (stranger.work.parent / "said").open("w") as said:
        up = subprocess.Popen(
            stranger.command("up", "--port", str(port)), **stranger.who, env=stranger.surroundings, cwd=stranger.work,
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        try:
            wait_until(lambda: answers(port) or up.poll() is not None)
            assert up.poll() is None, Path(said.name).read_text()
        finally:
            up.send_signal(signal.SIGINT)
            code = up.wait(PATIENCE_SECONDS)
    assert code == 130, Path(said.name).read_text()
