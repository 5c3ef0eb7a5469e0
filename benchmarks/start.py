"""How fast a command starts, `make bench`: processor time of whole processes, beside two imports that it must pay for.

Each contender is a process of its own, as a shell would start it, on a small data folder of the demo: a tick's tables
and no bar. All take turns, round by round, so that what else the machine does meets each of them. The first round is
not counted: it reads the files of the packages, and writes what Python compiles. What is counted is user and system
time of the process and its children, so a machine that others use changes it little.

    python -m benchmarks.start [ROUNDS] [--json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo"
MM = (sys.executable, "-c", "import sys; from mm_dagster.cli import main; sys.argv[0] = 'mm'; main()")
PEER = "python -c 'import polars, duckdb'"
CONTENDERS: dict[str, tuple[tuple[str, ...], float | None]] = {
    PEER: ((sys.executable, "-c", "import polars, duckdb"), None),
    "mm --help": ((*MM, "--help"), 3.0),
    'mm sql "select 1"': ((*MM, "sql", "select 1"), 5.0),
    "mm status": ((*MM, "status"), None),
    "mm health live": ((*MM, "health", "live"), None),
}
"""Each command, and at most how many times the processor time of the peer it may take; None: nothing was promised."""


def processor_seconds(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """User and system time of a whole process; of what it says nothing is kept."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # it has been waited for
    return used.ru_utime + used.ru_stime


def measured(rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each contender, one a round.

    Args:
        rounds: that are counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MM_CONFIG_DIR": str(DEMO), "MM_DATA_DIR": folder}
        environment |= {"MM_DAGSTER_DIR": f"{folder}/dagster", "DAGSTER_HOME": str(DEMO.parents[1])}
        # As in any shell: some build machines forbid to keep what is compiled, and every start would compile it again.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        for number in range(rounds + 1):
            for name, (command, _) in CONTENDERS.items():
                spent = processor_seconds(command, environment)
                if number:
                    seconds[name].append(spent)
    return seconds


def main() -> None:
    """Prints a table, or rows as JSON; exit code 1 where a command takes more than it may."""
    given = [word for word in sys.argv[1:] if word != "--json"]
    seconds = measured(int(given[0]) if given else 7)
    # Noise only adds, so the least of all rounds is what a command costs.
    peer = min(seconds[PEER])
    rows = [
        {
            "command": name,
            "min_seconds": round(min(spent), 3),
            "median_seconds": round(median(spent), 3),
            "times_the_peer": round(min(spent) / peer, 2),
            "at_most": CONTENDERS[name][1],
        }
        for name, spent in seconds.items()
    ]
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
    else:
        table = Table("command", title="Processor seconds of a whole process")
        for title in ("minimum", "median", "times the peer", "at most"):
            table.add_column(title, justify="right")
        for row in rows:
            most = f"{row['at_most']:.0f}" if row["at_most"] else ""
            figures = (f"{row['min_seconds']:.2f}", f"{row['median_seconds']:.2f}", f"{row['times_the_peer']:.2f}")
            table.add_row(str(row["command"]), *figures, most)
        Console(width=120).print(table)
    sys.exit(any(row["at_most"] is not None and row["times_the_peer"] > row["at_most"] for row in rows))


if __name__ == "__main__":
    main()
