"""A pasted text as lines with labels in them: one form of letters, digits and blanks, and which words are labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, NamedTuple

from mm_dagster.config import pasted_words as words
from mm_dagster.config.pasted_dates import DATES
from mm_dagster.config.pasted_numbers import NUMBER


class Candidate(NamedTuple):
    """A value that stands beside a label of its field."""

    readings: tuple[Any, ...]
    text: str
    doubt: str | None = None
    note: str | None = None


class Label(NamedTuple):
    """A label and where it stands: the line, and from where to where in it."""

    field: str
    line: int
    start: int
    end: int


@dataclass
class Text:
    """A text on its way to values."""

    lines: list[str]
    folded: list[str]
    zone: tzinfo
    zones: frozenset[float]
    marks: frozenset[str]
    found: dict[str, list[Candidate]] = field(default_factory=dict)

    def add(self, name: str, *candidates: Candidate) -> None:
        self.found.setdefault(name, []).extend(candidates)


# text -----------------------------------------------------------------------------------------------------------------

_ALIKE = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "‒": "-", "－": "-", "～": "~", "〜": "~", "∼": "~",
     "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "、": ", ", "。": ". ", "٫": ".", "٬": ",", "≈": "~", "：": ":",
     "…": "...",
     "\u2028": "\n", "\u2029": "\n", "\x0b": "\n", "\x0c": "\n", "\u2044": "/", "\u2215": "/"}
)  # fmt: skip


def normal(text: str) -> str:
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


def fold(line: str) -> str:
    """Without capitals and accents, characters simplified; as long as the line, so that places stay."""
    return "".join(map(_folded, line))


def _folded(letter: str) -> str:
    plain = unicodedata.normalize("NFD", letter.translate(words.SIMPLIFIED))[0].casefold()
    return plain if len(plain) == 1 else letter


def _is_cjk(letter: str) -> bool:
    return "\u3400" <= letter <= "\u9fff"


def _pattern(phrase: str) -> str:
    """A phrase as it may be written: a blank may be a hyphen, an underscore or nothing."""
    parts = [re.escape(part) for part in re.split(r"[ \-_]+", fold(phrase))]
    start = "" if _is_cjk(phrase[0]) else r"(?<!\w)" if phrase[0].isalnum() else ""
    end = "" if _is_cjk(phrase[-1]) else r"(?![^\W\d_])"
    return start + r"[ \t\-_]*".join(parts) + end


def any_of(phrases: Iterator[str] | tuple[str, ...]) -> str:
    return "|".join(_pattern(one) for one in sorted(set(phrases), key=len, reverse=True))


def key(phrase: str) -> str:
    return re.sub(r"[ \t\-_]+", "", fold(phrase))


_FIELD_OF = {key(label): name for name, labels in words.LABELS.items() for label in labels}
_LABEL = re.compile(any_of(label for labels in words.LABELS.values() for label in labels))


# labels ---------------------------------------------------------------------------------------------------------------

COUNTED = "grids|gitter|cuadriculas|rejillas|grades|个?网格|格"
_BEFORE = re.compile(rf"(?:{any_of(words.BEFORE)})\s*$")
_UNIT_BEFORE = re.compile(rf"(?:(?<![^\W\d_])(?:{'|'.join(words.CURRENCIES)})|{any_of(words.AFTER)}|%)\s*$")


def labels_of(folded: str, line: int) -> list[Label]:
    """The labels of a line, those of both bounds together as one."""
    found: list[Label] = []
    for one in _LABEL.finditer(folded):
        is_count = re.search(r"(?:^|[,;|(·•\t])\s*\d{1,4}\s*$", folded[: one.start()]) and re.fullmatch(COUNTED, one[0])
        if not is_count and _begins(folded[: one.start()]):
            found.append(Label(_FIELD_OF[key(one[0])], line, one.start(), one.end()))
    merged: list[Label] = []
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


def is_empty(rest: str) -> bool:
    """Whether nothing stands beside a label but units."""
    return _EMPTY.fullmatch(fold(rest)) is not None


def rests_of(line: str, labels: list[Label]) -> list[str]:
    """What stands behind each label of a line, up to the next."""
    ends = [*(label.start for label in labels[1:]), len(line)]
    return [line[label.end : end] for label, end in zip(labels, ends, strict=True)]


def next_line(lines: list[str], place: int) -> int | None:
    return next((later for later in range(place + 1, len(lines)) if lines[later].strip()), None)


def line_above(lines: list[str], place: int) -> int | None:
    return next((before for before in range(place - 1, -1, -1) if lines[before].strip()), None)


def is_value(line: str) -> bool:
    """Whether a line holds a number, or a day, and little else."""
    rest = re.sub(NUMBER, "", DATES.sub("0", line))
    return bool(re.search(r"\d", line)) and len(re.sub(r"[\W\d_]", "", rest)) <= 12


def is_unset(folded: str) -> bool:
    """Whether a line says that there is no value, or hides it."""
    return folded.strip() in words.NOT_SET or not any(map(str.isalnum, folded))
