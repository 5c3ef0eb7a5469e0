"""A disk that is quick: what reaches it is a matter of its own tests and of those with real processes."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for until it is on the disk."""
    monkeypatch.setattr(os, "fdatasync", lambda file: None)
