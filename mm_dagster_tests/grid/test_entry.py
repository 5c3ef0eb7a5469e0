"""Entry advice at hand-made bars."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest

from mm_dagster.bars import BAR, TIME, Span, parse_time
from mm_dagster.config.grid import break_even_ratio
from mm_dagster.config.risk import RiskConfig
from mm_dagster.grid import entry
from mm_dagster.tables import registry
from mm_dagster_tests.grid.synthetic import START, chance_of_break, features, grid, span, stamped, verdicts

RISK = RiskConfig()
OFF = grid(enabled=False)
CALM: dict[str, Any] = {"range_low": 3075.0, "range_high": 3180.0, "volatility_forecast": 0.002}


def row(close: float | None = 3127.0, verdict: str | None = "RANGE_OK", **columns: Any) -> dict[str, Any]:
    frame = entry.assess(OFF, features([close], **(CALM | columns)), verdicts([verdict]), span(1), RISK)
    assert registry.broken_rules(stamped(frame, "entry_assessment"), "entry_assessment") == {} or close is None
    return frame.row(0, named=True)


def test_the_disabled_grid_of_the_requirements_waits_and_says_why() -> None:
    found = row(2680.0, range_low=2650.0, range_high=2720.0)
    assert found["advice"] == "WAIT"
    assert found["reasons"][0] == (
        "The price 2,680 is below the configured grid 3,070 to 3,185 and below its stop 2,990."
    )


def test_a_calm_range_with_the_price_inside_may_be_entered() -> None:
    found = row()
    assert found["advice"] == "ENTER"
    assert found["reasons"][-1] == "A calm market lengthens a grid's life; it was not found to make it earn more."


def test_bounds_give_room_and_margin_and_steps_pay_three_times_the_fees() -> None:
    found = row()
    assert found["lower"] == pytest.approx(min(3075, 3127 * 0.98) * 0.995)
    assert found["upper"] == pytest.approx(max(3180, 3127 * 1.02) * 1.005)
    assert found["levels"] == 8
    assert (1 + found["step_percent"] / 100) ** 8 == pytest.approx(found["upper"] / found["lower"])
    least = 3 * (break_even_ratio(0.001, "quote") - 1)
    assert found["step_percent"] / 100 >= least
    assert (found["upper"] / found["lower"]) ** (1 / 9) - 1 < least
    assert row(range_low=2000.0, range_high=4000.0)["levels"] == 16


@pytest.mark.parametrize(
    ("verdict", "sigma", "advice"),
    [
        ("RANGE_OK", 0.004, "WATCH"),
        ("RANGE_OK", 0.02, "WAIT"),
        ("RANGE_WEAK", 0.002, "WATCH"),
        ("RANGE_WEAK", 0.02, "WAIT"),
        ("TRANSITION", 0.002, "WAIT"),
        ("TREND", 0.002, "WAIT"),
        (None, 0.002, "WAIT"),
        ("RANGE_OK", None, "WAIT"),
    ],
)
def test_verdict_and_chance_of_leaving_make_the_advice(verdict: str | None, sigma: float | None, advice: str) -> None:
    found = row(verdict=verdict, volatility_forecast=sigma)
    assert found["advice"] == advice, found
    assert found["reasons"]


def gated(limit: float, **columns: Any) -> dict[str, Any]:
    risk = RiskConfig.model_validate({"entry": {"max_break_low_24h": limit, "enter_below": 1.5, "watch_below": 1.6}})
    known = features([3127.0], **(CALM | columns))
    return entry.assess(OFF, known, verdicts(["RANGE_OK"]), span(1), risk).row(0, named=True)


@pytest.mark.parametrize("sigma", [0.003, 0.004, 0.006])
def test_a_grid_whose_exit_signal_is_near_already_waits_by_that_alone(sigma: float) -> None:
    found = gated(1.0, volatility_forecast=sigma)
    p = found["p_break_low_24h"]
    away = math.log(3127 / found["lower"])
    assert p == pytest.approx(chance_of_break(away, sigma, 24))
    assert found["advice"] == "ENTER"
    assert gated(p * 1.001, volatility_forecast=sigma)["advice"] == "ENTER"
    waits = gated(p, volatility_forecast=sigma)
    assert waits["advice"] == "WAIT"
    assert "an exit signal is already near: a break below" in waits["reasons"][0]
    # All else speaks for it.
    assert not any("near" in reason for reason in waits["reasons"][1:])


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"watch_below: 0\.5 is below enter_below"):
        RiskConfig.model_validate({"entry": {"watch_below": 0.5}})


@pytest.mark.parametrize(("close", "advice"), [(3075.0, "ENTER"), (3074.0, "WAIT"), (3181.0, "WAIT")])
def test_inside_is_judged_by_the_range_before_widening(close: float, advice: str) -> None:
    assert row(close, volatility_forecast=0.001)["advice"] == advice


@pytest.mark.parametrize(
    ("as_of", "weekend_hours"),
    [
        ("2026-03-03T00:00Z", 0),
        ("2026-03-04T00:15Z", 0.25),
        ("2026-03-06T00:00Z", 48),
        ("2026-03-08T12:00Z", 12),
    ],
)
def test_the_chance_of_leaving_knows_how_much_of_three_days_is_weekend(as_of: str, weekend_hours: float) -> None:
    time = parse_time(as_of)
    known, judged = (
        frame.with_columns(as_of=pl.lit(time, TIME)) for frame in (features([3127.0], **CALM), verdicts(["RANGE_OK"]))
    )
    off = grid(enabled=False, activated_at=time)
    found = entry.assess(off, known, judged, Span(time - BAR, time), RISK).row(0, named=True)
    low, high = math.log(3127 / found["lower"]), math.log(found["upper"] / 3127)
    expected = sum(chance_of_break(away, 0.002, 72, weekend_hours) for away in (low, high))
    assert found["p_leave_72h"] == pytest.approx(expected)


def test_a_price_outside_the_configured_grid_waits_however_calm() -> None:
    found = row(3300.0, range_low=3250.0, range_high=3350.0)
    assert found["advice"] == "WAIT"
    assert found["reasons"][0] == "The price 3,300 is above the configured grid 3,070 to 3,185."


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"close": None}, "Not known: price."),
        ({"verdict": None}, "Not known: verdict."),
        ({"range_low": None}, "Not known: range of the last 96 hours."),
        ({"volatility_forecast": None}, "Not known: volatility."),
    ],
)
def test_what_is_not_known_is_named_and_means_wait(change: dict[str, Any], unknown: str) -> None:
    found = row(**change)
    assert found["advice"] == "WAIT"
    assert unknown in found["reasons"]


def test_fees_that_no_step_can_pay_mean_wait() -> None:
    dear = grid(enabled=False, levels=2, level_convention="levels", fees={"maker": 0.015})
    found = entry.assess(dear, features([3127.0], **CALM), verdicts(["RANGE_OK"]), span(1), RISK).row(0, named=True)
    assert found["levels"] is None
    assert found["advice"] == "WAIT"


def test_an_enabled_grid_gets_no_rows_and_other_markets_do_not_matter() -> None:
    known, said = features([3127.0] * 3, **CALM), verdicts(["RANGE_OK"] * 3)
    assert entry.assess(grid(), known, said, span(3), RISK).is_empty()
    plain = entry.assess(OFF, known, said, span(3), RISK)
    mixed = entry.assess(
        OFF,
        pl.concat([known, features([1.0] * 3, symbol="BTC-USDT")]).reverse(),
        pl.concat([said, verdicts(["TREND"] * 3, symbol="BTC-USDT")]).reverse(),
        span(3),
        RISK,
    )
    assert mixed.equals(plain)
    assert plain["as_of"][0] == START


def test_how_much_of_a_grid_the_market_takes_is_said_and_decides_nothing() -> None:
    # 1 base a minute at 3,000; a minute moves by .08 %, so that 7.5 of 10 basis points buy all of .64 x 8: a minute.
    calm = row(3000.0, volume_24h=1440.0, volatility_forecast=0.0008 * math.sqrt(60), range_low=2950.0)
    said = "This market takes more than 3,000 USDT of a grid before leaving costs 10 bp beside the fee; its capital is "
    assert f"{said}1,000." in calm["reasons"]
    wild = row(3000.0, volume_24h=1440.0, volatility_forecast=0.008 * math.sqrt(60), range_low=2950.0)
    # 7.5 of .64 x 80: (7.5 / 51.2)^(1 / .83) of 3,000.
    assert any("takes 300 USDT of a grid" in one for one in wild["reasons"])
    assert not any("This market takes" in one for one in row(volume_24h=None)["reasons"])
    assert row(volume_24h=0.001)["advice"] == row()["advice"] == "ENTER"
