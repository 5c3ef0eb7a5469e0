"""Which assets a run of some markets makes, and which need all; how either is asked for."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import dagster as dg

from mm_dagster.bars import iso
from mm_dagster.defs import audit, books, execution, exit, grid, market, portfolio, regime
from mm_dagster.pipeline.groups import Group
from mm_dagster.tables.registry import EVERY_BAR, TOGETHER

_MADE: dict[str, dg.AssetsDefinition] = {
    name: value
    for module in (market, regime, grid, exit, portfolio, execution, books, audit)
    for name, value in vars(module).items()
    if isinstance(value, dg.AssetsDefinition)
}
"""The assets of a tick among others, by name; of the modules, since Dagster finds assets wherever they have a name."""


class Part(NamedTuple):
    """What of a job a run makes, and what it checks: where no check is named, Dagster takes the proofs, too.

    Attributes:
        assets: keys.
        checks: keys.
    """

    assets: list[dg.AssetKey]
    checks: list[dg.AssetCheckKey]


def _part(names: Iterable[str], *more: dg.AssetCheckKey) -> Part:
    made = [_MADE[name] for name in names]
    return Part([one.key for one in made], [*(key for one in made for key in one.check_keys), *more])


_ALONE = [name for name in EVERY_BAR if name not in TOGETHER]
APART = _part(_ALONE)
"""What can be made of some markets alone, in a run over whole days."""
WITH_ALL = _part(TOGETHER)
"""What needs all markets."""
TICK_APART = _part([*_ALONE, "account_snapshot", "grid_bot", "book_snapshot"])
TICK_WITH_ALL = _part([*TOGETHER, "snapshot", "tick_log"], exit.JUDGED)
"""The same of a tick. Whether each active grid is judged is asked of all: a group that died could not ask."""


def turn_of(as_of: datetime, part: Group | None = None) -> dict[str, Any]:
    """The configuration of a run of a tick: of all markets, or of a group of them."""
    turn: dict[str, Any] = {"as_of": iso(as_of)}
    if part is not None and not part.is_whole:
        turn["symbols"] = list(part.symbols)
    return {"resources": {"turn": {"config": turn}}}
