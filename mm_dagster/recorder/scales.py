"""As many decimals of a market's numbers as venues send, and as 64 bits have room for.

What is finer than a lot is refused, and so is what is too great: either makes a book unreadable for as long as such an
order rests in it. What a venue says of its markets is the first guess, and a book that cannot be read the second.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from mm_dagster.books.ladder import MOST, MessageError, Scale
from mm_dagster.books.messages import decoded

MOST_DECIMALS = 18
ROOM = 10**9
"""How many times the smallest order a level's amount may be."""
SPARE = 1000
"""How many times the largest amount of a book another one may be."""


def decimals_of(step: str) -> int:
    """Decimals of a step: 2 of 0.01, and of 0.010.

    Raises:
        ValueError: it is none above 0.
    """
    try:
        value = Decimal(step)
    except InvalidOperation:
        raise ValueError(f"no step: {step!r:.40}") from None
    if not value.is_finite() or value <= 0:
        raise ValueError(f"no step: {step!r:.40}")
    exponent = int(value.normalize().as_tuple().exponent)
    if -exponent > MOST_DECIMALS:
        raise ValueError(f"a step too fine: {step!r:.40}")
    return max(0, -exponent)


def roomy(least: int, most: int, smallest: str) -> int:
    """As many decimals of amounts as 64 bits have room for.

    Args:
        least: decimals that are needed.
        most: that the venue ever sent.
        smallest: the smallest order: no level is more than `ROOM` of them.

    Raises:
        ValueError: `smallest` is no amount.
    """
    decimals_of(smallest)
    largest = Decimal(smallest) * ROOM
    fitting = [decimals for decimals in range(least, most + 1) if largest.scaleb(decimals) <= MOST]
    return max(fitting, default=least)


def fitting(scale: Scale, body: bytes) -> Scale:
    """The scale in which a book can be read that was answered.

    Args:
        scale: what it was read in, and could not be.
        body: the answer, of KuCoin or Binance.

    Returns:
        `scale` where that is not why.
    """
    try:
        found = decoded(body)
        data = found.get("data", found)
        levels = [(Decimal(level[0]), Decimal(level[1])) for name in ("bids", "asks") for level in data[name]]
        price = max(_decimals(price) for price, _ in levels)
        amount = max(_decimals(lots) for _, lots in levels)
        largest = max(lots for _, lots in levels)
    except (MessageError, InvalidOperation, LookupError, TypeError, ValueError, AttributeError):
        return scale
    if price > MOST_DECIMALS or amount > MOST_DECIMALS or not largest.is_finite():
        return scale
    price, most = max(price, scale.price_decimals), max(amount, scale.amount_decimals)
    if amount <= scale.amount_decimals and largest.scaleb(most) <= MOST:
        return Scale(price, scale.amount_decimals)
    fits = [decimals for decimals in range(amount, most + 1) if (largest * SPARE).scaleb(decimals) <= MOST]
    return Scale(price, max(fits, default=amount))


def _decimals(number: Decimal) -> int:
    return max(0, -int(number.normalize().as_tuple().exponent))
