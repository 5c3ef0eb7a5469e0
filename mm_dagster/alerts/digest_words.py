"""The words of the daily digest: what is wrong by name, how many grids are fine, and what the day brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mm_dagster.alerts.parts import Part, text_of, title_of
from mm_dagster.bars import iso
from mm_dagster.tables.words import STATES
from mm_dagster.text import counted, money_text, words

_NOT_SEEN, _NOT_JUDGED = "not seen", "not judged yet"
_WRONG = (*reversed(STATES[2:]), _NOT_SEEN, STATES[1], _NOT_JUDGED)
"""What a grid can be that is not fine, the most urgent first."""
_LABELS = {_NOT_SEEN: "Not seen (see `mm doctor`)", _NOT_JUDGED: "Not judged yet"}
_NAMED = (12, 6, 3, 2, 1)
"""So many names of each kind, with ever less room."""


@dataclass(frozen=True)
class GridLine:
    """What the digest says of one enabled grid.

    Attributes:
        grid_id: the grid.
        state: its exit state; None: it was never judged.
        blind: whether it is not seen any more.
        stopped: whether the operator says that it was stopped.
    """

    grid_id: str
    state: str | None
    blind: bool = False
    stopped: bool = False

    @property
    def wrong(self) -> str | None:
        """What it is of _WRONG; None: fine, which is NORMAL and seen, or stopped."""
        if self.stopped:
            return None
        if self.state in STATES[2:]:
            return self.state
        if self.blind:
            return _NOT_SEEN
        return _NOT_JUDGED if self.state is None else None if self.state == STATES[0] else self.state

    @property
    def name(self) -> str:
        """Its id; with what goes beside its state."""
        return f"{self.grid_id} (not seen)" if self.blind and self.wrong != _NOT_SEEN else self.grid_id


@dataclass(frozen=True)
class Change:
    """How the total PnL of the grids in one quote currency changed within the last 24 hours.

    Attributes:
        quote: the currency.
        amount: the change, of those grids of which both ends are known.
        capital: of these.
        known: how many these are.
        grids: how many run.
    """

    quote: str
    amount: float
    capital: float
    known: int
    grids: int


@dataclass(frozen=True)
class Day:
    """What the last 24 hours brought, and what is known beside the states; all of it may be unknown.

    Attributes:
        ticks: how many ran to their end, and how many were due.
        changes: by quote currency.
        right: alerts of which the outcome is known: how many were right, of how many, and how many came too late.
        together: what all grids may lose together, a line of each quote currency.
        breached: the limits that are breached, by name.
        stopped: the grids that the operator says were stopped.
    """

    ticks: tuple[int, int] | None = None
    changes: Sequence[Change] = ()
    right: tuple[int, int, int] | None = None
    together: Sequence[str] = ()
    breached: Sequence[str] = ()
    stopped: frozenset[str] = frozenset()


def digest(
    at: datetime,
    grids: Sequence[GridLine],
    day: Day,
    counts: Mapping[str, int],
    *,
    simulated: bool,
    timezone: str = "UTC",
    linked: bool = True,
) -> tuple[str, str]:
    """Title and message of the daily digest.

    Args:
        at: when it was written, UTC.
        grids: the enabled grids.
        day: what is known beside their states.
        counts: how many messages of the last 24 hours are SENT, SUPPRESSED and FAILED.
        simulated: whether the markets are synthetic; the title says so.
        timezone: the operator's.
        linked: whether a link leads to the rest; else it is said where that is.

    Returns:
        Plain text, not empty, within the limits of `parts`. A digest in which something is wrong begins with that.
    """
    wrong = {kind: [one.name for one in grids if one.wrong == kind] for kind in _WRONG}
    wrong = {kind: sorted(names) for kind, names in wrong.items() if names}
    short = [f"{len(names)} {words(kind)}" for kind, names in wrong.items()]
    fine = _fine(grids)
    ran, due = day.ticks or (0, 0)
    missed = f"{ran} of {due} ticks ran in 24 h" if ran < due else ""
    refused = f"{counted(counts['FAILED'], 'message')} refused in 24 h" if counts.get("FAILED") else ""
    others = [one for one in (missed, refused) if one]
    over = [f"{counted(len(day.breached), 'limit')} breached"] if day.breached else []
    parts = [
        Part(2, _wrong_first(wrong, day.breached, [*over, *others], others), must=True),
        Part(0, (f"{_capital(fine)}.",), must=True),
        *_brought(day, counts, is_missed=bool(missed)),
        *(Part(6, (line,)) for line in day.together),
        Part(0, (f"As of {iso(at)}.",), must=True),
    ]
    if not linked:
        parts.append(Part(5, ("More: `mm status`.",), begins_line=False))
    title = f"{'SIMULATED ' if simulated else ''}Digest: {', '.join((*short, *over, *others, fine))}"
    return title_of(title), text_of(parts, timezone)


def _wrong_first(
    wrong: Mapping[str, Sequence[str]], breached: Sequence[str], counts: Sequence[str], others: Sequence[str]
) -> tuple[str, ...]:
    """What is wrong: all by name, then with fewer names, then only the worst by name, at last in figures alone.

    Args:
        wrong: names by what they are, the worst first.
        breached: limits.
        counts: what else is wrong, counted.
        others: what of it has no names.
    """
    named = [f"{_LABELS.get(kind, words(kind))}: " for kind in wrong]
    short = [f"{len(names)} {words(kind)}" for kind, names in wrong.items()]
    forms = []
    for most in _NAMED:
        shown = [begin + _listed(names, most) for begin, names in zip(named, wrong.values(), strict=True)]
        limits = [f"Over its limit: {_listed(breached, most)}"] if breached else []
        forms.append([*shown, *limits, *map(_capital, others)])
    rest = ", ".join((*short[1:], *counts))
    forms += [[named[0] + _listed(names, most), rest] for names in [*wrong.values()][:1] for most in _NAMED]
    forms.append([_capital(", ".join((*short, *counts)))])
    return tuple(f"{said}." for form in forms if (said := ". ".join(filter(None, form))))


def _fine(grids: Sequence[GridLine]) -> str:
    """How many go on as they should, and how many were stopped."""
    if not grids:
        return "no grid is enabled"
    stopped = sum(one.stopped for one in grids)
    running = len(grids) - stopped
    fine = sum(one.wrong is None and not one.stopped for one in grids)
    said = f"{counted(fine, 'grid')} fine" if fine == running else f"{fine} of {counted(running, 'grid')} fine"
    return f"{said}, {stopped} stopped by you" if stopped else said


def _brought(day: Day, counts: Mapping[str, int], *, is_missed: bool) -> list[Part]:
    """What the last 24 hours brought, and whether the alerts were right so far."""
    lately = []
    if day.ticks and day.ticks[1] and not is_missed:
        lately.append(f"{day.ticks[0]} of {counted(day.ticks[1], 'tick')}")
    lately += [_change(one) for one in day.changes]
    sent, held = counts.get("SENT", 0), counts.get("SUPPRESSED", 0)
    alerts = [f"{counted(sent, 'message')} sent"] if sent else []
    alerts += [f"{held} held back"] if held else []
    forms = [form for form in ([*lately, *alerts], lately) if form]
    found = [Part(1, tuple(f"In 24 h: {', '.join(form)}." for form in forms), longer=3)]
    if day.right is not None:
        right, known, late = day.right
        said = f"Own alerts so far: {right} of {known} right"
        found.append(Part(4, (f"{said}, {late} too late.", f"{said}.") if late else (f"{said}.",)))
    return found


def _change(one: Change) -> str:
    amount = f"{money_text(one.amount, one.capital, signed=True)} {one.quote}"
    return amount if one.known == one.grids else f"{amount} by {one.known} of {one.grids} grids"


def _listed(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
