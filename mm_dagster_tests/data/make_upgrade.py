"""Makes `upgrade.tar.gz` with the code of an older commit; see README.md beside it."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

START = datetime(2026, 6, 21, tzinfo=UTC)
LAST = "2026-06-29T16:45:00Z"
BARS = (datetime(2026, 6, 29, 16, 45, tzinfo=UTC) - START) // timedelta(minutes=15)


def candles(base: float) -> pl.DataFrame:
    """A quiet market, from a formula."""

    def noise(i: int) -> float:
        return int.from_bytes(hashlib.sha256(f"{base}{i}".encode()).digest()[:4], "big") / 2**32 - 0.5

    def price(i: int) -> float:
        return round(base * math.exp(0.01 * math.sin(i / 30) + 0.002 * noise(i)), 2)

    rows = []
    for i in range(BARS):
        opened, closed = price(i), price(i + 1)
        high, low = round(max(opened, closed) * 1.0005, 2), round(min(opened, closed) * 0.9995, 2)
        rows.append((START + i * timedelta(minutes=15), opened, high, low, closed, round(100 + 50 * noise(-i), 3)))
    return pl.DataFrame(rows, schema=["open_time", "open", "high", "low", "close", "volume"], orient="row")


FILES = {
    "markets.yaml": """venues:
  main: {kind: simulated}
  files: {kind: recorded, path: candles, file: 15m.csv}
  packed: {kind: recorded, path: candles, file: 15m.parquet}
markets:
  - {symbol: SOL-USDT, venue: main}
  - {symbol: AAA-USDT, venue: files}
  - {symbol: BBB-USDT, venue: packed}
""",
    "exit.yaml": "policy: literal\n",
    "alerts.yaml": "link: http://127.0.0.1:3000\n",
    "grids/sol.yaml": """id: sol
symbol: SOL-USDT
activated_at: 2026-06-27T00:00:00Z
lower: 120
upper: 180
levels: 8
stop: 110
capital: 500
""",
    "grids/aaa.yaml": """id: aaa
symbol: AAA-USDT
activated_at: 2026-06-27T00:00:00Z
lower: 2900
upper: 3100
levels: 8
stop: 2850
capital: 1000
""",
    "grids/bbb.yaml": """id: bbb
symbol: BBB-USDT
activated_at: 2026-06-27T00:00:00Z
lower: 29
upper: 31
levels: 8
stop: 28.5
capital: 1000
""",
}


def main(code: Path, archive: Path) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = folder / "configuration"
        for name, text in FILES.items():
            (config / name).parent.mkdir(parents=True, exist_ok=True)
            (config / name).write_text(text)
        for symbol, base in (("AAA-USDT", 3000.0), ("BBB-USDT", 30.0)):
            (config / "candles" / symbol).mkdir(parents=True)
            rows = candles(base)
            rows.write_csv(config / "candles" / symbol / "15m.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
            rows.write_parquet(config / "candles" / symbol / "15m.parquet")
        environment = {
            **os.environ, "PYTHONPATH": str(code), "MM_CONFIG_DIR": str(config), "MM_DATA_DIR": str(folder / "data"),
            "MM_DAGSTER_DIR": str(folder / "dagster"),
        }  # fmt: skip
        for name in ("PUSHOVER_TOKEN", "PUSHOVER_USER"):
            environment.pop(name, None)
        commands = (
            ["backfill", "--from", "2026-06-27", "--to", "2026-06-28"],
            ["tick", "--as-of", LAST],
        )
        for command in commands:
            subprocess.run(
                [sys.executable, "-c", "from mm_dagster.cli import main; main()", *command], env=environment, cwd=code
            )
        # The UI's memory of runs is not what is upgraded.
        environment["MM_DAGSTER_DIR"] = str(folder / "nothing")
        (folder / "nothing").mkdir()
        command = ["backup", "--to", str(folder / "backup.tar.gz")]
        subprocess.run(
            [sys.executable, "-c", "from mm_dagster.cli import main; main()", *command], env=environment, cwd=code,
            check=True,
        )  # fmt: skip
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(config, "configuration")
            tar.add(folder / "backup.tar.gz", "backup.tar.gz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
