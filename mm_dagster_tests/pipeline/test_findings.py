"""Findings: what was not looked at did not pass, and what cannot come back is said at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mm_dagster.bars import BAR, Span, parse_time
from mm_dagster.market.simulated import simulate
from mm_dagster.market.venue import UNKNOWN_MARKET
from mm_dagster.pipeline.findings import Finding, of_candles
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work, plan
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.cli.small import configure

AS_OF = parse_time("2026-06-26T12:00:00Z")
ETH = "ETH-USDT"


@pytest.fixture
def job(tmp_path: Path) -> Work:
    configure(tmp_path)
    return plan(Project(str(tmp_path / "configuration"), str(tmp_path / "data")), "run", as_of=AS_OF)


def bars(until: str) -> pl.DataFrame:
    """Rows of `candles` of two hours."""
    end = parse_time(until)
    rows = simulate(ETH, Span(end - timedelta(hours=2), end)).with_columns(
        symbol=pl.lit(ETH), close_time=pl.col("open_time") + BAR, status=pl.lit("TRADED"), venue=pl.lit("main"),
        observed_at=pl.col("open_time"), config_hash=pl.lit("x"), code_version=pl.lit("1"), source=pl.lit("simulated"),
    )  # fmt: skip
    return rows.select(pl.col(name).cast(dtype) for name, dtype in dtypes("candles").items())


def found(job: Work, rows: pl.DataFrame, problems: dict[str, str] | None = None) -> dict[str, Finding]:
    return {one.check: one for one in of_candles(job, rows, problems or {})}


def test_no_check_passes_over_no_bar(job: Work) -> None:
    nothing = found(job, bars("2026-06-26T12:00:00Z").clear())
    for check in ("no_duplicates", "prices_are_sane", "no_gap"):
        assert (nothing[check].passed, nothing[check].is_error) == (False, False)
        assert nothing[check].sentence == "Nothing was looked at: no bar is stored here."
    assert all(one.passed for one in found(job, bars("2026-06-26T12:00:00Z")).values())


def test_a_market_that_the_exchange_has_no_longer_is_said_before_it_grows_old(job: Work) -> None:
    """Half an hour before its bars are old, and three quarters before the ladder is blind."""
    fresh = bars("2026-06-26T12:00:00Z")
    why = f"main: {ETH} {UNKNOWN_MARKET}; it may be renamed or delisted: see the exchange's announcements"
    gone = found(job, fresh, {ETH: why})["newest_bar_is_fresh"]
    assert (gone.passed, gone.is_error) == (False, True)
    assert gone.sentence == f"The exchange has {ETH} no longer ({why})."
    assert found(job, fresh, {ETH: "main: no answer within 10 s"})["newest_bar_is_fresh"].passed


def test_a_bar_that_is_late_is_an_error_of_a_tick_only(job: Work) -> None:
    late = bars("2026-06-26T11:15:00Z")
    of_tick = found(job, late)["newest_bar_is_fresh"]
    assert (of_tick.passed, of_tick.is_error) == (False, True)
    assert of_tick.sentence == f"The newest bar of {ETH} is older than 30 minutes."
    days = plan(job.project, "run", window=Span(AS_OF - timedelta(hours=12), AS_OF + timedelta(hours=12)))
    of_days = found(days, late)["newest_bar_is_fresh"]
    assert (of_days.passed, of_days.is_error) == (False, False)
