"""Pictures so small that a page shows them at once, as SVG."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from mm_dagster.bars import BAR
from mm_dagster.config.grid import GridConfig
from mm_dagster.pictures.extent import on_every_bar, price_range

GLANCE_POINTS = 44


def glance(grid: GridConfig, candles: pl.DataFrame) -> str:
    """Price against bounds and stop in a few hundred characters of SVG, for where only that much is shown.

    It has no background; its colours keep a contrast of 3 to 1 on white and on black. A hole in the data is a hole.

    Args:
        grid: whose bounds and stop are drawn, where they are in sight of the price: see `price_range`.
        candles: rows of `candles`, cut into at most GLANCE_POINTS equal pieces of which the last close is
            drawn; other markets are ignored.

    Returns:
        An SVG; in base64, with a caption of 120 characters, it stays below 1,000.
    """
    bars = on_every_bar(candles.filter(pl.col("symbol") == grid.symbol))
    closes = bars["close"].to_list()
    step = max(1, -(-len(closes) // GLANCE_POINTS))
    shown = closes[::-1][::step][::-1]
    known = [close for close in shown if close is not None]
    low, high = price_range(grid, min(known, default=None), max(known, default=None))

    def height(price: float) -> int:
        return round(60 - 60 * (min(max(price, low), high) - low) / (high - low))

    width, path, pen_down = 5 * (GLANCE_POINTS - 1), "", False
    for place, close in enumerate(shown):
        if close is not None:
            path += f"{' ' if pen_down else 'M'}{width * place // max(1, len(shown) - 1)} {height(close)}"
        pen_down = close is not None
    upper, lower, stop = height(grid.upper), height(grid.lower), height(grid.stop)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="120" viewBox="0 0 {width} 60" '
        f'fill="none"><path fill="#4a7bd8" fill-opacity=".2" d="M0 {upper}h{width}V{lower}H0"/>'
        f'<path stroke="#d0405f" stroke-dasharray="5 3" d="M0 {stop}h{width}"/>'
        f'<path stroke="#707d92" stroke-width="1.5" d="{path}"/></svg>'
    )


TICKS_SHOWN = 48


def ticks_glance(ticks: pl.DataFrame, until: datetime) -> str:
    """How long the ticks of the last twelve hours took, and in red above them which did not go well.

    A tick that never ran is a hole with a red mark, too, but not before the first that is known.

    Args:
        ticks: rows of `tick`.
        until: the newest of them to be drawn; TICKS_SHOWN quarter hours end there.

    Returns:
        An SVG as small as that of `glance`; the highest column is the longest tick.
    """
    known = {row["as_of"]: row for row in ticks.iter_rows(named=True)}
    rows = [known.get(until - back * BAR) for back in range(TICKS_SHOWN)][::-1]
    seconds = [seconds_of(row) for row in rows]
    highest = max(max((took for took in seconds if took), default=1.0), 1e-3)
    skyline = "".join(f"V{60 - max(2, round(52 * took / highest)) if took is not None else 60}h5" for took in seconds)
    first = TICKS_SHOWN - 1 - (until - min(known, default=until)) // BAR
    bad = [
        place >= first and (row is None or took is None or bool(row["symbols_failed"]))
        for place, (row, took) in enumerate(zip(rows, seconds, strict=True))
    ]
    # Neighbours are one stroke.
    begins = [place for place in range(TICKS_SHOWN) if bad[place] and not (place and bad[place - 1])]
    lengths = [next((n for n, one in enumerate(bad[place:]) if not one), TICKS_SHOWN - place) for place in begins]
    marks = "".join(f"M{5 * place} 2h{5 * length}" for place, length in zip(begins, lengths, strict=True))
    width = 5 * TICKS_SHOWN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="120" viewBox="0 0 {width} 60" '
        f'fill="none"><path fill="#707d92" d="M0 60{skyline}V60"/>'
        f'<path stroke="#d0405f" stroke-width="4" d="{marks}"/></svg>'
    )


def seconds_of(tick: dict[str, Any] | None) -> float | None:
    """How long a tick took; None: it did not run, or did not finish."""
    if tick is None or tick["finished_at"] is None:
        return None
    return (tick["finished_at"] - tick["started_at"]).total_seconds()
