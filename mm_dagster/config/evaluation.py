"""evaluation.yaml: the grids that signals are judged on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_dagster.config.grid import Fees
from mm_dagster.config.model import Model


class EvaluationConfig(Model):
    """The grids that signals are judged on: one is opened every day on every market, whatever the signals say."""

    life_days: Annotated[int, Field(ge=1, le=60, description="How long a grid is held when nothing ends it.")] = 14
    stop: Annotated[
        float, Field(gt=0, lt=1, description="How far below the lower bound the stop lies, fraction of the bound.")
    ] = 0.03
    fees: Fees = Fees(slippage=0.0005)
    """What it pays."""
    window_days: Annotated[
        int, Field(ge=28, le=3650, description="How far back the monthly judgement reaches, days.")
    ] = 365
