"""What a feed has to know of a venue: how it is asked, subscribed to and kept alive. One module a venue says it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mm_dagster.books.ladder import Scale
from mm_dagster.books.sync import Rule
from mm_dagster.errors import ForeseenError
from mm_dagster.recorder.rest import Rest
from mm_dagster.recorder.scales import MOST_DECIMALS


class VenueError(ForeseenError):
    """A venue's answer is not what it is known to be; one line."""


@dataclass(frozen=True)
class Opening:
    """How a connection is opened and kept.

    Attributes:
        url: of the socket.
        subscribe: what is sent first.
        greets: the venue sends a message before it listens.
        acks: how many subscriptions it confirms.
        ping: what is sent now and then; None: nothing but the protocol's own pings.
        ping_seconds: between two of them.
        silence: after so many seconds without a message the connection is dead.
        lifetime: after so many seconds the next one is opened before this one is closed; None: it may live for ever.
    """

    url: str
    subscribe: tuple[str, ...] = ()
    greets: bool = False
    acks: int = 0
    ping: str | None = None
    ping_seconds: float = 20.0
    silence: float = 60.0
    lifetime: float | None = None


@dataclass(frozen=True)
class Question:
    """A request for a book.

    Attributes:
        path: behind the venue's address.
        params: of the query.
        weight: as the venue counts it.
    """

    path: str
    params: Mapping[str, str]
    weight: int = 1


class Venue(ABC):
    """A venue.

    Attributes:
        exchange: its name in books.yaml.
        rule: whose rule its books follow.
        api_url: where it answers requests.
        most_markets: of one connection.
        depth: levels of a side that it is asked for.
        limit: weight of requests a minute that it allows; None: it counts none.
    """

    exchange: ClassVar[str]
    rule: ClassVar[Rule]
    api_url: ClassVar[str]
    most_markets: ClassVar[int] = 100
    depth: int
    limit: int | None = None

    @abstractmethod
    async def scales(self, rest: Rest) -> dict[str, Scale]:
        """Of every market that it trades, by its own name.

        Raises:
            RestError: it does not answer.
            VenueError: it answers something else.
        """

    @abstractmethod
    async def opening(self, rest: Rest, names: Sequence[str], socket_url: str | None) -> Opening:
        """How a connection for some markets is opened.

        Args:
            rest: for venues that are asked before.
            names: the venue's own.
            socket_url: where the socket is; None: at its public address.

        Raises:
            RestError: it does not answer.
            VenueError: it answers something else.
        """

    def question(self, name: str) -> Question | None:
        """How a market's book is asked for; None: it comes with the subscription."""
        return None

    def resubscription(self, name: str) -> tuple[str, ...]:
        """What is sent to get a market's book once more with a new subscription."""
        return ()

    def is_ack(self, payload: bytes) -> bool:
        """Whether a message that is of no market confirms a subscription."""
        return False

    def refusal(self, payload: bytes) -> str | None:
        """What a message that is of no market refuses, so that the connection is worth nothing; None: it does not."""
        return None

    @abstractmethod
    def event_ms(self, payload: bytes) -> int | None:
        """The venue's time in a message, milliseconds since 1970, UTC; None: it says none."""


def answer_of(body: bytes, what: str) -> Any:
    """An answer's JSON.

    Raises:
        VenueError: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise VenueError(f"{what}: no JSON: {body[:60]!r}") from None


def scales_of(
    rows: Iterable[Any], what: str, read: Callable[[Mapping[str, Any]], tuple[str, Scale]]
) -> dict[str, Scale]:
    """The scales of rows of an answer; a row that cannot be read is no market of ours.

    Raises:
        VenueError: none can be read.
    """
    found: dict[str, Scale] = {}
    wrong = ""
    for row in rows:
        try:
            name, scale = read(row)
            decimals = scale.price_decimals, scale.amount_decimals
            if not isinstance(name, str) or not 0 <= min(decimals) <= max(decimals) <= MOST_DECIMALS:
                raise ValueError(f"{name!r:.40} with {decimals} decimals")
        except (KeyError, TypeError, ValueError, ArithmeticError, StopIteration, AttributeError) as error:
            wrong = f"{type(error).__name__} in {row!r:.60}"
            continue
        found[name] = scale
    if not found:
        raise VenueError(f"{what}: no market is in it{f': {wrong}' if wrong else ''}")
    return found
