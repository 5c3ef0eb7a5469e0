"""What can be said of what was recorded: each finding is a sentence that passed or did not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from mm_dagster.bars import Span, time_of_ns
from mm_dagster.pipeline.book_places import now_here
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.recorder_watch import standing
from mm_dagster.pipeline.segments import Kept
from mm_dagster.recorder.places import root_of
from mm_dagster.recorder.status import read_status
from mm_dagster.text import counted

COMPLETE = "segment_complete"
AGREE = "quotes_agree"
CROSSED = "never_crossed"
SAME = "replay_equals_live"
CLOCK = "clock_offset"
ALIVE = "recorder_alive"

MOST_DIFFERING = 0.001
"""Of the exchange's best prices: it may send two of one number."""
MOST_OFFSET = timedelta(seconds=1)
"""Between the exchange's time of an event and when it came: beyond it one of the clocks is wrong, or the line slow."""


def of_segments(project: Project, window: Span, done: Kept | None = None) -> list[Finding]:
    """What can be said of the segments of a window.

    Args:
        project: configuration and lake.
        window: whose quarter hours.
        done: what the run did; None: nothing but looking.
    """
    rows = project.lake.read("book_segment", span=window)
    return [
        _complete(rows, done or Kept()),
        _agree(rows),
        _crossed(rows),
        _same(rows),
        _clock(project),
        _alive(project),
    ]


def _over(rows: pl.DataFrame, finding: Finding) -> Finding:
    return Finding(finding.check, False, "Nothing was looked at: no segment is there.") if rows.is_empty() else finding


def _complete(rows: pl.DataFrame, done: Kept) -> Finding:
    """Whether every frame that was written is in a segment, and every segment still is what was sealed."""
    said = list(done.problems.values())
    for row in rows.filter(~pl.col("is_complete")).iter_rows(named=True):
        said.append(f"{row['file']} has not all that was written")
    said += rows["changed"].drop_nulls().to_list()
    said += rows["refused"].drop_nulls().to_list()
    whole = f"{counted(rows.height, 'segment')} of {counted(_markets(rows), 'market')} have all that was written."
    finding = Finding(COMPLETE, not said, _listed(said) if said else whole, is_error=True)
    return finding if said else _over(rows, finding)


def _agree(rows: pl.DataFrame) -> Finding:
    """Whether the exchange's best prices are those of the book of the same number."""
    told = (
        rows.group_by("exchange", "symbol").agg(pl.col("quotes", "quotes_differing").sum()).sort("exchange", "symbol")
    )
    told = told.filter(pl.col("quotes") > 0)
    if told.is_empty():
        return Finding(AGREE, rows.height > 0, "No best price came with the number of a book, so none was compared.")
    low = told.filter(pl.col("quotes_differing") > MOST_DIFFERING * pl.col("quotes"))
    said = [
        f"{row['exchange']}:{row['symbol']}: {row['quotes_differing']:,} of {row['quotes']:,} best prices are not the "
        "book's"
        for row in low.iter_rows(named=True)
    ]
    differing, all_of = int(told["quotes_differing"].sum()), int(told["quotes"].sum())
    fine = f"{all_of - differing:,} of {all_of:,} best prices and amounts are the book's."
    return Finding(AGREE, not said, _listed(said) or fine)


def _crossed(rows: pl.DataFrame) -> Finding:
    """Whether a book had to be given up because it was crossed: then a message was missed that nobody told of."""
    crossed = rows.filter(pl.col("crossed") > 0).sort("as_of")
    said = [f"{row['file']}: the book was crossed {row['crossed']} times" for row in crossed.iter_rows(named=True)]
    return _over(rows, Finding(CROSSED, not said, _listed(said) or "No book was crossed."))


def _same(rows: pl.DataFrame) -> Finding:
    """Whether each replay gave the states that the recorder had, which stand at the heads of its files."""
    compared = int(rows["checkpoints"].sum() or 0)
    if not compared:
        return Finding(SAME, False, "Nothing was compared: no file of a log follows another.")
    differing = rows.filter((pl.col("checkpoints_differing") > 0) & pl.col("is_complete"))
    said = [
        f"{row['file']}: {row['checkpoints_differing']} of {counted(row['checkpoints'], 'state')} differ"
        for row in differing.iter_rows(named=True)
    ]
    whole = f"{counted(compared, 'state')} of the recorder came out of the replays, byte for byte."
    return Finding(SAME, not said, _listed(said) or whole, is_error=True)


def _markets(rows: pl.DataFrame) -> int:
    return rows.select("exchange", "symbol").n_unique()


def _listed(said: Sequence[str]) -> str:
    more = f"; and {len(said) - 5} more" if len(said) > 5 else ""
    return "; ".join(said[:5]) + more


def _clock(project: Project) -> Finding:
    """Whether what happens at an exchange is here when it happens, by both clocks."""
    if not project.config.books.record:
        return Finding(CLOCK, True, "books.yaml: record is false, so no clock is compared.")
    status, silence = read_status(root_of(project.data)), timedelta(seconds=project.config.books.silent_seconds)
    is_fresh = status is not None and now_here() - time_of_ns(status.at_ns) <= silence
    markets = status.markets if status is not None and is_fresh else ()
    known = {f"{one.exchange}:{one.symbol}": one.clock_offset_ms for one in markets if one.clock_offset_ms is not None}
    if not known:
        return Finding(CLOCK, False, "Nothing was compared: no recorder that runs says what time the exchanges have.")
    limit = MOST_OFFSET / timedelta(milliseconds=1)
    far = [f"{name} {offset:+.0f} ms" for name, offset in known.items() if abs(offset) > limit]
    worst = max(known.values(), key=abs)
    fine = f"The exchanges' times of events are {worst:+.0f} ms from ours at most."
    return Finding(CLOCK, not far, f"The clocks are apart: {', '.join(far)}." if far else fine)


def _alive(project: Project) -> Finding:
    """Whether the recorder works at this moment."""
    if not project.config.books.record:
        return Finding(ALIVE, True, "books.yaml: record is false, so no recorder is to run.")
    wrong = [f"{one.name}: {one.line}" for one in standing(project)]
    return Finding(ALIVE, not wrong, _listed(wrong) or "The recorder works, and every market has a book.")


def gaps(project: Project, window: Span) -> pl.DataFrame:
    """The gaps that the segments of a window tell of, the oldest first."""
    return project.lake.read("book_gap").filter(window.closes()).sort("from_time")
