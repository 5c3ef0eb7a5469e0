"""A configuration of one simulated market and one grid, for commands that need little to work on; and such a command
in this process, which need not load everything anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import stamina.instrumentation
import yaml

from mm_dagster import cli


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


def called(surroundings: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """A command in this process and such an environment: its exit code, and what it says on stdout and stderr."""
    said, errors = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.dict(os.environ, surroundings, clear=True),
        mock.patch.object(sys, "argv", ["mm", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
    ):
        cli.project_here.cache_clear()
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            cli.project_here.cache_clear()
            stamina.instrumentation.set_on_retry_hooks(None)
    return code, said.getvalue(), errors.getvalue()
