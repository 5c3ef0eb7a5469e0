"""Numbers as people and exchanges write them: which mark is decimal is decided by the whole text, or not at all.

The rule: a number that can be read in one way only shows which mark is decimal in its text (769,02; 1.234,50; 0.070),
and the others follow it. Where none shows it, or some show one and some the other, `3.070` may be 3.07 or 3070, and
both are said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = (
    r"(?<![\w.,])(?P<number>\d{1,3}(?: \d{3})+(?![\d'])(?:[.,]\d+)?|\d(?:[\d'.,]*\d)?)"
    r"(?:\s?(?P<times>k|K|千|万|萬)(?![^\W\d_]))?"
)
_TIMES = {"k": 1_000, "K": 1_000, "千": 1_000, "万": 10_000, "萬": 10_000}
_GROUPED = re.compile(r"\d{1,3}(?:([.,' ])\d{3})(?:\1\d{3})*|\d{1,2}(?:,\d{2})+,\d{3}")
BOTH = "both the point and the comma are decimal marks in this text"
NOT_DECIDED = "nothing in the text says whether its mark is decimal"


@dataclass(frozen=True)
class Number:
    """A number and what it may mean.

    Attributes:
        readings: none, where it is no number.
        doubt: why it is not sure; None: it is.
    """

    readings: tuple[float, ...]
    doubt: str | None = None


def marks_of(text: str) -> frozenset[str]:
    """The decimal marks that the numbers of a text show: none, one, or both where they contradict each other.

    Args:
        text: without dates and addresses.
    """
    found = set()
    for one in re.finditer(NUMBER, text):
        mark = _shown_by(one["number"])
        if mark:
            found.add(mark)
    return frozenset(found)


def _plainly(token: str) -> str | None:
    """A number without its apostrophes and blanks; None: these stand where no thousands do."""
    if "'" not in token and " " not in token:
        return token
    head = re.split("[.,]", token)[0]
    rest = token[len(head) :]
    if not re.fullmatch(r"\d{1,3}(?:[' ]\d{3})+", head) or "'" in rest or " " in rest:
        return None
    return re.sub("[' ]", "", head) + rest


def _shown_by(token: str) -> str | None:
    """The decimal mark that a number shows by itself."""
    plain = _plainly(token)
    if plain is None:
        return None
    marks = re.sub(r"\d", "", plain)
    if not marks:
        return None
    if len(set(marks)) == 2:
        return marks[-1] if _halves(plain) else None
    other = "," if marks[0] == "." else "."
    if len(marks) > 1:
        return other if _GROUPED.fullmatch(plain) else None
    return None if _is_ambiguous(plain) else marks


def _is_ambiguous(token: str) -> bool:
    """Whether a number with one mark may be meant in thousands."""
    return re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", token) is not None


def _halves(token: str) -> float | None:
    """A number with both marks, the last of them decimal; None: it is none."""
    head, tail = token[: (at := max(token.rfind("."), token.rfind(",")))], token[at + 1 :]
    if token[at] in head or not _GROUPED.fullmatch(head):
        return None
    return float(f"{re.sub('[.,]', '', head)}.{tail}")


def number(token: str, times: str | None, marks: frozenset[str]) -> Number:
    """What a number may mean.

    Args:
        token: as it is written.
        times: a unit of thousands behind it.
        marks: the decimal marks that the text shows.
    """
    found = _number(token, marks)
    factor = _TIMES.get(times or "", 1)
    return Number(tuple(float(f"{one * factor:.15g}") for one in found.readings), found.doubt)


def _number(token: str, marks: frozenset[str]) -> Number:
    plain = _plainly(token)
    if plain is None or re.match(r"0\d", plain):
        return Number((), "it is no number that can be read")
    signs = re.sub(r"\d", "", plain)
    if not signs:
        return Number((float(plain),))
    if len(set(signs)) == 2:
        both = _halves(plain)
        return Number((), "it is no number that can be read") if both is None else Number((both,))
    if len(signs) > 1:
        if not _GROUPED.fullmatch(plain):
            return Number((), "it is no number that can be read")
        return Number((float(re.sub("[.,]", "", plain)),))
    decimal, whole = float(plain.replace(",", ".")), float(re.sub("[.,]", "", plain))
    if not _is_ambiguous(plain):
        return Number((decimal,), BOTH if len(marks) > 1 else None)
    if len(marks) == 1:
        return Number((decimal if signs in marks else whole,))
    return Number((decimal, whole), BOTH if marks else NOT_DECIDED)
