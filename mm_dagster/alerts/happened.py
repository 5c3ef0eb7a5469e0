"""What happened to a grid, which goes before whatever else is said of it: answered, sold by its stop, sold out.

A message that tells somebody to sell what is gone is not believed the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig

Row = Mapping[str, Any]

SELL = "sell the inventory"
"""What no sentence says of a grid that holds nothing."""
CLEAR = "Make sure on the exchange that the grid has stopped; nothing is left to sell."


def happened(risk: Row | None, grid: GridConfig, answer: Row | None = None) -> str | None:
    """In words; None: it runs and holds something, as far as is known, and nobody has answered.

    Args:
        risk: the newest row of `grid_risk`; None: there is none.
        grid: the grid.
        answer: the newest row of `operator_response` of its episode; None: there is none.
    """
    said = []
    if answer is not None:
        said.append(_noted(answer))
    if _stopped(risk):
        assert risk is not None
        said.append(f"The stop sold everything by {iso(risk['stopped_at'])}.")
    elif holds_nothing(risk, grid):
        assert risk is not None
        above = risk["price"] is not None and risk["price"] > grid.upper
        said.append("Sold out: above the grid nothing is held." if above else "The grid holds nothing.")
    return " ".join(said) or None


def _noted(answer: Row) -> str:
    """Who says what was done, and when."""
    if answer.get("told_by") is None:
        return f"{answer.get('person') or 'You'} noted at {iso(answer['at'])}: {answer['action']}."
    how = f", {answer['note']}" if answer["note"] else ""
    return f"{answer['told_by']} says that it {answer['action']} at {iso(answer['at'])}{how}."


def holds_nothing(risk: Row | None, grid: GridConfig) -> bool:
    """Whether nothing is left to sell, by the account or by the model. What is not known may be held."""
    if risk is None:
        return False
    held = risk.get("inventory")
    if held is not None:
        return bool(held <= 0)
    return _stopped(risk) or (risk["price"] is not None and risk["price"] > grid.upper)


def _stopped(risk: Row | None) -> bool:
    """Whether the stop sold all that there was."""
    return risk is not None and risk.get("stopped_at") is not None and not (risk.get("inventory") or 0) > 0
