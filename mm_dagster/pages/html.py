"""What report and live page have in common: the templates beside this file, and what these may call."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mm_dagster.alerts.leaving import percent
from mm_dagster.bars import iso
from mm_dagster.pages import sentences
from mm_dagster.pages.grid import GridOnPage
from mm_dagster.pages.portfolio import LABEL
from mm_dagster.pictures.drawings import HEIGHT, Drawing
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster.text import counted, in_local_time, money_text, price_text, spoken, words


def written(template: str, timezone: str, **values: Any) -> str:
    """A template with its values, its times those of the reader.

    Args:
        template: name of a file beside this one.
        timezone: the reader's.
        values: what it names.
    """
    text = _environment().get_template(template).render(values, timezone=timezone)
    return in_local_time(text, timezone).replace(" %", "&nbsp;%")


@cache
def _environment() -> Environment:
    """One a process: a template is compiled once."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"iso": iso, "words": words, "money": money_text, "spoken": spoken, "commands": with_commands}
    made.filters |= {"price": lambda price: price_text(float(price)), "cost": percent}
    made.globals |= {
        "sentences": sentences,
        "counted": counted,
        "height": HEIGHT,
        "rank_of": rank_of,
        "verdicts": VERDICTS,
        "states": STATES,
        "night_label": LABEL,
        "describe": describe,
    }
    return made


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
