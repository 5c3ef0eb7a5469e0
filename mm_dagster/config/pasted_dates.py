"""The moment that a pasted text names: read where it can only be meant so, else said with what it may be."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mm_dagster.bars import iso
from mm_dagster.config import written
from mm_dagster.config.pasted_words import MONTHS, REGIONS, ZONES

_WITH_YEAR = (
    r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)"
    r"|(?P<cy>\d{4})年(?P<cm>\d{1,2})月(?P<cd>\d{1,2})[日号]"
    r"|(?P<gd>\d{1,2})\.(?P<gm>\d{1,2})\.(?P<gy>\d{4})"
    r"|(?P<s1>\d{1,2})[-/](?P<s2>\d{1,2})[-/](?P<sy>\d{4})"
    r"|(?P<nm>[^\W\d_]{3,10})\.?\s+(?P<nd>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<ny>\d{4})"
    r"|(?P<wd>\d{1,2})(?:st|nd|rd|th)?\.?(?:\s+de)?[\s-]+(?P<wm>[^\W\d_]{3,10})\.?,?(?:\s+de[l]?)?[\s-]+(?P<wy>\d{4})"
)
_DATE = rf"(?:{_WITH_YEAR}|(?P<short>\d{{1,4}}[-/.]\d{{1,2}}(?:[-/.]\d{{1,2}})?(?!\d)))"
_TIME = (
    r"(?P<half>上午|下午|凌晨|晚上|中午)?\s*(?P<hour>\d{1,2})[:点时h](?P<minute>\d{2})(?:[:分](?P<second>\d{2})秒?(?:\.\d+)?)?分?"
    r"\s*(?P<ampm>[ap]\.?\s?m\b\.?)?"
)
_ZONE = (
    r"(?P<zone>(?:utc|gmt)\s*[+-]\s*\d{1,2}(?::?\d{2})?|[+-]\d{2}:?\d{2}|[+-]\d{2}(?!\d)|北京时间|[A-Z][a-z]+/[A-Za-z_]+"
    r"|(?-i:[A-Z]{1,5})(?![a-z\d]))"
)
_LINK = r"[\s,]*(?:(?:T(?=\d)|at|um|a las|as|às|kl\.?|-|@)\s*)?"
_OPEN, _SHUT = r"[\s(\[]*", r"\s*[)\]]?"
_DATE_FIRST = re.compile(
    rf"{_DATE}(?:{_LINK}{_TIME})?(?:\s*(?:uhr|hrs?|h)\b)?(?:{_OPEN}{_ZONE}{_SHUT})?", re.IGNORECASE
)
_TIME_FIRST = re.compile(
    rf"{_TIME}(?:\s*uhr\b)?(?:{_OPEN}{_ZONE}{_SHUT})?[\s,-]*(?:am\s+|on\s+|el\s+|em\s+)?{_DATE}", re.IGNORECASE
)
_WEEKDAY = re.compile(
    r"(?:[^\W\d_]{2,10}[.,]{1,2}\s*|(?:mon|tues?|wednes|thurs?|fri|satur|sun)day\s+)(?=\d|[^\W\d_]{3,10}\.?\s\d)",
    re.IGNORECASE,
)
DATES = re.compile(rf"(?<![\d.,])(?:{_WITH_YEAR})|\d{{1,2}}:\d{{2}}(?::\d{{2}})?", re.IGNORECASE)
"""All that looks like a date or a time of day: no number of it is a price."""


@dataclass(frozen=True)
class Moment:
    """What a text says of a moment.

    Attributes:
        readings: what it may be, UTC.
        end: where it ends in the text.
        doubt: why it is not sure; None: it is.
        note: in which zone it was read, where the text names none; None: it names one.
    """

    readings: tuple[datetime, ...]
    end: int
    doubt: str | None = None
    note: str | None = None


def moment(text: str, zone: tzinfo, zones: frozenset[float]) -> Moment | None:
    """The moment at the beginning of a text; None: there is none.

    Args:
        text: after its label, without blanks before it.
        zone: of the configuration, where a time without a zone is meant.
        zones: hours before UTC that the text names elsewhere; see `zones_of`.
    """
    weekday = _WEEKDAY.match(text)
    skipped = weekday.end() if weekday else 0
    found = _DATE_FIRST.match(text, skipped) or _TIME_FIRST.match(text, skipped)
    if found is None:
        return None
    parts, end = found.groupdict(), found.end()
    days, doubt = _days(parts)
    if not days:
        return Moment((), end, doubt)
    if not parts["hour"]:
        hours, doubt = time(), doubt or "it has no time of day"
    else:
        try:
            hours = _hours(parts)
        except ValueError:
            return Moment((), end, "it is no time of day")
    read_in, note = _zones(parts["zone"], zone, zones)
    if not read_in:
        return Moment((), end, f"{parts['zone']} may be several time zones, or none")
    readings: list[datetime] = []
    for day in days:
        for one in read_in:
            try:
                readings.append(written.moment(datetime.combine(day, hours), one))
            except ValueError as error:
                doubt = doubt or f"it {error}".partition(";")[0]
    unique = tuple(dict.fromkeys(readings))
    doubt = doubt or _other_season(parts["zone"], unique)
    if len(read_in) > 1 and len(unique) > 1:
        doubt = doubt or "the text names a time zone elsewhere"
    return Moment(unique, end, doubt, f"read in {zone}: {iso(unique[0])}" if note and len(unique) == 1 else None)


def _days(parts: dict[str, str | None]) -> tuple[list[date], str | None]:
    """The days that may be meant, and why it is not sure which."""
    if parts["short"]:
        return [], "it has no year of four digits"
    if parts["sy"]:
        first, second, year = int(parts["s1"] or 0), int(parts["s2"] or 0), int(parts["sy"])
        days = [day for day in (_day(year, second, first), _day(year, first, second)) if day]
        unique = list(dict.fromkeys(days))
        return unique, "the day or the month may come first" if len(unique) > 1 else "" if unique else _NO_DAY
    if parts["nm"] or parts["wm"]:
        name = _plain(parts["nm"] or parts["wm"] or "")
        month = MONTHS.get(name)
        if month is None:
            return [], f"{parts['nm'] or parts['wm']} is no month"
        found = _day(int(parts["ny"] or parts["wy"] or 0), month, int(parts["nd"] or parts["wd"] or 0))
    else:
        form = next(form for form in ("y m d", "cy cm cd", "gy gm gd") if parts[form.split()[0]])
        year, month, day = (int(parts[name] or 0) for name in form.split())
        found = _day(year, month, day)
    return ([found], None) if found else ([], _NO_DAY)


_NO_DAY = "there is no such day"


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _hours(parts: dict[str, str | None]) -> time:
    hour = int(parts["hour"] or 0)
    late = (parts["ampm"] or "")[:1].lower() == "p" or parts["half"] in ("下午", "晚上", "中午")
    early = (parts["ampm"] or "")[:1].lower() == "a" or parts["half"] in ("上午", "凌晨")
    if parts["ampm"] and not 1 <= hour <= 12:
        raise ValueError
    if late and hour < 12 and not (parts["half"] == "中午" and hour == 11):
        hour += 12
    elif early and hour == 12:
        hour = 0
    return time(hour, int(parts["minute"] or 0), int(parts["second"] or 0))


def _zones(name: str | None, zone: tzinfo, zones: frozenset[float]) -> tuple[list[tzinfo], bool]:
    """The zones in which a time may be meant, and whether it is that of the configuration, which is to be said."""
    if name:
        found = zone_of(name)
        return ([found] if found else []), False
    if not zones:
        return [zone], True
    return [zone, *(timezone(timedelta(hours=hours)) for hours in sorted(zones))], False


def zone_of(name: str) -> tzinfo | None:
    """A zone as people name it; None: there is none, or there are several of the name."""
    plain = re.sub(r"\s", "", name).lower()
    if plain in ZONES:
        hours = ZONES[plain]
        return timezone(timedelta(hours=hours)) if hours else UTC
    found = re.fullmatch(r"(?:utc|gmt)?([+-])(\d{1,2}):?(\d{2})?", plain)
    if found:
        minutes = 60 * int(found[2]) + int(found[3] or 0)
        return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes)) if minutes <= 14 * 60 else None
    if "/" in name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            return None
    return None


def _other_season(name: str | None, readings: tuple[datetime, ...]) -> str | None:
    """Why a zone's name is not what its clocks show on that day, as CET in July; None: it is."""
    plain = (name or "").lower()
    region = REGIONS.get(plain)
    if region is None or all(
        one.astimezone(ZoneInfo(region)).utcoffset() == timedelta(hours=ZONES[plain]) for one in readings
    ):
        return None
    return f"the clocks of {region} do not show {name} on that day"


_OFFSETS = re.compile(r"(?i)\b(?:utc|gmt)\s*(?:([+-])\s*(\d{1,2})(?::?(\d{2}))?)?(?![\w])|北京时间")


def zones_of(text: str) -> frozenset[float]:
    """The zones that a text names anywhere by UTC or GMT, hours before UTC."""
    found = set()
    for one in _OFFSETS.finditer(text):
        if one[0] == "北京时间":
            found.add(8.0)
            continue
        hours = int(one[2] or 0) + int(one[3] or 0) / 60
        if hours <= 14:
            found.add(-hours if one[1] == "-" else hours)
    return frozenset(found)


def _plain(word: str) -> str:
    letters = unicodedata.normalize("NFD", word.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
