"""A configuration of one simulated market and one grid, for commands that need little to work on."""

from __future__ import annotations

from pathlib import Path

import yaml


def configure(folder: Path) -> None:
    """Writes it below `configuration`."""
    configuration = folder / "configuration"
    (configuration / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    grid = {
        "id": "eth", "symbol": "ETH-USDT", "activated_at": "2026-06-23", "lower": 2550, "upper": 2820, "levels": 12,
        "stop": 2480, "capital": 1000,
    }  # fmt: skip
    (configuration / "markets.yaml").write_text(yaml.safe_dump(markets))
    (configuration / "grids" / "eth.yaml").write_text(yaml.safe_dump(grid))
