"""orders.yaml: whether and how a grid is left by the program. Off by default; nothing sells by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mm_dagster.config.markets import AccountKeys
from mm_dagster.config.model import Model, Name

Mode = Literal["off", "paper", "test", "live"]
Style = Literal["ADAPTIVE", "AGGRESSIVE", "TWAP"]

MODES: tuple[Mode, ...] = ("off", "paper", "test", "live")
"""Each allows those before it."""


class TradeKey(AccountKeys):
    """Variables of a key that may trade, and may not withdraw: another one than the key that reads."""

    venue: Name | None = None
    """The venue of markets.yaml that the key is of; null: the only exchange there."""


class GridOrders(Model):
    """What may be done about one grid."""

    allow: bool = False
    """Whether real orders of this grid may be placed at all."""
    max_notional: Annotated[float, Field(gt=0)] | None = None
    """The most that a plan of this grid may sell, quote currency; required where `allow` is true."""
    stop: Literal["keep", "sell"] = "keep"
    """How a bot of OKX is stopped: it keeps its coins and the program sells them, or OKX sells them at market, where no
    limit holds."""

    @model_validator(mode="after")
    def _bounded(self) -> GridOrders:
        if self.allow and self.max_notional is None:
            raise ValueError("max_notional is missing: with allow, say how much a plan may sell at most")
        return self


class OrdersConfig(Model):
    """orders.yaml: whether and how a grid is left by the program. Nothing sells by itself: a person approves a plan."""

    mode: Mode = "off"
    """What is possible: nothing, sales on paper, orders that the exchange only checks, real ones. Each allows those
    before it."""
    style: Style = "ADAPTIVE"
    """How a plan sells: ADAPTIVE takes what costs least, risk included; AGGRESSIVE all at once; TWAP in equal slices
    over 15 minutes."""
    risk_aversion: Annotated[float, Field(ge=0, le=10)] = 1.0
    """What a standard deviation of the price is worth beside a certain cost, for ADAPTIVE."""
    soft_bp: Annotated[float, Field(gt=0, le=1_000)] = 25.0
    """A plan that costs more, in basis points, asks a question first."""
    hard_bp: Annotated[float, Field(gt=0, le=1_000)] = 50.0
    """No order sells farther below the mid price, in basis points."""
    settle_seconds: Annotated[float, Field(ge=1, le=100)] = 15.0
    """How much later than it was done the exchange may still tell of something."""
    approval_minutes: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long a proposed plan may be approved, and an approved one may wait to begin."""
    max_exits_a_day: Annotated[int, Field(ge=1, le=100)] = 3
    """Real plans that may be approved within 24 hours."""
    kill_file: str = "KILL"
    """While this file is there nothing is asked of an exchange; relative to the data folder."""
    trade_key: TradeKey | None = None
    """Variables of the key that trades: `{key_env: A, secret_env: B, passphrase_env: C}`; null: no real orders."""
    grids: Annotated[
        dict[Name, GridOrders],
        Field(description="By a grid's id: `{allow: true, max_notional: 2000}`; what is not named is not allowed."),
    ] = {}

    @model_validator(mode="after")
    def _possible(self) -> OrdersConfig:
        if self.hard_bp < self.soft_bp:
            raise ValueError(f"hard_bp {self.hard_bp:g} is below soft_bp {self.soft_bp:g}; the hard limit is the wider")
        if self.mode in ("test", "live") and self.trade_key is None:
            raise ValueError(f"trade_key is missing: mode {self.mode} needs a key that may trade, and not withdraw")
        return self

    def allows(self, mode: Mode) -> bool:
        """Whether plans of a mode are possible."""
        return mode != "off" and MODES.index(mode) <= MODES.index(self.mode)

    def of(self, grid_id: str) -> GridOrders:
        """What may be done about a grid."""
        return self.grids.get(grid_id, GridOrders())
