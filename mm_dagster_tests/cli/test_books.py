"""`mm books`: how the recorder stands, what lacks, a replay, what selling costs; and one line where it cannot."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from mm_dagster.books.tardis import BOOK_COLUMNS, TRADE_COLUMNS
from mm_dagster.pipeline.book_places import now_here
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.log import write_status
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.status import BestLevels, MarketStatus, Status, write_whole
from mm_dagster_tests.cli.small import called, configure
from mm_dagster_tests.pipeline.recorder import Recording, ns

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)
ETH, SOL = ("binance", "ETH-USDT"), ("kucoin", "SOL-USDT")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two markets were recorded for some quarter hours, a kill among them; nothing is sealed yet."""
    folder = tmp_path_factory.mktemp("books")
    configure(folder)
    for exchange, symbol in (ETH, SOL):
        recording = Recording(folder / "data", exchange, symbol, ns(NOON + timedelta(minutes=1)))
        recording.quarters(2, each=10)
        recording.kill()
        recording.now += 20 * 60 * 10**9
        recording.start()
        recording.quarters(1, each=10)
        recording.stop()
    return folder


@pytest.fixture
def surroundings(home: Path) -> Iterator[dict[str, str]]:
    yield {"MM_CONFIG_DIR": str(home / "configuration"), "MM_DATA_DIR": str(home / "data")}
    (home / "configuration" / "books.yaml").write_text("{}")


def record(home: Path, **changes: object) -> None:
    """books.yaml says record, and a recorder says that it runs."""
    feeds = [{"exchange": exchange, "markets": [symbol]} for exchange, symbol in (ETH, SOL)]
    (home / "configuration" / "books.yaml").write_text(yaml.safe_dump({"record": True, "feeds": feeds, "free_gib": 1}))
    now = ns(now_here())
    told: dict[str, object] = {"at_ns": now, "is_running": True, "lost": 0, "phase": "IN_SYNC"} | changes
    markets = tuple(
        MarketStatus(
            exchange, symbol, str(told["phase"]), (), now, 9, int(str(told["lost"])), 1.5, 0, 0, None, 3.0, None, 0
        )
        for exchange, symbol in (ETH, SOL)
    )
    status = Status(int(str(told["at_ns"])), bool(told["is_running"]), 1, now - 10**12, "1", 2**40, markets)
    write_whole(root_of(home / "data"), status)


def rows(said: str) -> list[dict[str, object]]:
    found = json.loads(said)
    assert isinstance(found, list)
    return found


@pytest.mark.slow
def test_seal_makes_what_the_job_makes_and_nothing_twice(home: Path, surroundings: dict[str, str]) -> None:
    code, said, errors = called(surroundings, "books", "seal", "--json")
    assert (code, errors) == (0, "")
    (row,) = rows(said)
    assert (row["sealed"], row["replayed"], row["problems"]) == (8, 8, [])
    code, said, _ = called(surroundings, "books", "seal")
    assert (code, said) == (0, "0 quarter hours sealed, 0 replayed, 0 measured\n")


def test_gaps_are_listed_for_people_and_programs(home: Path, surroundings: dict[str, str]) -> None:
    called(surroundings, "books", "seal")
    code, said, _ = called(surroundings, "books", "gaps", "--since", "2026-02-01", "--json")
    assert code == 0
    found = rows(said)
    assert {row["market"] for row in found} == {"binance:ETH-USDT", "kucoin:SOL-USDT"}
    assert {"OPENED", "NO_END", "START"} == {row["kind"] for row in found}
    code, said, _ = called(surroundings, "books", "gaps", "--since", "2026-02-01", "--market", "sol-usdt")
    assert code == 0
    assert "kucoin:SOL-USDT" in said
    assert "binance" not in said
    # They are long ago: of the last day nothing is known, which is no good news.
    code, _, errors = called(surroundings, "books", "gaps")
    assert (code, "so nothing is known of gaps" in errors) == (1, True)


def test_a_day_is_replayed_and_comes_out_byte_for_byte(home: Path, surroundings: dict[str, str]) -> None:
    called(surroundings, "books", "seal")
    code, said, _ = called(surroundings, "books", "replay", "ETH-USDT", "2026-02-03")
    assert code == 0
    assert "states of the recorder came out of the replay, byte for byte" in said
    code, said, _ = called(surroundings, "books", "replay", "binance:ETH-USDT", "2026-02-03T12:15Z", "--json")
    (row,) = rows(said)
    assert (code, row["as_of"], row["states"], row["differing"], row["refused"]) == (
        0,
        "2026-02-03T12:30:00Z",
        1,
        0,
        None,
    )
    assert row["quotes"] == row["quotes"] != 0


@pytest.mark.slow
def test_a_replay_of_a_damaged_file_says_so_and_ends_with_1(home: Path, surroundings: dict[str, str]) -> None:
    called(surroundings, "books", "seal")
    place = place_of(root_of(home / "data"), *SOL)
    path = sorted(place.segments.glob("*.parquet"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    code, said, errors = called(surroundings, "books", "replay", "SOL-USDT", "2026-02-03", "--json")
    assert code == 1
    assert "holds other bytes than when it was sealed" in str(rows(said)[0]["refused"])
    code, _, errors = called(surroundings, "books", "seal", "--all")
    assert code == 1
    assert path.name in errors.replace("\n", "")
    path.write_bytes(whole)
    code, _, errors = called(surroundings, "books", "seal", "--all")
    assert (code, errors) == (0, "")


@pytest.mark.slow
def test_status_says_how_each_stands_and_ends_with_1_when_something_is_wrong(
    home: Path, surroundings: dict[str, str]
) -> None:
    code, said, _ = called(surroundings, "books", "status")
    assert code == 0
    assert "record is false" in said
    record(home)
    code, said, _ = called(surroundings, "books", "status", "--json")
    found = rows(said)
    assert code == 0
    assert [(row["market"], row["phase"], row["lost"]) for row in found] == [
        ("binance:ETH-USDT", "IN_SYNC", 0), ("kucoin:SOL-USDT", "IN_SYNC", 0),
    ]  # fmt: skip
    assert all(float(str(row["disk_mb"])) > 0 for row in found)
    record(home, at_ns=ns(now_here() - timedelta(minutes=5)))
    code, said, _ = called(surroundings, "books", "status")
    assert code == 1
    assert "nothing was heard of it since" in said
    assert "start `mm record`" in said
    code, said, _ = called(surroundings, "doctor", "--json")
    (recorder,) = [row for row in rows(said) if row["part"] == "recorder"]
    assert recorder["result"] == "TO DO"


def write_book(home: Path, at: datetime, **changes: object) -> None:
    bids = tuple((f"{1000 - number}.00", "2.000") for number in range(1, 4))
    asks = tuple((f"{1000 + number}.00", "2.000") for number in range(1, 4))
    told = asdict(BestLevels(ns(at), "IN_SYNC", True, 1, bids, asks, (None, None))) | changes
    write_status(place_of(root_of(home / "data"), *ETH).book, told)


def test_what_selling_costs_now_is_walked_down_the_recorders_book(home: Path, surroundings: dict[str, str]) -> None:
    write_book(home, now_here())
    code, said, errors = called(surroundings, "books", "cost", "ETH-USDT", "3")
    assert code == 0
    # Two at 999 and one at 998, of a mid of 1000.
    assert "Selling 3 ETH now costs 13.3 bp of the mid before fees, 4 USDT; the last of it goes at 998." in said
    assert "after some days of recording" in errors
    write_book(home, now_here())
    code, said, _ = called(surroundings, "books", "cost", "ETH-USDT", "12", "--json")
    assert code == 0
    assert [(row["cost_bp"], row["shown_share"]) for row in rows(said)] == [(None, 0.5)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("cost", "ETH-USDT", "-1"), "AMOUNT: '-1' is no amount above 0"),
        (("cost", "ETH-USDT", "many"), "AMOUNT: 'many' is no amount above 0"),
        (("cost", "kucoin:SOL-USDT", "1"), "the recorder has written no book; `mm books status`"),
        (("cost", "SLO-USDT", "1"), "SLO-USDT: it was never recorded; did you mean kucoin:SOL-USDT?"),
        (("replay", "ETH-USDT", "2026-02-04"), "no segment of it between 2026-02-04"),
        (("replay", "ETH-USDT", "2026-02-03T13:00Z", "2026-02-03T12:00Z"), "the earlier one first"),
        (("replay", "ETH-USDT", "gestern"), "FROM: 'gestern'"),
        (("gaps", "--market", "binance:SOL-USDT"), "binance:SOL-USDT: it was never recorded; did you mean"),
        (("import", "--market", "nyse:ETH-USDT", "a", "b"), "write it like binance:ETH-USDT"),
        (("import", "--market", "binance:ETH-USDT", "a", "b"), "a: there is no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_the_remedy(
    home: Path, surroundings: dict[str, str], arguments: tuple[str, ...], line: str
) -> None:
    options = ("--",) if "-1" in arguments else ()
    code, said, errors = called(surroundings, "books", arguments[0], *options, *arguments[1:])
    assert code == 1
    assert said == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert line in errors


def test_a_book_that_is_old_or_out_of_sync_costs_nothing_false(home: Path, surroundings: dict[str, str]) -> None:
    write_book(home, now_here() - timedelta(seconds=20))
    assert "start `mm record`" in called(surroundings, "books", "cost", "ETH-USDT", "1")[2]
    write_book(home, now_here(), is_in_sync=False, phase="BUFFERING")
    assert "not in sync (BUFFERING)" in called(surroundings, "books", "cost", "ETH-USDT", "1")[2]


def test_bought_history_becomes_features_beside_what_was_recorded(home: Path, surroundings: dict[str, str]) -> None:
    called(surroundings, "books", "seal")
    start = NOON + timedelta(minutes=45)
    book, trades = [BOOK_COLUMNS], [TRADE_COLUMNS]
    for second in range(0, 40 * 60, 5):
        us = int((start + timedelta(seconds=second)).timestamp() * 1_000_000)
        if not second:
            for side, sign in (("bid", -1), ("ask", 1)):
                book += [f"binance,ETHUSDT,{us},{us},true,{side},{1000 + sign * n}.00,5.000" for n in range(1, 4)]
        book.append(f"binance,ETHUSDT,{us},{us},false,bid,999.00,{1 + second % 7}.000")
        trades.append(f"binance,ETHUSDT,{us},{us},{second + 1},sell,999.00,0.500")
    files = home / "book.csv.gz", home / "trades.csv"
    files[0].write_bytes(gzip.compress(("\n".join(book) + "\n").encode()))
    files[1].write_text("\n".join(trades) + "\n")
    arguments = ("books", "import", "--market", "binance:ETH-USDT", *map(str, files), "--json")
    code, said, errors = called(surroundings, *arguments)
    assert (code, errors) == (0, "")
    # 12:45 to 13:25, of which the first quarter hour was recorded.
    (row,) = rows(said)
    assert (row["rows"], row["left_out"]) == (2, 1)
    project = Project(surroundings["MM_CONFIG_DIR"], surroundings["MM_DATA_DIR"])
    kept = project.lake.read("book_features", symbols=["ETH-USDT"])
    bought = kept.filter(as_of=NOON + timedelta(minutes=75))
    assert bought["sell_volume"].to_list() == [90.0]
    assert bought["in_sync_share"].to_list() == [1.0]
    stamp = project.lake.stamp()
    assert called(surroundings, *arguments)[0] == 0
    assert project.lake.stamp() == stamp
    files[1].write_text("\n".join([*trades[:5], "binance,ETHUSDT,1,1,x"]) + "\n")
    code, _, errors = called(surroundings, *arguments)
    assert code == 1
    assert "trades.csv: line 6: has 5 fields" in errors


@pytest.mark.parametrize("command", ["status", "gaps", "seal", "replay", "cost", "profile", "import"])
def test_help_has_examples(surroundings: dict[str, str], command: str) -> None:
    code, said, _ = called(surroundings, "books", command, "--help")
    assert code == 0
    assert "Examples" in said
    assert f"mm books {command}" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seal",), "no market was ever recorded; name some in books.yaml and start `mm record`"),
        (("gaps",), "is sealed, so nothing is known of gaps; `mm books seal` seals what is finished"),
        (("profile", "ETH-USDT"), "no market was ever recorded"),
    ],
)
def test_where_nothing_was_recorded_nothing_is_said_to_be_done_or_well(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    configure(tmp_path)
    code, out, errors = called(
        {"MM_CONFIG_DIR": str(tmp_path / "configuration"), "MM_DATA_DIR": str(tmp_path / "data")}, "books", *arguments
    )
    assert (code, out) == (1, "")
    assert said in " ".join(errors.split())


def test_a_market_that_was_named_and_not_recorded_yet_has_no_profile(tmp_path: Path) -> None:
    configure(tmp_path)
    feeds = [{"exchange": "kucoin", "markets": ["ETH-USDT"]}]
    (tmp_path / "configuration" / "books.yaml").write_text(yaml.safe_dump({"feeds": feeds}))
    surroundings = {"MM_CONFIG_DIR": str(tmp_path / "configuration"), "MM_DATA_DIR": str(tmp_path / "data")}
    code, said, errors = called(surroundings, "books", "profile", "ETH-USDT")
    assert (code, said) == (1, "")
    assert "kucoin:ETH-USDT: there is no profile yet" in errors
