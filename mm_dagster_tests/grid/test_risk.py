"""Risk of a grid at hand-made bars: position, stop, level, utilisation, probabilities."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mm_dagster.bars import BAR, TIME, Span, parse_time
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import risk
from mm_dagster.tables import registry
from mm_dagster.tables.market import MarketRules
from mm_dagster_tests.grid.synthetic import START, candles, chance_of_break, features, grid, span, stamped

RISK = RiskConfig()


def row(close: float | None, **columns: object) -> dict[str, object]:
    return risk.compute([grid()], features([close], **columns), candles([close]), span(1), RISK).row(0, named=True)


def test_the_disabled_grid_of_the_requirements_is_below_breached_and_critical() -> None:
    frame = risk.compute([grid(enabled=False)], features([2680.0]), candles([2680.0]), span(1), RISK)
    found = frame.row(0, named=True)
    assert found["position_health"] == "BELOW_GRID"
    assert found["stop_loss_risk"] == "BREACHED"
    assert found["risk_level"] == "CRITICAL"
    assert found["capital_utilisation"] == 1.0
    # The stop was touched already; two closes below are still to come, or not.
    assert found["p_stop_24h"] == 1.0
    assert found["p_break_low_6h"] == pytest.approx(chance_of_break(0, 0.006, 6))
    assert 0.9 < found["p_break_low_6h"] < found["p_break_low_12h"] < found["p_break_low_24h"] < 1.0
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
    small = grid(lower=1, upper=5, levels=4, stop=0.5, enabled=False)
    found = risk.compute([small], features([close]), candles([close]), span(1), RISK)["capital_utilisation"][0]
    assert found == pytest.approx(sum(held) / 10)


def test_probabilities_are_those_of_the_formula() -> None:
    found = row(3127.0)
    # Closes are looked at every quarter hour, so a bound is .35 standard deviations of one farther away; a low is not.
    for name, distance, hours, scale, shift in (
        ("p_break_low_6h", math.log(3127 / 3070), 6, 0.68, 0.35),
        ("p_break_low_12h", math.log(3127 / 3070), 12, 0.72, 0.35),
        ("p_break_high_24h", math.log(3185 / 3127), 24, 0.75, 0.35),
        ("p_stop_12h", math.log(3127 / 2990), 12, 0.83, 0),
        ("p_stop_24h", math.log(3127 / 2990), 24, 0.84, 0),
    ):
        x = -(distance + shift * 0.006 / 2) / (scale * 0.006 * math.sqrt(hours))
        q = 1 + x * x / 4
        assert found[name] == pytest.approx(2 * (0.5 + 3 / 8 * x / math.sqrt(q) * (1 - x * x / (12 * q)))), name


def at(as_of: str, risk_config: RiskConfig = RISK, **changes: Any) -> dict[str, Any]:
    """The row of a grid at 3,127, 1.8 % above its lower bound, begun then and not a Monday midnight."""
    time = parse_time(as_of)
    known = features([3127.0]).with_columns(as_of=pl.lit(time, TIME))
    bars = candles([3127.0]).with_columns(open_time=pl.lit(time - BAR, TIME), close_time=pl.lit(time, TIME))
    begun = grid(activated_at=time, **changes)
    return risk.compute([begun], known, bars, Span(time - BAR, time), risk_config).row(0, named=True)


@pytest.mark.parametrize(
    ("as_of", "hours", "weekend_hours"),
    [
        # 2026-03-07 is a Saturday.
        ("2026-03-06T18:00Z", 6, 0),
        ("2026-03-06T18:00Z", 12, 6),
        ("2026-03-06T18:00Z", 24, 18),
        ("2026-03-06T23:45Z", 6, 5.75),
        ("2026-03-07T00:00Z", 24, 24),
        ("2026-03-08T15:00Z", 6, 6),
        ("2026-03-08T15:00Z", 12, 9),
        ("2026-03-08T15:00Z", 24, 9),
        ("2026-03-08T23:45Z", 6, 0.25),
        ("2026-03-09T00:00Z", 24, 0),
    ],
)
def test_hours_ahead_that_are_weekend_count_with_their_own_variance(
    as_of: str, hours: int, weekend_hours: float
) -> None:
    found = at(as_of)
    for side, distance in (("low", math.log(3127 / 3070)), ("high", math.log(3185 / 3127))):
        expected = chance_of_break(distance, 0.006, hours, weekend_hours)
        assert found[f"p_break_{side}_{hours}h"] == pytest.approx(expected)


def test_a_weekend_like_any_day_changes_no_bit() -> None:
    flat = RiskConfig.model_validate({"vol": {"weekend": 1.0}})
    free = ("as_of", "activated_at")
    weekday, sunday = (at(time, flat) for time in ("2026-03-04T12:00Z", "2026-03-08T13:15Z"))
    for one in (weekday, sunday):
        for name in free:
            del one[name]
    assert sunday == weekday
    assert at("2026-03-08T13:15Z")["p_break_low_24h"] < sunday["p_break_low_24h"]


@pytest.mark.parametrize(
    ("minutes", "as_of", "variance"),
    [
        (60, "2026-03-06T23:00Z", 1.0),
        (61, "2026-03-06T23:00Z", 0.8 + 0.2 * 0.49),
        (60, "2026-03-06T23:15Z", 0.75 + 0.25 * 0.49),
        (60, "2026-03-07T12:00Z", 0.49),
        (1, "2026-03-08T23:45Z", 0.49),
        (1, "2026-03-09T00:00Z", 1.0),
    ],
)
def test_the_give_back_knows_how_much_of_the_response_is_weekend(minutes: int, as_of: str, variance: float) -> None:
    waits = RiskConfig.model_validate({"giveback": {"response_minutes": minutes}})
    # On a weekday, with a volatility so scaled, it is the same.
    usual = RiskConfig.model_validate(
        {"giveback": {"response_minutes": minutes, "sigmas": 1.645 * math.sqrt(variance)}, "vol": {"weekend": 1.0}}
    )
    found = at(as_of, waits)["profit_giveback"]
    assert found == pytest.approx(at(as_of, usual)["profit_giveback"], rel=1e-12)
    assert found > 0


def test_every_bar_since_the_activation_has_a_row_even_without_features() -> None:
    late = grid(activated_at=START + BAR)
    known = features([3100.0, 3101.0, 3102.0, 3103.0]).filter(pl.col("as_of") != START + 2 * BAR)
    frame = risk.compute([late], known, candles([3100.0, 3101.0, None, 3103.0]), span(4), RISK)
    assert frame["as_of"].to_list() == [START + n * BAR for n in (1, 2, 3)]
    assert frame["price"].to_list() == [3101.0, None, 3103.0]
    assert frame["recommendations"][1].to_list() == [
        "The newest candle is missing: where the price stands is not known."
    ]
    assert registry.broken_rules(stamped(frame, "grid_risk"), "grid_risk") == {}


def test_before_the_activation_there_is_nothing() -> None:
    frame = risk.compute([grid(activated_at=START + 9 * BAR)], features([3100.0]), candles([3100.0]), span(4), RISK)
    assert frame.is_empty()
    assert frame.columns == registry.empty("grid_risk").drop("config_hash", "code_version").columns


@settings(max_examples=20)
@given(
    st.lists(st.one_of(st.none(), st.floats(2500, 3500)), min_size=3, max_size=12),
    st.floats(1e-4, 0.05),
)
def test_rows_do_not_depend_on_order_span_or_other_markets(closes: list[float | None], sigma: float) -> None:
    known, bars = features(closes, volatility_forecast=sigma), candles(closes)
    whole = risk.compute([grid()], known, bars, span(len(closes)), RISK)
    others = [1.0] * len(closes)
    mixed = pl.concat([features(others, symbol="BTC-USDT"), known]).sample(fraction=1.0, shuffle=True, seed=len(closes))
    more = pl.concat([candles(others, symbol="BTC-USDT"), bars]).sample(fraction=1.0, shuffle=True, seed=len(closes))
    assert_frame_equal(risk.compute([grid()], mixed, more, span(len(closes)), RISK), whole, check_exact=True)
    for index in range(len(closes)):
        bar = Span(START + (index - 1) * BAR, START + index * BAR)
        alone = risk.compute([grid()], known, bars, bar, RISK)
        assert_frame_equal(alone, whole.slice(index, 1), check_exact=True)


def test_many_grids_at_once_are_what_each_is_alone() -> None:
    closes = [3100.0, None, 3060.0, 3190.0, 2980.0, 3100.0]
    frames = (
        pl.concat([features(closes).filter(pl.col("as_of") != START + 3 * BAR), features(closes, symbol="BTC-USDT")]),
        pl.concat([candles(closes), candles([None] * 5 + [3100.0], symbol="BTC-USDT")]),
    )
    many = [
        grid(id="plain"),
        grid(id="late", activated_at=START + BAR / 2),
        grid(id="waits", enabled=False),
        grid(id="unseen", symbol="BTC-USDT"),
        grid(id="unknown", symbol="XRP-USDT"),
        grid(id="future", activated_at=START + 99 * BAR),
        grid(id="poor", capital=1),
        grid(id="told"),
    ]
    rules = {"poor": MarketRules(amount_min=1.0), "plain": MarketRules(price_tick=0.1)}
    fills = {"told": "no reason"}
    for whole in (span(6), Span(START + 4 * BAR, START + 5 * BAR)):
        alone = [risk.compute([one], *frames, whole, RISK, rules, fills) for one in many]
        together = risk.compute(many, *frames, whole, RISK, rules, fills)
        assert_frame_equal(together, pl.concat(alone), check_exact=True)
        assert registry.broken_rules(stamped(together, "grid_risk"), "grid_risk") == {}
    remarks = dict(together.select("grid_id", pl.col("recommendations").list.first()).iter_rows())
    assert remarks["plain"].startswith("The stop was reached by 2026-03-02T01:00:00Z")
    assert remarks["told"].startswith("The stop was reached")
    assert remarks["poor"].startswith("The position is not modelled: grid poor: a cell buys")
    assert remarks["unknown"].startswith("The position is not modelled: no candle is known")


def money(closes: list[float | None], **changes: Any) -> pl.DataFrame:
    """A grid from 100 to 104 with 4 cells, 400 of capital and no fees, unless said otherwise."""
    free = {"maker": 0.0, "taker": 0.0, "slippage": 0.0}
    base = {"lower": 100, "upper": 104, "levels": 4, "stop": 90, "capital": 400, "fees": free}
    frame = risk.compute([grid(**(base | changes))], features(closes), candles(closes), span(len(closes)), RISK)
    assert registry.broken_rules(stamped(frame, "grid_risk"), "grid_risk") == {}
    return frame


def test_a_grid_earns_its_steps_and_says_what_it_holds() -> None:
    # At 102 the cells 102-103 and 103-104 are bought at 102, 100 and 101 wait: q (102 + 102 + 100 + 101) = 400.
    q = 400 / 405
    frame = money([102.0, 103.0, 101.0, 100.5])
    assert frame["inventory"].to_list() == pytest.approx([2 * q, q, 3 * q, 3 * q])
    assert frame["fills"].to_list() == [0, 1, 3, 3]
    # Sold one at 103 that had cost 102; then the buys at 102 and 101 filled.
    assert frame["grid_profit"].to_list() == pytest.approx([0.0, q, q, q])
    assert frame["average_cost"].to_list() == pytest.approx([102.0, 102.0, 305 / 3, 305 / 3])
    assert frame["unrealised_pnl"].to_list() == pytest.approx([0.0, q, -2 * q, -3.5 * q])
    assert frame["total_pnl"].to_list() == pytest.approx([0.0, 2 * q, -q, -2.5 * q])
    assert frame["liquidation_value"].to_list() == pytest.approx([400.0, 400 + 2 * q, 400 - q, 400 - 2.5 * q])
    assert frame["capital_utilisation"].to_list() == pytest.approx([204 / 405, 102 / 405, 305 / 405, 305 / 405])
    # To the stop at 90 the three lose 10.5 each, and the cell at 100 that fills on the way loses 10.
    assert frame["capital_at_risk"][3] == pytest.approx(3 * 10.5 * q + 10 * q)
    assert frame["capital_at_risk_weighted"][3] == frame["capital_at_risk"][3] * frame["p_stop_24h"][3]
    assert 0 < frame["profit_giveback"][3] < frame["capital_at_risk"][3]
    assert frame["profit_giveback_share"][3] == frame["profit_giveback"][3] / frame["grid_profit"][3]
    assert frame["profit_giveback_share"][0] is None
    assert set(frame["source"]) == {"MODELLED"}


def test_a_grid_that_buys_back_higher_puts_its_profit_into_it_too() -> None:
    # 405 were asked for, of which the two upper cells were bought at 102; they are bought again at 102 and 103.
    frame = money([102.0, 104.0, 100.0])
    assert frame["capital_utilisation"].to_list() == pytest.approx([204 / 405, 0.0, 406 / 405])
    assert registry.broken_rules(stamped(frame, "grid_risk"), "grid_risk") == {}


def test_the_stop_ends_the_position_and_no_row_before_it_knows() -> None:
    frame = money([102.0, 95.0, 85.0, 120.0])
    stopped = START + 2 * BAR
    assert frame["stopped_at"].to_list() == [None, None, stopped, stopped]
    assert frame["inventory"].to_list()[2:] == [0.0, 0.0]
    assert frame["capital_at_risk"].to_list()[2:] == [0.0, 0.0]
    q = 400 / 405
    assert frame["exit_pnl"][3] == pytest.approx(q * (4 * 90 - 102 - 102 - 100 - 101))
    assert frame["total_pnl"][3] == frame["exit_pnl"][3]
    assert (
        frame["recommendations"][3][0]
        == "The stop was reached by 2026-03-02T00:30:00Z: the grid holds nothing any more."
    )


def test_a_missing_bar_keeps_the_position_and_values_nothing() -> None:
    frame = money([102.0, None, 101.0])
    assert frame["inventory"][1] == frame["inventory"][0]
    assert frame["liquidation_value"].to_list()[1] is None
    assert frame["fills"].to_list() == [0, 0, 1]


def test_the_position_starts_at_the_first_known_close_of_an_hour_and_not_later() -> None:
    late = money([None, None, None, None, 102.0, 103.0])
    assert late["fills"].to_list() == [None, None, None, None, 0, 1]
    too_late = money([None, None, None, None, None, 102.0])
    assert too_late["liquidation_value"].null_count() == 6
    assert too_late["recommendations"][5][0] == (
        "The position is not modelled: no candle is known at its activation; check activated_at."
    )


def test_a_grid_that_does_not_run_holds_nothing_that_is_known() -> None:
    frame = money([102.0, 101.0], enabled=False)
    assert frame["liquidation_value"].null_count() == frame["inventory"].null_count() == 2
    assert frame["capital_utilisation"].to_list() == pytest.approx([(102 + 103) / 406, (101 + 102 + 103) / 406])


def test_orders_that_the_venue_would_not_take_leave_the_advice_and_say_why() -> None:
    closes = [102.0, 101.0]
    small = grid(lower=100, upper=104, levels=4, stop=90, capital=4)
    rules = MarketRules(price_tick=0.01, amount_lot=0.001, amount_min=0.1, cost_min=1.0)
    frame = risk.compute([small], features(closes), candles(closes), span(2), RISK, {small.id: rules})
    assert frame["p_stop_24h"].null_count() == 0
    assert frame["inventory"].null_count() == 2
    assert "the venue takes no order below 0.1 (base currency)" in frame["recommendations"][0][0]
