"""All grids at once from a stored history: ticks and a backfill have the same bits, and nothing is left out unsaid."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, DAY_BARS, Span, midnight
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.notify import send_due
from mm_dagster.pipeline.portfolio import members_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.repairs import repairs
from mm_dagster.pipeline.ticks import run_days, run_tick
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.pipeline.recordings import NOW, configure, grid, price_of

pytestmark = pytest.mark.slow

ETH, SOL = "ETH-USDT", "SOL-USDT"
TABLES = ("portfolio_risk", "portfolio_contribution", "limit_state")
VENUES: dict[str, object] = {"sim": {"kind": "simulated"}}
DAYS = Span(midnight(NOW.date()) - timedelta(days=34), midnight(NOW.date()))
"""Whole days with which 30 nights back are known at their end."""


def grids(**changes: Any) -> list[dict[str, object]]:
    began = (DAYS.end - 10 * BAR).isoformat()
    return [
        grid("eth", ETH, price_of(ETH), activated_at=began, lower=price_of(ETH) * 0.9, upper=price_of(ETH) * 1.1,
             stop=price_of(ETH) * 0.85, **changes),
        grid("sol", SOL, price_of(SOL), activated_at=began, lower=price_of(SOL) * 0.9, upper=price_of(SOL) * 1.1,
             stop=price_of(SOL) * 0.85),
    ]  # fmt: skip


def write(folder: Path, ones: list[dict[str, object]], **portfolio: object) -> None:
    shutil.rmtree(folder / "configuration", ignore_errors=True)
    configure(folder / "configuration", ones, VENUES, dict.fromkeys((ETH, SOL), "sim"))
    settings = {"window_days": 30, "equity": 10_000, **portfolio}
    (folder / "configuration" / "portfolio.yaml").write_text(yaml.safe_dump(settings))


def project(folder: Path, data: str = "data") -> Project:
    return Project(str(folder / "configuration"), str(folder / data))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of whole days, which `days` keeps, and four ticks after it."""
    folder = tmp_path_factory.mktemp("portfolio")
    write(folder, grids())
    run_days(project(folder), DAYS)
    shutil.copytree(folder / "data", folder / "days")
    for place in range(1, 5):
        run_tick(project(folder), DAYS.end + place * BAR)
    return folder


@pytest.fixture
def again(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def stored(where: Project, table: str) -> pl.DataFrame:
    return where.lake.read(table).sort(
        [*("quote", "as_of"), *(n for n in ("grid_id", "limit", "subject") if n in dtypes(table))]
    )


def test_ticks_and_a_backfill_write_the_same_bits(whole: Path) -> None:
    day = Span(DAYS.end, DAYS.end + timedelta(days=1))
    other = project(whole, "days")
    run_days(other, Span(day.start, day.start + DAY_BARS * BAR))
    ticked = project(whole)
    for table in TABLES:
        one = stored(ticked, table)
        assert one.height, table
        two = stored(other, table).filter(pl.col("as_of") <= DAYS.end + 4 * BAR)
        assert_frame_equal(one, two, check_exact=True)
    told = stored(ticked, "portfolio_risk").filter(pl.col("as_of") > DAYS.end)
    assert told.height == 4
    assert told["reason"].null_count() == 4
    assert told["grids"].to_list() == [2] * 4


def test_a_tick_computes_its_bar_and_leaves_the_others(again: Path) -> None:
    before = project(again).lake.snapshots().height
    run_tick(project(again), DAYS.end + 5 * BAR)
    written = project(again).lake.snapshots()[before:]
    asked = [row["commit_extra_info"] or "" for row in written.iter_rows(named=True)]
    messages = [
        f"{row['commit_message']} {extra}" for row, extra in zip(written.iter_rows(named=True), asked, strict=True)
    ]
    assert sum("portfolio_risk" in one for one in messages) == 1
    assert stored(project(again), "portfolio_risk")["as_of"].max() == DAYS.end + 5 * BAR


def test_a_grid_that_is_switched_off_was_part_of_the_past(again: Path) -> None:
    known = stored(project(again), "portfolio_risk")
    write(again, [grids()[0], grids()[1] | {"enabled": False}])
    run_tick(project(again), DAYS.end + 5 * BAR)
    found = stored(project(again), "portfolio_risk")
    assert_frame_equal(found.filter(pl.col("as_of") <= DAYS.end + 4 * BAR), known, check_exact=True)
    assert found["grids"][-1] == 1
    assert stored(project(again), "portfolio_contribution").filter(pl.col("as_of") > DAYS.end + 4 * BAR)[
        "grid_id"
    ].to_list() == ["eth"]


def test_a_setting_changes_every_row_within_reach(again: Path) -> None:
    before = stored(project(again), "portfolio_risk")
    write(again, grids(), equity=5_000)
    run_tick(project(again), DAYS.end + 5 * BAR)
    found = stored(project(again), "portfolio_risk")
    assert set(found["equity"]) == {5_000}
    assert not set(found["config_hash"]) & set(before["config_hash"])
    state = stored(project(again), "limit_state").filter(pl.col("limit") == "position", pl.col("as_of") > DAYS.end)
    assert set(state["value"]) == {0.2}
    assert state["breached"].all()
    assert set(state["since"]) == {DAYS.end - 10 * BAR}


def test_a_run_of_one_market_adds_up_all_of_them(again: Path) -> None:
    run_tick(project(again), DAYS.end + 5 * BAR)
    narrowed = project(again)
    before = stored(narrowed, "portfolio_risk")
    run_tick(project(again), DAYS.end + 5 * BAR, symbols=[SOL], stages=TABLES)
    assert_frame_equal(stored(project(again), "portfolio_risk"), before, check_exact=True)


def test_a_risk_that_is_not_computed_is_said_and_healed(again: Path) -> None:
    """The market of a grid fails: the row says so, and is put right as soon as the grid's risk is there."""
    stages = ("candles", "regime_features", "regime_verdict")
    run_tick(project(again), DAYS.end + 5 * BAR, stages=stages)
    run_tick(project(again), DAYS.end + 5 * BAR, symbols=[ETH], stages=("grid_risk",))
    run_tick(project(again), DAYS.end + 5 * BAR, stages=TABLES)
    last = stored(project(again), "portfolio_risk").row(-1, named=True)
    assert last["reason"] == "sol: its risk is not computed."
    assert (last["grids"], last["var_5_24h"]) == (2, None)
    run_tick(project(again), DAYS.end + 5 * BAR)
    healed = stored(project(again), "portfolio_risk").row(-1, named=True)
    assert healed["reason"] is None
    assert healed["var_5_24h"] is not None


@pytest.mark.long
def test_what_is_too_young_is_told_as_soon_as_its_past_is_there(tmp_path: Path) -> None:
    write(tmp_path, grids())
    late = Span(DAYS.end - timedelta(days=5), DAYS.end)
    run_days(project(tmp_path), late)
    run_tick(project(tmp_path), DAYS.end + BAR)
    row = stored(project(tmp_path), "portfolio_risk").row(-1, named=True)
    assert (
        row["reason"]
        == "; ".join(f"{name}: its last 30 days are not known without a hole of a day" for name in (ETH, SOL)) + "."
    )
    asked = [one for one in repairs(project(tmp_path), DAYS.end) if one.why == "nights"]
    assert {one.symbols for one in asked} == {(ETH, SOL)}
    first, last = asked[0].span.start, asked[-1].span.end
    # 60 days of returns, and a week of limits before it.
    assert (first, last) == (DAYS.end - timedelta(days=68), late.start)
    run_days(project(tmp_path), Span(DAYS.start, late.start))
    later = [one for one in repairs(project(tmp_path), DAYS.end) if one.why == "nights"]
    assert later[-1].span.end == DAYS.start
    run_tick(project(tmp_path), DAYS.end + 2 * BAR)
    healed = stored(project(tmp_path), "portfolio_risk")
    assert healed["reason"].null_count() == healed.height


@pytest.mark.long
def test_another_quote_currency_is_a_portfolio_of_its_own(tmp_path: Path) -> None:
    ones = [*grids(), grid("eur", "ETH-EUR", price_of("ETH-EUR"), activated_at=(DAYS.end - 10 * BAR).isoformat())]
    write(tmp_path, ones)
    configure(tmp_path / "configuration", ones, VENUES, dict.fromkeys((ETH, SOL, "ETH-EUR"), "sim"))
    run_days(project(tmp_path), Span(DAYS.end - timedelta(days=2), DAYS.end))
    rows = stored(project(tmp_path), "portfolio_risk").filter(pl.col("as_of") == DAYS.end)
    assert rows.select("quote", "grids").rows() == [("EUR", 1), ("USDT", 2)]


def test_simulated_money_is_never_added_to_real(tmp_path: Path) -> None:
    write(tmp_path, grids())
    venues = {**VENUES, "files": {"kind": "recorded", "path": "../recordings", "file": "15m.parquet"}}
    configure(tmp_path / "configuration", grids(), venues, {ETH: "files", SOL: "sim"})
    (tmp_path / "recordings").mkdir()
    where = project(tmp_path)
    assert [where.config.in_portfolio(symbol) for symbol in (ETH, SOL)] == [True, False]
    episodes = [
        dict.fromkeys(dtypes("grid_episode"))
        | {
            "grid_id": name, "activated_at": NOW, "symbol": symbol, "enabled": True, "lower": 90.0, "upper": 110.0,
            "levels": 8, "level_convention": "intervals", "spacing": "arithmetic", "stop": 80.0, "capital": 1.0,
            "fee_maker": 0.001, "fee_taker": 0.001, "fee_paid_in": "quote", "first_seen": NOW,
            "source": where.config.market(symbol).source,
        }
        for name, symbol in (("eth", ETH), ("sol", SOL))
    ]  # fmt: skip
    frame = pl.DataFrame(episodes, schema=dtypes("grid_episode"), orient="row")
    where.lake.upsert("grid_episode", frame, commit=Commit("test", "grid_episode", ""))
    assert [member.grid.id for member in members_of(where.lake, where.config)] == ["eth"]


def test_contributions_that_were_lost_are_made_again(again: Path) -> None:
    lake = project(again).lake
    known = stored(project(again), "portfolio_contribution")
    span = Span(DAYS.end - 2 * BAR, DAYS.end + 2 * BAR)
    lake.write("portfolio_contribution", known.clear(), span=span, commit=Commit("test", "portfolio_contribution", ""))
    assert stored(project(again), "portfolio_contribution").height < known.height
    run_tick(project(again), DAYS.end + 4 * BAR, stages=("portfolio_contribution",))
    assert_frame_equal(stored(project(again), "portfolio_contribution"), known, check_exact=True)


def told(where: Project) -> list[str]:
    """The limits that were told of, each as often as it was."""
    return sorted(where.lake.read("notification").filter(pl.col("kind") == "LIMIT")["state"])


@pytest.mark.long
def test_each_limit_is_told_once_when_breached_and_once_when_over(again: Path) -> None:
    """An equity that is too small for the grids, then one that is not."""
    bar = iter(range(5, 20))

    def quarter_hours(count: int) -> None:
        for _ in range(count):
            now = DAYS.end + next(bar) * BAR
            run_tick(project(again), now)
            # A daemon looks again and again.
            for _ in range(2):
                send_due(project(again), "test", now)

    def configured(**portfolio: object) -> None:
        write(again, grids(), **portfolio)
        (again / "configuration" / "alerts.yaml").write_text("budget: {per_hour: {LIMIT: 50}}\n")

    configured(equity=1_000, limits={"es_5_24h": 0.001})
    quarter_hours(2)
    breached = told(project(again))
    expected = [
        *(f"BREACHED USDT {limit} all" for limit in ("es_5_24h", "portfolio", "session")),
        *(f"BREACHED USDT pair {market}" for market in (ETH, SOL)),
        *(f"BREACHED USDT position {name}" for name in ("eth", "sol")),
    ]
    assert breached == sorted(expected)
    configured(equity=1_000_000, limits={"es_5_24h": 0.05})
    quarter_hours(2)
    over = [state.replace("BREACHED", "OVER") for state in expected]
    assert told(project(again)) == sorted([*expected, *over])
    configured(equity=1_000_000, limits={"es_5_24h": 0.05})
    quarter_hours(1)
    assert len(told(project(again))) == 2 * len(expected)
    rows = project(again).lake.read("notification").filter(pl.col("kind") == "LIMIT")
    assert rows["priority"].max() == 0
    assert set(rows["source"]) == {"simulated"}
    assert all(title.startswith("SIMULATED") for title in rows["title"])


def test_a_newcomer_with_one_grid_and_no_equity_is_told_of_no_limit(again: Path) -> None:
    write(again, [grids()[0], grids()[1] | {"enabled": False}], equity=None)
    for place in (5, 6):
        run_tick(project(again), DAYS.end + place * BAR)
        send_due(project(again), "test", DAYS.end + place * BAR)
    assert told(project(again)) == []
    state = stored(project(again), "limit_state").filter(pl.col("as_of") > DAYS.end + 4 * BAR)
    assert state.height
    assert not state["breached"].any()
