"""How soon the live page answers, `python -m benchmarks.api`: beside a bare FastAPI route that reads the lake once.

Two homes are made as `mm demo` makes its own: the demo, and one grid that has run for a month. Over each the real
`mm serve` is a process, and the peer is another: FastAPI and uvicorn with one route, which reads the newest rows of
`exit_state` by `Lake.read`, as all of our code reads, and gives them out as JSON; it knows nobody and nothing else.
They take turns, round by round, over connections that stay open. Of the page four cases are told:

    again            somebody asked for it in this minute
    new minute       nobody has yet: the words that count minutes are made anew
    new commit       settled: a commit was some seconds ago, and the server has seen it
    while it comes   the request that follows a commit at once, so that all of it is read anew

    python -m benchmarks.api [ROUNDS] [--json]
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import requests
import yaml
from rich.console import Console
from rich.table import Table

from mm_dagster.bars import BAR, Span, iso, parse_time
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.pages.plain import plain
from mm_dagster.pipeline.clock import NAME as CLOCK
from mm_dagster.pipeline.project import Project

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo"
MM = (sys.executable, "-c", "import sys; from mm_dagster.cli import main; sys.argv[0] = 'mm'; main()")
GRID = {
    "id": "eth-month", "symbol": "ETH-USDT", "activated_at": "2026-05-25", "lower": 1800, "upper": 3600, "levels": 40,
    "stop": 1700, "capital": 1000,
}  # fmt: skip
"""One that runs for a month before the demo's clock begins, and is not left."""
PATHS = {"demo": "/", "a month of one grid": f"/g/{GRID['id']}?days=30"}
"""Which page is asked for, by home."""
AT_MOST = 3.0
"""Times the peer, in the cases that somebody waits for."""
PEER, AGAIN, MINUTE, COMMIT, COLD = "bare FastAPI, one read", "again", "new minute", "new commit", "while it comes"
SLOW = 3
"""Of as many rounds one waits until a commit has settled."""
SETTLES = 15.0
"""Seconds from a commit until the server has looked, looked again, and gathered."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def home(name: str, folder: Path) -> dict[str, str]:
    """Makes a home, and returns the variables that name it."""
    configuration = DEMO
    if name != "demo":
        configuration = folder / "configuration"
        (configuration / "grids").mkdir(parents=True)
        markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
        (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
        (configuration / "grids" / "eth.yaml").write_text(yaml.safe_dump(GRID))
    variables = {"MM_CONFIG_DIR": str(configuration), "MM_DATA_DIR": str(folder / "data")}
    variables |= {"MM_DAGSTER_DIR": str(folder / "dagster"), "MM_API_TOKEN": secrets.token_urlsafe(32)}
    subprocess.run([*MM, "demo"], env=os.environ | variables, check=True, capture_output=True)
    return variables


@contextmanager
def process(command: Sequence[str], variables: Mapping[str, str], address: str, log: Path) -> Iterator[int]:
    """A server, as soon as it answers; its number."""
    with log.open("wb") as said:
        running = subprocess.Popen(command, env=os.environ | dict(variables), stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(address, timeout=5)
                break
            except requests.ConnectionError:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"it did not start: {log.read_text()[-2_000:]}") from None
                time.sleep(0.1)
        yield running.pid
    finally:
        running.terminate()
        running.wait(20)


def peer(port: int) -> None:
    """Serves the peer until it is ended."""
    import uvicorn
    from fastapi import FastAPI

    lake = Project.here(says_troubles=False).lake
    newest = max(lake.newest("exit_state").values())
    span = Span(newest - BAR, newest)
    app = FastAPI()

    @app.get("/")
    def rows() -> Any:
        return plain({"rows": lake.read("exit_state", span=span).to_dicts()})

    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


@contextmanager
def served(name: str, folder: Path) -> Iterator[tuple[requests.Session, requests.Session, str, str, Path]]:
    """Both servers over a home: a browser that has entered, a program, both addresses, and the data folder."""
    variables = home(name, folder)
    ours, theirs = free_port(), free_port()
    url, other = f"http://127.0.0.1:{ours}", f"http://127.0.0.1:{theirs}"
    serve = [*MM, "serve", "--port", str(ours)]
    bare = [sys.executable, "-m", "benchmarks.api", "--peer", str(theirs)]
    with ExitStack() as stack:
        stack.enter_context(process(serve, variables, f"{url}/health", folder / "serve.log"))
        stack.enter_context(process(bare, variables, other, folder / "peer.log"))
        told = subprocess.run([*MM, "link", "--json"], env=os.environ | variables, check=True, capture_output=True)
        browser, program = requests.Session(), requests.Session()
        code = json.loads(told.stdout)[0]["code"]
        entered = browser.post(f"{url}/enter", json={"code": code}, headers={"Origin": url}, timeout=30)
        entered.raise_for_status()
        program.headers["Authorization"] = f"Bearer {variables['MM_API_TOKEN']}"
        yield browser, program, url, other, folder / "data"


def timed(session: requests.Session, address: str) -> float:
    """Seconds until the whole answer is there."""
    began = time.perf_counter()
    answer = session.get(address, timeout=60)
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    return seconds


def next_minute(data: Path) -> None:
    """Puts the clock of the home a minute on."""
    noted = json.loads((data / CLOCK).read_text())
    noted["shows"] = iso(parse_time(noted["shows"]) + timedelta(minutes=1))
    (data / CLOCK).write_text(json.dumps(noted))


def measured(name: str, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each case, the cases in turn.

    Args:
        name: of the home.
        folder: where it is made.
        rounds: how many.
    """
    seconds: dict[str, list[float]] = {case: [] for case in (PEER, AGAIN, MINUTE, COMMIT, COLD)}
    with served(name, folder) as (browser, program, url, other, data):
        page = url + PATHS[name]
        lake = Lake(data / "history")

        def commit() -> None:
            at = parse_time("2026-06-29T16:45:00Z")
            row = {"event_id": secrets.token_hex(8), "alert_id": "of the benchmark", "at": at, "event": "SENT"}
            lake.upsert("alert_event", pl.DataFrame([row]), commit=Commit("benchmark", "alert_event", ""))

        for _ in range(3):
            timed(browser, page), timed(program, other)
        for number in range(rounds):
            seconds[PEER].append(timed(program, other))
            seconds[AGAIN].append(timed(browser, page))
            next_minute(data)
            seconds[MINUTE].append(timed(browser, page))
            seconds[PEER].append(timed(program, other))
            if number % SLOW == 0:
                commit()
                seconds[COLD].append(timed(browser, page))
                commit()
                time.sleep(SETTLES)
                seconds[COMMIT].append(timed(browser, page))
            timed(browser, page)
    return seconds


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which two of the values the median lies, at 95 %: by their ranks, whatever their distribution."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    low, high = int(len(ordered) / 2 - half), int(len(ordered) / 2 + half)
    return ordered[max(low, 0)], ordered[min(high, len(ordered) - 1)]


def rows(rounds: int) -> list[dict[str, Any]]:
    """A row a home and case."""
    found = []
    for name in PATHS:
        with tempfile.TemporaryDirectory() as folder:
            seconds = measured(name, Path(folder), rounds)
        bare = median(seconds[PEER])
        for case, values in seconds.items():
            low, high = interval(values)
            found.append(
                {
                    "home": name,
                    "case": case,
                    "count": len(values),
                    "median_ms": round(1e3 * median(values), 1),
                    "low_ms": round(1e3 * low, 1),
                    "high_ms": round(1e3 * high, 1),
                    "times_the_peer": round(median(values) / bare, 2),
                    "at_most": AT_MOST if case in (AGAIN, MINUTE, COMMIT) else None,
                }
            )
    return found


def main() -> None:
    """Prints a table, or rows as JSON; exit code 1 where an answer takes longer than it may."""
    if "--peer" in sys.argv:
        peer(int(sys.argv[sys.argv.index("--peer") + 1]))
        return
    given = [word for word in sys.argv[1:] if word != "--json"]
    found = rows(int(given[0]) if given else 40)
    if "--json" in sys.argv:
        print(json.dumps(found, indent=1))
    else:
        table = Table("home", "case", title="Milliseconds until the whole answer is there")
        for title in ("median", "95 % interval", "n", "times the peer", "at most"):
            table.add_column(title, justify="right")
        for row in found:
            between = f"{row['low_ms']} to {row['high_ms']}"
            most = f"{row['at_most']:g}" if row["at_most"] else ""
            table.add_row(
                row["home"], row["case"], f"{row['median_ms']}", between, f"{row['count']}",
                f"{row['times_the_peer']}", most,
            )  # fmt: skip
        Console(width=120).print(table)
    sys.exit(any(row["at_most"] is not None and row["times_the_peer"] > row["at_most"] for row in found))


if __name__ == "__main__":
    main()
