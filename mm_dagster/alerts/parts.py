"""How a message is made to fit: parts that give way whole, the least important first, never half a figure.

A message is read on a locked phone at one glance or not at all, so it has 300 characters. What is left out stands on
the live page behind its link.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mm_dagster.text import in_local_time

MESSAGE_LIMIT = 300
"""Of a text. Counted like all limits here in UTF-16 code units, so no way of counting finds more."""
TITLE_LIMIT = 250
"""Pushover's."""
_LEAST = 60
"""What must be said keeps so much of itself, whatever stands beside it; so four parts fit always."""
_WORTH_CUTTING = 40
"""Less than so much of a text from outside says nothing."""


class Part(NamedTuple):
    """A part of a text, whole sentences.

    Attributes:
        rank: what has the lowest takes its room first.
        forms: what it may say, the longest first; the first that fits is taken. Times as ISO 8601 UTC.
        longer: the rank of all forms but the last, where that is another.
        must: whether it is never left out; then its last form is there at least.
        begins_line: whether it stands on a line of its own, or goes on behind the part before.
        may_be_cut: whether it comes from outside, like an error, and half of it is better than nothing.
    """

    rank: int
    forms: tuple[str, ...]
    longer: int | None = None
    must: bool = False
    begins_line: bool = True
    may_be_cut: bool = False


def text_of(parts: Sequence[Part], timezone: str = "UTC") -> str:
    """The parts that fit, in their order; times in them in the operator's zone.

    Args:
        parts: at least one that must be said, and at most four of those.
        timezone: the operator's.

    Returns:
        Plain text of MESSAGE_LIMIT at most, not empty as long as what must be said is not.
    """
    cleaned = [part._replace(forms=tuple(filter(None, (clean(one, timezone) for one in part.forms)))) for part in parts]
    known = [part for part in cleaned if part.forms]
    shown = [part.forms[-1] if part.must else "" for part in known]
    while (over := length(_joined(known, shown)) - MESSAGE_LIMIT) > 0:
        # Only names and sentences that nobody foresaw are so long.
        longest = max(range(len(shown)), key=lambda place: length(shown[place]))
        shown[longest] = cut(shown[longest], max(_LEAST, length(shown[longest]) - over))
    turns = [(part.rank, place, part.forms[-1:]) for place, part in enumerate(known) if not part.must]
    turns += [
        (part.rank if part.longer is None else part.longer, place, part.forms) for place, part in enumerate(known)
    ]
    for _, place, forms in sorted(turns, key=lambda turn: turn[0]):
        for form in forms:
            trial = [*shown[:place], form, *shown[place + 1 :]]
            if length(_joined(known, trial)) <= MESSAGE_LIMIT:
                shown = trial
                break
        else:
            room = MESSAGE_LIMIT - length(_joined(known, shown)) - 1
            if known[place].may_be_cut and not shown[place] and room >= _WORTH_CUTTING:
                shown[place] = cut(known[place].forms[-1], room)
    return _joined(known, shown)


def _joined(parts: Sequence[Part], shown: Sequence[str]) -> str:
    text = ""
    for part, form in zip(parts, shown, strict=True):
        if form:
            between = "\n" if part.begins_line else " "
            text += f"{between}{form}" if text else form
    return text


def title_of(text: str) -> str:
    """A title within Pushover's limit."""
    return cut(clean(text), TITLE_LIMIT)


def clean(text: str, timezone: str = "UTC") -> str:
    """One line of what can be sent and shown, with the operator's times.

    No control characters and, unprintable too, no half surrogate pairs.
    """
    shown = "".join(character if character.isprintable() else " " for character in text)
    return in_local_time(" ".join(shown.split()), timezone, brief=True)


def length(text: str) -> int:
    """UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def cut(text: str, limit: int) -> str:
    """The text, or what of it fits before an ellipsis, cut between words unless one word is most of it.

    No figure is last: what follows it might have been its unit, or the rest of it.
    """
    if length(text) <= limit:
        return text
    kept = text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    *words, last = f"{kept} ".split(" ") if text.startswith(f"{kept} ") else kept.split(" ")
    if 2 * len(last) > len(kept):
        return f"{kept.rstrip('0123456789.,;:')}…"
    while words and any(character.isdigit() for character in words[-1]):
        words.pop()
    return f"{' '.join(words).rstrip('.,;:')}…"
