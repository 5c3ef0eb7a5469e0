"""exit.yaml: which policy decides, and every threshold of the ladder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mm_dagster.config.model import Model, Positive, Probability
from mm_dagster.text import plain_text


class Confirm(Model):
    """The p_break_low_24h from which a soft trigger counts at a level (policy `confirmed`)."""

    mandatory: Probability = 0.67
    latest_acceptable_exit: Probability = 0.53
    warning: Probability = 0.35


class BreakLikely(Model):
    """p_break_low_24h at which BREAK_LIKELY goes on and off, by level."""

    warning_on: Probability = 0.37
    warning_off: Probability = 0.15
    latest_acceptable_exit_on: Probability = 0.72
    latest_acceptable_exit_off: Probability = 0.24

    @model_validator(mode="after")
    def _off_below_on(self) -> BreakLikely:
        for level in ("warning", "latest_acceptable_exit"):
            on, off = getattr(self, f"{level}_on"), getattr(self, f"{level}_off")
            if off > on:
                raise ValueError(
                    f"{level}_off: {plain_text(off)} is above {level}_on ({plain_text(on)}); "
                    "a state must not end above its start"
                )
        return self


class Thresholds(Model):
    """When each trigger of the ladder fires."""

    closes_outside: Annotated[int, Field(ge=1, description="Consecutive 15m closes beyond a bound.")] = 2
    range_atr: Annotated[float, Field(ge=0, description="ATRs beyond the frozen range.")] = 0.5
    reversion_lost_factor: Positive = 2.0
    reversion_lost_floor_hours: Positive = 4.0
    volatility_expansion: Positive = 1.25
    transition_likely: Probability = 0.40
    confidence_fall: Probability = 0.10
    efficiency_rise: Probability = 0.05
    reversion_slowing_factor: Positive = 1.2
    reversion_slowing_floor_hours: Positive = 4.0
    soft_for_warning: Annotated[int, Field(ge=1, description="How many of the 'one of two' triggers.")] = 2
    break_likely: BreakLikely = BreakLikely()


class Persist(Model):
    """How long before the ladder moves: evaluations in a row."""

    on: Annotated[int, Field(ge=1, le=96)] = 1
    off_warning: Annotated[int, Field(ge=1, le=960)] = 8
    off_latest_acceptable_exit: Annotated[int, Field(ge=1, le=960)] = 16


class LiteralPolicy(Model):
    """Policy `literal`: the requirements' table as it stands."""

    min_families: Annotated[int, Field(ge=1, le=4, description="Families for a soft MANDATORY.")] = 1


class Blindness(Model):
    """Age of the newest known bar, in minutes, from which not seeing is a risk of its own."""

    hold_minutes: Annotated[int, Field(ge=15)] = 30
    warning_minutes: Annotated[int, Field(ge=15)] = 45
    latest_acceptable_exit_minutes: Annotated[int, Field(ge=15)] = 75

    @model_validator(mode="after")
    def _in_order(self) -> Blindness:
        if not self.hold_minutes <= self.warning_minutes <= self.latest_acceptable_exit_minutes:
            raise ValueError("hold_minutes, warning_minutes and latest_acceptable_exit_minutes must rise in this order")
        return self


class WindowMinutes(Model):
    """Minutes that the operator has to act, by state; MANDATORY_EXIT is now."""

    warning: Annotated[int, Field(ge=0)] = 240
    latest_acceptable_exit: Annotated[int, Field(ge=0)] = 60
    mandatory: Annotated[int, Field(ge=0)] = 0


class ExitConfig(Model):
    """exit.yaml: which policy decides, and every threshold of the ladder."""

    policy: Literal["confirmed", "literal"] = "confirmed"
    confirm: Confirm = Confirm()
    literal: LiteralPolicy = LiteralPolicy()
    thresholds: Thresholds = Thresholds()
    persist: Persist = Persist()
    blindness: Blindness = Blindness()
    window_minutes: WindowMinutes = WindowMinutes()
