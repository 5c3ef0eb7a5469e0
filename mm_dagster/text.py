"""Words and figures for people: the same everywhere."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from datetime import timedelta

_NAMED = 8
"""Known names that are listed, at most."""


def closest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that is most like a word; None: none is.

    Args:
        word: what was given.
        known: the names that there are.
        cutoff: how like it must be, from 0 to 1, the same.
    """
    # Capitals are no difference; of names that differ in nothing else the first is taken.
    names = {name.casefold(): name for name in sorted(known, reverse=True)}
    return next((names[one] for one in difflib.get_close_matches(word.casefold(), sorted(names), 1, cutoff)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error about a name that is not known: the known one that is closest, or a few that there are."""
    names = sorted(known)
    close = closest(word, names)
    if close:
        return f"; did you mean {close}?"
    return f"; there are {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}" if names else ""


def price_text(price: float) -> str:
    """A price to six significant digits, never in exponents: 300,000 and 0.0000123456 alike."""
    if not price:
        return "0"
    decimals = max(0, 5 - math.floor(math.log10(abs(price))))
    text = f"{price:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def money_text(amount: float, capital: float, *, signed: bool = False) -> str:
    """An amount to the cent; of a capital below 1,000 to its hundred-thousandth, of one from 100,000 on whole.

    Args:
        amount: quote currency.
        capital: the size that it belongs to, quote currency.
        signed: whether a gain is written with a +.
    """
    decimals = 0 if capital >= 100_000 else max(2, 5 - math.floor(math.log10(capital)))
    text = f"{amount:{'+' if signed else ''},.{decimals}f}"
    return text.lstrip("+-") if not float(text.replace(",", "")) else text


def spoken(time: timedelta) -> str:
    """A duration as one says it: `40 s`, `15 min`, `3 h 20 min`, `2 days 4 h`, `145 days`."""
    seconds = max(0, int(time.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days >= 10 or (days and not hours):
        return counted(days, "day")
    if days:
        return f"{counted(days, 'day')} {hours} h"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def counted(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def words(state: str) -> str:
    """A state or kind without its underscores."""
    return state.replace("_", " ")
