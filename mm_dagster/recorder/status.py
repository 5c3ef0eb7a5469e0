"""What the recorder says of itself each second: one status file for all, and the best levels of each market.

Both are for others, who read them while they are replaced, or after the recorder died: whatever is found there, a
reader gets what was written as a whole, or None. How old it is they see by `at_ns`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from mm_dagster.books.follow import BookMarket
from mm_dagster.books.sync import State
from mm_dagster.recorder.log import STATUS, write_status

LEVELS = 100
"""Of a side in a market's book file."""
MOST_BYTES = 4 * 1024 * 1024
"""Of either file: a longer one is not ours."""
T = TypeVar("T")
Nanoseconds = Annotated[int, Field(ge=0, lt=2**63)]
"""Since 1970, UTC."""
Count = Annotated[int, Field(ge=0)]
Decimals = Annotated[str, Field(pattern=r"^[0-9]{1,20}(\.[0-9]{1,20})?$")]
"""A number of at least 0, exact."""
Level = tuple[Decimals, Decimals]
"""Price and amount."""
_STRICT = ConfigDict(strict=True)


@validated(frozen=True, config=_STRICT)
class MarketStatus:
    """How a market stands.

    Attributes:
        exchange: its name in books.yaml.
        symbol: like ETH-USDT.
        phase: of `books.sync.Phase`; None: it has not begun, `problem` says why.
        reasons: of `books.sync.Reason`, why the book is not in sync; empty: it is.
        last_recv_ns: when its last message was received; None: none yet.
        written: messages that were kept since the start.
        lost: messages that were received and could not be kept.
        per_second: messages a second, over the last seconds.
        gaps: spans since the start in which the book was not in sync; the one that is open is not among them.
        reconnects: connections since the start, without the first.
        problem: what somebody should see to, one line; None: nothing.
        clock_offset_ms: the venue's time of an event less its receive time, median of the last minute; None: the venue
            sends no time, or nothing came.
        file: name of the log's file; None: none is written.
        file_bytes: its size.
    """

    exchange: str
    symbol: str
    phase: str | None
    reasons: tuple[str, ...]
    last_recv_ns: Nanoseconds | None
    written: Count
    lost: Count
    per_second: FiniteFloat
    gaps: Count
    reconnects: Count
    problem: str | None
    clock_offset_ms: FiniteFloat | None
    file: str | None
    file_bytes: Count


@validated(frozen=True, config=_STRICT)
class Status:
    """How the recorder stands.

    Attributes:
        at_ns: when this was said.
        is_running: it goes on after this; the last word of one that ended is that it does not.
        pid: of its process.
        started_ns: when it began.
        code_version: of the program.
        free_bytes: of the disk; None: the disk does not say.
        markets: in the order of books.yaml.
    """

    at_ns: Nanoseconds
    is_running: bool
    pid: Count
    started_ns: Nanoseconds
    code_version: str
    free_bytes: Count | None
    markets: tuple[MarketStatus, ...]


@validated(frozen=True, config=_STRICT)
class BestLevels:
    """The best levels of a market.

    Attributes:
        at_ns: when this was said.
        phase: of `books.sync.Phase`.
        is_in_sync: the levels are the venue's at `last_id`. Of Kraken's the ten best of each side are vouched for.
        last_id: the book's number; None: it has none.
        bids: the best first, at most `LEVELS`.
        asks: likewise.
        reach: price of the last bid and the last ask that the snapshot under it showed: farther out a level may be
            missing. None: the whole side is known.
    """

    at_ns: Nanoseconds
    phase: str
    is_in_sync: bool
    last_id: Count | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    reach: tuple[Decimals | None, Decimals | None]


@dataclass(frozen=True)
class _File(Generic[T]):
    """A kind of file."""

    adapter: TypeAdapter[T]

    def read(self, path: Path) -> T | None:
        try:
            # A pipe would be waited for.
            if not stat.S_ISREG(path.stat().st_mode):
                return None
            with path.open("rb") as opened:
                content = opened.read(MOST_BYTES + 1)
            return None if len(content) > MOST_BYTES else self.adapter.validate_json(content)
        except (OSError, ValidationError):
            return None


_STATUS = _File(TypeAdapter(Status))
_BOOK = _File(TypeAdapter(BestLevels))


def read_status(root: Path) -> Status | None:
    """What the recorder said last; None: nothing that can be read.

    Args:
        root: of all markets.
    """
    return _STATUS.read(root / STATUS)


def write_whole(root: Path, status: Status) -> None:
    """Says how the recorder stands.

    Raises:
        OSError: the disk.
    """
    write_status(root / STATUS, asdict(status))


def read_book(path: Path) -> BestLevels | None:
    """The best levels of a market as they were said last; None: nothing that can be read.

    Args:
        path: see `places.Place.book`.
    """
    return _BOOK.read(path)


def write_book(path: Path, market: BookMarket, state: State, at_ns: int) -> None:
    """Says what the best levels of a market are.

    Raises:
        OSError: the disk.
    """
    price, amount = market.scale.price_decimals, market.scale.amount_decimals

    def texts(levels: Iterable[tuple[int, int]]) -> tuple[Level, ...]:
        return tuple((decimal_text(ticks, price), decimal_text(lots, amount)) for ticks, lots in levels)

    bid, ask = (None if far is None else decimal_text(far, price) for far in state.reach)
    said = BestLevels(
        at_ns=at_ns,
        phase=state.phase.value,
        is_in_sync=state.is_in_sync,
        last_id=state.last_id,
        bids=texts(state.book.bids.top(LEVELS)),
        asks=texts(state.book.asks.top(LEVELS)),
        reach=(bid, ask),
    )
    write_status(path, asdict(said))


def decimal_text(count: int, decimals: int) -> str:
    """A whole count of the last decimal as the number that it is.

    Args:
        count: at least 0.
        decimals: how many there are.
    """
    if not decimals:
        return str(count)
    before, after = divmod(count, 10**decimals)
    return f"{before}.{after:0{decimals}d}"
