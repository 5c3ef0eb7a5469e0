"""What the recorder says of itself: read as it was written, and never anything else whatever the file holds."""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.books.follow import BookMarket
from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Phase, Rule, begin
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.status import (
    LEVELS,
    MarketStatus,
    Status,
    decimal_text,
    read_book,
    read_status,
    write_book,
    write_whole,
)

MARKET = MarketStatus(
    "kucoin", "ETH-USDT", "BUFFERING", ("START", "MISSED"), 5, 7, 1, 12.5, 3, 2, "make room", -3.25, "a.log", 99
)
STATUS = Status(2**62, True, 77, 1, "0.1.0", 10**12, (MARKET, MARKET))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    write_whole(tmp_path, STATUS)
    assert read_status(tmp_path) == STATUS
    nothing = MarketStatus("kraken", "ETH-USDT", None, (), None, 0, 0, 0.0, 0, 0, None, None, None, 0)
    bare = Status(0, False, 1, 0, "x", None, (nothing,))
    write_whole(tmp_path, bare)
    assert read_status(tmp_path) == bare


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[]", b"\xff\x00", b"NaN", b'{"at_ns": 1e999}', b"{" * 100_000, b" " * (5 * 1024 * 1024)],
)
def test_what_is_no_status_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "status.json").write_bytes(content)
    (tmp_path / "book.json").write_bytes(content)
    assert read_status(tmp_path) is None
    assert read_book(tmp_path / "book.json") is None


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    os.mkfifo(tmp_path / "book.json")
    assert read_status(tmp_path) is None
    assert read_book(tmp_path / "book.json") is None
    assert read_status(tmp_path / "status.json" / "missing") is None


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("at_ns", -1), ("at_ns", 2**63), ("at_ns", 1.5), ("at_ns", "1"), ("at_ns", None), ("pid", True),
        ("free_bytes", -1), ("markets", {}), ("markets", [1]), ("is_running", 1), ("code_version", 7),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_is_none(tmp_path: Path, where: str, value: Any) -> None:
    (tmp_path / "status.json").write_text(json.dumps(asdict(STATUS) | {where: value}))
    assert read_status(tmp_path) is None


@pytest.mark.parametrize("trials", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_a_status_that_was_changed_at_any_byte_is_read_or_none(tmp_path: Path, trials: int) -> None:
    write_whole(tmp_path, STATUS)
    whole, chance = (tmp_path / "status.json").read_bytes(), random.Random(trials)
    nothing = 0
    for _ in range(trials):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] = chance.randrange(256)
        cut = bytes(changed[: chance.choice((len(whole), chance.randrange(len(whole))))])
        (tmp_path / "status.json").write_bytes(cut)
        found = read_status(tmp_path)
        assert found is None or isinstance(found, Status)
        nothing += found is None
    assert nothing > trials / 3


def test_the_best_levels_are_exact(tmp_path: Path) -> None:
    market = BookMarket("kucoin", "ETH-USDT", Scale(2, 11), 100)
    chance = random.Random(1)
    bids = {200_000 - number: chance.randint(1, 2**60) for number in range(150)}
    asks = {200_001 + number: chance.randint(1, 2**60) for number in range(30)}
    state = begin(Rule.KUCOIN, "ETH-USDT", 0, 100)
    state.book.change(list(bids.items()), list(asks.items()))
    path = tmp_path / "book.json"
    write_book(path, market, state, 9)
    found = read_book(path)
    assert found is not None
    assert (found.at_ns, found.phase, found.is_in_sync, found.last_id) == (9, Phase.DISCONNECTED, False, None)
    assert (len(found.bids), len(found.asks)) == (LEVELS, 30)
    assert [(Decimal(price) * 100, Decimal(lots) * 10**11) for price, lots in found.bids] == list(bids.items())[:LEVELS]
    assert [(Decimal(price) * 100, Decimal(lots) * 10**11) for price, lots in found.asks] == list(asks.items())
    assert found.reach == (None, None)


@given(st.integers(0, 2**63 - 1), st.integers(0, 18))
def test_decimals_are_exact(count: int, decimals: int) -> None:
    text = decimal_text(count, decimals)
    assert Decimal(text).scaleb(decimals) == count
    assert "E" not in text
    assert len(text.partition(".")[2]) == decimals


def test_places_are_safe_and_apart(tmp_path: Path) -> None:
    root = root_of(tmp_path)
    exchanges, symbols = ("binance", "binance_usdm"), ("A-B", "AB", "../A")
    places = [place_of(root, exchange, symbol).folder for exchange in exchanges for symbol in symbols]
    assert len(set(places)) == 6
    assert {place.parent for place in places} == {root}
