"""The paper operator through the API: the same rows as `mm paper`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster.bars import BAR, iso
from mm_dagster.pipeline import paper_sessions
from mm_dagster_tests import paper_home
from mm_dagster_tests.api.served import Served, served
from mm_dagster_tests.paper_home import DAYS, GRID, calm, copied, opened, states

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_home.filled(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def api(filled: Path, tmp_path: Path) -> Iterator[Served]:
    with served(copied(filled, tmp_path / "home"), make=opened) as found:
        yield found


def post(api: Served, path: str, body: dict[str, object]) -> tuple[int, dict]:
    answer = api.program.post(api.url + path, json=body, timeout=60)
    return answer.status_code, answer.json()


def test_a_session_is_started_settled_and_stopped(api: Served) -> None:
    project = opened(api.folder)
    calm(project)
    states(project, {DAYS.start + 200 * BAR: "WARNING"})
    assert api.get("/sessions/status").status_code == 404
    code, row = post(api, "/sessions/start", {"level": "WARNING", "since": iso(DAYS.start), "grids": [GRID]})
    assert (code, row["state"], row["done"], row["started_by"]) == (200, "RUNNING", 1, "api")
    (plan,) = row["plans"]
    assert (plan["grid_id"], plan["state"], plan["faults"]) == (GRID, "DONE", [])
    assert api.get("/sessions/status").json() == row
    assert api.get(f"/sessions/status?session={row['session_id']}").json() == row
    code, settled = post(api, "/settlement/trigger", {})
    assert (code, settled["plans"]) == (200, row["plans"])
    code, again = post(api, "/sessions/start", {})
    assert (code, "is RUNNING" in again["error"]) == (409, True)
    code, ended = post(api, "/sessions/stop", {})
    assert (code, ended["state"]) == (200, "ENDED")
    stored = paper_sessions.newest(opened(api.folder))
    assert stored is not None
    assert (stored["session_id"], stored["state"]) == (row["session_id"], "ENDED")


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/sessions/start", {"level": "NORMAL"}, 422, "level"),
        ("/sessions/start", {"over": 7}, 422, "over"),
        ("/sessions/start", {"sell": True}, 422, "sell"),
        ("/sessions/start", {"grids": ["nobody"]}, 409, "no such running grid"),
        ("/sessions/start", {"since": "2099-01-01T00:00:00Z"}, 409, "in the future"),
        ("/sessions/stop", {}, 409, "no session runs"),
        ("/settlement/trigger", {}, 404, "no such session"),
    ],
)
def test_what_cannot_be_done_is_said(
    path: str, body: dict[str, object], status: int, says: str, api: Served
) -> None:  # fmt: skip
    code, said = post(api, path, body)
    assert (code, says in said["error"]) == (status, True), said
    assert paper_sessions.newest(opened(api.folder)) is None


def test_with_mode_off_nothing_is_done(api: Served) -> None:
    (api.folder / "configuration" / "orders.yaml").write_text("mode: 'off'\n")
    for path in ("/sessions/start", "/sessions/stop", "/settlement/trigger"):
        code, said = post(api, path, {})
        assert (code, "mode: off" in said["error"]) == (409, True)
    assert api.get("/sessions/status").status_code == 409


def test_a_person_acts_from_our_own_page_only(api: Served) -> None:
    browser = api.person("anna")
    del browser.headers["Origin"]
    assert browser.post(f"{api.url}/sessions/start", json={}, timeout=60).status_code == 403
    browser.headers["Origin"] = api.url
    assert browser.post(f"{api.url}/sessions/start", json={}, timeout=60).json()["started_by"] == "anna"
