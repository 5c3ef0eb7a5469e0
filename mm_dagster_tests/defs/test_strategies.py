"""The assets of the studies through Dagster: off they do nothing and say so, on they count what they try."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml

from mm_dagster.bars import DAY_BARS, Span
from mm_dagster.defs.resources import Turn
from mm_dagster.defs.strategies import NOTHING_HIDDEN, strategy_performance, strategy_signal
from mm_dagster.history.lake import Commit
from mm_dagster.market.collect import collect
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry

END = datetime(2026, 6, 3, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A hundred and thirty days of the simulated market."""
    (tmp_path / "configuration").mkdir()
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    monkeypatch.setenv("MM_CONFIG_DIR", str(tmp_path / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
    made = Project.here()
    span = Span(END - timedelta(days=130), END)
    config = made.config
    rows = collect(made.venues.of("ETH-USDT"), "ETH-USDT", span, config.markets.candles, lambda seconds: None).candles
    stamps = {"config_hash": config.hash_of("candles", "ETH-USDT"), "code_version": registry.CODE_VERSIONS["candles"]}
    rows = rows.with_columns(**{name: pl.lit(value) for name, value in stamps.items()})
    made.lake.write("candles", registry.conform(rows, "candles"), span=span, commit=Commit("test", "given", ""))
    return made


def made(asset: dg.AssetsDefinition, **more: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset], resources={"project": Project.here(), "turn": Turn()}, raise_on_error=True,
        selection=[asset.key.to_user_string()], **more,
    )  # fmt: skip


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [found] = [one for one in result.get_asset_check_evaluations() if one.check_name == NOTHING_HIDDEN]
    return found


@pytest.mark.slow
def test_off_nothing_is_studied_and_on_every_trial_is_counted(project: Project) -> None:
    found = check_of(made(strategy_performance))
    assert (found.passed, found.description) == (True, "Nothing was studied: `monthly` is off.")
    assert project.lake.read("trial").is_empty()
    settings = Path(os.environ["MM_CONFIG_DIR"]) / "strategies.yaml"
    settings.write_text("monthly: true\n")
    found = check_of(made(strategy_performance))
    assert found.passed
    assert found.description == "None passed the gate; 3 trials on these days. Nothing is switched on."
    lake = Project.here().lake
    assert lake.read("trial")["kind"].unique().to_list() == ["simulated"]
    rows = lake.read("strategy_performance")
    assert rows["study"].unique().to_list() == ["watched"]
    assert rows["as_of"].unique().to_list() == [datetime(2026, 6, 1, tzinfo=UTC)]


def test_signals_are_made_of_the_days_that_are_asked_for(project: Project) -> None:
    made(strategy_signal, partition_key="2026-05-20")
    rows = project.lake.read("strategy_signal")
    assert rows.height == 4 * DAY_BARS
    assert rows["position"].is_not_null().sum() == 3 * DAY_BARS
