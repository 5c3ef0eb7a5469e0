"""All grids at a moment, what came, and what would be with other capital: figures of the stored rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span
from mm_dagster.history.lake import Commit
from mm_dagster.pages.gather import page
from mm_dagster.pages.portfolio import line, what_if_sentences, what_if_table
from mm_dagster.pipeline.digest import fresh_together
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.together import NoPortfolio, added_by, in_a_line, realised, together, weeks
from mm_dagster.pipeline.what_if import WhatIf, additions, what_if
from mm_dagster.tables.registry import conform, empty
from mm_dagster.text import money_text
from mm_dagster_tests.pages.test_portfolio import shown
from mm_dagster_tests.pipeline.nights import BTC, EQUITY, ticked, write
from mm_dagster_tests.pipeline.recordings import NOW, price_of

pytestmark = pytest.mark.slow

LATER = NOW + timedelta(minutes=2)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return ticked(tmp_path_factory.mktemp("nights"))


def asked(known: Project, **capital: float) -> WhatIf:
    (one,) = what_if(known, NOW, {name.replace("_", "-"): value for name, value in capital.items()})
    return one


def figures(row: Any) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


def configured(known: Project, **changes: Any) -> Any:
    """The same history under another configuration."""
    return SimpleNamespace(lake=known.lake, config=known.config.model_copy(update=changes))


def test_the_newest_rows_of_all_three_tables_are_shown(known: Project) -> None:
    (found,) = together(known, LATER)
    assert found.risk["as_of"] == NOW
    assert [one["grid_id"] for one in found.contributions] == ["eth-range", "sol-range"]
    assert found.equity == EQUITY
    assert [row["limit"] for row in found.breached] == ["session"]
    (line_of_page,) = in_a_line([found])
    assert line_of_page.startswith("Both grids together: one night in 20 costs ")
    assert line_of_page.endswith(" Breached: session.")


def test_an_earlier_moment_shows_what_was_known_then(known: Project) -> None:
    (found,) = together(known, NOW - 3 * BAR + timedelta(minutes=1))
    assert found.risk["as_of"] == NOW - 3 * BAR
    assert together(known, NOW - timedelta(days=1)) == ()


def test_old_rows_are_called_stale_on_the_page(known: Project) -> None:
    fresh, old = line(known, LATER), line(known, LATER + timedelta(hours=5))
    assert fresh is not None
    assert old is not None
    assert fresh.amounts
    assert old.text == f"STALE, as of 2026-03-02T12:00:00Z: {fresh.text}"


def test_before_the_first_tick_there_is_no_line(tmp_path: Path) -> None:
    assert line(write(tmp_path), LATER) is None


def test_the_same_capital_gives_the_same_figures(known: Project) -> None:
    (stored,) = together(known, LATER)
    same = asked(known, eth_range=1000.0)
    for part in (same.before, same.after):
        assert figures(part.risk) == pytest.approx(figures(stored.risk), rel=1e-9, abs=1e-9)
        assert [figures(one) for one in part.contributions] == [
            pytest.approx(figures(one), rel=1e-9, abs=1e-9) for one in stored.contributions
        ]


@pytest.mark.parametrize("name", ["eth-range", "sol-range"])
def test_without_a_grid_the_bad_night_loses_what_stopping_it_takes_off(known: Project, name: str) -> None:
    (stored,) = together(known, LATER)
    takes = next(one["stopping_takes_off"] for one in stored.contributions if one["grid_id"] == name)
    (without,) = what_if(known, NOW, {name: 0.0})
    assert without.before.risk["es_5_24h"] - without.after.risk["es_5_24h"] == pytest.approx(takes, abs=1e-9)
    assert without.after.risk["grids"] == 1
    assert without.after.risk["drawdown"] == pytest.approx(stored.risk["drawdown"])


def test_twice_the_capital_of_both_is_twice_the_loss(known: Project) -> None:
    twice = asked(known, eth_range=2000.0, sol_range=2000.0)
    before, after = twice.before.risk, twice.after.risk
    # What a sale costs beyond the half spread grows with its size.
    assert after["es_5_24h"] == pytest.approx(2 * before["es_5_24h"], rel=0.01)
    assert after["es_5_24h"] >= 2 * before["es_5_24h"]
    assert after["counts_as"] == pytest.approx(before["counts_as"], rel=0.01)
    assert after["drawdown"] == before["drawdown"]
    assert {row["subject"] for row in twice.after.breached} == {"all", "eth-range", "sol-range", "ETH-USDT", "SOL-USDT"}


def test_a_grid_that_does_not_run_is_opened_at_the_last_price(known: Project) -> None:
    opened = asked(known, btc_next=500.0)
    assert opened.changes[0].before is None
    assert opened.after.risk["grids"] == 3
    assert opened.after.risk["capital"] == 2500.0
    mine = next(one for one in opened.after.contributions if one["grid_id"] == "btc-next")
    assert mine["capital"] == 500.0
    assert mine["activated_at"] == NOW
    assert mine["var_5_alone"] > 0
    text = "\n".join(what_if_sentences(opened, known.config.portfolio, "UTC"))
    assert "btc-next opened now with 500.00 USDT" in text


def test_without_any_grid_there_is_nothing_to_lose(known: Project) -> None:
    none = asked(known, eth_range=0.0, sol_range=0.0)
    assert none.after.risk["es_5_24h"] is None
    assert none.after.risk["reason"] == "No grid holds anything: there is nothing to lose."
    text = "\n".join(what_if_sentences(none, known.config.portfolio, "UTC"))
    assert "What if, by the bar of 2026-03-02 12:00 UTC: without eth-range, without sol-range." in text
    assert "No grid holds anything" in text


def test_what_if_is_told_side_by_side_with_its_caveat(known: Project) -> None:
    larger = asked(known, eth_range=2000.0)
    text = "\n".join(what_if_sentences(larger, known.config.portfolio, "UTC"))
    more = larger.after.risk["es_5_24h"] - larger.before.risk["es_5_24h"]
    assert f"The worst nights, one in 20, cost {more:.2f} USDT more on average." in text
    assert "position of eth-range is 25 % then, above its limit of 15 %." in text
    assert "From 116 nights of the last 30 days." in text
    assert "Nothing is stored" in text
    assert f"+{more:.2f}" in shown(what_if_table(larger))


def test_nothing_is_stored(known: Project) -> None:
    before = known.lake.snapshots().height
    asked(known, eth_range=2000.0, btc_next=100.0)
    assert known.lake.snapshots().height == before


@pytest.mark.parametrize(
    ("capital", "says"),
    [
        ({"eth-rang": 5.0}, "eth-rang: there is no such grid; did you mean eth-range?"),
        ({"btc-next": 0.0}, "btc-next=0: it holds nothing then, and there is nothing to take out of it"),
    ],
)
def test_what_cannot_be_asked_says_why(known: Project, capital: dict[str, float], says: str) -> None:
    with pytest.raises(NoPortfolio, match="--what-if") as told:
        what_if(known, NOW, capital)
    assert says in str(told.value)


def test_a_grid_whose_stop_is_above_the_price_is_not_opened(known: Project) -> None:
    bounds = {"stop": 90_000.0, "lower": 91_000.0, "upper": 99_000.0}
    grids = [one.model_copy(update=bounds if one.id == "btc-next" else {}) for one in known.config.grids]
    other = configured(known, grids=tuple(grids))
    with pytest.raises(NoPortfolio, match="not above its stop 90,000; it cannot be opened there"):
        what_if(other, NOW, {"btc-next": 100.0})


def test_what_is_not_known_then_has_its_reason(known: Project) -> None:
    settings = known.config.portfolio.model_copy(update={"window_days": 60})
    lacking = configured(known, portfolio=settings)
    (found,) = what_if(lacking, NOW, {"eth-range": 2000.0})
    assert found.after.risk["es_5_24h"] is None
    assert "its last 60 days are not known" in found.after.risk["reason"]
    text = "\n".join(what_if_sentences(found, settings, "UTC"))
    assert "What a bad night costs then is not known" in text


def test_what_came_counts_a_grid_that_was_stopped_meanwhile_and_no_night_that_is_not_known() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    day = timedelta(days=1)
    key = {"quote": "USDT", "activated_at": midnight - day}
    held = [
        {**key, "grid_id": name, "as_of": time}
        for name, times in {"calm": (midnight, midnight + day), "sold": (midnight,)}.items()
        for time in (*times, midnight + BAR)
    ]
    profits = [
        {"grid_id": name, "activated_at": midnight - day, "as_of": midnight + number * day, "total_pnl": value}
        for name, values in {"calm": (5.0, 2.0, None), "sold": (1.0, -40.0, -40.0)}.items()
        for number, value in enumerate(values)
    ]
    found = realised(pl.DataFrame(held), pl.DataFrame(profits))
    assert found.to_dicts() == [{"quote": "USDT", "as_of": midnight, "loss": 44.0}]


def test_the_weeks_of_a_picture_are_those_that_are_stored(known: Project) -> None:
    risks, came = weeks(known, NOW, 28)
    assert risks.height == 21
    assert came.is_empty()  # the grids are younger than a night


def test_the_digest_has_the_line_where_it_is_fresh(known: Project) -> None:
    (found,) = together(known, LATER)
    assert fresh_together(known, LATER) == [found]
    assert fresh_together(known, LATER + timedelta(hours=1)) == []


def test_a_waiting_grid_says_what_it_would_add_as_it_is_proposed(known: Project) -> None:
    entry = known.lake.read("entry_assessment", span=Span(NOW - BAR, NOW))
    assert entry.is_empty()
    proposed = pl.DataFrame(
        [
            {
                "grid_id": "btc-next", "as_of": NOW, "symbol": BTC, "advice": "ENTER", "reasons": ["calm"],
                "price": price_of(BTC), "lower": round(price_of(BTC) * 0.93, 2),
                "upper": round(price_of(BTC) * 1.07, 2), "levels": 9,
            }
        ]
    )  # fmt: skip
    known.lake.upsert(
        "entry_assessment",
        conform(
            proposed.with_columns(config_hash=pl.lit(""), code_version=pl.lit(""), step_percent=pl.lit(1.0)),
            "entry_assessment",
        ),
        commit=Commit("test", "entry_assessment", ""),
    )
    (found,) = additions(known, NOW)
    (risk,) = [one.risk for one in together(known, NOW)]
    assert (found.grid_id, found.quote, found.capital, found.equity) == ("btc-next", "USDT", 1000, EQUITY)
    assert found.before == pytest.approx(risk["es_5_24h"], abs=1e-9)
    assert found.after > found.before
    said = added_by(known, NOW, ["btc-next", "eth-range"])
    assert list(said) == ["btc-next"]
    added = money_text(found.after - found.before, 1000)
    assert said["btc-next"].startswith(
        f"As proposed, with 1,000.00 USDT, it adds {added} USDT to what the worst nights"
    )
    assert added_by(known, NOW, []) == {}
    # A stop as far below its bound as that of the file: the loss to it is in the figure, and no more.
    assert found.after - found.before < 0.2 * found.capital
    page_of_it = next(one for one in page(known, NOW).grids if one.grid.id == "btc-next")
    assert page_of_it.added == said["btc-next"]
    known.lake.write(
        "entry_assessment",
        empty("entry_assessment"),
        span=Span(NOW - BAR, NOW),
        commit=Commit("test", "entry_assessment", ""),
    )
    assert additions(known, NOW) == []
