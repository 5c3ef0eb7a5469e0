"""`mm paper`, and `mm exit GRID --paper`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm_dagster.bars import BAR, iso
from mm_dagster.pipeline import exits
from mm_dagster_tests import paper_home
from mm_dagster_tests.cli.small import called
from mm_dagster_tests.execution.trials import Hasty
from mm_dagster_tests.paper_home import DAYS, GRID, calm, copied, opened, states

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_home.filled(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def folder(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exits, "time", Hasty())
    return copied(filled, tmp_path / "home")


def mm(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return called(
        {"MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}, *arguments
    )  # fmt: skip


def test_a_grid_is_left_on_paper_and_the_plan_comes_to_its_end(folder: Path) -> None:
    code, out, _ = mm(folder, "exit", GRID, "--paper", "--accept", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["state"] == "DONE"
    assert row["filled"] == row["amount"] > 0


def test_a_session_from_its_start_to_its_end(folder: Path) -> None:
    project = opened(folder)
    calm(project)
    states(project, {DAYS.start + 200 * BAR: "LATEST_ACCEPTABLE_EXIT"})
    code, out, err = mm(folder, "paper", "start", "--from", iso(DAYS.start))
    assert code == 0
    assert "RUNNING" in out
    assert "DONE" in err
    code, out, _ = mm(folder, "paper", "status", "--json")
    (row,) = json.loads(out)
    assert (code, row["state"], row["level"], row["done"]) == (0, "RUNNING", "LATEST_ACCEPTABLE_EXIT", 1)
    assert row["plans"][0]["faults"] == []
    code, out, _ = mm(folder, "paper", "stop")
    assert (code, "ENDED" in out) == (0, True)
    code, out, _ = mm(folder, "paper", "status", row["session_id"])
    assert (code, GRID in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paper", "status"], "no session was ever started"),
        (["paper", "status", "x"], "x: there is no such session"),
        (["paper", "stop"], "no session runs"),
        (["paper", "start", "--at", "latets"], "LATETS: is no level"),
        (["paper", "start", "--over", "7"], "--over 7"),
        (["paper", "start", "--grid", "eht"], "did you mean eth"),
        (["paper", "start", "--from", "never"], "--from"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], said: str, folder: Path) -> None:
    code, out, err = mm(folder, *arguments)
    assert code != 0
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_with_mode_off_it_says_how_to_allow_it(folder: Path) -> None:
    (folder / "configuration" / "orders.yaml").unlink()
    for command in ("start", "stop", "status"):
        code, _, err = mm(folder, "paper", command)
        assert (code != 0, "mode: paper" in err) == (True, True)
