"""What leaving costs, from a stored history: a tick has the book beside the model, and a backfill the model alone."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span, parse_time
from mm_dagster.execution.exit_cost import LIVE
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.books import ENOUGH_BOOKS, half_spreads
from mm_dagster.pipeline.costs import costs_at
from mm_dagster.pipeline.leave import NoPlan, plan_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_days, run_tick
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.cli.small import configure

pytestmark = pytest.mark.slow

DAYS = Span(parse_time("2026-06-23T00:00:00Z"), parse_time("2026-06-25T00:00:00Z"))
TICK = DAYS.end + BAR


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("costs")
    configure(folder)
    project = Project(str(folder / "configuration"), str(folder / "data"))
    run_days(project, DAYS)
    return project


def kept(project: Project, times: list[object], half_spread_bp: float = 3.0) -> None:
    """Books of ticks, as the asset stores them."""
    source = project.config.market("ETH-USDT").source
    price = float(project.lake.read("candles", span=Span(DAYS.end - BAR, DAYS.end))["close"][0])
    half = price * half_spread_bp / 10_000
    bids = [{"price": price - half - place, "amount": 10.0} for place in range(3)]
    asks = [{"price": price + half + place, "amount": 10.0} for place in range(3)]
    rows = [
        dict.fromkeys(dtypes("book_snapshot"))
        | {
            "symbol": "ETH-USDT", "as_of": time, "venue": "main", "asked_at": time, "mid": price, "bids": bids,
            "asks": asks, "half_spread_bp": half_spread_bp, "depth_reach_bp": 5.0, "bid_levels": 3, "ask_levels": 3,
            "source": source,
        }
        for time in times
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=dtypes("book_snapshot"), orient="row")
    project.lake.upsert("book_snapshot", frame, commit=Commit("test", "book_snapshot", ""))


def costs(project: Project, span: Span) -> pl.DataFrame:
    return project.lake.read("exit_cost", span=span).sort("as_of", "horizon_minutes")


def test_a_backfill_has_a_row_for_every_bar_and_horizon_and_nothing_live(project: Project) -> None:
    found = costs(project, DAYS)
    assert found.height == 4 * DAYS.bars
    assert all(found[name].null_count() == found.height for name in LIVE)
    assert found.filter(pl.col("notional") > 0)["expected_bp"].null_count() == 0


def test_a_book_that_a_tick_kept_stands_beside_the_model_and_changes_nothing_else(project: Project) -> None:
    before = costs(project, DAYS)
    at = DAYS.end - 5 * BAR
    kept(project, [at])
    run_days(project, DAYS, stages=["exit_cost"])
    after = costs(project, DAYS)
    assert after.drop(*LIVE, "live_origin").equals(before.drop(*LIVE, "live_origin"))
    live = after.filter(pl.col("live_expected_bp").is_not_null())
    assert after["live_origin"].drop_nulls().to_list() == ["ASKED"] * 4
    assert set(live["as_of"]) == {at}
    assert live["live_half_spread_bp"].to_list() == pytest.approx([3.0] * 4)


def test_a_tick_computes_its_costs_and_a_backfill_the_same(project: Project) -> None:
    run_tick(project, TICK)
    tick = costs(project, Span(TICK - BAR, TICK))
    assert tick.height == 4
    # The clock of the simulated market stands elsewhere, so the tick is past, and its book cannot be asked for.
    assert all(tick[name].null_count() == tick.height for name in LIVE)
    run_days(project, Span(DAYS.end, DAYS.end + timedelta(days=1)))
    again = costs(project, Span(TICK - BAR, TICK))
    assert again.equals(tick)


def test_a_message_that_goes_out_before_the_costs_are_stored_has_the_same_ones(project: Project) -> None:
    (grid,) = project.config.grids
    as_of = DAYS.end - 9 * BAR
    stored = costs_at(project, grid, as_of)
    assert len(stored) == 4
    span = Span(as_of - BAR, as_of)
    gone = project.lake.read("exit_cost", span=span)
    project.lake.write("exit_cost", gone.clear(), span=span, grids=["eth"], commit=Commit("test", "exit_cost", ""))
    computed = costs_at(project, grid, as_of)
    names = computed[0].keys() - {"source"}
    assert [{name: row[name] for name in names} for row in computed] == [
        {name: row[name] for name in names} for row in stored
    ]
    project.lake.upsert("exit_cost", gone, commit=Commit("test", "exit_cost", ""))


def test_a_plan_is_that_of_the_newest_costs(project: Project) -> None:
    found = plan_of(project, "eth", DAYS.end + timedelta(minutes=2), None).plan
    assert found.as_of == DAYS.end
    row = costs(project, Span(DAYS.end - BAR, DAYS.end)).filter("chosen").row(0, named=True)
    assert found.minutes == row["horizon_minutes"]
    assert found.amount == row["amount"]
    with pytest.raises(NoPlan, match="no cost of leaving is stored"):
        plan_of(project, "eth", DAYS.start - timedelta(days=3), None)


def test_a_half_spread_is_proposed_when_a_day_of_books_says_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Project, "now", lambda self: DAYS.end)
    times = Span(DAYS.end - (ENOUGH_BOOKS - 2) * BAR, DAYS.end).open_times().to_list()
    kept(project, times, half_spread_bp=1.0)
    (few,) = half_spreads(project)
    assert not few.proposed
    kept(project, [DAYS.end, DAYS.end - (ENOUGH_BOOKS - 1) * BAR], half_spread_bp=1.0)
    (seen,) = half_spreads(project)
    assert (seen.symbol, seen.books, seen.assumed_bp) == ("ETH-USDT", ENOUGH_BOOKS, pytest.approx(2.5))
    assert seen.median_bp == pytest.approx(1.0)
    assert seen.proposed
