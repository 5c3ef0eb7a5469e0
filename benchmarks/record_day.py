"""Some hours of order books in minutes: `python -m benchmarks.record_day --speed 20 --hours 2`, six minutes.

The recorder and two venues on loopback in one process, four markets, a clock that runs faster, and faults on the line:
messages that are lost, doubled, late, nonsense; connections that are cut, silent, closed after twenty minutes; requests
that are refused, slow, stale. Each message that leaves a book in sync is held to the venue's truth. Then the line is in
order until every book is the newest truth; the log is replayed. Told is what came of it, and what it takes on a disk.

`--keep FOLDER` leaves what was recorded there, with `truth.json` beside it: numbers, gaps and counts of each market.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mm_dagster.recorder.line import Pace
from mm_dagster.recorder.log import files
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.service import Service, World
from mm_dagster_tests.recorder.trials import Clock, Result, config_of, settle, stuck, watched
from mm_dagster_tests.recorder.venues import Faults, Loopback

EXCHANGES, SYMBOLS = ("kucoin", "binance"), ("ETH-USDT", "BTC-USDT")
A_SECOND = 5.0
"""Changes of a book in a second of its own time; with quotes and trades 1.7 messages each."""
FAULTS = Faults(
    drop=1e-4, twice=1e-4, late=1e-4, swap=1e-4, nonsense=2e-5, unknown=1e-4, cut=3e-5, farewell=1e-5, silence=1e-5,
    handshake=0.1, failed=0.2, slow=0.1, stale=0.2, limited=0.05,
)  # fmt: skip
CLOSED_MINUTES = 20.0
"""Of its own time, after which a venue closes a connection."""
SETTLE_SECONDS = 60.0


async def record(
    root: Path, speed: float, hours: float, seed: int
) -> tuple[Result, Service, dict[str, Loopback], float]:
    """Records, with faults for so long; then until every book is the truth. Returns how long the faults were, too."""
    clock = Clock(speed)
    faults = Faults(**asdict(FAULTS) | {"lifetime": CLOSED_MINUTES * 60 / speed})
    venues = {
        exchange: await Loopback(exchange, SYMBOLS, seed, faults=faults, clock_ms=clock.milliseconds).begin()
        for exchange in EXCHANGES
    }
    # Twenty times shorter than by default, but a busy computer needs its time as well.
    pace = Pace(first_pause=0.05, most_pause=3.0, calm=9.0, patience=3.0, missing=1.0, overlap=0.3, silence=3.0)
    service = Service(config_of(venues, SYMBOLS), root, World(clock, random.Random(seed), pace))
    result, stop, console = Result(), asyncio.Event(), Console(stderr=True)
    seconds, began = hours * 3600 / speed, time.monotonic()
    with watched(venues, result):
        running = asyncio.create_task(service.run(stop))
        while (left := began + seconds - time.monotonic()) > 0:
            await _go_on(venues, min(15.0, left), speed)
            status = service.status()
            said = ", ".join(f"{one.exchange} {one.symbol} {one.written:,} {one.phase}" for one in status.markets)
            console.print(f"{clock() / 1e9 - clock.start_ns / 1e9:,.0f} s: {said}", highlight=False, soft_wrap=True)
        for venue in venues.values():
            venue.faults = Faults()
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until and stuck(service, venues, SYMBOLS):
            await _go_on(venues, 0.3, speed)
            await asyncio.sleep(0.2)
        result.stuck = stuck(service, venues, SYMBOLS)
        stop.set()
        await running
    for venue in venues.values():
        await venue.end()
    return result, service, venues, seconds * speed


async def _go_on(venues: dict[str, Loopback], seconds: float, speed: float) -> None:
    await asyncio.gather(*(venue.go_on(seconds, A_SECOND * speed) for venue in venues.values()))


def table_of(result: Result, service: Service, venues: dict[str, Loopback], seconds: float) -> tuple[Table, list[dict]]:
    """What came of each market."""
    table = Table(title=f"{seconds / 3600:g} hours")
    for name in ("market", "messages", "in gaps", "gaps", "reconnects", "wrong", "bytes/message", "MB/day"):
        table.add_column(name, justify="left" if name == "market" else "right")
    rows = []
    for market in service.markets():
        exchange, name = market.market.exchange, market.market.name
        seen, status = result.seen[exchange, name], market.status()
        settle(market, seen, venues[exchange].markets[name], result)
        size = sum(file.path.stat().st_size for file in files(market.place.log))
        out = sum(gap.to_ns - gap.from_ns for gap in seen.gaps) / 1e9
        row: dict[str, Any] = {
            "market": f"{exchange} {market.market.symbol}", "messages": status.written, "seconds_in_gaps": out,
            "gaps": len(seen.gaps), "reconnects": status.reconnects, "wrong": seen.wrong, "bytes": size,
            "bytes_a_day": size * 86_400 / seconds, "synced": seen.synced,
        }  # fmt: skip
        rows.append(row | {"told": [asdict(gap) for gap in seen.gaps]})
        table.add_row(
            row["market"], f"{row['messages']:,}", f"{out:,.1f} s", f"{row['gaps']}", f"{row['reconnects']}",
            f"{row['wrong']} of {row['synced']:,}", f"{size / max(1, row['messages']):,.0f}",
            f"{row['bytes_a_day'] / 1e6:,.1f}",
        )  # fmt: skip
    return table, rows


def main() -> int:
    """Runs it, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=20.0, help="how many times faster than real time")
    parser.add_argument("--hours", type=float, default=2.0, help="of the markets' own time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a data folder to record into; by default one that is removed")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True  # it complains of what the venues cut
    with tempfile.TemporaryDirectory() as folder:
        root = root_of(given.keep or Path(folder))
        began, used = time.monotonic(), time.process_time()
        result, service, venues, seconds = asyncio.run(record(root, given.speed, given.hours, given.seed))
        spent, used = time.monotonic() - began, time.process_time() - used
        table, rows = table_of(result, service, venues, seconds)
        if given.keep is not None:
            (root / "truth.json").write_text(json.dumps(rows, default=str, indent=1))
    console = Console(width=140)
    console.print(table)
    asked = sum(len(venue.requests) for venue in venues.values())
    injected: Counter = sum((venue.injected for venue in venues.values()), Counter())
    console.print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(injected.items()) if count))
    reasons = Counter(reason.value for seen in result.seen.values() for gap in seen.gaps for reason in gap.reasons)
    console.print("gaps by reason: " + ", ".join(f"{name} {count}" for name, count in reasons.most_common()))
    console.print(
        f"{sum(venue.sent for venue in venues.values()):,} messages sent, {result.replayed:,} records replayed, "
        f"{len(result.differ)} of {len(rows)} replays differ, {result.uncovered} losses in no gap, "
        f"{result.wrong} wrong books; {asked} requests for books; {spent:,.0f} s, "
        f"{used / spent:.0%} of a processor with the venues, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB at most"
    )
    for fault in result.faults:
        console.print(fault)
    return bool(result.faults)


if __name__ == "__main__":
    sys.exit(main())
