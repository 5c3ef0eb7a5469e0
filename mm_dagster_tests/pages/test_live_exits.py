"""Leaving a grid with a thumb: each press says what it does, the one that sells asks again, all of it is readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from mm_dagster.execution.journal import Journal
from mm_dagster.pipeline import exits
from mm_dagster_tests import paper_home
from mm_dagster_tests.api.served import served
from mm_dagster_tests.execution.trials import Hasty
from mm_dagster_tests.pages.test_live_real import axe

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_a_plan_is_proposed_looked_at_and_approved(
    width: int, scheme: str, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exits, "time", Hasty())
    home, said = paper_home.filled(tmp_path / "home"), list[str]()
    with served(home, make=paper_home.opened) as api:
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{api.url}/g/eth#{api.access.new_code('anna', 60)}")
        page.get_by_role("button", name="Come in").click()
        page.on("console", lambda line: said.append(line.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.get_by_role("button", name="Plan it on paper").click()
        page.wait_for_url("**/x/**")
        expect(page.get_by_text("Nothing was sold yet")).to_be_visible()
        journal = Journal(home / "data")
        (kept,) = journal.all()
        sell = page.locator("form.approve button")
        sell.click()
        expect(sell).to_have_text("Press again: it sells")
        assert journal.kept(kept.plan_id).plan.state == "PROPOSED"
        sell.click()
        expect(page.locator("form.approve")).to_have_count(0)
        assert (journal.kept(kept.plan_id).plan.state, journal.kept(kept.plan_id).approved_by) == ("APPROVED", "anna")
        assert exits.carry_out(paper_home.opened(home), kept.plan_id).plan.state == "DONE"
        page.reload()
        expect(page.get_by_text(re.compile("^Sold: "))).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        script = axe()
        page.evaluate(script)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [one["id"] for one in found["violations"] if one["impact"] in ("serious", "critical")]
        assert serious == []
        context.close()
    assert said == []
