"""The demo's data folder, then a real exchange with the same grids, symbols and venue: nothing made up is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.market.simulated import simulate
from mm_dagster.pipeline.notify import notify_failures, send_due
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.ticks import run_tick
from mm_dagster.pipeline.venues import Venues
from mm_dagster_tests.kucoin import KucoinServer
from mm_dagster_tests.pipeline.recordings import configure, grid
from mm_dagster_tests.pushover import PushoverServer

ETH, SOL = "ETH-USDT", "SOL-USDT"


@pytest.mark.long
def test_nothing_of_the_simulated_era_reaches_a_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of = floor_bar(datetime.now(UTC))
    rows = simulate(ETH, Span(as_of - timedelta(days=55), as_of + BAR))
    # The stop is above the price: an emergency on both markets.
    price = float(rows["close"][-1]) * 1.3
    danger = grid("g", ETH, price, activated_at=(as_of - 20 * BAR).isoformat())
    folder = tmp_path / "configuration"
    with KucoinServer({ETH: rows}, as_of + timedelta(minutes=1)) as exchange, PushoverServer() as pushover:
        monkeypatch.setenv("PUSHOVER_TOKEN", pushover.token)
        monkeypatch.setenv("PUSHOVER_USER", pushover.user)

        def project() -> Project:
            return Project(str(folder), str(tmp_path / "data"))

        configure(folder, [danger], {"main": {"kind": "simulated"}}, {ETH: "main"})
        (folder / "alerts.yaml").write_text(yaml.safe_dump({"pushover": {"api_url": pushover.api_url}}))
        run_tick(project(), as_of)
        assert project().lake.read("exit_state")["state"][-1] == "MANDATORY_EXIT"
        _, ledger = send_due(project(), "simulated", as_of)
        notify_failures(project(), [("grid_risk", "it broke")], "run-1")
        made_up = set(project().lake.read("notification")["alert_id"])
        assert made_up
        assert "SIMULATED" in ledger["title"][0]
        assert pushover.requests == []

        kucoin = {"kind": "ccxt", "exchange": "kucoin", "api_url": exchange.url}
        configure(folder, [danger], {"main": kucoin}, {ETH: "main"})
        send_due(project(), "switched", None)
        assert not [one for one in pushover.messages if "MANDATORY" in one["title"] + one["message"]]
        run_tick(project(), as_of)
        lake = project().lake
        assert lake.read("candles")["source"].unique().to_list() == ["ccxt:kucoin"]
        assert lake.read("candles", span=Span(as_of - 40 * BAR, as_of))["observed_at"].null_count() == 0
        send_due(project(), "real", None)
        rings = [one for one in pushover.messages if one["priority"] == "2"]
        assert len(rings) == 1
        assert "SIMULATED" not in rings[0]["title"]
        told = lake.read("notification")
        assert made_up.isdisjoint(told["alert_id"])

        # And back: what was told of the exchange is not continued as a simulated market's.
        count = len(pushover.messages)
        configure(folder, [danger], {"main": {"kind": "simulated"}}, {ETH: "main"})
        assert project().lake.read("exit_state").filter(pl.col("as_of") == as_of).is_empty()
        run_tick(project(), as_of)
        send_due(project(), "back", as_of)
        assert len(pushover.messages) == count


def test_a_failure_of_simulated_markets_alone_is_told_to_nobody_beside_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "configuration"
    with PushoverServer() as pushover:
        monkeypatch.setenv("PUSHOVER_TOKEN", pushover.token)
        monkeypatch.setenv("PUSHOVER_USER", pushover.user)
        recorded = {"kind": "recorded", "path": "../recordings"}
        venues: dict[str, object] = {
            "real": {"kind": "ccxt", "exchange": "kucoin", "api_url": "http://127.0.0.1:1"},
            "demo": {"kind": "simulated"},
            "files": recorded,
        }
        configure(folder, [grid("g", SOL, 100.0)], venues, {ETH: "real", SOL: "demo", "ADA-USDT": "files"})
        (folder / "alerts.yaml").write_text(yaml.safe_dump({"pushover": {"api_url": pushover.api_url}}))
        project = Project(str(folder), str(tmp_path / "data"))
        monkeypatch.setattr(Venues, "real_clock", lambda self: datetime.now(UTC))
        assert notify_failures(project, [("grid_risk", "it broke")], "run-1", [SOL]) == 0
        assert notify_failures(project, [("candles", "The newest bar of SOL-USDT, ADA-USDT is older")], "run-2") == 0
        assert notify_failures(project, [("exit_state", "No state for g.")], "run-3") == 0
        assert pushover.messages == []
        assert notify_failures(project, [("candles", "The newest bar of ETH-USDT, SOL-USDT is older")], "run-4") == 1
        assert notify_failures(project, [("grid_risk", "no space left on device")], "run-5") == 1
        assert len(pushover.messages) == 2
