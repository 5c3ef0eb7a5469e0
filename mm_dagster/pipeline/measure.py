"""What the candles measure, and the verdict drawn from it, from the stored rows."""

import os
from dataclasses import dataclass

import polars as pl

from mm_dagster.pipeline.work import Work, makes
from mm_dagster.regime import features, verdict
from mm_dagster.tables import regime
from mm_dagster.tables.regime import HYSTERESIS_BARS

CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Computed:
    """What a stage did.

    Attributes:
        changed: how many stored rows changed.
        newest: the rows at the end of what was computed, of each span.
    """

    changed: int
    newest: list[pl.DataFrame]


@makes("regime_features")
def measure(job: Work) -> Computed:
    """Computes and stores `regime_features`."""
    changed, newest = 0, []
    for whole, symbols in job.regime_spans("regime_features").items():
        # One vectorised pass over all markets for each month that is written: the warm-up of a month is read and
        # computed twice, and in return memory does not grow with the years, and a tick need not wait for them.
        for span in whole.months():
            bars = job.project.lake.read("candles", span=span.back(regime.WARMUP_BARS), symbols=symbols)
            rows = job.stamp(features.compute(bars, span, job.config.risk.vol, threads=CORES), "regime_features")
            changed += job.write("regime_features", rows, span, symbols=symbols)
            newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("regime_features")
    return Computed(changed, newest)


@makes("regime_verdict")
def decide(job: Work) -> Computed:
    """Computes and stores `regime_verdict`."""
    changed, newest = 0, []
    for whole, symbols in job.regime_spans("regime_verdict").items():
        for span in whole.months():
            before = span.back(HYSTERESIS_BARS)
            measured = job.project.lake.read("regime_features", span=before, symbols=symbols)
            rows = job.stamp(verdict.compute(measured, span, job.config.regime), "regime_verdict")
            changed += job.write("regime_verdict", rows, span, symbols=symbols)
            newest.append(rows.filter(pl.col("as_of") == span.end))
    job.settle("regime_verdict")
    return Computed(changed, newest)
