"""The record of each table: what all that treats tables alike derives from it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mm_dagster.bars import FOUR_HOUR_BARS
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.markets import CandlesConfig, MarketConfig, MarketsConfig, SimulatedVenue
from mm_dagster.config.risk import CalibrationConfig, RiskConfig, VolatilityConfig
from mm_dagster.config.whole import Config
from mm_dagster.regime.features import FORECAST_HALF_LIFE_MAX, definitions
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS
from mm_dagster.tables.registry import EVERY_BAR, LAST, STAGES, before, settings

GRID = GridConfig(
    id="eth", symbol="ETH-USDT", activated_at=datetime(2026, 3, 1, tzinfo=UTC), lower=1800, upper=2200, levels=10,
    stop=1700, capital=1000,
)  # fmt: skip
MARKETS = MarketsConfig(
    venues={"sim": SimulatedVenue(kind="simulated")}, markets=[MarketConfig(symbol="ETH-USDT", venue="sim")]
)
CONFIG = Config(markets=MARKETS, grids=(GRID,))


def test_the_warm_up_is_that_of_the_longest_chain_of_the_features() -> None:
    longest = max(
        step * one.bars
        for one in definitions(VolatilityConfig(half_life_slow_hours=FORECAST_HALF_LIFE_MAX))
        for step in one.columns
    )
    # The hysteresis, the cut to whole 4-hour bars, and the bar before the first.
    assert longest + (HYSTERESIS_BARS - 1) + FOUR_HOUR_BARS + 1 == WARMUP_BARS


def test_every_table_comes_after_tables_that_there_are_and_that_stand_before_it() -> None:
    order = list(STAGES)
    for name, stage in STAGES.items():
        assert all(order.index(one) < order.index(name) for one in stage.after), name


def test_the_spine_is_computed_in_the_order_of_the_flow() -> None:
    assert EVERY_BAR == (
        "candles", "regime_features", "regime_verdict", "grid_risk", "entry_assessment", "exit_state",
        "portfolio_risk", "portfolio_contribution", "limit_state", "exit_cost",
    )  # fmt: skip
    assert LAST == ("entry_assessment", "exit_state", "limit_state", "exit_cost")
    assert before("exit_state") == ("regime_verdict", "grid_risk")
    assert before("regime_features") == ()


def test_names_of_settings_are_told_apart_in_every_hash() -> None:
    for table in STAGES:
        names = [path.rpartition(".")[2] for path in settings(table)]
        assert len(names) == len(set(names)), table


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (
            {"markets": MARKETS.model_copy(update={"candles": CandlesConfig(max_no_trade=7)})},
            {*EVERY_BAR},
        ),
        ({"risk": RiskConfig(vol=VolatilityConfig(weekend=0.5))}, {*EVERY_BAR} - {"candles"}),
        (
            {"risk": RiskConfig(stop_loss={"near": 0.2})},
            {*EVERY_BAR} - {"candles", "regime_features", "regime_verdict"},
        ),
        ({"portfolio": {"window_days": 60}}, {"portfolio_risk", "portfolio_contribution", "limit_state"}),
        ({"exit": {"policy": "literal"}}, {"exit_state"}),
        ({"risk": RiskConfig(calibration=CalibrationConfig(days=30))}, set()),
        ({"alerts": {"max_age_minutes": 60}, "history": {"keep_snapshots_days": 2}}, set()),
    ],
)
def test_a_setting_changes_the_hash_of_the_tables_that_depend_on_it_and_no_other(
    change: dict[str, object], changed: set[str]
) -> None:
    other = Config.model_validate({**dict(CONFIG), **change})
    differs = {
        table
        for table in EVERY_BAR
        if CONFIG.hash_of(table, "ETH-USDT", GRID) != other.hash_of(table, "ETH-USDT", GRID)
    }
    assert differs == changed


def test_the_hashes_of_a_history_written_before_stay_in_force() -> None:
    # Written down from rows of the release before; a change here makes every stored row stale.
    assert CONFIG.hash_of("candles", "ETH-USDT") == "4bceb1a0db19"
    assert CONFIG.hash_of("exit_state", "ETH-USDT", GRID) == "7460c605a558"
