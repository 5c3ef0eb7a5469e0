"""How a long span is written: few rows a month go together, many do not."""

from __future__ import annotations

from datetime import UTC, datetime

from mm_dagster.bars import Span
from mm_dagster.pipeline.work import ROWS_A_TURN, _turns

YEAR = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


def test_months_with_few_rows_are_written_together_and_the_parts_are_the_whole() -> None:
    for rows in (0, 1, ROWS_A_TURN, 5 * ROWS_A_TURN, 100 * ROWS_A_TURN):
        parts = _turns(YEAR, rows)
        assert [parts[0].start, *(one.end for one in parts)] == [*(one.start for one in parts), YEAR.end]
        assert all(part.start.day == 1 for part in parts)
    assert len(_turns(YEAR, ROWS_A_TURN)) == 1
    assert len(_turns(YEAR, 5 * ROWS_A_TURN)) == 6
    assert len(_turns(YEAR, 100 * ROWS_A_TURN)) == 12
