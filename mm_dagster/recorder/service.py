"""The recorder: every market of books.yaml on its sockets and in its log, until it is told to end.

It lives in a process of its own, and nothing that decides waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import aiohttp

from mm_dagster.books.follow import BookMarket
from mm_dagster.config.books import BooksConfig
from mm_dagster.config.books import Feed as FeedConfig
from mm_dagster.recorder.binance import Binance, BinanceUsdm
from mm_dagster.recorder.feed import Feed, Surroundings
from mm_dagster.recorder.kraken import Kraken
from mm_dagster.recorder.kucoin import Kucoin
from mm_dagster.recorder.line import Pace
from mm_dagster.recorder.market import Kit, Recorded
from mm_dagster.recorder.places import alone, place_of
from mm_dagster.recorder.rest import said
from mm_dagster.recorder.retention import Kept, prune
from mm_dagster.recorder.status import MarketStatus, Status, write_whole
from mm_dagster.recorder.venue import Venue

logger = logging.getLogger("mm_dagster.recorder")

BEAT_SECONDS = 0.2
SAY_SECONDS = 1.0
PRUNE_SECONDS = 600.0
SHORT_SECONDS = 10.0
"""Between two looks for what may go where the disk is short."""
SLACK = 1.1
"""How many times of what must stay free is made free: so it is not short again at once."""
GIB = 1024**3


@dataclass(frozen=True)
class World:
    """What the recorder takes from outside, and a test gives.

    Attributes:
        clock: nanoseconds since 1970, UTC.
        chance: where the jitter of pauses comes from.
        pace: how long is waited.
        free_bytes: how much is free on the disk of a folder.
    """

    clock: Callable[[], int] = time.time_ns
    chance: random.Random = field(default_factory=random.Random)
    pace: Pace = field(default_factory=Pace)
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free


class Service:
    """Records until it is told to end.

    Attributes:
        feeds: one an exchange.
    """

    def __init__(self, config: BooksConfig, root: Path, world: World | None = None) -> None:
        """
        Args:
            config: books.yaml.
            root: where everything is written, see `places.root_of`.
            world: what it takes from outside.
        """
        self.feeds: list[Feed] = []
        self._config = config
        self._root = root
        self._world = world or World()
        self._started_ns = 0
        self._version = _version()
        self._reserve = round(config.free_gib * GIB)

    async def run(self, stop: asyncio.Event, say: Callable[[Status], None] = lambda status: None) -> None:
        """Goes on until `stop` is set; then every file has its end.

        Args:
            stop: set by a signal, or when the time is over.
            say: is called each second with how it stands.

        Raises:
            PlaceError: somebody else records there, or the root cannot be used.
        """
        world = self._world
        with alone(self._root), ThreadPoolExecutor(1, "sync") as sync, ThreadPoolExecutor(1, "prune") as pruning:
            self._started_ns = world.clock()
            kit = Kit(world.clock, sync, self._reserve, world.free_bytes)
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as session:
                around = Surroundings(session, world.clock, world.chance, world.pace)
                self.feeds = [self._feed(one, kit, around) for one in self._config.feeds]
                work = [asyncio.create_task(_for_ever(feed.run)) for feed in self.feeds]
                work += [
                    asyncio.create_task(_for_ever(partial(self._beat, say))),
                    asyncio.create_task(_for_ever(partial(self._prune, pruning))),
                ]
                try:
                    await stop.wait()
                finally:
                    for task in work:
                        task.cancel()
                    await asyncio.wait(work)
                    for market in self.markets():
                        market.close()
                    self._say(is_running=False)

    def markets(self) -> Iterator[Recorded]:
        """Those that have begun."""
        for feed in self.feeds:
            yield from feed.markets.values()

    def status(self, *, is_running: bool = True) -> Status:
        """How it stands."""
        world = self._world
        free = None
        with suppress(OSError):
            free = world.free_bytes(self._root)
        return Status(
            at_ns=world.clock(),
            is_running=is_running,
            pid=os.getpid(),
            started_ns=self._started_ns,
            code_version=self._version,
            free_bytes=free,
            markets=tuple(status for feed in self.feeds for status in _statuses(feed)),
        )

    def _feed(self, config: FeedConfig, kit: Kit, around: Surroundings) -> Feed:
        def make(market: BookMarket, venue: Venue) -> Recorded:
            return Recorded(market, place_of(self._root, market.exchange, market.symbol), kit, venue.event_ms)

        return Feed(venue_of(config), config.markets, make, around, config.api_url, config.socket_url)

    async def _beat(self, say: Callable[[Status], None]) -> None:
        said_at = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            for market in self.markets():
                market.beat()
            if time.monotonic() - said_at >= SAY_SECONDS:
                said_at = time.monotonic()
                say(self._say())

    def _say(self, *, is_running: bool = True) -> Status:
        status = self.status(is_running=is_running)
        for market in self.markets():
            market.say()
        # That it cannot be written stops nothing, and whoever reads it sees by its time.
        with suppress(OSError):
            write_whole(self._root, status)
        return status

    async def _prune(self, pruning: ThreadPoolExecutor) -> None:
        """Removes what need not be kept, some times an hour, and at once where the disk is short."""
        world, config = self._world, self._config
        kept = Kept(config.log_days, config.segment_days, round(self._reserve * SLACK))
        pruned_at = float("-inf")
        while True:
            is_short = any(market.problem for market in self.markets())
            if time.monotonic() - pruned_at >= (SHORT_SECONDS if is_short else PRUNE_SECONDS):
                for exchange, symbol in config.recorded:
                    place = place_of(self._root, exchange, symbol)
                    done = await asyncio.get_running_loop().run_in_executor(
                        pruning, prune, place.log, place.segments, kept, world.clock(), world.free_bytes
                    )
                    for line in done.said:
                        logger.warning("%s", line)
                pruned_at = time.monotonic()
            await asyncio.sleep(1.0)


def venue_of(config: FeedConfig) -> Venue:
    """The venue of a feed."""
    match config.exchange:
        case "kucoin":
            return Kucoin()
        case "binance":
            return Binance()
        case "binance_usdm":
            return BinanceUsdm()
    return Kraken(config.kraken_depth)


def _statuses(feed: Feed) -> Iterator[MarketStatus]:
    begun = {market.market.symbol: market for market in feed.markets.values()}
    for symbol in feed.symbols:
        market = begun.get(symbol)
        if market is not None:
            yield market.status(None if market.connections else feed.trouble)
        else:
            yield MarketStatus(
                feed.venue.exchange, symbol, None, (), None, 0, 0, 0.0, 0, 0, feed.missing[symbol], None, None, 0
            )


async def _for_ever(work: Callable[[], Coroutine[object, object, None]]) -> None:
    """Begins work again that ended by an error which nobody foresaw: one part never stops the others."""
    while True:
        try:
            await work()
        except Exception as error:
            logger.error("the recorder: %s", said(error), exc_info=error)
        await asyncio.sleep(1.0)


def _version() -> str:
    try:
        return version("mm-dagster")
    except PackageNotFoundError:
        return "unknown"
