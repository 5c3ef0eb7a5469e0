"""Whatever stands in the configuration's folder: a valid configuration or one line that names a file, and soon.

The last valid one stays in force, and what vanished from the folder without a word stays watched.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mm_dagster.config import last_valid as module
from mm_dagster.config import yaml_files as files
from mm_dagster.config.errors import ConfigError
from mm_dagster.config.last_valid import GoneGrid, Kept, answered, follow, load_or_last_valid
from mm_dagster.config.load import Reading, load, read
from mm_dagster.config.whole import Config
from mm_dagster_tests.config.test_config import GRID, MARKETS

SECONDS = 10.0
"""Of the processor: a load takes milliseconds, the worst file that is taken in takes two seconds."""
EXIT = "policy: literal\nthresholds: {closes_outside: 3, break_likely: {warning_on: 0.4}}\npersist:\n  on: 2\n"
ALERTS = 'timezone: Europe/Berlin\nquiet_hours: {start: "22:00", end: "07:00"}\ndigest_at: "08:00"\n'
FILES = {"markets.yaml": MARKETS, "grids/eth-v3.yaml": GRID, "exit.yaml": EXIT, "alerts.yaml": ALERTS}
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "configuration"
    (folder / "grids").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def outcome(folder: Path) -> str | None:
    """The one line that is said of a folder; None: it is valid. Anything else fails the test."""
    began = time.thread_time()
    try:
        load(folder)
        said = None
    except ConfigError as error:
        said = str(error)
        assert said.startswith(str(folder)), said
        assert "\n" not in said
        assert said.isprintable()
        assert len(said) < 1_000
    assert time.thread_time() - began < SECONDS
    return said


def edits(text: bytes, seed: str, trials: int) -> Iterator[bytes]:
    """Every beginning of a file, and seeded bytes of it deleted, inserted, flipped, repeated or exchanged."""
    yield from (text[:length] for length in range(len(text)))
    chance = random.Random(seed)
    odd = [b"\x00", b"\xff", b"\t", b"\r", b"&a ", b"*a", b"!!", b"{", b"[", b"- ", b": ", b"? ", b"---\n", b"<<: "]
    odd += ["﻿".encode(), "\xa0".encode(), "’".encode(), b"9" * 5_000, b".inf", b"~", b"%", b"|", b"\x1b", b"0x"]
    for _ in range(trials):
        at, to = sorted(chance.choices(range(len(text) + 1), k=2))
        kind = chance.randrange(5)
        if kind == 0:
            yield text[:at] + text[to:]
        elif kind == 1:
            yield text[:at] + chance.choice(odd) + text[at:]
        elif kind == 2:
            flipped = chance.randrange(len(text))
            yield text[:flipped] + bytes([text[flipped] ^ 1 << chance.randrange(8)]) + text[flipped + 1 :]
        elif kind == 3:
            yield text[:to] + text[at:to] * chance.randrange(1, 4) + text[to:]
        else:
            yield text[:at] + bytes(chance.choices(range(256), k=chance.randrange(1, 6))) + text[at:]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("trials", [40, pytest.param(3_000, marks=pytest.mark.long)])
def test_an_edit_at_any_byte_is_a_configuration_or_one_line(folder: Path, name: str, trials: int) -> None:
    done = refused = 0
    for content in edits(FILES[name].encode(), name, trials):
        (folder / name).write_bytes(content)
        refused += outcome(folder) is not None
        done += 1
    assert done == trials + len(FILES[name].encode())
    assert 0 < refused < done


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)
)
MERGED = "a0: &a0 {k: v}\n" + "\n".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
BROKEN: dict[str, str] = {
    "31st of June": GRID.replace("2026-01-10T00:00:00Z", "2026-06-31"),
    "leap second": GRID.replace("2026-01-10T00:00:00Z", "2026-06-30T12:30:60Z"),
    "no such hour": GRID.replace("2026-01-10T00:00:00Z", "2026-06-30T25:30:00Z"),
    "year 0": GRID.replace("2026-01-10T00:00:00Z", "0000-06-30T12:30:00Z"),
    "year 1 in the far east": GRID.replace("2026-01-10T00:00:00Z", "0001-01-01T00:00:00+14:00"),
    "year 9999": GRID.replace("2026-01-10T00:00:00Z", "9999-12-31T23:59:59Z"),
    "deep": "id: " + "[" * 5_000,
    "deep blocks": "\n".join(f"{' ' * n}a:" for n in range(300)),
    "deep braces": "id: " + "{a: " * 3_000,
    "laughs": LAUGHS,
    "laughs in keys": GRID + LAUGHS,
    "laughs merged": MERGED,
    "itself": "id: &a [*a]",
    "itself as key": "&a ? *a : b",
    "huge number": GRID.replace("3070", "9" * 400),
    "number beyond Python's digits": GRID.replace("3070", "9" * 5_000),
    "huge count": GRID.replace("levels: 6", f"levels: 1{'0' * 400}"),
    "infinite": GRID.replace("3070", ".inf"),
    "no number": GRID.replace("3070", ".nan"),
    "exponent": GRID.replace("3070", "1e999"),
    "number as key": f"{GRID}1: 2\n",
    "null as key": f"{GRID}~: 2\n",
    "date as key": f"{GRID}2026-01-01: 2\n",
    "list as key": f"{GRID}? [a, b]\n: 2\n",
    "mapping as key": f"{GRID}? {{a: b}}\n: 2\n",
    "key twice": f"{GRID}id: other\n",
    "python": f"{GRID}x: !!python/object/apply:os.system ['true']\n",
    "unknown tag": f"{GRID}x: !mine 3\n",
    "bad tagged number": GRID.replace("3070", "!!int three"),
    "bad tagged time": GRID.replace("2026-01-10T00:00:00Z", "!!timestamp soon"),
    "bad tagged bytes": GRID.replace("eth-v3", "!!binary x"),
    "set": "!!set {a, b}",
    "ordered": "!!omap [a: b]",
    "merge of a word": f"{GRID}<<: word\n",
    "two documents": f"{GRID}---\n{GRID}",
    "nul": GRID.replace("eth-v3", "eth\0v3"),
    "escaped nul": GRID.replace("eth-v3", '"eth\\0v3"'),
    "half a character": GRID.replace("eth-v3", '"\\ud800"'),
    "list": "- a\n- b\n",
    "word": "word",
    "number": "3",
    "long word": "a" * 60_000,
    "long key": f"{GRID}{'a' * 900}: 1\n",
    "many keys": GRID + "\n".join(f"k{n}: 1" for n in range(5_000)),
    "too long": GRID + "#" * (files.FILE_BYTES + 1),
    "directive": "%YAML 9.9\n---\n" + GRID,
    "empty": "",
    "blank": " \n\n",
    "comment": "# nothing yet\n",
    "dashes": "---\n",
    "null": "null\n",
    "tilde": "~",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grids/eth-v3.yaml", "exit.yaml", "markets.yaml"])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_meant_is_one_line_that_names_the_file(folder: Path, kind: str, name: str) -> None:
    load_or_last_valid(folder, folder.parent / "kept")
    (folder / name).write_text(BROKEN[kind], encoding="utf-8", errors="surrogatepass")
    said = outcome(folder)
    assert said is not None
    assert said.startswith(str(folder / name))
    found = load_or_last_valid(folder, folder.parent / "kept")
    assert found.fault is not None
    assert found.config.exit.policy == "literal"
    assert [grid.stop for grid in found.config.grids] == [2990]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("31st of June", "activated_at: 2026-06-31 is wrong: day is out of range"),
        ("leap second", "activated_at: 2026-06-30T12:30:60Z is wrong: second must be"),
        ("year 9999", "is after 2200-01-01"),
        ("laughs", "20,000 values"),
        ("deep", "nested"),
        ("itself", "refers to itself"),
        ("number as key", "the key 1 is no word"),
        ("empty", "is empty; write its keys into it"),
        ("too long", "longer than 128 KiB"),
    ],
)
def test_the_line_says_what_is_wrong(folder: Path, kind: str, said: str) -> None:
    (folder / "grids" / "eth-v3.yaml").write_text(BROKEN[kind])
    assert said in str(outcome(folder))


@pytest.mark.parametrize("content", ["", "  \n", "# policy: literal\n", "---\n", "null\n", "--- # x\n...\n"])
def test_an_empty_file_is_refused_and_an_empty_mapping_is_a_wish(folder: Path, content: str) -> None:
    (folder / "exit.yaml").write_text(content)
    assert outcome(folder) == f"{folder / 'exit.yaml'}: is empty; write `{{}}` into it to have the defaults"
    (folder / "exit.yaml").write_text("{}\n")
    assert load(folder).exit.policy == "confirmed"


def test_plain_words_are_those_of_today(folder: Path) -> None:
    (folder / "alerts.yaml").write_text("quiet_hours: {start: 22:00, end: 07:00}\ndigest_at: 18:00\n")
    (folder / "grids" / "eth-v3.yaml").write_text(GRID.replace("levels: 6", "levels: 010").replace("3070", "3.07e3"))
    loaded = load(folder)
    assert loaded.alerts.quiet_hours is not None
    assert (loaded.alerts.quiet_hours.start, loaded.alerts.digest_at) == ("22:00", "18:00")
    assert (loaded.grids[0].levels, loaded.grids[0].lower) == (10, 3070.0)


def test_a_merge_of_keys_is_taken(folder: Path) -> None:
    (folder / "markets.yaml").write_text(
        "venues:\n  main: &venue {kind: ccxt, exchange: kucoin}\n  other: {<<: *venue, exchange: binance}\n"
        "markets:\n  - {symbol: ETH-USDT, venue: main}\n"
    )
    assert load(folder).markets.venues["other"].exchange == "binance"  # type: ignore[union-attr]


# what is no file ------------------------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        # The name of a socket is short.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def link(path: Path) -> None:
    path.symlink_to("user@host.1234:1700000000")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


STRANGE: list[Callable[[Path], None]] = [pipe, listening, Path.mkdir, to_device]


@pytest.mark.parametrize(
    "name", [".#eth-v3.yaml", "._eth-v3.yaml", ".hidden.yaml", "#eth-v3.yaml#", "eth.yaml~", "4913"]
)
@pytest.mark.parametrize("make", [*STRANGE, link, loop, Path.touch])
def test_what_is_hidden_is_none_of_ours(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    before = load(folder)
    make(folder / "grids" / name)
    make(folder / name.replace("eth-v3", "markets"))
    assert load(folder) == before


@pytest.mark.parametrize("make", STRANGE)
def test_what_is_no_file_is_none_of_ours(folder: Path, make: Callable[[Path], None]) -> None:
    before = load(folder)
    make(folder / "grids" / "old.yaml")
    make(folder / "old.yaml")
    assert load(folder) == before


@pytest.mark.parametrize("make", [*STRANGE, link, loop])
@pytest.mark.parametrize("name", ["markets.yaml", "exit.yaml"])
def test_what_should_be_a_file_and_is_none_is_said(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    (folder / name).unlink()
    make(folder / name)
    assert str(outcome(folder)).startswith(f"{folder / name}: is a")


@pytest.mark.parametrize("make", [link, loop])
def test_a_link_to_nothing_is_said(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "grids" / "sol.yaml")
    assert "sol.yaml: is a link to" in str(outcome(folder))


def test_a_link_to_a_file_is_read(folder: Path, tmp_path: Path) -> None:
    before = load(folder)
    for name in FILES:
        moved = tmp_path / name.replace("/", "-")
        (folder / name).rename(moved)
        (folder / name).symlink_to(moved)
    assert load(folder) == before
    (tmp_path / "current").symlink_to(folder)
    assert load(tmp_path / "current") == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM, errno.ENXIO])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_opened_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    opened = os.open

    def fails(path: Path, *arguments: int, **more: int) -> int:
        if path == folder / name:
            raise OSError(number, os.strerror(number))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(files.os, "open", fails)
    assert str(outcome(folder)).startswith(f"{folder / name}: cannot be read: {os.strerror(number)}")


PANIC = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, RecursionError, OverflowError, PANIC])
def test_an_error_that_nobody_foresaw_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def breaks(*_: object) -> None:
        raise kind("unheard of\nin two lines")

    monkeypatch.setattr("mm_dagster.config.grid.prices", breaks)
    assert str(outcome(folder)).startswith(f"{folder / 'grids' / 'eth-v3.yaml'}: ")


def test_ctrl_c_is_no_configuration_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mm_dagster.config.grid.prices", stops)
    with pytest.raises(KeyboardInterrupt):
        load(folder)


@pytest.mark.parametrize("make", [Path.touch, pipe, link, loop])
def test_a_folder_that_is_none_is_said(folder: Path, make: Callable[[Path], None]) -> None:
    for name in ("grids", "nowhere"):
        (folder / name).rename(folder / "moved") if name == "grids" else None
        make(folder / name)
    assert "grids: is " in str(outcome(folder))
    with pytest.raises(ConfigError, match="nowhere: "):
        load(folder / "nowhere")


def test_a_folder_that_is_never_at_rest_is_said_and_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, number = files._content, iter(range(10**9))
    monkeypatch.setattr(files, "_content", lambda *some: b"%d" % next(number) if content(*some) else None)
    assert "is being written to at this moment" in str(outcome(folder))


def test_two_files_that_change_together_are_read_of_one_moment(folder: Path) -> None:
    """Bounds and stop are exchanged by renames again and again: no mixture of both is ever seen."""
    texts = [GRID, GRID.replace("eth-v3", "eth-v4").replace("2990", "2000")]
    exits = [EXIT, EXIT.replace("literal", "confirmed")]
    ends = threading.Event()

    def write() -> None:
        for turn in range(10**6):
            if ends.is_set():
                return
            for name, one in (("grids/eth-v3.yaml", texts), ("exit.yaml", exits)):
                fresh = folder / ".fresh"
                fresh.write_text(one[turn % 2])
                fresh.replace(folder / name)
            time.sleep(0.004)

    writer = threading.Thread(target=write)
    writer.start()
    seen: set[str] = set()
    try:
        for _ in range(60):
            try:
                config = load(folder)
            except ConfigError as error:
                assert "is being written" in str(error)  # noqa: PT017
            else:
                seen.add(config.grids[0].id)
    finally:
        ends.set()
        writer.join()
    assert seen


# the last valid one ---------------------------------------------------------------------------------------------------


def gone(folder: Path, kept: Path) -> list[str]:
    return [one.grid.id for one in load_or_last_valid(folder, kept).gone_grids]


def vanish_file(folder: Path) -> None:
    (folder / "grids" / "eth-v3.yaml").unlink()


def vanish_folder(folder: Path) -> None:
    (folder / "grids" / "eth-v3.yaml").unlink()
    (folder / "grids").rmdir()


def vanish_market(folder: Path) -> None:
    vanish_folder(folder)
    (folder / "markets.yaml").write_text("venues: {other: {kind: simulated}}\nmarkets: [{symbol: A-B, venue: other}]\n")


def other_venue(folder: Path) -> None:
    vanish_folder(folder)
    (folder / "markets.yaml").write_text("venues: {main: {kind: simulated}}\nmarkets: [{symbol: A-B, venue: main}]\n")


def new_id(folder: Path) -> None:
    (folder / "grids" / "eth-v3.yaml").write_text(GRID.replace("id: eth-v3", "id: eth-v4"))


@pytest.mark.parametrize("vanish", [vanish_file, vanish_folder, vanish_market, other_venue, new_id])
def test_a_grid_that_vanished_stays_watched_until_it_is_back(
    folder: Path, tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    kept = tmp_path / "kept"
    before = load_or_last_valid(folder, kept).config
    vanish(folder)
    first = load_or_last_valid(folder, kept, now=lambda: NOW)
    for later in range(3):
        (folder / "exit.yaml").write_text(EXIT.replace("on: 2", f"on: {3 + later}"))
        found = load_or_last_valid(folder, kept)
        assert found.gone_grids == first.gone_grids
        assert found.gone_grids[0].since == NOW
        assert found.config.exit.persist.on == 3 + later
    config = found.config
    assert before.grids[0] in config.grids
    assert config.market("ETH-USDT").settings == before.market("ETH-USDT").settings
    assert set(read(folder).config.symbols) <= set(config.symbols)
    (sentence,) = [one.sentence for one in found.troubles]
    for part in ("eth-v3", "Put the file back", "enabled: false", "mm respond eth-v3 stopped"):
        assert part in sentence
    (folder / "markets.yaml").write_text(MARKETS)
    (folder / "grids").mkdir(exist_ok=True)
    (folder / "grids" / "under another name.yml").write_text(GRID)
    # The file with the new id is there as well: two grids with the same levels.
    (folder / "portfolio.yaml").write_text("limits: {min_step_apart: 0}\n")
    assert gone(folder, kept) == []
    assert load_or_last_valid(folder, kept).troubles == ()


def test_a_vanished_grid_ends_with_enabled_false_or_an_answer(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    vanish_file(folder)
    assert gone(folder, kept) == ["eth-v3"]
    answered(folder, kept, ["another"])
    assert gone(folder, kept) == ["eth-v3"]
    answered(folder, kept, ["eth-v3"])
    assert gone(folder, kept) == []
    (folder / "grids" / "eth-v3.yaml").write_text(GRID)
    assert load_or_last_valid(folder, kept).config.grids[0].enabled
    (folder / "grids" / "eth-v3.yaml").write_text(GRID.replace("enabled: true", "enabled: false"))
    load_or_last_valid(folder, kept)
    vanish_file(folder)
    assert gone(folder, kept) == [], "a grid that was switched off may go"


def test_a_file_that_vanished_keeps_what_it_said(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    (folder / "exit.yaml").unlink()
    for _ in range(2):
        found = load_or_last_valid(folder, kept)
        assert found.config.exit.policy == "literal"
        assert [one.name for one in found.gone_files] == ["exit"]
    (folder / "exit.yaml").write_text("{}")
    found = load_or_last_valid(folder, kept)
    assert (found.config.exit.policy, found.troubles) == ("confirmed", ())


@pytest.mark.parametrize("name", ["markets.yaml", "all"])
def test_a_folder_that_is_emptied_for_a_moment_changes_nothing(folder: Path, tmp_path: Path, name: str) -> None:
    kept, away = tmp_path / "kept", tmp_path / "away"
    before = load_or_last_valid(folder, kept).config
    if name == "all":
        folder.rename(away)
        folder.mkdir()
    else:
        (folder / name).rename(away)
    found = load_or_last_valid(folder, kept)
    assert found.config == before
    assert found.fault is not None
    assert "markets.yaml: is missing" in found.fault.line
    if name == "all":
        folder.rmdir()
    away.rename(folder if name == "all" else folder / name)
    assert load_or_last_valid(folder, kept).troubles == ()


def test_a_fault_is_the_same_one_until_it_is_mended(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    since = []
    for minute, text in enumerate(("policy: none", "policy: [", "policy: literal", "policy: none")):
        (folder / "exit.yaml").write_text(text)
        found = load_or_last_valid(folder, kept, now=lambda minute=minute: NOW + timedelta(minutes=minute))
        since.append((found.fault.since - NOW) / timedelta(minutes=1) if found.fault else None)
    assert since == [0, 0, None, 3]


# the kept copy --------------------------------------------------------------------------------------------------------


def copy_in(kept: Path) -> Path:
    (copy,) = kept.glob("*.json")
    return copy


def test_a_damaged_copy_never_stands_in_the_way_of_a_valid_folder(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    expected = load_or_last_valid(folder, kept).config
    copy = copy_in(kept)
    whole = copy.read_bytes()
    chance = random.Random("copy")
    damaged = [whole[: chance.randrange(len(whole))] for _ in range(15)] + [b"", b"\0" * 100, b"[]", b"{}", b"null"]
    for _ in range(25):
        at = chance.randrange(len(whole))
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
    for content in damaged:
        copy.write_bytes(content)
        found = load_or_last_valid(folder, kept)
        assert found.config == expected
        if content:
            assert found.not_kept is not None
        assert copy.read_bytes() == whole
        copy.write_bytes(content)
        (folder / "exit.yaml").write_text("policy: none")
        with pytest.raises(ConfigError, match="policy"):
            load_or_last_valid(folder, kept)
        (folder / "exit.yaml").write_text(EXIT)


def test_the_copy_of_another_version_is_read(folder: Path, tmp_path: Path) -> None:
    """Keys that are new have their defaults, keys that are unknown are left out; the first copies held no more."""
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    values = load(folder).model_dump(mode="json")
    del values["evaluation"], values["exit"]["persist"]
    values["exit"]["new_trigger"] = {"on": 1}
    values["grids"][0]["colour"] = "blue"
    values["markets"]["venues"]["main"]["speed"] = 3
    values["later"] = [1]
    copy_in(kept).write_text(json.dumps(values))
    (folder / "exit.yaml").write_text("policy: none")
    found = load_or_last_valid(folder, kept)
    assert (found.config.exit.policy, found.config.exit.persist.on) == ("literal", 1)
    (folder / "exit.yaml").write_text(EXIT)
    vanish_file(folder)
    assert gone(folder, kept) == ["eth-v3"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_copy_that_cannot_be_written_is_said_and_the_good_one_stays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    whole = copy_in(kept).read_bytes()
    (folder / "exit.yaml").write_text(EXIT.replace("on: 2", "on: 3"))

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(module.os, "fsync", fails)
        else:
            patch.setattr(Path, "replace", fails)
        found = load_or_last_valid(folder, kept)
    assert found.config.exit.persist.on == 3
    assert found.not_kept is not None
    assert os.strerror(number) in found.not_kept
    assert copy_in(kept).read_bytes() == whole
    assert [one.name for one in kept.iterdir() if one.suffix not in (".json", ".lock")] == []


def test_a_copy_that_cannot_be_read_is_not_written_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    whole = copy_in(kept).read_bytes()

    def fails(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        found = load_or_last_valid(folder, kept)
    assert found.not_kept is not None
    assert copy_in(kept).read_bytes() == whole


def test_a_place_for_the_copy_that_is_none_does_not_stop_a_valid_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    found = load_or_last_valid(folder, tmp_path / "kept")
    assert found.config == load(folder)
    assert found.not_kept is not None


@pytest.mark.long
def test_a_kill_while_the_copy_is_written_leaves_a_whole_one(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = (
        "import sys; from pathlib import Path; from mm_dagster.config.last_valid import load_or_last_valid\n"
        "folder, kept = map(Path, sys.argv[1:])\n"
        "text = (folder / 'exit.yaml').read_text()\n"
        "print('on', flush=True)\n"
        "for n in range(10**6):\n"
        "    (folder / 'exit.yaml').write_text(text.replace('on: 2', f'on: {n % 90 + 1}'))\n"
        "    load_or_last_valid(folder, kept)\n"
    )
    chance = random.Random("kill")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code, folder, kept], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.4))
            process.kill()
        (folder / "exit.yaml").write_text("policy: none")
        found = load_or_last_valid(folder, kept) if list(kept.glob("*.json")) else None
        assert found is None or (found.not_kept is None and found.fault is not None)
        (folder / "exit.yaml").write_text(EXIT)


def test_two_processes_note_the_same(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    load_or_last_valid(folder, kept)
    vanish_file(folder)
    found: list[GoneGrid] = []

    def look() -> None:
        found.extend(load_or_last_valid(folder, kept).gone_grids)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 8
    assert len({one.since for one in found}) == 1


# the pure part --------------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]
grid_files = some.dictionaries(some.sampled_from(NAMES), some.booleans())
markets = some.lists(some.sampled_from(["ETH-USDT", "BTC-USDT", "SOL-USDT"]), min_size=1, unique=True)
folders = some.tuples(grid_files, markets, some.sampled_from(["kucoin", "binance"]))


def reading_of(grids: dict[str, bool], symbols: list[str], exchange: str, optional: frozenset[str]) -> Reading:
    """A valid folder: its grids, on the first of its markets."""
    values = {
        "markets": {
            "venues": {"main": {"kind": "ccxt", "exchange": exchange}},
            "markets": [{"symbol": symbol, "venue": "main"} for symbol in symbols],
        },
        "grids": [
            {
                "id": name, "enabled": enabled, "symbol": symbols[0], "activated_at": "2026-01-10T00:00:00Z",
                "lower": 3070, "upper": 3185, "levels": 6, "stop": 2990, "capital": 1,
            }
            for name, enabled in sorted(grids.items())
        ],
    }  # fmt: skip
    return Reading(Config.model_validate(values), frozenset({"markets", *optional}))


steps_of = some.lists(
    some.tuples(folders, some.sets(some.sampled_from(["exit", "alerts"])), some.sets(some.sampled_from(NAMES))),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=40)
@given(steps_of)
def test_a_grid_is_watched_until_somebody_ends_it(
    steps: list[tuple[tuple[dict[str, bool], list[str], str], set[str], set[str]]],
) -> None:
    """Against a model that knows only who is watched: an enabled grid stays until its file or an answer ends it."""
    last: Kept | None = None
    watched: set[str] = set()
    files: set[str] = set()
    for hour, ((grids, symbols, exchange), optional, stopped) in enumerate(steps):
        now = NOW + timedelta(hours=hour)
        state = follow(reading_of(grids, symbols, exchange, frozenset(optional)), last, stopped, now)
        watched = {name for name in watched - stopped if name not in grids} | {name for name in grids if grids[name]}
        files |= optional
        config = state.config
        assert {grid.id for grid in config.grids if grid.enabled} == watched
        assert {grid.id for grid in config.grids} == watched | set(grids)
        assert {one.grid.id for one in state.gone_grids} == watched - set(grids)
        assert {one.name for one in state.gone_files} == files - optional
        assert set(symbols) <= set(config.symbols)
        assert len(set(config.symbols)) == len(config.symbols)
        assert all(grid.symbol in config.symbols for grid in config.grids)
        for one in state.gone_grids:
            expected = exchange if one.grid.symbol in symbols else one.venue.exchange  # type: ignore[union-attr]
            assert config.market(one.grid.symbol).settings.exchange == expected  # type: ignore[union-attr]
            before = {gone.grid.id: gone.since for gone in (last.gone_grids if last else ())}
            assert one.since == before.get(one.grid.id, now)
        assert Kept.model_validate_json(state.model_dump_json()) == state
        assert follow(Reading(state.own, frozenset(state.files)), state, (), now).own == state.own
        last = state
