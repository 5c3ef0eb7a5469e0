"""The operator's page in the terminal: what is old is called so first, then the worst grid, then the rest.

Every fact is a word or a figure; colour only repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mm_dagster.bars import iso
from mm_dagster.pages.colours import COLOURS
from mm_dagster.pages.grid import GridOnPage
from mm_dagster.pages.page import MarketOnPage, Page, is_held_back
from mm_dagster.pages.sentences import (
    answered,
    became_of,
    chances,
    deadline,
    distances,
    leaving_costs,
    money,
    tick_line,
    waiting_costs,
)
from mm_dagster.pictures.extent import price_range
from mm_dagster.tables.words import NOT_JUDGED_YET
from mm_dagster.text import counted, in_local_time, local_time, spoken, words

_WIDEST = 110
"""Columns; longer lines are hard to read."""


def status_page(page: Page, width: int) -> RenderableType:
    """The page for a terminal of so many columns."""
    width = min(width, _WIDEST)
    parts: list[RenderableType] = [*_head(page)]
    for one in page.grids:
        parts += [Text(), Rule(style="dim", characters="─"), *_grid(one, page, width)]
    if not page.grids:
        parts.append(Text("No grid is configured: `mm grid add` adds one.", style="yellow"))
    parts += [Text(), Rule(style="dim", characters="─"), *_system(page)]
    return Constrain(Group(*parts), width)


def _head(page: Page) -> Iterator[RenderableType]:
    if page.stale:
        yield _labelled("STALE", page, page.stale, "bold red")
    now = f"{'As it stood at' if page.looked_up else 'Now'} {iso(page.clock)}"
    title = Text(in_local_time(now, page.timezone), style="bold")
    if page.as_of:
        title.append(in_local_time(f" · judged as of {iso(page.as_of)}", page.timezone), style="not bold")
    if page.simulated:
        title.append(" · SIMULATED", style="bold magenta")
    yield title
    for problem in page.problems:
        yield _labelled("!", page, problem, "bold yellow")


_Line = tuple[str, str | Text | None, str]
"""A label, what stands beside it, and its style; without words there is no line."""


def _grid(one: GridOnPage, page: Page, width: int) -> Iterator[RenderableType]:
    yield _title(one)
    if one.as_of is None:
        yield Text(in_local_time(one.advice or "Not evaluated yet.", page.timezone), style="yellow")
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(width=7, style="dim")
    table.add_column(overflow="fold", ratio=1)
    lines = (*_to_do(one, page), *_reasons(one), *_figures(one, width), *_alert(one, page))
    for label, text, style in lines:
        if text:
            said = text if isinstance(text, Text) else Text(in_local_time(text, page.timezone), style=style)
            table.add_row(label, said)
    yield table


def _title(one: GridOnPage) -> Text:
    grid = one.grid
    title = Text(overflow="fold")
    if one.stale:
        title.append("STALE ", style="bold red")
    calm = one.stale and one.urgency <= 2
    style = "" if calm else COLOURS.get(one.state or "", "yellow" if one.state == NOT_JUDGED_YET else "")
    title.append(one.headline if grid.enabled else f"NOT RUNNING · {one.headline}", style=f"bold {style}")
    title.append(f"  {grid.id}", style="bold")
    title.append(f"  {grid.symbol}")
    if one.price is not None:
        title.append(f"  {one.price_text(one.price)}", style="bold")
    if one.simulated:
        title.append("  SIMULATED", style="magenta")
    return title


def _to_do(one: GridOnPage, page: Page) -> Iterator[_Line]:
    """What happened, since when, and what to do by when."""
    yield "so far", one.happened, "bold"
    if one.since:
        held = "" if one.stale else f", for {spoken(page.clock - one.since)}"
        yield "since", f"{iso(one.since)}{held}", ""
    if one.stale and one.as_of:
        yield "as of", f"{iso(one.as_of)}, {spoken(page.clock - one.as_of)} ago", "bold red"
    if one.urgency or not one.grid.enabled or one.stopped or (one.decided and not one.decided["complete"]):
        yield "do", one.advice, "bold"
        yield "", one.worth, ""
        yield "", one.added, ""
    yield "when", deadline(one, page.clock), "bold"
    yield "live", one.live_reason, "bold"


def _reasons(one: GridOnPage) -> Iterator[_Line]:
    """What speaks for the decision, and what would fire next."""
    for number, reason in enumerate(
        one.reasons if one.is_decisive else [f"(not decisive) {text}" for text in one.reasons]
    ):
        yield "why" if number == 0 else "", reason, ""
    if not one.reasons and not (one.grid.enabled and not one.judged):
        yield "why", "No trigger fires.", ""
    for number, sentence in enumerate(one.next_triggers[:2]):
        yield "next" if number == 0 else "", sentence, ""


def _figures(one: GridOnPage, width: int) -> Iterator[_Line]:
    """Where the price is, how likely it is to leave, the money and the market."""
    yield "where", _bar(one, width - 9), ""
    yield "", distances(one), ""
    yield "odds", chances(one), ""
    yield "money", money(one), ""
    yield "", waiting_costs(one), ""
    yield "", leaving_costs(one), ""
    if one.verdict and one.verdict["verdict"]:
        yield "market", f"{words(one.verdict['verdict'])}, confidence {one.verdict['confidence']:+.2f}", ""


def _alert(one: GridOnPage, page: Page) -> Iterator[_Line]:
    """The newest message, what became of it, and what the operator did."""
    alert = one.alert
    if alert is None:
        yield "alert", "none in this episode" if one.grid.enabled else None, ""
        return
    yield "alert", f"{words(alert['kind'])} {words(alert['state'])}: {became_of(alert, page.clock)}", ""
    if one.response:
        yield "", f"response: {answered(one.response)}", ""
    elif one.answer:
        yield "", f"response: {one.answer['action']} at {iso(one.answer['at'])}", ""
    elif one.urgency and alert["kind"] in ("ESCALATION", "REMINDER"):
        yield "", f"no response noted; `mm respond {one.grid.id} stopped`, or kept, reduced", ""


def _bar(one: GridOnPage, width: int) -> Text | None:
    """Price against stop and bounds: below the grid dotted, within it a line, the price a dot."""
    if one.price is None:
        return None
    grid = one.grid
    left, right = f"stop {one.price_text(grid.stop)} ", f" upper {one.price_text(grid.upper)}"
    cells = min(56, width - len(left) - len(right) - 1)
    if cells < 12:
        return None
    low, high = price_range(grid, one.price, one.price)

    def place(price: float) -> int:
        return round((cells - 1) * min(1.0, max(0.0, (price - low) / (high - low))))

    stop, lower, upper, now = place(grid.stop), place(grid.lower), place(grid.upper), place(one.price)
    text = Text(left, style="dim")
    for cell in range(cells):
        if cell == now:
            text.append("●", style="bold")
        elif cell == stop:
            text.append("×", style="red")
        elif cell in (lower, upper):
            text.append("┃", style="blue")
        elif lower < cell < upper:
            text.append("━", style="blue")
        else:
            text.append("·", style="dim")
    text.append(right, style="dim")
    text.no_wrap = True
    return text


def _system(page: Page) -> Iterator[RenderableType]:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("market", overflow="fold")
    table.add_column("verdict")
    table.add_column("newest bar, age")
    table.add_column("missing", justify="right")
    table.add_column("odd rows", justify="right")
    for one in page.markets:
        table.add_row(one.symbol, _verdict(one), _newest(one, page), f"{one.missing}", f"{one.quarantined}")
    yield table
    lines = Table.grid(padding=(0, 1))
    lines.add_column(width=7, style="dim")
    lines.add_column(overflow="fold", ratio=1)
    if page.tick:
        lines.add_row("tick", Text(in_local_time(tick_line(page), page.timezone)))
    counts = page.alerts_24h
    told = (
        f"{counts['SENT']} sent, {counts['held_back']} held back, {counts['PENDING']} waiting, "
        f"{counts['FAILED']} refused in 24 h"
    )
    lines.add_row("alerts", Text(told))
    for row in page.alerts:
        if row["status"] in ("PENDING", "FAILED") or is_held_back(row):
            told = f"{row['title']}: {became_of(row, page.clock)}"
            lines.add_row("", Text(in_local_time(told, page.timezone)))
    for line in page.lines:
        lines.add_row(line.label, Text(in_local_time(line.text, page.timezone)))
    if isinstance(page.waiting, int):
        lines.add_row("git", Text(f"{counted(page.waiting, 'commit')} to push"))
    yield lines


def _verdict(one: MarketOnPage) -> Text:
    verdict = one.verdict["verdict"] if one.verdict else None
    return Text(words(verdict or "not known"), style=COLOURS.get(verdict or "", ""))


def _newest(one: MarketOnPage, page: Page) -> Text:
    if one.newest is None:
        return Text("none", style="bold red")
    text = f"{local_time(one.newest, page.timezone)}, {spoken(page.clock - one.newest)}"
    return Text(f"STALE {text}", style="bold red") if one.stale else Text(text)


def _labelled(label: str, page: Page, text: str, style: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style=style)
    table.add_column(overflow="fold", ratio=1)
    table.add_row(label, Text(in_local_time(text, page.timezone)))
    return table
