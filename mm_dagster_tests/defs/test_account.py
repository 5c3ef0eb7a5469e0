"""With a read-only key: from the exchange's answers to what a grid holds, and what of it is told where."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.grid.replay import terms_of
from mm_dagster_tests.defs.live import Live, grid_file, loopback
from mm_dagster_tests.kucoin import fill, order

ACTIVATED = datetime(2025, 10, 9, 21, 15, tzinfo=UTC)
FIRST = datetime(2025, 10, 9, 21, 30, tzinfo=UTC)
KEYS = {"key_env": "MM_KEY", "secret_env": "MM_SECRET", "passphrase_env": "MM_PASSPHRASE"}


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Live]:
    """Two ticks of one grid whose account bought what the grid buys at its activation, and one with a wrong key."""
    kept = Span(datetime(2025, 8, 1, tzinfo=UTC), datetime(2025, 10, 13, tzinfo=UTC))
    before = dict(os.environ)
    with loopback(tmp_path_factory.mktemp("account"), shared_data, ("ETH-USDT",), kept) as live:
        account = live.exchange.account
        os.environ |= {"MM_KEY": account.key, "MM_SECRET": account.secret, "MM_PASSPHRASE": account.passphrase}
        venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": live.exchange.url, "account": KEYS}
        markets = {
            "venues": {"main": venue},
            "markets": [{"symbol": "ETH-USDT", "venue": "main"}],
            "candles": {"late_bar_wait_seconds": 0},
        }
        live.configure([grid_file("eth")], markets=markets)
        grid = GridConfig.model_validate(grid_file("eth"))
        close = live.exchange.candles["ETH-USDT"].filter(pl.col("open_time") == ACTIVATED - BAR)["close"][0]
        levels = grid.prices
        cell = terms_of(grid, close).held
        bought = ACTIVATED + timedelta(minutes=1)
        account.fills = [_fill(k, bought, close, cell) for k, level in enumerate(levels[:-1]) if level >= close]
        account.orders = [order(9, "ETH-USDT", "buy", f"{levels[0]}", f"{cell}")]
        account.balances = {"USDT": ("200", "300"), "ETH": ("0", f"{cell * len(account.fills)}")}
        try:
            live.tick(FIRST)
            live.tick(FIRST + BAR)
            account.passphrase = "another-since"
            live.tick(FIRST + 2 * BAR)
            yield live
        finally:
            os.environ.clear()
            os.environ.update(before)


def _fill(number: int, at: datetime, price: float, size: float) -> dict[str, Any]:
    milliseconds = int(at.timestamp() * 1000)
    paid = price * size
    amounts = {"price": f"{price}", "size": f"{size}", "funds": f"{paid}", "fee": f"{paid * 0.001}"}
    return fill(number, "ETH-USDT", milliseconds, orderId=f"{number:024x}", **amounts)


def test_the_account_says_what_is_free_beyond_what_its_grids_need(live: Live) -> None:
    first, second = live.lake().read("account_snapshot").sort("as_of").head(2).to_dicts()
    assert (first["quote_currency"], first["required_reserve"]) == ("USDT", None)
    needed = live.lake().read("grid_risk").filter(pl.col("as_of") == FIRST)["required_cash"][0]
    assert second["quote_currency"] == "USDT"
    assert second["required_reserve"] == needed > 0
    # 200 are free, and 300 wait in orders already.
    assert second["deployable_capital"] == pytest.approx(max(0.0, 200 - max(0.0, needed - 300)))


def test_the_position_is_that_of_the_account(live: Live) -> None:
    rows = live.lake().read("grid_risk").filter(pl.col("as_of") >= FIRST)
    assert rows["source"].to_list()[:2] == ["ACCOUNT", "ACCOUNT"]
    fills = live.exchange.account.fills
    assert rows["fills"].to_list()[:2] == [len(fills)] * 2
    assert rows["inventory"][1] == pytest.approx(sum(float(fill["size"]) for fill in fills))
    assert rows["total_pnl"][1] == pytest.approx(rows["liquidation_value"][1] - 1000)
    assert rows["capital_at_risk"][1] > 0


def test_every_fill_is_stored_once(live: Live) -> None:
    snapshots = live.lake().read("account_snapshot")
    assert snapshots["fills"].list.len().to_list() == [len(live.exchange.account.fills), 0, 0]
    assert snapshots["complete"].to_list() == [True, True, False]
    assert snapshots["open_orders"].list.len().to_list()[0] == 1


def test_a_key_that_is_refused_leaves_what_was_known_and_says_what_to_do(live: Live) -> None:
    detail = live.lake().read("account_snapshot")["detail"][2]
    assert "MM_PASSPHRASE" in detail
    rows = live.lake().read("grid_risk").filter(pl.col("as_of") == FIRST + 2 * BAR)
    assert rows["source"].to_list() == ["ACCOUNT"]
    assert live.lake().read("exit_state").filter(pl.col("as_of") == FIRST + 2 * BAR).height == 1


def test_balances_stay_out_of_git_unless_they_are_wanted_there(live: Live) -> None:
    (file,) = (live.folder / "data" / "mirror").glob("metrics/2025/10/09/2145_*.yaml")
    told = yaml.safe_load(file.read_text())
    # What the account holds is not told under another name either; what waits to be bought is modelled.
    summary = told["account_summary"]
    assert summary["required_reserve"] > 0
    unknown = ("total", "available", "locked", "deployable_capital")
    assert summary == {"source": "MODELLED", **dict.fromkeys(unknown), "required_reserve": summary["required_reserve"]}
    metrics = told["grid_analysis"][0]["risk_metrics"]
    assert metrics["source"] == "ACCOUNT"
    private = ("inventory", "cash", "capital_at_risk", "capital_at_risk_weighted", "profit_giveback")
    assert [metrics[name] for name in private] == [None] * len(private)
    assert metrics["p_stop_24h"] is not None


def test_the_doctor_names_the_variable_of_the_part_that_is_refused(live: Live) -> None:
    said = json.loads(live.mm("doctor", "--json").stdout)
    (line,) = (line for line in said if line["part"] == "account main")
    assert line["result"] == "TO DO"
    assert "MM_PASSPHRASE" in line["detail"]


def test_no_secret_is_written_anywhere(live: Live) -> None:
    secrets = [b"secret-a1b2-c3d4", b"passphrase-9z8y", b"key-5f1e"]
    files = [path for path in (live.folder / "data").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files for secret in secrets if secret in path.read_bytes()]
