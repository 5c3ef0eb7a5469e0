"""A row that the tick wrote and the same row backfilled later are the same bits, in every column but the live-only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from mm_dagster.bars import Span
from mm_dagster.tables import registry
from mm_dagster_tests.defs.live import CRASH_GRIDS, flash_crash, grid_file, quarter_hours

DAY = Span(datetime(2025, 10, 10, tzinfo=UTC), datetime(2025, 10, 11, tzinfo=UTC))


@pytest.mark.parametrize(
    ("symbols", "first", "last"),
    [
        pytest.param(
            ("ADA-USDT",),
            datetime(2025, 10, 10, 20, 45, tzinfo=UTC),
            datetime(2025, 10, 10, 21, 0, tzinfo=UTC),
            id="the crash",
        ),
        pytest.param(
            ("ETH-USDT", "SOL-USDT", "ADA-USDT"),
            datetime(2025, 10, 10, 0, 15, tzinfo=UTC),
            datetime(2025, 10, 11, 0, 0, tzinfo=UTC),
            id="the whole day",
            marks=pytest.mark.long,
        ),
    ],
)
def test_ticks_and_one_backfill_write_the_same_bits(
    tmp_path: Path, shared_data: Path, symbols: tuple[str, ...], first: datetime, last: datetime
) -> None:
    grids = [grid_file(name) for name, grid in CRASH_GRIDS.items() if grid["symbol"] in symbols]
    # A grid that waits, so that entry assessments are compared as well.
    grids.append(grid_file("waiting", **{**CRASH_GRIDS["ada"], "enabled": False}))
    with flash_crash(tmp_path, shared_data, symbols) as live:
        live.configure(grids)
        for as_of in quarter_hours(first, last):
            live.tick(as_of, data="ticks", alerts=False)
        live.exchange.now = datetime(2025, 10, 12, tzinfo=UTC)
        live.backfill("2025-10-10", "2025-10-10", data="backfill")
        span = Span(first.replace(hour=0, minute=0), last)
        for table in ("candles", "regime_features", "regime_verdict", "grid_risk", "exit_state", "entry_assessment"):
            ticked = live.lake("ticks").read(table, span=span)
            filled = live.lake("backfill").read(table, span=span)
            compared = [name for name in ticked.columns if name not in registry.LIVE_ONLY]
            assert ticked.height == filled.height > 0, table
            assert_frame_equal(ticked.select(compared), filled.select(compared), check_exact=True)


@pytest.mark.long
def test_a_missed_tick_heals_itself(tmp_path: Path, shared_data: Path) -> None:
    with flash_crash(tmp_path, shared_data, ("ADA-USDT",)) as live:
        live.configure([grid_file("ada")])
        for as_of in (datetime(2025, 10, 10, 18, 0, tzinfo=UTC), datetime(2025, 10, 10, 21, 0, tzinfo=UTC)):
            live.tick(as_of, alerts=False)
        states = live.lake().read("exit_state", grids=["ada"])
        assert states["as_of"].to_list() == quarter_hours(
            datetime(2025, 10, 9, 21, 15, tzinfo=UTC), datetime(2025, 10, 10, 21, 0, tzinfo=UTC)
        )
