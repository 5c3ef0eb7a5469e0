"""dataframely, loaded without SQLAlchemy: contract tests in mm_dagster_tests/cli/test_start.py.

dataframely loads it with four dialects, to write tables of other databases, which nobody here does; that takes as long
as polars itself. Whoever needs SQLAlchemy loads it afterwards as ever.
"""

from __future__ import annotations

import sys

if {"dataframely", "sqlalchemy"} & sys.modules.keys():
    import dataframely as dy
else:
    sys.modules["sqlalchemy"] = None  # type: ignore[assignment]
    try:
        import dataframely as dy
    finally:
        del sys.modules["sqlalchemy"]

__all__ = ["dy"]
