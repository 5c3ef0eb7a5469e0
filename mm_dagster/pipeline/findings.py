"""What is found out about what a stage made: each finding is a sentence that passed or did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar, iso
from mm_dagster.market.venue import UNKNOWN_MARKET
from mm_dagster.pipeline.judge import Risks
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work
from mm_dagster.tables.registry import broken_rules, conform
from mm_dagster.text import counted

FRESH_BARS = 2
"""How many bars behind the tick the newest known one may be."""
REVISIONS_LISTED = timedelta(days=30)
"""How long a revised bar is spoken of."""
JUDGED = "every_active_grid_is_judged"
"""The name of the check on the states of now."""


@dataclass(frozen=True)
class Finding:
    """What was found out.

    Attributes:
        check: the name of what was looked at.
        passed: whether all is well.
        sentence: what was found.
        is_error: whether it is an error where it did not pass, and not a warning.
        figures: numbers, texts and pictures beside it, by name.
    """

    check: str
    passed: bool
    sentence: str
    is_error: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)


def of_candles(job: Work, bars: pl.DataFrame, problems: Mapping[str, str]) -> list[Finding]:
    """What can be said of the bars of a run's window.

    Args:
        job: the run.
        bars: the candles of its window.
        problems: what failed, by symbol.
    """
    invalid = job.project.config_error
    some = bars.height > 0
    twice = bars.height - bars.n_unique(["symbol", "open_time"])
    broken = broken_rules(conform(bars, "candles"), "candles")
    missing = bars.filter(pl.col("status") == "MISSING")
    first = f", the first {missing['symbol'][0]} at {iso(missing['open_time'].min())}" if missing.height else ""  # type: ignore[arg-type]
    return [
        Finding(
            "configuration_is_valid",
            invalid is None,
            f"The last valid one stays in force: {invalid}" if invalid else "That of the folder is in force.",
            is_error=True,
        ),
        _over(
            some,
            Finding("no_duplicates", twice == 0, f"{twice} of {bars.height} bars are stored twice.", is_error=True),
        ),
        _over(
            some,
            Finding(
                "prices_are_sane",
                not broken,
                f"{counted(bars.height, 'bar')} keep every rule." if not broken else f"broken: {broken}",
                is_error=True,
            ),
        ),
        _over(
            some, Finding("no_gap", missing.is_empty(), f"{missing.height} of {bars.height} bars are MISSING{first}.")
        ),
        _revised(job),
        _fresh(job, bars, problems),
    ]


def _over(anything: bool, finding: Finding) -> Finding:
    """The finding; where there was nothing to look at it did not pass, and is no error either."""
    return finding if anything else Finding(finding.check, False, "Nothing was looked at: no bar is stored here.")


def _revised(job: Work) -> Finding:
    """Which closed bars the venues changed lately; filled holes are none."""
    lately = Span(floor_bar(job.window.end - REVISIONS_LISTED), job.window.end)
    rows = job.project.lake.read("candle_revision", span=lately, symbols=job.symbols)
    traded = (pl.col("old_status") == "TRADED") | (pl.col("new_status") == "TRADED")
    revised = rows.filter(pl.col("old_observed_at").is_not_null() & traded).sort("open_time", "symbol")
    if revised.is_empty():
        return Finding("no_bar_was_revised", True, "No venue changed a closed bar of the last 30 days.")
    waiting = revised["recomputed_at"].null_count()
    last = revised.row(-1, named=True)
    then = f"what depends on {waiting} of them is yet to be computed again." if waiting else "all is recomputed."
    return Finding(
        "no_bar_was_revised",
        False,
        f"{revised.height} bars of the last 30 days were revised by their venue, the last {last['symbol']} at "
        f"{iso(last['open_time'])}; {then}",
    )


def _fresh(job: Work, bars: pl.DataFrame, problems: Mapping[str, str]) -> Finding:
    """Whether the newest known bar of each market closed shortly before the end of the window."""
    known = bars.filter((pl.col("status") != "MISSING") & (pl.col("close_time") > job.window.end - FRESH_BARS * BAR))
    fresh = set(known["symbol"])
    # What an exchange has no longer need not grow old first.
    gone = [symbol for symbol in job.symbols if UNKNOWN_MARKET in problems.get(symbol, "")]
    late = [symbol for symbol in job.symbols if symbol not in fresh and symbol not in gone]
    because = f" ({'; '.join(problems.values())})" if problems else ""
    wrong = [
        *([f"The newest bar of {', '.join(late)} is older than {FRESH_BARS * 15} minutes"] if late else ()),
        *([f"The exchange has {', '.join(gone)} no longer"] if gone else ()),
    ]
    return Finding(
        "newest_bar_is_fresh",
        not wrong,
        f"{'. '.join(wrong)}{because}."
        if wrong
        else f"All {len(job.symbols)} markets are known up to {iso(job.window.end)}.",
        # Of days that are past it is no emergency.
        is_error=job.tick is not None,
    )


def of_accounts(read: pl.DataFrame, problems: Sequence[str]) -> Finding:
    """Whether every account was wholly read."""
    said = f"{read.height} accounts were read; elsewhere positions are modelled."
    return Finding("account_is_read", not problems, "; ".join(problems) or said)


def of_bots(read: pl.DataFrame, problems: Sequence[str]) -> Finding:
    """Whether every bot that a grid is was read, and is what its file says."""
    return Finding("bots_are_read", not problems, "; ".join(problems) or f"{counted(read.height, 'bot')} were told of.")


def of_risks(done: Risks) -> list[Finding]:
    """Whether the grids are as they were first seen, and what their accounts hold."""
    agree = f"{done.compared} grids agree with their accounts." if done.compared else "No grid's account is read."
    return [
        Finding(
            "episodes_are_unchanged",
            not done.refused,
            "; ".join(done.refused.values()) or f"{len(done.followed)} grids are as they were first seen.",
            is_error=True,
        ),
        Finding("account_agrees_with_model", not done.differing, "; ".join(done.differing) or agree),
    ]


def of_states(project: Project, symbols: Sequence[str], tick: datetime | None) -> Finding:
    """Whether each grid that runs is judged: an error is that one was judged before; what never was is being set up.

    Args:
        project: configuration and lake.
        symbols: only these markets; none named: all of the configuration.
        tick: the tick's as_of; None: the newest that there was.
    """
    lake = project.lake
    as_of = tick or lake.read("tick", columns=["as_of"])["as_of"].max()
    if not isinstance(as_of, datetime):
        return Finding(JUDGED, False, "Nothing is judged: no tick ran yet.")
    active = [
        grid
        for symbol in symbols or project.config.symbols
        for grid in project.config.grids_on(symbol)
        if grid.enabled and grid.first_as_of <= as_of
    ]
    if not active:
        return Finding(JUDGED, False, f"Nothing is judged: no grid is active at {iso(as_of)}.")
    states = lake.read("exit_state", span=Span(as_of - BAR, as_of), grids=[grid.id for grid in active])
    judged = set(states.filter(pl.col("state").is_not_null())["grid_id"])
    left_out = [grid for grid in active if grid.id not in judged]
    if not left_out:
        said = f"The active grid {active[0].id} is" if len(active) == 1 else f"All {len(active)} active grids are"
        return Finding(JUDGED, True, f"{said} judged at {iso(as_of)}.", is_error=True)
    ever = lake.sql("SELECT DISTINCT grid_id, activated_at FROM exit_state WHERE state IS NOT NULL")
    was_judged = {(grid.id, grid.activated_at) for grid in left_out} & set(ever.iter_rows())
    sentence = f"No state for {', '.join(grid.id for grid in left_out)}."
    return Finding(JUDGED, False, sentence, is_error=bool(was_judged))


def of_portfolio(newest: pl.DataFrame) -> Finding:
    """Whether what all grids may lose together could be told.

    Args:
        newest: rows of `portfolio_risk` of the last bar.
    """
    untold = newest.filter(pl.col("reason").is_not_null() & (pl.col("grids") > 0))
    sentence = "; ".join(f"{row['quote']}: {row['reason']}" for row in untold.iter_rows(named=True))
    told = newest.filter(pl.col("reason").is_null())
    said = f"{int(told['grids'].sum())} grids are added up." if told.height else "No grid holds anything."
    return Finding("the_night_can_be_told", untold.is_empty(), sentence or said)


def of_notices(sent: pl.DataFrame) -> Finding:
    """Whether every channel took what it was given.

    Args:
        sent: the rows of `notification` that were touched.
    """
    failed = sent.filter(pl.col("status").is_in(["PENDING", "FAILED"]))
    sentence = "; ".join(f"{row['title']}: {row['detail']}" for row in failed.iter_rows(named=True))
    taken = sentence or "Every channel took what it was given."
    return Finding("everything_due_was_taken", failed.is_empty(), taken, is_error=True)
