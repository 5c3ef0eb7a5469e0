"""What the features cost beside TA-Lib and a revision before: `python -m benchmarks.scale.features --before REV`.

The run of `benchmarks.regime` with three contenders in place of five: our code now, our code at the revision, the
bundle on TA-Lib, numpy and pandas; each a process of its own on one core, taking turns over the same candles, and ours
on two cores besides. In the same run every column of every market is compared with that of the revision, bit by bit:
what differs is counted, and one bit fails the run. Without a revision there is nothing to compare.

Two cores that share one memory give less than twice; on a machine that others use only the seconds of processor tell.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from benchmarks.regime import BEFORE, OURS, OURS_2, TALIB, cpu, grid, measure, show

GOAL = 4.0
"""Times the bundle that the features are meant to be."""


def main(given: list[str] | None = None) -> int:
    """Measures and prints.

    Returns:
        1 when a bit differs or a column of the bundle is not ours, else 0.
    """
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.scale.features", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="2 markets, one year: to see that it works")
    arguments.add_argument("--before", help="a revision of git that is measured beside")
    asked = arguments.parse_args(given)
    console = Console(width=None if sys.stdout.isatty() else 132)
    found = measure(asked.quick, asked.before, (OURS, TALIB, OURS_2))
    show(found, console)
    table = grid("In one run", "", "ours is faster by, wall", "by seconds of processor")
    for name in (TALIB, BEFORE) if asked.before else (TALIB,):
        wall = found["contenders"][name]["wall_seconds"] / found["contenders"][OURS]["wall_seconds"]
        table.add_row(name, f"{wall:.2f}x", f"{cpu(found, name) / cpu(found, OURS):.2f}x")
    console.print(table, f"The goal beside {TALIB} is {GOAL:.0f}x.")
    differing = sum(found["bits"]["different"].values()) if found["bits"] else 0
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
