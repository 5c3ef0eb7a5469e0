"""portfolio.yaml: how much all grids together may risk; it advises, and stops nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mm_dagster.config.model import Model
from mm_dagster.text import plain_text

Share = Annotated[float, Field(gt=0, le=1)]

OVER = 0.9
"""A limit is no longer breached below this share of it."""


class Limits(Model):
    """From where on a message says that it is too much; null: that is not watched."""

    portfolio: Share | None = 0.80
    """Capital of all running grids, as a share of the equity."""
    pair: Share | None = 0.20
    """Capital of the grids on one market, as a share of the equity."""
    position: Share | None = 0.15
    """Capital of one grid, as a share of the equity."""
    session: Share | None = 0.20
    """Capital of the grids that were activated in the last 24 hours, as a share of the equity."""
    es_5_24h: Share | None = 0.05
    """What the worst night in twenty costs on average, as a share of the equity."""
    correlation: Share | None = None
    """Highest correlation of two markets with running grids; null, since most pairs exceed .7: 83 % of those of 14
    KuCoin markets in 2025."""
    min_step_apart: Annotated[float, Field(ge=0, le=0.1)] = 0.001
    """Two running grids on one market whose levels are nearer, as a fraction, are refused: one would buy what the
    other sells. 0 refuses nothing."""
    fills_per_day: Annotated[int, Field(ge=1)] | None = 200
    """Filled orders of one grid within 24 hours."""
    fee_share: Share | None = 0.5
    """Share of what the sells of one grid earn that its fees take; known from its 20th fill on."""


class Drawdown(Model):
    """How far all grids together may be below their best of the window, as a share of the equity."""

    mild: Share = 0.05
    """A quiet message from here on."""
    moderate: Share = 0.10
    """A plain one."""
    severe: Share = 0.20
    """A loud one. The quiet hours of the phone let it through; those of alerts.yaml hold it until they end, as all that
    can wait."""

    @model_validator(mode="after")
    def _in_order(self) -> Drawdown:
        if not self.mild < self.moderate < self.severe:
            steps = ", ".join(plain_text(value) for value in (self.mild, self.moderate, self.severe))
            raise ValueError(f"mild, moderate and severe must rise in this order, and are {steps}")
        return self


class PortfolioConfig(Model):
    """portfolio.yaml: how much all grids together may risk; it advises, and stops nothing."""

    equity: Annotated[float, Field(gt=0)] | None = None
    """All that you have in this quote currency; the limits are shares of it. null: what the account says that is read
    live; without one, limits that are shares of the equity are not watched."""
    window_days: Annotated[int, Field(ge=30, le=365)] = 90
    """The past that a night is taken from, days; and how far back the best is looked for that a drawdown starts at."""
    limits: Limits = Limits()
    drawdown: Drawdown = Drawdown()
