"""What people of this trade report elsewhere: each case as they met it, and what is right beside it."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, iso
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.faults import spine
from mm_dagster_tests.faults.clockwork import computer_clock
from mm_dagster_tests.faults.exchange import MINUTE, Exchange, Question, Reply, Series, of_rows, walked
from mm_dagster_tests.faults.phone import Phone
from mm_dagster_tests.faults.spine import Grid

pytestmark = pytest.mark.slow

START = datetime(2026, 6, 1, tzinfo=UTC)
BARS = 48
GIVE_UP_SECONDS = 120
HEAD = "open_time,open,high,low,close,volume"
Rows = list[tuple[datetime, float, float, float, float, float]]


def bars(start: datetime, count: int, step: timedelta = BAR) -> Rows:
    """Candles from a formula."""

    def price(at: datetime) -> float:
        minute = int(at.timestamp() // 60)
        noise = int.from_bytes(hashlib.sha256(str(minute).encode()).digest()[:4], "big") / 2**32 - 0.5
        return round(3000 * math.exp(0.01 * math.sin(minute / 300) + 0.002 * noise), 2)

    found = []
    for number in range(count):
        at = start + number * step
        first, last = price(at), price(at + step)
        found.append((at, first, round(max(first, last) + 1, 2), round(min(first, last) - 1, 2), last, 100.0 + number))
    return found


ROWS = bars(START, BARS)


def in_unit(factor: int) -> Callable[[datetime], str]:
    """Times as whole numbers since the epoch, so many a second."""
    return lambda at: str(int(at.timestamp()) * factor)


def lines(rows: Rows, time: Callable[[datetime], str] = iso) -> list[str]:
    """Rows as CSV."""
    return [",".join([time(row[0]), *map(str, row[1:])]) for row in rows]


def thousands(rows: Rows) -> list[str]:
    """Prices as a spreadsheet writes them."""
    return [",".join([iso(row[0]), *(f'"{value:,.2f}"' for value in row[1:5]), str(row[5])]) for row in rows]


HALF = [(*row[:5], row[5] / 2) for row in ROWS[20:21]]
CSV: dict[str, list[str]] = {
    "NS-USDT": [HEAD, *lines(ROWS, in_unit(10**9))],
    "SEC-USDT": [HEAD, *lines(ROWS, in_unit(1))],
    "US-USDT": [HEAD, *lines(ROWS, in_unit(10**6))],
    "JOINED-USDT": [HEAD, *lines(ROWS[:24], in_unit(10**3)), *lines(ROWS[24:], in_unit(10**6))],
    "COMMA-USDT": [HEAD, *thousands(ROWS)],
    "HEAD-USDT": [HEAD, *lines(ROWS[:24], in_unit(10**3)), HEAD, *lines(ROWS[24:], in_unit(10**3))],
    "OFF-USDT": [HEAD, *lines(bars(START + timedelta(seconds=150), 3 * BARS, BAR / 3))],
    "HOURLY-USDT": [
        HEAD, *lines(bars(START, 24, timedelta(hours=1))), *lines(bars(START + timedelta(days=1), 96)),
    ],
    "HALF-USDT": [HEAD, *lines(ROWS[:20]), *lines(HALF), *lines(ROWS[20:])],  # type: ignore[arg-type]
}  # fmt: skip
PARQUET = {"NSP-USDT": 10**9, "SECP-USDT": 1, "USP-USDT": 10**6}
"""Times as integers, so many a second."""
HEALTHY = "GOOD-USDT"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pl.DataFrame], str, Path]:
    """One tick over every odd file, and a healthy one: the candles of each market, and what the tick says."""
    folder = tmp_path_factory.mktemp("files")
    config, data = folder / "configuration", folder / "data"
    (config / "grids").mkdir(parents=True)
    table = pl.DataFrame(ROWS, schema=HEAD.split(","), orient="row")
    for symbol, text in {**CSV, HEALTHY: [HEAD, *lines(ROWS)]}.items():
        (config / "candles" / symbol).mkdir(parents=True)
        (config / "candles" / symbol / "15m.csv").write_text("\n".join(text) + "\n")
    for symbol, factor in PARQUET.items():
        (config / "candles" / symbol).mkdir(parents=True)
        times = pl.col("open_time").dt.epoch("s") * factor
        table.with_columns(times.cast(pl.Int64)).write_parquet(config / "candles" / symbol / "15m.parquet")
    symbols = [*CSV, *PARQUET, HEALTHY]
    # A venue each: the clock of a recording is that of its longest file.
    venues = {
        symbol.lower(): {
            "kind": "recorded",
            "path": "candles",
            "file": f"15m.{'parquet' if symbol in PARQUET else 'csv'}",
        }
        for symbol in symbols
    }
    markets = [{"symbol": symbol, "venue": symbol.lower()} for symbol in symbols]
    (config / "markets.yaml").write_text(yaml.safe_dump({"venues": venues, "markets": markets}))
    ended: list[BaseException | None] = []

    def tick() -> None:
        with spine.surroundings(config, data):
            try:
                spine.tick(config, data, START + BARS * BAR)
                ended.append(None)
            except BaseException as error:
                ended.append(error)

    worker = threading.Thread(target=tick, daemon=True)
    worker.start()
    worker.join(GIVE_UP_SECONDS)
    assert ended, "the tick never ends"
    assert ended == [None]
    history = spine.lake(data)
    everything = history.read("candles")
    reason = history.read("tick")["reason"][0] or ""
    return {symbol: everything.filter(pl.col("symbol") == symbol) for symbol in symbols}, reason, config


def known(rows: pl.DataFrame) -> pl.DataFrame:
    """The bars that somebody answered for."""
    return rows.filter(pl.col("status") == "TRADED").select("open_time", "open", "high", "low", "close", "volume")


@pytest.mark.parametrize(
    "symbol", ["NS-USDT", "NSP-USDT", "SEC-USDT", "SECP-USDT", "US-USDT", "USP-USDT", "JOINED-USDT"]
)
def test_times_in_any_unit_are_read_as_what_they_are_or_refused_by_name(
    files: tuple[dict[str, pl.DataFrame], str, Path], symbol: str
) -> None:
    """polars 8632, 13592; binance-public-data 386, 387, 474: no row, code 0, a panic, or a wait without end."""
    candles, reason, _ = files
    read = known(candles[symbol])
    if read.is_empty():
        assert symbol in reason
        assert "15m." in reason
    else:
        assert read.equals(known(candles[HEALTHY]))


def test_a_healthy_market_is_read_beside_files_that_cannot_be(
    files: tuple[dict[str, pl.DataFrame], str, Path],
) -> None:
    """The same cases: "that one gets 0 rows, too"."""
    candles, *_ = files
    wanted = pl.DataFrame(ROWS, schema=HEAD.split(","), orient="row")
    assert known(candles[HEALTHY]).drop("open_time").equals(wanted.drop("open_time"))


@pytest.mark.parametrize("symbol", ["COMMA-USDT", "HEAD-USDT", "HOURLY-USDT", "OFF-USDT"])
def test_a_file_that_cannot_be_candles_is_said_and_nothing_of_it_is_taken_for_one(
    files: tuple[dict[str, pl.DataFrame], str, Path], symbol: str
) -> None:
    """FlexMeasures 141; navbot 76; freqtrade/technical 268; a bin that begins at the first trade's second."""
    candles, reason, _ = files
    read = known(candles[symbol])
    if symbol == "COMMA-USDT" and not read.is_empty():
        assert read.equals(known(candles[HEALTHY]))
        return
    assert read.is_empty()
    assert symbol in reason


# markets as they are --------------------------------------------------------------------------------------------------

FROZEN, SHORT = "FROZEN-USDT", "SHORT-USDT"
AS_OF = datetime(2026, 6, 14, 12, 0, tzinfo=UTC)
STILL_BARS = 960


@pytest.fixture(scope="module")
def markets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Phone, dict[str, Series]]]:
    """Two ticks of a market that is frozen, and of one whose exchange sends 200 rows a page."""
    folder = tmp_path_factory.mktemp("markets")
    series = {name: walked(name, AS_OF - timedelta(days=90), AS_OF + timedelta(days=1)) for name in (FROZEN, SHORT)}
    frozen = series[FROZEN]
    since = int((AS_OF - STILL_BARS * BAR).timestamp())
    still, values = frozen.opens >= since, frozen.values.copy()
    values[still] = np.array([*[values[~still][-1, 3]] * 4, 0.0])
    series[FROZEN] = Series(frozen.opens, values)

    def short(question: Question, truth: Reply, world: Exchange) -> Reply:
        return of_rows(truth.rows[:200]) if truth.rows else truth

    with ExitStack() as stack:
        world = stack.enter_context(Exchange(series, AS_OF))
        world.sends_idle = True
        world.changes = {SHORT: short}
        phone = stack.enter_context(Phone())
        begun = AS_OF - timedelta(hours=36)
        price = {name: float(one.until(int(begun.timestamp())).values[-1, 3]) for name, one in series.items()}
        grids = [Grid(name.split("-")[0].lower(), name, begun, price[name], 0.5, 0.6, 1.6) for name in series]
        config, data = folder / "configuration", folder / "data"
        spine.configure(config, {name: world.url(name) for name in series}, grids, phone.url)
        with spine.surroundings(config, data):
            spine._stages()
            with computer_clock(lambda: world.now):
                for step in range(2):
                    world.now = AS_OF + step * BAR + MINUTE
                    spine.tick(config, data, AS_OF + step * BAR)
                    spine.send(config, data)
        yield data, phone, series


def test_a_market_whose_venue_repeats_the_last_price_is_not_known_after_an_hour(
    markets: tuple[Path, Phone, dict[str, Series]],
) -> None:
    """ccxt 24949; freqtrade 7597, 9376: all TRADED, the chance of a break near nothing, NORMAL for seven days."""
    history = spine.lake(markets[0])
    candles = history.read("candles", symbols=[FROZEN])
    still = candles.filter(pl.col("open_time") >= AS_OF - STILL_BARS * BAR)["status"].to_list()
    assert still[:4] == ["NO_TRADE"] * 4
    assert set(still[4:]) == {"MISSING"}
    newest = history.read("exit_state", grids=["frozen"]).row(-1, named=True)
    assert not newest["complete"]


def test_an_exchange_that_sends_less_a_page_than_is_believed_is_asked_for_the_rest(
    markets: tuple[Path, Phone, dict[str, Series]],
) -> None:
    """ccxt 20756, 14866; OctoBot-Trading 1145: 5,589 of 6,596 bars MISSING as "answered", code 0, never asked again."""
    data, _, series = markets
    candles = spine.lake(data).read("candles", symbols=[SHORT])
    first, last = candles["open_time"].min(), candles["open_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    there = set(series[SHORT].opens.tolist())
    lost = candles.filter(pl.col("status") == "MISSING")["open_time"].dt.epoch("s").to_list()
    assert [at for at in lost if at in there] == []


def test_history_that_was_never_known_is_no_exit_signal(markets: tuple[Path, Phone, dict[str, Series]]) -> None:
    """The same cases: LATEST ACCEPTABLE EXIT, overdue since 20 days."""
    data, phone, _ = markets
    states = set(spine.lake(data).read("exit_state", grids=["short"])["state"])
    assert not states & {"LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT"}
    assert [ring.title for ring in phone.rings if "short" in ring.title and ring.priority > 0] == []


# a configuration that is edited while it runs -------------------------------------------------------------------------

GRID = {
    "id": "eth", "symbol": "ETH-USDT", "activated_at": "2026-06-10T00:00:00Z", "lower": 2900, "upper": 3100,
    "levels": 6, "stop": 2850, "capital": 1000,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that was valid at the last turn."""
    config = tmp_path / "configuration"
    (config / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (config / "markets.yaml").write_text(yaml.safe_dump(markets))
    (config / "exit.yaml").write_text("policy: literal\n")
    (config / "grids" / "eth.yaml").write_text(yaml.safe_dump(GRID))
    assert [grid.id for grid in turn(config).config.grids] == ["eth"]
    return config


def turn(config: Path) -> Project:
    """The project as the next turn sees it."""
    return Project(str(config), str(config.parent / "data"))


def emacs_lock(grids: Path) -> None:
    (grids / ".#eth.yaml").symlink_to("me@host.1234:1")


def vim_swap(grids: Path) -> None:
    (grids / ".eth.yaml.swp").write_bytes(b"b0VIM 9.0\0")


def old_folder(grids: Path) -> None:
    (grids / "old.yaml").mkdir()


def pipe(grids: Path) -> None:
    os.mkfifo(grids / "pipe.yaml")


@pytest.mark.parametrize("leave", [emacs_lock, vim_swap, old_folder, pipe])
def test_what_editors_leave_beside_a_grid_is_none_of_ours(folder: Path, leave: Callable[[Path], None]) -> None:
    """gaze 58; ember-cli 3908: FileNotFoundError in every command, and no alert at all."""
    leave(folder / "grids")
    project = turn(folder)
    assert project.config_error is None
    assert [grid.id for grid in project.config.grids] == ["eth"]


@pytest.mark.parametrize(
    "time", ["2026-06-31", "2026-06-31T00:00:00Z", "2026-06-10T12:30:60Z", "0000-01-01", "99999999999"]
)
def test_a_day_that_is_none_leaves_the_last_valid_configuration_in_force(folder: Path, time: str) -> None:
    """A typing error: ValueError, not foreseen; the sending of alerts failed with it."""
    path = folder / "grids" / "eth.yaml"
    path.write_text(path.read_text().replace("'2026-06-10T00:00:00Z'", time))
    project = turn(folder)
    assert project.config_error is not None
    assert "eth.yaml" in project.config_error
    assert "\n" not in project.config_error
    assert project.config.grids[0].activated_at == datetime(2026, 6, 10, tzinfo=UTC)


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet\n", "---\n", "null\n"])
def test_an_emptied_file_is_no_wish_for_the_defaults(folder: Path, content: str) -> None:
    """deblasis/wintty 1138: truncated, not yet written: MANDATORY_EXIT became "Down to WARNING"."""
    (folder / "exit.yaml").write_text(content)
    project = turn(folder)
    assert project.config.exit.policy == "literal"
    assert project.config_error is not None
    assert "exit.yaml" in project.config_error


def grid_is_gone(config: Path) -> None:
    (config / "grids" / "eth.yaml").rename(config / "eth.yaml.was")


def all_grids_are_gone(config: Path) -> None:
    (config / "grids").rename(config / "was")


def grid_is_emptied(config: Path) -> None:
    (config / "grids" / "eth.yaml").write_text("")


@pytest.mark.parametrize("vanish", [grid_is_gone, all_grids_are_gone, grid_is_emptied])
def test_a_grid_whose_file_is_gone_stays_watched_and_that_is_said(folder: Path, vanish: Callable[[Path], None]) -> None:
    """Sync clients, `git checkout`: nobody was told that the grid was no longer watched."""
    vanish(folder)
    project = turn(folder)
    assert [grid.id for grid in project.config.grids] == ["eth"]
    said = " ".join(trouble.sentence for trouble in project.troubles)
    assert "eth" in said
