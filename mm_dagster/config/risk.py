"""risk.yaml: volatility, touch probabilities, and what waiting may cost."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from mm_dagster.config.model import Model, Positive, Probability, Symbol


class VolatilityConfig(Model):
    """The volatility forecast: `weight_fast` of a fast and the rest of a slow EWMA of powers of 15-minute returns."""

    half_life_fast_hours: Annotated[int, Field(ge=1, le=168)] = 12
    """Half-life of the fast one, hours."""
    half_life_slow_hours: Annotated[int, Field(ge=1, le=168)] = 168
    """Half-life of the slow one, hours."""
    weight_fast: Probability = 0.5
    """Weight of the fast one."""
    power: Annotated[float, Field(ge=1, le=2)] = 1.75
    """The power of a return's size that is averaged: 2 is the variance, where a single jump weighs most; 1 the size."""
    weekend: Positive = 0.7
    """Standard deviation of a return on Saturdays and Sundays, UTC, as a share of other days'; 1 knows no weekend."""


class BreakScale(Model):
    """The factor k of the touch probability for two closes beyond a bound, by horizon."""

    h6: Positive = 0.68
    """Within 6 hours."""
    h12: Positive = 0.72
    """Within 12 hours."""
    h24: Positive = 0.75
    """Within 24 hours and longer."""


class StopScale(Model):
    """The factor k of the touch probability for the stop, by horizon."""

    h6: Positive = 0.83
    """Within 6 hours."""
    h12: Positive = 0.83
    """Within 12 hours."""
    h24: Positive = 0.84
    """Within 24 hours and longer."""


class TouchConfig(Model):
    """Calibration of the touch probabilities."""

    k_break: BreakScale = BreakScale()
    k_stop: StopScale = StopScale()
    continuity: Annotated[float, Field(ge=0, le=1)] = 0.35
    """How much farther away a bound is than it stands, since closes are looked at every quarter hour: in standard
    deviations of a quarter hour. For breaks; a stop is touched at any time."""


class StopLossRisk(Model):
    """From which probability of touching the stop within 24 h it is NEAR or CRITICAL."""

    near: Probability = 0.10
    """NEAR from here on."""
    critical: Probability = 0.30
    """CRITICAL from here on."""


class Giveback(Model):
    """What waiting may cost: the fall that is exceeded in 1 of 20 cases while the operator has not acted yet."""

    response_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """How long the operator takes to act, minutes."""
    sigmas: Positive = 1.645
    """The fall, in standard deviations of the log price over that time."""


class EntryConfig(Model):
    """When a grid that is not running may be started."""

    only_for_tables: ClassVar[frozenset[str]] = frozenset({"entry_assessment"})

    enter_below: Annotated[float, Field(gt=0, le=2)] = 0.60
    """ENTER needs a smaller p_leave_72h, which is the sum over both sides."""
    watch_below: Annotated[float, Field(gt=0, le=2)] = 0.80
    """WATCH needs a smaller p_leave_72h."""
    max_break_low_24h: Probability = 0.20
    """Both need a smaller probability that the proposed grid is broken below within 24 h; 1 asks nothing of it."""

    @model_validator(mode="after")
    def _in_order(self) -> EntryConfig:
        if self.watch_below < self.enter_below:
            raise ValueError(f"watch_below: {self.watch_below} is below enter_below ({self.enter_below})")
        return self


class CalibrationConfig(Model):
    """The check whether the touch probabilities came true."""

    only_for_checks: ClassVar[bool] = True

    days: Annotated[int, Field(ge=7, le=3650)] = 90
    """How far it looks back, days."""


HALF_SPREAD_BP = 2.5
"""Of a market whose spread nobody gave."""


class RiskConfig(Model):
    """risk.yaml: volatility, touch probabilities, and what waiting may cost."""

    vol: VolatilityConfig = VolatilityConfig()
    touch: TouchConfig = TouchConfig()
    stop_loss: StopLossRisk = StopLossRisk()
    giveback: Giveback = Giveback()
    half_spread_bp: dict[Symbol, Annotated[float, Field(ge=0, lt=1000)]] = {}
    """Half of the way between bid and ask, by market, basis points; 2.5 where it is not given, since candles do not
    tell it. `mm doctor` proposes what the order books showed."""
    entry: EntryConfig = EntryConfig()
    calibration: CalibrationConfig = CalibrationConfig()

    def half_spread(self, symbol: str) -> float:
        """Of a market, as a fraction of the price."""
        return self.half_spread_bp.get(symbol, HALF_SPREAD_BP) / 10_000
