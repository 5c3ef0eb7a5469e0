"""Bitget's and Bybit's spot grids through the real client: what is told, what is in doubt, what is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mm_dagster.config.grid import prices
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import Retry
from mm_dagster.market.grid_bots import GridBots, open_bots
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.bots import KEY, PASSPHRASE, SECRET, Bitget, Bybit, of_bitget, of_bybit

QUICK = Retry(attempts=2, first_wait=0.01, longest_wait=0.02, jitter=0.0)
ONE, OTHER = "1234567890", "612340768081708828"


@pytest.fixture
def bitget() -> Iterator[Bitget]:
    with Bitget() as server:
        server.bots[ONE] = of_bitget()
        yield server


@pytest.fixture
def bybit() -> Iterator[Bybit]:
    with Bybit() as server:
        server.bots[OTHER] = of_bybit()
        yield server


def reader(exchange: str, url: str, secret: str = SECRET) -> GridBots:
    settings = CcxtVenue(kind="ccxt", exchange=exchange, api_url=url, requests_per_second=500)
    return open_bots("main", settings, Credentials(KEY, secret, PASSPHRASE), retry=QUICK)


def test_every_value_is_that_of_bitget(bitget: Bitget) -> None:
    found = reader("bitget", bitget.url).one(ONE)
    assert (found.symbol, found.state, found.spacing, found.convention) == ("ETH-USDT", "running", "arithmetic", None)
    # 700 USDT and 0.1 ETH at 3,000.
    assert (found.lower, found.upper, found.levels, found.stop, found.capital) == (2800, 3200, 8, 2700, 1000)
    assert found.activated_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (found.grid_profit, found.total_pnl, found.inventory, found.cash) == (12.5, 9.4, 0.15, 512.3)
    assert (found.ended_at, found.ended_by, dict(found.doubts)) == (None, "", {})


def test_every_value_is_that_of_bybit(bybit: Bybit) -> None:
    found = reader("bybit", bybit.url).one(OTHER)
    assert (found.symbol, found.state, found.spacing, found.convention) == ("ETH-USDT", "running", None, "intervals")
    assert (found.lower, found.upper, found.levels, found.stop, found.capital) == (2800, 3200, 8, 2700, 1000)
    assert (found.grid_profit, found.total_pnl, found.maker_fee) == (61.3113, 40.4186, 0.0004)
    # What it holds it does not tell.
    assert (found.inventory, found.cash, found.fills) == (None, None, None)
    assert "spacing" in found.doubts


@pytest.mark.parametrize("spacing", ["arithmetic", "geometric"])
@pytest.mark.parametrize(("convention", "count"), [("intervals", 8), ("levels", 9)])
def test_what_bitget_counts_is_told_by_the_orders_that_wait(
    bitget: Bitget, spacing: Any, convention: Any, count: int
) -> None:
    bitget.bots[ONE] = of_bitget(gridOrderMode=spacing, gridNum=f"{count}")
    waiting = prices(2800, 3200, count, convention, spacing)
    bitget.orders[ONE] = [round(float(price), 2) for price in waiting if abs(price - 3000) > 30]
    bots = reader("bitget", bitget.url)
    assert bots.counted(bots.one(ONE)).convention == convention


@pytest.mark.parametrize("orders", [[], [2800.0], [2800.0, 3200.0], [2811.1, 2950.7]])
def test_orders_that_do_not_tell_leave_a_doubt(bitget: Bitget, orders: list[float]) -> None:
    bitget.orders[ONE] = orders
    bots = reader("bitget", bitget.url)
    found = bots.counted(bots.one(ONE))
    assert found.convention is None
    assert "counts intervals or prices" in found.doubts["convention"]


@pytest.mark.parametrize(
    ("status", "state", "over"),
    [
        ("init", "starting", False), ("waiting", "starting", False), ("terminating", "stopping", False),
        ("terminated", "stopped", True), ("dreaming", "unknown", False),
    ],
)  # fmt: skip
def test_states_of_bitget(bitget: Bitget, status: str, state: str, over: bool) -> None:
    bitget.bots[ONE] = of_bitget(status=status)
    found = reader("bitget", bitget.url).one(ONE)
    assert found.state == state
    # It ran for an hour.
    assert found.ended_at == (datetime(2026, 1, 1, 1, tzinfo=UTC) if over else None)


@pytest.mark.parametrize(
    ("status", "reason", "state", "by"),
    [
        ("NEW", "", "starting", ""), ("CANCELLING", "", "stopping", ""),
        ("COMPLETED", "CLOSED_STOP_LOSS", "stopped", "by its stop price"),
        ("COMPLETED", "CLOSED_MANUALLY", "stopped", "by hand"), ("COMPLETED", "CLOSE_TAX_TAG_CHANGE", "stopped", ""),
        ("REJECTED", "", "stopped", ""), ("", "", "unknown", ""),
    ],
)  # fmt: skip
def test_states_of_bybit(bybit: Bybit, status: str, reason: str, state: str, by: str) -> None:
    bybit.bots[OTHER] = of_bybit(status=status, close_reason=reason, end_time="1767232800000")
    found = reader("bybit", bybit.url).one(OTHER)
    assert (found.state, found.ended_by) == (state, by)
    assert found.ended_at == (datetime(2026, 1, 1, 2, tzinfo=UTC) if state == "stopped" else None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gridType": "long"}, "it is no spot grid"),
        ({"minPrice": "NaN"}, "minPrice 'NaN' cannot be"),
        ({"maxPrice": "2000"}, "maxPrice '2000' cannot be"),
        ({"gridNum": "7.5"}, "gridNum '7.5' cannot be"),
        ({"gridOrderMode": "linear"}, "gridOrderMode 'linear' cannot be"),
        ({"createdTime": "9"}, "createdTime '9' cannot be"),
        ({"symbol": "ETHXYZ", "quoteInvestmentCoin": ""}, "cannot be told apart into its two currencies"),
        ({"quoteInvestmentAmount": "0", "baseInvestmentAmount": ""}, "quoteInvestmentAmount '0' cannot be"),
        ({"botId": "9"}, "the exchange tells nothing of it"),
    ],
)
def test_what_bitget_tells_that_cannot_be_is_said(bitget: Bitget, changes: dict[str, Any], says: str) -> None:
    bitget.bots[ONE] = of_bitget(**changes)
    with pytest.raises(VenueError, match=says):
        reader("bitget", bitget.url).one(ONE)


def test_what_is_not_told_is_not_known(bitget: Bitget) -> None:
    bitget.bots[ONE] = of_bitget(
        currentBaseBalance="", currentQuoteBalance="-3", stopLoss="3000", gridStartPrice="", symbol="ETHUSDC",
        quoteInvestmentCoin="USDC",
    )  # fmt: skip
    found = reader("bitget", bitget.url).one(ONE)
    assert (found.inventory, found.cash, found.stop) == (None, None, None)
    # Bitget's profits are in USDT, the prices of this grid are not.
    assert (found.symbol, found.grid_profit, found.total_pnl) == ("ETH-USDC", None, None)
    assert "at which price is not told" in found.doubts["capital"]


@pytest.mark.parametrize(
    "body",
    [
        "<html>maintenance</html>",
        "[]",
        '{"code":"00000","data":null}',
        '{"code":"40037","msg":"key expired"}',
        "{}",
        "7",
    ],
)
def test_an_answer_of_bitget_that_is_none_is_an_error(bitget: Bitget, body: str) -> None:
    bitget.answers = [(200, body)] * 9
    with pytest.raises(VenueError, match=r"main \(bitget"):
        reader("bitget", bitget.url).one(ONE)


@pytest.mark.parametrize(
    "body",
    [
        "<html>maintenance</html>", "[]", "7", '{"retCode":0,"result":null}',
        '{"retCode":10003,"retMsg":"API key is invalid."}', '{"retCode":0,"result":{"status_code":200}}',
        '{"retCode":0,"result":{"status_code":421,"debug_msg":"banned"}}',
    ],
)  # fmt: skip
def test_an_answer_of_bybit_that_is_none_is_an_error(bybit: Bybit, body: str) -> None:
    bybit.answers = [(200, body)] * 9
    with pytest.raises(VenueError, match=r"main \(bybit"):
        reader("bybit", bybit.url).one(OTHER)


@pytest.mark.parametrize("exchange", ["bitget", "bybit"])
def test_a_wrong_key_and_an_unknown_number_are_said_without_a_secret(
    exchange: str, bitget: Bitget, bybit: Bybit
) -> None:
    url = bitget.url if exchange == "bitget" else bybit.url
    with pytest.raises(VenueError) as refused:
        reader(exchange, url, secret="another-secret-0009").one(ONE)
    assert "another-secret" not in str(refused.value)
    assert KEY not in str(refused.value)
    for number in ("99", "x; DROP", "../1"):
        with pytest.raises(VenueError, match=r"99|is no number of a grid"):
            reader(exchange, url).one(number)
    with pytest.raises(VenueError, match="lists no grids"):
        reader(exchange, url).running()
    assert (
        reader(exchange, url).fills(reader(exchange, url).one(ONE if exchange == "bitget" else OTHER), frozenset())
        is None
    )
