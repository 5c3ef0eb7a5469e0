"""A hash of every stored row of four histories: the same before and after a change that must not change a decision.

The demo's backfill and tick, the flash crash of 2025-10-10 tick by tick, and a month of fourteen markets of KuCoin.
Only the command line is used, so that the same file can be run in any checkout: `python -m benchmarks.bits`. Two runs
print the same lines unless a stored bit differs. Needs the recorded candles (`MM_SHARED_DATA`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLOCKS = {
    "candles": ("observed_at",),
    "candle_revision": ("observed_at", "old_observed_at", "recomputed_at"),
    "quarantine": ("observed_at",),
    "candle_hole": ("first_asked_at", "asked_at", "due_at"),
    "notification": ("created_at", "sent_at"),
    "tick": ("started_at", "finished_at"),
}
"""Columns that hold the time of the run."""
TABLES = (
    "candles", "candle_revision", "quarantine", "candle_hole", "regime_features", "regime_verdict", "grid_episode",
    "grid_risk", "exit_state", "entry_assessment", "notification", "tick",
)  # fmt: skip
CRASH = {
    "eth": ("ETH-USDT", 3825, 4425, 3700, 20),
    "sol": ("SOL-USDT", 195, 232, 190, 20),
    "link": ("LINK-USDT", 19, 23, 18.5, 20),
}


def mm(environment: dict[str, str], *arguments: str) -> bytes:
    """What the command prints.

    Raises:
        SystemExit: it failed; with what it said.
    """
    code = "import sys; from mm_dagster.cli import main; sys.argv[0] = 'mm'; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, cwd=ROOT, capture_output=True)
    if done.returncode:
        raise SystemExit(f"mm {' '.join(arguments)}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def rows_of(environment: dict[str, str]) -> dict[str, str]:
    """For each table its number of rows and their hash."""
    found = {}
    for table in TABLES:
        left_out = CLOCKS.get(table)
        columns = f"* EXCLUDE ({', '.join(left_out)})" if left_out else "*"
        written = mm(environment, "sql", f"SELECT {columns} FROM {table} ORDER BY ALL", "--format", "csv")
        count = max(written.count(b"\n") - 1, 0)
        found[table] = f"{count:>9,} {hashlib.sha256(written).hexdigest()[:16]}"
    return found


def recorded(
    folder: Path, candles: Path, grids: dict[str, tuple[str, float, float, float, int]], active: str, symbols: list[str]
) -> Path:
    """A configuration of recorded markets."""
    config = folder / "config"
    (config / "grids").mkdir(parents=True)
    markets = "".join(f"  - {{symbol: {symbol}, venue: kucoin}}\n" for symbol in symbols)
    (config / "markets.yaml").write_text(
        f"venues:\n  kucoin: {{kind: recorded, path: '{candles}'}}\nmarkets:\n{markets}", encoding="utf-8"
    )
    for name, (symbol, lower, upper, stop, levels) in grids.items():
        (config / "grids" / f"{name}.yaml").write_text(
            f"id: {name}\nsymbol: {symbol}\nactivated_at: {active}\nlower: {lower}\nupper: {upper}\nlevels: {levels}\n"
            f"stop: {stop}\ncapital: 1000\n",
            encoding="utf-8",
        )
    return config


def main() -> None:
    """Prints a line for each history and table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", choices=["demo", "crash", "month"], nargs="*", default=["demo", "crash", "month"])
    only = asked.parse_args().only
    shared = Path(os.environ.get("MM_SHARED_DATA") or ROOT.parent / "shared" / "data").resolve()
    candles = shared / "candles" / "kucoin"
    if not candles.is_dir():
        raise SystemExit(f"{candles} is not there; set MM_SHARED_DATA to the folder of the recorded candles")
    for name in only:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            config, runs = (
                ROOT / "configs" / "demo",
                [
                    ("backfill", "--from", "2026-03-01", "--to", "2026-06-28"),
                    ("tick", "--as-of", "2026-06-29T16:45Z"),
                ],
            )
            if name == "crash":
                symbols = [symbol for symbol, *_ in CRASH.values()]
                config = recorded(folder, candles, CRASH, "2025-10-08T00:00:00Z", symbols)
                runs = [("backfill", "--from", "2025-10-07", "--to", "2025-10-09")]
                runs += [("tick", "--as-of", f"2025-10-10T{time}Z") for time in ("20:45", "21:00", "21:15", "21:30")]
            elif name == "month":
                symbols = sorted(one.name for one in candles.iterdir() if (one / "15m.parquet").exists())
                grids = {
                    "eth": ("ETH-USDT", 3000.0, 3500.0, 2900.0, 20),
                    "btc": ("BTC-USDT", 90000.0, 108000.0, 87000.0, 30),
                    "ada": ("ADA-USDT", 0.8, 1.15, 0.75, 15),
                }
                config = recorded(folder, candles, grids, "2025-02-28T12:00:00Z", symbols)
                runs = [("backfill", "--from", "2025-03-01", "--to", "2025-03-31")]
            environment = {
                **os.environ, "MM_CONFIG_DIR": str(config), "MM_DATA_DIR": str(folder / "data"),
                "MM_DAGSTER_DIR": str(folder / "data" / "dagster"), "DAGSTER_HOME": str(ROOT), "MM_LOG_LEVEL": "ERROR",
            }  # fmt: skip
            for run in runs:
                mm(environment, *run)
            for table, found in rows_of(environment).items():
                print(f"{name:6} {table:18} {found}", flush=True)


if __name__ == "__main__":
    main()
