"""strategies.yaml: what studies of strategies on candles assume. Nothing is switched on by it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mm_dagster.config.model import Model, Positive

Days = Annotated[int, Field(ge=1, le=90)]
Hours = Annotated[int, Field(ge=1, le=24 * 90)]
Step = Annotated[int, Field(ge=1, le=24 * 7)]


class Trend(Model):
    """Trend following: with the sign of a past return."""

    days: Days = 28
    """Of the return."""
    step_hours: Step = 24
    """Hours between two decisions."""


class Reversion(Model):
    """Mean reversion: against a close that is far from its mean."""

    hours: Hours = 96
    """Of the mean and the standard deviation."""
    enter: Positive = 2.0
    """Standard deviations from the mean at which a position is opened."""
    leave: Annotated[float, Field(ge=0)] = 0.5
    """Standard deviations within which it is closed."""
    memory_hours: Hours = 240
    """A position is at most so old."""

    @model_validator(mode="after")
    def _in_order(self) -> Reversion:
        if not self.leave < self.enter:
            raise ValueError(f"leave: {self.leave:g} must lie below enter, which is {self.enter:g}")
        return self


class Range(Model):
    """Range trading: the more the lower the close lies in its range, and nothing outside of it."""

    hours: Hours = 96
    """Of the range."""
    steps: Annotated[int, Field(ge=1, le=50)] = 4
    """Parts in which it is bought."""
    step_hours: Step = 1
    """Hours between two decisions."""


class Carry(Model):
    """Funding carry: on the side that the funding rate pays."""

    payments: Annotated[int, Field(ge=1, le=270)] = 21
    """Payments whose mean is taken; three a day are usual."""
    full_at: Positive = 0.0002
    """Mean rate of a payment at which the position is whole, fraction."""
    step_hours: Step = 8
    """Hours between two decisions."""


class Signals(Model):
    """What the four strategies look at."""

    trend: Trend = Trend()
    reversion: Reversion = Reversion()
    range: Range = Range()
    carry: Carry = Carry()


class Sizing(Model):
    """How much of the equity a position would be: the least of these rules and of the limits of portfolio.yaml."""

    risk_per_trade: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    """What a stop may cost, share of the equity."""
    stop_atr: Positive = 2.0
    """How far away that stop lies, average true ranges of an hour."""
    var_5_24h: Annotated[float, Field(gt=0, le=1)] = 0.02
    """What one night in 20 may cost, share of the equity, by the forecast of volatility."""
    kelly: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the Kelly stake that is taken; the stake is 0 where the lower end of its interval is not above 0."""


class StrategiesConfig(Model):
    """strategies.yaml: what studies of strategies on candles assume. Nothing is switched on by it."""

    monthly: bool = False
    """Whether the monthly evaluation studies the four strategies on the watched markets, too."""
    fee: Annotated[float, Field(ge=0, le=0.02)] = 0.001
    """Of each side, fraction."""
    half_spread_bp: Annotated[float, Field(ge=0, le=200)] = 2.5
    """What each side pays beside the fee, basis points of the price."""
    short: bool = False
    """Whether a position below 0 is held; spot markets cannot, and hold 0 in its place."""
    train_months: Annotated[int, Field(ge=1, le=24)] = 3
    """Months before each month that the matrix is chosen on."""
    signals: Signals = Signals()
    sizing: Sizing = Sizing()

    @property
    def cost(self) -> float:
        """Of each side, fraction of what is traded."""
        return self.fee + self.half_spread_bp / 10_000
