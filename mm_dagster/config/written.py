"""Times, markets and numbers as people write them: read as they can only be meant, else refused with how to write them.

A time without a zone is in the zone of the configuration. What may mean two moments or two numbers is never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MOMENT = re.compile(
    r"(?:(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})|(?P<day2>\d{1,2})\.(?P<month2>\d{1,2})\.(?P<year2>\d{4}))"
    r"(?:(?:[Tt]|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<part>[.,]\d{1,6})?\d*)?)?"
    r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?|[A-Za-z]+(?:/[A-Za-z_+-]+)+)?"
)
_DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_QUOTES = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "EUR", "USD", "JPY", "GBP", "TRY", "BRL", "IDR",
    "KRW", "BTC", "ETH", "BNB",
)  # fmt: skip
"""Quote currencies by which a symbol without a separator is cut; the longest that fits first."""
LIKE = "2026-01-31T14:15:00Z"


def moment(value: Any, zone: tzinfo) -> datetime:
    """A moment in UTC.

    Args:
        value: a text, a date, a time, or the digits of one.
        zone: where a time without a zone is meant.

    Raises:
        ValueError: it is no moment, or more than one; with what to write.
    """
    if isinstance(value, datetime):
        return _in_utc(value, zone)
    if isinstance(value, date):
        return _in_utc(datetime.combine(value, time()), zone)
    text = str(value).strip()
    if text.isdigit():
        if len(text) not in _DIGITS:
            raise ValueError(f"is no time; write it like {LIKE}")
        try:
            return _in_utc(datetime.strptime(text, _DIGITS[len(text)]), zone)  # noqa: DTZ007
        except ValueError:
            raise ValueError(f"is no time; write it like {LIKE}") from None
    found = _MOMENT.fullmatch(text)
    if found is None:
        slashed = "; with slashes it may be the day or the month that comes first" if "/" in text[:6] else ""
        raise ValueError(f"is no time{slashed}; write it like {LIKE}, or 31.01.2026 14:15")
    parts = found.groupdict()
    year, month, day = (int(parts[name] or parts[f"{name}2"]) for name in ("year", "month", "day"))
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    part = int((parts["part"] or ".0")[1:].ljust(6, "0"))
    try:
        plain = datetime.combine(date(year, month, day), time(hour, minute, second, part))
    except ValueError as error:
        raise ValueError(f"{error}; write it like {LIKE}") from None
    return _in_utc(plain, _zone(parts["zone"]) or zone)


def _zone(name: str | None) -> tzinfo | None:
    if not name:
        return None
    if name.upper() in ("Z", "UTC", "GMT"):
        return UTC
    if name[0] in "+-":
        return datetime.strptime(name.ljust(5, "0") if ":" not in name else name, "%z").tzinfo
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is no time zone; write it like Europe/Berlin, or +02:00") from None


def _in_utc(given: datetime, zone: tzinfo) -> datetime:
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    first, second = (given.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first != second:
        is_twice = first < second
        problem = "is there twice" if is_twice else "is not there"
        raise ValueError(f"{problem} in {zone}, where the clocks change; write it in UTC, like {first.isoformat()}")
    return first


def local_time(value: Any) -> str:
    """A time of day as HH:MM.

    Raises:
        ValueError: it is none; with what to write.
    """
    found = re.fullmatch(r"(\d{1,2})(?:[:.](\d{2}))?(?::00)?\s*([AaPp]\.?[Mm]\.?)?", str(value).strip())
    hour, minute = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
    if found and found[3]:
        hour = hour % 12 + 12 * (found[3][0] in "pP") if 1 <= hour <= 12 else 99
    elif found and not found[2]:
        hour = 99
    if hour > 23 or minute > 59:
        raise ValueError('is no time of day; write it like "22:00"')
    return f"{hour:02d}:{minute:02d}"


NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Of a grid or a venue."""


def symbol(value: Any) -> str:
    """A market as BASE-QUOTE, in the letters that its venue uses.

    Raises:
        ValueError: it is written otherwise; with what to write.
    """
    if not isinstance(value, str):
        raise ValueError(f"is no market; write base and quote in quotes, like {'ETH-USDT'!r}")
    text = unicodedata.normalize("NFC", value.strip())
    if re.fullmatch(r"[^\s/\\:-]+-[^\s/\\:-]+", text) and not text.startswith(".") and text.isprintable():
        base, _, quote = text.partition("-")
        if base == quote:
            raise ValueError("is one currency twice; write base and quote, like ETH-USDT")
        if text.isascii() and quote.islower():
            raise ValueError(f"is in small letters; write {base.upper()}-{quote.upper()}")
        return text
    if ":" in text:
        raise ValueError("is a contract and no spot market; write base and quote, like ETH-USDT")
    halves = [half for half in re.split(r"[\s/_\\-]+", text) if half]
    if len(halves) == 1:
        ends = next((quote for quote in _QUOTES if text.upper().endswith(quote) and len(text) > len(quote)), None)
        halves = [text[: -len(ends)], text[-len(ends) :]] if ends else []
    right = "-".join(half.upper() if half.isascii() else half for half in halves) if len(halves) == 2 else None
    raise ValueError(f"is no market; write {right or 'base and quote, like ETH-USDT'}")


def plain_number(text: str) -> str:
    """How to write a number that was written with separators, a currency or in another way."""
    shown = re.sub(r"(?i)[a-z$€£¥\s'’_]+$|^[a-z$€£¥\s]+", "", text.strip())
    factor = {"k": 3, "m": 6}.get(text.strip()[-1:].lower())
    digits = re.sub(r"[\s'’_]", "", shown)
    if not re.fullmatch(r"[+-]?\d[\d.,]*", digits):
        return "write a plain number, like 1234.56"
    if factor and re.fullmatch(r"\d+", digits):
        return f"write {digits}{'0' * factor}"
    if "," in digits and "." in digits:
        point = max(digits.rfind(","), digits.rfind("."))
        return f"write {re.sub('[.,]', '', digits[:point])}.{digits[point + 1 :]}"
    groups = digits.split(",")
    if len(groups) > 2 or digits.count(".") > 1:
        return f"write {re.sub('[.,]', '', digits)}"
    if len(groups) == 2 and len(groups[1]) == 3:
        return f"write {groups[0]}{groups[1]} or {groups[0]}.{groups[1]}"
    return f"write {'.'.join(groups)}"


def is_ambiguous(text: str) -> bool:
    """Whether an amount may be meant in thousands, as 1.000 is where a comma is the decimal point."""
    return re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", text.strip()) is not None
