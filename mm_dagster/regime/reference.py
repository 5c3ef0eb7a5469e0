"""docs/features.md, written from the definitions of the features: `python -m mm_dagster.regime.reference`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

from mm_dagster.bars import FOUR_HOUR_BARS, HOUR_BARS
from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime import indicators
from mm_dagster.regime.features import Definition, definitions
from mm_dagster.tables.regime import WARMUP_BARS, RegimeFeatures

PARTS = ("Formula", "Source", "Unit", "Window", "Warm-up", "Null")
"""What a definition says about itself, in this order; `Null` only where there is more than the common rule."""

_SERIES = {1: "base bars", HOUR_BARS: "hourly", FOUR_HOUR_BARS: "4 hours"}


def reference() -> str:
    """Every feature with what it is, how far it reaches back and when it is null, as Markdown."""
    lines = [
        "# Features",
        "",
        "Written by `make docs` from `mm_dagster/regime/indicators.py` and `features.py`: the columns of the table",
        "`regime_features`, one row for every market and quarter hour.",
        "",
        *"\n\n".join((inspect.getdoc(indicators) or "").split("\n\n")[2:]).splitlines(),
        "",
        "Hourly and 4-hour bars are rolling: the 4 (16) base bars of 15 minutes that close at `as_of`, the 4 (16)",
        "before them, and so on; on the clock hour they are the usual ones. A bar with a MISSING base bar is MISSING.",
        f"The longest chain, with the hysteresis of the verdict, needs {WARMUP_BARS:,} base bars",
        f"({WARMUP_BARS / 96:.1f} days) of history; a backfill fetches it by itself.",
    ]
    described = {name: " ".join(str(column.description).split()) for name, column in RegimeFeatures.columns().items()}
    for indicator, group in groupby(definitions(VolatilityConfig()), key=_function):
        title, parts = _read(indicator)
        lines += ["", f"## {title}", ""]
        lines += [f"- **{part}.** {text}" for part, text in parts.items()]
        lines += ["", "| column | on | warm-up, bars | base bars | meaning |", "| --- | --- | --- | --- | --- |"]
        for one in group:
            lines += [
                f"| `{name}` | {_SERIES[step]} | {one.bars} | {step * one.bars:,} | {described[name]} |"
                for step, names in one.columns.items()
                for name in names
            ]
    return "\n".join(lines) + "\n"


def _function(definition: Definition) -> Callable[..., Any]:
    indicator = definition.indicator
    return indicator.func if isinstance(indicator, partial) else indicator


def _read(indicator: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The title of a definition's docstring, and its parts by name."""
    title, _, body = (inspect.getdoc(indicator) or "").partition("\n\n")
    parts: dict[str, str] = {}
    for name, text in _named(body):
        parts[name] = text
    return title.rstrip("."), parts


def _named(body: str) -> Iterator[tuple[str, str]]:
    name, text = "", ""
    for line in body.splitlines():
        head, colon, rest = line.partition(": ")
        if colon and head in PARTS:
            if name:
                yield name, text
            name, text = head, rest.strip()
        else:
            text = f"{text} {line.strip()}"
    if name:
        yield name, text


if __name__ == "__main__":
    print(reference(), end="")
