"""What the daily checks look at: the newest whole day, and what was predicted for the grids of the last months."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso, midnight
from mm_dagster.config.whole import Config
from mm_dagster.evaluation.calibration import Calibration, Event, calibrate, observe, verdict_of
from mm_dagster.history.lake import Lake
from mm_dagster.pipeline.exhibits import Picture
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.regime.proofs import FOLDED_BARS, Evidence, Proof


def honesty(project: Project, event: Event, check: str) -> Finding:
    """Whether what was predicted of an event came true.

    Args:
        project: configuration and lake.
        event: which.
        check: the name of the check.
    """
    # Imported here because it loads matplotlib, and every run of any job loads this module.
    from mm_dagster.pictures import quality

    found = measure(project, event)
    if found is None:
        return Finding(check, False, "Nothing was compared: no grid was evaluated yet.")
    scores = {
        "samples": found.whole.count,
        "base_rate": found.whole.observed,
        "expected_calibration_error": found.expected_calibration_error,
        "brier_skill": found.brier_skill,
        "auc": found.auc,
        "not_over_yet_or_with_holes": found.censored,
    }
    drawn = Picture(quality.reliability_picture(found, dots_per_inch=60), "predicted, observed")
    known = {name: value for name, value in scores.items() if value is not None}
    passed, sentence = verdict_of(found)
    return Finding(check, passed, sentence, figures={**known, "reliability": drawn})


def compared(proof: Proof | None, check: str) -> Finding:
    """What came of a proof: passed, failed, or a warning where nothing could be compared, which proves nothing."""
    if proof is None:
        return Finding(check, False, "Nothing was compared: the lake holds no candle yet.")
    any_cell = proof.cells > 0
    figures = {
        "first_bar": iso(proof.span.start),
        "last_bar": iso(proof.span.end - BAR),
        "markets": ", ".join(sorted(proof.symbols)) or "none",
        "cells_compared": proof.cells,
        "cells_differing": proof.differing,
        "rows_not_compared": sum(sum(rows.values()) for rows in proof.apart.values()),
        **({"first_difference": proof.first.sentence} if proof.first else {}),
    }
    return Finding(check, any_cell and not proof.differing, proof.sentence, any_cell, figures)


def measure(project: Project, event: Event) -> Calibration | None:
    """What was predicted for all grids of the last months against what happened; None: there is no row yet.

    A grid that does not run counts, too: its bounds were watched all the same.
    """
    config, lake = project.config, project.lake
    newest = max((time + BAR for time in lake.newest("candles").values()), default=None)
    if newest is None:
        return None
    span = Span(floor_bar(newest) - timedelta(days=config.risk.calibration.days), newest)
    risks, candles = lake.read("grid_risk", span=span), lake.read("candles", span=span)
    samples = []
    for row in lake.read("grid_episode").iter_rows(named=True):
        mine = (pl.col("grid_id") == row["grid_id"]) & (pl.col("activated_at") == row["activated_at"])
        rows = risks.filter(mine)
        if rows.height:
            bars = candles.filter(pl.col("symbol") == row["symbol"])
            bounds = {name: row[name] for name in ("lower", "upper", "stop")}
            samples.append(observe(rows, bars, event=event, **bounds))
    return calibrate(pl.concat(samples), event=event) if samples else None


def evidence(lake: Lake, config: Config, span: Span, symbols: Sequence[str]) -> Evidence:
    """What the lake holds of some markets around a span."""
    return Evidence(
        span=span,
        symbols=tuple(symbols),
        config=config,
        candles=lake.read("candles", span=Evidence.candle_span(span), symbols=symbols),
        features=lake.read("regime_features", span=span.back(FOLDED_BARS), symbols=symbols),
        verdicts=lake.read("regime_verdict", span=span, symbols=symbols),
    )


def newest_whole_day(project: Project) -> Span | None:
    """The last UTC day of which some market has the last candle; None: there is none."""
    newest = [time for symbol, time in project.lake.newest("candles").items() if symbol in project.config.symbols]
    if not newest:
        return None
    end = midnight((max(newest) + BAR).date())
    return Span(end - timedelta(days=1), end)
