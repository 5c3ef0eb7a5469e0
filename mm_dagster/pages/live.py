"""The live page: what a browser is given. It asks no clock and no lake, and knows no server.

Each function gives a whole document, or only what stands inside of its <main>, for the script that renews it:
static/live.js. What people wrote stays text. No script and no style sheet stands in the page itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from mm_dagster.alerts.responses import choices
from mm_dagster.bars import BAR, DAY_BARS, FIRST_DAY, floor_bar
from mm_dagster.pages import html, log
from mm_dagster.pages.exit_plan import ASKS
from mm_dagster.pages.grid import GridOnPage, Row
from mm_dagster.pages.ladder import steps
from mm_dagster.pages.page import DAY, Page
from mm_dagster.pages.portfolio import NightOnPage
from mm_dagster.pages.report import Drawings
from mm_dagster.pictures.drawings import Drawing, Piece
from mm_dagster.text import counted, plain_text

STATIC = Path(__file__).parent / "static"
"""What the page needs beside itself, served at /static/."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
"""What each of these files is."""

RANGES = (1, 7, 30, 92)
"""Days of the pictures of one grid that are offered."""

ACTIONS = (
    ("stopped", "I stopped it", "It ends the watching: press again"),
    ("reduced", "I reduced it", ""),
    ("kept", "I keep it", ""),
    ("snoozed", "Snooze 4 h", ""),
    ("reopened", "It runs again", ""),
)
"""What a button sends, what stands on it, and what it asks before it does."""

_PROPOSALS = {"paper": "Plan it on paper", "test": "Plan a test", "live": "Plan to sell it"}
"""What stands on a button that proposes a plan; none of them sells."""

_MOST = 12
"""Messages on the page of now; of more the pages of their grids have them."""
_MOST_OF_GRID = 80
_LAST_DAY = datetime(2100, 1, 1, tzinfo=UTC)
_REFUSED = "This code is not valid: it was used, it is too old, or it was mistyped."


def now(
    page: Page, drawings: Drawings, nights: Sequence[NightOnPage], *, person: str | None = None, part: bool = False
) -> str:
    """Where everything stands.

    Args:
        page: of now.
        drawings: for each grid of the page.
        nights: all grids together.
        person: who looks; None: nobody said.
        part: whether only the inside of <main> is wanted.
    """
    return _written("live_now.html.jinja", page, "/", person, part, **_of_now(page, drawings, nights))


def history(
    page: Page,
    drawings: Drawings,
    nights: Sequence[NightOnPage],
    *,
    refused: str | None = None,
    person: str | None = None,
    part: bool = False,
) -> str:
    """Where everything stood at any time.

    Args:
        page: looked up.
        drawings: for each grid of the page.
        nights: all grids together.
        refused: why the time that was asked for is none, in a sentence.
        person: who looks.
        part: whether only the inside of <main> is wanted.
    """
    there = floor_bar(page.clock).astimezone(ZoneInfo(page.timezone))
    found = _of_now(page, drawings, nights)
    return _written(
        "live_history.html.jinja",
        page,
        "/history",
        person,
        part,
        **{**found, "title": f"History · {found['title']}"},
        value=f"{there:%Y-%m-%dT%H:%M}",
        refused=refused,
        steps=list(_steps(page.clock)),
    )


def asked(text: str, timezone: str) -> datetime:
    """The moment that the form of `history` asks for: without an offset it is of the operator's zone.

    Raises:
        ValueError: it is no time; in one sentence.
    """
    try:
        found = datetime.fromisoformat(text)
        moment = (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time: write it like 2026-06-29T16:45, or with Z for UTC.") from None
    if not FIRST_DAY <= moment < _LAST_DAY:
        raise ValueError(f"{text[:40]!r}: nothing is known of that year.")
    return moment


def grid(
    page: Page,
    one: GridOnPage,
    drawings: Drawings,
    stays: Sequence[Row],
    responses: Sequence[Row],
    plan: Sequence[str] = (),
    modes: Sequence[str] = (),
    *,
    person: str | None = None,
    part: bool = False,
) -> str:
    """One grid: where it stands, its history, how to leave it, its levels.

    Args:
        page: of all grids, so that the others can be reached; its days are those of the pictures.
        one: the grid.
        drawings: of this grid at least.
        stays: of `gather.stays`.
        responses: of `gather.responses`.
        plan: how to leave it, in sentences.
        modes: how it may be left by the program: paper, test, live.
        person: who looks.
        part: whether only the inside of <main> is wanted.
    """
    decision, equity = drawings.get(one.grid.id, (None, None))
    begins = page.clock - page.days * DAY
    entries, hidden = log.newest_first(
        [
            *(log.of_stay(row, one, page.clock) for row in stays),
            *(log.of_answer(row) for row in responses if row["at"] > begins),
            *(
                log.of_message(row, page.clock, names_grid=False)
                for row in page.alerts
                if row["grid_id"] == one.grid.id and row["activated_at"] == one.grid.activated_at
            ),
        ],
        _MOST_OF_GRID,
    )
    return _written(
        "live_grid.html.jinja",
        page,
        "/g",
        person,
        part,
        title=f"{one.headline} · {one.grid.id}" if one.grid.enabled else one.grid.id,
        one=one,
        decision=decision,
        equity=equity,
        series=_series(one, decision, equity) if decision else None,
        entries=entries,
        hidden=hidden,
        plan=plan,
        modes=[(mode, _PROPOSALS[mode]) for mode in modes],
        asks=any(sentence.startswith(ASKS) for sentence in plan),
        ladder=steps(one.grid),
        ranges=RANGES,
    )


def right(
    page: Page, outcomes: Sequence[Row], rates: Sequence[Row], *, person: str | None = None, part: bool = False
) -> str:
    """What came after each alert, and how often the alerts were right.

    Args:
        page: of now.
        outcomes: rows of `alert_outcome`.
        rates: of `pipeline.outcomes.by_level`.
        person: who looks.
        part: whether only the inside of <main> is wanted.
    """
    capitals = {one.grid.id: one.grid.capital for one in page.grids}
    by_told = {told: [row for row in outcomes if row["told"] == told] for told in (True, False)}
    judged = {
        told: log.newest_first((log.of_outcome(row, capitals) for row in rows), _MOST_OF_GRID)[0]
        for told, rows in by_told.items()
    }
    return _written(
        "live_right.html.jinja",
        page,
        "/right",
        person,
        part,
        title="Were we right?",
        rates=rates,
        judged=judged,
        counts={told: len(rows) for told, rows in by_told.items()},
    )


def health(
    page: Page,
    ticks: Sequence[Row],
    channels: Sequence[Row],
    dagster: str | None = None,
    *,
    due: int = DAY_BARS,
    person: str | None = None,
    part: bool = False,
) -> str:
    """Whether it works: ticks, data, channels.

    Args:
        page: of now.
        ticks: rows of `tick` of the last 24 hours.
        channels: of `gather.channels`.
        dagster: where Dagster's page is; None: not known, or out of reach for who looks.
        due: ticks that were due in those 24 hours; of a home that began later fewer.
        person: who looks.
        part: whether only the inside of <main> is wanted.
    """
    by_time = {row["as_of"]: row for row in ticks}
    newest = max(by_time, default=floor_bar(page.clock))
    strip = [_look_of(by_time.get(newest - number * BAR)) for number in reversed(range(DAY_BARS))]
    took = sorted((row["finished_at"] - row["started_at"]).total_seconds() for row in ticks if row["finished_at"])
    said = f"{sum(look != 'none' for look in strip)} of {due} ticks in 24 h"
    if took:
        said += f"; half took at most {took[(len(took) - 1) // 2]:.1f} s, the longest {took[-1]:.1f} s"
    troubled = [row for row in ticks if _look_of(row) != "ok"]
    problems = len(page.problems) + bool(page.stale)
    well = "It works now" if "none" in strip[DAY_BARS - due :] or troubled else "All is well"
    return _written(
        "live_health.html.jinja",
        page,
        "/state",
        person,
        part,
        title="Health",
        headline=f"{counted(problems, 'thing')} to look at" if problems else well,
        ticks_said=f"{said}.",
        strip=strip,
        entries=log.newest_first(map(log.of_tick, troubled), _MOST)[0],
        channels=channels,
        dagster=dagster,
    )


def offered(one: GridOnPage) -> list[tuple[str, str, str]]:
    """The buttons of a grid, as of ACTIONS: only those whose answer is taken as it stands now."""
    if one.stopped:
        taken = {"reopened"}
    else:
        # Where there is nothing to do, there was nothing that one could keep in spite of it.
        taken = set(choices("ESCALATION", one.state or "")) - (set() if one.urgency else {"kept"})
    return [action for action in ACTIONS if action[0] in taken]


def enter(*, wrong: bool = False) -> str:
    """Where a one-time code is redeemed: the script reads it from the address, or it is typed.

    Args:
        wrong: whether one was just refused.
    """
    return html.written(
        "live_enter.html.jinja",
        **_frame(None, None, part=False),
        title="Who is there?",
        wrong=wrong,
        refused=_REFUSED,
    )


def exit_plan(
    found: Mapping[str, Any], *, until: int, signature: str, person: str | None = None, part: bool = False
) -> str:
    """A plan to leave a grid, to be approved by whoever opened its link.

    Args:
        found: of the plan.
        until: expiry of the link, seconds since 1970.
        signature: of the link.
        person: who looks; None: nobody said.
        part: whether only the inside of <main> is wanted.
    """
    frame = _frame("", found["kept"].grid_id, part=part) | {"person": person, "timezone": found["timezone"]}
    values = {name: value for name, value in found.items() if name != "timezone"}
    title = f"Leave {found['kept'].grid_id}?"
    return html.written("live_exit.html.jinja", **frame, **values, title=title, until=until, signature=signature)


def _of_now(page: Page, drawings: Drawings, nights: Sequence[NightOnPage]) -> dict[str, Any]:
    worst = page.worst
    state = "STALE" if page.stale else worst.headline if worst else "No grid is running"
    entries, _ = log.newest_first((log.of_message(row, page.clock) for row in page.alerts), _MOST)
    return {
        "title": f"{state}{f' · {worst.grid.id}' if worst and worst.urgency else ''}",
        "drawings": drawings,
        "nights": nights,
        "entries": entries,
    }


def _written(template: str, page: Page, tab: str, person: str | None, part: bool, **values: Any) -> str:
    first = next(iter(page.grids), None)
    found = _frame(tab, first.grid.id if first else None, part=part) | {"person": person, "timezone": page.timezone}
    return html.written(template, **found, page=page, **values)


def _frame(tab: str | None, grid_id: str | None, *, part: bool) -> dict[str, Any]:
    """What every page has around itself."""
    tabs = [
        ("/", "Now"),
        *([("/g", "A grid")] if grid_id else []),
        ("/right", "Were we right?"),
        ("/history", "History"),
        ("/state", "Health"),
    ]
    return {
        "layout": f"live{'_part' if part else ''}.html.jinja",
        "tabs": [(_grid_path(grid_id) if path == "/g" and grid_id else path, name, path == tab) for path, name in tabs]
        if tab is not None
        else [],
        "address": _address,
        "grid_path": _grid_path,
        "offered": offered,
        "person": None,
        "timezone": "UTC",
    }


def _grid_path(grid_id: str) -> str:
    return f"/g/{quote(grid_id, safe='')}"


@cache
def _address(name: str) -> str:
    """Where a file of STATIC is; another content has another address, so that none is shown that is old."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]}"


def _steps(clock: datetime) -> Iterator[tuple[str, str]]:
    """Other times to look at: their names and addresses."""
    bar = floor_bar(clock)
    for name, step in (
        ("− 1 day", -DAY), ("− 1 h", -4 * BAR), ("− 15 min", -BAR), ("+ 15 min", BAR), ("+ 1 h", 4 * BAR),
        ("+ 1 day", DAY),
    ):  # fmt: skip
        yield name, f"/history?as_of={bar + step:%Y-%m-%dT%H:%M}Z"


def _look_of(tick: Row | None) -> str:
    if tick is None:
        return "none"
    if tick["reason"] or not tick["finished_at"]:
        return "failed"
    return "partly" if tick["symbols_failed"] else "ok"


def _series(one: GridOnPage, decision: Drawing, equity: Drawing | None) -> str:
    """What the script draws anew so that it can be looked into, as JSON: the pieces of the drawings, no more."""

    def runs(pieces: Sequence[Piece]) -> list[list[int | None]]:
        return [[piece.start, piece.bars, piece.rank] for piece in pieces]

    grid, tick = one.grid, one.price_tick
    decimals = len(plain_text(tick).partition(".")[2]) if tick else None
    found: Mapping[str, Any] = {
        "start": int(decision.start.timestamp()) if decision.start else 0,
        "bar": int(BAR.total_seconds()),
        "bars": decision.width,
        "piece": decision.until[0],
        "price": _packed(decision.values, decimals),
        "money": _packed(equity.values) if equity else None,
        "verdicts": runs(decision.verdicts),
        "states": runs(decision.states),
        "lower": grid.lower,
        "upper": grid.upper,
        "stop": grid.stop,
        "levels": [float(f"{level:.7g}") for level in grid.prices],
        "decimals": decimals,
    }
    return json.dumps(found, separators=(",", ":"), allow_nan=False)


def _packed(values: Mapping[str, Sequence[float | None]], decimals: int | None = None) -> dict[str, Any]:
    """Curves as the steps from one known value to the next, in units of the last decimal: half as long as the values.

    Args:
        values: the curves by name; None: not known.
        decimals: how many are kept; None: seven significant digits of the largest.
    """
    if decimals is None:
        largest = max((abs(value) for curve in values.values() for value in curve if value), default=1.0)
        decimals = max(2, 6 - math.floor(math.log10(largest)))
    packed: dict[str, list[int | None]] = {}
    for name, curve in values.items():
        before, packed[name] = 0, []
        for value in curve:
            units = None if value is None else round(value * 10**decimals)
            packed[name].append(None if units is None else units - before)
            before = before if units is None else units
    return {"decimals": decimals, "steps": packed}
