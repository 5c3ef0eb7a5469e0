"""What was missed, or revised by its venue, is put right by itself: the same bits as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.markets import TickConfig
from mm_dagster.definitions import defs
from mm_dagster.defs import reconcile
from mm_dagster.defs.reconcile import request, requests
from mm_dagster.pipeline.groups import GROUP_TAG
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import REACH, dependents
from mm_dagster.pipeline.repairs import Repair, choose, repairs
from mm_dagster.tables import registry
from mm_dagster_tests.defs.live import Live, flash_crash, grid_file

COMPUTED = ("candles", "regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment")
FIRST = datetime(2025, 10, 7, tzinfo=UTC)
NOON = datetime(2025, 10, 10, 12, 0, tzinfo=UTC)
DAYS = Span(FIRST, NOON)
LATER = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def live(tmp_path: Path, shared_data: Path) -> Iterator[Live]:
    with flash_crash(tmp_path, shared_data, ("ADA-USDT",)) as one:
        grids = [grid_file("ada"), grid_file("waiting", symbol="ADA-USDT", lower=0.74, upper=0.9, stop=0.7,
                                             enabled=False, activated_at="2025-10-07T00:00:00Z")]  # fmt: skip
        one.configure(grids, history={"catch_up_days": 1})
        one.exchange.now = NOON + timedelta(minutes=1)
        yield one


def project(live: Live, data: str = "data") -> Project:
    return Project(config_dir=str(live.config_dir), data_dir=str(live.folder / data))


def repair(live: Live, one: Repair, data: str = "data") -> dg.ExecuteInProcessResult:
    """What the daemon does with the sensor's request."""
    asked = request(one)
    result = live.run("history", data=data, tags=dict(asked.tags), run_config=dict(asked.run_config))
    assert result.success
    return result


def assert_same(live: Live, data: str, expected: str) -> None:
    """All that was computed of the days is the same to the bit, but for the live-only columns."""
    for table in COMPUTED:
        left, right = (live.lake(folder).read(table, span=DAYS) for folder in (data, expected))
        compared = [name for name in left.columns if name not in registry.LIVE_ONLY]
        assert left.height, table
        assert_frame_equal(left.select(compared), right.select(compared), check_exact=True)


@pytest.mark.long
def test_days_without_the_daemon_are_filled_by_the_next_tick_and_the_reconcile_step(live: Live) -> None:
    live.backfill("2025-10-07", "2025-10-10", data="undisturbed")
    live.exchange.now = datetime(2025, 10, 8, 0, 1, tzinfo=UTC)
    live.backfill("2025-10-07", "2025-10-07")
    live.tick(NOON)
    told = len(live.pushover.messages)
    (missing,) = repairs(project(live), NOON)
    assert (missing.span, missing.symbols, missing.why) == (
        Span(datetime(2025, 10, 8, tzinfo=UTC), datetime(2025, 10, 10, tzinfo=UTC)),
        ("ADA-USDT",),
        "missing",
    )
    (noted, *_) = repair(live, missing).asset_materializations_for_node("candles")
    # The fetch was the tick's: here nothing was left to ask for.
    assert "| 2025-10 | 192 | 0 | 0 | 0 |" in str(noted.metadata["by_month"].value)
    assert repairs(project(live), NOON) == []
    assert_same(live, "data", "undisturbed")
    assert live.run("send_alerts").success
    assert len(live.pushover.messages) == told
    assert live.lake().read("candle_revision").is_empty()


@pytest.mark.long
def test_a_revised_bar_is_noted_and_all_that_depends_on_it_is_as_if_it_had_always_been_so(live: Live) -> None:
    live.backfill("2025-10-07", "2025-10-10")
    bar = datetime(2025, 10, 7, 3, 15, tzinfo=UTC)
    candles = live.exchange.candles["ADA-USDT"]
    was = candles.filter(pl.col("open_time") == bar).row(0, named=True)
    live.exchange.candles["ADA-USDT"] = candles.with_columns(
        high=pl.when(pl.col("open_time") == bar).then(pl.col("high") * 1.01).otherwise("high")
    )
    tags = dict.fromkeys(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), "2025-10-07")
    again = {"resources": {"turn": {"config": {"again": True}}}}
    looked = live.run("history", tags=tags, run_config=again)
    (check,) = (one for one in looked.get_asset_check_evaluations() if one.check_name == "no_bar_was_revised")
    assert not check.passed
    assert "1 bars of the last 30 days were revised by their venue, the last ADA-USDT at 2025-10-07T03:15:00Z" in (
        check.description or ""
    )
    (noted,) = live.lake().read("candle_revision").to_dicts()
    assert (noted["symbol"], noted["open_time"], noted["recomputed_at"]) == ("ADA-USDT", bar, None)
    assert (noted["old_high"], noted["new_high"]) == (was["high"], was["high"] * 1.01)
    (stale,) = repairs(project(live), NOON)
    assert (stale.span.start, stale.span.end, stale.why) == (
        datetime(2025, 10, 7, tzinfo=UTC),
        datetime(2025, 10, 11, tzinfo=UTC),
        "revised",
    )
    repair(live, stale)
    assert live.lake().read("candle_revision")["recomputed_at"].null_count() == 0
    assert repairs(project(live), NOON) == []
    live.backfill("2025-10-07", "2025-10-10", data="fresh")
    assert_same(live, "data", "fresh")


def test_the_sensor_asks_for_the_oldest_month_once_and_waits_longer_each_time_that_it_is_in_vain(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        Repair("2025-08", Span(LATER, LATER + timedelta(days=1)), ("ADA-USDT",), 7, "missing"),
        Repair("2025-09", Span(LATER, LATER + timedelta(days=1)), ("ADA-USDT",), 9, "missing"),
    ]
    monkeypatch.setattr(reconcile, "repairs", lambda *_: found)
    sensor = defs().resolve_sensor_def("the_past_is_not_whole")

    def evaluated(cursor: str | None) -> dg.SensorExecutionData:
        context = dg.build_sensor_context(
            instance=live.instance,
            cursor=cursor,
            repository_def=defs().get_repository_def(),
            resources={"project": project(live)},
        )
        return sensor.evaluate_tick(context)

    first = evaluated(None)
    (asked,) = first.run_requests or []
    assert asked.tags["dagster/asset_partition_range_start"] == "2026-01-01"
    assert asked.tags["dagster/priority"] == "-1"
    second = evaluated(first.cursor)
    assert set(json.loads(second.cursor or "")) == {"2025-08", "2025-09"}
    third = evaluated(second.cursor)
    assert third.run_requests == []
    assert "2 were tried in vain and wait" in (third.skip_message or "")


def test_what_stays_missing_is_asked_for_ever_more_rarely_and_at_once_when_it_changes() -> None:
    one = Repair("2025-08", Span(FIRST, FIRST + timedelta(days=1)), ("ADA-USDT",), 7, "missing")
    tried: dict[str, list[object]] = {}
    now, asked = LATER, []
    while now < LATER + timedelta(days=2):
        chosen, tried = choose([one], tried, now)
        if chosen:
            asked.append((now - LATER) / timedelta(minutes=15))
        now += timedelta(minutes=5)
    assert asked == [0, 1, 3, 7, 15, 31, 63, 127]
    fewer = Repair(one.name, one.span, one.symbols, 6, one.why)
    assert choose([fewer], tried, now)[0] is fewer
    assert choose([], tried, now) == (None, {})


@pytest.mark.parametrize(
    ("grids", "days"),
    [([], REACH / timedelta(days=1)), (["waiting"], REACH / timedelta(days=1)), (["running"], 300.0), (["late"], None)],
)
def test_a_bar_reaches_as_far_as_the_indicators_look_back_and_through_the_episodes_that_it_touches(
    grids: list[str], days: float | None
) -> None:
    file = grid_file("ada", activated_at="2025-10-08T00:00:00Z")
    made = {
        "waiting": GridConfig(**{**file, "enabled": False}),  # type: ignore[arg-type]
        "running": GridConfig(**file),  # type: ignore[arg-type]
        "late": GridConfig(**{**file, "activated_at": "2026-03-01T00:00:00Z"}),  # type: ignore[arg-type]
    }
    span = dependents(FIRST, [made[name] for name in grids], FIRST + timedelta(days=300))
    assert span == Span(FIRST, FIRST + (timedelta(days=days) if days else REACH))
    assert dependents(FIRST, [made[name] for name in grids], FIRST + BAR).end == FIRST + BAR


def test_many_markets_are_put_right_in_groups(live: Live) -> None:
    config = project(live).config
    few = config.model_copy(update={"markets": config.markets.model_copy(update={"tick": TickConfig(markets_a_run=2)})})
    symbols = tuple(f"M{number}-USDT" for number in range(5))
    missing = Repair("2025-10", Span(FIRST, FIRST + timedelta(days=2)), symbols, 10, "missing")
    asked = requests(missing, few)
    turns = [one.run_config["resources"]["turn"]["config"]["symbols"] for one in asked]
    assert sorted(symbol for part in turns for symbol in part) == list(symbols)
    assert [len(part) for part in turns] == [1, 2, 2]
    assert not {key.to_user_string() for one in asked for key in one.asset_selection or ()} & {*registry.TOGETHER}
    assert {one.tags["dagster/asset_partition_range_end"] for one in asked} == {"2025-10-08"}
    assert len({one.tags[GROUP_TAG] for one in asked}) == 3
    [alone] = requests(missing, config)
    assert alone.asset_selection is None
