"""The sets of the evidence with their daily grids laid out, and the same on their placebos, on two processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from benchmarks.evidence.tables import slug
from benchmarks.portfolio import parameters
from benchmarks.portfolio.panel import Panel, panel_of
from benchmarks.portfolio.parameters import Tried, TriedPair
from benchmarks.portfolio.ranking import LEAST_MARKETS, Pair
from benchmarks.sets import SETS, Set
from benchmarks.shared import RECORDINGS, SHARED, lot

NAMES = {slug(one.name): one for one in SETS}
"""The sets by the name that the command knows them by."""


@dataclass(frozen=True)
class LaidOut:
    """Some sets.

    Attributes:
        pairs: by name of the set, those with enough markets to choose among.
        tried: the grids of all sets of parameters, by name of the set; empty where they were not asked for.
    """

    pairs: dict[str, Pair]
    tried: dict[str, TriedPair]


def markets(one: Set) -> int:
    """How many markets a set has; 0 where its recording is not there."""
    recording = RECORDINGS[one.recording]
    return len(list((SHARED / "candles" / recording.venue).glob(f"*/{recording.file}")))


def lay_out(sets: Sequence[Set], with_parameters: bool, progress: Callable[[str], None]) -> LaidOut:
    """The daily grids of some sets.

    Args:
        sets: which.
        with_parameters: whether the 100 sets of parameters are wanted, too; they take as long again.
        progress: told what is done.
    """
    jobs = [(name, flipped) for name in dict.fromkeys(one.recording for one in sets) for flipped in (False, True)]
    found: dict[tuple[str, bool], tuple[Panel, Tried | None]] = {}
    # Polars has threads by now, which a forked process would wait for in vain.
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(recording_of, *job, with_parameters): job for job in jobs}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            name, flipped = waiting[done]
            what = f"{RECORDINGS[name].title}{', placebo' if flipped else ''}"
            progress(f"{len(found)} of {len(jobs)} recordings laid out: {what}")
    pairs, tried = {}, {}
    for one in sets:
        first = one.first.toordinal() if one.first else 0
        end = one.end.toordinal() if one.end else 1 << 40
        (panel, grids), (placebo, others) = (found[one.recording, flipped] for flipped in (False, True))
        if markets(one) >= LEAST_MARKETS:
            pairs[one.name] = Pair(panel.between(first, end), placebo.between(first, end))
        if grids is not None and others is not None:
            tried[one.name] = TriedPair(grids.between(first, end), others.between(first, end))
    return LaidOut(pairs, tried)


def recording_of(name: str, flipped: bool, with_parameters: bool) -> tuple[Panel, Tried | None]:
    """A recording or its placebo, and the grids of all sets of parameters on it."""
    every = lot(name, flipped)
    panel = panel_of(every)
    return panel, parameters.tried(every, panel) if with_parameters else None
