"""A configuration with a grid, and what a person types to add another: the fixtures of conftest.py work on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MARKETS = """\
# Mine. Do not lose this line.
venues:
  main: {kind: simulated}   # nothing is real
markets:
  # The first one.
  - {symbol: ETH-USDT, venue: main}   # ether
  - symbol: BTC-USDT
    venue: main
# The end.
"""
GRID = """\
# My first grid.
id: eth
symbol: ETH-USDT
activated_at: 2025-06-24   # a Tuesday
lower: 2550
upper: 2820
levels: 12                 # intervals
stop: 2480                 # never wider
capital: 1000
"""
PAGE = """\
SOL/USDT Spot Grid
Price range 120.50 - 140.00 USDT
Number of grids 6
Stop loss 112.00
Investment 769.02
Created 2025-01-10 01:00
"""
SOL = (
    "--symbol", "SOL-USDT", "--lower", "120.5", "--upper", "140", "--levels", "6", "--stop", "112",
    "--capital", "769.02", "--activated", "2025-01-10T00:00Z",
)  # fmt: skip
QUIETLY = ("--yes", "--no-fetch")

Said = tuple[int, str, str]
Call = Callable[..., Said]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All that stands in the configuration."""
    top = folder / "configuration"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
