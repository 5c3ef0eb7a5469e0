"""What leaving at a state was worth on real candles: figures that travel with the package, for the advice to quote.

`measured.json` is written by the evaluation of the recorded candles (docs/evidence.md), and a test holds it against
them. It stands in the package since a wheel has no docs.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import BaseModel

from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.tables.words import MEASURED

FILE = "measured.json"

Interval = tuple[float, float, float]
"""A figure, and the ends of its 95 % interval."""


class Measured(BaseModel):
    """Leaving at WARNING against leaving the same grids at LATEST_ACCEPTABLE_EXIT, under the default ladder.

    Attributes:
        grids: how many were opened.
        mean: percent of the capital.
        worst: the same of the mean of the worst twentieth.
    """

    grids: int
    mean: Interval
    worst: Interval


@cache
def measured() -> Measured:
    """What the file says."""
    return Measured.model_validate_json(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))


def worth_of_warning(config: ExitConfig, scales: TouchConfig) -> str | None:
    """What leaving at WARNING was worth, as a sentence.

    Args:
        config: under which the state was found.
        scales: of the break probability then.

    Returns:
        None where another ladder than the measured one is in force: nobody knows what leaving at its states is worth.
    """
    default = ExitConfig()
    if scales != TouchConfig() or any(
        getattr(config, name) != getattr(default, name) for name in ("policy", "thresholds", "confirm", "persist")
    ):
        return None
    found = measured()
    return (
        f"{MEASURED}{found.grids:,} grids: leaving at WARNING and not at LATEST_ACCEPTABLE_EXIT was worth "
        f"{_points(found.mean)} % of the capital on average, and {_points(found.worst)} % in the worst twentieth."
    )


def _points(figure: Interval) -> str:
    value, low, high = figure
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
