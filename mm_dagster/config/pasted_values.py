"""What stands behind a label, or alone, as values: amounts, ranges, moments, fees, markets, spacings.

Whatever is not a value right there is none. What makes one doubtful is noted with it.
"""

from __future__ import annotations

import re
from typing import Any

from mm_dagster.config import pasted_words as words
from mm_dagster.config.pasted_dates import Moment, moment, zone_of
from mm_dagster.config.pasted_numbers import NOT_DECIDED, NUMBER, number
from mm_dagster.config.pasted_text import COUNTED, Candidate, Label, Text, any_of, fold

_TO = r"\s*(?:[-~/>至到]+|(?:to|bis|hasta|ate|até|a|und|and)(?!\w))\s*"
_CURRENCY = r"(?:[$€£₮]|(?<![^\W\d_])[A-Za-z]{1,6}\$?(?![^\W_]))"
_LEAD = re.compile(
    rf"(?:/\s?(?:{'|'.join(words.CURRENCIES)})(?!\w))?(?:[\s:=|>*-]|;(?=\d))*(?:\([^()\d]*\)[\s:=|-]*)?"
    rf"(?:(?:{any_of(words.BETWEEN)})[\s:]*)?(?:~\s*)?",
    re.IGNORECASE,
)
_NO_VALUE = rf"(?!\s*[~$€£+]?\d(?!\d{{0,3}}\s*(?:{COUNTED})))"
_END_OF_CELL = re.compile(rf"[\t|;·•]{_NO_VALUE}|\s{{2,}}{_NO_VALUE}|[,.]\s{_NO_VALUE}|[,.;]\s*$")


def take(paste: Text, label: Label, rest: str, doubt: str | None) -> None:
    """Reads what stands beside a label."""
    name = label.field
    if name == "activated_at":
        paste.add(name, *_with_doubt(_moments(paste, rest), doubt))
    elif name == "spacing":
        paste.add(name, *_spacings(rest))
    elif name == "zone":
        found = zone_of(re.sub(r"^[\s:(]+|[\s).]+$", "", rest))
        paste.add("zone", *([Candidate((found,), rest.strip())] if found else []))
    elif name == "symbol":
        pairs = _pairs(rest, labelled=True)
        paste.add("named_symbol", *(Candidate((pair,), rest.strip(), doubt) for pair in pairs[:1]))
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


def _with_doubt(candidates: list[Candidate], doubt: str | None) -> list[Candidate]:
    return [one._replace(doubt=doubt or one.doubt) for one in candidates]


def _note_convention(paste: Text, label: str) -> None:
    if any(word in label for word in words.SAYS_INTERVALS):
        paste.add("convention", Candidate(("intervals",), label))
    elif any(word in label for word in words.SAYS_PRICES):
        paste.add("convention", Candidate(("levels",), label))


def _amounts(paste: Text, rest: str, name: str) -> list[Candidate]:
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
    return [Candidate(readings, shown, doubt, _currency(tail, found["before"]))]


_UNIT = re.compile(
    rf"\s*(?:\([^()]*\)|{any_of(words.AFTER)}|(?:{'|'.join(words.CURRENCIES)})(?!\w)|[)\]*:]|[$€£₮]|/\s*$)"
)


def _odd(tail: str, before: str | None, paste: Text) -> str | None:
    """Why what stands around a number makes it unsure; None: it is units, or nothing."""
    if tail.startswith(("..", "*", "'", ",", "/")) and tail[1:2]:
        return "it may be cut off, or one of several"
    left, coin = fold(tail), None
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
        found = re.search(rf"(?<![a-z])(?:{'|'.join(words.CURRENCIES)})(?!\w)", fold(re.sub(r"\([^()]*\)", "", text)))
        if found:
            return found[0].upper()
    return None


def _range(paste: Text, rest: str) -> list[Candidate]:
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


def _fees(paste: Text, rest: str) -> list[Candidate]:
    """A fee in percent as a fraction; an amount of money is what was paid and no rate."""
    found = re.fullmatch(rf"[\s:=|-]*{NUMBER}\s*%\s*[.;,)|]*\s*", rest)
    if found is None:
        return []
    value = number(found["number"], None, paste.marks)
    readings = tuple(float(f"{one / 100:.12g}") for one in value.readings)
    doubt = value.doubt or (None if all(one < 0.02 for one in readings) else "that is much for a fee")
    return [Candidate(readings, rest.strip(" :"), doubt)]


def _moments(paste: Text, rest: str) -> list[Candidate]:
    lead = re.compile(
        rf"[\s:=|>*-]*(?:\([^()\d]*\)[\s:=|-]*)?(?:(?:{any_of(words.BETWEEN)})\s+)?", re.IGNORECASE
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
    return [Candidate(found.readings, text[: found.end].strip(), doubt, found.note)]


# what needs no label --------------------------------------------------------------------------------------------------

PAIR = re.compile(
    rf"(?<![\w/])(?P<base>[A-Za-z0-9]{{1,15}})\s?[/_-]\s?(?P<quote>{'|'.join(words.QUOTES)})(?![\w/])", re.IGNORECASE
)
_JOINED = re.compile(rf"(?<![\w/])(?P<base>[A-Z0-9]{{2,15}}?)(?P<quote>{'|'.join(words.STABLE)})(?![\w/])")
_LABELLED_JOINED = re.compile(rf"(?<![\w/])(?P<base>[A-Z0-9]{{1,15}}?)(?P<quote>{'|'.join(words.STABLE)})(?![\w/])")


def _pairs(text: str, *, labelled: bool) -> list[str]:
    found = [one for one in PAIR.finditer(text) if labelled or one["base"].isupper() or one[0] == text.strip()]
    found += (_LABELLED_JOINED if labelled else _JOINED).finditer(text)
    pairs = [
        f"{base}-{one['quote'].upper()}"
        for one in found
        if re.search("[A-Z]", base := one["base"].upper()) and base not in (*words.NO_COINS, *words.STABLE, "USD")
    ]
    return list(dict.fromkeys(pairs))


def read_symbols(paste: Text) -> None:
    """The market: as its label says it, else the only pair that the text names."""
    named = paste.found.get("named_symbol")
    if named:
        paste.add("symbol", *named)
        return
    pairs = list(dict.fromkeys(pair for line in paste.lines for pair in _pairs(line, labelled=False)))
    if len(pairs) > 1:
        paste.add("symbol", Candidate(tuple(pairs), ", ".join(pairs), "several markets are named"))
    elif pairs:
        paste.add("symbol", Candidate((pairs[0],), pairs[0]))


_KINDS = {"arithmetic": words.ARITHMETIC, "geometric": words.GEOMETRIC}


def _spacings(text: str) -> list[Candidate]:
    folded = fold(text)
    kinds = [kind for kind, names in _KINDS.items() if re.search(any_of(names), folded)]
    return [Candidate((kinds[0],), text.strip(" :"))] if len(kinds) == 1 and len(folded) < 40 else []


def read_spacing(paste: Text) -> None:
    """Arithmetic or geometric, where it stands by itself; in a sentence it may be explained and not meant."""
    whole = "\n".join(paste.folded)
    said = [kind for kind, names in _KINDS.items() if re.search(any_of(names), whole)]
    alone = [
        kind
        for cell in re.split(r"[\n\t|;,()·•:]", whole)
        for kind, names in _KINDS.items()
        if re.fullmatch(
            rf"\s*(?:\d+\s*)?(?:grids?\s+)?(?:{any_of(names)})(?:\s*(?:grids?|spot|mode|gitter|raster|网格|模式))*\s*",
            cell,
        )
    ]
    if not paste.found.get("spacing"):
        kinds = tuple(dict.fromkeys(alone or said))
        doubt = (
            None if len(set(alone)) == 1 else "it stands within other words" if len(kinds) == 1 else "both are named"
        )
        if kinds:
            paste.add("spacing", Candidate(kinds, " and ".join(kinds), doubt))
    exchanges = {name for name in (*words.COUNTS_INTERVALS, "binance", "bitget", "pionex", "币安") if name in whole}
    if exchanges and exchanges <= set(words.COUNTS_INTERVALS) and not paste.found.get("convention"):
        name = min(exchanges)
        paste.add("convention", Candidate(("intervals",), name, None, f"{name} counts the intervals between prices"))


_COUNT = re.compile(rf"(?:^|[\n\t|;,(·•])[ \t]*(?P<count>\d{{1,4}})[ \t]*(?:{COUNTED})(?=[ \t]*(?:$|[\n\t|;,.)(·•]))")


def read_counts(paste: Text) -> None:
    """`6 grids`, where no label says how many."""
    if paste.found.get("levels"):
        return
    for one in _COUNT.finditer("\n".join(paste.folded)):
        count = int(one["count"])
        doubt = None if 2 <= count <= 1000 else "it is no number of levels from 2 to 1000"
        paste.add("levels", Candidate((count,), one[0].strip(" ,(\n\t|"), doubt))
