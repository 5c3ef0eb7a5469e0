"""A tick of many markets: a run for each group, one for what needs all, and the same rows as of a single run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span, iso, midnight, parse_time
from mm_dagster.definitions import defs
from mm_dagster.defs.groups import request_of_all
from mm_dagster.history.lake import Lake
from mm_dagster.logs import TICK_TAG
from mm_dagster.pipeline import ticks
from mm_dagster.pipeline.groups import GROUP_TAG, TOGETHER_TAG, groups
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.tick_row import end_tick
from mm_dagster.pipeline.work import plan
from mm_dagster.tables import registry

AS_OF = parse_time("2026-06-26T12:00:00Z")
SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
GRIDS = {"BTC-USDT": (90_000, 120_000, 85_000), "ETH-USDT": (2550, 2820, 2480), "SOL-USDT": (120, 180, 110)}


def configured(folder: Path, markets_a_run: int) -> Project:
    """Three simulated markets, a running grid on each, in groups of so many."""
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    markets = {
        "venues": {"main": {"kind": "simulated"}},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in SYMBOLS],
        "tick": {"markets_a_run": markets_a_run},
    }
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    for symbol, (lower, upper, stop) in GRIDS.items():
        grid = {
            "id": symbol[:3].lower(), "symbol": symbol, "activated_at": "2026-06-25", "lower": lower, "upper": upper,
            "levels": 6, "stop": stop, "capital": 1000,
        }  # fmt: skip
        (configuration / "grids" / f"{grid['id']}.yaml").write_text(yaml.safe_dump(grid))
    return Project(str(configuration), str(folder / "data"))


@pytest.mark.parametrize(("many", "at_most", "sizes"), [(5, 2, [1, 2, 2]), (4, 2, [2, 2]), (3, 3, [3]), (1, 9, [1])])
def test_groups_are_sorted_even_and_whole(many: int, at_most: int, sizes: list[int]) -> None:
    symbols = [f"S{number}" for number in reversed(range(many))]
    found = groups(symbols, at_most)
    assert [len(one.symbols) for one in found] == sizes
    assert [symbol for one in found for symbol in one.symbols] == sorted(symbols)
    assert [one.name for one in found] == [f"{place} of {len(sizes)}" for place in range(1, len(sizes) + 1)]
    assert found[0].is_whole == (len(sizes) == 1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = configured(tmp_path, 2)
    monkeypatch.setenv("MM_CONFIG_DIR", project.config_dir)
    monkeypatch.setenv("MM_DATA_DIR", project.data_dir)
    return project


def test_a_tick_of_too_many_markets_is_a_run_for_each_group(place: Project) -> None:
    everything = defs()
    context = dg.build_schedule_context(
        scheduled_execution_time=AS_OF + timedelta(minutes=1),
        repository_def=everything.get_repository_def(),
        resources={"project": place},
    )
    asked = everything.resolve_schedule_def("every_quarter_hour").evaluate_tick(context).run_requests or []
    assert [one.run_key for one in asked] == [f"{iso(AS_OF)} 1 of 2", f"{iso(AS_OF)} 2 of 2"]
    turns = [one.run_config["resources"]["turn"]["config"] for one in asked]
    assert [turn["symbols"] for turn in turns] == [["BTC-USDT"], ["ETH-USDT", "SOL-USDT"]]
    made = {key.to_user_string() for one in asked for key in one.asset_selection or []}
    assert not made & {*registry.TOGETHER, "snapshot", "tick_log"}
    assert made >= {*registry.EVERY_BAR} - {*registry.TOGETHER}
    every = {key.to_user_string() for key in everything.resolve_job_def("tick").asset_layer.executable_asset_keys}
    together = {key.to_user_string() for key in request_of_all(AS_OF).asset_selection or []}
    checks = {key for one in [*asked, request_of_all(AS_OF)] for key in one.asset_check_keys or []}
    assert checks == set(everything.resolve_job_def("tick").asset_layer.asset_graph.asset_check_keys)
    assert made | together == every
    assert not made & together


def asked_of_all(instance: dg.DagsterInstance, project: Project) -> list[str]:
    """The ticks that the sensor now asks the rest of."""
    everything = defs()
    context = dg.build_sensor_context(
        instance=instance, repository_def=everything.get_repository_def(), resources={"project": project}
    )
    found = everything.resolve_sensor_def("the_groups_are_done").evaluate_tick(context)
    return [str(one.run_key) for one in found.run_requests or []]


def noted(instance: dg.DagsterInstance, name: str, status: dg.DagsterRunStatus, tag: str = GROUP_TAG) -> None:
    """A run of the tick."""
    run = dg.DagsterRun(job_name="tick", status=status, tags={TICK_TAG: iso(AS_OF), tag: name})
    instance.add_run(run)


def test_what_needs_all_is_asked_for_once_when_all_groups_are_done(place: Project) -> None:
    done, works, dead = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
    with dg.DagsterInstance.ephemeral() as instance:
        assert asked_of_all(instance, place) == []
        noted(instance, "1 of 2", done)
        noted(instance, "1 of 2", done)
        noted(instance, "2 of 2", works)
        assert asked_of_all(instance, place) == []
        noted(instance, "2 of 2", dead)
        assert asked_of_all(instance, place) == []
        noted(instance, "2 of 2", done)
        assert asked_of_all(instance, place) == [f"{iso(AS_OF)} together"]
        noted(instance, "all", works, TOGETHER_TAG)
        assert asked_of_all(instance, place) == []


def test_a_group_that_does_not_end_is_waited_for_in_bounded_time(
    place: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=place.config.markets.tick.wait_seconds + 1)

    with dg.DagsterInstance.ephemeral() as instance:
        noted(instance, "1 of 2", dg.DagsterRunStatus.SUCCESS)
        assert asked_of_all(instance, place) == []
        monkeypatch.setattr("mm_dagster.defs.groups.datetime", Later)
        assert asked_of_all(instance, place) == [f"{iso(AS_OF)} together"]


def tick_row(lake: Lake) -> dict[str, object]:
    return lake.read("tick", span=Span(AS_OF - BAR, AS_OF)).row(0, named=True)


@pytest.mark.long
def test_groups_give_the_same_rows_as_one_run_in_whichever_order_they_end(tmp_path: Path) -> None:
    whole, parted = configured(tmp_path / "whole", 100), configured(tmp_path / "parted", 1)
    days = Span(midnight(AS_OF.date()) - timedelta(days=2), midnight(AS_OF.date()))
    ticks.run_days(whole, days)
    ticks.run_tick(whole, AS_OF)
    for part in reversed(groups(parted.config.symbols, 1)):
        ticks.run_days(parted, days, symbols=part.symbols, stages=ticks.APART)
    ticks.run_days(parted, days, stages=registry.TOGETHER)
    for part in reversed(groups(parted.config.symbols, 1)):
        ticks.run_tick(parted, AS_OF, symbols=part.symbols, stages=ticks.APART)
    assert tick_row(parted.lake)["finished_at"] is None
    ticks.run_tick(parted, AS_OF, stages=registry.TOGETHER)
    end_tick(plan(parted, "together", as_of=AS_OF))
    for table in registry.EVERY_BAR:
        left, right = (one.lake.read(table) for one in (whole, parted))
        kept = [name for name in left.columns if name not in registry.LIVE_ONLY]
        # No grid is idle, and nobody may be told from so few nights.
        assert left.height or table in ("entry_assessment", "portfolio_contribution"), table
        assert_frame_equal(left.select(kept), right.select(kept), check_exact=True)
    rows = [tick_row(one.lake) for one in (whole, parted)]
    for row in rows:
        assert row["symbols_ok"] == list(SYMBOLS)
        assert (row["symbols_failed"], row["reason"]) == ([], None)
        assert row["finished_at"] is not None
    assert parted.lake.read("candle_revision").filter(pl.col("recomputed_at").is_null()).is_empty()


@pytest.mark.long
def test_a_group_that_died_is_said_and_does_not_keep_the_others_from_their_page(tmp_path: Path) -> None:
    parted = configured(tmp_path, 1)
    first, *others = groups(parted.config.symbols, 1)
    for part in others:
        ticks.run_tick(parted, AS_OF, symbols=part.symbols, stages=ticks.APART)
    ticks.run_tick(parted, AS_OF, stages=registry.TOGETHER)
    end_tick(plan(parted, "together", as_of=AS_OF))
    row = tick_row(parted.lake)
    assert row["symbols_failed"] == list(first.symbols)
    assert "BTC-USDT: the run of these markets did not end" in str(row["reason"])
    assert row["symbols_ok"] == ["ETH-USDT", "SOL-USDT"]
    assert row["finished_at"] is not None
    assert parted.lake.read("exit_state")["grid_id"].unique().sort().to_list() == ["eth", "sol"]
