"""A synthetic episode for the tests of this room: made up, not measured. By default nothing fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, EPOCH, TIME, Span, bar_number
from mm_dagster.config.exit import BreakLikely, Confirm, ExitConfig, Persist, Thresholds
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit import ladder, triggers
from mm_dagster.tables import registry

START = datetime(2026, 3, 2, tzinfo=UTC)
LAG = 16
"""Bars that are known before the activation."""

QUIET: dict[str, Any] = {
    "close": 3127.0,
    "low": 3120.0,
    "verdict": "RANGE_OK",
    "confidence": 0.5,
    "transition_probability": 0.1,
    "half_life": 8.0,
    "half_life_baseline": 10.0,
    "atr_expansion": 1.0,
    "efficiency_ratio": 0.25,
    "range_high": 3180.0,
    "range_low": 3075.0,
    "atr": 10.0,
    "p_break_low_24h": 0.1,
}
FEATURES = (
    "close",
    "half_life",
    "half_life_baseline",
    "atr_expansion",
    "efficiency_ratio",
    "range_high",
    "range_low",
    "atr",
)
VERDICT = ("verdict", "confidence", "transition_probability")


def grid(**changes: Any) -> GridConfig:
    """The grid of the requirements' example."""
    values: dict[str, Any] = {
        "id": "eth-v3",
        "symbol": "ETH-USDT",
        "activated_at": START,
        "lower": 3070,
        "upper": 3185,
        "levels": 8,
        "stop": 2990,
        "capital": 1000,
    }
    return GridConfig.model_validate(values | changes)


@dataclass(frozen=True)
class Frames:
    """What the ladder reads."""

    candles: pl.DataFrame
    features: pl.DataFrame
    verdict: pl.DataFrame
    risk: pl.DataFrame

    def map(self, change: Any) -> Frames:
        """The same with every frame changed alike."""
        return Frames(change(self.candles), change(self.features), change(self.verdict), change(self.risk))

    def beside(self, other: Frames) -> Frames:
        """The rows of both, mixed."""
        return Frames(
            pl.concat([other.candles, self.candles]).reverse(),
            pl.concat([other.features, self.features]).reverse(),
            pl.concat([other.verdict, self.verdict]).reverse(),
            pl.concat([other.risk, self.risk]).reverse(),
        )


def episode(
    bars: int,
    values: Mapping[str, Sequence[Any] | Mapping[int, Any] | Any] | None = None,
    missing: Sequence[int] = (),
    absent: Sequence[int] = (),
    of: GridConfig | None = None,
) -> Frames:
    """Builds the frames of an episode.

    Args:
        bars: evaluations from the activation on.
        values: per column a constant; a list for the evaluations 0, 1, ...; or evaluation -> value, for single ones.
        missing: evaluations whose bar is MISSING: no prices, no features, no verdict, no probability.
        absent: evaluations without any row.
        of: the grid.
    """
    made = of or grid()
    steps = list(range(-LAG, bars))
    columns: dict[str, list[Any]] = {}
    for name, quiet in QUIET.items():
        given = (values or {}).get(name, quiet)
        if isinstance(given, Mapping):
            columns[name] = [given.get(step, quiet) for step in steps]
        elif isinstance(given, Sequence) and not isinstance(given, str):
            columns[name] = [given[step] if 0 <= step < len(given) else quiet for step in steps]
        else:
            columns[name] = [given] * len(steps)
    for name, column in columns.items():
        columns[name] = [None if step in missing else value for step, value in zip(steps, column, strict=True)]
    first = bar_number(made.first_as_of)
    as_of = pl.Series("as_of", [EPOCH + (first + step) * BAR for step in steps], dtype=TIME)
    types = {name: pl.String if name == "verdict" else pl.Float64 for name in QUIET}
    whole = pl.DataFrame(columns, schema=types).with_columns(
        as_of,
        pl.Series("step", steps),
        symbol=pl.lit(made.symbol),
        grid_id=pl.lit(made.id),
        activated_at=pl.lit(made.activated_at, dtype=TIME),
    )
    kept = whole.filter(~pl.col("step").is_in(list(absent)))
    candles = kept.select(
        "symbol",
        "close",
        low=pl.min_horizontal("low", "close"),
        high=pl.col("close"),
        open=pl.col("close"),
        volume=pl.lit(1.0),
        open_time=pl.col("as_of") - BAR,
        close_time=pl.col("as_of"),
        status=pl.when(pl.col("close").is_null()).then(pl.lit("MISSING")).otherwise(pl.lit("TRADED")),
    )
    return Frames(
        registry.conform(candles, "candles"),
        registry.conform(kept.select("symbol", "as_of", *FEATURES), "regime_features"),
        registry.conform(kept.select("symbol", "as_of", *VERDICT), "regime_verdict"),
        registry.conform(
            kept.filter(pl.col("step") >= 0).select("grid_id", "activated_at", "as_of", "symbol", "p_break_low_24h"),
            "grid_risk",
        ),
    )


def end(bars: int) -> datetime:
    """as_of of the last of so many evaluations."""
    return START + (bars - 1) * BAR


def evaluate(frames: Frames, bars: int, config: ExitConfig | None = None, of: GridConfig | None = None) -> pl.DataFrame:
    """The triggers of the example grid."""
    found = triggers.evaluate(
        [of or grid()], frames.candles, frames.features, frames.verdict, frames.risk, end(bars), config or METHOD
    )
    return triggers.table(found, [0])


def climb(frames: Frames, bars: int, config: ExitConfig | None = None, of: GridConfig | None = None) -> pl.DataFrame:
    """The exit states of the example grid."""
    mine = of or grid()
    whole = Span(min(mine.first_as_of, end(bars)) - BAR, end(bars))
    return ladder.compute(
        [mine], frames.candles, frames.features, frames.verdict, frames.risk, whole, config or METHOD, TouchConfig()
    )


def states(frame: pl.DataFrame, column: str = "state") -> str:
    """N, W, L, M for each row: states at a glance."""
    return "".join(state[0] for state in frame[column])


METHOD = ExitConfig(
    confirm=Confirm(mandatory=0.60, latest_acceptable_exit=0.55, warning=0.30),
    thresholds=Thresholds(
        break_likely=BreakLikely(
            warning_on=0.35, warning_off=0.25, latest_acceptable_exit_on=0.60, latest_acceptable_exit_off=0.45
        )
    ),
    persist=Persist(on=2, off_warning=4, off_latest_acceptable_exit=16),
)
"""The thresholds of the method: what these tests count on, whatever the defaults are."""
LITERAL = METHOD.model_copy(update={"policy": "literal"})
"""The requirements' table as it stands."""
