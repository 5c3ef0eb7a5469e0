"""Leaving from the page: a plan is proposed, its link shows it, and only a person who posts it approves it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster.execution.journal import Journal
from mm_dagster.pipeline import exits
from mm_dagster_tests import paper_home
from mm_dagster_tests.api.served import Served, served
from mm_dagster_tests.execution.trials import Hasty

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_home.filled(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def api(home: Path, tmp_path: Path) -> Iterator[Served]:
    with served(paper_home.copied(home, tmp_path / "home"), make=paper_home.opened) as found:
        yield found


def state(api: Served, plan: str) -> str:
    return Journal(api.folder / "data").kept(plan).plan.state


def proposed(api: Served) -> tuple[str, str]:
    """A plan that a person proposed, and its link."""
    answer = api.person().post(f"{api.url}/grids/eth/exit", json={"mode": "paper", "accept": True}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["plan_id"], answer.json()["link"]


def approval(link: str, **more: object) -> dict[str, object]:
    until, signature = re.findall(r"until=(\d+)&signature=(\w+)", link)[0]
    return {"until": int(until), "signature": signature, **more}


def test_a_person_sees_the_plan_and_approves_it_once(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "time", Hasty())
    plan, link = proposed(api)
    browser = api.person("ben")
    page = browser.get(api.url + link, timeout=60)
    assert page.status_code == 200
    assert "SIMULATED" in page.text
    assert "Nothing was sold yet" in page.text
    assert state(api, plan) == "PROPOSED", "a look changes nothing"
    done = browser.post(f"{api.url}/x/{plan}", json=approval(link), timeout=60)
    assert done.status_code == 200, done.text
    assert (state(api, plan), Journal(api.folder / "data").kept(plan).approved_by) == ("APPROVED", "ben")
    assert browser.post(f"{api.url}/x/{plan}", json=approval(link), timeout=60).status_code == 409
    left = exits.carry_out(paper_home.opened(api.folder), plan)
    assert left.plan.state == "DONE"
    shown = browser.get(api.url + link, timeout=60).text
    assert "data-signature" not in shown
    assert "Sold: " in shown
    assert api.get("/exits").json()["plans"][0]["state"] == "DONE"
    kinds = [event["kind"] for event in api.get(f"/exits/{plan}").json()["events"]]
    assert kinds[:2] == ["PROPOSED", "APPROVED"]
    assert kinds[-1] == "DONE"


def test_a_program_proposes_and_halts_and_never_approves(api: Served) -> None:
    answer = api.program.post(f"{api.url}/grids/eth/exit", json={"accept": True}, timeout=60)
    assert answer.status_code == 201
    assert "link" not in answer.json()
    plan, link = proposed(api)
    refused = api.program.post(f"{api.url}/x/{plan}", json=approval(link), timeout=60)
    assert refused.status_code == 403
    assert api.program.post(f"{api.url}/exits/{plan}/halt", timeout=60).json()["state"] == "HALTED"
    late = api.person().post(f"{api.url}/x/{plan}", json=approval(link), timeout=60)
    assert (late.status_code, state(api, plan)) == (409, "HALTED")


def test_no_stranger_no_other_page_and_no_forged_link_approves(api: Served) -> None:
    plan, link = proposed(api)
    other, other_link = proposed(api)
    good = approval(link)
    browser = api.person()
    tries = [
        api.program.post(f"{api.url}/x/{plan}", json=good, headers={"Authorization": "Bearer wrong"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good, headers={"Origin": "https://evil.example"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good, headers={"Sec-Fetch-Site": "cross-site"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=approval(other_link), timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"until": good["until"] + 600}, timeout=60),  # type: ignore[operator]
        browser.post(f"{api.url}/x/{plan}", json=good | {"signature": "0" * 64}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"signature": "é" * 60}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"signature": "a" * 65}, timeout=60),
        browser.post(f"{api.url}/x/zzzzzzzz", json=good, timeout=60),
        browser.post(f"{api.url}/x/..%2f..%2fetc", json=good, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"side": "buy"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"amount": "1e400000"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"amount": "-1"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", json=good | {"amount": "NaN"}, timeout=60),
        browser.post(f"{api.url}/x/{plan}", data="until=1", timeout=60),
        browser.put(f"{api.url}/x/{plan}", json=good, timeout=60),
    ]
    assert [answer.status_code for answer in tries if answer.status_code < 400] == []
    assert [answer.status_code for answer in tries if answer.status_code >= 500] == []
    assert (state(api, plan), state(api, other)) == ("PROPOSED", "PROPOSED")
    key = (api.folder / "data" / "orders" / "link.key").read_bytes()
    assert all(key.hex() not in answer.text for answer in tries)
    assert (api.folder / "data" / "orders" / "link.key").stat().st_mode & 0o77 == 0


def test_whoever_has_not_entered_is_shown_the_door_and_not_the_plan(api: Served) -> None:
    plan, link = proposed(api)
    stranger = api.program.get(api.url + link, headers={"Authorization": ""}, timeout=60)
    assert stranger.status_code == 401
    assert plan not in stranger.text
    forged = api.person().get(api.url + link.replace("signature=", "signature=0"), timeout=60)
    assert forged.status_code in (403, 422)


def test_a_grid_page_offers_plans_only_where_orders_are_possible(api: Served) -> None:
    browser = api.person()
    assert 'value="paper"' in browser.get(f"{api.url}/g/eth", timeout=60).text
    assert 'value="live"' not in browser.get(f"{api.url}/g/eth", timeout=60).text
    (api.folder / "configuration" / "orders.yaml").write_text("mode: off\n")
    assert 'form class="propose"' not in browser.get(f"{api.url}/g/eth", timeout=60).text
    answer = browser.post(f"{api.url}/grids/eth/exit", json={"mode": "paper"}, timeout=60)
    assert answer.status_code == 404
    assert "mode is off" in answer.json()["error"]
    assert api.get("/exits").status_code == 404
