"""The image is built, and what the services run runs in it, as its user: without Docker, by buildah in a chroot.

Of the two images that the Dockerfile begins with none can be had without a registry, so Debian itself, by debootstrap,
stands in their place under their name, with the same Python. How pip and apt reach what they install is this
computer's business: it is found out by asking them, and handed in from outside. It needs root, some minutes and 6 GB.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from mm_dagster_tests.conftest import PROJECT

pytestmark = pytest.mark.long

DEPLOY = PROJECT / "deploy"
NEEDED = ("buildah", "debootstrap", "unshare", "tar", "apt-config")
USER = 10001
BUILD_SECONDS, PATIENCE_SECONDS = 3_600, 600
BASE = ("python3.11", "python3.11-venv", "python3-pip", "ca-certificates", "git")


@dataclass(frozen=True)
class Engine:
    """buildah with a storage of its own."""

    folder: Path

    def __call__(self, *words: str | Path, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.words(*words), check=False, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, f"buildah {words[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def words(self, *words: str | Path) -> list[str]:
        own = ("--root", self.folder / "root", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        return ["buildah", *map(str, (*own, *words))]


@dataclass(frozen=True)
class Container:
    """One of the image's, with a volume and a configuration."""

    engine: Engine
    name: str
    data: Path
    environment: dict[str, str]

    def words(self, *command: str) -> list[str]:
        """A command as the image starts it: by its user, behind its entry point."""
        config = json.loads(self.engine("inspect", self.name).stdout)["OCIv1"]["config"]
        given = [f"--env={name}={value}" for name, value in self.environment.items()]
        volumes = [f"--volume={self.data}:/data", f"--volume={PROJECT / 'configs' / 'demo'}:/configs:ro"]
        return self.engine.words(
            "run", "--isolation", "chroot", "--user", config["User"], "--workingdir", "/data", *given, *volumes,
            self.name, "--", *config["Entrypoint"], *command,
        )  # fmt: skip

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*command), check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )

    @contextmanager
    def running(self, command: list[str]) -> Iterator[Path]:
        """A service while the block goes on; the file with what it says."""
        said = self.data.parent / f"{command[0]}-{time.monotonic_ns()}"
        with said.open("wb") as log:
            started = subprocess.Popen(self.words(*command), stdout=log, stderr=log, start_new_session=True)
        try:
            yield said
        finally:
            for one in [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]:
                one.send_signal(signal.SIGKILL)
            started.wait()


def pip_settings() -> tuple[str, list[str]]:
    """What pip is told on this computer, as a pip.conf, and the folders and files that this names."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        # What the environment says comes last, and counts more.
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    words = [word.removeprefix("file://") for value in settings.values() for word in value.split()]
    # A folder of an index is named by its part that is asked.
    places = {word.removesuffix("/simple") for word in words if word.startswith("/")}
    text = "".join(f"{name} = {' '.join(value.split())}\n" for name, value in settings.items())
    return f"[global]\n{text}", sorted(place for place in places if Path(place).exists())


def debian(folder: Path) -> Path:
    """A Debian with Python where that of the image is, as an archive."""
    base = folder / "base"
    # What it mounts is gone with its namespace.
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", "bookworm", str(base)]
    made = subprocess.run(
        ["unshare", "--mount", *bootstrap], check=False, capture_output=True, text=True, timeout=BUILD_SECONDS
    )
    if made.returncode:
        pytest.skip(f"debootstrap reaches no Debian: {(made.stdout + made.stderr).strip().splitlines()[-1]}")
    (base / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3.11")
    said = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    own = re.findall(r'(?m)^Acquire::(?:Check|http|https)[^ ]* ".*";$', said)
    (base / "etc" / "apt" / "apt.conf.d" / "99computer").write_text("\n".join(own) + "\n")
    archive = folder / "base.tar"
    subprocess.run(["tar", "--one-file-system", "-C", str(base), "-cf", str(archive), "."], check=True)
    shutil.rmtree(base)
    return archive


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The image `mm-dagster`, built as docs/deployment.md says."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent or os.geteuid():
        pytest.skip(f"an image cannot be built here: {', '.join(absent) or 'only root can'}")
    folder = Path(tempfile.mkdtemp(prefix="mm-image-"))
    try:
        found = Engine(folder)
        scratch = found("from", "scratch").stdout.strip()
        found("add", "--quiet", scratch, debian(folder), "/", seconds=BUILD_SECONDS)
        found("commit", "--quiet", "--rm", scratch, "localhost/python:3.11-slim", seconds=BUILD_SECONDS)
        settings, places = pip_settings()
        (folder / "pip.conf").write_text(settings)
        volumes = [f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro", *(f"--volume={one}:{one}:ro" for one in places)]
        found(
            "build", "--isolation", "chroot", "--pull-never", "--layers=false", *volumes, "--file",
            DEPLOY / "Dockerfile", "--ignorefile", DEPLOY / "Dockerfile.dockerignore", "--tag", "mm-dagster", PROJECT,
            seconds=BUILD_SECONDS,
        )  # fmt: skip
        yield found
    finally:
        # What is mounted is somebody else's: it is never deleted along.
        assert str(folder) not in Path("/proc/mounts").read_text()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def container(engine: Engine) -> Container:
    """With what compose.yaml says of its services, on a volume of its user."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    given = {name: str(value) for name, value in services["x-program"]["environment"].items()}
    data = engine.folder / "volumes" / "data"
    data.mkdir(parents=True)
    os.chown(data, USER, USER)
    for folder in (engine.folder, data.parent):
        folder.chmod(0o755)
    ports = {"MM_CODE_HOST": "127.0.0.1", "MM_CODE_PORT": str(free_port()), "MM_CONFIG_DIR": "/configs"}
    own = {name: value for name, value in given.items() if "$" not in value} | ports
    return Container(engine, engine("from", "mm-dagster").stdout.strip(), data, own)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(container: Container, probe: list[str], said: Path) -> None:
    """Returns when a service is well, as its own probe says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = container.run(*probe)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}{said.read_text()[-3000:]}"
        time.sleep(2)


def test_it_is_nobody_special_and_finds_what_it_needs(container: Container) -> None:
    who = container.run("python", "-c", "import os; print(os.getuid(), os.getgid(), os.umask(0))")
    assert who.stdout == f"{USER} {USER} {0o077}\n", who.stderr
    packages = "import dagster_postgres, duckdb_extension_ducklake, duckdb_extension_httpfs, mm_dagster, psycopg2"
    assert container.run("python", "-c", packages).returncode == 0
    assert container.run("git", "--version").stdout.startswith("git version")
    # pip's settings came from outside, and stayed there.
    assert container.run("cat", "/etc/pip.conf").stdout == ""


def test_every_command_of_the_services_is_there(container: Container) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    commands = {tuple(one["command"][:2]) for one in services if "build" in one}
    assert len(commands) == 5
    for first, second in sorted(commands):
        words = (first, "--help") if second.startswith("-") else (first, second, "--help")
        done = container.run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert "Usage" in done.stdout


def test_it_shows_the_demo_and_a_recorder_that_is_told_nothing_says_so(container: Container) -> None:
    shown = container.run("sh", "-c", "env -u MM_CONFIG_DIR MM_DATA_DIR=/data/shown MM_DAGSTER_DIR= mm demo")
    assert shown.returncode == 0, shown.stderr
    assert "Decisions at" in shown.stdout
    refused = container.run("mm", "record")
    assert refused.returncode == 1
    assert "books.yaml: record is false, so nothing is recorded" in refused.stderr


def test_its_services_become_well_as_their_own_probes_say(container: Container) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ports = {"4000": container.environment["MM_CODE_PORT"], "3000": str(free_port()), "8080": str(free_port())}

    def moved(words: list[str], more: list[str]) -> list[str]:
        """On loopback, and on free ports; nothing else is another."""
        found = [ports.get(word, "127.0.0.1" if word == "0.0.0.0" else word) for word in words]
        return [
            re.sub(r"127\.0\.0\.1:(\d+)", lambda at: f"127.0.0.1:{ports.get(at[1], at[1])}", w) for w in found
        ] + more

    def probe(service: Any) -> list[str]:
        return moved(service["healthcheck"]["test"][1:], [])

    with container.running(moved(services["code"]["command"], [])) as said:
        wait_for(container, probe(services["code"]), said)
        with (
            container.running(moved(services["daemon"]["command"], [])) as daemon,
            container.running(moved(services["webserver"]["command"], [])) as webserver,
            container.running(moved(services["page"]["command"], ["--port", ports["8080"]])) as page,
        ):
            wait_for(container, probe(services["webserver"]), webserver)
            wait_for(container, probe(services["page"]), page)
            wait_for(container, probe(services["daemon"]), daemon)
            # A second one stands by.
            with container.running(moved(services["daemon"]["command"], [])) as second:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while "is active since" not in second.read_text():
                    assert time.monotonic() < deadline, second.read_text()
                    time.sleep(0.5)
