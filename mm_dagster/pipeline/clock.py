"""What time it is for a data folder: that of the computer, or in a demo that of the demo.

A demo stands still in its own time: its clock starts when it is made, and runs at real speed. So its page is as fresh
as that of a real market, whatever the calendar says.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mm_dagster.bars import iso, parse_time
from mm_dagster.config.errors import ConfigError

NAME = "clock.json"


def start(data: Path, shows: datetime) -> None:
    """Starts the clock of a demo, where it does not run yet.

    Args:
        data: the data folder.
        shows: what time it is there at this moment.
    """
    path = data / NAME
    if path.exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps({"shows": iso(shows), "at": datetime.now(UTC).isoformat()}) + "\n")
    fresh.replace(path)


def ahead(data: Path) -> timedelta:
    """How far the clock of a data folder is ahead of the computer's; below zero: behind it.

    Raises:
        ConfigError: it has a clock that cannot be read.
    """
    path = data / NAME
    try:
        noted = json.loads(path.read_text())
        return parse_time(noted["shows"]) - parse_time(noted["at"])
    except FileNotFoundError:
        return timedelta(0)
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: is no clock of a demo; delete it and run `make demo`") from None
