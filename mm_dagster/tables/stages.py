"""One record a table: what it comes after, what changes its rows, and how far back it looks.

Everything that treats tables alike derives from these records: hashes, completeness, jobs, groups, repairs. A record
stands in the module of its room, below the schema; `registry.py` collects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mm_dagster.tables.dataframely_internals import dy

Whose = Literal["market", "grid", "running_grid", "idle_grid", "portfolio", "contributor"]
"""Of what there is one row for every bar. A portfolio is all running grids in one quote currency; its contributors have
rows only where it can be told, so that a missing one is no sign of anything."""


@dataclass(frozen=True)
class Stage:
    """A table of the lake.

    Attributes:
        table: its name.
        schema: its columns, keys and rules.
        group: the room of the flow that it belongs to; see `GROUPS`.
        after: the tables that its rows are computed from.
        settings: paths of the configuration that change its values, beside those of the tables before it. `venue` is
            the identity of the market's venue, `grid` the whole of the grid. The last name of a path names it in the
            hash.
        code_version: raised when the same input would give other values; rows and Dagster assets carry it. None: rows
            are noted, not computed.
        every_bar: of what there is one row for every bar, so that a missing one shows; None: rows come when they come.
        lead_bars: how many bars before its first row it looks at in the tables before it.
    """

    table: str
    schema: type[dy.Schema]
    group: str
    after: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    code_version: str | None = None
    every_bar: Whose | None = None
    lead_bars: int = 0

    @property
    def needs_all(self) -> bool:
        """Whether a row is about all markets: it waits for all runs of a tick, of which each has some of them."""
        return self.every_bar in ("portfolio", "contributor")

    @property
    def key(self) -> list[str]:
        """The columns that tell its rows apart."""
        return self.schema.primary_key()

    @property
    def time_column(self) -> str | None:
        """The column that it is partitioned by month of and whose span a write replaces; None: it has none."""
        return next((name for name in ("open_time", "as_of") if name in self.key), None)

    @property
    def source_column(self) -> str | None:
        """The column that says where a row's candles come from; None: it has none."""
        names = self.schema.column_names()
        return next((name for name in ("candle_source", "source") if name in names), None)


GROUPS = (
    *("market", "regime", "grid", "exit", "portfolio", "books", "execution", "alerts", "audit", "studies"),
    "evaluation",
)
"""The rooms in the order of the flow."""
