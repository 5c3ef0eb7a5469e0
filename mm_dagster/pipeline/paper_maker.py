"""A maker on paper on the book that `mm record` records at this moment: the recorder's own log, read while it grows.

It learns from the market's sealed quarter hours and from what the log has beyond them, and quotes from then on, on
whole stretches alone. All that it does is the code of the study. What it makes is kept as the study `paper`, a row a
stretch, and no trial: nobody judges by it. Nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mm_dagster.bars import iso, time_of_ns
from mm_dagster.books.tape import WENT_ON, Tape, Telling
from mm_dagster.config.books import BooksConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.makers.paper import Finished, PaperMaker
from mm_dagster.makers.study import MakersError
from mm_dagster.makers.track import TrackError, track_of
from mm_dagster.pipeline.book_places import now_here
from mm_dagster.pipeline.makers import Say, keep_study, sealed
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.recorder_watch import HAS_BOOK, NO_BOOK_LASTS
from mm_dagster.recorder.frames import Frame, Kind
from mm_dagster.recorder.log import QUARTER_NS, files
from mm_dagster.recorder.places import place_of, root_of
from mm_dagster.recorder.seal import manifest
from mm_dagster.recorder.status import Status, read_status
from mm_dagster.recorder.tail import Tail

PAPER = "paper"
"""The study of what was quoted on paper."""
NOT_JUDGED = "it quoted on paper, and a stretch alone is not judged"


class PaperMakerError(ForeseenError):
    """There is no live book to quote on; one line, with the remedy."""


class PaperBook:
    """A maker on the log of a market.

    Attributes:
        market: like binance:ETH-USDT.
        maker: who quotes, and how it stands.
        left_out: segments that could not be read, a line each.
        until_ns: up to when the log was read; None: nothing was.
    """

    def __init__(self, project: Project, exchange: str, symbol: str, maker: str, say: Say = lambda said: None) -> None:
        """Learns from all that is recorded, and begins.

        Raises:
            PaperMakerError: nothing is recorded.
            MakersError: too few stretches are recorded.
            TailError: the log cannot be read.
        """
        self.market = f"{exchange}:{symbol}"
        self.maker = PaperMaker(maker, project.config.makers)
        self.left_out: list[str] = []
        self.until_ns: int | None = None
        self._name, self._project, self._config = maker, project, project.config.makers
        self._telling: Telling | None = None
        self._quarter_ns = 0
        place = place_of(root_of(project.data), exchange, symbol)
        rows = manifest(place.segments)
        # Before the segments are read: what the log has now must not be sealed and removed meanwhile, unseen.
        self._tail = Tail(place.log, rows[-1].quarter_ns if rows else None)
        if not files(place.log):
            raise PaperMakerError(f"{self.market}: nothing is recorded; `mm record` records what books.yaml names")
        for track in sealed(project, exchange, symbol, rows, self.left_out, say):
            self.maker.turn()
            _exhaust(self.maker.see(track))
        self.maker.turn()
        _exhaust(self.read())
        if self.until_ns is None:
            raise PaperMakerError(f"{self.market}: its log has no book yet; begin again in a minute")
        try:
            self.maker.begin(self.until_ns)
        except MakersError as error:
            raise MakersError(f"{self.market}: {error}") from None

    def read(self) -> Iterator[Finished]:
        """What the log has told since the last time: the stretches that ended.

        Raises:
            TailError: the log cannot be read on.
            MakersError: a decision that was made would be another one now.
            TapeError, CheckpointError, MessageError: it is no log of a market.
        """
        has_more = False
        for frame in self._tail.read():
            if frame.kind in (Kind.CHECKPOINT, Kind.RECORD):
                yield from self._take(frame)
                has_more = True
        if has_more and self._telling is not None:
            tape = self._telling.tape(None)
            self.until_ns = tape.until_ns
            yield from self._see(tape)

    def _take(self, frame: Frame) -> Iterator[Finished]:
        assert self._tail.file is not None
        quarter_ns, is_checkpoint = self._tail.file.quarter_ns, frame.kind is Kind.CHECKPOINT
        told = is_checkpoint, frame.recv_ns, frame.stream, frame.payload
        if self._telling is not None and quarter_ns == self._quarter_ns:
            self._telling.tell(*told)
            return
        if self._telling is not None:
            # As a sealed quarter hour is replayed: it reaches to its end where the log goes on without a break.
            goes_on = self._tail.went_on and is_checkpoint and frame.stream == WENT_ON
            if goes_on:
                self._telling.tell(*told)
            yield from self._see(self._telling.tape(self._quarter_ns + QUARTER_NS if goes_on else None))
        self.maker.turn()
        self._quarter_ns, self._telling = quarter_ns, Telling(*told, quarter_ns)

    def _see(self, tape: Tape) -> Iterator[Finished]:
        try:
            track = track_of(tape)
        except TrackError:
            return  # no book or no trade yet, and so none of the stretches of it either
        yield from self.maker.see(track)

    def keep(self, one: Finished) -> dict[str, Any]:
        """Writes a stretch into the lake; its row of `maker_study`."""
        as_of = time_of_ns(one.stretch.track.until_ns)
        found = one.study(self._name, self._config)
        (row,) = keep_study(self._project, PAPER, self.market, found, {self._name: NOT_JUDGED}, self._config, as_of)
        return row

    def close(self) -> None:
        """Lets the log go."""
        self._tail.close()


def _exhaust(finished: Iterator[Finished]) -> None:
    """Before it begins nothing is quoted on, so nothing comes."""
    for _ in finished:
        pass


@dataclass
class Watch:
    """Whether the recorder of a market works, for who quotes on its book.

    Attributes:
        without_since: since when the market has no book; None: it has one.
    """

    project: Project
    exchange: str
    symbol: str
    without_since: datetime | None = None

    def look(self, may_be_without: timedelta = NO_BOOK_LASTS) -> None:
        """Looks once.

        Args:
            may_be_without: how long a market may have no book; a recorder asks for it again by itself.

        Raises:
            PaperMakerError: it does not work.
        """
        config, now = self.project.config.books, now_here()
        status = read_status(root_of(self.project.data))
        name = f"{self.exchange}:{self.symbol}"
        phase = _phase(config, status, now, self.exchange, self.symbol)
        if phase in HAS_BOOK:
            self.without_since = None
            return
        self.without_since = self.without_since or now
        if now - self.without_since >= may_be_without:
            raise PaperMakerError(
                f"{name}: its book is not in sync ({phase or 'not begun'}); begin again when `mm books status` says "
                "IN_SYNC"
            )


def _phase(config: BooksConfig, status: Status | None, now: datetime, exchange: str, symbol: str) -> str | None:
    """How the machine of a market stands.

    Raises:
        PaperMakerError: no recorder works, or not on this market.
    """
    name = f"{exchange}:{symbol}"
    if status is None:
        raise PaperMakerError(
            f"{name}: no recorder ever ran here; start `mm record`, with `record: true` in books.yaml"
        )
    at = time_of_ns(status.at_ns)
    if not status.is_running:
        raise PaperMakerError(f"{name}: the recorder was ended at {iso(at)}; start `mm record`")
    if now - at > timedelta(seconds=config.silent_seconds):
        raise PaperMakerError(f"{name}: nothing was heard of the recorder since {iso(at)}; start `mm record`")
    market = next((one for one in status.markets if (one.exchange, one.symbol) == (exchange, symbol)), None)
    if market is None:
        raise PaperMakerError(f"{name}: the recorder that runs does not record it; end `mm record` and start it again")
    if market.problem is not None:
        raise PaperMakerError(f"{name}: {market.problem}")
    return market.phase
