"""The live page over the lake of the demo, in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from mm_dagster.pipeline.project import Project
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.pages.demo_page import pictures, shown_of
from mm_dagster_tests.pages.served import Served, serving
from mm_dagster_tests.pages.test_live_browser import MONTH, axe, opened, watched, weighed

pytestmark = pytest.mark.long

PATHS = ("/", "/g/sol-range?days=30", "/g/btc-next", "/right", "/history?as_of=2026-06-27T12:00Z", "/state")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The demo, made and served."""
    data = tmp_path_factory.mktemp("demo")
    config = PROJECT / "configs" / "demo"
    variables = {"MM_DATA_DIR": str(data), "MM_CONFIG_DIR": str(config), "PYTHONPATH": str(PROJECT)}
    made = [sys.executable, "-c", "from mm_dagster.cli import main; main()", "demo"]
    subprocess.run(made, env=os.environ | variables, check=True, capture_output=True, timeout=900)
    with serving(shown_of(Project(str(config), str(data)))) as found:
        yield found


def test_every_page_of_the_demo_reads(browser: Browser, demo: Served) -> None:
    for size in ((390, 844), (1280, 900)):
        with opened(browser, size) as context:
            page = context.new_page()
            _, complaints = watched(page)
            for path in PATHS:
                page.goto(demo.url + path)
                expect(page.locator("h1")).to_be_visible()
                assert page.evaluate("document.documentElement.scrollWidth") == size[0], path
                assert page.get_by_text("SIMULATED").count(), path
            assert complaints == []


def test_axe_finds_no_serious_fault_in_the_demo(browser: Browser, demo: Served) -> None:
    script = axe()
    with opened(browser) as context:
        page = context.new_page()
        for path in PATHS:
            page.goto(demo.url + path)
            page.evaluate(script)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], path


def test_a_month_of_the_demo_s_grid_weighs_little(browser: Browser, demo: Served) -> None:
    with opened(browser) as context:
        page = context.new_page()
        sizes = weighed(page)
        page.goto(f"{demo.url}/g/eth-range?days=30", wait_until="load")
        expect(page.locator("canvas")).to_have_count(2)
        assert sum(sizes.values()) <= MONTH, sizes


def test_a_grid_s_page_has_the_plan_and_the_states_of_the_lake(demo: Served) -> None:
    text = requests.get(f"{demo.url}/g/sol-range", timeout=60).text
    assert "The plan to leave sol-range" in text
    assert "So far for 2 min." in text
    assert "As of 2026-06-29 16:45 UTC" in re.sub("<[^>]*>", "", text)


def test_the_pictures_of_the_docs_can_be_made(browser: Browser, demo: Served, tmp_path: Path) -> None:
    pictures(tmp_path, browser, demo.url)
    assert {path.name for path in tmp_path.iterdir()} == {"page.png", "page-grid.png"}
    assert all(path.stat().st_size < 150_000 for path in tmp_path.iterdir())
