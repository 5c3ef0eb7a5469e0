"""What every room's tests share: the real market data, where it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm_dagster_tests import postgres as real

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real candles and recorded API answers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real market data is not here ({folder.name}); set MM_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.Postgres]:
    """A real PostgreSQL; tests that need it skip where none starts."""
    pytest.importorskip("pgserver", reason="pgserver is not installed; it is in the extra dev")
    try:
        running = real.running(tmp_path_factory.mktemp("postgres") / "data")
        server = running.__enter__()
    except Exception as error:
        pytest.skip(f"no PostgreSQL starts here: {type(error).__name__}")
    yield server
    running.__exit__(None, None, None)
