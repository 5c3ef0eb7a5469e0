"""A recording is replayed through the same jobs, and is never news."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import iso
from mm_dagster.definitions import defs
from mm_dagster.pipeline.notify import count_due
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.defs.live import QUIET


@pytest.mark.long
def test_the_collapse_of_may_2022_from_five_minute_files(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "configuration"
    (folder / "grids").mkdir(parents=True)
    venue = {"kind": "recorded", "path": str(shared_data / "candles" / "binance"), "file": "5m_2022.parquet"}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    grid = {
        "id": "luna", "symbol": "ETH-USDT", "activated_at": "2022-05-05", "lower": 2600, "upper": 3000, "levels": 10,
        "stop": 2500, "capital": 1000,
    }  # fmt: skip
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "grids" / "luna.yaml").write_text(yaml.safe_dump(grid))
    monkeypatch.setenv("MM_CONFIG_DIR", str(folder))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    days = {"dagster/asset_partition_range_start": "2022-05-05", "dagster/asset_partition_range_end": "2022-05-08"}
    assert defs().resolve_job_def("history").execute_in_process(run_config=QUIET, tags=days).success
    project = Project.here()
    states = project.lake.read("exit_state", grids=["luna"])
    # The range of the activation was left, and at 23:00 a break was likelier than the 70 % that confirm it:
    # hours before the price closed below the grid, a day and a half before the stop.
    first = states.filter(pl.col("state") == "MANDATORY_EXIT").row(0, named=True)
    assert iso(first["as_of"]) == "2022-05-07T23:00:00Z"
    fired = {trigger["name"] for trigger in first["triggers"] if trigger["fired"]}
    assert "RANGE_INVALIDATED" in fired
    assert not fired & {"STOP_BREACHED", "CLOSES_OUTSIDE"}
    assert states.row(-1, named=True)["state"] == "MANDATORY_EXIT"
    assert count_due(project) == 0
