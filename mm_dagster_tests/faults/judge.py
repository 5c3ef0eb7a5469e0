"""What a fault did: the rows and the messages of a spoiled run beside those of an undisturbed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mm_dagster.tables import registry
from mm_dagster_tests.faults.phone import Ring

MEASURES = (
    "lost rows",
    "lost alerts",
    "doubled alerts",
    "false alerts",
    "torn reads",
    "bits that differ",
    "not foreseen",
)


@dataclass
class Result:
    """Of one trial.

    Attributes:
        kind: the fault, as the table shows it.
        seed: makes it again.
        counts: by measure; what is not there is 0.
        notes: one line each, with what was seen.
    """

    kind: str
    seed: str
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, measure: str, count: int, note: str = "") -> None:
        """Counts, and keeps the note where there is something to count."""
        if count:
            self.counts[measure] += count
            if note:
                self.notes.append(f"{measure}: {note}")


def compare(
    result: Result,
    found: Mapping[str, pl.DataFrame],
    expected: Mapping[str, pl.DataFrame],
    symbols: Sequence[str] | None = None,
) -> None:
    """Counts the rows that are not there, and those that are not the same, to the bit."""
    for table, truth in expected.items():
        rows = found[table]
        if symbols is not None:
            truth, rows = (one.filter(pl.col("symbol").is_in(list(symbols))) for one in (truth, rows))
        key = registry.TABLES[table].primary_key()
        rows = rows.select(truth.columns)
        missing = truth.join(rows, on=key, how="anti")
        more = rows.join(truth, on=key, how="anti")
        both = truth.join(rows, on=key, how="inner", suffix="__found")
        others = [name for name in truth.columns if name not in key]
        differs = both.filter(
            pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}__found")) for name in others)
        ) if others else both.clear()  # fmt: skip
        lost = missing
        if table == "candles" and differs.height:
            gone = differs.filter((pl.col("status") != "MISSING") & (pl.col("status__found") == "MISSING"))
            result.add("lost rows", gone.height, f"candles: {gone.height} bars are MISSING")
        result.add("lost rows", lost.height, f"{table}: {lost.height} rows are not there")
        result.add("bits that differ", more.height, f"{table}: {more.height} rows too many")
        if differs.height:
            names = [n for n in others if differs.filter(pl.col(n).ne_missing(pl.col(f"{n}__found"))).height]
            first = differs.select(key).row(0)
            result.add(
                "bits that differ",
                differs.height,
                f"{table}: {differs.height} rows differ in {', '.join(names[:6])}, the first {first}",
            )


Said = tuple[str, str, str]
"""Grid, kind and state of a message."""


def said(rings: Sequence[Ring], ledger: pl.DataFrame) -> Counter[Said]:
    """What the phone was told, by the ledger's rows; a message that no row has is told of no grid."""
    rows = {(row["title"], row["message"]): row for row in ledger.iter_rows(named=True)}
    told: Counter[Said] = Counter()
    for ring in rings:
        row = rows.get((ring.title, ring.text))
        told[(row["grid_id"], row["kind"], row["state"]) if row else ("", "UNKNOWN", ring.title)] += 1
    return told


ABOUT_GRIDS = ("ESCALATION", "REMINDER", "DEESCALATION", "BLIND", "RECOVERED", "ENTRY", "UNKNOWN")


def compare_messages(
    result: Result, found: Counter[Said], due: Counter[Said], possible: Counter[Said], grids: Sequence[str]
) -> None:
    """Counts what was not told, told more than once, and told although it was not so.

    Args:
        result: where to.
        found: what the phone was told.
        due: what it is told when nothing is disturbed, by then.
        possible: and what is told a little later.
        grids: of which grids.
    """
    for key, count in due.items():
        if key[0] in grids and key[1] == "ESCALATION" and key[2] != "WARNING" and not found[key]:
            result.add("lost alerts", 1, f"{key}")
        if key[0] in grids and found[key] > count:
            result.add("doubled alerts", found[key] - count, f"{key}")
    for key, count in found.items():
        if key[0] in grids and key[1] in ABOUT_GRIDS and not due[key]:
            if possible[key]:
                result.add("doubled alerts", count - 1, f"{key}")
            else:
                result.add("false alerts", count, f"{key}")
