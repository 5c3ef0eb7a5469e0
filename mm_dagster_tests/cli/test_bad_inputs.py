"""Thirty wrong inputs, as people give them: each ends with a code that is not 0 and one sentence that has the remedy.

`pytest -s mm_dagster_tests/cli/test_bad_inputs.py` prints the table; docs/first-steps.md has it, too:

    python -m mm_dagster_tests.cli.test_bad_inputs
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stamina
import yaml

from mm_dagster.bars import BAR, iso
from mm_dagster_tests.cli import small
from mm_dagster_tests.conftest import PROJECT

START = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = "open_time,open,high,low,close,volume"
ROWS = [f"{iso(START + n * BAR)},3013.94,3020,3000,3010,5" for n in range(48)]
BACKFILL = ("backfill", "--from", "2026-06-01", "--to", "2026-06-01")

Prepare = Callable[[Path], None]


@dataclass(frozen=True)
class Input:
    """A wrong input.

    Attributes:
        name: what is wrong.
        command: what is called.
        says: a part of what must be said, a regular expression.
        prepare: makes it of a small configuration.
        surroundings: variables that are set.
    """

    name: str
    command: tuple[str, ...]
    says: str
    prepare: Prepare = lambda folder: None
    surroundings: tuple[tuple[str, str], ...] = ()


def line(file: str, text: str) -> Prepare:
    """Puts a line in the place of that of its key in a file of the configuration, or at its end."""

    def prepare(folder: Path) -> None:
        path = folder / "configuration" / file
        key = text.partition(":")[0]
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("\n".join([*(one for one in lines if not one.startswith(f"{key}:")), text]) + "\n")

    return prepare


def grid(text: str) -> Prepare:
    return line("grids/eth.yaml", text)


def content(file: str, text: str) -> Prepare:
    return lambda folder: void((folder / "configuration" / file).write_text(text))


def void(_: object) -> None:
    """Nothing."""


def candles(rows: list[str] | None, head: str = HEAD) -> Prepare:
    """A recorded market of these rows; None: without its file."""

    def prepare(folder: Path) -> None:
        configuration = folder / "configuration"
        (configuration / "grids" / "eth.yaml").unlink()
        venue = {"kind": "recorded", "path": "candles", "file": "15m.csv"}
        markets = {"venues": {"files": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "files"}]}
        (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
        (configuration / "candles" / "ETH-USDT").mkdir(parents=True)
        if rows is not None:
            (configuration / "candles" / "ETH-USDT" / "15m.csv").write_text("\n".join([head, *rows]) + "\n")

    return prepare


def no_network(folder: Path) -> None:
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": "http://127.0.0.1:9"}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))


INPUTS = (
    Input("a time that is none", ("tick", "--as-of", "soon"), "'soon' is no time; write it like 2026"),
    Input("a quarter hour that lies ahead", ("tick", "--as-of", "2199-01-01"), "that has closed; the last one is"),
    Input(
        "days the wrong way round", ("backfill", "--from", "2026-06-02", "--to", "2026-06-01"), "the first one first"
    ),
    Input("a market of another spelling", (*BACKFILL, "--symbols", "ethusdt"), "did you mean ETH-USDT"),
    Input("a grid that is not there", ("status", "--grid", "eht"), "did you mean eth"),
    Input("a response that is none", ("respond", "eth", "stoped"), "did you mean stopped"),
    Input("a query that writes", ("sql", "DROP TABLE candles"), "DROP is not a query; write SELECT"),
    Input("a table that is not there", ("sql", "FROM candels"), 'candles"?'),
    Input("a report into no folder", ("report", "--out", "/nowhere/r.html"), "/nowhere"),
    Input(
        "no configuration",
        ("status",),
        "no such folder; set MM_CONFIG_DIR",
        surroundings=(("MM_CONFIG_DIR", "/nowhere"),),
    ),
    Input("a data folder with ?", ("status",), r"has a \? in it", surroundings=(("MM_DATA_DIR", "/tmp/what?"),)),
    Input(
        "a data folder not expanded", ("status",), "write the whole path", surroundings=(("MM_DATA_DIR", "$HOME/mm"),)
    ),
    Input("an emptied file", ("status",), "is empty; write", content("exit.yaml", "")),
    Input(
        "a key of another spelling",
        ("status",),
        "unknown key; did you mean policy",
        content("exit.yaml", "polcy: literal"),
    ),
    Input(
        "a symbol without its hyphen", ("status",), "'ETHUSDT' is no market; write ETH-USDT", grid("symbol: ETHUSDT")
    ),
    Input("a grid on no market", ("status",), "is not in markets.yaml; did you mean", grid("symbol: ETC-USDT")),
    Input("a decimal comma", ("status",), "'769,02' is no number; write 769.02", grid("capital: 769,02")),
    Input("thousands with a point", ("status",), "write 1 or 1000", grid("capital: 1.000")),
    Input("a stop above the grid", ("status",), "a stop lies under the grid", grid("stop: 2600")),
    Input("more levels than the fees leave", ("status",), "use fewer levels or wider bounds", grid("levels: 900")),
    Input("a date with slashes", ("status",), "may be the day or the month", grid("activated_at: 01/10/2026")),
    Input("a day that is none", ("status",), "day is out of range", grid("activated_at: 2026-06-31")),
    Input("an hour that is none", ("status",), 'write it like "22:00"', content("alerts.yaml", "digest_at: 25:00")),
    Input(
        "a key where a name belongs",
        ("status",),
        r"\*\*\* is wrong: must be the name of a variable",
        content("alerts.yaml", "heartbeat: {url_env: azGDORePK8gMaC0QOYAMyEEuzJnyUi}"),
    ),
    Input(
        "candles with thousands",
        BACKFILL,
        "row 2: open: '3,013.94' is no number",
        candles([row.replace("3013.94", '"3,013.94"') for row in ROWS]),
    ),
    Input(
        "a header in the middle",
        BACKFILL,
        "row 22: open_time: 'open_time' is not a time",
        candles([*ROWS[:20], HEAD, *ROWS[20:]]),
    ),
    Input(
        "candles off the quarter hour",
        BACKFILL,
        "row 2: .* is no multiple of 0:15:00",
        candles([row.replace(":00Z", ":30Z") for row in ROWS]),
    ),
    Input("hours, then quarter hours", BACKFILL, "elsewhere every 0:15:00", candles([*ROWS[:24:4], *ROWS[24:]])),
    Input(
        "columns of another name",
        BACKFILL,
        "has no column open_time; it needs",
        candles(ROWS, HEAD.replace("open_time", "time")),
    ),
    Input("an empty file", BACKFILL, "holds no candle; replace it", candles([])),
    Input("no file", BACKFILL, "put the candles there", candles(None)),
    Input("no network", BACKFILL, "check the network, and api_url", no_network),
)


def called(folder: Path, wrong: Input) -> tuple[int, str]:
    """The exit code of the command, and the last line that it says."""
    small.configure(folder)
    wrong.prepare(folder)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    own |= {"MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}
    # One for all of them: Dagster takes seconds to begin its storage.
    own |= {"MM_DAGSTER_DIR": str(folder.parent / "dagster")}
    stamina.set_testing(True)  # whom nobody answers is not asked again with pauses
    try:
        code, _, said = small.called(own | dict(wrong.surroundings), *wrong.command)
    finally:
        stamina.set_testing(False)
    lines = [one for one in said.splitlines() if one.strip()]
    return code, (lines[-1] if lines else "").replace(f"{folder}/", "")


QUICK = [
    wrong
    for wrong in INPUTS
    if wrong.command is not BACKFILL or wrong.name in ("candles with thousands", "no file", "no network")
]
"""What every run of the tests tries; a backfill takes seconds, and the tests of market/ try each of these files."""


def table(folder: Path, inputs: Sequence[Input] = INPUTS) -> Iterator[tuple[Input, int, str]]:
    for number, wrong in enumerate(inputs):
        own = folder / str(number)
        own.mkdir()
        yield wrong, *called(own, wrong)


def as_markdown(wrong: Input, code: int, said: str) -> str:
    shown = re.sub(r"the last one is \S+", "the last one is ...", said).replace("|", "\\|")
    return f"| {wrong.name} | `mm {shlex.join(wrong.command)}` | {code} | {shown} |"


@pytest.mark.parametrize("inputs", [QUICK, pytest.param(INPUTS, marks=pytest.mark.long)], ids=["quick", "all"])
def test_each_wrong_input_ends_with_a_sentence_and_its_remedy(tmp_path: Path, inputs: Sequence[Input]) -> None:
    rows = []
    for wrong, code, said in table(tmp_path, inputs):
        rows.append(as_markdown(wrong, code, said))
        print(rows[-1])
        assert code != 0, wrong.name
        assert re.search(wrong.says, said), (wrong.name, said)
        assert said.startswith("error: "), (wrong.name, said)
        assert "azGDOR" not in said
        assert "not foreseen" not in said
    assert len(rows) >= 20
    documented = (PROJECT / "docs" / "first-steps.md").read_text()
    for row in rows:
        assert row in documented, f"run `python -m {__spec__.name}` and put its table into docs/first-steps.md"  # type: ignore[name-defined]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context():
        for found in table(Path(place)):
            print(as_markdown(*found))
