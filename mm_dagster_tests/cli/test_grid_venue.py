"""A venue comes into markets.yaml without an editor, with its key's variables; a dead one is said within seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config.load import load
from mm_dagster.config.markets import AccountKeys, CcxtVenue
from mm_dagster.market.simulated import SimulatedMarket, simulate
from mm_dagster.pipeline import grid_market
from mm_dagster_tests.cli.given_grids import MARKETS, QUIETLY, SOL, Call, bytes_of
from mm_dagster_tests.kucoin import TIMESTAMP, Fault, KucoinServer
from mm_dagster_tests.okx import KEY, PASSPHRASE, SECRET, Okx, grid

FLOW = "venues: {main: {kind: simulated}}   # mine\nmarkets: [{symbol: ETH-USDT, venue: main}]\n"
NAMES = {"OKX_API_KEY": KEY, "OKX_API_SECRET": SECRET, "OKX_API_PASSPHRASE": PASSPHRASE}


def markets_file(folder: Path) -> Path:
    return folder / "configuration" / "markets.yaml"


@pytest.mark.parametrize("text", [MARKETS, FLOW])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_an_exchange_that_is_new_becomes_a_venue_and_comments_and_line_ends_stay(
    mm: Call, folder: Path, text: str, ends: str
) -> None:
    markets_file(folder).write_bytes(text.replace("\n", ends).encode())
    code, _, err = mm("add", *SOL, "--venue", "Kraken", *QUIETLY)
    assert code == 0, err
    config = load(folder / "configuration")
    assert config.market("SOL-USDT").settings == CcxtVenue(kind="ccxt", exchange="kraken")
    assert config.market("ETH-USDT").is_simulated
    assert "kraken is new: it goes into markets.yaml as a venue of that name" in err
    now = markets_file(folder).read_bytes().decode()
    assert all(comment in now for comment in re.findall(r"#[^\r\n]*", text))
    assert now.count("\n") == now.count(ends)


def test_an_exchange_that_is_there_is_taken_by_its_name_in_the_file(mm: Call, folder: Path) -> None:
    text = MARKETS.replace("{kind: simulated}", "{kind: ccxt, exchange: kraken}")
    markets_file(folder).write_text(text)
    code, _, err = mm("add", *SOL, "--venue", "kraken", *QUIETLY)
    assert code == 0, err
    assert "kraken is main in markets.yaml" in err
    assert load(folder / "configuration").market("SOL-USDT").venue == "main"
    text = markets_file(folder).read_text()
    markets_file(folder).write_text(text.replace("  main:", "  other: {kind: ccxt, exchange: kraken}\n  main:"))
    before = bytes_of(folder)
    code, _, err = mm("add", *SOL, "--symbol", "ADA-USDT", "--venue", "kraken", *QUIETLY)
    assert (code, bytes_of(folder)) == (1, before)
    assert "other, main of markets.yaml are at kraken; name one of them" in err


def test_where_there_are_several_a_person_may_name_one_that_is_new(mm: Call, folder: Path) -> None:
    markets_file(folder).write_text(MARKETS.replace("  main:", "  other: {kind: simulated}\n  main:"))
    # Convention, spacing and fee as usual; a venue that is none; one that is new; yes.
    code, _, err = mm("add", *SOL, "--no-fetch", types="\n\n\nkrakne\nkraken\ny\n")
    assert code == 0, err
    assert "Venue of SOL-USDT: other, main, or ccxt's name of an exchange" in err
    assert "'krakne' is no venue of markets.yaml, nor an exchange that ccxt knows; did you mean kraken" in err
    assert load(folder / "configuration").market("SOL-USDT").venue == "kraken"


OF_OKX = (
    "mine: {{kind: ccxt, exchange: okx, api_url: '{url}'}}   # mine",
    "mine:   # mine\n    kind: ccxt\n    exchange: okx\n    api_url: '{url}'",
)


@pytest.mark.parametrize("venue", OF_OKX)
def test_the_variables_of_a_key_come_into_the_file_and_the_key_does_not(
    mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, venue: str
) -> None:
    with Okx(grids=[grid(1)]) as okx:
        text = f"venues:\n  {venue.format(url=okx.url)}\nmarkets:\n  - {{symbol: ETH-USDT, venue: mine}}\n"
        markets_file(folder).write_text(text)
        (folder / "configuration" / "grids" / "eth.yaml").unlink()
        monkeypatch.setenv("OKX_API_KEY", KEY)
        before = bytes_of(folder)
        code, _, err = mm("add", "--from", "okx", *QUIETLY)
        assert (code, bytes_of(folder)) == (1, before)
        assert "(OKX_API_SECRET, OKX_API_PASSPHRASE are not set)" in err
        assert okx.asked == []
        for name, value in NAMES.items():
            monkeypatch.setenv(name, value)
        code, _, err = mm("add", "--from", "okx", *QUIETLY)
    assert code == 0, err
    assert "its key is read from OKX_API_KEY, OKX_API_SECRET and OKX_API_PASSPHRASE" in err
    settings = load(folder / "configuration").markets.venues["mine"]
    assert isinstance(settings, CcxtVenue)
    assert settings.account == AccountKeys(
        key_env="OKX_API_KEY", secret_env="OKX_API_SECRET", passphrase_env="OKX_API_PASSPHRASE"
    )
    now = markets_file(folder).read_text()
    assert "# mine" in now
    assert not any(secret in now + err for secret in NAMES.values())


def test_a_venue_that_is_dead_is_asked_once_or_twice_and_not_waited_for_again(mm: Call, folder: Path) -> None:
    now = datetime.now(UTC)
    span = Span(floor_bar(now) - 10 * BAR, floor_bar(now) + BAR)
    with KucoinServer({"SOL-USDT": simulate("SOL-USDT", span)}, now) as server:
        server.faults = [Fault(hang_up=True, path="") for _ in range(50)]
        markets_file(folder).write_text(
            MARKETS.replace("{kind: simulated}", f"{{kind: ccxt, exchange: kucoin, api_url: '{server.url}'}}")
        )
        code, _, err = mm("add", *SOL, "--yes")
        asked = [request.path for request in server.requests]
    assert code == 1
    assert set(asked) == {TIMESTAMP}
    assert len(asked) <= 2
    assert err.index("asking main for SOL-USDT") < err.index("no answer: main (kucoin at ") < err.index("written: ")
    assert "sol-1 is written and watched, but not judged yet: main (kucoin at " in err.splitlines()[-1]


def test_ctrl_c_says_what_stays_and_how_to_go_on(mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    before = bytes_of(folder)
    with monkeypatch.context() as broken:
        broken.setattr(grid_market, "price_of", interrupted)
        code, _, err = mm("add", *SOL, "--yes")
        assert (code, bytes_of(folder)) == (130, before)
        assert err.splitlines()[-1] == "stopped; nothing was written"
    monkeypatch.setattr(grid_market, "judge_now", interrupted)
    price = SimulatedMarket("main").last_prices(["SOL-USDT"])["SOL-USDT"]
    assert price is not None
    bounds = [f"{price * share:.2f}" for share in (0.8, 1.2, 0.7)]
    code, _, err = mm("add", *SOL, "--lower", bounds[0], "--upper", bounds[1], "--stop", bounds[2], "--yes")
    assert code == 130, err
    assert err.splitlines()[-1] == "stopped; sol-1 is written and watched; `mm tick` goes on from what was fetched"
    assert "sol-1" in {one.id for one in load(folder / "configuration").grids}
