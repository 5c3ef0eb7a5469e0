"""The crash of 2025-10-10: what is held back because it contradicts holds none of it, and no exit comes later for it.

Fourteen grids are activated a quarter hour before the worst bar, their lower bound 5 % below the price and their stop
8 %. The same ticks are made three times: with the rules of market.contradiction, without them, and with a rule that
holds the bar from 21:00 to 21:15, which shows that the comparison would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.market import contradiction
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster_tests.defs.live import Live, loopback, quarter_hours

ACTIVATED, LAST = datetime(2025, 10, 10, 21, tzinfo=UTC), datetime(2025, 10, 11, tzinfo=UTC)
WORST = ACTIVATED
KEPT = Span(datetime(2025, 8, 10, tzinfo=UTC), datetime(2025, 10, 12, tzinfo=UTC))
pytestmark = pytest.mark.long

Rule = Callable[[pl.DataFrame, pl.DataFrame, pl.DataFrame | None], pl.DataFrame]


def nothing(rows: pl.DataFrame, stored: pl.DataFrame, in_progress: pl.DataFrame | None = None) -> pl.DataFrame:
    return rows.head(0).select("open_time", reason=pl.lit(""))


def the_worst_bar(rows: pl.DataFrame, stored: pl.DataFrame, in_progress: pl.DataFrame | None = None) -> pl.DataFrame:
    return rows.filter(pl.col("open_time") == WORST).select("open_time", reason=pl.lit("it fell too far"))


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> dict[str, pl.DataFrame]:
    """For each rule the newest exit states after each tick, and beside them what was kept apart."""
    symbols = tuple(path.name for path in sorted((shared_data / "candles" / "kucoin").iterdir()))
    assert len(symbols) == 14
    folder = tmp_path_factory.mktemp("crash")
    with loopback(folder, shared_data, symbols, KEPT) as live, pytest.MonkeyPatch.context() as patch:
        live.configure([at_the_close(live, symbol) for symbol in symbols])
        found: dict[str, pl.DataFrame] = {}
        rules: dict[str, Rule] = {"as it is": contradiction.held_back, "none": nothing, "worst held": the_worst_bar}
        for name, rule in rules.items():
            patch.setattr(contradiction, "held_back", rule)
            data, told = name.replace(" ", "-"), []
            for as_of in quarter_hours(ACTIVATED + BAR, LAST):
                live.exchange.now = as_of + timedelta(minutes=1)
                run_tick(Project(str(live.config_dir), str(folder / data)), as_of)
                # What each tick knew: a bar that is believed later changes the rows of before.
                told.append(live.lake(data).read("exit_state", span=Span(as_of - BAR, as_of)))
            lake = live.lake(data)
            found[name] = pl.concat(told)
            found[f"{name}: apart"] = lake.read("quarantine")
            found[f"{name}: candles"] = lake.read("candles", span=Span(ACTIVATED, LAST))
        return found


def at_the_close(live: Live, symbol: str) -> dict[str, object]:
    """A grid around the price at its activation."""
    price = live.exchange.candles[symbol].filter(pl.col("open_time") == ACTIVATED - BAR)["close"].item()
    return {
        "id": symbol.split("-")[0].lower(),
        "symbol": symbol,
        "enabled": True,
        "activated_at": iso(ACTIVATED),
        "lower": price * 0.95,
        "upper": price * 1.05,
        "stop": price * 0.92,
        "levels": 10,
        "capital": 1000,
    }


def first_exits(states: pl.DataFrame) -> dict[str, datetime]:
    exits = states.filter(pl.col("state") == "MANDATORY_EXIT").group_by("grid_id").agg(pl.col("as_of").min())
    return dict(exits.iter_rows())


def test_none_of_its_bars_is_held_back(crash: dict[str, pl.DataFrame]) -> None:
    candles = crash["as it is: candles"]
    assert candles.height == 14 * 12
    assert set(candles["status"]) == {"TRADED"}
    assert crash["as it is: apart"].is_empty()


def test_every_grid_is_left_at_the_same_bar_as_without_the_rules(crash: dict[str, pl.DataFrame]) -> None:
    exits = first_exits(crash["as it is"])
    assert len(exits) == 14
    assert exits == first_exits(crash["none"])
    assert set(exits.values()) == {WORST + BAR, WORST + 2 * BAR}


def test_the_comparison_would_notice_a_rule_that_holds_the_worst_bar(crash: dict[str, pl.DataFrame]) -> None:
    assert crash["worst held: apart"].height >= 14
    assert min(first_exits(crash["worst held"]).values()) > WORST + BAR
