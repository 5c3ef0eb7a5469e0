"""The operator's page in the terminal, at every width and without colour."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from mm_dagster.bars import iso
from mm_dagster.pages.page import Line, Page
from mm_dagster.pages.terminal import status_page
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, grid, message_row, on_page, page, told

LATER = AS_OF + timedelta(hours=3)


def printed(found: Page, width: int, *, colour: bool = False) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(status_page(found, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def troubled() -> Page:
    worst = grid("sol-range")
    alerts = told(message_row(worst), message_row(grid("eth"), alert_id="f", status="FAILED", detail="[/] is invalid"))
    return page(
        on_page(grid("eth")), on_page(worst, "LATEST_ACCEPTABLE_EXIT", alerts=alerts, simulated=True), alerts=alerts,
        lines=(
            Line("quiet", f"quiet hours until {iso(CLOCK + timedelta(hours=5))}: only MANDATORY EXIT makes a sound"),
            Line("digest", f"next {iso(CLOCK + timedelta(hours=6))}"),
        ),
        waiting=2,
        config_error="grids/eth.yaml: stop: 9999 is not below lower",
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 160])
def test_every_line_fits_and_nothing_is_cut_off(width: int) -> None:
    said = printed(troubled(), width)
    assert max(map(len, said.splitlines())) <= min(width, 110)
    together = " ".join(said.split())
    for fact in (
        "Now 2026-03-01 12:02 UTC · judged as of 2026-03-01 12:00 UTC",
        "LATEST ACCEPTABLE EXIT sol-range ETH-USDT 95 SIMULATED",
        "since 2026-03-01 11:30 UTC, for 32 min",
        "do Stop the grid.",
        "when by 2026-03-01 12:31 UTC, 29 min left",
        "why Break below the grid within 24 h: 61 % (limit 60 %)",
        "next Closes below the grid: 0 of 2 (below 90, 5 % away)",
        "stop 10.5 % below the price, lower bound 5.3 % below, upper 15.8 % above",
        "break below the grid within 6/12/24 h 29/45/61 %, touch the stop within 24 h 18 %",
        "stands at -15.34 USDT: realised +716.53, unrealised -731.87 (modelled); 748.24 more at risk to the stop",
        "waiting may cost 711.29 USDT, 68 % of the profit of its steps",
        "ESCALATION LATEST ACCEPTABLE EXIT: sent 2026-03-01 11:31 UTC, 31 min ago, by pushover",
        "no response noted; `mm respond sol-range stopped`",
        "tick 2026-03-01 12:00 UTC, 2 min ago, took 6.0 s",
        "alerts 1 sent, 0 held back, 0 waiting, 1 refused in 24 h",
        "refused: [/] is invalid",
        "quiet hours until 2026-03-01 17:02 UTC",
        "next 2026-03-01 18:02 UTC",
        "2 commits to push",
        "! The last valid configuration stays in force: grids/eth.yaml: stop: 9999 is not below lower",
    ):
        assert fact in together, fact
    assert said.index("sol-range") < said.index("NORMAL  eth")


def test_what_is_old_is_said_first_and_in_words() -> None:
    said = printed(page(on_page(grid(), clock=LATER), clock=LATER), 80)
    assert said.startswith("STALE no grid was judged since 2026-03-01 12:00 UTC, 3 h ago.")
    assert "STALE was NORMAL  eth-range" in said
    assert "may go on" not in said
    assert "for 3 h 30 min" not in said


def test_colour_only_repeats_what_the_words_say() -> None:
    import re

    plain, coloured = printed(troubled(), 100), printed(troubled(), 100, colour=True)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert coloured != bare
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


@pytest.mark.parametrize(
    ("price", "order"),
    [(80.0, "●×┃┃"), (87.0, "×●┃┃"), (100.0, "×┃●┃"), (130.0, "×┃┃●")],
)
def test_the_bar_shows_the_price_where_it_is(price: float, order: str) -> None:
    from dataclasses import replace

    from mm_dagster_tests.pages.rows import risk_row

    one = on_page(grid())
    said = printed(page(replace(one, risk=risk_row(one.grid, price))), 80)
    (bar,) = (line for line in said.splitlines() if line.startswith("where"))
    assert "".join(mark for mark in bar if mark in "●×┃") == order
