"""The markets of one exchange on its sockets: opened, subscribed, opened again, and asked for their books.

Nothing that a venue does ends it. What goes wrong is a record of the markets that it concerns, and the next try waits
longer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import aiohttp

from mm_dagster.books.follow import BookMarket, addressed, venue_name
from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import AskSnapshot, Phase, Reason, Rule
from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.line import Line, Pace
from mm_dagster.recorder.market import Recorded, Wish
from mm_dagster.recorder.rest import Budget, Pauses, Rest, RestError, said
from mm_dagster.recorder.scales import fitting
from mm_dagster.recorder.venue import Venue
from mm_dagster.text import did_you_mean

logger = logging.getLogger("mm_dagster.recorder")

AT_ONCE = 4
"""Requests for books that are under way at most."""
Group = Mapping[str, Recorded]
"""The markets of a connection, by the venue's names."""


@dataclass(frozen=True)
class Surroundings:
    """What a feed needs of the process that it runs in.

    Attributes:
        session: whose connections are used.
        clock: nanoseconds since 1970, UTC; the one of the log.
        chance: where the jitter of pauses comes from.
        pace: how long it waits.
    """

    session: aiohttp.ClientSession
    clock: Callable[[], int]
    chance: random.Random
    pace: Pace


class Feed:
    """Markets of one exchange.

    Attributes:
        venue: whose.
        symbols: like ETH-USDT, as given.
        markets: those that are recorded, by the venue's names.
        missing: symbols that are not, and why.
        trouble: why there is no connection; None: there is, or none was tried.
        asked: requests for books since the start.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        make: Callable[[BookMarket, Venue], Recorded],
        around: Surroundings,
        api_url: str | None = None,
        socket_url: str | None = None,
    ) -> None:
        """
        Args:
            venue: whose.
            symbols: like ETH-USDT.
            make: begins a market.
            around: what it needs of the process.
            api_url: where requests are answered; None: the venue's public address.
            socket_url: where the socket is; None: likewise.
        """
        self.venue = venue
        self.symbols = tuple(symbols)
        self.markets: dict[str, Recorded] = {}
        self.missing = dict.fromkeys(symbols, f"{venue.exchange} was not asked yet which markets it has")
        self.trouble: str | None = None
        self.asked = 0
        self._symbols = {venue_name(venue.exchange, symbol): symbol for symbol in symbols}
        self._make = make
        self._around = around
        self._pace = around.pace
        self._socket_url = socket_url
        self._rest = Rest(around.session, api_url or venue.api_url, Budget(venue.limit), around.pace.patience)
        self._numbers = count(1)
        self._lines: dict[str, Line] = {}
        self._pausing: dict[str, Pauses] = {}
        self._granting: set[str] = set()
        self._fitted: dict[str, Scale] = {}
        self._few = asyncio.Semaphore(AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Goes on until it is cancelled; what is open is closed then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._begin(self._look_at_markets())
                if self.venue.rule is Rule.KRAKEN:
                    self._begin(self._remind())
        finally:
            self._tasks = None

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        """Starts what goes on beside; an error in it that nobody foresaw does not end the rest."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                logger.error("%s: %s", self.venue.exchange, said(error), exc_info=error)

        try:
            assert self._tasks is not None
            task = self._tasks.create_task(guarded())
        except (RuntimeError, AssertionError):
            work.close()  # it ends, and nothing is begun any more
        else:
            task.add_done_callback(lambda _: work.close())  # of one that was ended before it began

    def _pauses(self, *, is_at_once: bool = False) -> Pauses:
        pace = self._pace
        return Pauses(self._around.chance, pace.first_pause, pace.most_pause, pace.calm, is_at_once)

    # markets ----------------------------------------------------------------------------------------------------------

    async def _look_at_markets(self) -> None:
        """Learns the scales of the markets, begins those that the venue knows, and looks again now and then."""
        pauses = self._pauses()
        while True:
            try:
                self._adopt(await self.venue.scales(self._rest))
                wait = self._pace.missing if self.missing else self._pace.instruments
            except Exception as error:
                line = str(error) if isinstance(error, ForeseenError) else said(error)
                if not isinstance(error, ForeseenError):
                    logger.error("%s: %s", self.venue.exchange, line, exc_info=error)
                line = f"{self.venue.exchange} does not say which markets it has: {line}"
                self.missing = dict.fromkeys(self.missing, line)
                wait = pauses.next()
            await asyncio.sleep(wait)

    def _adopt(self, scales: Mapping[str, Scale]) -> None:
        fresh: dict[str, Recorded] = {}
        for name, symbol in self._symbols.items():
            scale, known = self._fitted.get(name, scales.get(name)), self.markets.get(name)
            if scale is None:
                if known is None:
                    hint = did_you_mean(name, scales)
                    self.missing[symbol] = f"{self.venue.exchange} has no market {name}{hint}; see books.yaml"
                continue
            market = BookMarket(self.venue.exchange, symbol, scale, self.venue.depth)
            if known is None:
                fresh[name] = self._made(market)
            elif known.market.scale != scale:
                self._rescale(known, scale)
        self.markets |= fresh
        names, most = list(fresh), self.venue.most_markets
        for start in range(0, len(names), most):
            self._begin(self._keep({name: fresh[name] for name in names[start : start + most]}))

    def _made(self, market: BookMarket) -> Recorded:
        found = self._make(market, self.venue)
        found.wishes = lambda wish: self._grant(found, wish)
        self._pausing[market.name] = self._pauses(is_at_once=True)
        del self.missing[market.symbol]
        return found

    # connections ------------------------------------------------------------------------------------------------------

    async def _keep(self, group: Group) -> None:
        """A connection, and the next one, for ever; where one ends by the venue's rule, the next is open before."""
        pauses = self._pauses()
        lines: list[Line] = []
        try:
            while True:
                line = self._line(group, lines)
                while (successor := await self._successor(line, group, lines)) is not None:
                    line = successor
                lines.clear()
                await asyncio.sleep(max(pauses.next(), self._rest.budget.wait(1)))
        finally:
            await asyncio.gather(*(line.end() for line in lines))

    async def _successor(self, line: Line, group: Group, lines: list[Line]) -> Line | None:
        """Waits for the end of a connection, or of the time that it may live; then the one that took its place."""
        await line.decided.wait()
        await asyncio.wait({line.task}, timeout=line.lifetime)
        pauses = self._pauses()
        while not line.task.done():
            fresh = self._line(group, lines)
            await fresh.decided.wait()
            await asyncio.wait({fresh.task}, timeout=self._pace.overlap)
            if not fresh.task.done():
                await line.end()
                lines.remove(line)
                return fresh
            lines.remove(fresh)
            await asyncio.wait({line.task}, timeout=pauses.next())
        return None

    def _line(self, group: Group, lines: list[Line]) -> Line:
        around = self._around
        line = Line(next(self._numbers), self.venue, self._rest, around.session, around.pace, self._socket_url)
        lines.append(
            line.begin(
                list(group), partial(self._opened, group), partial(self._take, group), partial(self._closed, group)
            )
        )
        line.task.add_done_callback(lambda _: self._note(line))
        return line

    def _opened(self, group: Group, line: Line) -> None:
        self.trouble = None
        now = self._around.clock()
        for name, market in group.items():
            self._lines[name] = line
            market.connected(line.number, f"subscribed {self.venue.exchange}", now)

    def _closed(self, group: Group, line: Line) -> None:
        now = self._around.clock()
        for market in group.values():
            if line.number in market.connections:
                market.disconnected(line.number, line.why, now)

    def _take(self, group: Group, line: Line, payload: bytes) -> str | None:
        """Gives a message to its markets. Returns why the connection is worth nothing, where it says so."""
        now = self._around.clock()
        names = addressed(self.venue.rule, payload)
        if names:
            for name in names:
                market = group.get(name)
                if market is not None:
                    market.pushed(line.stream, payload, now)
            return None
        if names is None:
            # Whatever it is, every market has to hear of it.
            for market in group.values():
                market.pushed(line.stream, payload, now)
        elif self.venue.is_ack(payload):
            line.acks += 1
            return None
        return self.venue.refusal(payload)

    def _note(self, line: Line) -> None:
        """Why there is no connection, for the status; of an error that nobody foresaw the trace is logged."""
        self.trouble = f"{self.venue.exchange}: {line.why}"
        error = None if line.task.cancelled() else line.task.exception()
        if error is not None:
            self.trouble = f"{self.venue.exchange}: {said(error)}"
            logger.error("%s", self.trouble, exc_info=error)

    # books ------------------------------------------------------------------------------------------------------------

    def _grant(self, market: Recorded, wish: Wish) -> None:
        """Asks the venue for what a machine wants, once at a time, and later where it was asked often."""
        name = market.market.name
        if name in self._granting:
            return  # what is under way serves it, too, and a machine that is not served says so again
        self._granting.add(name)
        pause = self._pausing[name].next()
        self._begin(self._ask(market, pause) if isinstance(wish, AskSnapshot) else self._subscribe(market, pause))

    async def _ask(self, market: Recorded, pause: float) -> None:
        name = market.market.name
        question = self.venue.question(name)
        try:
            if question is None:
                return
            await asyncio.sleep(pause)
            async with self._few:
                if not market.connections:
                    return
                self.asked += 1
                number, failed, body = market.connections[-1], "", b""
                try:
                    body = await self._rest.get(question.path, question.params, question.weight)
                except RestError as error:
                    failed = str(error)
        finally:
            # Before it is heard: it may be of no use, and then one more is wanted.
            self._granting.discard(name)
        if failed:
            market.failed(number, failed, self._around.clock())
        else:
            market.answered(number, body, self._around.clock())
            if market.is_settled:
                self._pausing[name].worked()
            elif Reason.SNAPSHOT_FAILED in market.follower.state.lost:
                self._fit(market, body)

    def _fit(self, market: Recorded, body: bytes) -> None:
        """Takes another scale where a book could not be read in this one."""
        found = fitting(market.market.scale, body)
        if found != market.market.scale:
            self._fitted[market.market.name] = found
            self._rescale(market, found)

    def _rescale(self, market: Recorded, scale: Scale) -> None:
        known = market.market
        logger.warning("%s %s: has another scale now, and its book begins anew", known.exchange, known.symbol)
        market.begin_again(replace(known, scale=scale))

    async def _subscribe(self, market: Recorded, pause: float) -> None:
        name = market.market.name
        try:
            await asyncio.sleep(pause)
            line = self._lines.get(name)
            if line is not None:
                await line.send(self.venue.resubscription(name))
        finally:
            self._granting.discard(name)

    async def _remind(self) -> None:
        """Subscribes again where a subscription brought no book: nobody else would notice."""
        waiting: dict[str, int] = {}
        while True:
            await asyncio.sleep(self._pace.patience)
            for name, market in self.markets.items():
                state = market.follower.state
                is_waiting = bool(market.connections) and state.phase is Phase.BUFFERING
                if is_waiting and waiting.get(name) == state.lost_ns and name not in self._granting:
                    self._granting.add(name)
                    self._begin(self._subscribe(market, self._pausing[name].next()))
                waiting[name] = state.lost_ns if is_waiting else -1
