"""`mm doctor`: what is wrong with markets, clocks, links and grids is a line that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster import cli
from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.cli import examine
from mm_dagster.cli.app import CommandError
from mm_dagster.environment import PUSHOVER
from mm_dagster.market.simulated import simulate
from mm_dagster_tests import kucoin
from mm_dagster_tests.kucoin import KucoinServer

ETH, POL = "ETH-USDT", "POL-USDT"
Doctor = Callable[..., dict[str, tuple[str, str]]]


class RunningClock(KucoinServer):
    """Its clock runs as the computer's does, so far ahead of it as it is set: a busy computer puts none of it back."""

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    @now.setter
    def now(self, when: datetime) -> None:
        self._ahead = when - datetime.now(UTC)


@pytest.fixture
def server() -> Iterator[KucoinServer]:
    now = datetime.now(UTC)
    span = Span(floor_bar(now) - 60 * BAR, floor_bar(now) + 2 * BAR)
    with RunningClock({symbol: simulate(symbol, span) for symbol in (ETH, POL, "ADA-USDT")}, now) as exchange:
        yield exchange


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """Writes a configuration and gives what is said of each part: result and detail."""

    def look(
        venue: dict[str, object], symbols: list[str], grid: dict[str, object] | None = None, alerts: str = "{}"
    ) -> dict[str, tuple[str, str]]:
        folder = tmp_path / "configuration"
        (folder / "grids").mkdir(parents=True, exist_ok=True)
        listed = [{"symbol": symbol, "venue": "main"} for symbol in symbols]
        (folder / "markets.yaml").write_text(yaml.safe_dump({"venues": {"main": venue}, "markets": listed}))
        (folder / "alerts.yaml").write_text(alerts)
        if grid:
            (folder / "grids" / "eth.yaml").write_text(yaml.safe_dump(grid))
        monkeypatch.setenv("MM_CONFIG_DIR", str(folder))
        monkeypatch.setenv("MM_DATA_DIR", str(tmp_path / "data"))
        cli.project_here.cache_clear()
        return {row["part"]: (row["result"], row["detail"]) for row in examine._examine()}

    yield look
    cli.project_here.cache_clear()


def following(rows: dict[str, tuple[str, str]]) -> str | None:
    """What is named as the one thing to do next, of what is said of each part."""
    named = [{"part": part, "result": result, "detail": detail} for part, (result, detail) in rows.items()]
    return examine._next(named, cli.project_here())


def at(server: KucoinServer) -> dict[str, object]:
    return {"kind": "ccxt", "exchange": "kucoin", "api_url": server.url}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("off", "says"),
    [
        (timedelta(seconds=1), None),
        (timedelta(seconds=90), "the computer's clock is 1 min behind its own"),
        (timedelta(hours=-1), "the computer's clock is 1 h ahead of its own"),
        (timedelta(days=-7), "the computer's clock is 7 days ahead of its own"),
    ],
)
def test_a_clock_that_is_off_is_said(server: KucoinServer, doctor: Doctor, off: timedelta, says: str | None) -> None:
    server.now = datetime.now(UTC) + off
    result, detail = doctor(at(server), [ETH])["venue main"]
    assert result == ("TO DO" if says else "OK")
    assert says is None or (says in detail and "by NTP" in detail)


def test_a_market_that_was_renamed_is_said_with_its_new_name(server: KucoinServer, doctor: Doctor) -> None:
    result, detail = doctor(at(server), [ETH, "MATIC-USDT"])["venue main"]
    assert result == "TO DO"
    assert "MATIC-USDT is no spot market of it; MATIC is POL now, so POL-USDT may be what you want" in detail


def test_a_market_that_is_gone_gets_no_silly_hint(server: KucoinServer, doctor: Doctor) -> None:
    _, detail = doctor(at(server), [ETH, "XYZW-USDT"])["venue main"]
    assert "it may be renamed or delisted: see the exchange's announcements" in detail
    assert "did you mean" not in detail


def test_a_market_that_is_halted_is_said(server: KucoinServer, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = kucoin._symbol
    monkeypatch.setattr(kucoin, "_symbol", lambda name: listed(name) | {"enableTrading": name != ETH})
    result, detail = doctor(at(server), [ETH])["venue main"]
    assert result == "TO DO"
    assert "ETH-USDT is halted there" in detail


@pytest.mark.slow
@pytest.mark.parametrize("link", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080/"])
def test_a_link_that_only_this_computer_opens_is_said_once_a_message_reaches_a_phone(
    server: KucoinServer, doctor: Doctor, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No network is asked for a channel that is not there.
    monkeypatch.setattr(examine, "_pushover", lambda project: "tried elsewhere")
    result, detail = doctor(at(server), [ETH], alerts=f"link: '{link}'")["link"]
    assert (result, "opens on this computer alone, and no message reaches a phone yet" in detail) == ("OK", True)
    for name in PUSHOVER:
        monkeypatch.setenv(name, "x" * 30)
    result, detail = doctor(at(server), [ETH], alerts=f"link: '{link}'")["link"]
    assert (result, "is this computer, which a phone cannot open" in detail) == ("TO DO", True)
    result, detail = doctor(at(server), [ETH])["link"]
    assert (result, "messages name `mm status` in its place" in detail) == ("OK", True)
    assert "link" not in doctor({"kind": "simulated"}, [ETH])


@pytest.mark.parametrize(
    ("link", "result", "says"),
    [
        ("grids.example.com", "TO DO", "does not begin with https://"),
        ("ftp://grids.example.com", "TO DO", "does not begin with https://"),
        ("http://127.0.0.1:3000", "TO DO", "is Dagster's page; the live page is http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080", "TO DO", "is this computer"),
        ("http://grids.example.com", "TO DO", "is without TLS, so whoever is on the way reads along"),
        ("http://8.8.8.8:8080", "TO DO", "is without TLS"),
        ("http://192.168.1.5:8080", "OK", "in its own network or through a VPN, without TLS"),
        ("http://100.90.1.2", "OK", "in its own network or through a VPN, without TLS"),
        ("http://[fd00::5]:8080", "OK", "in its own network or through a VPN, without TLS"),
        ("https://grids.local", "OK", "opens in its own network or through a VPN"),
        ("https://server:8443", "OK", "opens in its own network or through a VPN"),
        ("https://grids.example.com", "OK", "can be opened anywhere"),
    ],
)
def test_what_a_phone_can_open_is_told_by_the_address(link: str, result: str, says: str) -> None:
    try:
        found = ("OK", examine.link_on_a_phone(link, reaches_phones=True))
    except CommandError as error:
        found = ("TO DO", str(error))
    assert (found[0], says in found[1]) == (result, True), found[1]
    assert link in found[1]


def test_another_port_of_this_computer_is_said() -> None:
    assert "`mm up` serves on 8080" in examine.link_on_a_phone("http://127.0.0.1:9000", reaches_phones=False)
    assert "8080, unless" not in examine.link_on_a_phone("http://127.0.0.1:8080", reaches_phones=False)


GRID = {
    "id": "eth", "symbol": ETH, "lower": 2900, "upper": 3100, "levels": 10, "stop": 2850, "capital": 1234.5,
}  # fmt: skip


def test_a_grid_is_shown_as_it_was_read(doctor: Doctor) -> None:
    grid = GRID | {"activated_at": "10.01.2026 12:00"}
    said = doctor({"kind": "simulated"}, [ETH], grid, "timezone: Europe/Berlin")["grid eth"]
    assert said == (
        "OK",
        "ETH-USDT 2,900 to 3,100, 10 intervals, stop 2,850, 1,234.50 USDT, active since 2026-01-10 12:00 CET "
        "(11:00 UTC)",
    )


def test_a_grid_that_begins_in_the_future_is_said_on_any_market(doctor: Doctor) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=7)).isoformat()
    result, detail = doctor({"kind": "simulated"}, [ETH], GRID | {"activated_at": ahead})["grid eth"]
    assert result == "TO DO"
    assert "lies ahead, and it is not watched before" in detail


@pytest.mark.slow
def test_a_recording_is_judged_by_its_own_clock(doctor: Doctor, tmp_path: Path) -> None:
    end = datetime(2026, 3, 2, 12, tzinfo=UTC)
    (tmp_path / "configuration" / "candles" / ETH).mkdir(parents=True)
    rows = simulate(ETH, Span(end - 60 * BAR, end))
    rows.write_parquet(tmp_path / "configuration" / "candles" / ETH / "15m.parquet")
    venue = {"kind": "recorded", "path": "candles"}
    nothing = doctor(venue, [ETH])
    assert nothing["newest bar"] == (
        "TO DO", f"{ETH}: no candle is known yet; run `mm tick --as-of {iso(end)}`, or `mm backfill`",
    )  # fmt: skip
    assert nothing["candles"][0] == "TO DO"
    project = cli.project_here()
    kept = project.lake.read("candles")
    known = simulated_rows(rows, kept)
    with project.turn_lock():
        project.lake.upsert("candles", known, commit=_commit())
    assert doctor(venue, [ETH])["newest bar"] == ("OK", f"1 market, the newest bar closed {iso(end)}")
    # A row that is MISSING is no bar that is known.
    with project.turn_lock():
        prices = {name: pl.lit(None, dtype=pl.Float64) for name in ("open", "high", "low", "close", "volume")}
        project.lake.upsert("candles", known.with_columns(status=pl.lit("MISSING"), **prices), commit=_commit())
    assert doctor(venue, [ETH])["newest bar"][0] == "TO DO"


def simulated_rows(rows: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    """Rows of `candles` of a recording."""
    return rows.with_columns(
        symbol=pl.lit(ETH), close_time=pl.col("open_time") + BAR, status=pl.lit("TRADED"), venue=pl.lit("main"),
        observed_at=pl.col("open_time"), config_hash=pl.lit("x"), code_version=pl.lit("1"),
        source=pl.lit("recorded:main"),
    ).select(pl.col(name).cast(dtype) for name, dtype in like.schema.items())  # fmt: skip


def _commit() -> object:
    from mm_dagster.history.lake import Commit

    return Commit(run_id="test", asset="candles", span="")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("proxy", "variable", "says"),
    [
        (None, None, "after a quarter hour"),
        (None, "http://127.0.0.1:3128", "; all clients ask through the proxy of HTTPS_PROXY"),
        ("none", "http://127.0.0.1:3128", "; all clients ask through the proxy of HTTPS_PROXY, but main through none"),
        ("http://127.0.0.1:9", None, "; all clients ask through no proxy, but main through its own"),
    ],
)
def test_a_proxy_that_not_all_clients_use_is_said(
    server: KucoinServer,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    proxy: str | None,
    variable: str | None,
    says: str,
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv("HTTPS_PROXY", variable)
    result, detail = doctor({**at(server), "proxy": proxy}, [ETH])["environment"]
    assert result == "OK"
    assert detail.endswith(says)


# next -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_a_fresh_home_a_grid_is_next(server: KucoinServer, doctor: Doctor) -> None:
    rows = doctor(at(server), [ETH])
    assert {part for part, (result, _) in rows.items() if result != "OK"} == {"newest bar", "candles", "Pushover"}
    assert (following(rows) or "").startswith("`mm grid add`")


@pytest.mark.slow
def test_what_is_broken_comes_before_all_else(server: KucoinServer, doctor: Doctor) -> None:
    rows = doctor(at(server), [ETH, "XYZW-USDT"])
    assert (following(rows) or "").startswith("venue main: main (kucoin at ")
    ahead = (datetime.now(UTC) + timedelta(hours=7)).isoformat()
    rows = doctor(at(server), [ETH, "XYZW-USDT"], GRID | {"activated_at": ahead})
    assert (following(rows) or "").startswith("grid eth: eth: activated_at")


def test_a_grid_that_nobody_watches_is_to_be_watched_and_then_messages_are_next(
    server: KucoinServer, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = doctor(at(server), [ETH], GRID | {"activated_at": "2026-01-10T00:00Z"})
    assert (following(rows) or "").startswith("`mm up`, which watches until Ctrl-C")
    monkeypatch.setattr(examine, "daemon_beat", lambda now: "it beats")
    rows |= {"newest bar": ("OK", ""), "candles": ("OK", "")}
    assert (following(rows) or "").startswith("Pushover: PUSHOVER_TOKEN and PUSHOVER_USER not set")
    assert following(dict.fromkeys(rows, ("OK", ""))) is None


def test_nobody_needs_to_watch_a_market_that_is_made_up(doctor: Doctor) -> None:
    rows = doctor({"kind": "simulated"}, [ETH], GRID | {"activated_at": "2026-01-10T00:00Z"})
    assert (following(rows) or "").startswith("newest bar: ETH-USDT: no candle is known yet; run `mm tick`")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_last_line_says_what_is_next(
    doctor: Doctor, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor({"kind": "simulated"}, [ETH])
    monkeypatch.setattr("sys.argv", ["mm", "doctor", *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().out
    assert end.value.code == 1
    if options:
        last = json.loads(said)[-1]
        assert (last["part"], last["result"]) == ("next", "TO DO")
        assert last["detail"].startswith("`mm grid add`")
    else:
        assert said.splitlines()[-1].startswith("next: `mm grid add`")
