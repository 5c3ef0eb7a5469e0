"""`mm serve` as a process of its own over a home, and browsers whose person came in through a link of `mm link`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
import yaml
from playwright.sync_api import Browser, BrowserContext, expect

from mm_dagster.history.lake import Lake
from mm_dagster_tests.cli.on_loopback import surroundings
from mm_dagster_tests.cli.test_home import free_port
from mm_dagster_tests.conftest import PROJECT

MM = (sys.executable, "-m", "mm_dagster_tests.cli.on_loopback")
PATIENCE_SECONDS = 120
DEMO = PROJECT / "configs" / "demo"


@dataclass
class Real:
    """A service under test.

    Attributes:
        url: where it listens.
        own: the environment in which it and its commands run.
        data: the data folder.
        process: of `mm serve`.
    """

    url: str
    own: dict[str, str]
    data: Path
    process: subprocess.Popen[str]

    def mm(self, *command: str) -> str:
        """What a command prints on the same home."""
        done = subprocess.run([*MM, *command], env=self.own, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lake(self) -> Lake:
        """What is stored, read anew."""
        return Lake(self.data / "history")

    @contextmanager
    def entered(
        self, browser: Browser, size: tuple[int, int] = (390, 844), person: str = "anna", **options: Any
    ) -> Iterator[BrowserContext]:
        """A browser of its own whose person tapped a link and pressed the button."""
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        context.set_default_timeout(30_000)
        try:
            (link,) = json.loads(self.mm("link", "--for", person, "--port", self.url.rpartition(":")[2], "--json"))
            page = context.new_page()
            page.goto(link["link"])
            page.get_by_role("button", name="Come in").click()
            expect(page.locator("nav.tabs")).to_be_visible()
            page.close()
            yield context
        finally:
            context.close()


@contextmanager
def served(
    config: Path, data: Path, scratch: Path, *options: str, port: int | None = None, now: datetime | None = None
) -> Iterator[Real]:
    """Serves until the block ends.

    Args:
        config: folder of the configuration; it names no `link`, since the port is another each time.
        data: the data folder.
        scratch: an empty folder for what a user has elsewhere.
        options: of `mm serve` beside the port.
        port: where it listens; None: where it is free.
        now: the time at which its clock stands; None: it runs.
    """
    port = port or free_port()
    scratch.mkdir(exist_ok=True)
    own = surroundings(scratch, {}, now, MM_CONFIG_DIR=str(config), MM_DATA_DIR=str(data))
    with (scratch / "said").open("w") as said:
        process = subprocess.Popen([*MM, "serve", "--port", f"{port}", *options], env=own, stderr=said, text=True)
        found = Real(f"http://127.0.0.1:{port}", own, data, process)
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while not _answers(found.url):
                assert process.poll() is None, (scratch / "said").read_text()
                assert time.monotonic() < until, (scratch / "said").read_text()
                time.sleep(0.1)
            yield found
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def demo_config(folder: Path) -> Path:
    """The demo's configuration without its link, which names another port."""
    shutil.copytree(DEMO, folder)
    alerts = folder / "alerts.yaml"
    alerts.write_text(yaml.safe_dump({**yaml.safe_load(alerts.read_text()), "link": None}))
    return folder


def make_demo(folder: Path) -> tuple[Path, Path]:
    """A demo as `mm demo` makes it: a configuration to serve it with, and its data."""
    config, data = demo_config(folder / "config"), folder / "data"
    own = os.environ | {"MM_DATA_DIR": str(data), "MM_CONFIG_DIR": str(DEMO), "PYTHONPATH": str(PROJECT)}
    made = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "demo"]
    subprocess.run(made, env=own, check=True, capture_output=True, timeout=900)
    return config, data
