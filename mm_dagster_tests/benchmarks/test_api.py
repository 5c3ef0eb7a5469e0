"""The page over a grid that has run for a month, by the real `mm serve`: what it weighs, and that it is measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import api
from mm_dagster_tests.pages.test_live_real import MONTH

MONTH_OF_ONE_GRID = "a month of one grid"


def test_the_interval_of_a_median_is_between_its_ranks() -> None:
    low, high = api.interval([float(number) for number in range(100)])
    assert (low, high) == (40.0, 59.0)
    assert api.interval([3.0]) == (3.0, 3.0)


@pytest.mark.long
def test_a_month_of_one_grid_weighs_little_and_is_soon_there(tmp_path: Path) -> None:
    with api.served(MONTH_OF_ONE_GRID, tmp_path) as (browser, program, url, other, _):
        page = browser.get(url + api.PATHS[MONTH_OF_ONE_GRID], timeout=120)
        assert page.status_code == 200
        assert "for 35 days" in page.text
        parts = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
        assert len(parts) >= 5
        sizes = {part: len(browser.get(url + part, timeout=60).content) for part in parts}
        sizes["the page"] = len(page.content)
        assert sum(sizes.values()) <= MONTH, sizes
        # It is drawn over the whole month: as many points as there are bars, or thinned to what a screen shows.
        assert sizes["the page"] > 20_000
        seconds = {"page": [], "peer": []}  # type: dict[str, list[float]]
        for _ in range(15):
            seconds["peer"].append(api.timed(program, other))
            seconds["page"].append(api.timed(browser, url + api.PATHS[MONTH_OF_ONE_GRID]))
    # The quickest of each, since other tests run beside this one.
    assert min(seconds["page"]) <= api.AT_MOST * min(seconds["peer"])
