"""What people write: read as it can only be meant, or refused with how to write it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from mm_dagster.config import written
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.load import load

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 1, 10, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "10.01.2026 12:00", "2026-01-10 12:00", "2026-01-10T12:00:00", "202601101200", 202601101200, "2026-1-10 12:00",
        "2026-01-10 11:00Z", "2026-01-10T12:00+01:00", "2026-01-10 11:00 UTC", "2026-01-10 20:00 Asia/Tokyo",
        NOON, NOON.astimezone(BERLIN), NOON.astimezone(BERLIN).replace(tzinfo=None),
    ],
)  # fmt: skip
def test_a_moment_is_read_in_the_zone_of_the_configuration_unless_it_names_one(text: object) -> None:
    assert written.moment(text, BERLIN) == NOON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("01/10/2026", "the day or the month that comes first; write it like 2026"),
        ("2026-03-29 02:30", "is not there in Europe/Berlin, where the clocks change; write it in UTC"),
        ("2026-10-25 02:30", "is there twice in Europe/Berlin"),
        ("2026-06-31", "day is out of range"),
        ("2026-01-10T12:30:60Z", "second must be in"),
        ("2026-01-10 12:00 Mars/Olympus", "no time zone"),
        (1768000000, "is no time"),
        ("tomorrow", "is no time"),
    ],
)
def test_what_is_no_moment_or_two_is_refused(text: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        written.moment(text, BERLIN)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("9:30", "09:30"),
        ("22:00", "22:00"),
        ("22:00:00", "22:00"),
        ("22.00", "22:00"),
        ("10pm", "22:00"),
        ("12 am", "00:00"),
    ],
)
def test_a_time_of_day_is_read(text: str, right: str) -> None:
    assert written.local_time(text) == right


@pytest.mark.parametrize("text", [22, "22", "24:00", "10:60", 1320, "13pm", "noon"])
def test_what_is_no_time_of_day_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match='write it like "22:00"'):
        written.local_time(text)


@pytest.mark.parametrize("name", ["ETH-USDT", "人生K线-USDT", "cUSD-USDT", "PUMP.FUN-USDT", "$ALT-USDT", "ÜBER-USDT"])
def test_a_market_is_taken_as_its_venue_writes_it(name: str) -> None:
    assert written.symbol(name) == name


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("ETHUSDT", "ETH-USDT"), ("eth-usdt", "ETH-USDT"), ("ETH/USDT", "ETH-USDT"), ("ETH_USDT", "ETH-USDT"),
        ("eth usdt", "ETH-USDT"), ("dogebtc", "DOGE-BTC"), ("ETH - USDT", "ETH-USDT"),
        ("BTC/USDT:USDT", "no spot market"), ("../x-USDT", "base and quote"), ("ETH", "base and quote"),
        (5, "base and quote"),
    ],
)  # fmt: skip
def test_a_market_that_is_written_otherwise_is_refused_with_the_right_spelling(name: object, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        written.symbol(name)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("769,02", "769.02"), ("2'900", "2900"), ("1.234,56", "1234.56"), ("1,234.56", "1234.56"), ("10k", "10000"),
        ("2900 USDT", "2900"), ("$2,900", "2900 or 2.900"), ("1.234.567", "1234567"), ("1:30", "a plain number"),
    ],
)  # fmt: skip
def test_a_number_is_said_how_to_write(text: str, right: str) -> None:
    assert written.plain_number(text) == f"write {right}" or right in written.plain_number(text)


GRID = {
    "id": "eth", "symbol": "ETH-USDT", "activated_at": "2026-01-10T00:00:00Z", "lower": 2900, "upper": 3100,
    "levels": 10, "stop": 2850, "capital": 1000,
}  # fmt: skip


def configured(folder: Path, text: str | None = None, alerts: str = "{}", **changes: object) -> Path:
    """A configuration of one grid; `text` takes the place of a line of its file."""
    (folder / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "alerts.yaml").write_text(alerts)
    lines = yaml.safe_dump(GRID | changes).splitlines()
    if text:
        key = text.partition(":")[0]
        lines = [text if line.startswith(f"{key}:") else line for line in lines]
    (folder / "grids" / "eth.yaml").write_text("\n".join(lines))
    return folder


def test_a_time_without_a_zone_is_of_the_zone_of_alerts(tmp_path: Path) -> None:
    text = "activated_at: 10.01.2026 12:00"
    assert load(configured(tmp_path / "a", text)).grids[0].activated_at == datetime(2026, 1, 10, 12, tzinfo=UTC)
    berlin = configured(tmp_path / "b", text, alerts="timezone: Europe/Berlin")
    assert load(berlin).grids[0].activated_at == NOON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("capital: 769,02", "capital: '769,02' is no number; write 769.02"),
        ("capital: 1:30", "capital: '1:30' is no number; write a plain number"),
        ("capital: 1.000", "capital: 1.000 may be meant in thousands; write 1 or 1000"),
        ("lower: 2'900", 'lower: "2\'900" is no number; write 2900'),
        ("levels: ten", "levels: 'ten' is no number"),
        ("symbol: ETHUSDT", "symbol: 'ETHUSDT' is no market; write ETH-USDT"),
        ("activated_at: 01/10/2026", "activated_at: '01/10/2026' is no time"),
    ],
)
def test_a_grid_that_is_written_otherwise_is_refused_with_the_spelling(tmp_path: Path, text: str, says: str) -> None:
    folder = configured(tmp_path / "c", text)
    with pytest.raises(ConfigError) as refused:
        load(folder)
    assert says in str(refused.value)
    assert str(folder / "grids" / "eth.yaml") in str(refused.value)


def test_levels_with_a_zero_in_front_are_what_they_look_like(tmp_path: Path) -> None:
    assert load(configured(tmp_path / "c", "levels: 020")).grids[0].levels == 20


SECRETS = [
    "apprise: [{url_env: azGDORePK8gMaC0QOYAMyEEuzJnyUi}]",
    "apprise: [{url_env: abcdefab_secret}]",
    "heartbeat: {url_env: AKIAIOSFODNN7EXAMPLE}",
    "heartbeat: https://hc-ping.com/azGDORePK8gMaC0",
    "heartbeat: {url_env: 'https://hc-ping.com/azGDORePK8gMaC0'}",
    "apprise: ['tgram://123456:azGDORePK8gMaC0/42']",
    "apprise: tgram://123456:azGDORePK8gMaC0/42",
    "link: [https://example.com/azGDORePK8gMaC0]",
]


@pytest.mark.parametrize("line", SECRETS)
def test_a_secret_in_the_place_of_a_name_is_refused_and_not_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(configured(tmp_path / "c", alerts=line))
    said = str(refused.value)
    for part in ("azGDOR", "abcdefab", "AKIA", "123456"):
        assert part not in said
    assert "alerts.yaml" in said


def test_a_key_in_the_address_of_a_remote_is_refused(tmp_path: Path) -> None:
    folder = configured(tmp_path / "c")
    (folder / "history.yaml").write_text("mirror: {remote: 'https://git.example.com/a/b?token=azGDORePK8gMaC0'}")
    with pytest.raises(ConfigError, match="a key in it") as refused:
        load(folder)
    assert "azGDOR" not in str(refused.value)
