"""When something fails: the rest goes on, what was known stays known, and it is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mm_dagster.bars import BAR, iso
from mm_dagster.defs.partitions import partition_of
from mm_dagster.history.lake import Lake
from mm_dagster.tables import registry
from mm_dagster_tests import kucoin
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file, quarter_hours

CALM = datetime(2025, 10, 10, 10, 0, tzinfo=UTC)


@pytest.fixture
def live(tmp_path: Path, shared_data: Path) -> Iterator[Live]:
    with flash_crash(tmp_path, shared_data, ("ADA-USDT", "SOL-USDT")) as one:
        yield one


def tick(live: Live, as_of: datetime) -> dg.ExecuteInProcessResult:
    """One tick, with its result; nothing is sent."""
    live.exchange.now = as_of + timedelta(minutes=1)
    config = {"resources": {"turn": {"config": {"as_of": iso(as_of)}}}}
    return live.run("tick", partition_key=partition_of(as_of), run_config=config)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """Whether each asset check passed, and what it says."""
    evaluations = result.get_asset_check_evaluations()
    return {one.check_name: (one.passed, one.description or "") for one in evaluations}


@pytest.mark.long
def test_an_unknown_market_does_not_stop_the_others(live: Live) -> None:
    live.symbols = ("ADA-USDT", "NOPE-USDT")
    live.configure([grid_file("ada"), grid_file("nope", symbol="NOPE-USDT", lower=1, upper=2, stop=0.9)])
    result = tick(live, CALM)
    assert result.success
    passed, says = checks(result)["newest_bar_is_fresh"]
    assert not passed
    assert "NOPE-USDT" in says
    row = live.lake().read("tick").row(0, named=True)
    assert (row["symbols_ok"], row["symbols_failed"]) == (["ADA-USDT"], ["NOPE-USDT"])
    assert "NOPE-USDT" in row["reason"]
    newest = live.lake().read("exit_state", grids=["ada"]).row(-1, named=True)
    assert newest["as_of"] == CALM
    assert newest["complete"]


@pytest.mark.long
def test_a_venue_that_is_down_blinds_the_ladder_and_forgets_nothing(live: Live) -> None:
    live.symbols = ("ADA-USDT",)
    live.configure([grid_file("ada")])
    assert tick(live, CALM).success
    known = live.lake().read("candles", symbols=["ADA-USDT"]).filter(pl.col("status") == "TRADED").height
    times = quarter_hours(CALM + BAR, CALM + 6 * BAR)
    live.exchange.faults = [replace(kucoin.FORBIDDEN, path="")] * 10_000
    for as_of in times:
        assert tick(live, as_of).success
    lake = live.lake()
    assert lake.read("candles", symbols=["ADA-USDT"]).filter(pl.col("status") == "TRADED").height == known
    states = lake.read("exit_state", grids=["ada"]).filter(pl.col("as_of") > CALM)["state"].to_list()
    # 15, 30, 45, 60, 75, 90 minutes without a bar.
    assert states[2:] == ["WARNING", "WARNING", "LATEST_ACCEPTABLE_EXIT", "LATEST_ACCEPTABLE_EXIT"]
    assert "MANDATORY_EXIT" not in states
    live.exchange.faults = []
    assert tick(live, times[-1] + BAR).success
    healed = live.lake().read("candles", symbols=["ADA-USDT"])
    assert healed.filter(pl.col("status") == "TRADED").height == known + len(times) + 1
    # Nothing but blindness had raised the state, so the healed history never left where it was.
    states = live.lake().read("exit_state", grids=["ada"]).filter(pl.col("as_of") > CALM)["state"]
    assert states.n_unique() == 1


@pytest.mark.slow
def test_a_grid_changed_without_a_new_activation_is_refused_alone(live: Live) -> None:
    live.configure([grid_file("ada"), grid_file("sol")])
    assert tick(live, CALM).success
    live.configure([grid_file("ada", stop=0.69)])
    result = tick(live, CALM + BAR)
    passed, says = checks(result)["episodes_are_unchanged"]
    assert not passed
    assert "ada: stop changed since 2025-10-09T21:15:00Z" in says
    assert "new activated_at" in says
    newest = live.lake().read("exit_state").group_by("grid_id").agg(pl.col("as_of").max())
    assert dict(newest.iter_rows()) == {"ada": CALM, "sol": CALM + BAR}


@pytest.mark.long
def test_an_invalid_edit_keeps_the_last_valid_configuration_in_force(live: Live) -> None:
    live.symbols = ("ADA-USDT",)
    live.configure([grid_file("ada")])
    assert tick(live, CALM).success
    live.configure([grid_file("ada", stop=5)])
    result = tick(live, CALM + BAR)
    passed, says = checks(result)["configuration_is_valid"]
    assert not passed
    assert "stop" in says
    assert live.lake().read("exit_state", grids=["ada"])["as_of"].max() == CALM + BAR


@pytest.mark.slow
def test_a_row_that_cannot_be_true_is_kept_apart_and_its_bar_is_missing(live: Live) -> None:
    live.symbols = ("ADA-USDT",)
    live.configure([grid_file("ada")])
    bad = CALM - 3 * BAR
    real = live.exchange.candles["ADA-USDT"]
    live.exchange.candles["ADA-USDT"] = real.with_columns(
        high=pl.when(pl.col("open_time") == bad).then(pl.col("low") / 2).otherwise("high")
    )
    assert tick(live, CALM).success
    lake = live.lake()
    candles = lake.read("candles", symbols=["ADA-USDT"])
    assert candles.filter(pl.col("status") != "TRADED")["open_time"].to_list() == [bad]
    quarantined = lake.read("quarantine")
    assert quarantined["open_time"].to_list() == [bad]
    assert quarantined["reason"][0]


@pytest.mark.long
def test_a_backfill_of_the_crash_escalates_nothing(live: Live) -> None:
    live.configure([grid_file("ada"), grid_file("sol")])
    live.exchange.now = datetime(2025, 10, 12, 12, 0, tzinfo=UTC)
    live.backfill("2025-10-09", "2025-10-11")
    states = live.lake().read("exit_state")["state"]
    assert "MANDATORY_EXIT" in states
    assert live.run("send_alerts").success
    kinds = set(live.lake().read("notification")["kind"])
    assert kinds <= {"BLIND"}
    assert all(message["priority"] != "2" for message in live.pushover.messages)


@pytest.mark.long
def test_every_stored_row_keeps_the_contract_of_its_table_and_survives_the_upkeep(live: Live) -> None:
    live.configure([grid_file("ada"), grid_file("sol"), grid_file("waiting", symbol="SOL-USDT", lower=200, upper=245,
                                                                  stop=190, enabled=False)])  # fmt: skip
    live.tick(CALM)
    before = {table: live.lake().read(table) for table in registry.TABLES}
    for table, rows in before.items():
        assert registry.broken_rules(rows, table) == {}, table
    assert live.run("maintenance").success
    for table, rows in before.items():
        assert live.lake().read(table).equals(rows), table


@pytest.mark.long
def test_the_sensor_asks_for_a_run_only_while_something_is_due(live: Live) -> None:
    live.symbols = ("ADA-USDT",)
    live.configure([grid_file("ada")])
    live.tick(CALM)
    assert live.alerts_asked_for() == 0
    live.tick(datetime(2025, 10, 10, 21, 15, tzinfo=UTC), alerts=False)
    assert live.alerts_asked_for() == 1
    assert live.pushover.messages == []
    assert live.run("send_alerts").success
    assert live.alerts_asked_for() == 0
    assert [message["priority"] for message in live.pushover.messages] == ["2"]


@pytest.mark.long
def test_the_sensor_reads_the_history_again_after_a_commit_and_sees_the_clock_go_on_without_one(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = Lake._read

    def counted(self: Lake, table: str, *how: object) -> pl.DataFrame:
        read.append(table)
        return whole(self, table, *how)  # type: ignore[arg-type]

    live.symbols = ("ADA-USDT",)
    live.configure([grid_file("ada")])
    live.tick(CALM)
    assert live.alerts_asked_for() == 0
    monkeypatch.setattr(Lake, "_read", counted)
    assert live.alerts_asked_for() == 0
    assert read == [], "nobody wrote to it meanwhile"
    # The market is not seen any more: that is due by the clock alone.
    live.exchange.now = CALM + timedelta(hours=3)
    assert live.alerts_asked_for() == 1
    read.clear()
    assert live.alerts_asked_for() == 1
    assert read == []
    assert live.run("send_alerts").success
    read.clear()
    assert live.alerts_asked_for() == 0
    assert "notification" in read, "what was sent is seen"
