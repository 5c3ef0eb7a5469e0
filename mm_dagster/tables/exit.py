"""The decision: may a grid go on?"""

from __future__ import annotations

import polars as pl

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    one_of,
    source_of_candles,
    structs,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import STATES

TRIGGER = pl.Struct(
    {
        "name": pl.String,
        "family": pl.String,
        "level": pl.String,
        "value": pl.Float64,
        "threshold": pl.Float64,
        "fired": pl.Boolean,
    }
)
"""One trigger of the ladder at one as_of. `fired` is null when it cannot be known; `level` is what it counts for."""


class ExitState(dy.Schema):
    """May the grid go on? One row for every active grid and bar, with every trigger and its value."""

    grid_id = text("Grid.", key=True)
    activated_at = time("Episode;", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    symbol = text("Market.")
    complete = flag("Whether all that the episode needs to be judged has been known.", nullable=False)
    never_known = dy.List(
        dy.String(),
        nullable=True,
        description="What was never known yet since the activation; until it is empty only hard triggers count.",
    )
    literal_state = one_of(STATES, "What the literal policy says; null: not judged yet.", nullable=True)
    live_state = one_of(STATES, "What only the live run knew; alerts use the higher one. Live-only.", nullable=True)
    live_reason = text("Why live_state is what it is. Live-only.", nullable=True)
    state = one_of(
        STATES,
        "The decision: a function of stored rows alone; null: not judged yet, no bar since the activation is known.",
        nullable=True,
    )
    raw_state = one_of(
        STATES, "The highest level that holds at this bar alone, before persistence and dwell.", nullable=True
    )
    since = time("as_of at which the present state was entered; null: not judged yet;", nullable=True)
    triggers = structs(
        "Every trigger: name, family, level, value, threshold, fired (null: cannot be known).",
        name=dy.String(),
        family=dy.String(),
        level=dy.String(),
        value=dy.Float64(nullable=True, allow_inf=True),
        threshold=dy.Float64(nullable=True, allow_inf=True),
        fired=dy.Bool(nullable=True),
    )
    nearest = dy.List(
        dy.String(), nullable=True, description="What is not fired and nearest to it, and what would fire it."
    )
    recommended_window_minutes = count("Minutes to act; null in NORMAL, 0: now.")
    advice = text("What to do, in one sentence; a WARNING adds what leaving then was measured to be worth.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


STAGES = (
    Stage(
        "exit_state",
        ExitState,
        group="exit",
        after=("regime_verdict", "grid_risk"),
        settings=("exit",),
        # 4: figures and durations in `nearest`, `advice` and `live_reason` as people write them; no decision changed.
        # 5: thresholds beside the corrected probability, the price in `nearest`, the measured figure in `advice`.
        code_version="5",
        every_bar="running_grid",
    ),
)
