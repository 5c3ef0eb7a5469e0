"""A whole order book in integers: every level that a venue showed, exact, and a digest that replays are held to."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from mm_dagster.errors import ForeseenError

PLAIN = re.compile(r"([0-9]{1,24})(?:\.([0-9]{1,24}))?\Z")
"""A number as venues write it."""
EXPONENT = re.compile(r"[0-9]{1,24}(?:\.[0-9]{1,24})?[eE][+-]?[0-9]{1,2}\Z")
"""A number as JSON may have it, too."""
LONGEST = 60
"""Characters of a number."""
TENS = [10**power for power in range(25)]
MOST_DIGITS = 24
"""Before the point."""
MOST = 2**63 - 1
"""What a tick or a lot may count: they are stored and summed in 64 bits."""
Levels = tuple[tuple[int, int], ...]
"""Price in ticks, amount in lots."""


class MessageError(ForeseenError):
    """What came is not what the venue is known to send; one line that says why. No book was changed by it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a market's numbers become integers.

    Attributes:
        price_decimals: a tick is 10 to the minus this, quote currency; as many as the venue sends.
        amount_decimals: a lot is 10 to the minus this, base currency. Venues send amounts finer than a market's step
            (KuCoin did: 11 decimals), and what is finer than a lot is refused: take more where 64 bits allow it.
    """

    price_decimals: int
    amount_decimals: int

    def ticks(self, text: object) -> int:
        """A price in ticks.

        Raises:
            MessageError: it is no number of at least 0, finer than a tick, or too great.
        """
        return whole(text, self.price_decimals, "price")

    def lots(self, text: object) -> int:
        """An amount in lots.

        Raises:
            MessageError: it is no number of at least 0, finer than a lot, or too great.
        """
        return whole(text, self.amount_decimals, "amount")


def whole(text: object, decimals: int, what: str) -> int:
    """A decimal number as a whole count of its last decimal; nothing is ever rounded.

    Raises:
        MessageError: it is no number of at least 0, has more decimals, or is too great.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise MessageError(f"it is no {what}: {text!r:.60}")
    # Nearly all are written with a point and no more decimals than there are; these need no pattern.
    before, _, after = text.partition(".")
    missing = decimals - len(after)
    if missing >= 0 and before and after and len(before) <= MOST_DIGITS:
        digits = before + after
        if digits.isdigit() and digits.isascii():
            counted = int(digits) * TENS[missing] if missing < len(TENS) else MOST + 1
            if counted <= MOST:
                return counted
    found = PLAIN.match(text)
    if found is not None:
        before, after = found[1], found[2] or ""
        if len(after) > decimals:
            if after[decimals:].strip("0"):
                raise MessageError(f"more than {decimals} decimals in the {what} {text}")
            after = after[:decimals]
        counted = int(before + after.ljust(decimals, "0"))
    else:
        counted = _with_exponent(text, decimals, what)
    if counted > MOST:
        raise MessageError(f"the {what} {text} is too great")
    return counted


def _with_exponent(text: str, decimals: int, what: str) -> int:
    if EXPONENT.match(text) is None:
        raise MessageError(f"it is no {what}: {text!r:.60}")
    _, digits, exponent = Decimal(text).as_tuple()
    shift = int(exponent) + decimals
    value = int("".join(map(str, digits)))
    if shift >= 0:
        return int(value * 10**shift)
    counted, rest = divmod(value, 10**-shift)
    if rest:
        raise MessageError(f"more than {decimals} decimals in the {what} {text}")
    return int(counted)


class Side:
    """One side of a book. Its prices are sorted with the best one last, where lists are cheap to change.

    Attributes:
        lots: amount of each price; keys in ticks.
    """

    __slots__ = ("_keys", "_sign", "lots")

    def __init__(self, sign: int, levels: Iterable[tuple[int, int]] = ()) -> None:
        """A side.

        Args:
            sign: 1 of bids, whose best is the highest; -1 of asks.
            levels: what it holds; amounts above 0.
        """
        self._sign = sign
        self.lots = dict(levels)
        self._keys = sorted(sign * price for price in self.lots)

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, price: int, lots: int) -> None:
        """Sets the amount of a price; 0 removes it, as venues say it."""
        known = price in self.lots
        if lots:
            self.lots[price] = lots
            if not known:
                key = self._sign * price
                self._keys.insert(bisect_left(self._keys, key), key)
        elif known:
            del self.lots[price]
            del self._keys[bisect_left(self._keys, self._sign * price)]

    def keep(self, depth: int) -> None:
        """Forgets all but the best levels."""
        while len(self._keys) > depth:
            del self.lots[self._sign * self._keys.pop(0)]

    @property
    def best(self) -> tuple[int, int] | None:
        """Its best level; None: there is none."""
        if not self._keys:
            return None
        price = self._sign * self._keys[-1]
        return price, self.lots[price]

    @property
    def worst(self) -> int | None:
        """The price of its worst level; None: there is none."""
        return self._sign * self._keys[0] if self._keys else None

    def within(self, far: int) -> int:
        """How many levels are as good as a price, or better."""
        return len(self._keys) - bisect_left(self._keys, self._sign * far)

    def top(self, count: int | None = None) -> Levels:
        """Its best levels, the best first; None: all of them."""
        keys = self._keys[::-1] if count is None else self._keys[: -count - 1 : -1]
        return tuple((self._sign * key, self.lots[self._sign * key]) for key in keys)


class Ladder:
    """A book that is changed in place, level by level.

    Attributes:
        bids: who buys.
        asks: who sells.
    """

    __slots__ = ("asks", "bids")

    def __init__(self, bids: Iterable[tuple[int, int]] = (), asks: Iterable[tuple[int, int]] = ()) -> None:
        """A book.

        Args:
            bids: its levels in any order; prices in ticks, amounts in lots, above 0.
            asks: likewise.
        """
        self.bids = Side(1, bids)
        self.asks = Side(-1, asks)

    def change(self, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> None:
        """Sets levels in the order in which they are given; an amount of 0 removes one."""
        for price, lots in bids:
            self.bids.put(price, lots)
        for price, lots in asks:
            self.asks.put(price, lots)

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is not below the best ask; with an empty side it is not."""
        bid, ask = self.bids.best, self.asks.best
        return bid is not None and ask is not None and bid[0] >= ask[0]

    def digest(self) -> str:
        """SHA-256 of the whole book, in hexadecimal: equal if and only if every level of both sides is."""
        found = hashlib.sha256()
        for side in (self.bids, self.asks):
            found.update(len(side).to_bytes(8, "little"))
            found.update(np.array(side.top(), dtype="<i8").tobytes())
        return found.hexdigest()

    def copy(self) -> Ladder:
        """The same book, to be changed on its own."""
        return Ladder(self.bids.lots.items(), self.asks.lots.items())
