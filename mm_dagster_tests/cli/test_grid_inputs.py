# ruff: noqa: E501 - a wrong input is easier to read in one line
"""What is typed wrongly: each input is one sentence with its remedy and a code that is not 0, and changes nothing."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from mm_dagster_tests.cli.given_grids import PAGE, QUIETLY, SOL, Call, bytes_of
from mm_dagster_tests.cli.on_loopback import surroundings
from mm_dagster_tests.cli.terminal import on_terminal

PAGE_WITHOUT_SYMBOL = PAGE.replace("SOL/USDT Spot Grid\n", "")

BAD = (
    ("nothing is known", ("add", "--yes"), "not known: --symbol, --lower, --upper, --levels, --stop, --capital, --activated; give"),
    ("a page without its market", ("add", "--paste", "-", "--yes"), "not known: --symbol; give it", PAGE_WITHOUT_SYMBOL),
    ("a day or a month", ("add", "--paste", "-", "--yes"), "the day or the month may come first", PAGE.replace("2025-01-10", "01/10/2025")),
    ("thousands or decimals", ("add", "--paste", "-", "--yes"), "may be 1.5 or 1500", "SOL/USDT\nLower price 120\nUpper price 140\nInvestment 1.500"),
    ("another bot's page", ("add", "--paste", "-", "--yes"), "that is no spot grid", PAGE + "Leverage 3x"),
    ("an article", ("add", "--paste", "-", "--yes"), "says nothing of a grid's bounds", "Ether rose by 6 % this week.\nMore at 10."),
    ("JSON", ("add", "--paste", "-", "--yes"), "is JSON", '{"a": 1}'),
    ("a picture", ("add", "--paste", "/bin/sh", "--yes"), "no text in UTF-8|longer than"),
    ("no such page", ("add", "--paste", "/nowhere.txt", "--yes"), "No such file or directory; name a file"),
    ("a folder as page", ("add", "--paste", "/", "--yes"), "name a file with the text"),
    ("a decimal comma", ("add", *SOL, "--stop", "112,5", *QUIETLY), "--stop: '112,5' is no number; write 112.5"),
    ("thousands with a point", ("add", *SOL, "--capital", "1.000", *QUIETLY), "may be meant in thousands; write 1.0000 or 1000"),
    ("a symbol without its hyphen", ("add", *SOL, "--symbol", "SOLUSDT", *QUIETLY), "'SOLUSDT' is no market; write SOL-USDT"),
    ("a contract", ("add", *SOL, "--symbol", "SOL/USDT:USDT", *QUIETLY), "is a contract and no spot market"),
    ("a future activation", ("add", *SOL, "--activated", "2199-01-01T00:00Z", *QUIETLY), "lies ahead"),
    ("slashes in a date", ("add", *SOL, "--activated", "01/10/2025", *QUIETLY), "may be the day or the month"),
    ("a stop above the grid", ("add", *SOL, "--stop", "130", *QUIETLY), "stop: 130 is not below lower .120.5.; a stop lies under"),
    ("bounds the wrong way round", ("add", *SOL, "--lower", "150", *QUIETLY), "upper: 140 is not above lower"),
    ("more levels than the fees leave", ("add", *SOL, "--levels", "200", *QUIETLY), "use fewer levels or wider bounds"),
    ("levels that are none", ("add", *SOL, "--levels", "6.5", *QUIETLY), "'6.5' is no number of levels"),
    ("a fee in percent", ("add", *SOL, "--fee", "0.1", *QUIETLY), "would be 10 %; write 0.1% or 0.001"),
    ("a spacing that is none", ("add", *SOL, "--spacing", "linear", *QUIETLY), "neither arithmetic nor geometric"),
    ("an id that is taken", ("add", *SOL, "--id", "eth", *QUIETLY), "has this id already; choose another --id"),
    ("an id with a slash", ("add", *SOL, "--id", "../x", *QUIETLY), "'../x' is no name; write letters"),
    ("a venue that is none", ("add", *SOL, "--venue", "mian", *QUIETLY), "did you mean main"),
    ("levels that cross another grid's", ("add", *SOL, "--symbol", "ETH-USDT", "--lower", "2551", "--upper", "2821", "--levels", "12", "--stop", "2400",
     *QUIETLY), "would buy what the other sells"),
    ("nobody can be asked", ("add", *SOL, "--no-fetch"), "Nobody can be asked here, and nothing was written; --yes"),
    ("a market far away", ("add", *SOL, "--symbol", "BTC-USDT", "--yes"), "far from the bounds"),
    ("no such grid", ("edit", "eht", "--stop", "2470", "--yes"), "did you mean eth"),
    ("nothing changes", ("edit", "eth", "--stop", "2480", "--yes"), "nothing of it changes"),
    ("an edit before the last activation", ("edit", "eth", "--stop", "2470", "--activated", "2025-01-01", "--yes"), "needs a later --activated"),
    ("an edit that makes no grid", ("edit", "eth", "--stop", "2700", "--yes"), "a stop lies under the grid"),
    ("to stop what is not there", ("stop", "btc"), "is no grid with a file"),
    ("to stop in the future", ("stop", "eth", "--at", "2199-01-01T00:00Z"), "lies in the future"),
    ("to stop before it ran", ("stop", "eth", "--at", "2025-06-01T00:00Z"), "eth"),
    ("to start what runs", ("start", "eth", "--yes"), "it runs already"),
    ("to remove what runs", ("remove", "eth"), "--yes does both"),
)  # fmt: skip


NOBODY_THOUGHT_OF = (
    ("more than there is", ("add", *SOL, "--capital", "1e308", *QUIETLY), "1e308 is more than there is"),
    ("less than there is", ("add", *SOL, "--stop", "1e-320", *QUIETLY), "is not above 0"),
    ("no number at all", ("add", *SOL, "--lower", "nan", *QUIETLY), "'nan' is no number; write a plain number"),
    ("digits of another script", ("add", *SOL, "--lower", "１２０.5", *QUIETLY), "'１２０.5' is no number"),
    ("digits as a programmer writes them", ("add", *SOL, "--capital", "1_5", *QUIETLY), "'1_5' is no number; write 15"),
    ("a fee that is none", ("add", *SOL, "--fee", "NaN", *QUIETLY), "'NaN' is no fee; write 0.1% or 0.001"),
    ("a fee of all", ("add", *SOL, "--fee", "100%", *QUIETLY), "would be 100 %"),
    ("an empty variable of a script", ("add", *SOL, "--lower", "", *QUIETLY), "'' is no number"),
    ("an empty id of a script", ("add", *SOL, "--id", "", *QUIETLY), "--id: '' is no name; write letters, digits"),
    ("an id with an umlaut", ("add", *SOL, "--id", "äpfel", *QUIETLY), "is no name; write letters"),
    ("an id without an end", ("add", *SOL, "--id", "x" * 5000, *QUIETLY), "is no name; write letters"),
    ("one currency twice", ("add", *SOL, "--symbol", "SOL-SOL", *QUIETLY), "is one currency twice"),
    ("a symbol without an end", ("add", *SOL, "--symbol", "A" * 5000, *QUIETLY), "is no market"),
    ("a second that is none", ("add", *SOL, "--activated", "2024-12-31T23:59:60Z", *QUIETLY), "second must be in 0..59"),
    ("an epoch in seconds", ("add", *SOL, "--activated", "1736467200", *QUIETLY), "is no time; write it like"),
    ("before there was history", ("add", *SOL, "--activated", "1900-01-01", *QUIETLY), "where history begins"),
    ("no stdin at all", ("add", "--paste", "-", "--yes"), "says nothing of a grid's bounds"),
    ("a page that never ends", ("add", "--paste", "/dev/zero", "--yes"), "is longer than"),
    ("a page of a user who is not there", ("add", "--paste", "~nobodyatall/page", "--yes"), "is no name of a file"),
    ("a name of a file with a null byte", ("add", "--paste", "a\0b", "--yes"), "is no name of a file"),
    ("letters from right to left", ("add", "--paste", "-", "--yes"), "says nothing|not known", "\u202eSOL/USDT\nLower 120\n"),
    ("a venue that is nowhere", ("add", *SOL, "--venue", "../x", *QUIETLY), "nor an exchange that ccxt knows"),
    ("an exchange without quarter hours", ("add", *SOL, "--venue", "p2b", *QUIETLY), "no 15-minute candles; choose another"),
    ("an exchange that tells of no grids", ("add", "--from", "KuCoin", "--yes"), "KuCoin's bots cannot be read by any program: .*; paste the bot's page"),
    ("a key that nobody exported", ("add", "--from", "OKX", "--yes"), "export OKX_API_KEY, OKX_API_SECRET and OKX_API_PASSPHRASE"),
    ("to remove another file", ("remove", "../markets", "--yes"), "is no grid with a file"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD + NOBODY_THOUGHT_OF, ids=lambda bad: bad[0])
def test_what_is_wrong_is_one_sentence_with_its_remedy_and_changes_nothing(
    mm: Call, folder: Path, bad: tuple[str, tuple[str, ...], str] | tuple[str, tuple[str, ...], str, str]
) -> None:
    _, arguments, says, *piped = bad
    before = bytes_of(folder)
    code, _, err = mm(*arguments, pipes=piped[0] if piped else None)
    last = err.strip().splitlines()[-1]
    assert code != 0
    assert last.startswith("error: "), err
    assert len(last) < 600, "the remedy is not buried"
    assert re.search(says, last), err
    assert "not foreseen" not in last
    assert str(folder / "configuration") in last or "/tmp/mm-" not in last, "no copy is named"
    assert bytes_of(folder) == before


PROGRAM = ["-c", "from mm_dagster.cli import main; main()"]
CTRL_C, CTRL_D = "\x03", "\x04"
TO_ADD = (
    ("Trading pair", "SOL-USDT\n"), ("Lower", "120.5\n"), ("Upper", "140\n"), ("Number of", "6\n"), ("intervals", "\n"), ("geometric", "\n"),
    ("Stop", "112\n"), ("Investment", "769.02\n"), ("When", "2025-01-10 00:00Z\n"), ("Fee", "\n"), ("your grid?", "y\n"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("question", [0, 5, 10])
@pytest.mark.parametrize("key", [CTRL_C, CTRL_D], ids=["Ctrl-C", "Ctrl-D"])
def test_whoever_leaves_at_a_question_writes_nothing(folder: Path, key: str, question: int) -> None:
    own = surroundings(folder / "user", {}, None)
    own |= {"MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}
    before = bytes_of(folder)
    answers = [*TO_ADD[:question], (TO_ADD[question][0], key)]
    code, said = on_terminal([*PROGRAM, "grid", "add", "--no-fetch"], answers, own=own, cwd=folder, columns=20)
    assert (code, bytes_of(folder)) == (130, before)
    assert said.splitlines()[-1] == "stopped; nothing was written"


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D], ids=["Ctrl-C", "Ctrl-D"])
def test_whoever_leaves_at_a_question_makes_no_home(tmp_path: Path, key: str) -> None:
    answers = [("time zone", "\n"), ("currency", key)]
    code, _ = on_terminal(
        [*PROGRAM, "init", "grids"], answers, own=surroundings(tmp_path / "user", {}, None), cwd=tmp_path
    )
    assert code != 0
    assert not (tmp_path / "grids").exists()


def test_a_full_disk_leaves_nothing_half(mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes_of(folder)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mm_dagster.config.put.os.fsync", full)
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert (code, bytes_of(folder)) == (1, before)
    assert "No space left on device (make room on the disk" in err
