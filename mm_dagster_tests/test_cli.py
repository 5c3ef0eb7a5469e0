"""The `mm` command as a person or a script calls it: in a process of its own, on a simulated market."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

MM = [sys.executable, "-c", "from mm_dagster.cli import main; main()"]
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small configuration, and two days of history."""
    folder = tmp_path_factory.mktemp("cli")
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    grid = {
        "id": "eth", "symbol": "ETH-USDT", "activated_at": "2026-06-23", "lower": 2550, "upper": 2820, "levels": 12,
        "stop": 2480, "capital": 1000,
    }  # fmt: skip
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    (configuration / "grids" / "eth.yaml").write_text(yaml.safe_dump(grid))
    assert run(folder, "backfill", "--from", "2026-06-25", "--to", "2026-06-26").returncode == 0
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Everything that is written goes below the folder, whatever the caller's environment says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    return {**own, "MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MM, *arguments], env={**environment(folder), **more}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--json"),
        ("sql", "SELECT as_of, half_life FROM regime_features ORDER BY as_of", "--json"),
        ("doctor", "--json"),
        ("tick", "--as-of", "2026-06-27T00:00Z", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_is_an_array_of_objects_and_nothing_else_is_on_stdout(folder: Path, arguments: tuple[str, ...]) -> None:
    rows = json.loads(run(folder, *arguments).stdout)
    assert rows
    assert all(isinstance(row, dict) for row in rows)


def test_a_tick_prints_its_decisions_for_people(folder: Path) -> None:
    done = run(folder, "tick", "--as-of", "2026-06-27T00:15Z")
    assert done.returncode == 0
    assert "Decisions at 2026-06-27T00:15:00Z (SIMULATED)" in done.stdout
    assert "ETH-USDT" in done.stdout
    assert (folder / "data" / "pictures" / "eth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tick", "--as-of", "soon"), "--as-of: 'soon' is not a time"),
        (("backfill", "--from", "2026-06-25", "--symbols", "ETH-USD"), "'ETH-USD' is not in markets.yaml"),
        (("backfill", "--from", "2026-06-25", "--to", "2026-06-01"), "the first one first"),
        (("sql", "SELECT * FROM nowhere"), "nowhere"),
        (("sql", "DELETE FROM candles"), "DELETE is not a query; write SELECT"),
        (("tik",), "Did you mean 'tick'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_error_is_one_line_with_the_remedy(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_configuration_that_is_not_there_is_said_in_one_line(folder: Path) -> None:
    done = run(folder, "status", MM_CONFIG_DIR=str(folder / "nowhere"))
    assert done.returncode == 1
    assert "nowhere: no such folder; set MM_CONFIG_DIR" in done.stderr
    assert "Traceback" not in done.stderr


def test_credentials_are_called_missing_or_present_and_never_shown(folder: Path) -> None:
    live = folder / "live"
    live.mkdir(exist_ok=True)
    # Nothing listens on port 9: the venue and Pushover are out of reach.
    away = "http://127.0.0.1:9"
    venue = {"kind": "ccxt", "exchange": "kucoin", "api_url": away}
    markets = {"venues": {"main": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (live / "markets.yaml").write_text(yaml.safe_dump(markets))
    (live / "alerts.yaml").write_text(yaml.safe_dump({"pushover": {"api_url": away}}))
    here = {"MM_CONFIG_DIR": str(live), "MM_DATA_DIR": str(folder / "other")}
    without = run(folder, "doctor", "--json", **here)
    assert without.returncode == 1
    details = {row["part"]: row["detail"] for row in json.loads(without.stdout)}
    assert "PUSHOVER_TOKEN and PUSHOVER_USER not set" in details["Pushover"]
    secrets = {"PUSHOVER_TOKEN": "token-nobody-may-see", "PUSHOVER_USER": "user-nobody-may-see"}
    present = run(folder, "doctor", "--json", **here, **secrets)
    assert "nobody-may-see" not in present.stdout + present.stderr


def test_ctrl_c_ends_a_backfill_with_130_and_keeps_what_was_finished(folder: Path) -> None:
    process = subprocess.Popen(
        [*MM, "backfill", "--from", "2025-01-01", "--to", "2026-05-31"],
        env=environment(folder),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    # The first month is done when its candles can be asked for from the next one.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not finished_months(folder):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.wait(PATIENCE_SECONDS) == 130
    assert time.monotonic() - began < 10
    assert process.stderr is not None
    assert b"what was finished stays" in process.stderr.read()
    assert finished_months(folder)


def finished_months(folder: Path) -> list[dict[str, object]]:
    """Months of 2025 with a verdict at their last bar."""
    query = "SELECT as_of FROM regime_verdict WHERE as_of = TIMESTAMPTZ '2025-02-01 00:00:00+00'"
    done = run(folder, "sql", query, "--json")
    rows: list[dict[str, object]] = json.loads(done.stdout or "[]")
    return rows
