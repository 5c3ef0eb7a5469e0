"""The text of a bot's page, as it is pasted, as the values of a grid. What is in doubt is said and never taken.

A value counts only if it stands right behind its label, on the same line or alone on the next; everything else is left
out and asked for. A number follows the decimal mark that the text shows (see pasted_numbers); one that may be meant in
thousands is also decided by the other prices of the text, if exactly one reading is within ten times of all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from mm_dagster.bars import iso
from mm_dagster.config import pasted_words as words
from mm_dagster.config.pasted_dates import DATES, moment, zones_of
from mm_dagster.config.pasted_numbers import NOT_DECIDED, NUMBER, marks_of
from mm_dagster.config.pasted_text import (
    Candidate,
    Label,
    Text,
    any_of,
    fold,
    is_empty,
    is_unset,
    is_value,
    key,
    labels_of,
    line_above,
    next_line,
    normal,
    rests_of,
)
from mm_dagster.config.pasted_values import PAIR, read_counts, read_spacing, read_symbols, take
from mm_dagster.errors import ForeseenError
from mm_dagster.text import plain_text

FIELDS = ("symbol", "lower", "upper", "levels", "convention", "spacing", "stop", "capital", "activated_at", "fee")
"""What a text may say of a grid, in the order of an exchange's page."""
LONGEST = 50_000
"""Characters of a text; a bot's page has some hundreds."""
APART = 10.0
"""How many times another price of a text a price of it may be."""
FEWEST = 2
"""Of bounds, levels, stop and capital: a text that says less is none of a grid."""


class NoSpotGrid(ForeseenError):
    """A text that is not that of a spot grid. One line, with the remedy."""


@dataclass(frozen=True)
class Unsure:
    """What a text says of a field, and what it may mean.

    Attributes:
        readings: the values that it may have; none: it cannot be read.
        text: as it stands there.
        why: why it is not sure.
    """

    readings: tuple[Any, ...]
    text: str
    why: str

    @property
    def sentence(self) -> str:
        """What stands there and what it may mean, for people."""
        may = " or ".join(_shown(one) for one in self.readings)
        return f"{self.text!r} {f'may be {may}' if may else 'cannot be read'}: {self.why}"


@dataclass(frozen=True)
class Found:
    """What a text says of a grid.

    Attributes:
        values: what is sure, by field: a symbol like ETH-USDT; prices and capital in quote currency; `levels` as the
            exchange counts them; `convention` and `spacing` as a grid's file has them; `activated_at` in UTC; `fee`,
            the maker's, as a fraction.
        unsure: what may be meant in several ways, by field.
        missing: fields of which the text says nothing.
        notes: how a value was read, where that is not plain, by field.
    """

    values: dict[str, Any]
    unsure: dict[str, Unsure]
    missing: tuple[str, ...]
    notes: dict[str, str]


def read(text: str, zone: tzinfo) -> Found:
    """What a pasted text says of a spot grid.

    Args:
        text: of a bot's page, in whichever order.
        zone: of the configuration: that of times that name none.

    Raises:
        NoSpotGrid: it is the text of another bot, or of something else.
    """
    if len(text) > LONGEST:
        raise NoSpotGrid(f"the text has {len(text):,} characters; paste only the page of one bot")
    if re.match(r"\s*[\[{<]", text) and re.search(r"[\]}>]\s*$", text):
        raise NoSpotGrid("the text is JSON or a page's source; paste the words of the bot's page as they are shown")
    lines = normal(text).split("\n")
    folded = [fold(line) for line in lines]
    other = _no_spot_grid(folded)
    if other:
        raise NoSpotGrid(f"the text says {other!r}: that is no spot grid, and mm judges no other; paste that of one")
    plain = "\n".join(re.sub(r"https?://\S+", " ", DATES.sub(" ", line)) for line in lines)
    whole = "\n".join(lines)
    paste = Text(lines, folded, zone, zones_of(whole), marks_of(plain))
    _read_labels(paste)
    read_symbols(paste)
    read_spacing(paste)
    read_counts(paste)
    found = _resolved(paste)
    known = {*found.values, *found.unsure}
    if len(known & {"lower", "upper", "levels", "stop", "capital"}) < FEWEST:
        raise NoSpotGrid(
            "the text says nothing of a grid's bounds, levels, stop and investment; copy the whole page of the bot, "
            "its labels too, or answer the questions without --paste"
        )
    return found


_OTHER_BOT = re.compile(any_of(words.NO_SPOT_GRID) + r"|(?<![\w.,])\d{1,3}x(?!\w)")
_ONLY_MENU = {key(word) for word in words.ONLY_MENUS}


def _no_spot_grid(folded: list[str]) -> str | None:
    """The word by which a text is that of another bot; None: there is none."""
    says_spot = any(word in line for line in folded for word in words.SPOT)
    for line in folded:
        if line.strip() == "long":
            return "long"
        for one in _OTHER_BOT.finditer(line):
            alone = re.fullmatch(r"[\s|>]*", line[: one.start()] + line[one.end() :])
            if not (says_spot and alone and key(one[0]) in _ONLY_MENU):
                return one[0]
    return None


# labels ---------------------------------------------------------------------------------------------------------------


def _read_labels(paste: Text) -> None:
    labels = {place: labels_of(line, place) for place, line in enumerate(paste.folded)}
    turned = _values_stand_above(paste, labels)
    taken: set[int] = set()
    for place, of_line in labels.items():
        if place in taken or not of_line:
            continue
        rests = rests_of(paste.lines[place], of_line)
        if len(of_line) > 1 and any(is_empty(rest) for rest in rests[:-1]):
            taken |= _read_columns(paste, of_line, rests)
            continue
        leading = paste.lines[place][: of_line[0].start]
        value_first = re.search(NUMBER, re.sub(r"^\s*\d{1,2}[.)]\s", "", leading)) is not None
        for label, rest in zip(of_line, rests, strict=True):
            doubt = "a number stands before its label as well" if value_first else None
            if label is of_line[-1] and is_empty(rest):
                below = next_line(paste.lines, place)
                if below is None or labels[below]:
                    continue
                rest, doubt = paste.lines[below], doubt or turned
            take(paste, label, rest, doubt)


def _values_stand_above(paste: Text, labels: dict[int, list[Label]]) -> str | None:
    """Why the values that stand alone on a line may be those of the label below them; None: they are not."""
    for place, of_line in labels.items():
        if len(of_line) != 1 or not is_empty(paste.lines[place][of_line[0].end :]):
            continue
        above = line_above(paste.lines, place)
        if above is None or labels[above] or not is_value(paste.lines[above]) or _IS_SHARE(paste.lines[above]):
            continue
        before = line_above(paste.lines, above)
        while before is not None and _IS_SHARE(paste.lines[before]):
            before = line_above(paste.lines, before)
        below = next_line(paste.lines, place)
        unclaimed = before is None or (
            not labels[before] and (is_value(paste.lines[before]) or _is_title(paste.lines[before]))
        )
        # A label without a value behind it, and a day above a time's label that has none below.
        bare = below is None or not (
            (not labels[below] and is_value(paste.lines[below])) or is_unset(paste.folded[below])
        )
        misplaced = (
            of_line[0].field == "activated_at"
            and DATES.search(paste.lines[above])
            and not (below is not None and DATES.search(paste.lines[below]))
        )
        if unclaimed or misplaced or (bare and of_line[0].field not in ("other", "spacing", "symbol")):
            return "the text may have its values above their labels"
    return None


_IS_SHARE = re.compile(r"[\s(+-]*[\d.,]+\s*%[\s)]*").fullmatch
"""Whether a line is a share alone, as it stands below the amount that it belongs to."""


def _is_title(line: str) -> bool:
    return bool(PAIR.search(line) or re.search(r"(?i)grid|bot|网格", line))


def _read_columns(paste: Text, labels: list[Label], rests: list[str]) -> set[int]:
    """Labels in one line and their values in the next; returns the lines that are done.

    Where it is not plain which value belongs to which label none is taken.
    """
    line = labels[0].line
    below = next_line(paste.lines, line)
    while below is not None and re.fullmatch(r"[\s|:+=-]*", paste.lines[below]):
        below = next_line(paste.lines, below)
    heads, cells = _cells(paste.lines[line]), _cells(paste.lines[below] if below is not None else "")
    if below is None or len(heads) != len(cells) or len(heads) != len(labels) or not all(map(is_empty, rests)):
        return {line}
    for label, cell in zip(labels, cells, strict=True):
        take(paste, label, cell, None)
    return {line, below}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"\t+|\s{2,}|\|", line.strip(" |")) if cell.strip()]


# together -------------------------------------------------------------------------------------------------------------


def _resolved(paste: Text) -> Found:
    """What all candidates of each field say together."""
    _decide_by_level(paste.found)
    _decide_zone(paste)
    values: dict[str, Any] = {}
    unsure: dict[str, Unsure] = {}
    notes: dict[str, str] = {}
    for name in FIELDS:
        candidates = paste.found.get(name, [])
        readings = tuple(dict.fromkeys(value for one in candidates for value in one.readings))
        doubt = next((one.doubt for one in candidates if one.doubt), None)
        if len(readings) > 1 and not doubt:
            doubt = "the text says several"
        if doubt:
            unsure[name] = Unsure(readings, " / ".join(dict.fromkeys(one.text for one in candidates)), doubt)
        elif readings:
            values[name] = readings[0]
            said = next((one.note for one in candidates if one.note), None)
            if said and name in ("activated_at", "convention", "lower", "upper", "stop"):
                notes[name] = said
    _doubt_currencies(paste, values, unsure)
    _doubt_prices(paste, values, unsure)
    notes = {name: note for name, note in notes.items() if name in values and note.upper() != note}
    missing = tuple(name for name in FIELDS if name not in values and name not in unsure)
    return Found(values, unsure, missing, notes)


_PRICES = ("lower", "upper", "stop")


def _decide_by_level(found: dict[str, list[Candidate]]) -> None:
    """Decides prices that may be meant in thousands by the sure ones, where exactly one reading is of their size."""
    known = [
        one.readings[0]
        for name in (*_PRICES, "price")
        for one in found.get(name, [])
        if len(one.readings) == 1 and not one.doubt
    ]
    if not known:
        return
    for name in _PRICES:
        for place, one in enumerate(found.get(name, [])):
            if one.doubt != NOT_DECIDED:
                continue
            near = tuple(value for value in one.readings if all(1 / APART < value / price < APART for price in known))
            if len(near) == 1:
                note = f"{one.text} is read as {plain_text(near[0])}, by the other prices"
                found[name][place] = _decided(one, near, note)


def _decided(one: Candidate, readings: tuple[Any, ...], note: str) -> Candidate:
    """The candidate with the one reading that was decided for."""
    return one._replace(readings=readings, doubt=None, note=note)


def _decide_zone(paste: Text) -> None:
    """Reads times again in the zone that the text names by a label of its own."""
    zones = {one.readings[0] for one in paste.found.get("zone", [])}
    times = paste.found.get("activated_at", [])
    if len(zones) != 1 or not times:
        return
    zone = zones.pop()
    for place, one in enumerate(times):
        if one.note or one.doubt == "the text names a time zone elsewhere":
            again = moment(one.text, zone, frozenset())
            if again:
                times[place] = Candidate(again.readings, one.text, again.doubt, None)


def _doubt_currencies(paste: Text, values: dict[str, Any], unsure: dict[str, Unsure]) -> None:
    """An amount in another currency than the market's quote is none of the grid's."""
    quote = values["symbol"].partition("-")[2] if "symbol" in values else None
    for name in (*_PRICES, "capital"):
        for one in paste.found.get(name, []):
            currency = one.note if one.note and one.note.isupper() else None
            alike = currency == quote or (currency == "USD" and quote in (*words.STABLE, "DAI"))
            if name in values and currency and quote and not alike:
                _doubt(
                    name, values, unsure, f"it is in {currency}, and {values['symbol']} is quoted in {quote}", one.text
                )


def _doubt_prices(paste: Text, values: dict[str, Any], unsure: dict[str, Unsure]) -> None:
    """What cannot stand together in one grid is not sure."""
    lower, upper, stop = (values.get(name) for name in _PRICES)
    if lower is not None and upper is not None and not lower < upper < APART * lower:
        why = "the upper bound is not above the lower" if upper <= lower else "the bounds are far apart"
        _doubt("lower", values, unsure, why)
        _doubt("upper", values, unsure, why)
    if stop is not None and lower is not None and not stop < lower < APART * stop:
        why = "it is not below the lower bound" if stop >= lower else "it is far below the lower bound"
        _doubt("stop", values, unsure, why)
    if stop is not None and upper is not None and stop >= upper:
        _doubt("stop", values, unsure, "it is above the upper bound")
    for one in paste.found.get("price", []):
        for name in ("lower", "upper"):
            bound = values.get(name)
            if bound is not None and not any(1 / APART < value / bound < APART for value in one.readings):
                _doubt(name, values, unsure, f"the market's price in the text, {one.text}, is far from it")


def _doubt(name: str, values: dict[str, Any], unsure: dict[str, Unsure], why: str, text: str | None = None) -> None:
    if name in values:
        value = values.pop(name)
        unsure[name] = Unsure((value,), text or _shown(value), why)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(value)
    return plain_text(value) if isinstance(value, float) else str(value)
