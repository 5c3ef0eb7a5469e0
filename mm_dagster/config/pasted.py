"""The text of a bot's page, as it is pasted, as the values of a grid. What is in doubt is said and never taken.

A value counts only if it stands right behind its label, on the same line or alone on the next; everything else is left
out and asked for. A number follows the decimal mark that the text shows (see pasted_numbers); one that may be meant in
thousands is also decided by the other prices of the text, if exactly one reading is within ten times of all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from mm_dagster.bars import iso
from mm_dagster.config import pasted_words as words
from mm_dagster.config.pasted_dates import DATES, Moment, moment, zone_of, zones_of
from mm_dagster.config.pasted_numbers import NOT_DECIDED, NUMBER, marks_of, number
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


class _Candidate(NamedTuple):
    """A value that stands beside a label of its field."""

    readings: tuple[Any, ...]
    text: str
    doubt: str | None = None
    note: str | None = None


class _Label(NamedTuple):
    """A label and where it stands: the line, and from where to where in it."""

    field: str
    line: int
    start: int
    end: int


@dataclass
class _Text:
    """A text on its way to values."""

    lines: list[str]
    folded: list[str]
    zone: tzinfo
    zones: frozenset[float]
    marks: frozenset[str]
    found: dict[str, list[_Candidate]] = field(default_factory=dict)

    def add(self, name: str, *candidates: _Candidate) -> None:
        self.found.setdefault(name, []).extend(candidates)


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
    lines = _normal(text).split("\n")
    folded = [_fold(line) for line in lines]
    other = _no_spot_grid(folded)
    if other:
        raise NoSpotGrid(f"the text says {other!r}: that is no spot grid, and mm judges no other; paste that of one")
    plain = "\n".join(re.sub(r"https?://\S+", " ", DATES.sub(" ", line)) for line in lines)
    whole = "\n".join(lines)
    paste = _Text(lines, folded, zone, zones_of(whole), marks_of(plain))
    _read_labels(paste)
    _read_symbols(paste)
    _read_spacing(paste)
    _read_counts(paste)
    found = _resolved(paste)
    known = {*found.values, *found.unsure}
    if len(known & {"lower", "upper", "levels", "stop", "capital"}) < FEWEST:
        raise NoSpotGrid(
            "the text says nothing of a grid's bounds, levels, stop and investment; copy the whole page of the bot, "
            "its labels too, or answer the questions without --paste"
        )
    return found


# text -----------------------------------------------------------------------------------------------------------------

_ALIKE = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "‒": "-", "－": "-", "～": "~", "〜": "~", "∼": "~",
     "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "、": ", ", "。": ". ", "٫": ".", "٬": ",", "≈": "~", "：": ":",
     "…": "...",
     "\u2028": "\n", "\u2029": "\n", "\x0b": "\n", "\x0c": "\n", "\u2044": "/", "\u2215": "/"}
)  # fmt: skip


def _normal(text: str) -> str:
    """One form of digits, blanks, dashes and punctuation; what cannot be seen is left out."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(
        str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text if unicodedata.category(one) != "Cf"
    )
    # A raised or lowered digit is none of the number beside it: 0.0₅912 is not .05912.
    text = "".join("^" if unicodedata.category(one) == "No" else one for one in text)
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "'", text)
    # Between digits it may group them; elsewhere it separates clauses.
    text = re.sub(r"，(?!\d{3}(?!\d))|(?<!\d)，", ", ", text)
    text = unicodedata.normalize("NFKC", text.translate(_ALIKE)).translate(_ALIKE)
    return "".join(one if one in "\n\t" or unicodedata.category(one)[0] != "C" else " " for one in text)


def _fold(line: str) -> str:
    """Without capitals and accents, characters simplified; as long as the line, so that places stay."""
    return "".join(map(_folded, line))


def _folded(letter: str) -> str:
    plain = unicodedata.normalize("NFD", letter.translate(words.SIMPLIFIED))[0].casefold()
    return plain if len(plain) == 1 else letter


def _is_cjk(letter: str) -> bool:
    return "\u3400" <= letter <= "\u9fff"


def _pattern(phrase: str) -> str:
    """A phrase as it may be written: a blank may be a hyphen, an underscore or nothing."""
    parts = [re.escape(part) for part in re.split(r"[ \-_]+", _fold(phrase))]
    start = "" if _is_cjk(phrase[0]) else r"(?<!\w)" if phrase[0].isalnum() else ""
    end = "" if _is_cjk(phrase[-1]) else r"(?![^\W\d_])"
    return start + r"[ \t\-_]*".join(parts) + end


def _any_of(phrases: Iterator[str] | tuple[str, ...]) -> str:
    return "|".join(_pattern(one) for one in sorted(set(phrases), key=len, reverse=True))


def _key(phrase: str) -> str:
    return re.sub(r"[ \t\-_]+", "", _fold(phrase))


_FIELD_OF = {_key(label): name for name, labels in words.LABELS.items() for label in labels}
_LABEL = re.compile(_any_of(label for labels in words.LABELS.values() for label in labels))
_OTHER_BOT = re.compile(_any_of(words.NO_SPOT_GRID) + r"|(?<![\w.,])\d{1,3}x(?!\w)")
_ONLY_MENU = {_key(word) for word in words.ONLY_MENUS}


def _no_spot_grid(folded: list[str]) -> str | None:
    """The word by which a text is that of another bot; None: there is none."""
    says_spot = any(word in line for line in folded for word in words.SPOT)
    for line in folded:
        if line.strip() == "long":
            return "long"
        for one in _OTHER_BOT.finditer(line):
            alone = re.fullmatch(r"[\s|>]*", line[: one.start()] + line[one.end() :])
            if not (says_spot and alone and _key(one[0]) in _ONLY_MENU):
                return one[0]
    return None


# labels ---------------------------------------------------------------------------------------------------------------

_BEFORE = re.compile(rf"(?:{_any_of(words.BEFORE)})\s*$")
_UNIT_BEFORE = re.compile(rf"(?:(?<![^\W\d_])(?:{'|'.join(words.CURRENCIES)})|{_any_of(words.AFTER)}|%)\s*$")


def _labels(folded: str, line: int) -> list[_Label]:
    """The labels of a line, those of both bounds together as one."""
    found: list[_Label] = []
    for one in _LABEL.finditer(folded):
        is_count = re.search(r"(?:^|[,;|(·•\t])\s*\d{1,4}\s*$", folded[: one.start()]) and re.fullmatch(
            _COUNTED, one[0]
        )
        if not is_count and _begins(folded[: one.start()]):
            found.append(_Label(_FIELD_OF[_key(one[0])], line, one.start(), one.end()))
    merged: list[_Label] = []
    for label in found:
        last = merged[-1] if merged else None
        if (
            last
            and {last.field, label.field} == {"lower", "upper"}
            and re.fullmatch(r"\s*(?:[/\-~&,]|and|und|y|e|to|bis)\s*", folded[last.end : label.start])
        ):
            merged[-1] = last._replace(field="range", end=label.end)
        else:
            merged.append(label)
    return merged


def _begins(before: str) -> bool:
    """Whether a label may begin behind this: an unknown word in front of it may change what it means."""
    if before.count("(") > before.count(")"):
        return False
    if before.endswith(("\t", "  ")):
        return True
    before = before.rstrip()
    while before and (known := _BEFORE.search(before)):
        before = before[: known.start()].rstrip()
    if not before or _UNIT_BEFORE.search(before.rstrip(".")):
        return True
    if re.search(r"(?<![^\W\d_])[^\W\d_]{1,4}\.$", before):
        return False  # an abbreviation, like max.
    return not (before[-1].isalpha() or before[-1] in "'_@#")


_COINS = "|".join(words.CURRENCIES)
_EMPTY = re.compile(
    rf"(?:/\s?(?:{_COINS})(?!\w))?(?:\([^()\d]*\)|\[[^\[\]\d]*\]|[\s:=|?*.>-]|(?<![^\W\d_])(?:{_COINS})(?!\w))*"
)


def _is_empty(rest: str) -> bool:
    """Whether nothing stands beside a label but units."""
    return _EMPTY.fullmatch(_fold(rest)) is not None


def _read_labels(paste: _Text) -> None:
    labels = {place: _labels(line, place) for place, line in enumerate(paste.folded)}
    turned = _values_stand_above(paste, labels)
    taken: set[int] = set()
    for place, of_line in labels.items():
        if place in taken or not of_line:
            continue
        rests = _rests(paste.lines[place], of_line)
        if len(of_line) > 1 and any(_is_empty(rest) for rest in rests[:-1]):
            taken |= _read_columns(paste, of_line, rests)
            continue
        leading = paste.lines[place][: of_line[0].start]
        value_first = re.search(NUMBER, re.sub(r"^\s*\d{1,2}[.)]\s", "", leading)) is not None
        for label, rest in zip(of_line, rests, strict=True):
            doubt = "a number stands before its label as well" if value_first else None
            if label is of_line[-1] and _is_empty(rest):
                below = _next_line(paste.lines, place)
                if below is None or labels[below]:
                    continue
                rest, doubt = paste.lines[below], doubt or turned
            _take(paste, label, rest, doubt)


def _rests(line: str, labels: list[_Label]) -> list[str]:
    """What stands behind each label of a line, up to the next."""
    ends = [*(label.start for label in labels[1:]), len(line)]
    return [line[label.end : end] for label, end in zip(labels, ends, strict=True)]


def _next_line(lines: list[str], place: int) -> int | None:
    return next((later for later in range(place + 1, len(lines)) if lines[later].strip()), None)


def _values_stand_above(paste: _Text, labels: dict[int, list[_Label]]) -> str | None:
    """Why the values that stand alone on a line may be those of the label below them; None: they are not."""
    for place, of_line in labels.items():
        if len(of_line) != 1 or not _is_empty(paste.lines[place][of_line[0].end :]):
            continue
        above = _line_above(paste.lines, place)
        if above is None or labels[above] or not _is_value(paste.lines[above]):
            continue
        before = _line_above(paste.lines, above)
        below = _next_line(paste.lines, place)
        unclaimed = before is None or (
            not labels[before] and (_is_value(paste.lines[before]) or _is_title(paste.lines[before]))
        )
        # A label without a value behind it, and a day above a time's label that has none below.
        bare = below is None or not (
            (not labels[below] and _is_value(paste.lines[below])) or _is_unset(paste.folded[below])
        )
        misplaced = (
            of_line[0].field == "activated_at"
            and DATES.search(paste.lines[above])
            and not (below is not None and DATES.search(paste.lines[below]))
        )
        if unclaimed or misplaced or (bare and of_line[0].field not in ("other", "spacing", "symbol")):
            return "the text may have its values above their labels"
    return None


def _line_above(lines: list[str], place: int) -> int | None:
    return next((before for before in range(place - 1, -1, -1) if lines[before].strip()), None)


def _is_value(line: str) -> bool:
    """Whether a line holds a number, or a day, and little else."""
    rest = re.sub(NUMBER, "", DATES.sub("0", line))
    return bool(re.search(r"\d", line)) and len(re.sub(r"[\W\d_]", "", rest)) <= 12


def _is_unset(folded: str) -> bool:
    """Whether a line says that there is no value, or hides it."""
    return folded.strip() in words.NOT_SET or not any(map(str.isalnum, folded))


def _is_title(line: str) -> bool:
    return bool(_PAIR.search(line) or re.search(r"(?i)grid|bot|网格", line))


def _read_columns(paste: _Text, labels: list[_Label], rests: list[str]) -> set[int]:
    """Labels in one line and their values in the next; returns the lines that are done.

    Where it is not plain which value belongs to which label none is taken.
    """
    line = labels[0].line
    below = _next_line(paste.lines, line)
    while below is not None and re.fullmatch(r"[\s|:+=-]*", paste.lines[below]):
        below = _next_line(paste.lines, below)
    heads, cells = _cells(paste.lines[line]), _cells(paste.lines[below] if below is not None else "")
    if below is None or len(heads) != len(cells) or len(heads) != len(labels) or not all(map(_is_empty, rests)):
        return {line}
    for label, cell in zip(labels, cells, strict=True):
        _take(paste, label, cell, None)
    return {line, below}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"\t+|\s{2,}|\|", line.strip(" |")) if cell.strip()]


# values ---------------------------------------------------------------------------------------------------------------

_TO = r"\s*(?:[-~/>至到]+|(?:to|bis|hasta|ate|até|a|und|and)(?!\w))\s*"
_CURRENCY = r"(?:[$€£₮]|(?<![^\W\d_])[A-Za-z]{1,6}\$?(?![^\W_]))"
_LEAD = re.compile(
    rf"(?:/\s?(?:{'|'.join(words.CURRENCIES)})(?!\w))?[\s:=|>*-]*(?:\([^()\d]*\)[\s:=|-]*)?"
    rf"(?:(?:{_any_of(words.BETWEEN)})[\s:]*)?(?:~\s*)?",
    re.IGNORECASE,
)
_COUNTED = "grids|gitter|cuadriculas|rejillas|grades|个?网格|格"
_NO_VALUE = rf"(?!\s*[~$€£+]?\d(?!\d{{0,3}}\s*(?:{_COUNTED})))"
_END_OF_CELL = re.compile(rf"[\t|;·•]{_NO_VALUE}|\s{{2,}}{_NO_VALUE}|[,.]\s{_NO_VALUE}|[,.;]\s*$")


def _take(paste: _Text, label: _Label, rest: str, doubt: str | None) -> None:
    """Reads what stands beside a label."""
    name = label.field
    if name == "activated_at":
        paste.add(name, *_with_doubt(_moments(paste, rest), doubt))
    elif name == "spacing":
        paste.add(name, *_spacings(rest))
    elif name == "zone":
        found = zone_of(re.sub(r"^[\s:(]+|[\s).]+$", "", rest))
        paste.add("zone", *([_Candidate((found,), rest.strip())] if found else []))
    elif name == "symbol":
        pairs = _pairs(rest, labelled=True)
        paste.add("named_symbol", *(_Candidate((pair,), rest.strip(), doubt) for pair in pairs[:1]))
    elif name == "range":
        for bound, one in zip(("lower", "upper"), _range(paste, rest), strict=False):
            paste.add(bound, *_with_doubt([one], doubt))
    elif name == "fee":
        paste.add(name, *_with_doubt(_fees(paste, rest), doubt))
    elif name == "take_and_stop":
        parts = re.split(r"\s+/\s+|/", rest, maxsplit=1)
        if len(parts) == 2:
            paste.add("stop", *_with_doubt(_amounts(paste, parts[1], "stop"), doubt))
    elif name in ("lower", "upper", "levels", "stop", "capital", "price"):
        paste.add(name, *_with_doubt(_amounts(paste, rest, name), doubt))
        if name == "levels":
            _note_convention(paste, paste.folded[label.line][label.start : label.end])


def _with_doubt(candidates: list[_Candidate], doubt: str | None) -> list[_Candidate]:
    return [one._replace(doubt=doubt or one.doubt) for one in candidates]


def _note_convention(paste: _Text, label: str) -> None:
    if any(word in label for word in words.SAYS_INTERVALS):
        paste.add("convention", _Candidate(("intervals",), label))
    elif any(word in label for word in words.SAYS_PRICES):
        paste.add("convention", _Candidate(("levels",), label))


def _amounts(paste: _Text, rest: str, name: str) -> list[_Candidate]:
    """The number right behind a label; none where something else stands there."""
    lead = _LEAD.match(rest)
    start = lead.end() if lead else 0
    found = re.compile(rf"(?P<sign>[-+]?)(?P<before>{_CURRENCY})?\s?{NUMBER}").match(rest, start)
    if found is None:
        return []
    tail = rest[found.end() :]
    cut = _END_OF_CELL.search(tail)
    tail = tail[: cut.start()] if cut and not tail.startswith("..") else tail
    if tail.lstrip().startswith("%"):
        return []
    value = number(found["number"], found["times"], paste.marks)
    shown = (found[0].strip() + tail.rstrip())[:60].strip()
    doubt = value.doubt or _odd(tail, found["before"], paste)
    if rest[found.start() - 1 : found.start()] == "-" or found["sign"] == "-":
        doubt = doubt or "a minus stands before it"
    readings: tuple[Any, ...] = value.readings
    if name == "levels":
        whole = tuple(int(one) for one in readings if one == int(one) and 2 <= one <= 1000)
        if whole != readings or " " in found["number"]:
            doubt = doubt or "it is no number of levels from 2 to 1000"
        readings = whole
        if found["before"]:
            doubt = doubt or f"{found['before']} is no number of levels"
    elif any(one <= 0 for one in readings):
        readings, doubt = (), doubt or "it is not above 0"
    return [_Candidate(readings, shown, doubt, _currency(tail, found["before"]))]


_UNIT = re.compile(
    rf"\s*(?:\([^()]*\)|{_any_of(words.AFTER)}|(?:{'|'.join(words.CURRENCIES)})(?!\w)|[)\]*:]|[$€£₮]|/\s*$)"
)


def _odd(tail: str, before: str | None, paste: _Text) -> str | None:
    """Why what stands around a number makes it unsure; None: it is units, or nothing."""
    if tail.startswith(("..", "*", "'", ",", "/")) and tail[1:2]:
        return "it may be cut off, or one of several"
    left, coin = _fold(tail), None
    while left.strip():
        unit = _UNIT.match(left)
        if unit and _is_only_about(unit[0]):
            left = left[unit.end() :]
            continue
        other = re.match(r"\s*([a-z][a-z0-9]{1,9})(?!\w)", left)
        if other and coin is None:
            coin, left = other[1], left[other.end() :]
            continue
        return f"{left.strip()[:30]!r} stands behind it"
    if coin and not any(re.search(rf"(?<!\w){re.escape(coin)}\s*[/_-]", line) for line in paste.folded):
        return f"{coin!r} stands behind it"
    if coin:
        return f"it is in {coin.upper()}, and the quote currency is wanted"
    if before and before not in words.SIGNS and before.lower() not in words.CURRENCIES:
        return f"{before!r} stands before it"
    return None


def _is_only_about(unit: str) -> bool:
    """Whether brackets hold a share, an about, or words; a bare number in them is another value."""
    inner = re.search(r"\(([^()]*)\)", unit)
    return inner is None or not re.search(r"\d", inner[1]) or "%" in inner[1] or inner[1].lstrip().startswith("~")


def _currency(tail: str, before: str | None) -> str | None:
    """The currency beside a number, in capitals; None: none is named. A dollar is each of those that are worth one."""
    for text in (before or "", tail):
        for sign, name in words.SIGNS.items():
            if sign in re.sub(r"\([^()]*\)", "", text):
                return name.upper()
        found = re.search(rf"(?<![a-z])(?:{'|'.join(words.CURRENCIES)})(?!\w)", _fold(re.sub(r"\([^()]*\)", "", text)))
        if found:
            return found[0].upper()
    return None


def _range(paste: _Text, rest: str) -> list[_Candidate]:
    """The two bounds behind a label, the lower first."""
    lead = _LEAD.match(rest)
    first = re.compile(rf"(?:{_CURRENCY})?\s?{NUMBER}\s*(?:{_CURRENCY})?").match(rest, lead.end() if lead else 0)
    if first is None or first[0].strip().lower() in words.NOT_SET:
        return []
    # The currency must not take the word between the bounds.
    plain = re.compile(rf"(?:{_CURRENCY})?\s?{NUMBER}").match(rest, lead.end() if lead else 0)
    assert plain is not None
    between = re.compile(rf"\s*(?:(?:{'|'.join(words.CURRENCIES)})|[$€£])?{_TO}", re.IGNORECASE).match(
        rest, plain.end()
    )
    if between is None:
        return []
    lower = _amounts(paste, rest[: plain.end()] + _only_currency(between[0]), "lower")
    upper = _amounts(paste, rest[between.end() :], "upper")
    if not lower or not upper:
        return []
    both = [lower[0], upper[0]._replace(note=upper[0].note or lower[0].note)]
    both[0] = both[0]._replace(note=both[0].note or both[1].note)
    if both[1].doubt and both[1].doubt != NOT_DECIDED and not both[0].doubt:
        both[0] = both[0]._replace(doubt=both[1].doubt)
    sure = [one.readings[0] for one in both if len(one.readings) == 1]
    return both[::-1] if len(sure) == 2 and sure[0] > sure[1] else both


def _only_currency(text: str) -> str:
    found = re.search(rf"(?i)(?<![a-z])(?:{'|'.join(words.CURRENCIES)})(?![a-z])", text)
    return f" {found[0]}" if found else ""


def _fees(paste: _Text, rest: str) -> list[_Candidate]:
    """A fee in percent as a fraction; an amount of money is what was paid and no rate."""
    found = re.fullmatch(rf"[\s:=|-]*{NUMBER}\s*%\s*[.;,)|]*\s*", rest)
    if found is None:
        return []
    value = number(found["number"], None, paste.marks)
    readings = tuple(float(f"{one / 100:.12g}") for one in value.readings)
    doubt = value.doubt or (None if all(one < 0.02 for one in readings) else "that is much for a fee")
    return [_Candidate(readings, rest.strip(" :"), doubt)]


def _moments(paste: _Text, rest: str) -> list[_Candidate]:
    lead = re.compile(
        rf"[\s:=|>*-]*(?:\([^()\d]*\)[\s:=|-]*)?(?:(?:{_any_of(words.BETWEEN)})\s+)?", re.IGNORECASE
    ).match(rest)
    begin = lead.end() if lead else 0
    own = re.match(r"[\s:=|>*-]*\((?P<zone>[^()]*\d[^()]*)\)[\s:]*", rest)
    text = rest[own.end() :] if own else rest[begin:]
    if own:
        text = f"{text.rstrip()} {own['zone']}"
    found: Moment | None = moment(text, paste.zone, paste.zones)
    if found is None:
        return []
    tail = text[found.end :]
    cut = _END_OF_CELL.search(tail)
    tail = (tail[: cut.start()] if cut else tail).strip(" .,;)|")
    doubt = found.doubt or (f"{tail[:30]!r} stands behind it" if tail else None)
    return [_Candidate(found.readings, text[: found.end].strip(), doubt, found.note)]


# what needs no label --------------------------------------------------------------------------------------------------

_PAIR = re.compile(
    rf"(?<![\w/])(?P<base>[A-Za-z0-9]{{1,15}})\s?[/_-]\s?(?P<quote>{'|'.join(words.QUOTES)})(?![\w/])", re.IGNORECASE
)
_JOINED = re.compile(rf"(?<![\w/])(?P<base>[A-Z0-9]{{2,15}}?)(?P<quote>{'|'.join(words.STABLE)})(?![\w/])")
_LABELLED_JOINED = re.compile(rf"(?<![\w/])(?P<base>[A-Z0-9]{{1,15}}?)(?P<quote>{'|'.join(words.STABLE)})(?![\w/])")


def _pairs(text: str, *, labelled: bool) -> list[str]:
    found = [one for one in _PAIR.finditer(text) if labelled or one["base"].isupper() or one[0] == text.strip()]
    found += (_LABELLED_JOINED if labelled else _JOINED).finditer(text)
    pairs = [
        f"{base}-{one['quote'].upper()}"
        for one in found
        if re.search("[A-Z]", base := one["base"].upper()) and base not in (*words.NO_COINS, *words.STABLE, "USD")
    ]
    return list(dict.fromkeys(pairs))


def _read_symbols(paste: _Text) -> None:
    """The market: as its label says it, else the only pair that the text names."""
    named = paste.found.get("named_symbol")
    if named:
        paste.add("symbol", *named)
        return
    pairs = list(dict.fromkeys(pair for line in paste.lines for pair in _pairs(line, labelled=False)))
    if len(pairs) > 1:
        paste.add("symbol", _Candidate(tuple(pairs), ", ".join(pairs), "several markets are named"))
    elif pairs:
        paste.add("symbol", _Candidate((pairs[0],), pairs[0]))


_KINDS = {"arithmetic": words.ARITHMETIC, "geometric": words.GEOMETRIC}


def _spacings(text: str) -> list[_Candidate]:
    folded = _fold(text)
    kinds = [kind for kind, names in _KINDS.items() if re.search(_any_of(names), folded)]
    return [_Candidate((kinds[0],), text.strip(" :"))] if len(kinds) == 1 and len(folded) < 40 else []


def _read_spacing(paste: _Text) -> None:
    """Arithmetic or geometric, where it stands by itself; in a sentence it may be explained and not meant."""
    whole = "\n".join(paste.folded)
    said = [kind for kind, names in _KINDS.items() if re.search(_any_of(names), whole)]
    alone = [
        kind
        for cell in re.split(r"[\n\t|;,()·•:]", whole)
        for kind, names in _KINDS.items()
        if re.fullmatch(
            rf"\s*(?:\d+\s*)?(?:grids?\s+)?(?:{_any_of(names)})(?:\s*(?:grids?|spot|mode|gitter|raster|网格|模式))*\s*",
            cell,
        )
    ]
    if not paste.found.get("spacing"):
        kinds = tuple(dict.fromkeys(alone or said))
        doubt = (
            None if len(set(alone)) == 1 else "it stands within other words" if len(kinds) == 1 else "both are named"
        )
        if kinds:
            paste.add("spacing", _Candidate(kinds, " and ".join(kinds), doubt))
    exchanges = {name for name in (*words.COUNTS_INTERVALS, "binance", "bitget", "pionex", "币安") if name in whole}
    if exchanges and exchanges <= set(words.COUNTS_INTERVALS) and not paste.found.get("convention"):
        name = min(exchanges)
        paste.add("convention", _Candidate(("intervals",), name, None, f"{name} counts the intervals between prices"))


_COUNT = re.compile(rf"(?:^|[\n\t|;,(·•])[ \t]*(?P<count>\d{{1,4}})[ \t]*(?:{_COUNTED})(?=[ \t]*(?:$|[\n\t|;,.)(·•]))")


def _read_counts(paste: _Text) -> None:
    """`6 grids`, where no label says how many."""
    if paste.found.get("levels"):
        return
    for one in _COUNT.finditer("\n".join(paste.folded)):
        count = int(one["count"])
        doubt = None if 2 <= count <= 1000 else "it is no number of levels from 2 to 1000"
        paste.add("levels", _Candidate((count,), one[0].strip(" ,(\n\t|"), doubt))


# together -------------------------------------------------------------------------------------------------------------


def _resolved(paste: _Text) -> Found:
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


def _decide_by_level(found: dict[str, list[_Candidate]]) -> None:
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


def _decided(one: _Candidate, readings: tuple[Any, ...], note: str) -> _Candidate:
    """The candidate with the one reading that was decided for."""
    return one._replace(readings=readings, doubt=None, note=note)


def _decide_zone(paste: _Text) -> None:
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
                times[place] = _Candidate(again.readings, one.text, again.doubt, None)


def _doubt_currencies(paste: _Text, values: dict[str, Any], unsure: dict[str, Unsure]) -> None:
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


def _doubt_prices(paste: _Text, values: dict[str, Any], unsure: dict[str, Unsure]) -> None:
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
