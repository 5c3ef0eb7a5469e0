"""Groups of processes that a command starts, and ends with all that they started."""

from __future__ import annotations

import os


def is_signalled(group: int, number: int) -> bool:
    """Whether there was anybody in a group of processes to take a signal; 0 only asks."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
