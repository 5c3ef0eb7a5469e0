"""What a grid made, as figures that add up: on the phone, on the page and in the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_dagster.text import money_texts


def profits(risk: Mapping[str, Any], capital: float) -> tuple[dict[str, str], str]:
    """What a grid made, by where it came from, and the total: amounts that add up as they are read.

    Args:
        risk: a row of `grid_risk` whose total is known.
        capital: of the grid, quote currency.
    """
    parts = {"realised": risk["grid_profit"], "unrealised": risk["unrealised_pnl"]}
    if risk["exit_pnl"]:
        parts["sold at the stop"] = risk["exit_pnl"]
    said, total = money_texts(list(parts.values()), risk["total_pnl"], capital)
    return dict(zip(parts, said, strict=True)), total
