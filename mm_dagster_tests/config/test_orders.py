"""orders.yaml: off unless it is written, and refused where a permission could mean something else than it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_dagster.config.errors import ConfigError
from mm_dagster.config.load import load
from mm_dagster.config.orders import OrdersConfig

MARKETS = """\
venues:
  kucoin:
    kind: ccxt
    exchange: kucoin
    account: {key_env: READ_KEY, secret_env: READ_SECRET, passphrase_env: READ_PASS}
markets:
  - {symbol: SOL-USDT, venue: kucoin}
"""
GRID = """\
id: sol-range
symbol: SOL-USDT
enabled: true
activated_at: 2026-06-01T00:00:00Z
lower: 140
upper: 180
levels: 20
stop: 130
capital: 1000
"""
KEY = "trade_key: {key_env: TRADE_KEY, secret_env: TRADE_SECRET, passphrase_env: TRADE_PASS}\n"


def folder(tmp_path: Path, orders: str) -> Path:
    (tmp_path / "markets.yaml").write_text(MARKETS)
    (tmp_path / "grids").mkdir(exist_ok=True)
    (tmp_path / "grids" / "sol-range.yaml").write_text(GRID)
    (tmp_path / "orders.yaml").write_text(orders)
    return tmp_path


def test_without_a_word_nothing_is_possible() -> None:
    orders = OrdersConfig()
    assert [orders.allows(mode) for mode in ("off", "paper", "test", "live")] == [False] * 4
    assert not orders.of("sol-range").allow


@pytest.mark.parametrize(
    ("mode", "allowed"), [("paper", ["paper"]), ("test", ["paper", "test"]), ("live", ["paper", "test", "live"])]
)
def test_each_mode_allows_those_before_it(mode: str, allowed: list[str], tmp_path: Path) -> None:
    orders = load(folder(tmp_path, f"mode: {mode}\n{KEY}")).orders
    assert [one for one in ("paper", "test", "live") if orders.allows(one)] == allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mode: live\n", "trade_key is missing: mode live needs a key that may trade, and not withdraw"),
        ("mode: on\n", "mode: 'on' is wrong"),
        ("mode: paper\ngrids: {sol-range: {allow: true}}\n", "max_notional is missing"),
        ("mode: paper\ngrids: {sol-rang: {allow: true, max_notional: 5}}\n", "did you mean sol-range"),
        ("mode: paper\nhard_bp: 10\n", "hard_bp 10 is below soft_bp 25"),
        ("mode: paper\nstyle: PASSIVE\n", "style: 'PASSIVE' is wrong"),
        (
            "mode: live\ntrade_key: {key_env: READ_KEY, secret_env: TRADE_SECRET}\n",
            "READ_KEY is of the key that reads the account of kucoin",
        ),
        (f"mode: live\n{KEY}".replace("{key", "{venue: kukoin, key"), "did you mean kucoin"),
        ("mode: live\ntrade_key: {key_env: 5f1e8a77b2c94d0e, secret_env: B}\n", "name of a variable"),
        ("mode: paper\nkill_fil: X\n", "unknown key; did you mean kill_file"),
    ],
)
def test_what_could_mean_something_else_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(folder(tmp_path, text))
    assert said in str(refused.value)
    assert "5f1e8a77b2c94d0e" not in str(refused.value)
