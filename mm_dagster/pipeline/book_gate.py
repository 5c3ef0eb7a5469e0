"""Recorded books before the promotion gate: which markets have enough days, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mm_dagster.bars import Span
from mm_dagster.pipeline.project import Project
from mm_dagster.research import book_candidates, promotion
from mm_dagster.research.promotion import Findings
from mm_dagster.text import counted


def judge_recorded(project: Project, days: Span, symbols: Sequence[str]) -> tuple[Findings | None, list[str]]:
    """Puts the features of recorded books through the gate, of the markets of which enough days are recorded.

    Args:
        project: configuration and lake.
        days: whole days.
        symbols: markets of markets.yaml; what is recorded at another exchange than their own says nothing of them.

    Returns:
        What the gate says, None if no market has enough; and a sentence for each that has not.

    Raises:
        PromotionError: the gate cannot answer.
    """
    books = {}
    for symbol in symbols:
        exchange = getattr(project.config.market(symbol).settings, "exchange", None)
        rows = project.lake.read("book_features", span=days, symbols=[symbol]).filter(pl.col("exchange") == exchange)
        if rows.height or project.config.books.records(exchange or "", symbol):
            books[symbol] = rows
    lacks = book_candidates.lacking(books, promotion.LEAST_DAYS)
    said = [
        f"{symbol}: recorded books are not asked: {counted(count, 'day')} of {promotion.LEAST_DAYS} are missing"
        for symbol, count in lacks.items()
    ]
    enough = {symbol: rows for symbol, rows in books.items() if symbol not in lacks}
    if not enough:
        return None, said
    known = [span for rows in enough.values() if (span := book_candidates.recorded_days(rows))]
    over = Span(max(days.start, min(span.start for span in known)), min(days.end, max(span.end for span in known)))
    reach = promotion.reach(over)
    candles = {symbol: project.lake.read("candles", span=reach, symbols=[symbol]) for symbol in enough}
    return promotion.judge_books(candles, enough, over, project.config), said
