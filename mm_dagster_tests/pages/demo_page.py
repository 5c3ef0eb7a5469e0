"""The live page over the demo's lake, gathered as `mm serve` gathers it; as a module it makes the pictures of docs.

MM_DATA_DIR=<the demo's data> python -m mm_dagster_tests.pages.demo_page docs
"""

from __future__ import annotations

import io
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from mm_dagster.pages import gather, live
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.pages.conftest import BROWSERS
from mm_dagster_tests.pages.served import Shown, serving

CLOCK = datetime(2026, 6, 29, 16, 47, tzinfo=UTC)
"""Two minutes after the demo's tick."""
PICTURES = {
    "page": [("/", 390, 844, "light"), ("/g/sol-range", 390, 844, "dark"), ("/right", 390, 844, "light")],
    "page-grid": [("/g/eth-range?days=30", 1280, 1340, "light")],
}
"""Each picture of docs: what it shows from left to right."""


def shown_of(project: Project, clock: datetime = CLOCK) -> Shown:
    """What to serve of a project at a moment."""

    def shown(path: str, query: dict[str, str], part: bool) -> str:
        if path == "/history":
            at = live.asked(query["as_of"], project.config.alerts.timezone) if "as_of" in query else clock
            found = gather.page(project, at, looked_up=True)
            return live.history(found, gather.drawn(project, found), gather.drawn_together(project, found), part=part)
        found = gather.page(project, clock, days=int(query.get("days", 7)))
        if path == "/right":
            return live.right(found, *gather.outcomes(project), part=part)
        if path == "/state":
            return live.health(found, gather.ticks(project, clock), gather.channels(project, clock), part=part)
        drawings = gather.drawn(project, found)
        if path.startswith("/g/"):
            one = next(one for one in found.grids if one.grid.id == path[3:])
            stays, responses = gather.stays(project, one, found), gather.responses(project, one, clock)
            plan = gather.leaving_plan(project, one, clock)
            return live.grid(found, one, drawings, stays, responses, plan, part=part)
        return live.now(found, drawings, gather.drawn_together(project, found), part=part)

    return shown


def pictures(folder: Path, browser: Browser, url: str) -> None:
    """Makes them: screens of the pages, side by side."""
    for name, screens in PICTURES.items():
        taken = []
        for path, width, height, scheme in screens:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(url + path, wait_until="load")
            page.wait_for_timeout(500)
            taken.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            context.close()
        gap = 16
        whole = Image.new("RGB", (sum(one.width + gap for one in taken) - gap, taken[0].height), "#8892a6")
        left = 0
        for one in taken:
            whole.paste(one, (left, 0))
            left += one.width + gap
        whole.quantize(256, kmeans=1).save(folder / f"{name}.png", optimize=True)


def main(folder: Path) -> None:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with serving(shown_of(Project.here())) as served, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        pictures(folder, browser, served.url)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
