"""With no history a tick decides as if it had watched for a year: its first one fetches all that a decision needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, Span
from mm_dagster.tables import registry
from mm_dagster_tests.defs.live import CRASH_GRIDS, Live, grid_file, loopback

pytestmark = pytest.mark.slow

END = datetime(2025, 10, 12, tzinfo=UTC)
AS_OF = datetime(2025, 10, 10, 20, 45, tzinfo=UTC)
"""Half an hour before the flash crash, when something is to be decided."""
TABLES = ("regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(datetime(2025, 7, 1, tzinfo=UTC), id="since July"),
        pytest.param(datetime(2025, 1, 1, tzinfo=UTC), id="the year", marks=pytest.mark.long),
    ],
)
def homes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Iterator[Live]:
    """One home whose first tick it is, and one that has all candles since then."""
    kept = Span(request.param, END)
    with loopback(tmp_path_factory.mktemp("homes"), shared_data, ("ADA-USDT",), kept) as live:
        live.configure([grid_file("ada"), grid_file("waiting", **{**CRASH_GRIDS["ada"], "enabled": False})])
        live.tick(AS_OF, data="new", alerts=False)
        live.exchange.now = AS_OF + timedelta(minutes=1)
        live.backfill(f"{kept.start:%Y-%m-%d}", "2025-10-09", data="year")
        live.tick(AS_OF, data="year", alerts=False)
        yield live


@pytest.mark.parametrize("table", TABLES)
def test_the_first_tick_decides_bit_for_bit_what_a_year_of_history_decides(homes: Live, table: str) -> None:
    new, year = (homes.lake(data).read(table, span=Span(AS_OF - BAR, AS_OF)) for data in ("new", "year"))
    compared = [name for name in new.columns if name not in registry.LIVE_ONLY]
    assert new.height == year.height > 0
    assert_frame_equal(new.select(compared), year.select(compared), check_exact=True)


def test_nothing_of_the_decision_is_left_open(homes: Live) -> None:
    (state,) = homes.lake("new").read("exit_state", span=Span(AS_OF - BAR, AS_OF)).iter_rows(named=True)
    assert state["complete"]
    assert state["state"] is not None
    features = homes.lake("new").read("regime_features", span=Span(AS_OF - BAR, AS_OF))
    assert [name for name in features.columns if features[name].null_count()] == []


def test_the_first_day_fetched_what_it_needs_and_no_more(homes: Live) -> None:
    first = {
        data: homes.lake(data).read("candles").filter(pl.col("status") != "MISSING")["open_time"].min()
        for data in ("new", "year")
    }
    assert first["year"] == homes.exchange.candles["ADA-USDT"]["open_time"].min()
    assert timedelta(days=45) < AS_OF - first["new"] < timedelta(days=60)  # type: ignore[operator]
