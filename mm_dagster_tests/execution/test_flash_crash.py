"""What the plan said at each quarter hour of the flash crash of 2025-10-10, and that it says what it does not know."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span, iso, parse_time
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import RiskConfig, VolatilityConfig
from mm_dagster.execution import exit_cost, plan
from mm_dagster.execution.plan import Plan
from mm_dagster.grid import risk as grid_risk
from mm_dagster.pages.exit_plan import sentences
from mm_dagster.regime import features as regime_features
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster_tests.regime.markets import real

GRID = GridConfig(
    id="eth",
    symbol="ETH-USDT",
    activated_at=parse_time("2025-10-08"),
    lower=3500,
    upper=4600,
    levels=24,
    spacing="geometric",
    stop=3200,
    capital=100_000,
)
EVENING = Span(parse_time("2025-10-10T20:30Z"), parse_time("2025-10-10T22:30Z"))


@pytest.fixture(scope="module")
def plans(shared_data: Path) -> list[Plan]:
    candles = real(shared_data).filter(pl.col("symbol") == "ETH-USDT")
    span = Span(GRID.activated_at - BAR, EVENING.end)
    seen = candles.filter(span.back(WARMUP_BARS).opens())
    features = regime_features.compute(seen, span, VolatilityConfig())
    risk = grid_risk.compute([GRID], features, seen, span, RiskConfig())
    costs = exit_cost.compute([GRID], seen, features, risk, EVENING, RiskConfig(), {})
    return [
        plan.propose(
            costs.filter(pl.col("as_of") == as_of).to_dicts(),
            risk.filter(pl.col("as_of") == as_of).row(0, named=True),
            as_of,
        )
        for as_of in EVENING.open_times() + BAR
    ]


def line(one: Plan) -> str:
    """Time, price, what is held, and over how many minutes it is sold; the cost of it, and of an hour with interval."""
    taken, hour = one.chosen, one.horizons[-1]
    assert taken is not None
    assert taken.expected_bp is not None
    assert hour.low_80_bp is not None
    assert hour.high_80_bp is not None
    return (
        f"{iso(one.as_of)[11:16]} {one.price:.0f} {one.amount:.2f} {one.minutes} {taken.expected_bp:.0f} "
        f"{hour.low_80_bp:.0f}..{hour.high_80_bp:.0f}{' beyond' if one.beyond_model else ''}"
    )


PAGE = [
    "20:45 4017 12.50 0 13 -109..136",
    "21:00 3871 15.63 0 14 -223..252",
    "21:15 3732 19.79 0 15 -285..315",
    "21:30 3591 22.92 0 14 -336..365",
    "21:45 3811 16.67 0 14 -449..479",
    "22:00 3946 13.54 0 14 -455..485",
    "22:15 3896 15.63 0 15 -422..453",
    "22:30 3865 15.63 0 15 -389..420",
]
"""The price moved 11 % and the volume was there: to sell at once cost little; an hour might cost 3 %, or gain it."""


def test_every_quarter_hour_of_the_crash_says_the_same(plans: list[Plan]) -> None:
    assert [line(one) for one in plans] == PAGE


def test_each_of_them_says_that_nobody_knows_which_way_it_goes(plans: list[Plan]) -> None:
    for one in plans:
        assert any("In the crash of 2025-10-10 a quarter hour cost up to 28 %" in said for said in one.unknown)
        assert any("modelled from candles: sell what the exchange says" in said for said in one.unknown)
        assert any("No order book was read" in said for said in one.unknown)
        assert "is not chased" in " ".join(sentences(one, "UTC"))
