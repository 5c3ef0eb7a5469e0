"""`mm portfolio` as a person or a script calls it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamina.instrumentation

from mm_dagster import cli
from mm_dagster.cli.portfolio import asked_of
from mm_dagster_tests.cli.small import configure
from mm_dagster_tests.pipeline.nights import ticked

pytestmark = pytest.mark.slow

AS_OF = ("--as-of", "2026-03-02T12:05Z")


@dataclass(frozen=True)
class Said:
    """What a command said on each stream, and its exit code."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portfolio")
    ticked(folder)
    return folder


@pytest.fixture
def mm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """A command on a folder, in this process."""
    for name in list(os.environ):
        if name.startswith("MM_"):
            monkeypatch.delenv(name)

    def call(where: Path, *arguments: str) -> Said:
        monkeypatch.setenv("MM_CONFIG_DIR", str(where / "configuration"))
        monkeypatch.setenv("MM_DATA_DIR", str(where / "data"))
        cli.project_here.cache_clear()
        monkeypatch.setattr("sys.argv", ["mm", "portfolio", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        streams = capsys.readouterr()
        return Said(int(str(ended.value.code or 0)), streams.out, streams.err)

    yield call
    cli.project_here.cache_clear()
    stamina.instrumentation.set_on_retry_hooks(None)


def test_it_says_the_night_who_has_it_and_the_limits(mm: Call, folder: Path) -> None:
    said = mm(folder, *AS_OF)
    assert said.code == 0
    for words in (
        "Both grids together, by the bar of 2026-03-02 12:00 UTC",
        "One night in 20 costs",
        "From 116 nights of the last 30 days",
        "2 grids count as 1.9",
        "Bad nights follow each other",
        "Breached since 2026-03-02 07:00 UTC: session is 25 %, limit 20 %",
        "stopping takes off",
        "Shares of the equity, 8,000.00 USDT as portfolio.yaml has it",
    ):
        assert words in said.out, said.out


def test_json_has_the_three_tables_and_what_if_in_it(mm: Call, folder: Path) -> None:
    said = mm(folder, *AS_OF, "--json", "--what-if", "eth-range=2000", "--what-if", "btc-next=500")
    (row,) = json.loads(said.out)
    assert row["quote"] == "USDT"
    assert row["simulated"] is False
    assert [one["grid_id"] for one in row["contributions"]] == ["eth-range", "sol-range"]
    assert {one["limit"] for one in row["limits"]} >= {"portfolio", "es_5_24h", "fee_share"}
    asked = row["what_if"]
    assert asked["changes"] == [
        {"grid_id": "eth-range", "before": 1000.0, "after": 2000.0},
        {"grid_id": "btc-next", "before": None, "after": 500.0},
    ]
    assert asked["before"]["es_5_24h"] == pytest.approx(row["es_5_24h"], rel=1e-9)
    more = asked["after"]["es_5_24h"] - asked["before"]["es_5_24h"]
    assert asked["difference"]["es_5_24h"] == pytest.approx(more)
    assert asked["difference"]["capital"] == 1500.0
    assert json.loads(mm(folder, *AS_OF, "--json").out)[0]["what_if"] is None


def test_what_if_stands_beside_what_is(mm: Call, folder: Path) -> None:
    said = mm(folder, *AS_OF, "--what-if", "sol-range=0")
    assert said.code == 0
    for words in ("without sol-range", " on average.", "what if", "difference", "Nothing is stored"):
        assert words in said.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--what-if", "eth-rang=5"), "--what-if eth-rang: there is no such grid; did you mean eth-range?"),
        (("--what-if", "eth-range"), "--what-if eth-range: write GRID=CAPITAL"),
        (("--what-if", "eth-range=much"), "'much' is no number; write a plain number"),
        (("--what-if", "eth-range=2,000"), "write 2000 or 2.000"),
        (("--what-if", "eth-range=1.000"), "1.000 may be meant in thousands; write 1000"),
        (("--what-if", "eth-range=-5"), "'-5' is no capital; write a number of at least 0"),
        (("--what-if", "eth-range=inf"), "'inf' is no capital"),
        (("--what-if", "eth-range=1", "--what-if", "eth-range=2"), "eth-range is named twice"),
        (("--as-of", "2026-01-15T00:00Z"), "nothing is known of all grids together at 2026-01-15T00:00:00Z"),
        (("--as-of", "yesterday"), "--as-of: 'yesterday' is no time"),
    ],
)
def test_what_is_wrong_is_one_line_with_what_would_be_right(
    mm: Call, folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    said = mm(folder, *(() if arguments[0] == "--as-of" else AS_OF), *arguments)
    assert said.code == 1
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert says in errors[0]


def test_before_anything_was_computed_it_does_not_end_with_0(mm: Call, tmp_path: Path) -> None:
    configure(tmp_path)
    said = mm(tmp_path)
    assert (said.code, said.out) == (1, "")
    assert "a tick or `mm backfill` computes it" in said.err


def test_capital_is_read_by_grid() -> None:
    assert asked_of(["eth=2000", " sol = 0.5 "]) == {"eth": 2000.0, "sol": 0.5}
