"""makers.yaml: what the study of makers on recorded books assumes. Nothing quotes by it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mm_dagster.config.model import Model

Share = Annotated[float, Field(gt=0, le=1)]
Bp = Annotated[float, Field(ge=0, le=1_000)]


class MakersConfig(Model):
    """makers.yaml: what the study of makers on recorded books assumes. Nothing quotes by it."""

    fee_bp: Bp = 10.0
    """Fee of what rests and is filled, basis points."""
    rebate_bp: Bp = 0.0
    """What the exchange pays for it, basis points."""
    taker_fee_bp: Bp = 10.0
    """Fee of what takes: with it the inventory is sold or bought back at the end of each stretch."""
    out_ms: Annotated[float, Field(ge=0, le=10_000)] = 20.0
    """How long an order takes to the exchange, ms."""
    back_ms: Annotated[float, Field(ge=0, le=10_000)] = 20.0
    """How long the exchange's word takes to us, ms."""
    settle_ms: Annotated[float, Field(ge=0, le=10_000)] = 100.0
    """How much later than the book the exchange may tell of a trade, ms; 12 % of Binance's spot trades came up to 96 ms
    late."""
    decide_ms: Annotated[int, Field(ge=10, le=60_000)] = 1000
    """How often a maker decides, ms."""
    order: Annotated[float, Field(gt=0)] = 500.0
    """The most that one quote offers, quote currency."""
    least_order: Annotated[float, Field(gt=0)] = 10.0
    """The least that the exchange takes, quote currency."""
    inventory: Annotated[float, Field(gt=0)] = 2000.0
    """How much may be held, or sold of what is held, quote currency."""
    touch_share: Share = 0.1
    """The most that a quote offers of what is shown at the best price of its side, as a share."""
    kappa: Annotated[float, Field(gt=0, le=1_000)] = 10.0
    """Orders that a quote of the expected-value maker offers for each bp of its worth over each bp^2 of variance."""
    naive_half_spread_bp: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    """How far the naive maker quotes from the mid price, basis points."""
    risk_aversion: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Of the makers that mind their inventory, a bp."""
    distances_bp: tuple[Annotated[float, Field(ge=0, le=1_000)], ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    """From the best price of a side at which the expected-value maker thinks of a quote, basis points, ascending."""
    stretch_minutes: Annotated[float, Field(ge=0.5, le=1_440)] = 15.0
    """A stretch begins and ends without inventory; what is fitted on earlier ones quotes on the next."""
    learn_stretches: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Stretches before the first one that is quoted on."""
    shifts: Annotated[int, Field(ge=0, le=1_000)] = 20
    """How often the same quotes are made at other times, for comparison."""

    @model_validator(mode="after")
    def _possible(self) -> MakersConfig:
        if self.least_order > self.order:
            raise ValueError(f"least_order {self.least_order:g} is above order {self.order:g}")
        if self.order > self.inventory:
            raise ValueError(f"order {self.order:g} is above inventory {self.inventory:g}")
        if list(self.distances_bp) != sorted(set(self.distances_bp)) or not self.distances_bp:
            raise ValueError("distances_bp: at least one, each greater than the one before")
        return self

    @property
    def net_fee_bp(self) -> float:
        """Fee less rebate, basis points."""
        return self.fee_bp - self.rebate_bp
