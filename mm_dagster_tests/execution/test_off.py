"""With `mode: off` nothing that could place an order is even loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

ORDERS = (
    "mm_dagster.execution.machine", "mm_dagster.execution.drive", "mm_dagster.execution.journal",
    "mm_dagster.execution.paper", "mm_dagster.market.order_venue", "mm_dagster.market.orders", "mm_dagster.market.bots",
    "mm_dagster.pipeline.exits", "mm_dagster.pipeline.paper",
)  # fmt: skip


@pytest.mark.parametrize(
    "doors",
    [
        "import mm_dagster.cli, mm_dagster.cli.leave; mm_dagster.cli.main",
        "import mm_dagster.definitions; mm_dagster.definitions.defs()",
        "import mm_dagster.api.app, mm_dagster.pages.live, mm_dagster.pages.gather",
    ],
    ids=["command line", "Dagster", "page and API"],
)
def test_no_door_loads_what_could_place_an_order(doors: str) -> None:
    shown = f"import sys; {doors}; print(sorted(set({ORDERS!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"
