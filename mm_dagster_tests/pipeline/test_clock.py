"""The demo stands in its own time, and only the demo does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from mm_dagster.bars import parse_time
from mm_dagster.config.errors import ConfigError
from mm_dagster.pipeline import clock
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.cli.small import configure

SHOWS = parse_time("2026-06-29T16:45:00Z")
MOMENT = timedelta(seconds=20)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    configure(tmp_path)
    return Project(str(tmp_path / "configuration"), str(tmp_path / "data"))


def test_a_clock_starts_once_and_runs_at_real_speed(project: Project) -> None:
    assert project.ahead == timedelta(0)
    clock.start(project.data, SHOWS)
    assert timedelta(0) <= project.now() - SHOWS < MOMENT
    noted = json.loads((project.data / "clock.json").read_text())
    noted["at"] = (parse_time(noted["at"]) - timedelta(hours=3)).isoformat()
    (project.data / "clock.json").write_text(json.dumps(noted))
    clock.start(project.data, SHOWS)
    assert timedelta(0) <= project.now() - SHOWS - timedelta(hours=3) < MOMENT


def test_all_that_asks_for_the_time_of_a_demo_gets_its_own(project: Project) -> None:
    clock.start(project.data, SHOWS)
    for time in (project.now(), project.venues.of("ETH-USDT").now(), project.venues.clock("ETH-USDT"),
                 project.venues.real_clock()):  # fmt: skip
        assert timedelta(0) <= time - SHOWS < MOMENT


def test_no_other_market_lives_in_the_time_of_a_demo(project: Project, tmp_path: Path) -> None:
    """The demo's data folder given to a real configuration by mistake."""
    clock.start(project.data, SHOWS)
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": "http://127.0.0.1:9"}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    real = Project(project.config_dir, project.data_dir)
    assert real.ahead == timedelta(0)
    assert abs(real.now() - datetime.now(UTC)) < MOMENT


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"shows": "noon", "at": "now"}', '{"shows": "2026-06-29T16:45:00Z"}']
)
def test_a_clock_that_cannot_be_read_is_one_line(project: Project, content: str) -> None:
    project.data.mkdir()
    (project.data / "clock.json").write_text(content)
    with pytest.raises(ConfigError, match=r"clock\.json: is no clock of a demo; delete it and run `make demo`"):
        _ = project.ahead
