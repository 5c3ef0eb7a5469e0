"""`mm strategies` as a person or a script calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.planted import planted, write
from mm_dagster_tests.cli.small import called, configure
from mm_dagster_tests.conftest import PROJECT

LOUD = f"{PROJECT}/docs/studies/loud_evening.py:loud_evening"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strategies")
    configure(folder)
    write(planted(0.6, 49 + 112, 2, 3), folder / "candles")
    return folder


def mm(folder: Path, *arguments: str) -> tuple[int, str, str]:
    here = {
        "MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data"), "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    return called(here, "strategies", *arguments)


@pytest.mark.slow
def test_a_study_tells_what_passes_and_the_report_shows_it_again(folder: Path) -> None:
    code, out, err = mm(folder, "report")
    assert (code, out) == (1, "")
    assert "no study was made yet" in err
    code, out, err = mm(folder, "study", "--candles", str(folder / "candles"), "--strategy", LOUD)
    assert code == 0, err
    assert "candles, 2 markets, 2025-02-19 to 2025-06-10: basis points of the capital a day" in out
    assert "loud_evening.py:loud_evening passes the gate; nothing is switched on." in out
    assert "P01-USDT" in out
    code, out, err = mm(folder, "report")
    assert code == 0, err
    assert "candles, 2025-02-19 to 2025-06-10" in out
    assert "The ledger has 1 trial" in out
    code, out, err = mm(folder, "report", "--study", "nothing")
    assert (code, out) == (1, "")
    assert "--study nothing: there is none" in err


@pytest.mark.slow
def test_the_four_and_the_matrix_and_the_same_for_programs(folder: Path) -> None:
    (folder / "configuration" / "strategies.yaml").write_text("train_months: 1\n")
    given = ("study", "--candles", str(folder / "candles"), "--name", "mine")
    code, out, err = mm(folder, *given)
    assert code == 0, err
    assert "mine, 2 markets" in out
    for words in (
        "trend_following does not pass: ", "matrix", "The matrix, basis points a day", "in training",
        "funding_carry was not tried: no funding rate is known of these markets.",
    ):  # fmt: skip
        assert words in out
    code, out, err = mm(folder, *given, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert {row["strategy"] for row in rows} == {"trend_following", "mean_reversion", "range_trading", "matrix"}
    assert {row["period"] for row in rows} == {"whole", "out_of_sample", "in_training"}
    code, out, err = mm(folder, "report", "--study", "mine", "--json")
    assert code == 0, err
    assert len(json.loads(out)) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--strategy", "nothing.py:x"), "--strategy nothing.py: No such file or directory"),
        (("--strategy", "nothing"), "write PATH:FUNCTION"),
        (("--candles", "nowhere"), "--candles nowhere: there is no such folder"),
        (("--candles", "{}", "--markets", "X-USDT"), "--markets: 'X-USDT' is not in"),
        (("--candles", "{}", "--file", "1h.parquet"), "--file names another file"),
        (("--candles", "{}", "--funding", "nowhere"), "--funding nowhere: there is no such folder"),
        (("--funding", "{}"), "--funding goes with --candles"),
        (("--from", "2025-03-01"), "--from and --to: give both"),
        (("--candles", "{}", "--from", "2025-03-01", "--to", "2025-03-11"), "11 days are too few: a study needs 70"),
        (("--candles", "{}", "--from", "2025-03-05", "--to", "2025-03-01"), "choose whole days, the first one first"),
        (("--candles", "{}", "--from", "spring", "--to", "2025-03-01"), "'spring' is not a time"),
        (("--markets", "X-USDT"), "'X-USDT' is not in markets.yaml"),
        ((), "no candle of ETH-USDT is stored"),
    ],
)
def test_what_cannot_be_studied_is_one_line(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = mm(folder, "study", *(one.format(folder / "candles") for one in arguments))
    assert code == 1
    assert out == ""
    assert says in " ".join(err.split())
    assert "Traceback" not in err
