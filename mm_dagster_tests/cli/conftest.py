"""`mm grid` in this process, on a folder of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster import cli
from mm_dagster.cli import grid as command
from mm_dagster_tests.cli.given_grids import GRID, MARKETS, Call, Said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configuration" / "grids").mkdir(parents=True)
    (tmp_path / "configuration" / "markets.yaml").write_text(MARKETS)
    (tmp_path / "configuration" / "grids" / "eth.yaml").write_text(GRID)
    return tmp_path


@pytest.fixture
def mm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """The entry point in this process: exit code, stdout and stderr."""
    for name in list(os.environ):
        if name.startswith(("MM_", "DAGSTER_", "PUSHOVER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MM_CONFIG_DIR", str(folder / "configuration"))
    monkeypatch.setenv("MM_DATA_DIR", str(folder / "data"))

    def call(*arguments: str, types: str | None = None, pipes: str | None = None) -> Said:
        """
        Args:
            arguments: of the command.
            types: what a person types on a terminal.
            pipes: what another program pipes in.
        """
        cli.project_here.cache_clear()
        monkeypatch.setattr("sys.argv", ["mm", "grid", *arguments])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((types or pipes or "").encode())))
        monkeypatch.setattr(command, "_is_terminal", lambda: types is not None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    yield call
    cli.project_here.cache_clear()
