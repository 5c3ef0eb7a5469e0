"""The sample of the requirements: a disabled grid far above the price gets no exit advice, and one quiet message."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_dagster.bars import Span
from mm_dagster_tests.defs.live import grid_file, loopback, quarter_hours

FIRST, LAST = datetime(2025, 2, 22, 10, 0, tzinfo=UTC), datetime(2025, 2, 22, 10, 45, tzinfo=UTC)


@pytest.mark.long
def test_a_disabled_grid_below_its_stop_is_told_of_once_and_never_exits(tmp_path: Path, shared_data: Path) -> None:
    kept = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 25, tzinfo=UTC))
    sample = grid_file(
        "eth-v3", symbol="ETH-USDT", enabled=False, activated_at="2025-02-20", lower=3070, upper=3185, stop=2990,
        levels=6, capital=769.02,
    )  # fmt: skip
    with loopback(tmp_path, shared_data, ("ETH-USDT",), kept) as live:
        live.configure([sample])
        for as_of in quarter_hours(FIRST, LAST):
            live.tick(as_of)
        lake = live.lake()
        risk = lake.read("grid_risk", grids=["eth-v3"]).row(-1, named=True)
        assert 2600 < risk["price"] < 2800
        assert risk["position_health"] == "BELOW_GRID"
        assert risk["stop_loss_risk"] == "BREACHED"
        assert risk["risk_level"] == "CRITICAL"
        assert lake.read("exit_state").is_empty()
        assert lake.read("entry_assessment")["advice"].unique().to_list() == ["WAIT"]
        ledger = lake.read("notification")
        assert ledger["kind"].to_list() == ["ENTRY"]
        (message,) = live.pushover.messages
        assert message["title"] == "Entry: WAIT · eth-v3 ETH-USDT"
        assert message["priority"] == "-1"
        assert "below its stop" in message["message"]
