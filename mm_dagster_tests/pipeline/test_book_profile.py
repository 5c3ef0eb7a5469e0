"""What is usual at an hour: made of whole days, the same however often it is made, said only with enough of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.cli.books import recorded_market
from mm_dagster.pipeline.book_answers import LEAST_WINDOWS, said_of_books, usual_costs
from mm_dagster.pipeline.book_features import write
from mm_dagster.pipeline.book_profile import keep_profiles
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.cli.small import configure

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 8


def features(exchange: str, days: int, spread: float) -> list[dict[str, object]]:
    """Rows of whole days: at noon the spread is twice as wide, and depth stands at each distance."""
    return [
        {
            "exchange": exchange, "symbol": "ETH-USDT", "as_of": START + (number + 1) * BAR, "in_sync_share": 1.0,
            "spread_bp": spread * (2 if number // 4 % 24 == 12 else 1), "bid_depth_10bp": 10_000.0,
            "bid_depth_25bp": 40_000.0, "bid_depth_50bp": 100_000.0, "recovery_ms": 100.0, "config_hash": "a",
            "code_version": "1",
        }
        for number in range(96 * days)
    ]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    configure(tmp_path)
    markets = {
        "venues": {"main": {"kind": "ccxt", "exchange": "kucoin"}},
        "markets": [{"symbol": "ETH-USDT", "venue": "main"}],
    }
    (tmp_path / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    feeds = [{"exchange": name, "markets": ["ETH-USDT"]} for name in ("kucoin", "binance")]
    (tmp_path / "configuration" / "books.yaml").write_text(yaml.safe_dump({"feeds": feeds}))
    made = Project(str(tmp_path / "configuration"), str(tmp_path / "data"))
    write(made, "given", [*features("kucoin", DAYS, 2.0), *features("binance", 3, 1.0)])
    return made


def test_a_profile_is_made_at_the_end_of_each_day_that_was_recorded(project: Project) -> None:
    newest = keep_profiles(project, "run", Span(START, START + timedelta(days=DAYS, hours=5)))
    assert newest["as_of"].unique().to_list() == [START + timedelta(days=DAYS)]
    assert newest["exchange"].unique().to_list() == ["kucoin"]
    noon = newest.filter(pl.col("hour") == 12).to_dicts()[0]
    assert (noon["spread_bp"], noon["days"], noon["windows"]) == (4.0, DAYS, 4 * DAYS)
    everything = project.lake.read("liquidity_profile")
    assert everything.group_by("exchange").agg(pl.col("as_of").n_unique()).sort("exchange").rows() == [
        ("binance", 3), ("kucoin", DAYS),
    ]  # fmt: skip
    stamp = project.lake.stamp()
    keep_profiles(project, "again", Span(START, START + timedelta(days=DAYS, hours=5)))
    assert project.lake.stamp() == stamp


def test_what_is_usual_is_one_sentence_of_the_markets_own_exchange_with_its_days(project: Project) -> None:
    keep_profiles(project, "run", Span(START, START + timedelta(days=DAYS)))
    noon = START + timedelta(days=DAYS, hours=12, minutes=20)
    assert said_of_books(project, "ETH-USDT", noon) == (
        "At this hour the spread is usually 4 bp and the bids have 40,000 USDT within 25 bp, "
        "by 8 days of recorded books.",
    )
    [later] = said_of_books(project, "ETH-USDT", noon + timedelta(hours=1))
    assert "usually 2 bp" in later
    # With four days of it nothing is called usual, nor with a profile that is old.
    assert LEAST_WINDOWS > 4 * 4
    assert said_of_books(project, "ETH-USDT", START + timedelta(days=4, hours=12)) == ()
    assert said_of_books(project, "ETH-USDT", noon + timedelta(days=5)) == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ([(40, 40, 40)] * 20, "The perpetual moved 40 ms before spot (40 to 40 in eight of ten), by 20 of 20 recorded"),
        ([(-30, -10, -50)] * 20, "Spot moved 30 ms before the perpetual (30 to 30 in eight of ten), by 20 of 20"),
        (
            [(40, 40, -40)] * 11 + [(40, 40, 40)] * 9,
            "Neither the perpetual nor spot moved first in most",
        ),
        ([(40, 40, 40)] * 15, None),
    ],
)
def test_a_lead_is_said_where_both_halves_agree_in_most_quarter_hours(
    project: Project, leads: list[tuple[float, float, float]], said: str | None
) -> None:
    end = START + timedelta(days=20)
    rows = features("kucoin", 1, 2.0)[: len(leads)]
    for place, (row, (whole, first, second)) in enumerate(zip(rows, leads, strict=True)):
        row |= {"as_of": end - place * BAR, "lead_ms": whole, "lead_first_ms": first, "lead_second_ms": second}
    write(project, "leads", rows)
    told = said_of_books(project, "ETH-USDT", end + timedelta(minutes=3))
    assert len(told) == (said is not None)
    assert said is None or told[0].startswith(said)


def test_what_selling_usually_costs_is_an_upper_bound_by_the_hour(project: Project) -> None:
    keep_profiles(project, "run", Span(START, START + timedelta(days=DAYS)))
    market = recorded_market(project, "kucoin:ETH-USDT")
    costs = {row["hour"]: row for row in usual_costs(project, market, 5.0, 1000.0)}
    assert len(costs) == 24
    # 5,000 of 10,000 within 10 basis points.
    assert costs[3]["cost_bp"] == pytest.approx(10.0)
    assert usual_costs(project, market, 30.0, 1000.0)[0]["cost_bp"] == pytest.approx(20.0, rel=0.01)
    beyond = usual_costs(project, market, 200.0, 1000.0)[0]
    assert beyond["cost_bp"] is None
    assert beyond["shown_share"] == pytest.approx(0.5, rel=0.01)
