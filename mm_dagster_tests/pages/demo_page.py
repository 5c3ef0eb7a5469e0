"""The pictures of the live page and of Dagster's page that stand in the documents, made of the real services over the
demo's data.

MM_DATA_DIR=<the demo's data> python -m mm_dagster_tests.pages.demo_page docs
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from mm_dagster_tests.cli.test_home import answers, free_port
from mm_dagster_tests.cli.test_up import wait_until
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.pages.conftest import BROWSERS
from mm_dagster_tests.pages.real import DEMO, Real, demo_config, end, served

CLOCK = datetime(2026, 6, 29, 16, 47, tzinfo=UTC)
"""Two minutes after the demo's tick."""
PICTURES = {
    "page": [("/", 390, 844, "light"), ("/g/sol-range", 390, 844, "dark"), ("/right", 390, 844, "light")],
    "page-grid": [("/g/eth-range?days=30", 1280, 1340, "light")],
}
"""Each picture of docs: what it shows from left to right."""
DAGSTER = "dagster"
"""And that of Dagster's page."""


def pictures(folder: Path, browser: Browser, real: Real) -> None:
    """Makes them: screens of the pages, side by side."""
    for name, screens in PICTURES.items():
        taken = []
        for path, width, height, scheme in screens:
            more: dict[str, Any] = {"color_scheme": scheme}
            with real.entered(browser, (width, height), **more) as context:
                page = context.new_page()
                page.goto(real.url + path, wait_until="load")
                page.wait_for_timeout(500)
                taken.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        side_by_side(taken).save(folder / f"{name}.png", optimize=True)


def picture_of_dagster(folder: Path, browser: Browser, data: Path) -> None:
    """The newest tick of `exit_state` in Dagster's page, whose web server alone runs: nothing changes the data."""
    port = free_port()
    own = os.environ | {
        "MM_CONFIG_DIR": str(DEMO), "MM_DATA_DIR": str(data), "MM_DAGSTER_DIR": str(data / "dagster"),
        "DAGSTER_HOME": str(PROJECT), "PYTHONPATH": str(PROJECT),
    }  # fmt: skip
    command = ["dagster-webserver", "--host", "127.0.0.1", "--port", f"{port}", "--workspace", "workspace.yaml"]
    command[0] = str(Path(sys.executable).with_name(command[0]))
    with (folder / "said").open("w") as said:
        started = subprocess.Popen(command, env=own, cwd=PROJECT, stdout=said, stderr=said, text=True)
        try:
            wait_until(lambda: started.poll() is not None or answers(port))
            page = browser.new_page(viewport={"width": 1280, "height": 820})
            page.goto(f"http://127.0.0.1:{port}/assets/exit_state?view=events")
            expect(page.get_by_role("link", name="http://127.0.0.1:8080").first).to_be_visible(timeout=60_000)
            expect(page.get_by_text("LATEST_ACCEPTABLE_EXIT").first).to_be_visible()
            page.wait_for_timeout(500)
            taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            page.close()
        finally:
            end(started)
    (folder / "said").unlink()
    taken.quantize(64, kmeans=1).save(folder / f"{DAGSTER}.png", optimize=True)


def side_by_side(taken: list[Image.Image], gap: int = 16) -> Image.Image:
    """Pictures of one height beside each other, in few colours, so that the file is small."""
    whole = Image.new("RGB", (sum(one.width + gap for one in taken) - gap, taken[0].height), "#8892a6")
    left = 0
    for one in taken:
        whole.paste(one, (left, 0))
        left += one.width + gap
    return whole.quantize(256, kmeans=1)


def main(folder: Path, data: Path) -> None:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with tempfile.TemporaryDirectory() as scratch:
        config = demo_config(Path(scratch) / "config")
        with served(config, data, Path(scratch) / "user", now=CLOCK) as real, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
            pictures(folder, browser, real)
            picture_of_dagster(folder, browser, data)
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(os.environ["MM_DATA_DIR"]))
