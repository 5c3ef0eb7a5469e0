"""The report: one self-contained web page of where everything stands, for a phone or for a screen.

It asks the network for nothing and runs no script: style and drawings are inside, and the page itself forbids the
rest. Whatever people wrote stays text. The layout is report.html.jinja beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mm_dagster.bars import iso
from mm_dagster.pages import sentences
from mm_dagster.pages.grid import GridOnPage
from mm_dagster.pages.page import Page, without_money
from mm_dagster.pages.portfolio import LABEL, NightOnPage
from mm_dagster.pictures.colours import STATE_COLOURS, on_colour
from mm_dagster.pictures.drawings import HEIGHT, Drawing
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster.text import counted, in_local_time, money_text, spoken, words

Drawings = Mapping[str, tuple[Drawing | None, Drawing | None]]
"""By grid: its decisions, and its money."""


def render(
    page: Page, drawings: Drawings, nights: Sequence[NightOnPage] = (), *, generated_at: datetime, money: bool = True
) -> str:
    """The page as HTML.

    Args:
        page: where everything stands.
        drawings: for each grid of the page.
        nights: all grids together, of each quote currency; their words and amounts are left out with the money.
        generated_at: when it is written, UTC.
        money: whether amounts are shown; see `page.without_money`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "iso": iso,
        "words": words,
        "money": money_text,
        "spoken": spoken,
    }
    environment.filters["commands"] = with_commands
    template = environment.get_template("report.html.jinja")
    text = template.render(
        page=page if money else without_money(page),
        drawings=drawings,
        nights=nights if money else (),
        night_label=LABEL,
        generated_at=generated_at,
        show_money=money,
        sentences=sentences,
        counted=counted,
        height=HEIGHT,
        ranks=_ranks(),
        rank_of=rank_of,
        verdicts=VERDICTS,
        states=STATES,
        sources=sorted({one.risk["source"] for one in page.running if one.risk and one.risk["source"]}),
        describe=describe,
    )
    return in_local_time(text, page.timezone).replace(" %", "&nbsp;%")


def with_commands(text: str) -> Markup:
    """A sentence with what stands between backticks set as code; everything else stays text."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def rank_of(one: GridOnPage) -> str:
    """The colour of a grid's state: 0 to 3 from calm to danger, `u` for unknown; `off` where none may be believed."""
    if not one.grid.enabled or (one.stale and one.urgency <= 2 and one.as_of):
        return "off"
    return str(STATES.index(one.state)) if one.state in STATES else "u"


def describe(one: GridOnPage, drawing: Drawing) -> str:
    """What a drawing shows, for those who do not see it."""
    grid, price = one.grid, one.price
    closed = [piece for piece in drawing.states if piece.rank]
    worst = max(closed, key=lambda piece: piece.rank or 0, default=None)
    above = f" The highest exit state is {words(STATES[worst.rank or 0])}." if worst else ""
    now = f", now {one.price_text(price)}" if price is not None else ""
    return (
        f"{grid.symbol}{now}: the price against the grid {one.price_text(grid.lower)} to "
        f"{one.price_text(grid.upper)} and the stop {one.price_text(grid.stop)}, the regime and the exit states "
        f"below.{above}"
    )


def _ranks() -> list[tuple[int, str, str]]:
    """Each rank with its colour and the one that is read on it: the same as in charts.py."""
    return [(rank, colour, on_colour(colour)) for rank, colour in enumerate(STATE_COLOURS.values())]
