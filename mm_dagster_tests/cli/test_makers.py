"""`mm makers`: on what somebody else recorded, on sealed segments, on what cannot be read, and with own quotes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from mm_dagster.books.follow import BookMarket, Follower
from mm_dagster.books.ladder import Scale
from mm_dagster.books.tape import Op
from mm_dagster.history.lake import Lake
from mm_dagster.recorder.log import Log, quarter_of
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.seal import seal
from mm_dagster_tests.books import recorded
from mm_dagster_tests.cli.small import called, configure
from mm_dagster_tests.makers.synthetic import market

MAKERS = {
    "stretch_minutes": 0.5, "learn_stretches": 2, "decide_ms": 500, "order": 20, "inventory": 100, "least_order": 1,
    "shifts": 3,
}  # fmt: skip
Mm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mm(tmp_path: Path) -> Mm:
    configure(tmp_path)
    (tmp_path / "configuration" / "makers.yaml").write_text(yaml.safe_dump(MAKERS))
    surroundings = {"MM_CONFIG_DIR": f"{tmp_path}/configuration", "MM_DATA_DIR": f"{tmp_path}/data", "COLUMNS": "200"}
    return lambda *arguments: called(surroundings, *arguments)


def write_sample(folder: Path, seed: int = 1, seconds: int = 150) -> Path:
    """A made-up market as somebody else's files."""
    tape = market(seed, seconds, leaks=True)
    folder.mkdir(parents=True)
    rows = tape.rows[(tape.rows[:, 1] == Op.BID) | (tape.rows[:, 1] == Op.ASK)]
    first = tape.rows[0, 0]
    # A message says what is new; what the book had before is removed in it.
    depth, there = [], set[tuple[int, int]]()
    for number, at in enumerate(np.unique(rows[:, 0])):
        mine = rows[rows[:, 0] == at]
        now = {(int(op), int(price)) for _, op, price, _ in mine}
        for op, price in sorted(there - now):
            depth.append((2 * number, int(at), number, False, "bid" if op == Op.BID else "ask", price / 100, 0.0))
        depth += [
            (2 * number, int(at), number, bool(at == first), "bid" if op == Op.BID else "ask", price / 100, lots / 100)
            for _, op, price, lots in mine.tolist()
        ]  # fmt: skip
        there = now
    names = ["seq", "local_ns", "final_id", "is_snapshot", "side", "price", "qty"]
    pl.DataFrame(depth, schema=names, orient="row").write_parquet(folder / "depth.parquet")
    trades = [(2 * n + 1, at, p / 100, q / 100, bool(hit)) for n, (at, p, q, hit) in enumerate(tape.trades.tolist())]
    names = ["seq", "local_ns", "price", "qty", "buyer_is_maker"]
    pl.DataFrame(trades, schema=names, orient="row").write_parquet(folder / "trades.parquet")
    return folder


def kept(folder: Path) -> dict[str, int]:
    """How many rows each table has."""
    lake = Lake(folder / "data" / "history")
    return {name: lake.read(name).height for name in ("trial", "maker_study", "maker_fill", "fill_model")}


@pytest.mark.slow
def test_a_study_of_somebody_elses_books_is_told_kept_and_counted(mm: Mm, tmp_path: Path):
    write_sample(tmp_path / "books" / "binance" / "AAA-USDT")
    code, said, errors = mm("makers", "study", "--samples", f"{tmp_path}/books", "--json", "--name", "mine")
    assert code == 0, errors
    rows = json.loads(said)
    assert {row["maker"] for row in rows} == {"naive", "glft", "expected_value"}
    for row in rows:
        parts = row["spread"] + row["fees"] + row["adverse_selection"] + row["inventory"]
        assert row["net"] == pytest.approx(parts)
        assert (row["market"], row["study"], row["passes"]) == ("binance:AAA-USDT", "mine", None)
    assert "too few" in next(row["reason"] for row in rows if row["maker"] == "naive" and row["fee_bp"] == 10)
    first = kept(tmp_path)
    assert (first["trial"], first["maker_study"]) == (3, len(rows))
    assert first["maker_fill"] > 20
    assert first["fill_model"] > 0
    # Again: nothing more.
    again = mm("makers", "study", "--samples", f"{tmp_path}/books", "--json", "--name", "mine")
    assert json.loads(again[1]) == rows
    assert kept(tmp_path) == first
    # Other settings are another trial.
    assert mm("makers", "study", "--samples", f"{tmp_path}/books", "--fee", "3", "--json")[0] == 0
    assert kept(tmp_path)["trial"] == 6
    code, said, _ = mm("makers", "report", "--study", "mine")
    assert code == 0
    assert "naive at 10 bp does not pass: " in said


@pytest.mark.slow
def test_own_quotes_stand_beside_the_others_and_pictures_are_drawn(mm: Mm, tmp_path: Path):
    write_sample(tmp_path / "books" / "AAA-USDT")
    (tmp_path / "mine.py").write_text("def mine(moment):\n    return moment.bid, moment.ask\n")
    code, said, errors = mm(
        "makers", "study", "--samples", f"{tmp_path}/books", "--quotes", f"{tmp_path}/mine.py:mine", "--pictures",
        f"{tmp_path}/drawn",
    )  # fmt: skip
    assert code == 0, errors
    assert "mine.py:mine at 10 bp does not pass: " in said
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2
    (tmp_path / "mine.py").write_text("def mine(moment):\n    return moment.nothing\n")
    code, said, errors = mm(
        "makers", "study", "--samples", f"{tmp_path}/books", "--quotes", f"{tmp_path}/mine.py:mine"
    )  # fmt: skip
    assert code == 1
    assert said == ""
    assert errors.strip().splitlines()[-1].startswith("error: --quotes mine.py:mine: ")


def test_what_cannot_be_studied_is_one_line(mm: Mm, tmp_path: Path):
    good = write_sample(tmp_path / "good" / "AAA-USDT")
    short = write_sample(tmp_path / "short" / "AAA-USDT", seconds=50)
    damaged, lacks, backward, absurd = (write_sample(tmp_path / name / "A-B") for name in ("a", "b", "c", "d"))
    (damaged / "depth.parquet").write_bytes((damaged / "depth.parquet").read_bytes()[:-40])
    pl.read_parquet(lacks / "trades.parquet").drop("price").write_parquet(lacks / "trades.parquet")
    rows = pl.read_parquet(backward / "trades.parquet")
    rows.with_columns(pl.col("local_ns").reverse()).write_parquet(backward / "trades.parquet")
    rows = pl.read_parquet(absurd / "depth.parquet")
    rows.with_columns(pl.lit(float("nan")).alias("price")).write_parquet(absurd / "depth.parquet")
    (tmp_path / "empty").mkdir()
    tried = {
        ("--samples", f"{tmp_path}/nowhere"): "there is no such folder",
        ("--samples", f"{tmp_path}/empty"): "no folder with depth.parquet and trades.parquet",
        ("--samples", f"{damaged}"): "depth.parquet: cannot be read",
        ("--samples", f"{lacks}"): "trades.parquet: cannot be read",
        ("--samples", f"{backward}"): "not in the order of `seq`",
        ("--samples", f"{absurd}"): "a level of price nan",
        ("--samples", f"{short}"): "1 whole stretches of 0.5 minutes",
        ("--samples", f"{good}", "--market", "binance:B-C"): "it is not in",
        ("--samples", f"{good}", "--fee", "-1"): "--fee -1",
        ("--samples", f"{good}", "--stretch", "0"): "--stretch 0",
        ("--samples", f"{good}", "--quotes", "mine.py"): "write PATH:FUNCTION",
        (): "no market stands in books.yaml",
    }
    for arguments, says in tried.items():
        code, said, errors = mm("makers", "study", *arguments)
        assert code != 0, arguments
        assert said == "", arguments
        assert says in errors, (arguments, errors)
        assert len(errors.strip().splitlines()) == 1, errors
    assert mm("makers", "report")[0] == 1


@pytest.mark.long
def test_sealed_segments_are_studied_and_a_damaged_one_is_left_out(mm: Mm, tmp_path: Path, shared_data: Path):
    if not (shared_data / "l2").is_dir():
        pytest.skip("MM_SHARED_DATA has no l2 books")
    books = {"feeds": [{"exchange": "binance", "markets": ["ETH-USDT"]}]}
    (tmp_path / "configuration" / "books.yaml").write_text(yaml.safe_dump(books))
    code, _, errors = mm("makers", "study")
    assert code == 1
    assert "nothing is recorded" in errors
    place = place_of(root_of(tmp_path / "data"), "binance", "ETH-USDT")
    frames = recorded.binance_log(shared_data / "l2" / "binance" / "ETH-USDT", "binance")
    follower = Follower.begin(BookMarket("binance", "ETH-USDT", Scale(2, 5), 1001), frames[0][1])
    now = frames[0][1]
    log = Log(place.log, follower.kept, lambda: now)
    for _, at, stream, payload in frames[1:]:
        now, payload = at, payload.replace(b'"s":"M"', b'"s":"ETHUSDT"')
        log.append(stream, payload, at)
        follower.take(stream, payload, at)
    now += 900 * 10**9
    log.append("PUSHED 0", b"{}", now)
    log.close()
    for quarter in sorted({quarter_of(frame[1]) for frame in frames}):
        seal("binance:ETH-USDT", place.log, place.segments, quarter)
    code, said, errors = mm("makers", "study", "--json")
    assert code == 0, errors
    rows = json.loads(said)
    assert {row["market"] for row in rows} == {"binance:ETH-USDT"}
    assert rows[0]["stretches"] > 15
    assert next(row for row in rows if row["maker"] == "naive" and row["fee_bp"] == 10)["fills"] > 100
    second = sorted(place.segments.glob("*.parquet"))[1]
    second.write_bytes(second.read_bytes()[:-1])
    code, said, errors = mm("makers", "study", "--json")
    assert code == 0, errors
    assert f"left out: {second.name}: it is damaged" in errors
    assert json.loads(said)[0]["stretches"] < rows[0]["stretches"]
