"""The report: one self-contained web page of where everything stands, for a phone or for a screen.

It asks the network for nothing and runs no script: style and drawings are inside, and the page itself forbids the
rest. Whatever people wrote stays text. The layout is report.html.jinja beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mm_dagster.pages.html import written
from mm_dagster.pages.page import Page, without_money
from mm_dagster.pages.portfolio import NightOnPage
from mm_dagster.pictures.drawings import Drawing

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
    return written(
        "report.html.jinja",
        page.timezone,
        page=page if money else without_money(page),
        drawings=drawings,
        nights=nights if money else (),
        generated_at=generated_at,
        show_money=money,
        sources=sorted({one.risk["source"] for one in page.running if one.risk and one.risk["source"]}),
    )
