"""Values as JSON can hold them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.bars import iso


def plain(value: Any) -> Any:
    """A value as JSON can hold it: times as ISO 8601 UTC, infinities and NaN as text."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, pl.Series):
        return [plain(item) for item in value]
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
