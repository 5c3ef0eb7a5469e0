"""What is wrong with the configuration or vanished from it: the operator hears of it once, until it is mended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster import cli
from mm_dagster.config.errors import ConfigError
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.notify import count_due, notify_troubles
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.config.test_config_faults import BROKEN, pipe, vanish_file, vanish_folder

GRID = {
    "id": "eth-v3", "symbol": "ETH-USDT", "activated_at": "2026-06-23", "lower": 2550, "upper": 2820, "levels": 12,
    "stop": 2480, "capital": 1000,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that was valid once."""
    for name in list(os.environ):
        if name.startswith(("MM_", "PUSHOVER_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "configuration" / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    (tmp_path / "configuration" / "exit.yaml").write_text("policy: literal\n")
    (tmp_path / "configuration" / "grids" / "eth-v3.yaml").write_text(yaml.safe_dump(GRID))
    assert project().troubles == ()
    return tmp_path / "configuration"


def project() -> Project:
    return Project.here()


def told() -> list[str]:
    rows = project().lake.read("notification").filter(pl.col("kind") == "FAILURE").sort("created_at")
    return rows["state"].to_list()


@pytest.fixture
def mm(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """The command in this process: exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        cli.project_here.cache_clear()
        monkeypatch.setattr("sys.argv", ["mm", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    yield call
    cli.project_here.cache_clear()


@pytest.mark.long
def test_a_grid_that_vanished_is_told_once_whoever_looks(place: Path) -> None:
    vanish_file(place)
    assert [notify_troubles(project()) for _ in range(3)] == [1, 0, 0]
    (said,) = told()
    for part in ("grid eth-v3: ", "Put the file back", "enabled: false", "mm respond eth-v3 stopped"):
        assert part in said
    (place / "exit.yaml").write_text("policy: confirmed\n")
    assert notify_troubles(project()) == 0
    assert project().gone_grids == {"eth-v3"}
    (place / "grids" / "eth-v3.yaml").write_text(yaml.safe_dump(GRID))
    assert project().troubles == ()
    assert count_due(project()) >= 0


def test_an_invalid_configuration_is_told_once_even_if_no_tick_runs(place: Path) -> None:
    (place / "exit.yaml").write_text("policy: none\n")
    assert notify_troubles(project(), lasted=timedelta(minutes=1)) == 0, "an editor saves in two steps"
    assert [notify_troubles(project()) for _ in range(2)] == [1, 0]
    (said,) = told()
    assert "configuration: the last valid configuration stays in force" in said
    assert "policy" in said


@pytest.mark.parametrize(
    "kind",
    [
        "deep",
        "pipe",
        pytest.param("31st of June", marks=pytest.mark.long),
        pytest.param("laughs", marks=pytest.mark.long),
        pytest.param("empty", marks=pytest.mark.long),
        pytest.param("nul", marks=pytest.mark.long),
        pytest.param("link", marks=pytest.mark.long),
    ],
)
def test_messages_go_on_under_every_breakage(place: Path, kind: str) -> None:
    if kind in ("pipe", "link"):
        (place / "exit.yaml").unlink()
        pipe(place / "exit.yaml") if kind == "pipe" else (place / "exit.yaml").symlink_to("nowhere")
    else:
        (place / "exit.yaml").write_text(BROKEN[kind])
    one = project()
    assert one.config.exit.policy == "literal"
    assert count_due(one) >= 0
    assert notify_troubles(one) == 1


def test_an_answer_ends_the_watch_if_it_is_the_last_one_of_the_episode(place: Path) -> None:
    vanish_folder(place)
    (grid,) = project().config.grids
    now = datetime.now(UTC).replace(microsecond=0)

    def say(*said: tuple[str, datetime]) -> None:
        rows = pl.DataFrame(
            [
                {"response_id": f"{action} {at}", "grid_id": grid.id, "action": action, "at": at, "activated_at": None}
                for action, at in said
            ]
        )
        project().lake.upsert("operator_response", rows, commit=Commit("", "", ""))

    say(("stopped", grid.activated_at - timedelta(days=1)))
    assert project().gone_grids == {"eth-v3"}, "an answer to an earlier episode"
    say(("reopened", now - timedelta(hours=1)), ("stopped", now - timedelta(hours=2)))
    assert project().gone_grids == {"eth-v3"}
    say(("stopped", now))
    assert project().config.grids == ()
    assert project().troubles == ()


def test_a_history_that_cannot_be_read_answers_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vanish_file(place)

    def fails(*_: object) -> None:
        raise RuntimeError("locked")

    monkeypatch.setattr(Project, "lake", property(fails))
    assert project().gone_grids == {"eth-v3"}


@pytest.mark.slow
def test_the_doctor_the_page_and_a_response_know_a_grid_that_vanished(
    place: Path, mm: Callable[..., tuple[int, str, str]]
) -> None:
    vanish_file(place)
    code, said, _ = mm("doctor", "--json")
    (row,) = [one for one in json.loads(said) if one["part"] == "configuration"]
    assert code == 1
    assert row["result"] == "TO DO"
    assert "mm respond eth-v3 stopped" in row["detail"]
    code, said, _ = mm("status")
    assert code == 0
    assert "eth-v3 any more" in " ".join(said.split())
    code, said, _ = mm("respond", "eth-v3", "stopped", "--note", "by hand", "--json")
    assert code == 0
    assert json.loads(said)[0]["action"] == "stopped"
    code, said, errors = mm("status", "--json")
    assert (code, json.loads(said), errors) == (0, [], "")


@pytest.mark.parametrize(
    "kind",
    ["deep", pytest.param("31st of June", marks=pytest.mark.long), pytest.param("empty", marks=pytest.mark.long)],
)
def test_the_commands_go_on_under_the_last_valid_configuration(
    place: Path, mm: Callable[..., tuple[int, str, str]], kind: str
) -> None:
    (place / "grids" / "eth-v3.yaml").write_text(BROKEN[kind])
    code, said, errors = mm("status", "--json")
    assert code == 0
    assert [row["grid"] for row in json.loads(said)] == ["eth-v3"]
    assert "the last valid configuration stays in force" in errors
    code, said, _ = mm("doctor", "--json")
    assert code == 1
    assert json.loads(said)[0]["detail"].startswith(str(place / "grids" / "eth-v3.yaml"))
    code, said, _ = mm("health", "live", "--json")
    assert [row["result"] for row in json.loads(said)][:2] == ["OK", "OK"]


@pytest.mark.slow
def test_without_a_valid_one_before_a_command_says_one_line(
    place: Path, mm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "other"))
    (place / "exit.yaml").write_text(BROKEN["deep"])
    with pytest.raises(ConfigError, match="nested"):
        _ = project().config
    for command in ("status", "doctor"):
        code, said, errors = mm(command)
        assert (code, said, errors.count("\n")) == (1, "", 1)
        assert "exit.yaml" in errors


def test_a_wrong_variable_is_said_by_every_command_and_stops_none(
    mm: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_TICK_OFFSET_MINUTES", "1 min")
    monkeypatch.setenv("MM_LOG_FORMAT", "jsn")
    code, _, errors = mm("status", "--json")
    assert code == 0
    assert "MM_TICK_OFFSET_MINUTES: '1 min' is no whole number" in errors
    assert "MM_LOG_FORMAT: 'jsn' is none of human, json; did you mean json?" in errors
    monkeypatch.setenv("MM_DATA_DIR", "~nobody-here/mm")
    code, _, errors = mm("status")
    assert code == 1
    assert "MM_DATA_DIR: ~nobody-here/mm: there is no such home" in errors
