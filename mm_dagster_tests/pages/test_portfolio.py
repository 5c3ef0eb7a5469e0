"""All grids in words: the figures are those of the rows, and each stands beside what it does not know."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from mm_dagster.alerts.digest_words import Day, GridLine, digest
from mm_dagster.alerts.parts import MESSAGE_LIMIT
from mm_dagster.alerts.together import sentence
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.pages.page import Line, without_money
from mm_dagster.pages.portfolio import (
    ALIKE,
    FOLLOW,
    NIGHT_ONLY,
    SAY_EQUITY,
    breach,
    grids_table,
    limits_table,
    night_on_page,
    sentences,
    what_if_sentences,
    what_if_table,
)
from mm_dagster.pages.report import render
from mm_dagster.pictures.drawings import draw_together
from mm_dagster.pipeline.together import Together, in_a_line
from mm_dagster.pipeline.what_if import Changed, WhatIf
from mm_dagster_tests.pages.nights import limit_row, share_row, six, unknown
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, page
from mm_dagster_tests.pictures.nights import SPAN, came, risks
from mm_dagster_tests.test_words_and_figures import faults

SETTINGS = PortfolioConfig()


def said(found: Together, **changes: Any) -> str:
    return "\n".join(sentences(found, SETTINGS, CLOCK, "UTC", **changes))


def shown(table: Any) -> str:
    console = Console(width=140, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_figures_in_the_sentences_are_those_of_the_rows() -> None:
    text = said(six())
    for words in (
        "All 6 grids together, by the bar of 2026-03-01 12:00 UTC.",
        "One night in 20 costs 1,240.00 USDT or more (12 % of their capital)",
        "the worst nights, one in 20, cost 1,610.25 USDT on average; one in 100 costs 1,890.75 USDT or more",
        "From 356 nights of the last 90 days",
        "6 grids count as 1.1:",
        "grid-1 has 50 % of these nights, the most of all; without it they cost 724.61 USDT less on average",
        "in 34 % of the nights, half of them at once in 12 % of the nights",
        "If all fall to their stops, 2,345.67 USDT are lost.",
        "ETH-USDT and SOL-USDT, correlated 0.87 over 60 days",
        "321.50 USDT below its best of 90 days, 1.6 % of the equity",
        "The severe drawdown (20 % of the equity) would be passed in 0.84 % of the nights.",
    ):
        assert words in text


def test_no_figure_stands_without_what_it_does_not_know() -> None:
    text = said(six())
    assert "what those days did not hold is not in it" in text
    assert FOLLOW in text
    assert "2.4 times as often" in FOLLOW
    assert f"0.84 % of the nights. {NIGHT_ONLY}" in text
    assert ALIKE in text
    assert "83 % were correlated above .7" in ALIKE


def test_a_chance_of_none_says_out_of_how_many() -> None:
    assert "would be passed in none of the 356 nights" in said(six(ruin=0.0))


def test_without_an_equity_it_says_how_to_say_it() -> None:
    text = said(six(equity=None, drawdown_share=None, drawdown_level=None, ruin=None))
    assert SAY_EQUITY == "say your equity: portfolio.yaml, `equity: 10000`"
    assert SAY_EQUITY in text
    assert "severe" not in text
    assert SAY_EQUITY not in said(six(equity=None, live_equity=20_000.0))


def test_what_is_not_known_has_its_reason_and_no_figure() -> None:
    text = said(unknown())
    assert "What a bad night costs is not known. ETH-USDT: its last 90 days are not known" in text
    assert "mm backfill" in text
    assert "nights of the last" not in text
    line = in_a_line([unknown()])
    assert line == [
        "All 6 grids together: what a bad night costs is not known. ETH-USDT: its last 90 days are not known without a "
        "hole of a day."
    ]


@pytest.mark.parametrize(("quote", "scale"), [("BTC", 5e-6), ("USDT", 0.01), ("JPY", 500.0), ("USDT", 1e-12)])
def test_figures_of_any_size_can_be_read(quote: str, scale: float) -> None:
    money = ("capital", "equity", "var_5_24h", "es_5_24h", "var_1_24h", "sum_of_var_5", "all_stops", "drawdown")
    usual = six()
    risk = {**usual.risk, "quote": quote, **{name: usual.risk[name] * scale for name in money}}
    amounts = ("capital", "es_5_contribution", "stopping_takes_off", "var_5_alone")
    shares = [one | {name: one[name] * scale for name in amounts} for one in map(dict, usual.contributions)]
    found = Together(risk, tuple(shares), (limit_row("es_5_24h", 0.08, 0.05), limit_row("portfolio", 0.9, 0.8)))
    larger = replace(found, risk={**risk, "es_5_24h": 1.01 * risk["es_5_24h"]})
    asked = WhatIf((Changed("grid-1", 2000 * scale, 2020 * scale),), found, larger)
    texts = [said(found), *in_a_line([found]), shown(grids_table(found)), shown(what_if_table(asked))]
    texts += what_if_sentences(asked, SETTINGS, "UTC")
    assert not [fault for text in texts for fault in faults(text)]


def test_old_rows_say_how_old_they_are() -> None:
    assert ", 5 h 2 min ago." in "\n".join(sentences(six(), SETTINGS, CLOCK + timedelta(hours=5), "UTC"))
    assert "ago" not in said(six())


def test_a_night_in_which_all_gain_is_no_loss() -> None:
    gaining = six(var_5_24h=-12.0, es_5_24h=-3.0, var_1_24h=-1.0, counts_as=None, diversification=None)
    text = said(gaining)
    assert "19 nights in 20 gain 12.00 USDT or more; the worst nights, one in 20, gain 3.00 USDT on average" in text
    assert "count as" not in text


def test_one_line_has_the_night_how_many_they_count_as_and_what_is_breached() -> None:
    found = six(limit_row("es_5_24h", 0.081, 0.05), limit_row("position", 0.1, 0.15, "grid-1"))
    assert in_a_line([found]) == [
        "All 6 grids together: one night in 20 costs 1,240.00 USDT or more (12 % of their capital); they count as 1.1 "
        "independent grids. Breached: es_5_24h."
    ]


def test_twenty_grids_with_forty_breaches_are_one_line_that_fits_a_message() -> None:
    limits = [limit_row(name, 0.3, 0.2, f"grid-{n}") for n in range(20) for name in ("position", "fee_share")]
    line = sentence(six(grids=20).risk, limits)
    assert "\n" not in line
    assert line.endswith("fee_share of grid-1 and 36 more.")
    grids = [GridLine(f"grid-{n}", "NORMAL") for n in range(20)]
    _, text = digest(AS_OF, grids, Day(together=[line]), {}, simulated=False)
    assert len(text) <= MESSAGE_LIMIT
    assert text.splitlines()[1].startswith("All 20 grids together: one night in 20 costs 1,240.00 USDT or more")
    assert "together" not in digest(AS_OF, grids, Day(), {}, simulated=False)[1]


def test_one_grid_and_two_currencies_are_called_what_they_are() -> None:
    assert sentence(six(grids=1).risk, ()).startswith("The one grid that runs: one night in 20 costs")
    assert "(12 % of its capital)." in sentence(six(grids=1).risk, ())
    assert "count as" not in sentence(six(grids=1).risk, ())
    both = in_a_line([six(grids=2), six(quote="BTC", grids=3)])
    assert [line.partition(":")[0] for line in both] == ["Both USDT grids together", "All 3 BTC grids together"]
    assert in_a_line([six(grids=0)]) == []


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        # 8 % of 20,000 is 1,600; a tenth below the limit of 5 % is 900.
        (
            limit_row("es_5_24h", 0.08, 0.05),
            "es_5_24h is 8 %, limit 5 %. It is over below 4.5 %: 700.00 USDT less; stopping grid-1 takes 724.61 USDT "
            "off.",
        ),
        (limit_row("es_5_24h", 0.09, 0.05), "900.00 USDT less, more than any one grid; stopping grid-1 takes most off"),
        (limit_row("es_5_24h", 0.055, 0.05), "200.00 USDT less; stopping grid-2 takes 362.31 USDT off."),
        (
            limit_row("position", 0.2, 0.15, "grid-1"),
            "position of grid-1 is 20 %, limit 15 %. It is over below 13.5 %: "
            "take 1,300.00 USDT of capital out of the grid.",
        ),
        (limit_row("pair", 0.3, 0.2, "ETH-USDT"), "take 2,400.00 USDT of capital out of the grids on ETH-USDT."),
        (limit_row("session", 0.3, 0.2), "out of the new grids, or wait until they are a day old."),
        (limit_row("drawdown_mild", 0.06, 0.05), "when 300.00 USDT are earned back, or the best is older"),
        (
            limit_row("correlation", 0.874, 0.7),
            "correlation is 0.87, limit 0.70. It is over below 0.63: stop the grids on one of ETH-USDT and SOL-USDT.",
        ),
        (limit_row("fills_per_day", 250, 200, "grid-1"), "is 250, limit 200. It is over below 180: fewer levels"),
    ],
)
def test_a_breach_says_since_when_and_what_brings_it_back(limit: Any, words: str) -> None:
    text = breach(limit, six(limit), "UTC")
    assert text.startswith("Breached since 2026-03-01 09:00 UTC: ")
    assert words in text
    assert text in said(six(limit))


def test_a_limit_of_many_shows_the_nearest_and_every_breached_one() -> None:
    calm = [limit_row("position", 0.01 * n, 0.15, f"grid-{n}") for n in range(1, 7)]
    text = shown(limits_table(calm, "UTC"))
    assert "capital of grid-6, nearest of 6" in text
    assert "grid-1" not in text
    breached = [limit_row("position", 0.1 * n, 0.15, f"grid-{n}") for n in range(1, 4)]
    text = shown(limits_table(breached, "UTC"))
    assert [f"grid-{n}" in text for n in (1, 2, 3)] == [False, True, True]
    assert "2026-03-01 09:00 UTC" in text


def test_shares_of_an_equity_that_nobody_said_are_left_out_of_the_table() -> None:
    text = shown(limits_table([limit_row("portfolio", None, 0.8), limit_row("correlation", 0.9, None)], "UTC"))
    assert "portfolio" not in text
    assert "off" in text


def test_the_grid_with_most_of_the_bad_night_comes_first() -> None:
    rows = [share_row("small", 5.0), share_row("large", 50.0)]
    text = shown(grids_table(Together(six().risk, tuple(rows), ())))
    assert text.index("large") < text.index("small")
    assert "50.00 (3.1 %)" in text


def test_the_report_has_the_line_once_and_a_page_to_share_has_neither_line_nor_amounts() -> None:
    found = six()
    drawing = draw_together(risks(), came(), 1000.0, 10_000.0, SPAN)
    night = night_on_page(found, drawing, SETTINGS, only=True)
    line = Line("night", night.text, amounts=True)
    whole = page(lines=(line,))
    text = render(whole, {}, [night], generated_at=CLOCK)
    assert text.count("they count as 1.1 independent grids") == 2  # the line, and what the picture says to the blind
    assert "All grids together" in text
    assert "From 356 nights of the last 90 days." in text
    bare = render(whole, {}, [night], generated_at=CLOCK, money=False)
    assert "1,240.00" not in bare
    assert "All grids together" not in bare
    assert without_money(whole).lines == ()


def test_twenty_grids_have_nine_bars() -> None:
    many = Together(six().risk, tuple(share_row(f"grid-{n}", 80.0 - n) for n in range(20)), ())
    night = night_on_page(many, None, SETTINGS, only=True)
    assert len(night.parts) == 9
    assert night.parts[-1][0] == "12 others"
