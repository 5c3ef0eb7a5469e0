"""Measures, and writes the page, the tables, the pictures and the figures that the advice quotes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mm_dagster.exit
from benchmarks import continuity, exit_cost
from benchmarks.evidence import page, pictures, tables
from benchmarks.evidence.figures import HOLD, WARNING, Evidence, measure
from mm_dagster.exit.measured import FILE

HERE = Path(__file__).parent
PACKAGE = Path(mm_dagster.exit.__path__[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the documents")
    parser.add_argument(
        "--package", type=Path, default=Path(next(iter(mm_dagster.exit.__path__))), help="where the advice's figures go"
    )
    arguments = parser.parse_args()
    begun = time.monotonic()
    # Polars has threads by now, which a forked process would wait for in vain.
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        found = measure(pool)
        correction = continuity.measure(pool)
        cost = exit_cost.measure(pool)
    fragments = {name: (HERE / f"{name}.md").read_text().strip() for name in ("fresh", "tried")}
    fragments |= {name: (HERE.parent / f"{name}.md").read_text().strip() for name in ("information", "ablation")}
    picture, candidates = pictures.tried(fragments["information"])
    try:
        text = page.write(found, correction, cost, candidates)
    except page.ClaimError as error:
        sys.exit(str(error))
    folder: Path = arguments.out / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    (arguments.out / "evidence.md").write_text(text)
    for name, table in tables.documents(found, correction.text, fragments):
        (folder / f"{name}.md").write_text(table.rstrip() + "\n")
    (folder / "exit-cost.md").write_text(cost.text)
    for name, drawn in (("stands", pictures.stands(found)), ("does-not", pictures.does_not(found)), ("tried", picture)):
        (folder / f"{name}.png").write_bytes(drawn)
    (arguments.package / FILE).write_text(quoted(found))
    print(f"{sum(found.grids.values()):,} grids in {time.monotonic() - begun:,.0f} s on {os.cpu_count()} processors")


def quoted(found: Evidence) -> str:
    """The figures of `mm_dagster.exit.measured`, to two digits, as the page has them."""
    mean, worst = (
        [round(value, 2) for value in found.together[*WARNING, metric][:3] if value is not None]
        for metric in ("gain_vs_next_level", "shortfall_vs_next_level")
    )
    return json.dumps({"grids": found.together[*HOLD, "mean_equity"][3], "mean": mean, "worst": worst}) + "\n"


if __name__ == "__main__":
    main()
