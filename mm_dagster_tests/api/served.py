"""`mm serve` on loopback, in a thread of the test: the real uvicorn over a home of one simulated grid."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import requests
import uvicorn

from mm_dagster.api.app import Server, create_app
from mm_dagster.api.collecting import Collecting
from mm_dagster.bars import BAR
from mm_dagster.pipeline.access import Access
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster_tests.cli.small import configure

TOKEN = "token-of-programs-0123456789-abcdefghij"
AS_OF = datetime(2026, 6, 29, 16, 45, tzinfo=UTC)


def home(folder: Path) -> None:
    """A home of one simulated grid, judged at two quarter hours; its clock stands shortly after them."""
    configure(folder)
    for moment in (AS_OF - BAR, AS_OF):
        run_tick(project_of(folder), moment)


def project_of(folder: Path) -> Project:
    found = Project(str(folder / "configuration"), str(folder / "data"), says_troubles=False)
    found.now = lambda: AS_OF.replace(minute=46)  # type: ignore[method-assign]
    return found


@dataclass
class Served:
    """A server under test.

    Attributes:
        folder: the home.
        url: where it listens.
        access: who may.
        running: the server itself.
    """

    folder: Path
    url: str
    access: Access
    running: uvicorn.Server
    program: requests.Session = field(default_factory=requests.Session)

    def person(self, name: str | None = "anna") -> requests.Session:
        """A browser whose person has entered."""
        browser = requests.Session()
        browser.headers["Origin"] = self.url
        entered = browser.post(f"{self.url}/enter", json={"code": self.access.new_code(name, 60)}, timeout=20)
        assert entered.status_code == 204, entered.text
        return browser

    def get(self, path: str, **more: object) -> requests.Response:
        """As a program."""
        return self.program.get(self.url + path, timeout=60, **more)  # type: ignore[arg-type]


@contextmanager
def served(
    folder: Path,
    *,
    make: Callable[[Path], Project] = project_of,
    token: str | None = TOKEN,
    collecting: Collecting | None = None,
    now: Callable[[], float] | None = None,
) -> Iterator[Served]:
    """The server on a port of its own."""
    access = Access(folder / "data", token, **({"now": now} if now else {}))
    server = Server(
        lambda: make(folder), access, ["127.0.0.1", "localhost"], collecting=collecting or Collecting(("true",))
    )
    config = uvicorn.Config(
        create_app(server), host="127.0.0.1", port=0, log_config=None, access_log=False, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    found = Served(folder, f"http://127.0.0.1:{port}", access, running)
    found.program.headers["Authorization"] = f"Bearer {token}"
    try:
        yield found
    finally:
        running.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
