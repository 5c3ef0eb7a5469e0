"""Many markets in groups, each of which is a run of its own: in a tick, in a backfill by Dagster's queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import polars as pl

from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config.whole import Config
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry

GROUP_TAG = "mm/group"
"""The tag of a run of one group: which of how many."""
ASKED_TAG = "mm/asked"
"""The tag of a run that a backfill asked the queue for: which backfill."""
TOGETHER_TAG = "mm/together"
"""The tag of the run that makes what needs all, after those of the groups."""


@dataclass(frozen=True)
class Group:
    """Some markets of a run that is made in parts.

    Attributes:
        symbols: its markets, sorted.
        place: which it is, from 1.
        of: how many there are.
    """

    symbols: tuple[str, ...]
    place: int
    of: int

    @property
    def name(self) -> str:
        """Which of how many, as a tag has it."""
        return f"{self.place} of {self.of}"

    @property
    def is_whole(self) -> bool:
        """Whether it is all of them."""
        return self.of == 1

    @property
    def tags(self) -> dict[str, str]:
        """Of its run."""
        return {} if self.is_whole else {GROUP_TAG: self.name}


def groups(symbols: Sequence[str], at_most: int) -> list[Group]:
    """The groups of markets, the same for the same markets: sorted, and as equal in size as can be.

    Args:
        symbols: markets.
        at_most: of a group.
    """
    ordered = sorted(symbols)
    many = -(-len(ordered) // at_most)
    cuts = [len(ordered) * place // many for place in range(many + 1)] if many else [0]
    parts = [tuple(ordered[start:end]) for start, end in pairwise(cuts)]
    return [Group(part, place, many) for place, part in enumerate(parts, start=1)]


def of_a_tick(config: Config) -> list[Group]:
    """The groups of all markets: one of them where they are not too many for one run."""
    return groups(config.symbols, config.markets.tick.markets_a_run)


def runs_a_tick(config: Config) -> int:
    """How many runs a tick is: one, or one for each group and one for what needs all."""
    many = len(of_a_tick(config))
    return many if many == 1 else many + 1


@contextmanager
def told_once(project: Project, table: str, as_of: datetime | None, *, is_part: bool) -> Iterator[pl.DataFrame]:
    """What a tick notes of no market but of an account: the first of its groups asks, the others wait for it.

    Args:
        project: where the lake is.
        table: with a time, of which a tick writes the rows of its own bar.
        as_of: the tick; None: a run over whole days, which notes nothing.
        is_part: whether the run is one of several groups.

    Returns:
        The rows that another group has stored; none: it is to be asked now.
    """
    if as_of is None or not is_part:
        yield registry.empty(table)
        return
    with project.locks.of(f"turns/{table}"):
        yield project.lake.read(table, span=Span(floor_bar(as_of) - BAR, floor_bar(as_of)))


def parts_done(names: Sequence[str]) -> bool:
    """Whether these groups, by name, are all that there are."""
    return bool(names) and len(set(names)) == int(names[0].rpartition(" ")[2])
