"""Drawings for a page: SVG that takes its width from the screen and its colours from the page, light or dark.

Another picture is a finished image, for a phone's lock screen or for Dagster. Here only the plot is drawn, in
units that may be stretched; its words are text of the page, so that they stay readable on a phone, and any number of
drawings stays small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.pictures.extent import price_range, stretches
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster.text import money_text, money_texts, price_text

HEIGHT = 1000
"""Units from the bottom to the top of a drawing; a bar is one unit wide."""
POINTS = 480
"""More bars than this are drawn as so many equal pieces: their extremes as a band, their last as the line."""
_LEVELS = 40
_APART = 12.0
"""Percent of the height between two labels."""


@dataclass(frozen=True)
class Label:
    """A word beside the plot: percent of the height from the top, and what it names."""

    top: float
    text: str
    name: str


@dataclass(frozen=True)
class Piece:
    """A stretch of bars: where it starts, how many it is, and its rank from calm to danger; None: not known."""

    start: int
    bars: int
    rank: int | None


@dataclass(frozen=True)
class Curve:
    """A line of a drawing: an SVG path, and what it shows."""

    path: str
    name: str


@dataclass(frozen=True)
class Drawing:
    """A plot without its words, which stand beside it.

    Attributes:
        width: bars from left to right.
        curves: lines.
        labels: words at the right, from the top.
        ticks: days as (percent from the left, month-day).
        band: path of what lies between low and high.
        levels: heights of the grid's prices, in units from the top.
        inside: top and bottom of the grid.
        marks: lines across, as (height, name).
        holes: bars that are not known.
        verdicts: the regime below the plot.
        states: the exit states below it.
        start: when the first bar opens.
        until: the bars at which the drawn pieces end.
        values: what is drawn of each of them, by name, for who draws it anew; None: not known.
    """

    width: int
    curves: tuple[Curve, ...]
    labels: tuple[Label, ...]
    ticks: tuple[tuple[float, str], ...]
    band: str = ""
    levels: tuple[int, ...] = ()
    inside: tuple[int, int] | None = None
    marks: tuple[tuple[int, str], ...] = ()
    holes: tuple[Piece, ...] = ()
    verdicts: tuple[Piece, ...] = ()
    states: tuple[Piece, ...] = ()
    start: datetime | None = None
    until: tuple[int, ...] = ()
    values: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


def draw_decision(
    grid: GridConfig, candles: pl.DataFrame, verdicts: pl.DataFrame, states: pl.DataFrame, span: Span
) -> Drawing | None:
    """Price with the grid, its levels and stop, the regime and the exit states below.

    Args:
        grid: whose levels are drawn; rows of other grids and markets are ignored.
        candles: rows of `candles`.
        verdicts: rows of `regime_verdict`.
        states: rows of `exit_state`.
        span: what is drawn.

    Returns:
        None where no price is known.
    """
    bars = span.open_times().to_frame().join(
        candles.filter(pl.col("symbol") == grid.symbol), on="open_time", how="left", maintain_order="left"
    )  # fmt: skip
    pieces = _pieces(bars, pl.col("low").min(), pl.col("high").max(), pl.col("close").drop_nulls().last())
    known = [row for row in pieces.iter_rows(named=True) if row["close"] is not None]
    if not known:
        return None
    low, high = price_range(grid, min(row["low"] for row in known), max(row["high"] for row in known))

    def height(price: float) -> int:
        return round(HEIGHT * (high - price) / (high - low))

    levels = grid.prices
    last = known[-1]["close"]
    named = [(grid.upper, "upper"), (grid.lower, "lower"), (grid.stop, "stop"), (last, "price")]
    closes = [(row["until"], None if row["close"] is None else height(row["close"])) for row in pieces.to_dicts()]
    mine = states.filter((pl.col("grid_id") == grid.id) & pl.col("state").is_not_null()).sort("as_of", "activated_at")
    return Drawing(
        width=span.bars,
        curves=(Curve(_path(closes), "price"),),
        labels=_labels([(100 * (high - price) / (high - low), price_text(price), name) for price, name in named]),
        ticks=_days(span),
        band="".join(
            f"M{row['start']} {height(row['high'])}H{row['until']}V{height(row['low'])}H{row['start']}Z"
            for row in known
        ),
        levels=tuple(height(level) for level in levels[:: math.ceil(levels.size / _LEVELS)]),
        inside=(height(grid.upper), height(grid.lower)),
        marks=((height(grid.upper), "bound"), (height(grid.lower), "bound"), (height(grid.stop), "stop")),
        holes=_holes(bars["close"].is_null()),
        verdicts=_ranked(verdicts.filter(pl.col("symbol") == grid.symbol), "verdict", VERDICTS, span),
        states=_ranked(mine.unique("as_of", keep="last", maintain_order=True), "state", STATES, span),
        start=span.start,
        until=tuple(pieces["until"]),
        values={name: pieces[name].to_list() for name in ("low", "high", "close")},
    )


def draw_equity(grid: GridConfig, risks: pl.DataFrame, span: Span) -> Drawing | None:
    """What the grid made since its activation: realised, unrealised and total, quote currency.

    Args:
        grid: rows of other grids and of its other episodes are ignored.
        risks: rows of `grid_risk`.
        span: what is drawn.

    Returns:
        None where nothing is known of its money.
    """
    mine = (pl.col("grid_id") == grid.id) & (pl.col("activated_at") == grid.activated_at)
    rows = span.open_times().to_frame().join(
        risks.filter(mine).with_columns(open_time=pl.col("as_of") - BAR), on="open_time", how="left",
        maintain_order="left",
    )  # fmt: skip
    names = ("realised", "unrealised", "total")
    rows = rows.with_columns(
        realised=pl.col("grid_profit") + pl.col("exit_pnl"), unrealised="unrealised_pnl", total="total_pnl"
    )
    rows = _pieces(rows, *(pl.col(name).drop_nulls().last() for name in names))
    known = [value for name in names for value in rows[name].drop_nulls()]
    if not known:
        return None
    low, high = min(0.0, *known), max(0.0, *known)
    margin = max(0.08 * (high - low), 0.001 * grid.capital)
    low, high = low - margin, high + margin

    def height(value: float) -> int:
        return round(HEIGHT * (high - value) / (high - low))

    ends = [next(reversed(rows[name].drop_nulls().to_list()), None) for name in names]
    parts, whole = money_texts(ends[:2], ends[2], grid.capital)
    return Drawing(
        width=span.bars,
        curves=tuple(
            Curve(
                _path([(x, None if y is None else height(y)) for x, y in zip(rows["until"], rows[name], strict=True)]),
                name,
            )
            for name in names
        ),
        labels=_labels(
            [
                (100 * (high - value) / (high - low), text, name)
                for name, value, text in zip(names, ends, [*parts, whole], strict=True)
                if value is not None
            ]
        ),
        ticks=_days(span),
        marks=((height(0.0), "zero"),),
        holes=_holes(rows["total"].is_null()) if rows.height == span.bars else (),
        start=span.start,
        until=tuple(rows["until"]),
        values={name: rows[name].to_list() for name in names},
    )


def draw_together(
    risks: pl.DataFrame, realised: pl.DataFrame, limit: float | None, capital: float, span: Span
) -> Drawing | None:
    """What all grids may lose together: from what one night in 20 costs up to the mean of those, and what came.

    Args:
        risks: rows of `portfolio_risk` of one quote currency.
        realised: what came, as of `pipeline.together.realised`, of the same.
        limit: of the mean, quote currency; None: none is watched, or no equity is known.
        capital: what the amounts belong to, quote currency.
        span: what is drawn.

    Returns:
        None where no night can be told.
    """
    rows = span.open_times().to_frame().join(
        risks.select("var_5_24h", "es_5_24h", open_time=pl.col("as_of") - BAR), on="open_time", how="left",
        maintain_order="left",
    )  # fmt: skip
    known = rows.drop_nulls("es_5_24h")
    if known.is_empty():
        return None
    came = [
        ((row["as_of"] - span.start) // BAR, row["loss"])
        for row in realised.filter(span.closes()).iter_rows(named=True)
    ]
    values = [0.0, *known["var_5_24h"], *known["es_5_24h"], *(loss for _, loss in came)]
    highest = max(values)
    # A limit that is far away would leave no room for what is near; then it is named at the edge.
    if limit is not None and limit < 2 * highest:
        values.append(limit)
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), 0.001 * capital)
    low, high = low - margin, high + margin

    def height(value: float) -> int:
        return round(HEIGHT * (high - value) / (high - low))

    pieces = _pieces(rows, *(pl.col(name).drop_nulls().last() for name in ("var_5_24h", "es_5_24h")))
    told = [row for row in pieces.iter_rows(named=True) if row["es_5_24h"] is not None]
    lines = {"night": "var_5_24h", "mean": "es_5_24h"}
    curves = [
        Curve(_path([(row["until"], None if row[of] is None else height(row[of])) for row in pieces.to_dicts()]), name)
        for name, of in lines.items()
    ]
    dots = Curve("".join(f"M{place} {height(loss)}h0" for place, loss in came), "came")
    named = [(known[of][-1], name) for name, of in lines.items()] + ([] if limit is None else [(limit, "limit")])
    return Drawing(
        width=span.bars,
        curves=(*curves, *([dots] if came else [])),
        labels=_labels(
            [(100 * (high - value) / (high - low), money_text(value, capital), name) for value, name in named]
        ),
        ticks=_days(span),
        band="".join(
            f"M{row['start']} {height(row['es_5_24h'])}H{row['until']}V{height(row['var_5_24h'])}H{row['start']}Z"
            for row in told
        ),
        marks=((height(0.0), "zero"), *(((height(limit), "stop"),) if limit is not None and limit <= high else ())),
        holes=_holes(rows["es_5_24h"].is_null()),
    )


def _pieces(rows: pl.DataFrame, *last: pl.Expr) -> pl.DataFrame:
    """The rows in at most POINTS equal pieces, each with the bars `start` and `until` that it covers."""
    size = max(1, math.ceil(rows.height / POINTS))
    return (
        rows.with_row_index("bar")
        .group_by(piece=pl.col("bar") // size, maintain_order=True)
        .agg(*last, start=pl.col("bar").first().cast(pl.Int64), until=pl.col("bar").last().cast(pl.Int64) + 1)
    )


def _path(points: Sequence[tuple[int, int | None]]) -> str:
    """A line through the points, in steps; where a height is not known the pen is lifted."""
    path, before = "", None
    for x, y in points:
        if y is None:
            before = None
            continue
        path += f"M{x} {y}" if before is None else f"l{x - before[0]} {y - before[1]}"
        before = (x, y)
    return path


def _labels(wanted: Sequence[tuple[float, str, str]]) -> tuple[Label, ...]:
    """Words from the top, pushed apart where they would overlap, within the plot."""
    ordered = sorted(wanted)
    tops: list[float] = []
    for top, _, _ in ordered:
        place = min(max(top, 0.0), 100.0)
        tops.append(max(place, tops[-1] + _APART) if tops else place)
    limit = 100.0
    for number in reversed(range(len(tops))):
        tops[number] = min(tops[number], limit)
        limit = tops[number] - _APART
    arrows = ["" if 0 <= top <= 100 else " ▲" if top < 0 else " ▼" for top, _, _ in ordered]
    return tuple(
        Label(round(top, 1), text + arrow, name)
        for top, (_, text, name), arrow in zip(tops, ordered, arrows, strict=True)
    )


def _days(span: Span) -> tuple[tuple[float, str], ...]:
    """Midnights, UTC, at most seven of them, not so near to an edge that their words would not fit."""
    first = span.start.replace(hour=0, minute=0)
    days = max(1, (span.end - span.start) // timedelta(days=1))
    step = timedelta(days=math.ceil(days / 7))
    found = []
    time = first + timedelta(days=1)
    while time < span.end:
        left = 100 * ((time - span.start) / BAR) / span.bars
        if 4 <= left <= 96:
            found.append((round(left, 2), f"{time:%m-%d}"))
        time += step
    return tuple(found)


def _holes(unknown: pl.Series) -> tuple[Piece, ...]:
    runs = unknown.to_frame("unknown").with_row_index("bar").with_columns(run=pl.col("unknown").rle_id())
    held = runs.filter("unknown").group_by("run", maintain_order=True).agg(pl.col("bar").first(), bars=pl.len())
    return tuple(Piece(row["bar"], row["bars"], None) for row in held.iter_rows(named=True))


def _ranked(rows: pl.DataFrame, column: str, names: Sequence[str], span: Span) -> tuple[Piece, ...]:
    """Stretches of one value, within the span."""

    def place(time: datetime) -> int:
        return (time - span.start) // BAR

    return tuple(
        Piece(place(start), (end - start) // BAR, None if value is None else names.index(str(value)))
        for start, end, value in stretches(rows.filter(span.closes()), column)
    )
