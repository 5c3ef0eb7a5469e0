"""Each curl line of docs/api.md, as a reader runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster_tests.api.served import TOKEN, Served, home, served

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
LINES = re.findall(r"^curl .*$", DOCUMENT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("documented")
    home(folder)
    with served(folder) as found:
        yield found


def test_there_are_lines_to_run() -> None:
    assert len(LINES) >= 12


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_document_does_what_it_says(api: Served, line: str) -> None:
    # The document speaks of the demo; here there is one grid.
    line = re.sub(r"\b(eth|sol)-range\b", "eth", line).replace("http://127.0.0.1:8080", api.url)
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, env=os.environ | {"MM_API_TOKEN": TOKEN}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if "/ready" not in line:
        assert "error" not in told, told
