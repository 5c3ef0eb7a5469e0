"""A running grid of OKX is added without typing its values: the real client, a server that verifies signatures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mm_dagster import cli
from mm_dagster.cli import grid as command
from mm_dagster.config.load import load
from mm_dagster_tests import bots
from mm_dagster_tests.bots import Bitget, Bybit
from mm_dagster_tests.okx import DETAILS, KEY, LIST, PASSPHRASE, SECRET, Okx, grid

FIRST = "448965992920907001"
SECOND = "448965992920907002"
Said = tuple[int, str, str]
Call = Callable[..., Said]


@pytest.fixture
def okx() -> Iterator[Okx]:
    with Okx() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, okx: Okx) -> Path:
    (tmp_path / "configuration" / "grids").mkdir(parents=True)
    (tmp_path / "configuration" / "markets.yaml").write_text(
        "venues:\n"
        f"  mine: {{kind: ccxt, exchange: okx, api_url: '{okx.url}', requests_per_second: 500,\n"
        "    account: {key_env: OKX_KEY, secret_env: OKX_SECRET, passphrase_env: OKX_PASSPHRASE}}\n"
        "  play: {kind: simulated}   # nothing is real\n"
        f"  keyless: {{kind: ccxt, exchange: okx, api_url: '{okx.url}'}}\n"
        "markets:\n  - {symbol: BTC-USDT, venue: play}\n"
    )
    return tmp_path


@pytest.fixture
def mm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """`mm grid add` in this process, at once written and not fetched: exit code, stdout and stderr."""
    for name, value in {"OKX_KEY": KEY, "OKX_SECRET": SECRET, "OKX_PASSPHRASE": PASSPHRASE}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MM_CONFIG_DIR", str(folder / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(folder / "data"))

    def call(*arguments: str, types: str | None = None) -> Said:
        cli.project_here.cache_clear()
        monkeypatch.setattr("sys.argv", ["mm", "grid", "add", "--no-fetch", *arguments])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((types or "").encode())))
        monkeypatch.setattr(command, "_is_terminal", lambda: types is not None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        for secret in (KEY, SECRET, PASSPHRASE):
            assert secret not in said.out + said.err
        return end.value.code, said.out, said.err

    yield call
    cli.project_here.cache_clear()


def written(folder: Path) -> list[Path]:
    return sorted((folder / "configuration" / "grids").iterdir())


def test_the_only_grid_that_runs_is_taken_as_the_exchange_tells_it(mm: Call, okx: Okx, folder: Path) -> None:
    okx.grids = [grid(1, gridNum="20", minPx="2812.5", maxPx="3187.25", investment="1234.56")]
    code, out, err = mm("--from", "mine", "--yes", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    (made,) = load(folder / "configuration").grids
    assert (made.id, made.symbol, made.lower, made.upper, made.levels) == (row["id"], "ETH-USDT", 2812.5, 3187.25, 20)
    assert (made.level_convention, made.spacing, made.stop, made.capital) == ("intervals", "arithmetic", 2700, 1234.56)
    assert made.activated_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert load(folder / "configuration").market("ETH-USDT").venue == "mine"
    assert "one that waited for its trigger began later" in err
    # From now on the tick reads it there.
    assert made.source is not None
    assert (made.source.exchange, made.source.id) == ("mine", FIRST)
    assert row["source"] == {"exchange": "mine", "id": FIRST}


def test_of_several_one_is_named_and_nothing_is_guessed(mm: Call, okx: Okx, folder: Path) -> None:
    okx.grids = [grid(1), grid(2, instId="SOL-USDT", minPx="120", maxPx="140", slTriggerPx="112", gridNum="6")]
    code, _, err = mm("--from", "mine", "--yes")
    assert code == 1
    assert FIRST in err
    assert SECOND in err
    assert "name the number of one" in err
    assert written(folder) == []
    code, _, err = mm("--from", "mine", SECOND, "--bot", FIRST, "--yes")
    assert (code, "are two; name one" in err) == (1, True)
    code, _, err = mm("--from", "mine", SECOND, "--yes")
    assert code == 0, err
    assert [one.symbol for one in load(folder / "configuration").grids] == ["SOL-USDT"]


def test_a_person_is_asked_which_one_and_for_what_is_not_told(mm: Call, okx: Okx, folder: Path) -> None:
    okx.grids = [grid(1), grid(2, instId="SOL-USDT", minPx="120", maxPx="140", slTriggerPx="", gridNum="6")]
    # The number, one that is none first; the stop; the fee as usual; yes.
    code, _, err = mm("--from", "mine", types=f"7\n{SECOND}\n112\n\ny\n")
    assert code == 0, err
    (made,) = load(folder / "configuration").grids
    assert (made.symbol, made.stop) == ("SOL-USDT", 112)
    assert "the exchange holds none below the grid" in err


def test_flags_win_and_a_stop_that_is_not_told_is_asked_for(mm: Call, okx: Okx, folder: Path) -> None:
    okx.grids = [grid(1, slTriggerPx="")]
    code, _, err = mm("--from", "mine", "--yes")
    assert code == 1
    assert "--stop" in err
    assert written(folder) == []
    code, _, err = mm("--from", "mine", "--yes", "--stop", "2650", "--activated", "2026-01-02T03:00Z")
    assert code == 0, err
    (made,) = load(folder / "configuration").grids
    assert (made.stop, made.activated_at.isoformat()) == (2650, "2026-01-02T03:00:00+00:00")


def test_a_market_that_is_watched_elsewhere_stays_there_and_that_is_said(mm: Call, okx: Okx, folder: Path) -> None:
    okx.grids = [grid(1, instId="BTC-USDT", minPx="80000", maxPx="90000", slTriggerPx="76000")]
    code, _, err = mm("--from", "mine", "--yes")
    assert "BTC-USDT is watched on play already" in err
    # The simulated price is far from these bounds: refused, and nothing is written.
    assert code in (0, 1)
    assert len(written(folder)) == (1 if code == 0 else 0)
    assert load(folder / "configuration").market("BTC-USDT").venue == "play"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grids", "arguments", "says"),
    [
        ([], ("--from", "mine"), "no spot grid runs on mine"),
        ([{"state": "stopping"}], ("--from", "mine"), "is stopping"),
        ([{"state": "stopped", "cancelType": "3"}], ("--from", "mine", "--bot", FIRST), "ended by its stop price"),
        ([{"state": "starting"}], ("--from", "mine"), "--activated"),
        ([{"minPx": "-1"}], ("--from", "mine"), "no spot grid runs on mine"),
        ([{"minPx": "NaN"}], ("--from", "mine", "--bot", FIRST), "minPx 'NaN' cannot be"),
        ([{}], ("--from", "mine", "--bot", "9"), "tells nothing of it"),
        ([{}], ("--from", "mine", "--bot", "x; DROP"), "is no number of a grid"),
        ([{}], ("--from", "mien"), "nor an exchange that ccxt knows; did you mean mine"),
        ([{}], ("--from", "play"), "use --paste"),
        ([{}], ("--from", "keyless"), "keyless has no key"),
        ([{}], ("--bot", FIRST), "--from says of which"),
        ([{}], ("--from", "mine", "--paste", "page.txt"), "give one of them"),
        ([{"slTriggerPx": "2800"}], ("--from", "mine"), "--stop"),
        ([{"maxPx": "2801"}], ("--from", "mine"), "use fewer levels or wider bounds"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_said_and_nothing_is_written(
    mm: Call, okx: Okx, folder: Path, grids: list[dict[str, Any]], arguments: tuple[str, ...], says: str
) -> None:
    okx.grids = [grid(1, **one) for one in grids]
    before = (folder / "configuration" / "markets.yaml").read_bytes()
    code, _, err = mm(*arguments, "--yes")
    assert code == 1, err
    assert says in err
    assert "Traceback" not in err
    assert written(folder) == []
    assert (folder / "configuration" / "markets.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (DETAILS, 200, '{"code":"0","msg":"","data":[{"sCode":"51345","sMsg":"not there"}]}'),
        (LIST, 401, '{"code":"50119","msg":"API key does not exist","data":[]}'),
        (LIST, 200, '{"code":"50120","msg":"no permission","data":[]}'),
        (LIST, 200, "<html>maintenance</html>"),
        (DETAILS, 200, '{"code":"0","data":null}'),
    ],
)
def test_an_exchange_that_refuses_or_talks_nonsense_writes_nothing(
    mm: Call, okx: Okx, folder: Path, path: str, status: int, body: str
) -> None:
    okx.grids = [grid(1)]
    okx.answers[path] = [(status, body)] * 20
    code, _, err = mm("--from", "mine", "--yes")
    assert code == 1
    assert err.strip()
    assert "Traceback" not in err
    assert written(folder) == []


def test_a_key_that_is_not_set_is_named(mm: Call, okx: Okx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OKX_SECRET")
    code, _, err = mm("--from", "mine", "--yes")
    assert code == 1
    assert "OKX_SECRET is not set" in err


def test_a_grid_of_bitget_and_one_of_bybit_are_added_by_their_numbers(mm: Call, folder: Path) -> None:
    with Bitget() as bitget, Bybit() as bybit:
        path = folder / "configuration" / "markets.yaml"
        account = "account: {key_env: BOTS_KEY, secret_env: BOTS_SECRET, passphrase_env: BOTS_PASSPHRASE}"
        for name, server in {"bitget": bitget, "bybit": bybit}.items():
            venue = f"  {name}: {{kind: ccxt, exchange: {name}, api_url: '{server.url}', {account}}}\n"
            path.write_text(path.read_text().replace("venues:\n", "venues:\n" + venue))
        keys = {"BOTS_KEY": bots.KEY, "BOTS_SECRET": bots.SECRET, "BOTS_PASSPHRASE": bots.PASSPHRASE}
        with pytest.MonkeyPatch.context() as patched:
            for name, value in keys.items():
                patched.setenv(name, value)
            code, _, err = mm("--from", "bitget", "--yes")
            assert (code, "bitget lists no grids; name one by the number on its page" in err) == (1, True)
            bitget.bots["77"] = bots.of_bitget("77")
            bitget.orders["77"] = [2850.0, 2900.0, 3050.0, 3150.0]
            code, _, err = mm("--from", "bitget", "77", "--yes")
            assert code == 0, err
            # Bybit does not tell how its prices are spaced: with --yes that is refused, and a flag says it.
            bybit.bots["88"] = bots.of_bybit(
                "88", base_token="SOL", min_price="120", max_price="140", stop_loss_price="112"
            )
            code, _, err = mm("--from", "bybit", "88", "--yes")
            assert (code, "--spacing" in err) == (1, True), err
            code, _, err = mm("--from", "bybit", "88", "--yes", "--spacing", "geometric")
            assert code == 0, err
    eth, sol = load(folder / "configuration").grids
    assert (eth.symbol, eth.lower, eth.upper, eth.levels, eth.level_convention) == (
        "ETH-USDT",
        2800,
        3200,
        8,
        "intervals",
    )
    assert (eth.spacing, eth.stop, eth.capital, eth.fees.maker) == ("arithmetic", 2700, 1000, 0.001)
    assert eth.source is not None
    assert (eth.source.exchange, eth.source.id) == ("bitget", "77")
    assert (sol.symbol, sol.lower, sol.upper, sol.spacing, sol.stop) == ("SOL-USDT", 120, 140, "geometric", 112)
    assert (sol.capital, sol.fees.maker) == (1000, 0.0004)
    assert sol.source is not None
    assert (sol.source.exchange, sol.source.id) == ("bybit", "88")
