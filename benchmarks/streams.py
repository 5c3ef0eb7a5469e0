"""What 200 open streams cost, `python -m benchmarks.streams`: memory of `mm serve`, and time of the ticks beside it.

A home with a grid that has run for a month, the real `mm serve`, and a program that holds streams open over loopback.
Ticks are processes of `mm tick`, each begun in the minute in which the schedule begins it; every other one runs beside
the streams, so that what else the machine does meets both kinds. Each stream must be told the same commits, the last
one among them. Then some clients read nothing, and at last all of them go.

    python -m benchmarks.streams [TICKS] [--json]
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests
from rich.console import Console
from rich.table import Table

from benchmarks.api import MM, free_port, home, process
from mm_dagster.bars import BAR, floor_bar, iso, parse_time
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.clock import NAME as CLOCK

STREAMS = 200
MOST_MEGABYTES = 200.0
"""That the streams may cost, all together."""
MONTH = "a month of one grid"
MINUTE = timedelta(minutes=1)
"""After its bar's close a tick begins."""
SETTLES = 8.0
"""Seconds from a commit until the server has looked, looked again, and gathered."""
PATIENCE = 30.0
"""Seconds in which every stream is told of a commit."""


@dataclass
class Found:
    """What was seen.

    Attributes:
        streams: how many were open.
        before, beside, after: megabytes of the server: without streams, with them, and when they were gone.
        alone, with_streams: seconds from the scheduled moment to the tick's end.
        server_seconds: processor time of the server during each tick and shortly after, alone and with streams.
        told: commits that the streams were told of in a tick, the fewest and the most.
        apart: streams that were told of others than the first one.
        missed: streams that were not told of the last commit.
        left: connections that the server still had when all clients had gone.
    """

    streams: int = STREAMS
    before: float = 0.0
    beside: float = 0.0
    after: float = 0.0
    alone: list[float] = field(default_factory=list)
    with_streams: list[float] = field(default_factory=list)
    server_seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    told: tuple[int, int] = (0, 0)
    apart: int = 0
    missed: int = 0
    left: int = 0


class Streams:
    """Clients that hold streams open, and what each was told."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._token = parts.hostname, parts.port, token
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Task[None]]] = []
        self.told: list[list[int]] = []

    async def open(self, count: int) -> None:
        """Opens so many, each of which has its first line."""
        self.told = [[] for _ in range(count)]
        await asyncio.gather(*(self._begin(numbers) for numbers in self.told))

    async def _begin(self, numbers: list[int]) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        head = f"GET /stream HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        writer.write(head.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"a stream was refused: {status!r}")
        while not (await reader.readline()).startswith(b"retry:"):
            pass
        self._open.append((reader, writer, asyncio.create_task(self._listen(reader, numbers))))

    async def _listen(self, reader: asyncio.StreamReader, numbers: list[int]) -> None:
        while line := await reader.readline():
            if line.startswith(b"id: "):
                numbers.append(int(line[4:]))

    async def heard(self, number: int) -> int:
        """How many were not told of a commit within the patience."""
        deadline = time.monotonic() + PATIENCE
        while True:
            missed = sum(number not in numbers for numbers in self.told)
            if not missed or time.monotonic() > deadline:
                return missed
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """All of them go."""
        for _, writer, task in self._open:
            task.cancel()
            writer.close()
        self._open = []
        await asyncio.sleep(0)


def megabytes(number: int) -> float:
    """What a process holds."""
    return float(psutil.Process(number).memory_info().rss / 1e6)


def processor_seconds(number: int) -> float:
    """User and system time of a process so far."""
    used = psutil.Process(number).cpu_times()
    return float(used.user + used.system)


def clock_at(data: Path, shows: datetime) -> None:
    """Sets the clock of a home."""
    (data / CLOCK).write_text(json.dumps({"shows": iso(shows), "at": datetime.now(UTC).isoformat()}))


async def tick(variables: dict[str, str], as_of: datetime) -> float:
    """A tick that is begun when the schedule begins it; seconds from then to its end."""
    data = Path(variables["MM_DATA_DIR"])
    clock_at(data, as_of + MINUTE)
    running = await asyncio.create_subprocess_exec(
        *MM, "tick", env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if await running.wait():
        raise RuntimeError(f"the tick of {iso(as_of)} failed")
    row = Lake(data / "history").read("tick").filter(as_of=as_of).row(0, named=True)
    return float((row["finished_at"] - as_of - MINUTE).total_seconds())


async def measured(folder: Path, ticks: int, streams: int = STREAMS) -> Found:
    """All of it.

    Args:
        folder: where the home is made.
        ticks: of each kind.
        streams: that are open beside every other tick.
    """
    found = Found(streams=streams)
    variables = home(MONTH, folder)
    data, port = Path(variables["MM_DATA_DIR"]), free_port()
    url, token = f"http://127.0.0.1:{port}", variables["MM_API_TOKEN"]
    as_of = floor_bar(parse_time(json.loads((data / CLOCK).read_text())["shows"]))
    with process([*MM, "serve", "--port", str(port)], variables, f"{url}/health", folder / "serve.log") as number:
        program = requests.Session()
        program.headers["Authorization"] = f"Bearer {token}"

        def asked(path: str) -> None:
            program.get(url + path, timeout=60).raise_for_status()

        clients, counts = Streams(url, token), []
        # The first tick is not counted: it and the first requests load what all others need.
        as_of += BAR
        await tick(variables, as_of)
        for path in ("/status", "/portfolio", "/metrics") * 3:
            await asyncio.to_thread(asked, path)
        await asyncio.sleep(5)
        found.before = megabytes(number)
        for _ in range(ticks):
            as_of += BAR
            begun = processor_seconds(number)
            found.alone.append(await tick(variables, as_of))
            await asyncio.sleep(SETTLES)
            found.server_seconds[0].append(processor_seconds(number) - begun)
            await clients.open(streams)
            as_of += BAR
            begun = processor_seconds(number)
            found.with_streams.append(await tick(variables, as_of))
            newest = Lake(data / "history").stamp().number or 0
            found.missed += await clients.heard(newest)
            await asyncio.sleep(SETTLES)
            counts.append(len(clients.told[0]))
            found.apart += sum(numbers != clients.told[0] for numbers in clients.told)
            found.server_seconds[1].append(processor_seconds(number) - begun)
            found.beside = max(found.beside, megabytes(number))
            await clients.close()
        found.told = min(counts), max(counts)
        await asyncio.sleep(20)  # until each has been sent `alive`, and found that nobody is there
        found.after = megabytes(number)
        found.left = sum(one.status == "ESTABLISHED" for one in psutil.Process(number).net_connections("tcp"))
    return found


def main() -> None:
    """Prints a table, or an object as JSON; exit code 1 where the streams cost more than they may."""
    given = [word for word in sys.argv[1:] if word != "--json"]
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(Path(folder), int(given[0]) if given else 8))
    if "--json" in sys.argv:
        print(json.dumps(asdict(found), indent=1))
    else:
        table = Table("what", title=f"{found.streams} streams")
        table.add_column("figure", justify="right")
        lines: list[tuple[str, Any]] = [
            ("MB of mm serve without streams", f"{found.before:.1f}"),
            ("with them", f"{found.beside:.1f}"),
            ("when they had gone", f"{found.after:.1f}"),
            ("s from schedule to end, median of ticks alone", f"{median(found.alone):.2f}"),
            ("beside the streams", f"{median(found.with_streams):.2f}"),
            ("processor s of mm serve in a tick, alone", f"{median(found.server_seconds[0]):.2f}"),
            ("beside the streams", f"{median(found.server_seconds[1]):.2f}"),
            ("commits of a tick that each was told of", f"{found.told[0]} to {found.told[1]}"),
            ("streams that were told of others", found.apart),
            ("streams that were not told of the last", found.missed),
            ("streams left", found.left),
        ]
        for line in lines:
            table.add_row(line[0], str(line[1]))
        Console(width=120).print(table)
    sys.exit(found.beside - found.before > MOST_MEGABYTES or found.missed + found.apart + found.left > 0)


if __name__ == "__main__":
    main()
