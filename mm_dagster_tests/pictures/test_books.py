"""The picture of a day of books: the same bytes for the same rows, and nothing over anything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from matplotlib.figure import Figure

from mm_dagster.bars import BAR
from mm_dagster.pictures.books import books_picture
from mm_dagster.pictures.colours import Theme
from mm_dagster.tables.registry import dtypes, empty
from mm_dagster_tests.pictures.words import hold_words

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def features(bars: int = 96, hole: tuple[int, int] = (30, 40), size: float = 1.0) -> pl.DataFrame:
    rows = [
        {
            **dict.fromkeys(dtypes("book_features")),
            "exchange": "kucoin", "symbol": "ETH-USDT", "as_of": DAY + (bar + 1) * BAR,
            "in_sync_share": 1.0 if not hole[0] <= bar < hole[1] else 0.0,
            **(
                {
                    "spread_bp": 0.3 + 0.01 * (bar % 17), "imbalance_n": 0.6 - 0.012 * bar,
                    "bid_depth_10bp": size * (40_000 + 300 * bar), "ask_depth_10bp": size * (60_000 - 300 * bar),
                }
                if not hole[0] <= bar < hole[1]
                else {}
            ),
        }
        for bar in range(bars)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dtypes("book_features"), orient="row")


def gaps(*minutes: tuple[float, float | None]) -> pl.DataFrame:
    rows = [
        {
            **dict.fromkeys(dtypes("book_gap")),
            "exchange": "kucoin", "symbol": "ETH-USDT", "part": "BOOK", "number": 1, "kind": "MISSED",
            "from_time": DAY + timedelta(minutes=since),
            "to_time": None if until is None else DAY + timedelta(minutes=until),
        }
        for since, until in minutes
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dtypes("book_gap"), orient="row")


CASES = {
    "usual": (features(), gaps((450, 600), (1000, 1000.1))),
    "nothing known": (features(hole=(0, 96)), gaps((0, None))),
    "one bar": (features(1, hole=(5, 5)), empty("book_gap")),
    "large": (features(size=1e6), empty("book_gap")),
    "small": (features(size=1e-6), empty("book_gap")),
}


@pytest.mark.parametrize("name", CASES)
def test_every_word_is_inside_the_picture_and_over_no_other(name: str, figures: list[Figure]) -> None:
    png = books_picture(*CASES[name], title_prefix="SIMULATED · ")
    hold_words(png, figures[0])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_rows_in_any_order_give_the_same_bytes(theme: Theme) -> None:
    rows, missing = CASES["usual"]
    assert books_picture(rows, missing, theme=theme) == books_picture(rows.reverse(), missing.reverse(), theme=theme)
