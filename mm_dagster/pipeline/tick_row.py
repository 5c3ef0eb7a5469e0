"""The row of a tick: that it began, what failed at its markets, that it is done. A run over whole days has none."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.pipeline.episodes import refusals
from mm_dagster.pipeline.work import Work
from mm_dagster.tables.registry import dtypes

Row = Mapping[str, Any]

_LISTS = ("problems", "symbols_ok", "symbols_failed")


def begin_tick(job: Work) -> None:
    """Notes that a tick began, so that one that never ends can be seen."""
    _note(
        job,
        lambda row: {
            "started_at": row["started_at"] if _is_part(job, row) else job.project.now(),
            **{name: _others(job, row, name) for name in _LISTS},
        },
    )


def note_problems(job: Work, problems: Mapping[str, str]) -> None:
    """Notes what failed at the markets of this tick, so that every later stage knows it, in whichever run it is."""
    mine = [{"symbol": symbol, "reason": why} for symbol, why in sorted(problems.items())]
    _note(job, lambda row: {**row, "problems": sorted([*_others(job, row, "problems"), *mine], key=_symbol_of)})


def problems(job: Work) -> dict[str, str]:
    """What failed at the markets at this tick, by symbol, as the stage that asked them noted it."""
    noted = _noted(job)["problems"] or [] if job.tick else []
    return {one["symbol"]: one["reason"] for one in noted if one["symbol"] in job.symbols}


def note_judged(job: Work, refused: Mapping[str, str]) -> None:
    """Notes which markets a tick knows, and why others or some grids are not judged.

    Args:
        job: the run.
        refused: why a grid is not judged, by grid.
    """
    if not job.tick:
        return
    last = job.project.lake.read("candles", span=Span(job.tick - BAR, job.tick), symbols=job.symbols)
    known = set(last.filter(pl.col("status") != "MISSING")["symbol"])
    others = [grid for symbol in job.config.symbols if symbol not in job.symbols for grid in job.grids(symbol)]
    everyone = {**refusals(job.project.lake, others), **refused}

    def judged(row: Row) -> Row:
        failed = {one["symbol"]: one["reason"] for one in row["problems"] or []}
        reasons = sorted({**failed, **everyone}.items())
        return {
            **row,
            "symbols_ok": sorted([*_others(job, row, "symbols_ok"), *known]),
            "symbols_failed": sorted([*_others(job, row, "symbols_failed"), *(set(job.symbols) - known)]),
            "reason": "; ".join(f"{name}: {why}" for name, why in reasons) or None,
        }

    _note(job, judged)


def end_tick(job: Work) -> None:
    """Notes that a tick is done: its snapshot, the last that is made, is written.

    A market of which none of its runs told anything, because that one died, is one that failed.
    """

    def ended(row: Row) -> Row:
        done = {**row, "finished_at": job.project.now()}
        untold = sorted(set(job.symbols) - {*(row["symbols_ok"] or []), *(row["symbols_failed"] or [])})
        if not untold:
            return done
        said = f"{', '.join(untold)}: the run of these markets did not end"
        return {
            **done,
            "symbols_failed": sorted([*(row["symbols_failed"] or []), *untold]),
            "reason": "; ".join(filter(None, [row["reason"], said])),
        }

    _note(job, ended)


def _noted(job: Work) -> dict[str, Any]:
    """The row of this tick, or one that says that it begins now."""
    assert job.tick is not None
    stored = job.project.lake.read("tick", span=Span(job.tick - BAR, job.tick))
    if stored.height:
        return stored.row(0, named=True)
    return {**dict.fromkeys(dtypes("tick")), "as_of": job.tick, "started_at": job.project.now()}


def _others(job: Work, row: Row, column: str) -> list[Any]:
    """What a row says of the markets that this run was narrowed not to look at."""
    others = set(job.config.symbols) - set(job.symbols)
    return [one for one in row[column] or [] if _symbol_of(one) in others]


def _is_part(job: Work, row: Row) -> bool:
    """Whether other runs work on the rest of the markets of this tick: it began with the first of them."""
    return job.is_narrowed and row["finished_at"] is None


def _note(job: Work, change: Callable[[Row], Row]) -> None:
    """Reads the row of this tick and writes it back, changed, in one turn; a run over whole days has none."""
    if job.tick is None:
        return
    with job.project.turn_lock(["tick"]):
        row = change(_noted(job))
        lists = {name: row.get(name) or [] for name in ("symbols_ok", "symbols_failed")}
        whole = {**dict.fromkeys(dtypes("tick")), **row, **lists, "as_of": job.tick}
        job.project.lake.upsert(
            "tick",
            pl.DataFrame([whole], schema=dtypes("tick")),
            commit=job.commit("tick", Span(job.tick - BAR, job.tick)),
        )


def _symbol_of(one: str | Mapping[str, str]) -> str:
    return one if isinstance(one, str) else one["symbol"]
