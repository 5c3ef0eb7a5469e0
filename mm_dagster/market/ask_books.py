"""The order books of many markets are asked for at the same time, by threads, and what is late is left behind.

A venue that hangs costs the others nothing: each has threads of its own. See also collect_each.py.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mm_dagster.market.venue import OrderBook, Venue, VenueError
from mm_dagster.text import number_text

ONE_SECONDS = 5.0
"""How long one book may take at most, so that a few that hang leave time for the others."""


@dataclass
class _Round:
    """One round of questions: when it ends, and what came of each until then."""

    ends: float
    answers: queue.SimpleQueue[tuple[str, OrderBook | BaseException]] = field(default_factory=queue.SimpleQueue)

    def work(self, venue: Venue, symbols: queue.SimpleQueue[str]) -> None:
        """Asks one venue for one market after the other, as long as there is time."""
        while (left := self.ends - time.monotonic()) > 0:
            try:
                symbol = symbols.get_nowait()
            except queue.Empty:
                return
            try:
                self.answers.put((symbol, venue.order_book(symbol, min(left, ONE_SECONDS))))
            except BaseException as error:
                # Whatever ends a worker reaches who waits for it: a panic of a library is no Exception.
                self.answers.put((symbol, error))


def ask_books(wanted: Mapping[str, Venue], seconds: float, at_once: int) -> dict[str, OrderBook | VenueError]:
    """Asks for order books together, and says what came of each.

    Args:
        wanted: the venue of each market.
        seconds: how long all of it may take; what is not there by then is refused, and asked for no more.
        at_once: how many are asked for at the same time of one venue.
    """
    asked = _Round(time.monotonic() + seconds)
    of_venue: dict[int, list[str]] = {}
    for symbol, venue in wanted.items():
        of_venue.setdefault(id(venue), []).append(symbol)
    for symbols in of_venue.values():
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for symbol in symbols:
            waiting.put(symbol)
        for _ in range(min(at_once, len(symbols))):
            # Daemons, for which the interpreter does not wait: they only ask.
            threading.Thread(
                target=asked.work, args=(wanted[symbols[0]], waiting), name="order books", daemon=True
            ).start()
    found: dict[str, OrderBook | VenueError] = {}
    while len(found) < len(wanted):
        try:
            symbol, answer = asked.answers.get(timeout=max(0.0, asked.ends - time.monotonic()))
        except queue.Empty:
            break
        found[symbol] = answer if isinstance(answer, OrderBook | VenueError) else _unforeseen(symbol, answer)
    late = f"not answered within {number_text(seconds)} s"
    return {
        symbol: found.get(symbol) or VenueError(f"{venue.name}: {symbol}: no order book: {late}")
        for symbol, venue in wanted.items()
    }


def _unforeseen(symbol: str, error: BaseException) -> VenueError:
    said = " ".join(str(error).split())[:100]
    why = f"{type(error).__name__}{f': {said}' if said else ''}"
    return VenueError(f"{symbol}: no order book: what was sent cannot be worked with ({why})")
