"""A maker on paper: it quotes on a track that grows, stretch by stretch, by the code that studies run.

At each look the stretch under way is run again from its beginning to the newest decision that nothing later can change.
What was decided and filled before has to come out the same, and what the whole stretch gives, too: else it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR
from mm_dagster.config.makers import MakersConfig
from mm_dagster.makers.fill_probability import FillModel, fit
from mm_dagster.makers.ledger import Ledger, ledger_of
from mm_dagster.makers.matching import Matched, Plan, Run, Terms
from mm_dagster.makers.moments import Moments
from mm_dagster.makers.probe import Probes
from mm_dagster.makers.study import (
    Made,
    MakersError,
    Stretch,
    Study,
    known_on,
    length_ns,
    make,
    outcome,
    plan_of,
    stretch_of,
)
from mm_dagster.makers.track import SECOND_NS, Track

QUARTER_NS = int(BAR.total_seconds()) * SECOND_NS


@dataclass(frozen=True)
class Finished:
    """A stretch that was quoted on, whole.

    Attributes:
        stretch: which.
        model: what was fitted before it; None: too little had been filled.
        made: what the maker made of it, beside its controls.
    """

    stretch: Stretch
    model: FillModel | None
    made: Made

    def study(self, maker: str, config: MakersConfig) -> Study:
        """It alone, as a study has it."""
        track = self.stretch.track
        return Study(
            (outcome(maker, config.net_fee_bp, [self.made], config.taker_fee_bp),),
            np.array([track.from_ns]),
            (self.model,),
            {maker: (self.made,)},
            np.zeros((2, 0)),
            self.stretch.terms,
            track.unit,
            track.market.scale,
        )


@dataclass(frozen=True)
class Live:
    """The stretch under way.

    Attributes:
        stretch: as far as it is known.
        matched: up to its newest decision.
        decided: how many decisions were made.
        ledger: as if it ended now.
    """

    stretch: Stretch
    matched: Matched
    decided: int
    ledger: Ledger

    @property
    def quotes(self) -> tuple[int | None, int | None]:
        """Bid and ask that were asked for last, ticks."""
        bid, ask = self.matched.quotes[self.decided - 1, :, :2].tolist()
        return bid[0] if bid[1] else None, ask[0] if ask[1] else None


class PaperMaker:
    """A maker, and what it has learned from.

    Attributes:
        live: the stretch under way; None: it quotes on none.
        broken_off: stretches that it quoted on and that did not come to their end.
    """

    def __init__(self, maker: str, config: MakersConfig) -> None:
        """One that has seen nothing.

        Args:
            maker: one of `quotes.MAKERS`.
            config: makers.yaml.
        """
        self.live: Live | None = None
        self.broken_off = 0
        self._maker, self._config = maker, config
        self._learned: list[tuple[Floats, Probes]] = []
        self._terms: Terms | None = None
        self._begins_ns: int | None = None
        self._number = 0
        """Of the stretch of the track that is next."""
        self._model: FillModel | None = None
        self._fitted_on = -1

    @property
    def learned(self) -> int:
        """How many stretches."""
        return len(self._learned)

    def begin(self, at_ns: int) -> None:
        """From now on it quotes, on whole stretches that begin then or later.

        Raises:
            MakersError: too few stretches were seen to fit on.
        """
        minutes, learn = self._config.stretch_minutes, self._config.learn_stretches
        if length_ns(self._config) > QUARTER_NS:
            raise MakersError(f"stretch_minutes is {minutes:g} in makers.yaml: what is recorded has 15 at a time")
        if self.learned < learn:
            raise MakersError(
                f"{learn - self.learned} of {learn} whole stretches of {minutes:g} minutes with a book are missing to "
                "fit on; record longer, or lower stretch_minutes or learn_stretches in makers.yaml"
            )
        self._begins_ns = at_ns

    def turn(self) -> None:
        """Another track follows."""
        self.broken_off += self.live is not None
        self.live, self._number = None, 0

    def see(self, track: Track) -> Iterator[Finished]:
        """Goes on along a track, which is what it was the last time and more.

        Raises:
            MakersError: a decision that was made would be another one now; or its prices are too great.
            PlanError: what it is to quote is.
        """
        whole, length = known_on(track, self._config), length_ns(self._config)
        for start in range(track.from_ns + self._number * length, track.until_ns, length):
            if start + length > track.until_ns:
                self._look(track, whole, start)
                return
            self._number += 1
            part = stretch_of(track, whole, start, self._config, self._terms)
            finished = self._finish(part) if part is not None and self._quotes_on(start) else None
            self.live = None
            if part is not None:
                self._learned.append((part.columns, part.probes))
                self._terms = part.terms
            if finished is not None:
                yield finished

    def _quotes_on(self, start_ns: int) -> bool:
        # A quarter hour is recorded alone: a stretch that would pass its end has none.
        fits = start_ns // QUARTER_NS == (start_ns + length_ns(self._config) - 1) // QUARTER_NS
        return self._begins_ns is not None and start_ns >= self._begins_ns and fits

    def _plan(self, stretch: Stretch) -> Plan:
        """What it quotes, by what was fitted on all stretches before."""
        if self._fitted_on != self.learned:
            self._model = fit(self._learned)
            self._fitted_on = self.learned
        return plan_of(self._maker, stretch, self._config, self._model)

    def _look(self, track: Track, whole: Moments, start_ns: int) -> None:
        """The stretch under way, up to the newest decision after which something was told."""
        part = stretch_of(track, whole, start_ns, self._config, self._terms) if self._quotes_on(start_ns) else None
        if part is None:
            return
        at, decided = part.moments.at, len(part.moments.at) - 1
        run = Run(part.track, at, self._plan(part), part.terms)
        run.until(decided)
        matched = run.matched()
        self._hold(matched, decided)
        ledger = ledger_of(matched, part.moments.tops, part.track.unit, part.track.until_ns)
        self.live = Live(part, matched, decided, ledger) if decided else None

    def _finish(self, part: Stretch) -> Finished:
        made = make(part, self._plan(part), self._config.shifts)
        self._hold(made.matched, len(part.moments.at))
        return Finished(part, self._model, made)

    def _hold(self, matched: Matched, decided: int) -> None:
        """
        Raises:
            MakersError: it does not go on from what was decided and filled before.
        """
        if self.live is None:
            return
        before, known = self.live.matched, self.live.decided
        same = (
            decided >= known
            and np.array_equal(matched.quotes[:known], before.quotes[:known])
            and np.array_equal(matched.fills[: len(before.fills)], before.fills)
        )
        if not same:
            raise MakersError(
                f"{self._maker}: a decision that was made would be another one now, so the log is not what it was; "
                "see what `mm books replay` says of it, and begin again"
            )
