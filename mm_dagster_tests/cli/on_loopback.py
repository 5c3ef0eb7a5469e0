"""`mm` as a person calls it, on a computer whose internet is loopback and whose clock stands.

The files that it writes say what they would say anywhere: only where ccxt's own addresses lead is another. As a process
of its own: `python -m mm_dagster_tests.cli.on_loopback ...`, in the surroundings that `surroundings` gives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mm_dagster_tests.conftest import PROJECT

ADDRESSES, NOW = "LOOPBACK_ADDRESSES", "LOOPBACK_NOW"
HOMES = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")
"""Variables of the folders in which a program may leave something."""


def surroundings(folder: Path, addresses: Mapping[str, str], now: datetime | None, **more: str) -> dict[str, str]:
    """The environment of a user who has never used it, and whose folders are all below one.

    Args:
        folder: below which.
        addresses: where the exchanges are, by ccxt's name.
        now: what the computer's clock says; None: it runs.
        more: variables that the user exports.
    """
    others = ("MM_", "DAGSTER_", "PUSHOVER_", "OKX_", "LOOPBACK_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    for name in HOMES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        own[name] = str(folder / name)
    own |= {
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "110",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    own |= {ADDRESSES: json.dumps(dict(addresses)), **({NOW: now.isoformat()} if now else {})}
    return own | more


def main() -> None:
    import ccxt

    from mm_dagster.cli import main as mm
    from mm_dagster.market import exchange
    from mm_dagster.pipeline.project import Project

    def led(kind: Any, url: str) -> None:
        describe = kind.describe

        def description(self: Any) -> dict[str, Any]:
            found: dict[str, Any] = describe(self)
            found["urls"]["api"] = _moved(found["urls"]["api"], url)
            return found

        kind.describe = description

    for name, url in json.loads(os.environ[ADDRESSES]).items():
        led(getattr(ccxt, name), url)
    if NOW in os.environ:
        now = datetime.fromisoformat(os.environ[NOW])

        class Standing(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return now

        exchange.datetime = Standing  # type: ignore[misc]
        Project.now = lambda self: now  # type: ignore[method-assign]
    mm()


def _moved(known: Any, url: str) -> Any:
    """Addresses as they are, on another host."""
    from urllib.parse import urlsplit

    if isinstance(known, dict):
        return {key: _moved(value, url) for key, value in known.items()}
    return f"{url}{urlsplit(known).path}" if isinstance(known, str) and known.startswith("http") else known


if __name__ == "__main__":
    main()
