"""The pictures of the live page that stand in the documents, made of the real service over the demo's data.

MM_DATA_DIR=<the demo's data> python -m mm_dagster_tests.pages.demo_page docs
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from mm_dagster_tests.pages.conftest import BROWSERS
from mm_dagster_tests.pages.real import Real, demo_config, served

CLOCK = datetime(2026, 6, 29, 16, 47, tzinfo=UTC)
"""Two minutes after the demo's tick."""
PICTURES = {
    "page": [("/", 390, 844, "light"), ("/g/sol-range", 390, 844, "dark"), ("/right", 390, 844, "light")],
    "page-grid": [("/g/eth-range?days=30", 1280, 1340, "light")],
}
"""Each picture of docs: what it shows from left to right."""


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
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(os.environ["MM_DATA_DIR"]))
