"""Three grids, three exchanges, no editor: from an empty machine to `mm status`, as golden/three_grids.txt has it.

The computer is one whose internet is loopback (on_loopback.py): KuCoin, Bybit and OKX speak as they do, to ccxt's real
client, and OKX verifies the signatures of a read-only key. All prices are KuCoin's of June 2025.

    python -m mm_dagster_tests.cli.test_three_grids > mm_dagster_tests/cli/golden/three_grids.txt
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, floor_bar
from mm_dagster_tests.cli.on_loopback import surroundings
from mm_dagster_tests.cli.terminal import on_terminal
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.exchanges import Bybit, OkxWithMarkets
from mm_dagster_tests.kucoin import KucoinServer
from mm_dagster_tests.okx import KEY, PASSPHRASE, SECRET, grid

pytestmark = pytest.mark.slow

GOLDEN = PROJECT / "mm_dagster_tests" / "cli" / "golden" / "three_grids.txt"
NOW = datetime(2025, 6, 30, 12, 1, 7, tzinfo=UTC)
FIRST = datetime(2025, 3, 1, tzinfo=UTC)

PAGE = """\
ETH/USDT
Spot Grid
Running
Total Profit  +8.42 USDT
Price Range  2,300 - 2,600 USDT
Number of Grids  10
Investment  769.02 USDT
Stop Loss  2,200
Created  2025-06-26 10:00
"""
"""What somebody copies from KuCoin's page; they are in Berlin."""
OF_KUCOIN = {
    "symbol": "ETH-USDT", "lower": 2300.0, "upper": 2600.0, "levels": 10, "level_convention": "intervals",
    "spacing": "arithmetic", "stop": 2200.0, "capital": 769.02, "activated_at": datetime(2025, 6, 26, 8, tzinfo=UTC),
}  # fmt: skip
OF_BYBIT = {
    "symbol": "SOL-USDT", "lower": 138.5, "upper": 165.0, "levels": 9, "level_convention": "intervals",
    "spacing": "geometric", "stop": 132.25, "capital": 412.5, "activated_at": datetime(2025, 6, 27, 14, tzinfo=UTC),
}  # fmt: skip
ANSWERS = (
    ("Trading pair", "SOL-USDT\n"), ("Lower price", "138.5\n"), ("Upper price", "165\n"), ("Number of grids", "9\n"),
    ("intervals", "\n"), ("geometric", "geometric\n"), ("Stop price", "132,25\n"), ("Stop price", "132.25\n"),
    ("Investment", "412.5\n"), ("When it was", "27.06.2025 16:00\n"), ("Fee", "\n"), ("your grid?", "y\n"),
)  # fmt: skip
"""As Bybit's page shows them; one is typed with a comma first."""
TOLD = grid(
    1, instId="ADA-USDT", minPx="0.53", maxPx="0.61", gridNum="8", slTriggerPx="0.505", investment="500.25",
    cTime="1750928400000",
)  # fmt: skip
OF_OKX = {
    "symbol": TOLD["instId"], "lower": float(TOLD["minPx"]), "upper": float(TOLD["maxPx"]),
    "levels": int(TOLD["gridNum"]), "level_convention": "intervals", "spacing": "arithmetic",
    "stop": float(TOLD["slTriggerPx"]), "capital": float(TOLD["investment"]),
    "activated_at": datetime.fromtimestamp(int(TOLD["cTime"]) / 1000, UTC),
}  # fmt: skip
GRIDS = {"eth-1": OF_KUCOIN, "sol-1": OF_BYBIT, "ada-1": OF_OKX}


def candles(symbol: str, shared_data: Path) -> pl.DataFrame:
    found = pl.read_parquet(shared_data / "candles" / "kucoin" / symbol / "15m.parquet")
    return found.with_columns(pl.col("open_time").cast(pl.Datetime("us", "UTC"))).filter(pl.col("open_time") >= FIRST)


@dataclass
class Machine:
    """A computer on which nothing is installed but `mm`.

    Attributes:
        folder: everything that is written is below it.
        own: its environment.
        exported: what the person exported since.
        transcript: what was typed and what came.
    """

    folder: Path
    own: dict[str, str]
    exported: dict[str, str] = field(default_factory=dict)
    transcript: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "grids"

    def mm(self, *command: str, code: int = 0) -> str:
        """A command, noted with what it prints; returns what it prints on stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "mm_dagster_tests.cli.on_loopback", *command],
            env=self.own | self.exported, cwd=self.folder, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        self._note(command, done.stderr + done.stdout, done.returncode)
        assert done.returncode == code, done.stderr
        return done.stdout

    def asked(self, *command: str, answers: Sequence[tuple[str, str]]) -> None:
        """A command on a terminal, with a person who answers."""
        code, said = on_terminal(
            ["-m", "mm_dagster_tests.cli.on_loopback", *command],
            # What counts as dumb is 80 columns wide whatever it says; whether it does depends on who asks.
            answers, own={**self.own, **self.exported, "TERM": "dumb", "COLUMNS": "80"}, cwd=self.folder, columns=80,
        )  # fmt: skip
        self._note(command, said, code)
        assert code == 0, said

    def export(self, **variables: str) -> None:
        self.exported |= variables
        self.transcript.append("\n".join(f"$ export {name}=***" for name in variables) + "\n")

    def typed(self, name: str, text: str) -> None:
        """A file that was pasted."""
        (self.folder / name).write_text(text)
        self.transcript.append(f"$ cat > {name}\n{text}^D\n")

    def _note(self, command: Sequence[str], said: str, code: int) -> None:
        shown = " ".join(f'"{part}"' if " " in part else part for part in command)
        lines = [line.rstrip() for line in said.splitlines() if " candles: " not in line]
        # Whether an order book came in time, and how fast candles come, is the computer's business.
        ended = f"[ends with {code}]\n" if code else ""
        text = "\n".join(lines).replace(str(self.folder), "~")
        text = re.sub(r"Leaving now: .*?±\s+[\d.]+\s+%\.", "Leaving now: ***", text, flags=re.DOTALL)
        self.transcript.append(f"$ mm {shown}\n{text}\n{ended}")


def from_nothing_to_status(folder: Path, shared_data: Path) -> Iterator[tuple[Machine, dict[str, Any]]]:
    """All of it; yields the machine and what two commands say as JSON."""
    symbols = {name: candles(name, shared_data) for name in ("BTC-USDT", "ETH-USDT", "SOL-USDT", "ADA-USDT")}
    with (
        KucoinServer({name: symbols[name] for name in ("BTC-USDT", "ETH-USDT")}, NOW) as kucoin,
        Bybit({"SOL-USDT": symbols["SOL-USDT"]}, NOW) as bybit,
        OkxWithMarkets(grids=[TOLD], candles={"ADA-USDT": symbols["ADA-USDT"]}, now=NOW) as okx,
    ):
        addresses = {"kucoin": kucoin.url, "bybit": bybit.url, "okx": okx.url}
        machine = Machine(folder, surroundings(folder / "of the user", addresses, NOW))
        machine.mm("init", "grids", "--yes", "--timezone", "Europe/Berlin")
        machine.typed("page.txt", PAGE)
        machine.mm("grid", "add", "--paste", "page.txt", "--yes")
        machine.asked("grid", "add", "--venue", "bybit", answers=ANSWERS)
        machine.mm("grid", "add", "--from", "okx", "--yes", code=1)
        machine.export(OKX_API_KEY=KEY, OKX_API_SECRET=SECRET, OKX_API_PASSPHRASE=PASSPHRASE)
        machine.mm("grid", "add", "--from", "okx", "--yes")
        machine.mm("grid", "list")
        machine.mm("tick")
        machine.mm("status")
        noted = len(machine.transcript)
        said = {name: json.loads(machine.mm(*name.split(), "--json")) for name in ("grid list", "status")}
        del machine.transcript[noted:]
        yield machine, said


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[tuple[Machine, dict[str, Any]]]:
    yield from from_nothing_to_status(tmp_path_factory.mktemp("machine"), shared_data)


def test_every_word_is_as_it_was(done: tuple[Machine, dict[str, Any]]) -> None:
    machine, _ = done
    assert "\n".join(machine.transcript) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GRIDS)
def test_every_value_is_the_exchange_s(done: tuple[Machine, dict[str, Any]], name: str) -> None:
    machine, said = done
    listed = {one["id"]: one for one in said["grid list"]}
    assert set(listed) == set(GRIDS)
    row, wanted = listed[name], GRIDS[name]
    activated = wanted["activated_at"]
    assert isinstance(activated, datetime)
    assert {key: row[key] for key in wanted} == {**wanted, "activated_at": activated.isoformat().replace("+00:00", "Z")}
    written = yaml.safe_load((machine.home / "config" / "grids" / f"{name}.yaml").read_text())
    assert {key: written[key] for key in wanted} == wanted
    assert (row["enabled"], row["fees"]["maker"], row["fees"]["taker"]) == (True, 0.001, 0.001)


@pytest.mark.parametrize("name", GRIDS)
def test_the_price_that_is_shown_is_the_exchange_s_last_close(
    done: tuple[Machine, dict[str, Any]], name: str, shared_data: Path
) -> None:
    _, said = done
    (row,) = [one for one in said["status"] if one["grid"] == name]
    close = candles(str(GRIDS[name]["symbol"]), shared_data).filter(pl.col("open_time") == floor_bar(NOW) - BAR)
    assert row["price"] == close["close"][0]
    assert row["state"] == "NORMAL"


def test_the_venues_are_written_without_a_key_and_comments_stay(done: tuple[Machine, dict[str, Any]]) -> None:
    machine, _ = done
    text = (machine.home / "config" / "markets.yaml").read_text()
    found = yaml.safe_load(text)
    account = {
        "key_env": "OKX_API_KEY", "secret_env": "OKX_API_SECRET", "passphrase_env": "OKX_API_PASSPHRASE",
    }  # fmt: skip
    assert found["venues"] == {
        "main": {"kind": "ccxt", "exchange": "kucoin"},
        "bybit": {"kind": "ccxt", "exchange": "bybit"},
        "okx": {"kind": "ccxt", "exchange": "okx", "account": account},
    }
    assert {one["symbol"]: one["venue"] for one in found["markets"]} == {
        "BTC-USDT": "main", "ETH-USDT": "main", "SOL-USDT": "bybit", "ADA-USDT": "okx",
    }  # fmt: skip
    assert "# Public candles: no key is needed." in text
    assert "# Each market that has a grid" in text
    for path in machine.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in (KEY, SECRET, PASSPHRASE)), path
    assert not re.search("|".join((KEY, SECRET, PASSPHRASE)), "\n".join(machine.transcript))


if __name__ == "__main__":
    import os

    shared = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as place:
        for machine, _ in from_nothing_to_status(Path(place), shared):
            sys.stdout.write("\n".join(machine.transcript))
