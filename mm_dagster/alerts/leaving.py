"""What leaving a grid costs, as a sentence: on the phone, on the page and in the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm_dagster.text import number_text

COMPARED = 15
"""The horizon, in minutes, that is named beside selling at once."""


def percent(basis_points: float) -> str:
    """A cost as one says it: 0.11 %."""
    return f"{basis_points / 100:.2f} %"


def of_now(costs: Sequence[Mapping[str, Any]]) -> tuple[float | None, bool]:
    """What selling at once costs, basis points, and whether the order book says so; else it is modelled.

    Args:
        costs: the rows of `exit_cost` of one grid and bar.
    """
    now = _of(costs, 0)
    if now is None:
        return None, False
    if now["live_expected_bp"] is not None:
        return now["live_expected_bp"], True
    return now["expected_bp"], False


def sentence(costs: Sequence[Mapping[str, Any]], symbol: str) -> str:
    """What leaving now costs, and what waiting a quarter hour may change; empty where nothing is held or known.

    Args:
        costs: the rows of `exit_cost` of one grid and bar.
        symbol: its market.
    """
    base, _, quote = symbol.partition("-")
    now = _of(costs, 0)
    if now is None or not now["amount"]:
        return ""
    head = f"Leaving now: {number_text(now['amount'])} {base}"
    if now["shown_share"] is not None and now["shown_share"] < 1:
        return f"{head}; the order book shows buyers for {100 * now['shown_share']:.0f} % of it: sell it in parts."
    cost, from_book = of_now(costs)
    if cost is None:
        return f"{head}; what it costs is not known."
    if now["beyond_model"] and not from_book:
        best = next((row["horizon_minutes"] for row in costs if row["chosen"]), None)
        over = f": it costs least over {best} min" if best else ""
        return f"{head}, more than this market trades in a minute{over}; how much is not known."
    later = _of(costs, COMPARED)
    same = ""
    if later is not None and later["high_80_bp"] is not None:
        wide = (later["high_80_bp"] - later["low_80_bp"]) / 2
        same = f"; over {COMPARED} min the same ± {percent(wide)}"
    lost = f"{number_text(now['notional'] * cost / 10_000, 3)} {quote} or " if now["notional"] else ""
    return f"{head}, {lost}{percent(cost)} with fee{' by the order book' if from_book else ''}{same}."


def _of(costs: Sequence[Mapping[str, Any]], minutes: int) -> Mapping[str, Any] | None:
    """The row of a horizon."""
    return next((row for row in costs if row["horizon_minutes"] == minutes), None)
