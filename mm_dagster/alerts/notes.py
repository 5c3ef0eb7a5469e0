"""What a bot of Telegram leaves to be known between two runs, in a small file beside the ledger.

Nothing that must not be lost stands here: without the file an old number of a chat is learned anew, a pause is asked
for anew, and what comes in a second time is known by the ledger.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

logger = logging.getLogger(__name__)


class Notes:
    """The notes of one bot. Another bot in its place begins anew."""

    def __init__(self, path: Path, bot: str) -> None:
        """
        Args:
            path: the file; it need not be there.
            bot: names the bot; no secret.
        """
        self._path = path
        self._bot = bot

    def get(self, name: str) -> Any:
        """A note; None: there is none."""
        return self._read().get(name)

    def time(self, name: str) -> datetime | None:
        """A note that is a time, UTC; None: there is none."""
        noted = self.get(name)
        try:
            return datetime.fromisoformat(noted) if noted else None
        except (TypeError, ValueError):
            return None

    def put(self, **notes: Any) -> None:
        """Notes what can be written as JSON, and times; None takes a note away. All else stays."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            known = {name: value for name, value in (self._read() | notes).items() if value is not None}
            fresh = self._path.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(json.dumps({self._bot: known}, default=datetime.isoformat), encoding="utf-8")
            fresh.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read and is begun anew: %s", self._path, error)
            return {}
        mine = found.get(self._bot) if isinstance(found, dict) else None
        return mine if isinstance(mine, dict) else {}
