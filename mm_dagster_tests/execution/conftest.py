"""How many trials of leaving a grid are made."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trials", type=int, default=30, help="seeded trials of leaving a grid, of each kind")


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> int:
    found: int = request.config.getoption("--trials")
    return found
