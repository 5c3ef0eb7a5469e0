"""Finished quarter hours of the recorder's logs are sealed, replayed, and noted in the lake with what lacks in them.

Rows come from the manifest and the segments alone. What has its row is left as it is: a run that is repeated, or late,
changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, EPOCH, iso, time_of_ns
from mm_dagster.books.sync import Gap as BookGap
from mm_dagster.errors import ForeseenError
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.book_places import RecordedMarket, now_here, recorded_markets
from mm_dagster.pipeline.book_tapes import Played, play
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.seal import Gap, Segment, is_intact, manifest, seal, unsealed
from mm_dagster.tables.registry import CODE_VERSIONS, dtypes

logger = logging.getLogger("mm_dagster")

ROWS_A_TURN = 96
"""Segments whose rows are written at once: what a run has done stays, whatever ends it."""
CHANGED = "it holds other bytes than when it was sealed, or is gone; what was made of it before stands"
Say = Callable[[str, int, int], None]
"""Called with a market, how many of its quarter hours are done, and of how many."""


@dataclass
class Kept:
    """What a run did.

    Attributes:
        sealed: quarter hours that were sealed.
        replayed: segments that were replayed, and have rows.
        problems: what failed, by market.
        changed: files that are not any more what was sealed.
    """

    sealed: int = 0
    replayed: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


def keep_segments(project: Project, run_id: str, *, say: Say | None = None, looks_at_all: bool = False) -> Kept:
    """Seals what is finished, of every market that was ever recorded, and writes the rows that lack.

    Args:
        project: configuration and lake.
        run_id: names the run in the commits.
        say: how far it is; None: nobody asks.
        looks_at_all: whether every segment is looked at for changed bytes; else each is once a day, at its own quarter
            hour.
    """
    done = Kept()
    writer = _Writer(project, run_id)
    try:
        for market in recorded_markets(project.data):
            # One market's disk, log or bytes never stop the others.
            try:
                _keep_market(project, market, writer, done, say, looks_at_all)
            except (ForeseenError, OSError, ValueError) as error:
                _note(done, market, str(error))
            except Exception as error:
                logger.exception("%s: its segments could not be kept", market.name)
                _note(done, market, f"{type(error).__name__}: {error}")
    finally:
        writer.write()
    return done


def _note(done: Kept, market: RecordedMarket, said: str) -> None:
    sentence = f"{market.name}: {said}"
    logger.error(sentence)
    before = done.problems.get(market.name)
    done.problems[market.name] = f"{before}; {said}" if before else sentence


def _keep_market(
    project: Project, market: RecordedMarket, writer: _Writer, done: Kept, say: Say | None, looks_at_all: bool
) -> None:
    place = market.place
    for quarter_ns in unsealed(place.log, place.segments):
        try:
            seal(market.name, place.log, place.segments, quarter_ns)
            done.sealed += 1
        except ForeseenError as error:
            _note(done, market, str(error))
    rows = manifest(place.segments)
    known = _known(project, market)
    version = CODE_VERSIONS["book_segment"]
    now = now_here()

    def is_lacking(row: Segment) -> bool:
        sha256, code_version, _, refused, _ = known.get(ended(row), _NONE)
        # What could not be read once may be readable later: it is tried again once a day.
        again = refused is not None and (looks_at_all or _is_turn(ended(row), now))
        return (sha256, code_version) != (row.sha256, version) or again

    lacking = [row for row in rows if is_lacking(row)]
    maker = _Rows(market, project, known, rows)
    for number, row in enumerate(lacking, start=1):
        writer.add(*maker.of(row, now))
        done.replayed += 1
        if say is not None:
            say(market.name, number, len(lacking))
    fresh = {ended(row) for row in lacking}
    for row in rows:
        if ended(row) not in fresh and (looks_at_all or _is_turn(ended(row), now)):
            changed = None if is_intact(place.segments, row) else f"{market.file(row.file)}: {CHANGED}"
            if changed is not None:
                logger.error(changed)
                done.changed.append(changed)
            if changed != known[ended(row)][2]:
                writer.amend(market, ended(row), changed)


_NONE = (None, None, None, None, None)


def ended(row: Segment) -> datetime:
    """End of the quarter hour of a segment."""
    return time_of_ns(row.quarter_ns) + BAR


def _is_turn(as_of: datetime, now: datetime) -> bool:
    """Whether the present quarter hour of the day is that of a segment: so each is looked at once a day."""
    return (as_of - EPOCH) % timedelta(days=1) // BAR == (now - EPOCH) % timedelta(days=1) // BAR


_Known = dict[datetime, tuple[Any, ...]]
"""By as_of: sha256, code_version, changed, refused, last_received_at."""


def _known(project: Project, market: RecordedMarket) -> _Known:
    columns = ["exchange", "as_of", "sha256", "code_version", "changed", "refused", "last_received_at"]
    rows = project.lake.read("book_segment", symbols=[market.symbol], columns=columns)
    return {row[1]: row[2:] for row in rows.filter(pl.col("exchange") == market.exchange).iter_rows()}


class _Rows:
    """Makes the rows of one market's segments, the oldest first."""

    def __init__(self, market: RecordedMarket, project: Project, known: _Known, rows: Sequence[Segment]) -> None:
        self.market = market
        self.following = {one.quarter_ns: other for one, other in pairwise(rows)}
        stored = project.lake.read("book_gap", symbols=[market.symbol]).filter(pl.col("exchange") == market.exchange)
        self.gaps = {_key(row): row for row in stored.iter_rows(named=True)}
        self.lasts = {as_of: row[-1] for as_of, row in known.items() if row[-1] is not None}

    def of(self, segment: Segment, now: datetime) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The row of a segment, and those of the gaps that it tells of or ends."""
        found, refused = self._replay(segment)
        as_of = ended(segment)
        before = max((last for end, last in self.lasts.items() if end < as_of), default=None)
        if segment.last_recv_ns is not None:
            self.lasts[as_of] = time_of_ns(segment.last_recv_ns)
        gaps = [*_log_gaps(segment.gaps, before, time_of_ns(segment.quarter_ns)), *_book_gaps(found)]
        touched = self._ended_by(segment, found, as_of)
        touched |= {_key(row): row for row in self._numbered(gaps, as_of)}
        self.gaps |= touched
        return _segment_row(self.market, segment, found, refused, now), list(touched.values())

    def _replay(self, segment: Segment) -> tuple[Played | None, str | None]:
        """What comes of a replay, or why there is none."""
        place = self.market.place
        if not is_intact(place.segments, segment):
            return None, f"{self.market.file(segment.file)}: {CHANGED}"
        try:
            return play(place, segment, self.following.get(segment.quarter_ns)), None
        except Exception as error:
            # An error of the program at a message: the others of the market are replayed all the same.
            why = str(error) if isinstance(error, ForeseenError | OSError) else f"{type(error).__name__}: {error}"
            return None, f"{self.market.file(segment.file)}: cannot be replayed: {why}"

    def _ended_by(self, segment: Segment, found: Played | None, as_of: datetime) -> dict[Any, dict[str, Any]]:
        """The open gaps of before that a segment ends: of the log with its first frame, of a book with another one."""
        first_ns = segment.first_recv_ns
        if first_ns is None:
            return {}
        goes_on = None if found is None or found.lost_ns is None else time_of_ns(found.lost_ns)
        return {
            key: row | {"to_time": max(time_of_ns(first_ns), row["from_time"])}
            for key, row in self.gaps.items()
            if row["to_time"] is None and row["as_of"] < as_of and (row["part"] == "LOG" or row["from_time"] != goes_on)
        }

    def _numbered(self, gaps: Iterable[dict[str, Any]], as_of: datetime) -> Iterator[dict[str, Any]]:
        counted: dict[tuple[Any, Any], int] = {}
        for gap in gaps:
            begins = gap["from_time"], gap["part"]
            if begins not in counted:
                # Another quarter hour may have told of one that begins there; of a book it is the same one.
                others = [
                    row["number"]
                    for row in self.gaps.values()
                    if (row["from_time"], row["part"]) == begins and row["as_of"] < as_of and row["part"] == "LOG"
                ]
                counted[begins] = max(others, default=0)
            counted[begins] += 1
            row = {
                "exchange": self.market.exchange, "symbol": self.market.symbol, **gap, "number": counted[begins],
                "as_of": as_of,
            }  # fmt: skip
            stored = self.gaps.get(_key(row))
            if row["to_time"] is None and stored is not None:
                row["to_time"] = stored["to_time"]  # what a later quarter hour ended stays so
            yield row


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["from_time"], row["part"], row["number"]


def _log_gaps(gaps: Sequence[Gap], before: datetime | None, begins: datetime) -> Iterator[dict[str, Any]]:
    for gap in gaps:
        until = None if gap.until_ns is None else time_of_ns(gap.until_ns)
        since = before or until or begins if gap.after_ns is None else time_of_ns(gap.after_ns)
        yield {
            "from_time": since,
            "part": "LOG",
            "to_time": None if until is None else max(since, until),
            "kind": gap.kind,
            "messages": gap.messages,
            "said": gap.said,
        }


def _book_gaps(found: Played | None) -> Iterator[dict[str, Any]]:
    gaps = found.tape.gaps if found else ()
    for number, gap in enumerate(gaps, start=1):
        goes_on = number == len(gaps) and found is not None and not found.is_in_sync
        yield {
            "from_time": time_of_ns(gap.from_ns),
            "part": "BOOK",
            "to_time": None if goes_on else time_of_ns(gap.to_ns),
            "kind": gap.reasons[0].value,
            "messages": None,
            "said": _said(gap),
        }


def _said(gap: BookGap) -> str:
    first, *more = (reason.value for reason in gap.reasons)
    numbers = [f"{word} number {number}" for word, number in (("after", gap.from_id), ("until", gap.to_id)) if number]
    return f"{first}{', then ' + ', '.join(more) if more else ''}{': ' + ', '.join(numbers) if numbers else ''}"


def _segment_row(
    market: RecordedMarket, segment: Segment, found: Played | None, refused: str | None, now: datetime
) -> dict[str, Any]:
    quotes, differing = found.tape.compared() if found else (None, None)
    return {
        "exchange": market.exchange,
        "symbol": market.symbol,
        "as_of": ended(segment),
        "file": market.file(segment.file),
        "sha256": segment.sha256,
        "bytes": segment.size,
        "frames": segment.frames,
        "messages": segment.messages,
        "first_received_at": None if segment.first_recv_ns is None else time_of_ns(segment.first_recv_ns),
        "last_received_at": None if segment.last_recv_ns is None else time_of_ns(segment.last_recv_ns),
        "turned_back": segment.turned_back,
        "lost": sum(gap.messages or 0 for gap in segment.gaps),
        "is_complete": segment.is_complete,
        "sealed_at": now,
        "changed": None,
        "refused": refused,
        "began": found and found.began.upper(),
        "is_followed": found and found.is_followed,
        "checkpoints": found and found.tape.checkpoints,
        "checkpoints_differing": found and found.tape.differs,
        "crossed": found and found.tape.crossed,
        "quotes": quotes,
        "quotes_differing": differing,
        "code_version": CODE_VERSIONS["book_segment"],
    }


class _Writer:
    """Rows on their way into the lake."""

    def __init__(self, project: Project, run_id: str) -> None:
        self._project, self._run_id = project, run_id
        self._segments: list[dict[str, Any]] = []
        self._gaps: dict[tuple[Any, ...], dict[str, Any]] = {}

    def add(self, segment: dict[str, Any], gaps: Sequence[dict[str, Any]]) -> None:
        """The rows of a segment; its gaps may be ones of before, which it ended."""
        self._segments.append(segment)
        self._gaps |= {(row["exchange"], row["symbol"], *_key(row)): row for row in gaps}
        if len(self._segments) >= ROWS_A_TURN:
            self.write()

    def amend(self, market: RecordedMarket, as_of: datetime, changed: str | None) -> None:
        """Whether a file is still what was sealed."""
        stored = self._project.lake.read("book_segment", symbols=[market.symbol], span=None)
        mine = stored.filter((pl.col("exchange") == market.exchange) & (pl.col("as_of") == as_of))
        self._segments += [row | {"changed": changed} for row in mine.iter_rows(named=True)]

    def write(self) -> None:
        """What there is, gaps first: a segment with its row is not looked at again."""
        frames = {"book_gap": list(self._gaps.values()), "book_segment": self._segments}
        if not any(frames.values()):
            return
        with self._project.turn_lock():
            for table, rows in frames.items():
                if rows:
                    frame = pl.DataFrame(rows, schema=dtypes(table), orient="row")
                    times = sorted(row["as_of"] for row in rows)
                    span = f"{iso(times[0])} to {iso(times[-1])}"
                    self._project.lake.upsert(table, frame, commit=Commit(self._run_id, table, span))
        self._segments, self._gaps = [], {}
