"""Trials of the whole recorder against four venues on loopback: `python -m mm_dagster_tests.recorder.trials`.

Each has its own faults for some seconds, and then a line in order until every book is the truth again. What the machine
says meanwhile is held to the truth message by message, and the log is replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mm_dagster.books.follow import Follower
from mm_dagster.books.sync import Action, Changed, Gap, Phase, Rule, open_gap
from mm_dagster.config.books import BooksConfig
from mm_dagster.recorder.binance import Binance, BinanceUsdm
from mm_dagster.recorder.frames import Kind, Reader
from mm_dagster.recorder.kucoin import Kucoin
from mm_dagster.recorder.line import Pace
from mm_dagster.recorder.log import files
from mm_dagster.recorder.market import Recorded
from mm_dagster.recorder.service import Service, World
from mm_dagster_tests.recorder.venues import Faults, Loopback, Market

VENUES = ("kucoin", "binance", "binance_usdm", "kraken")
PACE = Pace(
    first_pause=0.02, most_pause=0.2, calm=3.0, patience=0.4, missing=0.3, overlap=0.05, silence=0.5, lifetime=None
)
"""As patient as a loopback deserves."""
START_NS = 1_770_120_900_000_000_000
SETTLE_SECONDS = 12.0


@dataclass
class Clock:
    """A clock that runs faster than the computer's.

    Attributes:
        speed: how many times.
    """

    speed: float = 1.0
    start_ns: int = START_NS
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> int:
        return self.start_ns + int((time.monotonic() - self.began) * self.speed * 1e9)

    def milliseconds(self) -> int:
        return self() // 10**6


@dataclass
class Seen:
    """What a market's machine said while it was recorded.

    Attributes:
        gaps: that ended.
        applied: numbers of the book.
        synced: messages after which it was in sync.
        wrong: of these, those after which the book was not the truth.
        moments: times and whether it was in sync.
    """

    gaps: list[Gap] = field(default_factory=list)
    applied: set[int] = field(default_factory=set)
    synced: int = 0
    wrong: int = 0
    moments: list[tuple[int, bool]] = field(default_factory=list)


@dataclass
class Result:
    """What became of a trial.

    Attributes:
        seen: by exchange and name of the market.
        stuck: markets that were not the truth at the end, and how they stood.
        differ: replays that ended elsewhere, or told of other gaps.
        replayed: records that were.
        uncovered: numbers that the book never had, and no gap tells of.
        untold: moments out of sync in no gap, and gaps that overlap.
        counts: faults, messages, reconnects.
    """

    seen: dict[tuple[str, str], Seen] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)
    replayed: int = 0
    uncovered: int = 0
    untold: int = 0
    counts: Counter = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        return sum(one.wrong for one in self.seen.values())

    @property
    def faults(self) -> list[str]:
        """What must not be."""
        found = [*self.stuck, *self.differ]
        return found + [
            f"{name} {count}" for name in ("wrong", "uncovered", "untold") if (count := getattr(self, name))
        ]


@contextmanager
def watched(venues: dict[str, Loopback], result: Result) -> Iterator[None]:
    """Holds what each machine says to the truth of its venue, for as long as it lasts."""
    take = Follower.take

    def held(follower: Follower, stream: str, payload: bytes, at_ns: int) -> tuple[Action, ...]:
        actions = take(follower, stream, payload, at_ns)
        market = follower.market
        venue = venues.get(market.exchange)
        if venue is not None:
            seen = result.seen.setdefault((market.exchange, market.name), Seen())
            state = follower.state
            seen.gaps += [action for action in actions if isinstance(action, Gap)]
            changed = [one.last_id for one in actions if isinstance(one, Changed) and one.last_id is not None]
            seen.applied.update(changed)
            if state.is_in_sync:
                seen.synced += 1
                seen.wrong += not venue.markets[market.name].agrees(state, market.scale)
            seen.moments.append((at_ns, state.is_in_sync or state.phase is Phase.UNTRUSTED))
        return actions

    Follower.take = held  # type: ignore[method-assign]
    try:
        yield
    finally:
        Follower.take = take  # type: ignore[method-assign]


def config_of(venues: dict[str, Loopback], symbols: tuple[str, ...], **more: Any) -> BooksConfig:
    feeds = [venue.feed() | {"markets": symbols, "kraken_depth": 10} for venue in venues.values()]
    return BooksConfig.model_validate({"record": True, "feeds": feeds, "free_gib": 0, **more})


async def trial(
    seed: int, root: Path, *, seconds: float = 1.5, symbols: tuple[str, ...] | None = None,
    exchanges: tuple[str, ...] = VENUES, a_second: float = 60.0, faults: Faults | None = None, speed: float = 300.0,
) -> Result:  # fmt: skip
    """One trial: faults for some seconds, then none."""
    chance = random.Random(seed)
    clock = Clock(speed)
    depth = chance.choice((12, 1000))
    symbols = symbols or chance.choice((("ETH-USDT",), ("ETH-USDT", "BTC-USDT")))
    venues = {
        exchange: await Loopback(
            exchange, symbols, seed, depth=depth, faults=faults or Faults.drawn(chance), clock_ms=clock.milliseconds
        ).begin()
        for exchange in exchanges
    }
    lifetime = chance.choice((None, 0.6))
    pace = Pace(**vars(PACE) | {"lifetime": lifetime})
    service = Service(config_of(venues, symbols), root, World(clock, chance, pace))
    result, stop = Result(), asyncio.Event()
    with watched(venues, result), ExitStack() as stack:
        for one in (Kucoin, Binance, BinanceUsdm):
            stack.enter_context(patch.object(one, "depth", depth))
        running = asyncio.create_task(service.run(stop))
        await asyncio.gather(*(venue.go_on(seconds, a_second) for venue in venues.values()))
        for venue in venues.values():
            venue.faults = Faults()
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            await asyncio.gather(*(venue.go_on(0.15, a_second) for venue in venues.values()))
            # What was sent arrives.
            await asyncio.sleep(0.05)
            if not stuck(service, venues, symbols):
                break
        result.stuck = stuck(service, venues, symbols)
        stop.set()
        await running
    for venue in venues.values():
        await venue.end()
        result.counts.update({f"fault {name}": count for name, count in venue.injected.items()})
        result.counts.update(sent=venue.sent, requests=len(venue.requests), connects=len(venue.connects))
    for market in service.markets():
        seen = result.seen[market.market.exchange, market.market.name]
        result.counts.update(gaps=len(seen.gaps), synced=seen.synced, messages=market.status().written)
        result.counts.update(f"reason {reason}" for gap in seen.gaps for reason in gap.reasons)
        settle(market, seen, venues[market.market.exchange].markets[market.market.name], result)
    return result


def stuck(service: Service, venues: dict[str, Loopback], symbols: tuple[str, ...]) -> list[str]:
    """The markets whose book is not the newest truth."""
    found = {(market.market.exchange, market.market.name): market for market in service.markets()}
    wrong = []
    for exchange, venue in venues.items():
        for name, market in venue.markets.items():
            recorded = found.get((exchange, name))
            state = recorded.follower.state if recorded else None
            is_true = recorded and state and state.is_in_sync and market.agrees_now(state, recorded.market.scale)
            if not is_true and not (state and state.phase is Phase.UNTRUSTED):
                wrong.append(f"{exchange} {name}: {state and (state.phase, state.lost, state.last_id, market.number)}")
    return wrong


def settle(market: Recorded, seen: Seen, truth: Market, result: Result) -> None:
    """Asks of a market what has to hold when all is over."""
    state = market.follower.state
    spans = [(gap.from_ns, gap.to_ns) for gap in seen.gaps]
    still = open_gap(state, max(at_ns for at_ns, _ in seen.moments))
    if still is not None:
        spans.append((still.from_ns, still.to_ns))
    result.untold += sum(after[0] < before[1] for before, after in pairwise(spans))
    for at_ns, is_good in seen.moments:
        result.untold += not is_good and not any(start <= at_ns <= end for start, end in spans)
    if truth.rule is not Rule.KRAKEN:
        for number in truth.numbers:
            told = any((gap.from_id or 0) < number <= (gap.to_id or 0) for gap in seen.gaps)
            ahead = still is not None and number > (still.from_id or 0)
            result.uncovered += not (told or ahead or number in seen.applied or number > max(seen.applied, default=0))
    again, gaps, records = replayed(market.place.log)
    result.replayed += records
    name = f"{market.market.exchange} {market.market.name}"
    if again.kept() != market.follower.kept() or again.state.book.digest() != state.book.digest():
        result.differ.append(f"{name}: the replay ends elsewhere")
    if gaps != seen.gaps:
        result.differ.append(f"{name}: {len(gaps)} gaps in the replay, and {len(seen.gaps)} live")


def replayed(folder: Path) -> tuple[Follower, list[Gap], int]:
    """A machine that is fed with a log, its gaps, and how many records there were.

    Where a file begins with another book than the replay has, it goes on with that, unless it was only rotated.
    """
    follower: Follower | None = None
    gaps: list[Gap] = []
    records = 0
    for file in files(folder):
        with file.path.open("rb") as opened:
            for frame in Reader(opened):
                if frame.kind is Kind.CHECKPOINT:
                    assert frame.stream != "rotated" or follower is None or follower.kept() == frame.payload
                    follower = Follower.again(frame.payload)
                elif frame.kind is Kind.RECORD:
                    assert follower is not None
                    records += 1
                    done = follower.take(frame.stream, frame.payload, frame.recv_ns)
                    gaps += [one for one in done if isinstance(one, Gap)]
    assert follower is not None
    return follower, gaps, records


async def several(seeds: range, **more: Any) -> list[tuple[int, Result]]:
    """Trials, one after the other."""
    results = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            results.append((seed, await trial(seed, Path(folder) / "books", **more)))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--seconds", type=float, default=1.5, help="of faults")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True  # it complains of what the venues cut
    counts: Counter = Counter()
    failed = 0
    for seed in range(given.first, given.first + given.trials):
        began = time.monotonic()
        ((_, result),) = asyncio.run(several(range(seed, seed + 1), seconds=given.seconds))
        counts.update(result.counts)
        counts["replayed"] += result.replayed
        failed += bool(result.faults)
        spent, messages = time.monotonic() - began, result.counts["messages"]
        print(f"{seed}: {spent:.1f} s, {messages} messages, {result.faults or 'good'}", flush=True)
    print(dict(sorted(counts.items())))
    print(f"{given.trials} trials of {len(VENUES)} venues, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
