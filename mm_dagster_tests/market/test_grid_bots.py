"""OKX's spot grids through the real client: what is told, what is not believed, and what an error says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mm_dagster.config.markets import CcxtVenue
from mm_dagster.market.account import Credentials
from mm_dagster.market.connection import Retry
from mm_dagster.market.grid_bots import open_bots
from mm_dagster.market.grid_bots_okx import OkxGrids
from mm_dagster.market.venue import VenueError
from mm_dagster_tests.okx import DETAILS, KEY, LIST, PASSPHRASE, SECRET, Okx, grid

QUICK = Retry(attempts=3, first_wait=0.01, longest_wait=0.02, jitter=0.0)


@pytest.fixture
def okx() -> Iterator[Okx]:
    with Okx() as server:
        yield server


def reader(okx: Okx, key: Credentials | None = None, exchange: str = "okx") -> OkxGrids:
    settings = CcxtVenue(kind="ccxt", exchange=exchange, api_url=okx.url, requests_per_second=500)
    return OkxGrids("main", settings, key or Credentials(KEY, SECRET, PASSPHRASE), retry=QUICK)


@pytest.mark.parametrize("exchange", ["okx", "myokx", "okxus"])
def test_every_value_is_that_of_the_exchange(okx: Okx, exchange: str) -> None:
    okx.grids = [grid(1)]
    (found,) = reader(okx, exchange=exchange).running().grids
    assert found.bot_id == "448965992920907001"
    assert (found.symbol, found.state, found.spacing) == ("ETH-USDT", "running", "arithmetic")
    assert (found.lower, found.upper, found.levels, found.stop, found.capital) == (2800, 3200, 8, 2700, 1000)
    assert found.activated_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (found.grid_profit, found.total_pnl, found.inventory, found.cash, found.fills) == (
        12.5,
        9.4,
        0.15,
        512.3,
        17,
    )
    assert found.ended_by == ""


def test_a_stop_may_stand_among_the_triggers_and_a_take_profit_is_none(okx: Okx) -> None:
    above = {"triggerAction": "stop", "triggerStrategy": "price", "triggerPx": "3500"}
    below = {"triggerAction": "stop", "triggerStrategy": "price", "triggerPx": "2650"}
    start = {"triggerAction": "start", "triggerStrategy": "price", "triggerPx": "2600"}
    other = {"triggerAction": "stop", "triggerStrategy": "rsi", "triggerPx": "2500"}
    okx.grids = [
        grid(1, slTriggerPx="", triggerParams=[above, start, below, other]),
        grid(2, slTriggerPx="", triggerParams=[above, start]),
        grid(3, slTriggerPx="2900", triggerParams="none"),
        grid(4, slTriggerPx="2600", triggerParams=[below], runType="2"),
    ]
    found = reader(okx).running().grids
    assert [one.stop for one in found] == [2650, None, None, 2650]
    assert found[3].spacing == "geometric"


def test_pages_are_followed_and_each_grid_comes_once(okx: Okx) -> None:
    okx.grids = [grid(number) for number in range(250)]
    listed = reader(okx).running()
    assert len(listed.grids) == 250
    assert len({one.bot_id for one in listed.grids}) == 250
    pages = [query for path, query in okx.asked if path == LIST]
    assert [query.get("after") for query in pages] == [None, "448965992920907099", "448965992920907199"]
    # A server that gives the same page for ever does not hold the program.
    same = json.dumps({"code": "0", "data": [grid(number) for number in range(100)], "msg": ""})
    okx.asked.clear()
    okx.answers[LIST] = [(200, same)] * 50
    assert len(reader(okx).running().grids) == 100
    assert len([path for path, _ in okx.asked if path == LIST]) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"minPx": ""}, "minPx '' cannot be"),
        ({"minPx": "3300"}, "maxPx '3200' cannot be"),
        ({"maxPx": "NaN"}, "maxPx 'NaN' cannot be"),
        ({"gridNum": "7.5"}, "gridNum '7.5' cannot be"),
        ({"runType": "3"}, "runType '3' cannot be"),
        ({"investment": "0", "cTime": "12"}, "investment '0' cannot be; cTime '12' cannot be"),
        ({"instId": "ETH-USDT-SWAP"}, "its market 'ETH-USDT-SWAP' is no spot market"),
        ({"algoOrdType": "contract_grid"}, "it is no spot grid"),
        ({"investment": None}, "investment None cannot be"),
        ({"cTime": "1e999"}, "cTime '1e999' cannot be"),
    ],
)
def test_what_cannot_be_is_said_and_the_others_stand(okx: Okx, changes: dict[str, Any], says: str) -> None:
    okx.grids = [grid(1, **changes), grid(2)]
    listed = reader(okx).running()
    assert [one.bot_id for one in listed.grids] == ["448965992920907002"]
    assert listed.odd == (f"grid 448965992920907001: {says}",)
    with pytest.raises(VenueError, match="grid 448965992920907001"):
        reader(okx).one("448965992920907001")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, '{"code":"50119","data":[],"msg":"API key does not exist"}', "another of its sites (okx, myokx, okxus)"),
        (401, '{"code":"50119","data":[],"msg":"API key does not exist"}', "another of its sites (okx, myokx, okxus)"),
        (200, '{"code":"50120","data":[],"msg":"no permission"}', "make one with the permission Read"),
        (200, '{"code":"0","data":[{"algoId":"1","sCode":"51345","sMsg":"gone"}],"msg":""}', "(51345: gone)"),
        (200, '{"code":"0","data":[{"algoId":"1","sCode":"59999","sMsg":"odd"}],"msg":""}', "it refuses (59999: odd)"),
        (200, '{"code":"2","data":[{"sCode":"51000","sMsg":"partly"}],"msg":""}', "partly"),
        (200, '{"code":"0","data":{},"msg":""}', "an answer without content"),
        (200, '{"code":"0","data":["x"],"msg":""}', "an answer without content"),
        (200, "<html>maintenance</html>", "main (okx at http://127.0.0.1:"),
        (503, "", "not available"),
        (429, '{"code":"50011","data":[],"msg":"too many"}', "too many requests"),
    ],
)
def test_an_error_is_a_sentence_without_a_secret(okx: Okx, status: int, body: str, says: str) -> None:
    okx.answers[LIST] = [(status, body)] * 5
    with pytest.raises(VenueError) as found:
        reader(okx).running()
    line = str(found.value)
    assert says in line
    assert "\n" not in line
    for secret in (KEY, SECRET, PASSPHRASE):
        assert secret not in line


def test_what_passes_is_asked_again(okx: Okx) -> None:
    okx.grids = [grid(1)]
    okx.answers[LIST] = [(503, ""), (429, '{"code":"50011","data":[],"msg":"too many"}')]
    okx.answers[DETAILS] = [(500, "")]
    assert len(reader(okx).running().grids) == 1


def test_one_that_ended_between_two_questions_is_not_running(okx: Okx) -> None:
    okx.grids = [grid(1), grid(2)]
    ended = json.dumps({"code": "0", "data": [grid(1, state="stopped", cancelType="3")], "msg": ""})
    okx.answers[DETAILS] = [(200, ended)]
    assert [one.bot_id for one in reader(okx).running().grids] == ["448965992920907002"]
    okx.grids = [grid(1, state="stopped", cancelType="3")]
    assert reader(okx).one("448965992920907001").ended_by == "by its stop price"
    okx.answers[DETAILS] = [(200, '{"code":"0","data":[],"msg":""}')]
    with pytest.raises(VenueError, match="the exchange tells nothing of it"):
        reader(okx).one("7")


def test_what_is_wrong_before_anything_is_asked(okx: Okx) -> None:
    def opened(exchange: str, key: Credentials) -> None:
        open_bots("main", CcxtVenue(kind="ccxt", exchange=exchange, api_url=okx.url), key, retry=QUICK)

    with pytest.raises(VenueError, match="'kucoin' tells of no grids here; okx, myokx, okxus, bitget, bybit do"):
        opened("kucoin", Credentials(KEY, SECRET, PASSPHRASE))
    for exchange in ("okx", "bitget"):
        with pytest.raises(VenueError, match=f"{exchange} wants the passphrase"):
            opened(exchange, Credentials(KEY, SECRET))
    opened("bybit", Credentials(KEY, SECRET))
    with pytest.raises(VenueError, match="is no number of a grid; copy it from its page"):
        reader(okx).one("../x")
    assert okx.asked == []
    with pytest.raises(VenueError, match="does not know the key"):
        reader(okx, Credentials("another-key-0009", SECRET, PASSPHRASE)).running()
