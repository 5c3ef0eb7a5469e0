"""Stage 2, regime: what the candles measure, and the verdict drawn from it."""

import dagster as dg

from mm_dagster.defs.describe import preview
from mm_dagster.defs.partitions import history_asset, work
from mm_dagster.defs.resources import ProjectOfRun, Turn
from mm_dagster.pipeline import measure
from mm_dagster.pipeline.exhibits import newest_each


@history_asset("regime_features", kinds={"numba"})
def regime_features(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What the candles measure at every quarter hour: trend, mean reversion, range, volatility.

    Computed on rolling hourly and 4-hour bars over windows that know nothing outside of themselves, so that a row never
    depends on where the history starts. Null while a window is not filled or touched by MISSING bars. What each is,
    with formula and window: docs/features.md. When it is red: a proof found a row that its candles do not give; `mm
    replay --check` names the first cell.
    """
    done = measure.measure(work(context, project, turn))
    shown = ["symbol", "as_of", "close", "efficiency_ratio", "adx", "half_life", "atr_expansion", "volatility_forecast"]
    return dg.MaterializeResult(
        metadata={"rows_changed": done.changed, "preview": preview(newest_each(done.newest, shown))}
    )


@history_asset("regime_verdict", kinds={"numba"})
def regime_verdict(context: dg.AssetExecutionContext, project: ProjectOfRun, turn: Turn) -> dg.MaterializeResult:
    """What the market is doing, in one word: RANGE_OK, RANGE_WEAK, TRANSITION or TREND.

    A description, not a forecast. With hysteresis, so that it does not flicker; the scores, the probabilities and the
    verdict before hysteresis stand beside it. A grid wants RANGE_OK. Confidence is how much likelier the verdict is
    than the next; below 0 it is held by hysteresis alone. When it is red: see regime_features.
    """
    done = measure.decide(work(context, project, turn))
    shown = ["symbol", "as_of", "verdict", "confidence", "p_range_ok", "p_range_weak", "p_transition", "p_trend"]
    return dg.MaterializeResult(
        metadata={"rows_changed": done.changed, "preview": preview(newest_each(done.newest, shown))}
    )
