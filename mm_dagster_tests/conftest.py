"""What every room's tests share: the real market data, where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real candles and recorded API answers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MM_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real market data is not here ({folder.name}); set MM_SHARED_DATA to its folder")
    return folder
