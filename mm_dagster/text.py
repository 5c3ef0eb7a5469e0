"""Words and figures for people: the same everywhere."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from zoneinfo import ZoneInfo

_NAMED = 8
"""Known names that are listed, at most."""
_MOST_DECIMALS = 18
"""As many as the coins with the finest units have."""
_CENTS = 2
"""Decimals that an amount with decimals has at least."""
_NOISE = 1e-12
"""Share of the capital below which an amount is what the arithmetic of floats leaves of nothing."""
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""A time as `bars.iso` writes it."""


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


def number_text(number: float, digits: int = 6, *, signed: bool = False) -> str:
    """A figure to so many significant digits and never cut before its point: `0.00000123456`, `15,234,567`, `0.4`.

    No exponent, no zeros at the end. What is nearer to 0 than 18 decimals show is `about 0`, and no zero.

    Args:
        number: in any unit; infinities and NaN are named.
        digits: how many significant ones; a whole part that is longer is written out.
        signed: whether what is above 0 is written with a +.
    """
    if not number or not math.isfinite(number):
        return str(number) if number else "0"
    decimals = min(max(0, digits - 1 - math.floor(math.log10(abs(number)))), _MOST_DECIMALS)
    text = f"{number:{'+' if signed else ''},.{decimals}f}"
    if decimals:
        text = text.rstrip("0").rstrip(".")
    return text if text.strip("+-0") else "about 0"


def price_text(price: float, tick: float | None = None) -> str:
    """A price to six significant digits, never in exponents: 300,000 and 0.0000123456 alike.

    Args:
        price: quote currency.
        tick: the venue's smallest step between prices, which decides the decimals; None: not known. One so large
            that it would hide the price decides nothing.
    """
    if not tick or not math.isfinite(price) or tick > abs(price) / 10:
        return number_text(price)
    _, _, decimals = plain_text(tick).partition(".")
    return f"{price:,.{len(decimals)}f}"


def plain_text(number: float) -> str:
    """The shortest decimal that reads back as the same float, as files have it: no exponent, no thousands separator."""
    return f"{exact(number):f}".removesuffix(".0") if math.isfinite(number) else str(number)


def money_text(amount: float, capital: float, *, signed: bool = False) -> str:
    """An amount to the cent; of a capital below 100 to its ten-thousandth or finer, of one from 100,000 on whole.

    A zero is `0`, and so is what only the arithmetic of floats has left; of anything else something shows, however
    small it is.

    Args:
        amount: quote currency.
        capital: the size that it belongs to, quote currency.
        signed: whether a gain is written with a +.
    """
    if not math.isfinite(amount):
        return number_text(amount)
    decimals = _decimals(max(capital, abs(amount)))
    text = _amount_text(amount, _units(amount, decimals), decimals, capital, signed)
    # Digits that show nothing: 0.00412, not 0.004120. Cents stay two.
    kept, _, rest = text.partition(".")
    return f"{kept}.{rest[:_CENTS]}{rest[_CENTS:].rstrip('0')}" if rest else kept


def money_texts(parts: Sequence[float | None], total: float | None, capital: float) -> tuple[list[str], str]:
    """Gains and losses and their sum, all to the same decimals, so that what is read adds up.

    The total is rounded by itself, as it stands elsewhere. Where the rounded parts miss it, those that rounding
    changed most give way. Parts that do not add up before they are rounded are left as they are.

    Args:
        parts: quote currency; None: not known.
        total: what they add up to, quote currency; None: not known.
        capital: the size that they belong to, quote currency.

    Returns:
        The parts and the total, each with its sign; empty words for what is not known.
    """
    known = [one for one in (*parts, total) if one is not None and math.isfinite(one)]
    if len(known) <= len(parts):
        *said, whole = ("" if one is None else money_text(one, capital, signed=True) for one in (*parts, total))
        return said, whole
    largest = max(map(abs, known))
    decimals = _decimals(max(capital, largest))
    if largest > _NOISE * capital:
        decimals = max(decimals, 1 - math.floor(math.log10(largest)))
    *units, rounded = (_units(one, decimals) for one in known)
    exact = [Decimal(one).scaleb(decimals) for one in known]
    # What is too small for these decimals is shown as it is, and the others make room for it.
    beside = sum((one for one, unit in zip(exact, units, strict=False) if not unit), Decimal(0))
    missing = int((rounded - beside).to_integral_value(ROUND_HALF_EVEN)) - sum(units)
    if abs(missing) <= len(parts):
        step = 1 if missing > 0 else -1
        movable = [place for place, unit in enumerate(units) if unit and unit + step]
        movable.sort(key=lambda place: step * (units[place] - exact[place]))
        for place in movable[: abs(missing)]:
            units[place] += step
    *said, whole = (
        _amount_text(one, unit, decimals, capital, signed=True)
        for one, unit in zip(known, (*units, rounded), strict=True)
    )
    return said, whole


def scale_texts(marks: Sequence[float], step: float) -> list[str]:
    """The marks of a scale, all with as many decimals as tell neighbours apart.

    Args:
        marks: evenly spaced values.
        step: the distance between two.
    """
    decimals = max(0, 1 - math.floor(math.log10(step)))
    texts = [f"{mark:,.{decimals}f}" for mark in marks]
    while decimals and all(text.endswith("0") for text in texts):
        decimals -= 1
        texts = [text[:-1].rstrip(".") for text in texts]
    return texts


def _decimals(size: float) -> int:
    """How many decimals amounts of this size have."""
    return 0 if size >= 100_000 else max(_CENTS, 4 - math.floor(math.log10(size)))


def _units(amount: float, decimals: int) -> int:
    """An amount in steps of its last decimal, rounded as a format rounds it."""
    return int(Decimal(amount).scaleb(decimals).to_integral_value(ROUND_HALF_EVEN))


def _amount_text(amount: float, units: int, decimals: int, capital: float, signed: bool) -> str:
    if not units:
        return "0" if abs(amount) < _NOISE * capital else number_text(amount, 2, signed=signed)
    return f"{Decimal(units).scaleb(-decimals):{'+' if signed else ''},.{decimals}f}"


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


def local_time(time: datetime, zone: str) -> str:
    """A time as people read it, to the minute, in their zone with UTC beside it: `2026-06-29 18:45 CEST (16:45 UTC)`.

    Where the zone is UTC it is said once; where UTC has another day, that day is said.

    Args:
        time: with a zone of its own.
        zone: the reader's, like Europe/Berlin.
    """
    there, here = time.astimezone(UTC), time.astimezone(ZoneInfo(zone))
    if here.tzname() == "UTC":
        return f"{there:%Y-%m-%d %H:%M} UTC"
    day = "" if here.date() == there.date() else f"{there:%Y-%m-%d} "
    return f"{here:%Y-%m-%d %H:%M %Z} ({day}{there:%H:%M} UTC)"


def brief_time(time: datetime, zone: str, *, beside: bool = False) -> str:
    """A time where there is little room, and the year is plain: `29 Jun 18:45 CEST`.

    Args:
        time: with a zone of its own.
        zone: the reader's, like Europe/Berlin.
        beside: whether UTC stands beside it, as `29 Jun 18:45 CEST (16:45 UTC)`; with its day, where that is another.
    """
    there, here = time.astimezone(UTC), time.astimezone(ZoneInfo(zone))
    if here.tzname() == "UTC":
        return f"{_day(there)} {there:%H:%M} UTC"
    said = f"{_day(here)} {here:%H:%M %Z}"
    day = "" if here.date() == there.date() else f"{_day(there)} "
    return f"{said} ({day}{there:%H:%M} UTC)" if beside else said


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""In English, whatever the computer's language is."""


def _day(time: datetime) -> str:
    return f"{time.day} {_MONTHS[time.month - 1]}"


def in_local_time(sentence: str, zone: str, *, brief: bool = False) -> str:
    """A sentence with every time that stands in it as tables have it, ISO 8601 UTC, as people read it.

    Rows are written without knowing who reads them where. So whoever shows their words puts in the reader's time.

    Args:
        sentence: with any number of times.
        zone: the reader's, like Europe/Berlin.
        brief: whether as `brief_time` has them; else as `local_time` does.
    """
    written = brief_time if brief else local_time

    def said(found: re.Match[str]) -> str:
        try:
            return written(datetime.fromisoformat(found[0]), zone)
        except (ValueError, OverflowError):
            # No time, or one at the end of the calendar.
            return found[0]

    return _TIME.sub(said, sentence)


def counted(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def words(state: str) -> str:
    """A state or kind without its underscores."""
    return state.replace("_", " ")


def positive_decimal(text: str) -> Decimal | None:
    """A positive number exactly as it is written, with a point; None: it is none."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and found > 0 else None


def exact(number: float) -> Decimal:
    """The shortest decimal that names the float, which is the one that people and venues write."""
    return Decimal(repr(float(number)))
