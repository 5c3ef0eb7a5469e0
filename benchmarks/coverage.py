"""Did the loss of a bad night come true on recorded candles, and would a simpler figure have done?

`python -m benchmarks.coverage [kucoin|perpetuals ...] [--json] [--out docs/evidence/coverage.md]`: the question that
`mm evaluate --portfolio` asks of the stored candles, asked of 14 KuCoin markets in 2025 and of ten Binance perpetuals
from 2023 to 2025. The perpetuals are recorded by the half hour. Each half hour is cut into two quarter hours along the
shorter way: its low first where it rose, its high first where it fell, with the middle of open and close in between.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.shared import CONFIG, SHARED, candles
from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, iso, midnight
from mm_dagster.evaluation import together
from mm_dagster.evaluation.coverage import is_rough
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.together import METHODS, Covered, Nights
from mm_dagster.portfolio.allocation import LEAD_BARS, returns_of
from mm_dagster.portfolio.tail import NIGHT, tail
from mm_dagster.portfolio.weights import sample_correlation, shrunk_covariance

BAND = 0.035, 0.070
"""Where the rate of the figure of one night in 20 has to lie."""
DOUBTED = 0.05
"""A p below it doubts the figure."""
ALIKE = 0.7
"""From where on two markets move alike."""
LOOK_DAYS = 10


TITLE = """# Did the loss of a bad night come true?

Written by `python -m benchmarks.coverage --out docs/evidence/coverage.md`; the same question of the candles that are
stored is `mm evaluate --from DAY --to DAY --portfolio`.
"""
BEFORE = """On every market one of the rule's grids runs at any time, and each midnight says what all of them may
lose by the next one. Level is the share of nights that should be worse. p is how likely so far a rate (Kupiec 1995),
such an order of bad nights (Christoffersen 1998) and so bad ones (Z2, Acerbi and Szekely 2014, by simulation of the
paths) would be if the figure were right. Bad nights follow each other where Christoffersen's p is small, which no
figure of one night knows. A star: fewer than five nights were to be expected, and the p are rough.
"""
AFTER = """What filtering adds is small here: without today's volatility the rates are as good over a whole year. It
moves the figure to the nights that need it. Grids as if they did not fall together, and normal returns, are wrong by
far.
"""


@dataclass(frozen=True)
class Recorded:
    """Nights of some markets.

    Attributes:
        title: for people.
        markets: how many.
        nights: what they cost, and what was said.
        rows: how that came true.
        alike: share of the pairs of markets whose 6-hour returns of 60 days are correlated above ALIKE, mean over the
            days at which it was looked at, every LOOK_DAYS-th.
    """

    title: str
    markets: int
    nights: Nights
    rows: list[Covered]
    alike: float


def perpetuals() -> pl.DataFrame:
    """Rows of `candles` of the perpetuals, each half hour cut into two quarter hours."""
    parts = []
    for path in sorted((SHARED / "candles" / "binance-perp").glob("*/30m.parquet")):
        whole = pl.read_parquet(path).with_columns(
            pl.col("open_time").cast(TIME), middle=pl.mean_horizontal("open", "close")
        )
        rises = pl.col("close") >= pl.col("open")
        first = whole.select(
            "open_time",
            "open",
            high=pl.when(rises).then(pl.max_horizontal("open", "middle")).otherwise("high"),
            low=pl.when(rises).then("low").otherwise(pl.min_horizontal("open", "middle")),
            close="middle",
            volume=pl.col("volume") / 2,
        )
        second = whole.select(
            pl.col("open_time") + BAR,
            open="middle",
            high=pl.when(rises).then("high").otherwise(pl.max_horizontal("close", "middle")),
            low=pl.when(rises).then(pl.min_horizontal("close", "middle")).otherwise("low"),
            close="close",
            volume=pl.col("volume") / 2,
        )
        parts.append(pl.concat([first, second]).sort("open_time").with_columns(symbol=pl.lit(path.parent.name)))
    return pl.concat(parts).with_columns(close_time=pl.col("open_time") + BAR, status=pl.lit("TRADED"))


SETS: dict[str, tuple[str, Callable[[], pl.DataFrame]]] = {
    "kucoin": ("KuCoin 2025", lambda: candles("kucoin")),
    "perpetuals": ("Binance perpetuals 2023-2025", perpetuals),
}


def measured(name: str) -> Recorded:
    """The nights of a set."""
    title, load = SETS[name]
    known = load()
    first, last = known["open_time"].min(), known["close_time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    days = Span(midnight(first.date()), midnight(last.date()))
    symbols = known["symbol"].unique().sort().to_list()
    markets = together.markets_of(symbols, lambda symbol: known.filter(pl.col("symbol") == symbol), days, CONFIG)
    nights = together.nights(markets, days, CONFIG)
    return Recorded(title, len(symbols), nights, together.cover(nights), _alike(markets))


def _alike(markets: list[Market]) -> float:
    """See `Recorded.alike`."""
    span = Span(min(one.span.start for one in markets), max(one.span.end for one in markets))
    known = together.past_of(markets, span, CONFIG)
    above = np.triu_indices(len(markets), 1)
    shares = []
    for now in range(LEAD_BARS + DAY_BARS, span.bars, LOOK_DAYS * DAY_BARS):
        returns = returns_of(known, now, np.arange(len(markets)))
        if np.isfinite(returns).all():
            found = sample_correlation(shrunk_covariance(returns))
            shares.append(float((found[above] > ALIKE).mean()))
    return sum(shares) / len(shares)


def came_true(rows: list[Covered]) -> list[str]:
    """What of the product's own figure did not come true; empty where all did."""
    found = []
    for one in rows:
        if one.method != "filtered":
            continue
        if one.level == NIGHT and (one.rate is None or not BAND[0] <= one.rate <= BAND[1]):
            found.append(f"at {one.level:g} the rate is {one.rate}")
        found += [
            f"at {one.level:g} {name} is {p}"
            for name, p in (("kupiec_p", one.kupiec_p), ("z2_p", one.z2_p))
            if p is None or p < DOUBTED
        ]
    return found


def section(found: Recorded) -> str:
    """A set as Markdown."""
    nights = found.nights
    lines = [
        f"## {found.title}: {found.markets} markets, {len(nights.start)} nights from {iso(nights.start[0])[:10]} on",
        "",
        "| method | level | hits | rate | Kupiec p | Christoffersen p | Z2 | Z2 p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    hit = [loss > tail(paths, NIGHT).var for loss, paths in zip(nights.losses, nights.paths["filtered"], strict=True)]
    followed = [after for before, after in pairwise(hit) if before]
    again = (
        f"Of {len(followed)} nights that were worse than the figure of one in 20, {sum(followed)} were followed by "
        f"another: {sum(followed) / len(followed) / (sum(hit) / len(hit)):.1f} times as often as others."
        if followed
        else ""
    )
    for one in found.rows:
        tests = [one.rate, one.kupiec_p, one.christoffersen_p, one.z2, one.z2_p]
        cells = ["–" if value is None else f"{value:.3f}" for value in tests]
        rough = "*" if is_rough(one.days, one.level) else ""
        lines.append(f"| {one.method} | {one.level:g}{rough} | {one.hits} | {' | '.join(cells)} |")
    alike = f"{100 * found.alike:.0f} % of the pairs of markets were correlated above {ALIKE:g}."
    return "\n".join([*lines, "", f"{again} {alike}".strip()])


def page(found: list[Recorded]) -> str:
    """The chapter of the evidence."""
    wrong = [f"{one.title}: {what}" for one in found for what in came_true(one.rows)]
    verdict = (
        f"**The figure is doubted**: {'; '.join(wrong)}."
        if wrong
        else "**The figure came true on both**: nights were worse than the figure of one night in 20 between "
        f"{BAND[0]:g} and {BAND[1]:g} of the time, and neither their number nor how bad they were is doubted at "
        f"{DOUBTED:g}."
    )
    methods = [f"- **{method}**: {meaning}." for method, meaning in METHODS.items()]
    head = [TITLE, verdict, "", BEFORE, *methods, "", AFTER]
    return "\n".join([*head, "\n\n".join(section(one) for one in found), ""])


def main() -> None:
    """Prints or writes what came true."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="set", help=f"{' or '.join(SETS)}; default: both")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    parser.add_argument("--out", type=Path, help="where to write the chapter")
    arguments = parser.parse_args()
    names = arguments.sets or list(SETS)
    if unknown := [name for name in names if name not in SETS]:
        parser.error(f"there is no set {unknown[0]!r}; there are {', '.join(SETS)}")
    found = []
    for name in names:
        begun = time.monotonic()
        found.append(measured(name))
        print(f"{name} measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    if arguments.json:
        print(json.dumps([{"set": one.title, **row._asdict()} for one in found for row in one.rows], indent=1))
    elif arguments.out:
        arguments.out.write_text(page(found))
    else:
        print("\n\n".join(section(one) for one in found))


if __name__ == "__main__":
    main()
