"""Risk of a grid at hand-made bars: position, stop, level, utilisation, probabilities."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster import tables
from mm_dagster.bars import BAR, Span
from mm_dagster.config import RiskConfig
from mm_dagster.grid import risk
from mm_dagster_tests.grid.synthetic import START, features, grid, span, stamped

RISK = RiskConfig()


def row(close: float | None, **columns: object) -> dict[str, object]:
    return risk.compute(grid(), features([close], **columns), span(1), RISK).row(0, named=True)


def test_the_disabled_grid_of_the_requirements_is_below_breached_and_critical() -> None:
    frame = risk.compute(grid(enabled=False), features([2680.0]), span(1), RISK)
    found = frame.row(0, named=True)
    assert found["position_health"] == "BELOW_GRID"
    assert found["stop_loss_risk"] == "BREACHED"
    assert found["risk_level"] == "CRITICAL"
    assert found["capital_utilisation"] == 1.0
    assert found["p_stop_24h"] == found["p_break_low_6h"] == 1.0
    assert found["distance_stop_percent"] == pytest.approx(100 * (2680 - 2990) / 2680)
    assert found["distance_lower_atr"] == pytest.approx((2680 - 3070) / 12)
    assert found["recommendations"] == ["The price 2,680 is at or below the stop 2,990: do not start it as configured."]


@pytest.mark.parametrize(
    ("close", "sigma", "expected"),
    [
        (3127.0, 0.002, ("IN_GRID", "SAFE", "LOW")),
        (3127.0, 0.0075, ("IN_GRID", "NEAR", "MEDIUM")),
        (3127.0, 0.03, ("IN_GRID", "CRITICAL", "HIGH")),
        (3060.0, 0.002, ("BELOW_GRID", "SAFE", "MEDIUM")),
        (3200.0, 0.002, ("ABOVE_GRID", "SAFE", "MEDIUM")),
        (2990.0, 0.002, ("BELOW_GRID", "BREACHED", "CRITICAL")),
        (2990.0, None, ("BELOW_GRID", "BREACHED", "CRITICAL")),
        (3127.0, None, ("IN_GRID", None, None)),
        (None, None, (None, None, None)),
    ],
)
def test_position_and_stop_make_the_risk_level(
    close: float | None, sigma: float | None, expected: tuple[str | None, ...]
) -> None:
    found = row(close, volatility_forecast=sigma)
    assert (found["position_health"], found["stop_loss_risk"], found["risk_level"]) == expected


@pytest.mark.parametrize(
    ("close", "held"), [(1.0, [1, 2, 3, 4]), (1.5, [1, 2, 3, 4]), (2.0, [2, 3, 4]), (4.9, [4]), (5.0, []), (9.0, [])]
)
def test_utilisation_is_the_cost_of_the_cells_whose_upper_price_is_above(close: float, held: list[int]) -> None:
    small = grid(lower=1, upper=5, levels=4, stop=0.5)
    found = risk.compute(small, features([close]), span(1), RISK)["capital_utilisation"][0]
    assert found == pytest.approx(sum(held) / 10)


def test_probabilities_are_those_of_the_formula() -> None:
    found = row(3127.0)
    for name, distance, hours, scale in (
        ("p_break_low_6h", math.log(3127 / 3070), 6, 0.65),
        ("p_break_low_12h", math.log(3127 / 3070), 12, 0.68),
        ("p_break_high_24h", math.log(3185 / 3127), 24, 0.72),
        ("p_stop_12h", math.log(3127 / 2990), 12, 0.84),
        ("p_stop_24h", math.log(3127 / 2990), 24, 0.86),
    ):
        x = -distance / (scale * 0.006 * math.sqrt(hours))
        q = 1 + x * x / 4
        assert found[name] == pytest.approx(2 * (0.5 + 3 / 8 * x / math.sqrt(q) * (1 - x * x / (12 * q)))), name


def test_every_bar_since_the_activation_has_a_row_even_without_features() -> None:
    late = grid(activated_at=START + BAR)
    known = features([3100.0, 3101.0, 3102.0, 3103.0]).filter(pl.col("as_of") != START + 2 * BAR)
    frame = risk.compute(late, known, span(4), RISK)
    assert frame["as_of"].to_list() == [START + n * BAR for n in (1, 2, 3)]
    assert frame["price"].to_list() == [3101.0, None, 3103.0]
    assert frame["recommendations"][1].to_list() == [
        "The newest candle is missing: where the price stands is not known."
    ]
    assert tables.broken_rules(stamped(frame, "grid_risk"), "grid_risk") == {}


def test_before_the_activation_there_is_nothing() -> None:
    frame = risk.compute(grid(activated_at=START + 9 * BAR), features([3100.0]), span(4), RISK)
    assert frame.is_empty()
    assert frame.columns == tables.empty("grid_risk").drop("config_hash", "code_version").columns


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(2500, 3500)), min_size=3, max_size=12),
    st.floats(1e-4, 0.05),
)
def test_rows_do_not_depend_on_order_span_or_other_markets(closes: list[float | None], sigma: float) -> None:
    known = features(closes, volatility_forecast=sigma)
    whole = risk.compute(grid(), known, span(len(closes)), RISK)
    mixed = pl.concat([features([1.0] * len(closes), symbol="BTC-USDT"), known]).sample(
        fraction=1.0, shuffle=True, seed=len(closes)
    )
    assert_frame_equal(risk.compute(grid(), mixed, span(len(closes)), RISK), whole, check_exact=True)
    for index in range(len(closes)):
        bar = Span(START + (index - 1) * BAR, START + index * BAR)
        alone = risk.compute(grid(), known, bar, RISK)
        assert_frame_equal(alone, whole.slice(index, 1), check_exact=True)
