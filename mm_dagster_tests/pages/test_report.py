"""The report as a phone and a screen show it, in a real browser; and what it must never hold."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from mm_dagster.pages.page import Page
from mm_dagster.pages.report import render
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, drawings, exit_row, grid, message_row, on_page, page, told

HOSTILE = "<script>fetch('http://example.com')</script><img src=x onerror=alert(1)> \u202egnp.exe " + "W" * 400


def troubled(**changes: Any) -> Page:
    """Three grids, one of them to be left now; messages and words that mean harm."""
    worst, calm = grid("sol-range"), grid("m" * 64)
    answer = {
        "response_id": "1", "alert_id": f"alert of {worst.id}", "grid_id": worst.id, "at": AS_OF, "action": "reduced",
        "note": HOSTILE, "seconds_from_alert": 1740.0, "within_window": True,
    }  # fmt: skip
    alerts = told(message_row(worst, title=HOSTILE, message=HOSTILE), responses=(answer,))
    return page(
        on_page(worst, "LATEST_ACCEPTABLE_EXIT", alerts=alerts, live_reason=HOSTILE), on_page(calm, simulated=True),
        on_page(grid("eth"), "WARNING"), alerts=alerts, config_error=HOSTILE, **changes,
    )  # fmt: skip


def written(found: Page, **changes: Any) -> str:
    return render(found, {one.grid.id: drawings(one.grid) for one in found.grids}, generated_at=CLOCK, **changes)


def test_what_people_wrote_stays_text() -> None:
    text = written(troubled())
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    assert text.count(HOSTILE.split(" ")[-1]) >= 4


def test_the_page_names_no_address_but_its_own_parts() -> None:
    text = written(page(on_page(grid(), "WARNING")))
    assert not re.findall(r"""(?:src|srcset|poster|action|data)\s*=\s*["']""", text)
    assert set(re.findall(r'href="([^"]*)"', text)) == {"data:,", "#eth-range"}
    assert not re.findall(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_twenty_grids_of_a_quarter_stay_small() -> None:
    many = [on_page(grid(f"grid-{number}")) for number in range(20)]
    drawn = drawings(many[0].grid, days=92)
    text = render(page(*many), {one.grid.id: drawn for one in many}, generated_at=CLOCK)
    assert len(text.encode()) < 1_500_000


def test_a_page_to_share_shows_no_amount_and_nobody_s_words() -> None:
    whole, bare = written(troubled()), written(troubled(), money=False)
    for amount in ("716.53", "731.87", "748.24", "711.29", "What it made", "WWWW"):
        assert amount in whole
        assert amount not in bare
    assert "reduced at 2026-03-01 12:00 UTC" in bare
    assert "--no-money" in bare


def test_old_simulated_and_looked_up_are_said_before_anything_else() -> None:
    later = AS_OF + timedelta(hours=5)
    old = page(on_page(grid(), clock=later, simulated=True), clock=later, looked_up=True)
    text = written(replace(old, markets=tuple(replace(one, simulated=True) for one in old.markets)))
    body = text.partition("<body>")[2]
    places = [body.index(word) for word in ("STALE: no grid was judged", "SIMULATED", "Looked up", "<h1")]
    assert places == sorted(places)
    assert "<title>STALE" in text
    assert "was NORMAL" in body
    assert "may go on" not in body


def test_a_page_of_nothing_is_a_page() -> None:
    bare = page(markets=(), tick=None)
    text = render(bare, {}, generated_at=CLOCK)
    assert "No grid is running" in text
    assert "No tick has run yet" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1440, 900)])
def test_it_fits_a_phone_and_a_screen(browser: Browser, tmp_path: Path, width: int, height: int, scheme: Any) -> None:
    path = tmp_path / "report.html"
    path.write_text(written(troubled()), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    shown = context.new_page()
    asked_for: list[str] = []
    complaints: list[str] = []
    shown.on("request", lambda request: asked_for.append(request.url))
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("dialog", lambda dialog: complaints.append(dialog.message))
    shown.goto(path.as_uri())
    for summary in shown.locator("summary").all():
        summary.click()
    assert [url for url in asked_for if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert shown.locator("h1").inner_text() == "sol-range: LATEST ACCEPTABLE EXIT"
    for words in ("Stop the grid.", "By 2026-03-01 12:31 UTC, 29 min left", "Break below the grid within 24 h"):
        assert shown.get_by_text(words).first.is_visible()
    # Both drawings of each grid, as wide as their place.
    sizes = shown.evaluate(
        "[...document.querySelectorAll('.field svg')].map(svg => [svg.clientWidth, svg.parentElement.clientWidth])"
    )
    assert len(sizes) == 6
    assert all(own == place > 150 for own, place in sizes)
    targets = shown.evaluate(
        "[...document.querySelectorAll('a, summary')].map(e => e.getBoundingClientRect().height).filter(h => h < 44)"
    )
    assert targets == []
    unnamed = shown.evaluate(
        "[...document.querySelectorAll('[role=img], [role=region], nav')].filter(e => !e.ariaLabel).length"
    )
    assert unnamed == 0
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 246, 250)", "dark": "rgb(12, 16, 24)"}[scheme]
    assert shown.evaluate(CONTRAST) == []
    context.close()


CONTRAST = """() => {
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const lum = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b };
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (e.closest('svg')) continue;
    const a = lum(rgb(getComputedStyle(e).color).slice(0, 3)), b = lum(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.push([e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]);
  }
  return low;
}"""
"""The texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, AA)."""


@pytest.mark.slow
def test_a_row_of_an_exit_state_is_like_those_of_the_lake() -> None:
    # The pages of these tests are made by hand; this holds them to the contract.
    from mm_dagster.tables.registry import broken_rules
    from mm_dagster_tests.pages.rows import frame

    row = exit_row(grid(), "WARNING", config_hash="", code_version="")
    assert broken_rules(frame("exit_state", row), "exit_state") == {}
