"""Kernels are compiled once on a machine, not once in a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from datetime import UTC, datetime, timedelta

from numba.core.registry import CPUDispatcher

from mm_dagster.bars import BAR, Span
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import features, verdict
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster.regime.verdict import HYSTERESIS_BARS
from mm_dagster_tests.regime.markets import random_walk

start = datetime(2025, 1, 1, tzinfo=UTC)
candles = random_walk(start, WARMUP_BARS + 200)
end = start + (WARMUP_BARS + 200) * BAR
measured = features.compute(candles, Span(end - BAR, end).back(HYSTERESIS_BARS - 1), VolatilityConfig())
features.compute(candles, Span(end - BAR, end), VolatilityConfig())
verdict.compute(measured, Span(end - BAR, end), RegimeConfig())
modules = [module for name, module in sys.modules.items() if name.startswith("mm_dagster.regime.")]
kernels = {id(one): one for module in modules for one in vars(module).values() if isinstance(one, CPUDispatcher)}
print(len(kernels), sum(sum(one.stats.cache_misses.values()) for one in kernels.values()))
"""


@pytest.mark.long
def test_a_second_process_compiles_nothing() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True) for _ in range(2)
    ]
    kernels, compiled = map(int, runs[1].stdout.split())
    assert kernels > 20
    assert compiled == 0
