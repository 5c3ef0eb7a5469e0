"""What scaling costs, and whether it holds: `python -m benchmarks.scale`, some hours; a part by `--part features`.

Each part is a module of this folder and a process of its own, `python -m benchmarks.scale.features`; what it measures
and how stands at its top. `--quick` takes a fraction of everything, to see that it works: its figures say little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

PARTS = ("machine", "features", "workers", "faults", "failover", "s3")
"""In this order; the first two beside the commit before."""


def main() -> int:
    """Runs the parts one after another, and goes on where one fails.

    Returns:
        How many failed.
    """
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--part", choices=PARTS, action="append", help="only this one; may be given again")
    arguments.add_argument("--quick", action="store_true", help="a fraction of everything")
    arguments.add_argument("--before", help="a revision of git that is measured beside, in the parts that do so")
    asked = arguments.parse_args()
    failed = 0
    for part in asked.part or PARTS:
        more = ["--quick"] if asked.quick else []
        if asked.before and part in ("machine", "features"):
            more += ["--before", asked.before]
        print(f"== {part}", flush=True)
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-m", f"benchmarks.scale.{part}", *more], check=False)
        failed += ended.returncode != 0
        print(f"== {part}: {'failed, ' if ended.returncode else ''}{time.monotonic() - began:.0f} s\n", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
