"""Whose history it is: another source is asked anew, and nothing of the one before is read, continued or told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.config import sources
from mm_dagster.config.errors import ConfigError
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.market.simulated import simulate
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster_tests.pipeline.recordings import NOW, configure, grid, price_of, record

ETH = "ETH-USDT"
COMMIT = Commit("test", "candles", "")


def project(folder: Path) -> Project:
    return Project(str(folder / "configuration"), str(folder / "data"))


def old_candles(folder: Path, venue: str, hashed: dict[str, str | None], max_no_trade: int = 4) -> None:
    """What the code before sources wrote: no source, and a hash over kind, exchange and max_no_trade."""
    rows = simulate(ETH, Span(NOW - timedelta(days=1), NOW)).with_columns(
        symbol=pl.lit(ETH),
        close_time=pl.col("open_time") + BAR,
        status=pl.lit("TRADED"),
        venue=pl.lit(venue),
        observed_at=pl.lit(NOW),
        config_hash=pl.lit(sources.digest({"venue": hashed, "max_no_trade": max_no_trade})),
        code_version=pl.lit("1"),
    )
    Lake(folder / "data" / "history").upsert("candles", rows, commit=COMMIT)


SIMULATED: dict[str, str | None] = {"kind": "simulated", "exchange": None}
KUCOIN: dict[str, str | None] = {"kind": "ccxt", "exchange": "kucoin"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrote", "venue", "in_force", "adopted"),
    [
        (KUCOIN, "main", {"kind": "ccxt", "exchange": "kucoin"}, "ccxt:kucoin"),
        (SIMULATED, "main", {"kind": "simulated"}, "simulated:1"),
        (SIMULATED, "main", {"kind": "ccxt", "exchange": "kucoin"}, None),
        (KUCOIN, "main", {"kind": "simulated"}, None),
        (KUCOIN, "other", {"kind": "ccxt", "exchange": "kucoin"}, None),
        (KUCOIN, "main", {"kind": "ccxt", "exchange": "kraken"}, None),
    ],
)
def test_a_lake_of_before_adopts_what_its_hashes_prove_and_refuses_the_rest_in_one_line(
    tmp_path: Path, wrote: dict[str, str | None], venue: str, in_force: dict[str, object], adopted: str | None
) -> None:
    old_candles(tmp_path, venue, wrote, max_no_trade=17)
    configure(tmp_path / "configuration", [grid("g", ETH, price_of(ETH))], {"main": in_force}, {ETH: "main"})
    if adopted is None:
        with pytest.raises(ConfigError, match=r"ETH-USDT: 96 stored candles are from .* MM_DATA_DIR") as refused:
            _ = project(tmp_path).lake
        assert "\n" not in str(refused.value)
        assert project(tmp_path).whole_lake.read("candles")["source"].null_count() == 96
        return
    assert project(tmp_path).lake.read("candles")["source"].unique().to_list() == [adopted]
    commits = project(tmp_path).whole_lake.snapshots().height
    assert project(tmp_path).lake.read("candles").height == 96
    assert project(tmp_path).whole_lake.snapshots().height == commits


@pytest.mark.long
def test_another_recording_is_asked_anew_and_nothing_of_the_first_is_continued(tmp_path: Path) -> None:
    for name in ("first", "second"):
        record(tmp_path / name, ETH, NOW)
    price = price_of(ETH)
    venues: dict[str, object] = {
        name: {"kind": "recorded", "path": f"../{name}", "file": "15m.parquet"} for name in ("first", "second")
    }
    folder = tmp_path / "configuration"
    # Above the price, so that the first source has an emergency.
    configure(folder, [grid("g", ETH, price * 1.5)], venues, {ETH: "first"})
    run_tick(project(tmp_path), NOW - BAR)
    before = project(tmp_path).lake.read("exit_state")
    assert before["state"][-1] == "MANDATORY_EXIT"
    configure(folder, [grid("g", ETH, price)], venues, {ETH: "second"})
    switched = project(tmp_path).lake
    for table in ("candles", "regime_verdict", "grid_episode", "grid_risk", "exit_state"):
        assert switched.read(table).is_empty(), table
    assert switched.newest("candles") == {}
    run_tick(project(tmp_path), NOW)
    lake = project(tmp_path).lake
    # The same grid and activation, with other bounds: a fresh episode, and no refusal.
    assert lake.read("tick")["reason"][-1] is None
    states = lake.read("exit_state")
    assert states.height == 21
    assert "MANDATORY_EXIT" not in states["state"].to_list()
    assert lake.sql("SELECT grid_id FROM state_now").height == 1
    # Back again: it is another source once more, and what was overwritten is asked for again.
    configure(folder, [grid("g", ETH, price)], venues, {ETH: "first"})
    assert project(tmp_path).lake.read("exit_state").is_empty()


@pytest.mark.slow
def test_what_only_the_old_source_has_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "configuration"
    configure(folder, [grid("g", ETH, price_of(ETH))], {"main": {"kind": "simulated"}}, {ETH: "main"})
    old_candles(tmp_path, "main", SIMULATED)
    assert project(tmp_path).lake.read("candles").height == 96
    configure(folder, [grid("g", ETH, price_of(ETH))], {"main": {"kind": "ccxt", "exchange": "kucoin"}}, {ETH: "main"})
    lake = project(tmp_path).lake
    assert lake.read("candles").is_empty()
    span = Span(NOW - timedelta(days=1), NOW)
    newer = project(tmp_path).whole_lake.read("candles").tail(4).with_columns(source=pl.lit(None, dtype=pl.String))
    lake.write("candles", newer, span=span, symbols=[ETH], commit=COMMIT)
    found = project(tmp_path).whole_lake.read("candles")
    assert found.height == 96
    assert found["source"].to_list() == ["simulated:1"] * 92 + ["ccxt:kucoin"] * 4
    assert lake.read("candles").height == 4


def test_the_identity_names_no_path_and_no_address(tmp_path: Path) -> None:
    from mm_dagster.config.markets import CcxtVenue, RecordedVenue, SimulatedVenue

    kucoin = CcxtVenue(kind="ccxt", exchange="kucoin", api_url="http://127.0.0.1:1")
    assert sources.source_of("a", kucoin) == sources.source_of("b", kucoin) == "ccxt:kucoin"
    recorded = RecordedVenue(kind="recorded", path=str(tmp_path))
    assert sources.source_of("files", recorded) == "recorded:files"
    assert sources.source_of("demo", SimulatedVenue(kind="simulated")) == "simulated:1"
