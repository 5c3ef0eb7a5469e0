"""The real Prometheus and its promtool, where they are: on the PATH, or beside the promtool that MM_PROMTOOL names."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 180


def tool(name: str) -> str:
    """The path of one of the two; the test skips where it is not."""
    promtool = os.environ.get("MM_PROMTOOL") or shutil.which("promtool")
    beside = Path(promtool).with_name(name) if promtool else None
    if beside is None or not beside.is_file():
        pytest.skip(f"{name} is not on the PATH; MM_PROMTOOL may name promtool (Debian: the package prometheus)")
    return str(beside)


def promtool(*arguments: str, given: bytes = b"") -> str:
    """What promtool says of it; it must be content: lint is a failure."""
    done = subprocess.run([tool("promtool"), *arguments], input=given, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@contextmanager
def running(configuration: Path, folder: Path) -> Iterator[Prometheus]:
    """Prometheus on a port of its own."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [tool("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(30)


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[Any]:
        """The samples that answer it; none while it is not up yet."""
        return list(self._get("query", query=expression).get("result", []))

    def waited_for(self, expression: str) -> list[Any]:
        """The same, as soon as there are any."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"nothing ever answered {expression}"
            time.sleep(0.2)
        return found

    def healthy_rules(self) -> list[str]:
        """The alerts of the rules that it has loaded, and evaluated without an error."""
        groups = self._get("rules").get("groups", [])
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"]

    def names(self) -> set[str]:
        """Of all series that it has seen."""
        return {one["__name__"] for one in self._get_list("series", **{"match[]": '{job="mm_dagster"}'})}

    def _get_list(self, path: str, **values: str) -> list[Any]:
        return list(self._answer(path, **values) or [])

    def _get(self, path: str, **values: str) -> dict[str, Any]:
        return dict(self._answer(path, **values) or {})

    def _answer(self, path: str, **values: str) -> Any:
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                return None
            raise AssertionError(f"{values}: {error.read().decode()}") from None
        except (urllib.error.URLError, ConnectionError):
            return None
